"""Functions of whole vectors and samples: covariance, counts in bins, areas, membership."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import bool_, int64
from rabbet.base.errors import NumberRangeError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, NUMERIC, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import (
    abs_,
    add,
    cast,
    clip,
    divide,
    floor,
    maximum,
    minimum,
    multiply,
    square,
    subtract,
)
from rabbet.ops.axis_moves import swapaxes
from rabbet.ops.checks import need_float, wide
from rabbet.ops.compare import (
    equal,
    greater,
    greater_equal,
    less_equal,
    logical_and,
    logical_not,
    where,
)
from rabbet.ops.contract import matmul
from rabbet.ops.create import extent, full, iota, number, zeros
from rabbet.ops.cumulative import cumulative_sum
from rabbet.ops.float_functions import pow_, sqrt
from rabbet.ops.gather_scatter import scatter_add, take
from rabbet.ops.index_maps import cut, reshape
from rabbet.ops.joining import diagonal
from rabbet.ops.reductions import as_double, mean, reduce_max, reduce_min, reduce_sum, rounded
from rabbet.ops.sorting import searchsorted, sort

# ---- covariance ----------------------------------------------------------------------------------


def _cov_array(x: np.ndarray, correction: float) -> np.ndarray:
    rows = np.atleast_2d(as_double(x))
    away = rows - rows.mean(1, keepdims=True)
    found = away @ away.T / max(rows.shape[1] - correction, 0)
    return rounded(x, found if x.ndim == 2 else found[0, 0])


@op(
    "composite",
    promote="float",
    reference=_cov_array,
    samples=lambda: [
        Sample((Draw(s),), {"correction": c})
        for s, c in (((3, 5), 1.0), ((7,), 1.0), ((2, 4), 0.0), ((1, 2), 1.0))
    ],
)
def cov(x: Value, correction: float = 1.0) -> Value:
    """Covariances of variables (rows) over observations (columns): (v, n) -> (v, v); (n,) -> ().

    Sums are divided by n - correction.

    >>> rb.cov(rb.asarray([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    need_float("cov", "input", x.dtype)
    if x.ndim not in (1, 2):
        raise ShapeError(f"cov: {show(x.shape)} is neither a vector nor variables by observations")
    rows = x if x.ndim == 2 else reshape(x, (1, x.shape[0]))
    away = subtract(rows, mean(rows, 1, True))
    count = extent.like(x, rows.shape[1], x.dtype)
    found = divide(
        matmul(away, swapaxes(away, 0, 1)), maximum(subtract(count, float(correction)), 0.0)
    )
    return found if x.ndim == 2 else reshape(found, ())


def _corrcoef_array(x: np.ndarray) -> np.ndarray:
    found = np.atleast_2d(_cov_array(as_double(x), 1.0))
    spread = np.sqrt(np.diagonal(found))
    found = np.clip(found / spread[:, None] / spread, -1, 1)
    return rounded(x, found if x.ndim == 2 else found[0, 0])


@op(
    "composite",
    promote="float",
    reference=_corrcoef_array,
    samples=lambda: [Sample((Draw(s),), grad=len(s) == 2 and s[0] == 3) for s in ((3, 6), (2, 9))],
)
def corrcoef(x: Value) -> Value:
    """Pearson's correlations of variables (rows) over observations: (v, n) -> (v, v); (n,) -> ().

    >>> rb.corrcoef(rb.asarray([[1.0, 2.0, 4.0], [-1.0, -2.0, -4.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    rows = x if x.ndim != 1 else reshape(x, (1, x.shape[0]))
    found = cov(rows)
    spread = sqrt(diagonal(found))
    count = rows.shape[0]
    found = divide(divide(found, reshape(spread, (count, 1))), reshape(spread, (1, count)))
    found = clip(found, -1.0, 1.0)
    return found if x.ndim == 2 else reshape(found, ())


# ---- counts --------------------------------------------------------------------------------------


def _histc_array(x: np.ndarray, bins: int, min: float, max: float) -> np.ndarray:
    flat = x.reshape(-1).astype(np.float64)
    low, high = (min, max) if min != max else (flat.min(), flat.max()) if flat.size else (0, 0)
    low, high = (low - 1, high + 1) if low == high else (low, high)
    inside = flat[(flat >= low) & (flat <= high)]
    at = np.minimum(np.floor((inside - low) * (bins / (high - low))), bins - 1)
    return np.bincount(at.astype(int), minlength=bins).astype(x.dtype)


@op(
    "composite",
    differentiable=False,
    sizes=("bins",),
    reference=_histc_array,
    samples=lambda: [
        Sample((Draw(s, -3, 3),), {"bins": b, "min": lo, "max": hi})
        for s, b, lo, hi in (
            *(((40,), 5, -2.0, 2.0), ((3, 7), 4, 0.0, 0.0), ((), 3, 0.0, 0.0)),
            ((0,), 2, 0.0, 1.0),
        )
    ],
)
def histc(x: Value, bins: Dim = 100, min: float = 0.0, max: float = 0.0) -> Value:
    """How many elements fall in each of `bins` equal bins from `min` to `max`: (*s) -> (bins,).

    Both ends count; what is outside or NaN does not. Where min is max, the smallest and the largest
    element are taken. In the dtype of `x`, a float.

    >>> rb.histc(rb.asarray([0.0, 1.0, 1.5, 4.0]), bins=4, min=0, max=4)
    tensor([1., 2., 0., 1.])
    """
    need_float("histc", "input", x.dtype)
    if isinstance(bins, int) and bins < 1:
        raise ShapeError(f"histc: bins={bins} must be at least 1")
    if not (math.isfinite(min) and math.isfinite(max) and min <= max):
        raise NumberRangeError(f"histc: min={min} and max={max} must be finite and in order")
    flat = reshape(x, (sizes.product(x.shape),))
    low, high = _ends(flat, float(min), float(max))
    count = extent.like(x, bins, x.dtype)
    place = floor(multiply(subtract(flat, low), divide(count, subtract(high, low))))
    inside = logical_and(greater_equal(flat, low), less_equal(flat, high))
    at = cast(minimum(where(inside, place, 0.0), subtract(count, 1.0)), int64)
    return scatter_add(zeros.like(x, (bins,), x.dtype), at, cast(inside, x.dtype), 0)


def _ends(flat: Any, low: float, high: float) -> tuple[Any, Any]:
    """The range of the bins, one to each side of a single value."""
    empty = isinstance(flat.shape[0], int) and flat.shape[0] == 0
    if low != high or empty:
        return (number(flat, low - (low == high), flat.dtype),) + (
            number(flat, high + (low == high), flat.dtype),
        )
    first, last = (f(flat, (0,), False) for f in (reduce_min, reduce_max))
    one = equal(first, last)
    return where(one, subtract(first, 1.0), first), where(one, add(last, 1.0), last)


# ---- areas, powers -------------------------------------------------------------------------------


def _strips(name: str, y: Any, x: Any, dx: float, axis: int) -> Any:
    """The areas between neighbours along `axis`, by the mean of their heights."""
    need_float(name, "y", y.dtype)
    at = axis_of(name, axis, y.ndim)
    n = y.shape[at]
    if isinstance(n, int) and n == 0:
        raise ShapeError(f"{name}: {show(y.shape)} has no points along axis {at}")

    def pair(t: Any, a: int) -> tuple[Any, Any]:
        return cut(t, a, 1, t.shape[a]), cut(t, a, 0, t.shape[a] - 1)

    right, left = pair(y, at)
    height = multiply(add(left, right), 0.5)
    if x is None:
        return multiply(height, float(dx))
    if x.ndim == 1:
        x = reshape(x, (x.shape[0], *(1,) * (y.ndim - at - 1)))
        later, earlier = pair(x, 0)
    else:
        later, earlier = pair(x, axis_of(name, axis if axis < 0 else axis - y.ndim, x.ndim))
    return multiply(height, subtract(later, earlier))


def _area_samples() -> list[Sample]:
    return [
        Sample((Draw((5,)), None), {"dx": 0.5, "axis": -1}),
        Sample((Draw((3, 4)), Draw((3,))), {"dx": 1.0, "axis": 0}),
        Sample((Draw((2, 4)), Draw((2, 4))), {"dx": 1.0, "axis": 1}),
        Sample((Draw((1,)), None), {"dx": 1.0, "axis": 0}),
    ]


def _trapezoid_array(y: np.ndarray, x: np.ndarray | None, dx: float, axis: int) -> np.ndarray:
    return rounded(y, np.trapezoid(as_double(y), None if x is None else as_double(x), dx, axis))


@op("composite", promote="float", reference=_trapezoid_array, samples=_area_samples)
def trapezoid(y: Value, x: Value | None = None, dx: float = 1.0, axis: int = -1) -> Value:
    """The area under `y` along `axis` by the trapezoidal rule, at points `x` or `dx` apart.

    >>> rb.trapezoid(rb.asarray([1.0, 2.0, 3.0]))
    tensor(4.)
    """
    strips = _strips("trapezoid", y, x, dx, axis)
    return reduce_sum(strips, (axis_of("trapezoid", axis, y.ndim),), False)


def _running_array(y: np.ndarray, x: np.ndarray | None, dx: float, axis: int) -> np.ndarray:
    points = np.arange(y.shape[axis]) * dx if x is None else as_double(x)
    if points.ndim == 1:
        points = points.reshape([-1 if a == axis % y.ndim else 1 for a in range(y.ndim)])
    lines, along = np.moveaxis(as_double(y), axis, -1), np.moveaxis(points, axis, -1)
    strips = (lines[..., 1:] + lines[..., :-1]) / 2 * np.diff(along)
    return rounded(y, np.moveaxis(np.cumsum(strips, -1), -1, axis))


@op("composite", promote="float", reference=_running_array, samples=_area_samples)
def cumulative_trapezoid(
    y: Value, x: Value | None = None, dx: float = 1.0, axis: int = -1
) -> Value:
    """The areas from the first point to every later one, as in `trapezoid`; one element fewer.

    >>> rb.cumulative_trapezoid(rb.asarray([1.0, 2.0, 3.0]))
    tensor([1.5, 4. ])
    """
    return cumulative_sum(_strips("cumulative_trapezoid", y, x, dx, axis), axis)


@op(
    "composite",
    sizes=("n",),
    method=None,
    reference=lambda x, n, increasing: np.vander(
        x if x.dtype.kind == "c" else wide(x), n, increasing
    ).astype(x.dtype),
    samples=lambda: [
        Sample((Draw(s, 0.5, 2),), {"n": n, "increasing": i}, ("int64", *FLOATS))
        for s, n, i in (((3,), None, False), ((4,), 3, True), ((2,), 0, True), ((0,), 2, False))
    ],
)
def vander(x: Value, n: Dim | None = None, increasing: bool = False) -> Value:
    """Powers of a vector, the highest first unless `increasing`: (m,) -> (m, n), m x m by default.

    >>> rb.vander(rb.asarray([2, 3]), 3)
    tensor([[4, 2, 1],
            [9, 3, 1]])
    """
    if x.ndim != 1:
        raise ShapeError(f"vander: {show(x.shape)} is no vector")
    columns = x.shape[0] if n is None else n
    if isinstance(columns, int) and columns < 0:
        raise ShapeError(f"vander: n={columns} must be 0 or more")
    power = iota.like(x, (1, columns), 1, int64)
    if not increasing:
        power = subtract(extent.like(x, columns - 1, int64), power)
    return pow_(reshape(x, (x.shape[0], 1)), cast(power, x.dtype))


# ---- membership, norms of slices -----------------------------------------------------------------


@op(
    "composite",
    promote="common",
    differentiable=False,
    method=None,
    reference=lambda elements, test_elements, invert: np.isin(
        elements, test_elements, invert=invert
    ),
    samples=lambda: [
        Sample((Draw(s, -4, 4), Draw(t, -4, 4)), {"invert": i}, NUMERIC)
        for s, t, i in (
            ((9,), (4,), False),
            ((2, 3), (2, 2), True),
            ((3,), (0,), False),
            ((), (2,), 0),
        )
    ],
)
def isin(elements: Value, test_elements: Value, invert: bool = False) -> Value:
    """Which elements are among `test_elements` (not among them, with `invert`); NaN never is.

    >>> rb.isin(rb.asarray([1, 2, 3]), rb.asarray([3, 1]))
    tensor([ True, False,  True])
    """
    count = sizes.product(test_elements.shape)
    if isinstance(count, int) and count == 0:
        found = full(number(elements, False, bool_), elements.shape)
    else:
        line = sort(reshape(test_elements, (count,)))
        last = subtract(extent.like(elements, count, int64), 1)
        at = minimum(searchsorted(line, elements), last)
        found = equal(take(line, at, 0), elements)
    return logical_not(found) if invert else found


def _renorm_array(x: np.ndarray, p: float, axis: int, maxnorm: float) -> np.ndarray:
    lines = np.moveaxis(as_double(x), axis, 0).reshape(x.shape[axis], -1)
    size = np.linalg.norm(lines, p, 1)
    scale = np.where(size > maxnorm, maxnorm / (size + 1e-7), 1)
    shape = [-1 if a == axis % x.ndim else 1 for a in range(x.ndim)]
    return rounded(x, as_double(x) * scale.reshape(shape))


@op(
    "composite",
    reference=_renorm_array,
    samples=lambda: [
        Sample((Draw(s, kind="positive"),), {"p": p, "axis": a, "maxnorm": m})
        for s, p, a, m in (
            *(((3, 4), 2.0, 0, 1.0), ((2, 3, 4), 1.0, 1, 3.0), ((3, 4), 3.0, -1, 1.0)),
            ((3, 4), math.inf, 0, 0.25),
        )
    ],
    autocast="wide",
)
def renorm(x: Value, p: float, axis: int, maxnorm: float) -> Value:
    """`x` with every slice of `axis` whose p-norm is above `maxnorm` scaled down to it.

    >>> rb.renorm(rb.asarray([[3.0, 4.0], [0.3, 0.4]]), 2, 0, 1.0)
    tensor([[0.6, 0.8],
            [0.3, 0.4]])
    """
    need_float("renorm", "input", x.dtype)
    if not p > 0 or not maxnorm >= 0:
        raise NumberRangeError(f"renorm: p={p} must be positive and maxnorm={maxnorm} 0 or more")
    at = axis_of("renorm", axis, x.ndim)
    axes = tuple(a for a in range(x.ndim) if a != at)
    if math.isinf(p):
        size = reduce_max(abs_(x), axes, True)
    elif p == 2:
        size = _root(reduce_sum(square(x), axes, True), None)
    else:
        total = reduce_sum(abs_(x) if p == 1 else pow_(abs_(x), float(p)), axes, True)
        size = total if p == 1 else _root(total, 1.0 / p)
    large = greater(size, float(maxnorm))
    return multiply(x, where(large, divide(float(maxnorm), add(size, 1e-7)), 1.0))


def _root(total: Any, power: float | None) -> Any:
    """A root whose slope at 0 is 0."""
    none = equal(total, 0.0)
    safe = where(none, 1.0, total)
    return where(none, 0.0, sqrt(safe) if power is None else pow_(safe, power))
