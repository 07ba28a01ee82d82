"""What PyTorch's users have in their fingers.

Names that only spell another op are in lift.py (ALIASES); those that mean something else here are
in absent.py, where the error says what to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.base.dtypes import DType, bool_, dtype_of
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.library import random
from rabbet.library.combine import broadcast_shapes
from rabbet.library.standard import repeat
from rabbet.tensor import create
from rabbet.tensor.lift import functions, in_place, spoken
from rabbet.tensor.tensor import Tensor, as_operand


def is_floating_point(x: Tensor) -> bool:
    """True where the dtype is a real floating one.

    >>> rb.is_floating_point(rb.ones(2))
    True
    """
    return x.dtype.is_float


def is_tensor(x: object) -> bool:
    """Whether `x` is a Tensor.

    >>> rb.is_tensor(rb.ones(2)), rb.is_tensor([1, 1])
    (True, False)
    """
    return isinstance(x, Tensor)


def numel(x: Any) -> int:
    """How many elements there are.

    >>> rb.numel(rb.ones((2, 3)))
    6
    """
    return int(as_operand(x).size)


def randint_like(x: Tensor, low: int, high: int | None = None, *, dtype: Any = None) -> Tensor:
    """Whole numbers from `low` (0 if only one is given) up to `high`, of x's shape and dtype.

    >>> bool((rb.randint_like(rb.ones(9), 3) < 3).all())
    True
    """
    return random.randint(low, high, x.shape).astype(dtype or x.dtype)


@spoken
def select(x: Tensor, axis: int, index: int) -> Tensor:
    """The slice number `index` of one axis, without it.

    >>> rb.select(rb.arange(6).reshape(2, 3), 1, 0)
    tensor([0, 3])
    """
    at = axis_of("select", axis, x.ndim)
    return x[(slice(None),) * at + (index,)]


def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or a number as it is.

    >>> rb.t(rb.ones(2, 3)).shape
    (3, 2)
    """
    if x.ndim > 2:
        raise ShapeError(f"t: {show(x.shape)} has more than two axes; use .mT or permute")
    return x.T if x.ndim == 2 else x


def masked_select(x: Tensor, mask: Any) -> Tensor:
    """The elements where `mask` is true, in one axis; both broadcast. Reads the mask.

    >>> rb.masked_select(rb.arange(4), rb.arange(4) > 1)
    tensor([2, 3])
    """
    condition = as_operand(mask)
    if condition.dtype is not bool_:
        raise DTypeError(f"masked_select: mask is {condition.dtype.name}, it must be bool")
    shape = broadcast_shapes(x.shape, condition.shape)
    return functions["expand"](x, shape)[functions["expand"](condition, shape)]


def _as(dtype: DType) -> Callable[[Tensor], Tensor]:
    def method(self: Tensor) -> Tensor:
        return self.astype(dtype)

    method.__doc__ = f"As {dtype.name}."
    return method


def _new(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *shape: Any, dtype: Any = None, **options: Any) -> Tensor:
        return make(*shape, dtype=self.dtype if dtype is None else dtype, **options)

    method.__doc__ = f"`rb.{make.__name__}(...)` of this tensor's dtype."
    return method


def _uniform(x: Tensor, low: float = 0.0, high: float = 1.0, generator: Any = None) -> Tensor:
    drawn = random.rand(x.shape, dtype=x.dtype, generator=generator)
    return drawn * (high - low) + low


def _normal(x: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    return random.randn(x.shape, dtype=x.dtype, generator=generator) * std + mean


METHODS: dict[str, Any] = {
    **{f.__name__: f for f in (is_floating_point, select, t, masked_select)},
    "repeat_interleave": repeat,
    "ndimension": lambda self: self.ndim,
    "expand_as": lambda self, other: functions["expand"](self, other.shape),
    "view_as": lambda self, other: self.reshape(other.shape),
    "reshape_as": lambda self, other: self.reshape(other.shape),
    "type_as": lambda self, other: self.astype(other.dtype),
    "half": _as(dtype_of("float16")),
    "bfloat16": _as(dtype_of("bfloat16")),
    "short": _as(dtype_of("int16")),
    "byte": _as(dtype_of("uint8")),
    "char": _as(dtype_of("int8")),
    "new_zeros": _new(create.zeros),
    "new_ones": _new(create.ones),
    "new_empty": _new(create.empty),
    "new_full": _new(create.full),
    "new_tensor": _new(create.tensor),
    "uniform_": in_place(_uniform),
    "normal_": in_place(_normal),
}
