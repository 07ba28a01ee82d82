"""Reductions that are made of others: variance, log-sum-exp, counts; and cumulative sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import DType, bool_, dtype_of, int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axes_of, axis_of, show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import ALL, FLOATS, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import add, cast, divide, maximum, multiply, square, subtract
from rabbet.ops.compare import isfinite, where
from rabbet.ops.create import extent
from rabbet.ops.functions import exp, log, sqrt
from rabbet.ops.moves import cut, pad, reshape, turn, window
from rabbet.ops.reduce import (
    Axes,
    as_double,
    as_float,
    count_along,
    left_shape,
    mean,
    reduce_max,
    reduce_sum,
    reduction_samples,
    rounded,
    spread,
    sum_dtype,
)

BLOCK = 64  # cumulative sums: elements summed directly; blocks are joined by their totals

# ---- variance ------------------------------------------------------------------------------------


def _var_reference(x: np.ndarray, axis: Axes, correction: float, keepdims: bool) -> np.ndarray:
    axes = axes_of("var", axis, x.ndim)
    count = np.prod([x.shape[a] for a in axes], dtype=np.float64)
    centre = np.sum(as_double(x), axes, keepdims=True) / count
    squares = np.sum((as_double(x) - centre) ** 2, axes, keepdims=keepdims)
    return rounded(x, squares / np.maximum(count - correction, 0))


def _var_samples() -> list[Sample]:
    return [
        *reduction_samples(("int32", *FLOATS), empty=False, correction=0.0)(),
        Sample((Draw((3, 5)),), {"axis": 1, "correction": 1, "keepdims": True}),
    ]


@op("composite", reference=_var_reference, samples=_var_samples)
def var(x: Value, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """The mean squared distance from the mean: sum / (n - correction). Two passes over the data.

    >>> rb.var(rb.asarray([1.0, 3.0]))
    tensor(1.)
    """
    axes = axes_of("var", axis, x.ndim)
    x = as_float(x)
    centred = subtract(x, mean(x, axes, True))
    return divide(reduce_sum(square(centred), axes, keepdims), _freedom(x, axes, correction))


def _freedom(x: Any, axes: tuple[int, ...], correction: float) -> Any:
    count = extent.like(x, count_along(x, axes), x.dtype)
    return maximum(subtract(count, float(correction)), 0.0) if correction else count


@var.gradient
def _var_gradient(
    g: Any, y: Any, x: Any, axis: Axes, correction: float, keepdims: bool
) -> tuple[Any]:
    if not x.dtype.is_float:
        return (None,)
    axes = axes_of("var", axis, x.ndim)
    centred = subtract(x, mean(x, axes, True))
    scale = divide(multiply(g, 2.0), _freedom(x, axes, correction))
    return (multiply(spread(scale, x.shape, axes, keepdims), centred),)


def _std_samples() -> list[Sample]:
    return [
        Sample((Draw((3, 4), kind="distinct"),), {"axis": a, "correction": c, "keepdims": k})
        for a, c, k in ((None, 0.0, False), (-1, 1, True), (0, 0.5, False))
    ]


@op(
    "composite",
    reference=lambda *x: np.sqrt(as_double(_var_reference(as_double(x[0]), *x[1:]))),
    samples=_std_samples,
)
def std(x: Value, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """The square root of `var`.

    >>> rb.std(rb.asarray([1.0, 3.0]), correction=1)
    tensor(1.4142135)
    """
    return sqrt(var(x, axis, correction, keepdims))


# ---- log-sum-exp, counts -------------------------------------------------------------------------


def _logsumexp_reference(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    axes = axes_of("logsumexp", axis, x.ndim)
    return rounded(x, np.log(np.sum(np.exp(as_double(x)), axes, keepdims=keepdims)))


@op(
    "composite",
    promote="float",
    reference=_logsumexp_reference,
    samples=reduction_samples(empty=False),
)
def logsumexp(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """log(sum(exp(x))) over `axis` (None: all) without overflow.

    >>> rb.logsumexp(rb.asarray([1000.0, 1000.0]))
    tensor(1000.6932)
    """
    axes = axes_of("logsumexp", axis, x.ndim)
    top = reduce_max(x, axes, True)
    top = where(isfinite(top), top, 0.0)
    total = log(reduce_sum(exp(subtract(x, top)), axes, True))
    found = add(total, top)
    return found if keepdims else reshape(found, left_shape(x.shape, axes))


@logsumexp.gradient
def _logsumexp_gradient(g: Any, y: Any, x: Any, axis: Axes, keepdims: bool) -> tuple[Any]:
    axes = axes_of("logsumexp", axis, x.ndim)
    level = spread(where(isfinite(y), y, 0.0), x.shape, axes, keepdims)
    return (multiply(spread(g, x.shape, axes, keepdims), exp(subtract(x, level))),)


@op(
    "composite",
    differentiable=False,
    reference=lambda x, axis, keepdims: np.asarray(
        np.count_nonzero(x, axis, keepdims=keepdims), np.int64
    ),
    samples=reduction_samples(ALL),
)
def count_nonzero(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """How many elements over `axis` (None: all) are not zero; int64.

    >>> rb.count_nonzero(rb.asarray([0, 3, 4]))
    tensor(2)
    """
    axes = axes_of("count_nonzero", axis, x.ndim)
    return reduce_sum(cast(cast(x, bool_), int64), axes, keepdims)


# ---- cumulative sums, differences ----------------------------------------------------------------


def _cumulative_reference(
    x: np.ndarray, axis: int | None, dtype: DType | None, include_initial: bool
) -> np.ndarray:
    wanted = sum_dtype(dtype_of(x.dtype), dtype).numpy
    wide = np.float64 if wanted.kind == "f" else wanted
    return np.cumulative_sum(x, axis=axis, dtype=wide, include_initial=include_initial)


def _cumulative_samples() -> list[Sample]:
    cases = (
        *(((5,), None, False), ((3, 4), 0, False), ((2, 3, 4), -1, True), ((2, 0), 1, False)),
        *(((2, 0), 1, True), ((1,), 0, False), ((2, 300), 1, False), ((256, 2), 0, True)),
    )
    return [
        Sample((Draw(s),), {"axis": a, "dtype": None, "include_initial": i}, ("int32", *FLOATS))
        for s, a, i in cases
    ]


@op("composite", reference=_cumulative_reference, samples=_cumulative_samples)
def cumulative_sum(
    x: Value, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Value:
    """Sums of the first 1, 2, 3, ... elements along `axis` (may be None for one axis).

    dtype as in `sum`; `include_initial` starts with 0. Raises ShapeError where an axis is needed.

    >>> rb.cumulative_sum(rb.asarray([1, 2, 3]))
    tensor([1, 3, 6])
    """
    if axis is None and x.ndim != 1:
        raise ShapeError(f"cumulative_sum: {show(x.shape)} needs an axis")
    at = axis_of("cumulative_sum", axis or 0, x.ndim)
    x = cast(x, sum_dtype(x.dtype, dtype))
    size = x.shape[at]
    if size == 0:
        found = x
    else:
        found = _running(x, at, size, size) if size <= 4 * BLOCK else _running_in_blocks(x, at)
    return _shifted(found, at, 1, 0) if include_initial else found


def _shifted(x: Any, axis: int, low: Dim, high: Dim) -> Any:
    """Zeros before and behind one axis."""
    none = (0,) * x.ndim
    before = tuple(low if a == axis else 0 for a in range(x.ndim))
    return pad(x, before, tuple(high if a == axis else 0 for a in range(x.ndim)), none)


def _running(x: Any, axis: int, size: Dim, low: Dim) -> Any:
    """Sums of windows of `size` elements over `low` - 1 zeros and x."""
    windows = window(_shifted(x, axis, low - 1, 0), (axis,), (size,), (1,), (1,))
    return reduce_sum(windows, (x.ndim,), False)


def _running_in_blocks(x: Any, axis: int) -> Any:
    """The same in two levels: inside blocks of BLOCK elements, and over the blocks' totals."""
    size = x.shape[axis]
    count = (size + (BLOCK - 1)) // BLOCK
    whole = _shifted(x, axis, 0, count * BLOCK - size)
    blocks = reshape(whole, (*x.shape[:axis], count, BLOCK, *x.shape[axis + 1 :]))
    inside = _running(blocks, axis + 1, BLOCK, BLOCK)
    totals = cut(inside, axis + 1, BLOCK - 1, BLOCK)
    before = cut(_running(totals, axis, count, count + 1), axis, 0, count)  # without its own block
    return cut(reshape(add(inside, before), whole.shape), axis, 0, size)


