"""Tensors from data and from nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base import dtypes
from rabbet.base.dtypes import DType, dtype_of
from rabbet.base.errors import NumberRangeError, ShapeError
from rabbet.graph.value import lookup
from rabbet.recorder import record
from rabbet.tensor.lift import functions, spoken
from rabbet.tensor.outside import array_of, has_memory, holds_tensor
from rabbet.tensor.tensor import Tensor, check_device, from_numpy, shape_argument, stacked


def asarray(
    data: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
) -> Tensor:
    """A tensor with the elements of `data` (array, DLPack object, nested lists, number, tensor).

    Memory that others can write is copied unless `copy=False`; Python floats become float32, ints
    int64. Lists of tensors are stacked, and gradients flow back to them. Raises DTypeError for data
    without a dtype of ours, NumberRangeError for integers that the dtype cannot hold, ShapeError
    for ragged lists, ValueError where `copy=False` cannot be.

    >>> rb.asarray([1, 2.5])
    tensor([1. , 2.5])
    """
    check_device(device)
    wanted = None if dtype is None else dtype_of(dtype)
    if isinstance(data, Tensor):
        if copy is False and wanted not in (None, data.dtype):
            raise ValueError(f"asarray: {data.dtype.name} to {wanted} needs a copy")
        t = data if wanted is None else data.astype(wanted)
        return t.clone() if copy else t
    if copy is not False and holds_tensor(data):
        return asarray(stacked(data), dtype=wanted)
    array = array_of(data, wanted)
    if copy is False and (wanted not in (None, dtype_of(array.dtype)) or not has_memory(data)):
        raise ValueError(f"asarray: {type(data).__name__} to {wanted or 'a tensor'} needs a copy")
    if wanted is not None and array.dtype != wanted.numpy:
        with np.errstate(all="ignore"):  # as in a cast: too large is infinite
            array = array.astype(wanted.numpy)
    return from_numpy(array, copy=copy is not False)


def tensor(
    data: Any, dtype: Any = None, *, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor with a copy of `data`: a leaf, no gradient flows back (as `asarray` lets it).

    >>> rb.tensor([[1.0, 2.0]], requires_grad=True).shape
    (1, 2)
    """
    t = asarray(data, dtype=dtype, device=device)
    if t.requires_grad or t is data:
        t = lookup("detach")(t)
    return t.requires_grad_() if requires_grad else t


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor with the elements of an object that speaks DLPack.

    Copied unless `copy=False`. Raises BufferError where its memory cannot be shared so.

    >>> rb.from_dlpack(np.arange(3))
    tensor([0, 1, 2])
    """
    check_device(device)
    if isinstance(x, Tensor):
        return x.clone() if copy else x
    return from_numpy(_array_of(x, copy), copy=copy is not False)


def _array_of(x: Any, copy: bool | None) -> np.ndarray:
    """Another library's array by the newest protocol it speaks."""
    try:
        return np.from_dlpack(x, device="cpu", copy=copy)
    except TypeError:  # a producer from before DLPack 1.0
        return np.from_dlpack(x)


def _filled(shape: Any, value: Any, dtype: DType, requires_grad: bool = False) -> Tensor:
    fill = from_numpy(np.asarray(value, dtype.numpy))
    op = lookup("full")
    operands, attrs, form = op.bind((fill,), {"shape": tuple(shape)})
    t = record(op, operands, attrs, form)
    return t.requires_grad_() if requires_grad else t


def _sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    sizes = tuple(s.__index__() for s in shape_argument(shape))
    if any(s < 0 for s in sizes):
        raise ShapeError(f"the shape {sizes} has a negative size")
    return sizes


