"""What a tensor is: Python answers about its dtype and size."""

from __future__ import annotations

from typing import Any

from rabbet.base.dtypes import DType, promote
from rabbet.tensor.tensor import Tensor, as_operand, check_device


def is_tensor(x: object) -> bool:
    """Whether `x` is a Tensor.

    >>> rb.is_tensor(rb.ones(2)), rb.is_tensor([1, 1])
    (True, False)
    """
    return isinstance(x, Tensor)


def is_floating_point(x: Tensor) -> bool:
    """True where the dtype is a real floating one.

    >>> rb.is_floating_point(rb.ones(2))
    True
    """
    return x.dtype.is_float


def is_complex(x: Tensor) -> bool:
    """True where the dtype is complex.

    >>> rb.is_complex(rb.ones(2))
    False
    """
    return x.dtype.kind == "c"


def is_nonzero(x: Tensor) -> bool:
    """The truth of a single element; ShapeError for several.

    >>> rb.is_nonzero(rb.asarray([2]))
    True
    """
    return bool(x)


def numel(x: Any) -> int:
    """How many elements there are.

    >>> rb.numel(rb.ones((2, 3)))
    6
    """
    return as_operand(x).numel()


def promote_types(dtype1: DType, dtype2: DType) -> DType:
    """The dtype of a sum of tensors of these dtypes.

    >>> rb.promote_types(rb.int32, rb.float32)
    rabbet.float32
    """
    return promote(dtype1, dtype2)


def is_signed(x: Tensor) -> bool:
    """True where the dtype has negative numbers.

    >>> rb.is_signed(rb.ones(2)), rb.is_signed(rb.ones(2, dtype=rb.uint8))
    (True, False)
    """
    return x.dtype.kind in "ifc"


def device(name: Any = "cpu") -> str:
    """The name of a device, for scripts that make PyTorch's; DeviceError for any but "cpu".

    >>> rb.device("cpu")
    'cpu'
    """
    return check_device(name)


METHODS: dict[str, Any] = {
    **{f.__name__: f for f in (is_floating_point, is_complex, is_nonzero, is_signed)},
    "nelement": lambda self: self.numel(),
    "ndimension": lambda self: self.ndim,
    "is_cuda": property(lambda self: False),
    "itemsize": property(lambda self: self.dtype.itemsize),
    "is_contiguous": lambda self: True,
    "is_same_size": lambda self, other: self.shape == other.shape,
}