@cumulative_sum.gradient
def _cumulative_sum_gradient(
    g: Any, y: Any, x: Any, axis: int | None, dtype: DType | None, include_initial: bool
) -> tuple[Any]:
    at = axis_of("cumulative_sum", axis or 0, x.ndim)
    g = cut(g, at, 1, g.shape[at]) if include_initial else g
    backward = turn(cumulative_sum(turn(g, (at,)), at), (at,))
    return (cast(backward, x.dtype),)


@op(
    "composite",
    reference=lambda x, axis, n: np.diff(x, n, axis),
    samples=lambda: [
        Sample((Draw(s),), {"axis": a, "n": n}, ("int32", *FLOATS))
        for s, a, n in (((5,), -1, 1), ((3, 4), 0, 2), ((1, 2), 0, 1), ((3,), 0, 0))
    ],
)
def diff(x: Value, axis: int = -1, n: int = 1) -> Value:
    """Differences of neighbours along `axis`, `n` times over.

    >>> rb.diff(rb.asarray([1, 4, 9]))
    tensor([3, 5])
    """
    at = axis_of("diff", axis, x.ndim)
    for _ in range(n):
        size = x.shape[at]
        if size == 0:
            return x
        x = subtract(cut(x, at, 1, size), cut(x, at, 0, size - 1))
    return x
