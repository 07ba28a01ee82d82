"""The array API's functions about dtypes, and what a library says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from rabbet.base import dtypes
from rabbet.base.dtypes import DType, dtype_of
from rabbet.base.errors import DTypeError
from rabbet.tensor.tensor import Tensor, as_operand, check_device

# The array API's words for groups of dtypes, as our kinds.
KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}
_PARTS = {"complex64": dtypes.float32, "complex128": dtypes.float64}


def _dtype(x: Any) -> DType:
    return x.dtype if isinstance(x, Tensor) else dtype_of(x)


def astype(x: Tensor, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """`x` converted to `dtype`; with `copy=False` a tensor of that dtype comes back itself.

    Floats become integers by truncation; to bool is `!= 0`.

    >>> rb.astype(rb.asarray([1.5, 0.0]), rb.bool)
    tensor([ True, False])
    """
    check_device(device)
    t = as_operand(x)
    found = t.astype(dtype)
    return t.clone() if copy and found is t else found


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether a dtype (or a tensor's) becomes `to` by the rules of promotion.

    >>> rb.can_cast(rb.int8, rb.int32), rb.can_cast(rb.float64, rb.float32)
    (True, False)
    """
    try:
        return dtypes.promote(_dtype(from_), _dtype(to)) is _dtype(to)
    except DTypeError:
        return False


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether `dtype` is of a kind: a dtype, one of the array API's words, or a tuple of either.

    The words: "bool", "signed integer", "unsigned integer", "integral", "real floating",
    "complex floating", "numeric". Raises ValueError for another word.

    >>> rb.isdtype(rb.int8, "integral"), rb.isdtype(rb.int8, (rb.bool, "real floating"))
    (True, False)
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        if kind not in KINDS:
            raise ValueError(f"isdtype: {kind!r} is no kind of dtypes; there are {list(KINDS)}")
        return dtype_of(dtype).kind in KINDS[kind]
    if not isinstance(kind, DType):
        raise TypeError(f"isdtype: a kind is a dtype, a word or a tuple of these, not {kind!r}")
    return dtype_of(dtype) is kind


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype that tensors, dtypes and Python numbers have together; numbers are weak.

    Raises DTypeError where there is none, ValueError without any tensor or dtype.

    >>> rb.result_type(rb.int8, rb.asarray([1, 2], dtype=rb.uint8), 3)
    rabbet.int16
    """
    numbers = [x for x in arrays_and_dtypes if _is_number(x)]
    others = [_dtype(x) for x in arrays_and_dtypes if not _is_number(x)]
    if not others:
        raise ValueError("result_type: needs a tensor or a dtype")
    found = others[0]
    for other in others[1:]:
        found = dtypes.promote(found, other)
    weak = found
    for number in numbers:
        weak = dtypes.promote(weak, dtypes.weak(number, found))
    return weak


def _is_number(x: Any) -> bool:
    return isinstance(x, bool | int | float | complex) and not isinstance(x, np.generic)


@dataclass(frozen=True)
class FloatInfo:
    """Limits of a floating dtype; those of its parts for a complex one."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True)
class IntegerInfo:
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def finfo(type: Any, /) -> FloatInfo:
    """Limits of a floating or complex dtype (or a tensor's). Raises DTypeError for others.

    >>> rb.finfo(rb.float32).eps
    1.1920928955078125e-07
    """
    of = _dtype(type)
    if of.kind not in "fc":
        raise DTypeError(f"finfo: {of.name} is not a floating dtype; see iinfo")
    part = _PARTS.get(of.name, of)
    limits: Any = ml_dtypes.finfo(part.numpy)  # type: ignore[no-untyped-call]
    return FloatInfo(
        bits=part.bits,
        eps=float(limits.eps),
        max=float(limits.max),
        min=float(limits.min),
        smallest_normal=float(limits.smallest_normal),
        dtype=part,
    )


def iinfo(type: Any, /) -> IntegerInfo:
    """Limits of an integer dtype (or a tensor's). Raises DTypeError for others.

    >>> rb.iinfo(rb.int8).max
    127
    """
    of = _dtype(type)
    if not of.is_integer:
        raise DTypeError(f"iinfo: {of.name} is not an integer dtype; see finfo")
    limits = np.iinfo(of.numpy)
    return IntegerInfo(of.bits, int(limits.max), int(limits.min), of)


MAX_AXES = 64  # NumPy's limit, which holds for everything that is read


class NamespaceInfo:
    """What `__array_namespace_info__()` gives: the array API's inspection of a library."""

    def capabilities(self) -> dict[str, Any]:
        """What shapes may depend on values, and how many axes a tensor may have."""
        return {
            "boolean indexing": True,
            "data-dependent shapes": True,
            "max dimensions": MAX_AXES,
        }

    def default_device(self) -> str:
        """Where tensors are made."""
        return "cpu"

    def devices(self) -> list[str]:
        """Where tensors can live."""
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """The dtypes that Python numbers become by themselves."""
        check_device(device)
        return {
            "real floating": dtypes.default_float,
            "complex floating": dtypes.complex64,
            "integral": dtypes.default_int,
            "indexing": dtypes.int64,
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """The standard's dtypes by name, of one `kind` (see `isdtype`) or all."""
        check_device(device)
        return {d.name: d for d in _STANDARD if kind is None or isdtype(d, kind)}


_BEYOND = (dtypes.float16, dtypes.bfloat16)  # the standard has no half precision
_STANDARD = tuple(d for d in dtypes.ALL if d not in _BEYOND)


def namespace_info() -> NamespaceInfo:
    """The array API's inspection of this library.

    >>> rb.__array_namespace_info__().default_device()
    'cpu'
    """
    return NamespaceInfo()
