"""Tensors as they travel: JSON numbers or little-endian bytes, checked against a datatype.

Nothing here knows a model; `protocol.py` and `predict.py` say which tensor is expected.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from rabbet.base import dtypes
from rabbet.base.dtypes import DType
from rabbet.serve.errors import malformed

MAX_RANK = 16
MAX_SIZE = 2**31 - 1  # of one axis

DATATYPES: dict[str, DType] = {
    "BOOL": dtypes.bool_,
    "INT8": dtypes.int8,
    "INT16": dtypes.int16,
    "INT32": dtypes.int32,
    "INT64": dtypes.int64,
    "UINT8": dtypes.uint8,
    "UINT16": dtypes.uint16,
    "UINT32": dtypes.uint32,
    "UINT64": dtypes.uint64,
    "FP32": dtypes.float32,
    "FP64": dtypes.float64,
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}

# JSON has true, 1 and 1.0; each kind of dtype takes those that cannot lose anything.
_ALLOWED: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
_WANTED = {"b": "true or false", "i": "integers", "u": "integers", "f": "numbers"}


def parse_shape(value: Any, name: str) -> tuple[int, ...]:
    """The shape of a tensor as JSON has it: a list of integers, 0 or more."""
    if not isinstance(value, list) or not all(type(size) is int for size in value):
        raise malformed(f"input {name!r}: shape must be a list of integers")
    if len(value) > MAX_RANK:
        raise malformed(f"input {name!r}: shape has {len(value)} axes; at most {MAX_RANK} are read")
    if not all(0 <= size <= MAX_SIZE for size in value):
        raise malformed(f"input {name!r}: shape {value} has a size outside 0 to {MAX_SIZE}")
    return tuple(value)


def from_json(data: Any, shape: tuple[int, ...], dtype: DType, name: str) -> np.ndarray:
    """An array from JSON data, in one flat list or nested like `shape`; RequestError (400) else."""
    if not isinstance(data, list):
        raise malformed(f"input {name!r}: data must be a list")
    if not shape:
        flat = data
    elif any(type(item) is list for item in data):
        flat = _flatten(data, shape, name)
    else:
        flat = data
    return _to_array(flat, shape, dtype, name)


def from_nested(data: Any, dtype: DType, name: str) -> np.ndarray:
    """An array from nested JSON lists, whose nesting is the shape; RequestError (400) else."""
    shape: list[int] = []
    inner = data
    while type(inner) is list:
        if len(shape) == MAX_RANK:
            raise malformed(f"input {name!r}: lists are nested deeper than {MAX_RANK}")
        shape.append(len(inner))
        if not inner:
            break
        inner = inner[0]
    flat = _flatten(data, tuple(shape), name) if shape else [data]
    return _to_array(flat, tuple(shape), dtype, name)


def from_bytes(data: memoryview, shape: tuple[int, ...], dtype: DType, name: str) -> np.ndarray:
    """A read-only array over little-endian bytes; RequestError (400) where they do not fit."""
    needed = math.prod(shape) * dtype.itemsize
    if len(data) != needed:
        raise malformed(
            f"input {name!r}: shape {list(shape)} of {NAMES[dtype]} needs {needed} bytes, "
            f"binary_data_size is {len(data)}"
        )
    if not needed:
        return np.empty(shape, dtype.numpy)
    if dtype is dtypes.bool_:
        raw = np.frombuffer(data, np.uint8)
        if raw.max() > 1:  # any other byte would be a bool that is neither
            raise malformed(f"input {name!r}: bytes of BOOL must be 0 or 1")
        return raw.view(np.bool_).reshape(shape)
    array = np.frombuffer(data, dtype.numpy).reshape(shape)
    return array if sys.byteorder == "little" else array.byteswap()


def to_bytes(array: np.ndarray) -> bytes:
    """The elements in order, little-endian."""
    return (array if sys.byteorder == "little" else array.byteswap()).tobytes()


def to_json(array: np.ndarray) -> list[Any]:
    """The elements in one flat list of Python numbers, each exactly the element's value."""
    flat: list[Any] = array.reshape(-1).tolist()
    return flat


def _flatten(data: list[Any], shape: tuple[int, ...], name: str) -> list[Any]:
    """The items of lists nested like `shape`, level by level."""
    level: list[Any] = [data]
    for axis, size in enumerate(shape):
        if not all(type(part) is list and len(part) == size for part in level):
            raise malformed(f"input {name!r}: axis {axis} of the nested data is not always {size}")
        level = list(chain.from_iterable(level))
    return level


def _to_array(flat: Sequence[Any], shape: tuple[int, ...], dtype: DType, name: str) -> np.ndarray:
    needed = math.prod(shape)
    if len(flat) != needed:
        raise malformed(
            f"input {name!r}: shape {list(shape)} needs {needed} elements, data has {len(flat)}"
        )
    kinds = set(map(type, flat)) - _ALLOWED[dtype.kind]
    if kinds:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise malformed(
            f"input {name!r}: {NAMES[dtype]} takes {_WANTED[dtype.kind]}, data has {found}"
        )
    try:
        with np.errstate(over="raise"):
            if dtype.is_float:  # by way of float64: what a JSON number is
                array = np.array(flat, np.float64).astype(dtype.numpy)
            else:
                array = np.array(flat, dtype.numpy)
    except (OverflowError, FloatingPointError):
        raise malformed(f"input {name!r}: a value is out of the range of {NAMES[dtype]}") from None
    return array.reshape(shape)
