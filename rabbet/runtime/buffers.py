"""Memory of tensors, and its borders with NumPy.

A `Buffer` is a block of bytes without shape or dtype. Arrays become buffers by a copy, or without
one where the caller says so; buffers become read-only arrays without a copy, which the buffer
counts (`buffer.exports`), so that nothing is overwritten while someone looks at it.
"""

from __future__ import annotations

import math

import numpy as np

from rabbet.base.dtypes import DType
from rabbet.runtime._runtime import Buffer

__all__ = ["Buffer", "empty", "from_numpy", "scalar", "to_numpy", "writable"]


def empty(shape: tuple[int, ...], dtype: DType) -> Buffer:
    """A new buffer for an array of this shape and dtype; its bytes are whatever was there before.

    Raises MemoryError.

    >>> from rabbet.base.dtypes import float32
    >>> empty((2, 3), float32).nbytes
    24
    """
    return Buffer(math.prod(shape) * dtype.itemsize)


def from_numpy(array: np.ndarray, copy: bool = True) -> Buffer:
    """The elements of `array` in C order, as a buffer.

    With `copy=False` the buffer is the array's own memory and keeps the array alive; it is
    read-only if the array is. Any shape and any plain dtype. Raises ValueError for objects, foreign
    byte orders, and for arrays that are not C-contiguous if they may not be copied.

    >>> from_numpy(np.arange(4, dtype=np.int32), copy=True).nbytes
    16
    """
    if array.dtype.hasobject or not array.dtype.isnative:
        raise ValueError(f"from_numpy: an array of {array.dtype!r} is no plain native memory")
    if not copy:
        return _wrap(array)
    contiguous = np.ascontiguousarray(array)
    buffer = Buffer(contiguous.nbytes)
    if contiguous.nbytes:
        # As bytes, because extension dtypes such as bfloat16 have no code in the buffer protocol.
        buffer.fill_from(contiguous.reshape(-1).view(np.uint8))
    return buffer


def _wrap(array: np.ndarray) -> Buffer:
    if not array.flags.c_contiguous:
        raise ValueError(
            f"from_numpy: an array of shape {array.shape} and strides {array.strides} is not "
            "C-contiguous; it needs copy=True"
        )
    address = array.__array_interface__["data"][0]
    return Buffer.wrap(array, address, array.nbytes, not array.flags.writeable)


def scalar(number: bool | int | float | complex, dtype: DType) -> Buffer:
    """A buffer of one element. Raises OverflowError if an integer does not fit the dtype.

    >>> from rabbet.base.dtypes import float32
    >>> to_numpy(scalar(1.5, float32), (), float32).item()
    1.5
    """
    buffer = Buffer(dtype.itemsize)
    buffer.fill_from(np.array([number], dtype.numpy).view(np.uint8))
    return buffer


def to_numpy(buffer: Buffer, shape: tuple[int, ...], dtype: DType | np.dtype) -> np.ndarray:
    """A read-only array over the buffer's memory, without a copy; `exports` counts it.

    Raises ValueError if the buffer is smaller than shape and dtype need.

    >>> to_numpy(from_numpy(np.arange(4.0)), (2, 2), np.dtype(float)).tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    numpy_dtype = dtype.numpy if isinstance(dtype, DType) else dtype
    elements = math.prod(shape)
    needed = elements * numpy_dtype.itemsize
    if needed > buffer.nbytes:
        raise ValueError(
            f"to_numpy: shape {shape} of {numpy_dtype} needs {needed} bytes, "
            f"the buffer has {buffer.nbytes}"
        )
    if elements == 0:
        array = np.empty(shape, numpy_dtype)
        array.flags.writeable = False
        return array
    flat = np.frombuffer(memoryview(buffer), numpy_dtype, elements)
    return flat if len(shape) == 1 else flat.reshape(shape)


class _Memory:
    """The memory of a read-only array, said to be writable; keeps the array alive."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def writable(array: np.ndarray) -> np.ndarray:
    """A read-only array's memory as a writable array: for readers that refuse any other.

    >>> from rabbet.base.dtypes import float32
    >>> writable(to_numpy(scalar(1.5, float32), (), float32)).flags.writeable
    True
    """
    return np.asarray(_Memory(array))
