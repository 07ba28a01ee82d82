"""Random state: a key and a 64-bit offset; a draw reserves its range when it is recorded (SEMANTICS
3).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from typing import Any

from rabbet.base import dtypes
from rabbet.base.dtypes import DType, dtype_of
from rabbet.base.errors import DTypeError, RabbetError
from rabbet.base.spec import intern
from rabbet.graph.value import lookup
from rabbet.recorder import current, offset_node, record, scalar_node
from rabbet.tensor.lift import in_place
from rabbet.tensor.tensor import Tensor, as_operand, check_device, shape_argument

UNIFORM_STEPS = {"float16": 2.0**11, "bfloat16": 2.0**8}  # as many as below 1 are exact
_UINT64 = intern((), dtypes.uint64)


class Generator:
    """A stream of random numbers: Philox4x32-10 with the seed as key. The same seed draws the same
    numbers.

    >>> one, two = rb.Generator(7), rb.Generator(7)
    >>> bool((rb.rand(2, generator=one) == rb.rand(2, generator=two)).all())
    True
    """

    def __init__(self, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self.manual_seed(secrets.randbits(63) if seed is None else seed)

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed}, offset={self.offset})"

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed` from its beginning."""
        self.seed, self.offset = int(seed) % 2**64, 0
        return self

    def initial_seed(self) -> int:
        """The seed that the stream began with."""
        return self.seed

    def get_state(self) -> tuple[int, int]:
        """(seed, offset): everything there is to save."""
        return self.seed, self.offset

    def set_state(self, state: Sequence[int]) -> Generator:
        """Go on from a saved (seed, offset). RabbetError for anything else."""
        numbers = [int(s) for s in state]
        if len(numbers) != 2 or any(not 0 <= n < 2**64 for n in numbers):
            raise RabbetError(f"set_state: a state is (seed, offset) below 2**64, not {state!r}")
        self.seed, self.offset = numbers
        return self

    def reserve(self, numbers: int) -> tuple[Tensor, Tensor]:
        """The key and offset operands of a draw of `numbers` 32-bit words (the stream moves on)."""
        tape = current()
        if tape.interpreter is not None:
            numbers *= tape.interpreter.copies
        with self._lock:
            offset = self.offset
            self.offset += (numbers + 3) // 4
        node = offset_node(offset, _UINT64)
        node.owner = self
        if tape.capture is not None:
            tape.capture.drawn(self, offset)
        return Tensor(scalar_node(self.seed, _UINT64)), Tensor(node)


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator; every later draw depends only on the seed and the order of draws.

    >>> _ = rb.manual_seed(0); a = rb.rand(3)
    >>> _ = rb.manual_seed(0); bool((rb.rand(3) == a).all())
    True
    """
    return default_generator.manual_seed(seed)


def get_rng_state() -> tuple[int, int]:
    """The state of the default generator, two numbers, for `set_rng_state`.

    >>> state = rb.get_rng_state(); a = rb.rand(3)
    >>> rb.set_rng_state(state); bool((rb.rand(3) == a).all())
    True
    """
    return default_generator.get_state()


def set_rng_state(state: Sequence[int]) -> None:
    """Let the default generator go on from a state that `get_rng_state` gave.

    >>> rb.set_rng_state(rb.get_rng_state())
    """
    default_generator.set_state(state)


def initial_seed() -> int:
    """The seed of the default generator.

    >>> _ = rb.manual_seed(5); rb.initial_seed()
    5
    """
    return default_generator.initial_seed()


def draw(
    name: str, shape: tuple[int, ...], dtype: DType, generator: Generator | None, **attrs: Any
) -> Tensor:
    """Record a random op `name(key, offset, ..., shape=, dtype=)`."""
    words = 1
    for n in shape:
        words *= n
    key, offset = (generator or default_generator).reserve(words * (2 if dtype.bits == 64 else 1))
    op = lookup(name)
    operands, bound, form = op.bind((key, offset), {"shape": shape, "dtype": dtype, **attrs})
    return record(op, operands, bound, form)


def _real(name: str, shape: tuple[int, ...], dtype: Any, generator: Generator | None) -> Tensor:
    wanted = dtypes.default_float if dtype is None else dtype_of(dtype)
    if not wanted.is_float:
        raise DTypeError(f"random numbers are of a floating dtype, not {wanted.name}")
    drawn = draw(name, shape, dtypes.float32 if wanted.is_half else wanted, generator)
    if not wanted.is_half:
        return drawn
    if name == "uniform":  # rounded down, so that none becomes 1
        grid = UNIFORM_STEPS[wanted.name]
        drawn = (drawn * grid).floor() * (1 / grid)
    return drawn.astype(wanted)


def rand(
    *shape: Any,
    dtype: Any = None,
    device: Any = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1) of the given shape.

    >>> rb.rand(2, 3).shape
    (2, 3)
    """
    check_device(device)
    t = _real("uniform", shape_argument(shape), dtype, generator)
    return t.requires_grad_() if requires_grad else t