def zeros(
    shape: Any = (),
    *more: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of the given shape (a tuple, or one number per axis); float32 by default.

    >>> rb.zeros((2,))
    tensor([0., 0.])
    """
    check_device(device)
    return _filled(
        _sizes((shape, *more)), 0, dtype_of(dtype or dtypes.default_float), requires_grad
    )


def ones(
    shape: Any = (),
    *more: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of the given shape (a tuple, or one number per axis); float32 by default.

    >>> rb.ones((2,))
    tensor([1., 1.])
    """
    check_device(device)
    return _filled(
        _sizes((shape, *more)), 1, dtype_of(dtype or dtypes.default_float), requires_grad
    )


def empty(shape: Any = (), *more: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros (nothing is left uninitialised).

    >>> rb.empty((2, 3)).shape
    (2, 3)
    """
    return zeros(shape, *more, dtype=dtype, device=device)


def full(
    shape: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`fill_value` everywhere.

    >>> rb.full((2,), 16777217.0, dtype=rb.float64)
    tensor([16777217., 16777217.], dtype=rabbet.float64)
    """
    check_device(device)
    value = asarray(fill_value, dtype=dtype)
    sizes = _sizes((shape,)) if not hasattr(shape, "__index__") else (int(shape),)
    op = lookup("full")
    operands, attrs, form = op.bind((value,), {"shape": sizes})
    t = record(op, operands, attrs, form)
    return t.requires_grad_() if requires_grad else t


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """start, start + step, ... before stop (`arange(stop)` starts at 0).

    Integers are exact to the limits of the dtype; NumberRangeError beyond them.

    >>> rb.arange(2, 8, 3)
    tensor([2, 5])
    """
    check_device(device)
    start, stop = (0, start) if stop is None else (start, stop)
    if step == 0:
        raise ValueError("arange: the step is 0")
    whole = _whole(start, stop, step)
    wanted = dtype_of(dtype or (dtypes.default_int if whole else dtypes.default_float))
    if whole:
        return from_numpy(_counted(range(*whole), wanted), copy=False)
    return from_numpy(np.arange(start, stop, step).astype(wanted.numpy), copy=False)


def _whole(*numbers: Any) -> tuple[int, ...] | None:
    """The numbers as Python integers; None where one is not whole."""
    indices = [getattr(n, "__index__", None) for n in numbers]
    return None if None in indices else tuple(index() for index in indices if index)


def _counted(numbers: range, wanted: DType) -> np.ndarray:
    """The numbers of a range, computed modulo 2**64 where the dtype is an integer's."""
    if not numbers:
        return np.empty(0, wanted.numpy)
    low, high = min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1])
    limits = np.iinfo(wanted.numpy if wanted.is_integer else np.int64)
    if not limits.min <= low <= high <= limits.max:
        if wanted.is_integer:
            raise NumberRangeError(f"arange: {low} to {high} is outside the range of {wanted.name}")
        return np.array(numbers, np.float64).astype(wanted.numpy)
    modulus = 1 << 64
    steps = np.arange(len(numbers), dtype=np.uint64) * np.uint64(numbers.step % modulus)
    counted = steps + np.uint64(numbers.start % modulus)
    return counted.view(np.int64 if limits.min < 0 else np.uint64).astype(wanted.numpy)


@spoken
def linspace(
    start: float,
    stop: float,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
) -> Tensor:
    """`num` numbers at equal distances from start to stop (without it, unless `endpoint`).

    Complex where start or stop is; an integer dtype rounds down.

    >>> rb.linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ])
    """
    check_device(device)
    is_complex = isinstance(start, complex) or isinstance(stop, complex)
    wanted = dtype_of(dtype or (dtypes.complex64 if is_complex else dtypes.default_float))
    if num < 0:
        raise ShapeError(f"linspace: num={num} must be 0 or more")
    whole = _whole(start, stop) if wanted.is_integer else None
    if whole:
        first, last = whole
        parts = max(num - 1 if endpoint else num, 1)
        return asarray([first + (last - first) * i // parts for i in range(num)], dtype=wanted)
    # The distance of two numbers may be too large for them: quarters, which are exact, are not.
    scale = 4.0 if max(abs(start), abs(stop)) > 1e300 else 1.0
    with np.errstate(all="ignore"):
        points = np.linspace(start / scale, stop / scale, num, endpoint=endpoint) * scale
        return from_numpy(points.astype(wanted.numpy))


@spoken
def logspace(
    start: float, stop: float, num: int = 100, base: float = 10.0, *, dtype: Any = None
) -> Tensor:
    """`num` powers of `base`, whose exponents are evenly spaced from `start` to `stop`.

    >>> rb.logspace(0, 2, 3)
    tensor([  1.,  10., 100.])
    """
    powers = linspace(start, stop, num, dtype="float64")
    return functions["pow"](asarray(float(base), dtype="float64"), powers).astype(
        dtype or "float32"
    )


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:
    """Ones on the k-th diagonal, else zeros.

    >>> rb.eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    check_device(device)
    wanted = dtype_of(dtype or dtypes.default_float)
    columns = n_rows if n_cols is None else n_cols
    _sizes((n_rows, columns))
    diagonal = min(max(k, -n_rows), columns)  # further off there is nothing either
    return from_numpy(np.eye(n_rows, columns, diagonal, dtype=wanted.numpy))


def empty_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of x's shape and dtype.

    >>> rb.empty_like(rb.asarray([1, 2])).shape
    (2,)
    """
    return zeros_like(x, dtype=dtype, device=device)


def zeros_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of x's shape and dtype, unless another dtype is given.

    >>> rb.zeros_like(rb.asarray([5, 6]))
    tensor([0, 0])
    """
    check_device(device)
    return functions["zeros_like"](x, dtype=dtype)


def ones_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of x's shape and dtype, unless another dtype is given.

    >>> rb.ones_like(rb.asarray([5, 6]))
    tensor([1, 1])
    """
    check_device(device)
    return functions["ones_like"](x, dtype=dtype)


def full_like(x: Tensor, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The 0-d `fill_value` with x's shape and dtype, unless another dtype is given.

    >>> rb.full_like(rb.asarray([5, 6]), 7)
    tensor([7, 7])
    """
    check_device(device)
    wanted = dtype_of(dtype or x.dtype)
    return functions["full_like"](x, asarray(fill_value, dtype=wanted), dtype=wanted)
