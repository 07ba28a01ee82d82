"""The table of dtypes, and the array API's promotion between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import ml_dtypes
import numpy as np

from rabbet.base.errors import DTypeError


@dataclass(frozen=True, eq=False)
class DType:
    """One element type. Instances are unique, so `is` and `==` agree."""

    name: str
    kind: str  # b bool, i signed, u unsigned, f float, c complex
    bits: int  # in memory; a bool takes one byte
    code: int  # stable number in files
    numpy: np.dtype
    computed: bool  # False: can be held and cast on the host, but kernels refuse it

    @property
    def itemsize(self) -> int:
        """Bytes per element in memory."""
        return self.bits // 8

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_inexact(self) -> bool:
        """True for what gradients flow through: floats and complex numbers."""
        return self.kind in "fc"

    @property
    def is_half(self) -> bool:
        """True for float16 and bfloat16, which are computed in float32 and rounded."""
        return self.kind == "f" and self.bits == 16

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    def __repr__(self) -> str:
        return f"rabbet.{self.name}"

    def __reduce__(self) -> tuple[object, ...]:
        return (dtype_of, (self.name,))


def _dtype(name: str, kind: str, bits: int, code: int, *, computed: bool = True) -> DType:
    np_type = ml_dtypes.bfloat16 if name == "bfloat16" else name
    return DType(name, kind, bits, code, np.dtype(np_type), computed)


bool_ = _dtype("bool", "b", 8, 0)
int8 = _dtype("int8", "i", 8, 1)
int16 = _dtype("int16", "i", 16, 2)
int32 = _dtype("int32", "i", 32, 3)
int64 = _dtype("int64", "i", 64, 4)
uint8 = _dtype("uint8", "u", 8, 5)
uint16 = _dtype("uint16", "u", 16, 6)
uint32 = _dtype("uint32", "u", 32, 7)
uint64 = _dtype("uint64", "u", 64, 8)
float16 = _dtype("float16", "f", 16, 9)
bfloat16 = _dtype("bfloat16", "f", 16, 10)
float32 = _dtype("float32", "f", 32, 11)
float64 = _dtype("float64", "f", 64, 12)
complex64 = _dtype("complex64", "c", 64, 13)
complex128 = _dtype("complex128", "c", 128, 14)

ALL = (
    *(bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64),
    *(float16, bfloat16, float32, float64, complex64, complex128),
)
BY_NAME = {d.name: d for d in ALL}
_BY_NUMPY = {d.numpy: d for d in ALL}

default_float = float32
default_int = int64


def dtype_of(spec: object) -> DType:
    """The DType named by a DType, a name, a NumPy dtype or a Python type; DTypeError if there is
    none.
    """
    if isinstance(spec, DType):
        return spec
    if spec is bool:
        return bool_
    if spec is int:
        return default_int
    if spec is float:
        return default_float
    if spec is complex:
        return complex64
    if isinstance(spec, str) and spec in BY_NAME:
        return BY_NAME[spec]
    try:
        return _BY_NUMPY[np.dtype(spec).newbyteorder("=")]  # type: ignore[call-overload]
    except (TypeError, KeyError):
        names = ", ".join(BY_NAME)
        raise DTypeError(f"{spec!r} is not a dtype of Rabbet; there are {names}") from None


def to_half(x: np.ndarray, half: DType) -> np.ndarray:
    """Numbers of any real dtype as float16 or bfloat16, each rounded once, ties to even."""
    if x.dtype.kind in "biu":
        x = _sticky(x) if x.dtype.itemsize == 8 else x.astype(np.float64)
    with np.errstate(all="ignore"):
        return _to_odd(x).astype(half.numpy)


def _to_odd(x: np.ndarray) -> np.ndarray:
    """float64 as float32 rounded to odd, so that rounding once more is rounding once in all."""
    if x.dtype != np.float64:
        return x
    near = x.astype(np.float32)
    bits = near.view(np.int32) - (np.abs(near.astype(np.float64)) > np.abs(x))
    odd = (near != x) & ~np.isnan(x)
    return np.asarray(bits | odd, np.int32).view(np.float32)


def _sticky(x: np.ndarray) -> np.ndarray:
    """64-bit integers as float64 whose last bit says whether any digit was cut off."""
    limit = x.dtype.type(1 << 53)
    large = (x >= limit) | (x <= -limit) if x.dtype.kind == "i" else x >= limit
    cut = ((x >> x.dtype.type(11)) | ((x & x.dtype.type(2047)) != 0)).astype(np.float64) * 2048.0
    return np.where(large, cut, np.where(large, 0, x).astype(np.float64))


@cache
def promote(a: DType, b: DType) -> DType:
    """The dtype that holds both (array API table; an integer with a float gives the float).

    Raises DTypeError for uint64 with a signed integer, which no integer dtype can hold.
    """
    if a is b:
        return a
    if a.kind == b.kind:
        if {a, b} == {float16, bfloat16}:
            return float32
        return a if a.bits > b.bits else b
    order = "biufc"
    low, high = (a, b) if order.index(a.kind) < order.index(b.kind) else (b, a)
    if low.kind == "b":
        return high
    if high.kind == "f":  # integer with float
        return high
    if high.kind == "c":
        return complex128 if low is float64 or high is complex128 else complex64
    # signed with unsigned: the next wider signed type
    if high.bits < low.bits:
        return low
    if high.bits == 64:
        raise DTypeError(f"no integer dtype holds both {a.name} and {b.name}; cast one of them")
    return BY_NAME[f"int{2 * high.bits}"]


def weak(number: object, other: DType) -> DType:
    """The dtype of a Python number beside a tensor of dtype `other` (Python numbers are weak)."""
    if isinstance(number, bool):
        return other
    if isinstance(number, int):
        return default_int if other.kind == "b" else other
    if isinstance(number, float):
        return other if other.kind in "fc" else default_float
    if isinstance(number, complex):
        if other.kind == "c":
            return other
        return complex128 if other is float64 else complex64
    raise DTypeError(f"{type(number).__name__} is not a number")


def number_dtype(number: object) -> DType:
    """The dtype a Python number has by itself."""
    kinds = ((bool, bool_), (int, default_int), (float, default_float), (complex, complex64))
    for kind, dtype in kinds:
        if isinstance(number, kind):
            return dtype
    raise DTypeError(f"{type(number).__name__} {number!r} is not a number")
