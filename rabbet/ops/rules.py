"""What the declarations of elementwise ops share: type rules, lowerings, references and samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base import shapes
from rabbet.base.dtypes import DType, bool_, uint8
from rabbet.base.errors import DTypeError
from rabbet.base.spec import Spec
from rabbet.expr.expr import Expr, call, cast, make
from rabbet.graph.sample import FLOATS, Draw, Sample

FLOATING = "f"
INTEGER = "iu"
BITS = "biu"
NUMBERS = "iuf"
ANY = "biuf"

_WORDS = {
    **{"b": "bool", "i": "signed integers", "u": "unsigned integers", "f": "floats"},
    "c": "complex numbers",
}

Infer = Callable[..., Spec]
Lower = Callable[..., Expr]


def broadcast(name: str, kinds: str = ANY, result: DType | None = None) -> Infer:
    """Rule: operands of one of `kinds` broadcast; the result has `result` or their dtype."""

    def infer(**operands: Spec) -> Spec:
        specs = list(operands.values())
        for spec in specs:
            check_kind(name, spec.dtype, kinds)
        shape = shapes.broadcast(name, *(s.shape for s in specs))
        return Spec(shape, result or specs[-1].dtype, specs[-1].device)

    return infer


def check_kind(name: str, dtype: DType, kinds: str) -> None:
    """DTypeError where the dtype's kind is not among `kinds`.

    Complex numbers may be where floats are: which ops take them is said by `Op.in_parts`.
    """
    if dtype.kind not in kinds and not (dtype.kind == "c" and "f" in kinds):
        words = ", ".join(_WORDS[k] for k in kinds)
        raise DTypeError(f"{name}: {dtype.name} is not supported; it takes {words}")


def row(name: str) -> Lower:
    """Lowering to one row of the scalar table, which keeps the dtype."""
    return lambda *x: call(name, *x)


def float_row(name: str) -> Lower:
    """The same, where integers are their own result (floor, round, ...)."""
    return lambda x: call(name, x) if x.dtype.is_float else x


def float_reference(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The reference of `float_row`."""
    return lambda x: x.copy() if x.dtype.kind in "biu" else function(x)


def predicate(name: str) -> Lower:
    """Lowering to a row with a bool result; bools are compared as 0 and 1."""

    def lower(*operands: Expr) -> Expr:
        return make(name, tuple(ordered(x) for x in operands), bool_)

    return lower


def ordered(x: Expr) -> Expr:
    """Bools as numbers, all else as it is."""
    return cast(x, uint8) if x.dtype is bool_ else x


def wide(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """A reference that computes in double precision (and is rounded to the op's dtype after)."""

    def reference(*x: np.ndarray) -> np.ndarray:
        double = np.complex128 if any(v.dtype.kind == "c" for v in x) else np.float64
        return np.asarray(function(*(np.asarray(v, double) for v in x)))

    return reference


def each(function: Callable[..., float]) -> Callable[..., np.ndarray]:
    """A reference made of a function of Python floats."""

    def reference(*operands: np.ndarray) -> np.ndarray:
        broadcasted = np.broadcast_arrays(*operands)
        numbers = zip(*(b.ravel().tolist() for b in broadcasted), strict=True)
        found = np.array([function(*n) for n in numbers], np.float64)
        return found.reshape(broadcasted[0].shape)

    return reference


def unary_samples(
    low: float = -2.0,
    high: float = 2.0,
    avoid: tuple[float, ...] = (),
    dtypes: tuple[str, ...] = FLOATS,
    tolerance: float | None = None,
) -> Callable[[], list[Sample]]:
    """Samples of a one-operand op: matrix, 0-d, empty, size 1, more axes."""
    sizes = ((3, 5), (), (0,), (1,), (2, 0, 3), (2, 3, 4))

    def samples() -> list[Sample]:
        return [
            Sample((Draw(s, low, high, avoid=avoid),), dtypes=dtypes, tolerance=tolerance)
            for s in sizes
        ]

    return samples


def binary_samples(
    first: Draw | None = None,
    second: Draw | None = None,
    dtypes: tuple[str, ...] = FLOATS,
    grad: bool = True,
) -> Callable[[], list[Sample]]:
    """Samples of a two-operand op: equal shapes, broadcast both ways, 0-d, empty, size 1."""
    pairs = (
        *(((3, 4), (3, 4)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 3), ())),
        *(((0,), (1,)), ((2, 1, 3), (4, 1)), ((1,), (1,)), ((), ())),
    )
    a, b = first or Draw(()), second or first or Draw(())

    def shaped(draw: Draw, shape: tuple[int, ...]) -> Draw:
        return Draw(shape, draw.low, draw.high, draw.kind, draw.avoid, draw.dtype)

    def samples() -> list[Sample]:
        return [Sample((shaped(a, s), shaped(b, t)), dtypes=dtypes, grad=grad) for s, t in pairs]

    return samples
