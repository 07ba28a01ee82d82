"""Medians and quantiles, and reductions that leave NaN out.

A quantile lies between two elements of the sorted line; its gradient goes to these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import float64, int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axes_of, show
from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import (
    add,
    cast,
    ceil,
    divide,
    floor,
    maximum,
    multiply,
    round_,
    subtract,
)
from rabbet.ops.checks import need_choice, need_float
from rabbet.ops.compare import greater_equal, isnan, less_equal, logical_and, logical_not, where
from rabbet.ops.create import number
from rabbet.ops.gather_scatter import take, take_along_axis
from rabbet.ops.index_maps import cut, permute, reshape
from rabbet.ops.reductions import Axes, as_double, kept_shape, left_shape, reduce_sum, rounded
from rabbet.ops.sorting import sort

METHODS = ("linear", "lower", "higher", "nearest", "midpoint")


def _lines(name: str, x: Any, axis: Axes) -> tuple[Any, tuple[int, ...]]:
    """The axes to reduce as one last axis, and which they were."""
    axes = axes_of(name, axis, x.ndim)
    if any(isinstance(x.shape[a], int) and x.shape[a] == 0 for a in axes):
        raise ShapeError(f"{name}: {show(x.shape)} has no elements along axes {show(axes)}")
    left = tuple(a for a in range(x.ndim) if a not in axes)
    moved = x if (*left, *axes) == tuple(range(x.ndim)) else permute(x, (*left, *axes))
    count = sizes.product([x.shape[a] for a in axes])
    return reshape(moved, (*left_shape(x.shape, axes), count)), axes


def _between(low: Any, high: Any, place: Any, method: str) -> Any:
    """The value at `place` between the elements before and behind it."""
    if method == "lower":
        return low
    if method == "higher":
        return high
    if method == "midpoint":
        return where(greater_equal(floor(place), place), low, multiply(add(low, high), 0.5))
    share = cast(subtract(place, floor(place)), low.dtype)
    # Infinite neighbours have no difference; where nothing is added, none is taken.
    step = where(less_equal(share, 0.0), 0.0, subtract(high, low))
    return add(low, multiply(step, share))


def _quantiles(
    name: str, x: Any, q: Any, axis: Axes, keepdims: bool, method: str, ignores: bool
) -> Any:
    """Of every line at every q: (*s), (*k) -> (*k, *left)."""
    need_choice(name, "method", method, METHODS)
    need_float(name, "input", x.dtype)
    if q.ndim > 1:
        raise ShapeError(f"{name}: q has the shape {show(q.shape)}; a number or vector is needed")
    lines, axes = _lines(name, x, axis)
    line = sort(lines, -1)
    last, length = line.ndim - 1, line.shape[-1]
    at = reshape(cast(q, float64), (sizes.product(q.shape),))
    valid = logical_and(greater_equal(at, 0.0), less_equal(at, 1.0))
    at = where(valid, at, 0.0)
    nan = isnan(cut(line, last, length - 1, length))
    if ignores:
        known = reduce_sum(cast(logical_not(isnan(line)), float64), (last,), True)
        place = multiply(maximum(subtract(known, 1.0), 0.0), at)
        nan = less_equal(known, 0.0)
    else:
        place = multiply(number(x, length - 1, float64), at)
    place = round_(place) if method == "nearest" else place
    read = take_along_axis if ignores else take
    low, high = (read(line, cast(f(place), int64), last) for f in (floor, ceil))
    method = "lower" if method == "nearest" else method
    found = _between(low, high, place, method)
    found = where(logical_and(valid, logical_not(nan)), found, math.nan)
    order = (last, *range(last))
    left = kept_shape(x.shape, axes) if keepdims else left_shape(x.shape, axes)
    return reshape(permute(found, order), (*q.shape, *left))


def _reference(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def reference(
        x: np.ndarray, q: np.ndarray, axis: Axes, keepdims: bool, method: str
    ) -> np.ndarray:
        found = function(
            as_double(x), q.astype(np.float64), axis=axis, keepdims=keepdims, method=method
        )
        return rounded(x, found)

    return reference


def _samples() -> list[Sample]:
    def sample(shape: Any, places: Any, axis: Axes, keepdims: bool, method: str) -> Sample:
        return Sample(
            (Draw(shape, kind="distinct"), Draw(places, 0.02, 0.98)),
            {"axis": axis, "keepdims": keepdims, "method": method},
        )

    return [
        sample((7,), (), None, False, "linear"),
        sample((3, 5), (2,), 1, False, "linear"),
        sample((3, 4, 2), (3,), (0, 2), True, "linear"),
        sample((2, 6), (), -1, True, "lower"),
        sample((2, 6), (2,), 1, False, "higher"),
        sample((6, 2), (2,), 0, False, "midpoint"),
        sample((9,), (4,), None, False, "nearest"),
        sample((1,), (), 0, False, "linear"),
        sample((2, 70), (2,), 1, False, "linear"),
    ]


@op("composite", promote="float", reference=_reference(np.quantile), samples=_samples)
def quantile(
    x: Value, q: Value, axis: Axes = None, keepdims: bool = False, method: str = "linear"
) -> Value:
    """The value below which the share `q` (in [0, 1]) of the elements over `axis` lies.

    `q` is a number or a vector, whose axis then comes first: (*s), (k,) -> (k, *left). Between two
    elements: "linear", "lower", "higher", "nearest" or "midpoint". NaN where an element is NaN or
    q is not in [0, 1].

    >>> rb.quantile(rb.asarray([1.0, 2.0, 3.0, 4.0]), 0.5)
    tensor(2.5)
    """
    return _quantiles("quantile", x, q, axis, keepdims, method, False)


@op("composite", promote="float", reference=_reference(np.nanquantile), samples=_samples)
def nanquantile(
    x: Value, q: Value, axis: Axes = None, keepdims: bool = False, method: str = "linear"
) -> Value:
    """`quantile` of the elements that are not NaN; NaN where there are none.

    >>> rb.nanquantile(rb.asarray([1.0, rb.nan, 3.0]), 0.5)
    tensor(2.)
    """
    return _quantiles("nanquantile", x, q, axis, keepdims, method, True)


def _median_samples() -> list[Sample]:
    cases = (((7,), None, False), ((3, 4), 1, True), ((2, 3, 4), (0, 2), False), ((1,), 0, False))
    return [Sample((Draw(s, kind="distinct"),), {"axis": a, "keepdims": k}) for s, a, k in cases]


@op(
    "composite",
    promote="float",
    reference=lambda x, axis, keepdims: rounded(
        x, np.median(as_double(x), axis, keepdims=keepdims)
    ),
    samples=_median_samples,
)
def median(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """The middle element over `axis` (None: all), the mean of two where their number is even.

    NaN where an element is. Its gradient goes to the one or two in the middle.

    >>> rb.median(rb.asarray([3.0, 1.0, 9.0, 2.0]))
    tensor(2.5)
    """
    half = number(x, 0.5, float64)
    return _quantiles("median", x, half, axis, keepdims, "midpoint", False)


@op(
    "composite",
    promote="float",
    reference=lambda x, axis, keepdims: rounded(
        x, np.nanmedian(as_double(x), axis, keepdims=keepdims)
    ),
    samples=_median_samples,
)
def nanmedian(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """`median` of the elements that are not NaN; NaN where there are none.

    >>> rb.nanmedian(rb.asarray([3.0, rb.nan, 1.0]))
    tensor(2.)
    """
    half = number(x, 0.5, float64)
    return _quantiles("nanmedian", x, half, axis, keepdims, "midpoint", True)


# ---- sums and means without NaN ------------------------------------------------------------------


def _nan_samples() -> list[Sample]:
    cases = (((7,), None, False), ((3, 4), 1, True), ((2, 3, 40), (0, 2), False), ((2, 0), 0, True))
    return [Sample((Draw(s),), {"axis": a, "keepdims": k}, FLOATS) for s, a, k in cases]


@op(
    "composite",
    promote="float",
    reference=lambda x, axis, keepdims: rounded(
        x, np.nansum(as_double(x), axis, keepdims=keepdims)
    ),
    samples=_nan_samples,
    autocast="wide",
)
def nansum(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """The sum over `axis` (None: all) of the elements that are not NaN.

    >>> rb.nansum(rb.asarray([1.0, rb.nan, 3.0]))
    tensor(4.)
    """
    need_float("nansum", "input", x.dtype)
    axes = axes_of("nansum", axis, x.ndim)
    return reduce_sum(where(isnan(x), 0.0, x), axes, keepdims)


@op(
    "composite",
    promote="float",
    reference=lambda x, axis, keepdims: rounded(
        x, np.nanmean(as_double(x), axis, keepdims=keepdims)
    ),
    samples=_nan_samples,
    autocast="wide",
)
def nanmean(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """The mean over `axis` (None: all) of the elements that are not NaN; NaN where there are none.

    >>> rb.nanmean(rb.asarray([1.0, rb.nan, 3.0]))
    tensor(2.)
    """
    need_float("nanmean", "input", x.dtype)
    axes = axes_of("nanmean", axis, x.ndim)
    known = reduce_sum(cast(logical_not(isnan(x)), x.dtype), axes, keepdims)
    return divide(reduce_sum(where(isnan(x), 0.0, x), axes, keepdims), known)
