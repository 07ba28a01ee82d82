"""What users hand over (arrays of any library, lists, numbers) as a NumPy array: the one place that
says which dtype it has."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import DType
from rabbet.base.errors import DTypeError, NumberRangeError, ShapeError
from rabbet.recorder import Handle

_SINGLE = {"float64": "float32", "complex128": "complex64"}  # what Python's numbers become


def array_of(data: Any, wanted: DType | None = None) -> np.ndarray:
    """The elements of `data` (array, DLPack object, nested lists, numbers) as a NumPy array.

    Its dtype is that of data that have one; Python's floats are float32, integers int64. `wanted`
    only says what the caller will make of it. Raises DTypeError, NumberRangeError or ShapeError.
    """
    if hasattr(data, "__array__") or isinstance(data, np.ndarray | np.generic):
        return np.asarray(data)
    if hasattr(data, "__dlpack__"):
        return np.from_dlpack(data)
    if isinstance(data, bytes):  # of which NumPy makes a string
        data = memoryview(data)
    try:
        array = _with_whole_numbers(data, np.asarray(data))
        if wanted is not None and wanted.is_integer and _is_whole(array):
            return np.asarray(data, wanted.numpy)
    except OverflowError as error:
        raise NumberRangeError(f"asarray: {error}") from None
    except ValueError as error:
        raise ShapeError(f"asarray: nested lists must be rectangular: {error}") from None
    plain = not (has_memory(data) or _has_float64(data))  # Python's numbers
    if wanted is None and array.dtype.name in _SINGLE and plain:
        array = array.astype(_SINGLE[array.dtype.name])
    if array.dtype == object and _is_whole(array):
        if wanted is not None and not wanted.is_integer:
            return array.astype(np.float64)
        if min(array.flat) >= 0 and max(array.flat) < 1 << 64:
            return array.astype(np.uint64)
        raise NumberRangeError("asarray: an integer is outside the range of every dtype")
    if array.dtype == object:
        raise DTypeError(f"asarray: cannot make a tensor from {type(data).__name__} objects")
    return array


def holds_tensor(data: Any) -> bool:
    """True for nested lists with a tensor among their elements."""
    if isinstance(data, list | tuple):
        return any(holds_tensor(d) for d in data)
    return isinstance(data, Handle)


def has_memory(data: Any) -> bool:
    """True for an object with elements in memory that a tensor can share."""
    if hasattr(data, "__array__") or hasattr(data, "__dlpack__"):
        return True
    try:
        memoryview(data)
    except TypeError:
        return False
    return True


def _is_whole(array: np.ndarray) -> bool:
    """True for integers, Python's among them."""
    if array.dtype != object:
        return array.dtype.kind in "iub"
    return array.size > 0 and all(isinstance(n, int) for n in array.flat)


def _with_whole_numbers(data: Any, array: np.ndarray) -> np.ndarray:
    """`array`; for want of a dtype of all its integers it may be floats: then Python's numbers."""
    if array.dtype != np.float64 or not (abs(array) >= 2.0**63).any():
        return array
    numbers = np.asarray(data, object)
    return numbers if _is_whole(numbers) else array


def _has_float64(data: Any) -> bool:
    if isinstance(data, list | tuple):
        return any(_has_float64(d) for d in data)
    if not isinstance(data, np.ndarray | np.float64 | np.complex128):
        return False
    return data.dtype in (np.float64, np.complex128)
