"""Composites over positions: ranges, triangles, one-hot rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.base import dtypes, sizes
from rabbet.base.dtypes import DType, int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import add, cast, divide, multiply, subtract
from rabbet.ops.compare import equal, greater_equal, where
from rabbet.ops.create import extent, full, iota, number


@op(
    "composite",
    method=None,
    reference=lambda x, fill_value, dtype: np.full(
        x.shape, fill_value, dtype.numpy if dtype else x.dtype
    ),
    samples=lambda: [
        Sample((Draw((2, 3)), Draw(())), {"dtype": None}),
        Sample((Draw((0,)), Draw((), kind="int")), {"dtype": dtypes.float32}, grad=False),
    ],
)
def full_like(x: Value, fill_value: Value, dtype: DType | None = None) -> Value:
    """The 0-d `fill_value` with the shape of `x`, and its dtype unless another is given.

    >>> rb.full_like(rb.asarray([5, 6]), 7)
    tensor([7, 7])
    """
    return full(cast(fill_value, dtype or x.dtype), x.shape)


@op(
    "composite",
    public=False,
    sizes=("length",),
    promote="common",
    reference=lambda start, step, length: start + np.arange(length).astype(start.dtype) * step,
    samples=lambda: [
        Sample((Draw(()), Draw(())), {"length": 5}),
        Sample((Draw((), -9, 9), Draw(())), {"length": 4}, ("int32", "uint8", "int64")),
        Sample((Draw(()), Draw(())), {"length": 0}),
    ],
)
def ramp(start: Value, step: Value, length: Dim) -> Value:
    """start, start + step, ...: `length` numbers."""
    return add(multiply(iota.like(start, (length,), 0, start.dtype), step), start)


def arange(
    home: Any, start: Any, stop: Any = None, step: Any = 1, dtype: DType | None = None
) -> Any:
    """Evenly spaced numbers from `start` up to but not including `stop`, where `home` lives.

    Sizes (of other tensors) may be given as start and stop. dtype: int64 if all are whole, else
    float32; floats are computed in float64 and rounded once. Raises ShapeError for step 0.
    Example: `arange(home, 5)` -> 0, 1, 2, 3, 4.

    >>> rb.arange(2, 8, 3)
    tensor([2, 5])
    """
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise ShapeError("arange: step is 0")
    whole = not any(isinstance(v, float) for v in (start, stop, step))
    wanted = dtype or (dtypes.default_int if whole else dtypes.default_float)
    inner = int64 if whole else dtypes.float64
    if not whole:
        length: Dim = max(0, math.ceil((stop - start) / step))
    elif isinstance(stop, int) and isinstance(start, int):
        length = max(0, -((start - stop) // step))
    else:
        length = sizes.maximum(0, -((start - stop) // step))
    return cast(ramp(number(home, start, inner), number(home, step, inner), length), wanted)


def _linspace_reference(
    start: np.ndarray, stop: np.ndarray, num: int, dtype: DType | None, endpoint: bool
) -> np.ndarray:
    wanted = dtype.numpy if dtype else start.dtype
    double = np.result_type(start, stop, np.float64)
    return np.linspace(start, stop, num, endpoint=endpoint, dtype=double).astype(wanted)


@op(
    "composite",
    method=None,
    promote="float",
    sizes=("num",),
    reference=_linspace_reference,
    samples=lambda: [
        Sample((Draw(()), Draw(())), {"num": 5, "dtype": None, "endpoint": True}),
        Sample((Draw(()), Draw(())), {"num": 4, "dtype": None, "endpoint": False}),
        Sample((Draw(()), Draw(())), {"num": 1, "dtype": None, "endpoint": True}),
        Sample((Draw(()), Draw(())), {"num": 0, "dtype": None, "endpoint": True}),
    ],
)
def linspace(
    start: Value, stop: Value, num: Dim, dtype: DType | None = None, endpoint: bool = True
) -> Value:
    """`num` evenly spaced numbers from `start` to `stop`: (), () -> (num,).

    >>> rb.linspace(0.0, 1.0, 5)
    tensor([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    gaps = sizes.maximum(1, num - 1 if endpoint else num)
    step = divide(subtract(stop, start), extent.like(start, gaps, start.dtype))
    position = iota.like(start, (num,), 0, start.dtype)
    found = add(multiply(position, step), start)
    if endpoint:  # the end exactly, and the start alone where num is 1
        last = equal(position, extent.like(start, gaps, start.dtype))
        found = where(last, stop, found)
    return cast(found, dtype or start.dtype)


def _triangle_samples() -> list[Sample]:
    cases = (((3, 4), 0), ((2, 3, 3), 1), ((4, 3), -1), ((0, 2), 0), ((1, 1), 0))
    return [Sample((Draw(s),), {"k": k}) for s, k in cases]


def _triangle(name: str, x: Any, k: int, lower: bool) -> Any:
    if x.ndim < 2:
        raise ShapeError(f"{name}: shape {show(x.shape)} needs at least two axes")
    rows = iota.like(x, x.shape[-2:], 0, int64)
    columns = iota.like(x, x.shape[-2:], 1, int64)
    inside = greater_equal(add(rows, k), columns) if lower else greater_equal(columns, add(rows, k))
    return where(inside, x, number(x, 0, x.dtype))


@op("composite", reference=lambda x, k: np.tril(x, k), samples=_triangle_samples, onnx="Trilu")
def tril(x: Value, k: int = 0) -> Value:
    """The lower triangle of the last two axes up to the k-th diagonal, zero above it.

    >>> rb.tril(rb.ones((2, 2)))
    tensor([[1., 0.],
            [1., 1.]])
    """
    return _triangle("tril", x, k, lower=True)


@op("composite", reference=lambda x, k: np.triu(x, k), samples=_triangle_samples, onnx="Trilu")
def triu(x: Value, k: int = 0) -> Value:
    """The upper triangle of the last two axes from the k-th diagonal, zero below it.

    >>> rb.triu(rb.ones((2, 2)))
    tensor([[1., 1.],
            [0., 1.]])
    """
    return _triangle("triu", x, k, lower=False)