def randn(
    *shape: Any,
    dtype: Any = None,
    device: Any = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers with mean 0 and standard deviation 1.

    >>> rb.randn(2, 3).shape
    (2, 3)
    """
    check_device(device)
    t = _real("normal", shape_argument(shape), dtype, generator)
    return t.requires_grad_() if requires_grad else t


def rand_like(x: Any, *, dtype: Any = None, generator: Generator | None = None) -> Tensor:
    """Uniform numbers in [0, 1) with the shape of `x`, and its dtype unless another is given.

    >>> rb.rand_like(rb.ones(2, 3)).shape
    (2, 3)
    """
    t = as_operand(x)
    return rand(t.shape, dtype=dtype or t.dtype, generator=generator)


def randn_like(x: Any, *, dtype: Any = None, generator: Generator | None = None) -> Tensor:
    """Standard normal numbers with the shape of `x`, and its dtype unless another is given.

    >>> rb.randn_like(rb.ones(2, 3)).shape
    (2, 3)
    """
    t = as_operand(x)
    return randn(t.shape, dtype=dtype or t.dtype, generator=generator)


def randint(
    low: int,
    high: int | None = None,
    size: tuple[int, ...] = (),
    *,
    dtype: Any = None,
    device: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers in [low, high) (or [0, low)) of shape `size`, int64 by default.

    >>> rb.randint(0, 5, (2, 3)).shape
    (2, 3)
    """
    check_device(device)
    low, high = (0, low) if high is None else (low, high)
    if high <= low:
        raise ValueError(f"randint: the range [{low}, {high}) is empty")
    t = draw("randint", tuple(size), dtypes.int64, generator, low=low, high=high)
    return t if dtype is None else t.astype(dtype)


def dropout_operands(x: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Key and offset for a mask of x's shape."""
    return (generator or default_generator).reserve(x.numel())


def randint_like(x: Tensor, low: int, high: int | None = None, *, dtype: Any = None) -> Tensor:
    """Whole numbers from `low` (0 if only one is given) up to `high`, of x's shape and dtype.

    >>> bool((rb.randint_like(rb.ones(9), 3) < 3).all())
    True
    """
    return randint(low, high, x.shape).astype(dtype or x.dtype)


def _uniform(x: Tensor, low: float = 0.0, high: float = 1.0, generator: Any = None) -> Tensor:
    drawn = rand(x.shape, dtype=x.dtype, generator=generator)
    return drawn * (high - low) + low


def _normal(x: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    return randn(x.shape, dtype=x.dtype, generator=generator) * std + mean


def _random(x: Tensor, low: int = 0, high: int | None = None, *, generator: Any = None) -> Tensor:
    """Whole numbers from `low` up to, not including, `high`; with one number, from 0 up to it.

    Without `high`: up to the largest of the dtype, or the largest below which a float has all.
    """
    if high is None and low:
        low, high = 0, low
    if x.dtype.kind == "b":
        return randint(low, 2 if high is None else high, x.shape, generator=generator) != 0
    end = _whole_end(x.dtype) if high is None else high
    return randint(low, end, x.shape, generator=generator).astype(x.dtype)


def _whole_end(dtype: DType) -> int:
    """Below this a dtype has every whole number from 0 on; of 64 bits so far as int64 goes."""
    if dtype.is_integer:
        return int(min(2 ** (dtype.bits - (dtype.kind == "i")), 2**63 - 1))
    fraction = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}
    return 2 ** (fraction[dtype.name] + 1)


METHODS: dict[str, Any] = {
    "random_": in_place(_random),
    "uniform_": in_place(_uniform),
    "normal_": in_place(_normal),
}
