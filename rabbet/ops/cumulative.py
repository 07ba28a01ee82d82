"""Running reductions along an axis (sums, products, extremes, log-sum-exps), and differences.

All are made of windows: the first 1, 2, 3, ... elements of a block are reduced directly, and
blocks are joined by their running totals, in an order that the shape alone decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rabbet.base.dtypes import DType, bool_, dtype_of
from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import add, cast, multiply, subtract
from rabbet.ops.compare import not_equal
from rabbet.ops.float_functions import logaddexp
from rabbet.ops.index_maps import cut, pad, reshape, turn, window
from rabbet.ops.joining import concat
from rabbet.ops.reductions import reduce_prod, reduce_sum, sum_dtype
from rabbet.ops.statistics import logsumexp

BLOCK = 64  # elements reduced directly; blocks are joined by their totals


class Running(NamedTuple):
    """A reduction that can run: how windows fold, how two results join, the result of nothing."""

    fold: Callable[[Any, tuple[int, ...], bool], Any]
    join: Callable[[Any, Any], Any]
    nothing: float


_SUM = Running(reduce_sum, add, 0)
_PROD = Running(reduce_prod, multiply, 1)
_LOGSUMEXP = Running(logsumexp, logaddexp, -np.inf)


def run_along(x: Any, axis: int, rule: Running) -> Any:
    """The running reduction along `axis`, inclusive."""
    size = x.shape[axis]
    if size == 0:
        return x
    if size <= 4 * BLOCK:
        return _running(x, axis, size, size, rule)
    return _running_in_blocks(x, axis, rule)


def _framed(x: Any, axis: int, low: Dim, high: Dim, fill: float) -> Any:
    """`fill` before and behind one axis."""
    none = (0,) * x.ndim
    before = tuple(low if a == axis else 0 for a in range(x.ndim))
    return pad(x, before, tuple(high if a == axis else 0 for a in range(x.ndim)), none, fill)


def _running(x: Any, axis: int, size: Dim, low: Dim, rule: Running) -> Any:
    """Windows of `size` elements over `low` - 1 times nothing and x, folded."""
    framed = _framed(x, axis, low - 1, 0, rule.nothing)
    return rule.fold(window(framed, (axis,), (size,), (1,), (1,)), (x.ndim,), False)


def _running_in_blocks(x: Any, axis: int, rule: Running) -> Any:
    """The same in two levels: inside blocks of BLOCK elements, and over the blocks' totals."""
    size = x.shape[axis]
    count = (size + (BLOCK - 1)) // BLOCK
    whole = _framed(x, axis, 0, count * BLOCK - size, rule.nothing)
    blocks = reshape(whole, (*x.shape[:axis], count, BLOCK, *x.shape[axis + 1 :]))
    inside = _running(blocks, axis + 1, BLOCK, BLOCK, rule)
    totals = cut(inside, axis + 1, BLOCK - 1, BLOCK)
    # without its own block
    before = cut(_running(totals, axis, count, count + 1, rule), axis, 0, count)
    return cut(reshape(rule.join(inside, before), whole.shape), axis, 0, size)


def _axis(name: str, x: Any, axis: int | None) -> int:
    if axis is None and x.ndim != 1:
        raise ShapeError(f"{name}: {show(x.shape)} needs an axis")
    return axis_of(name, axis or 0, x.ndim)


# ---- sums and products ---------------------------------------------------------------------------


def _reference(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def reference(
        x: np.ndarray, axis: int | None, dtype: DType | None, include_initial: bool
    ) -> np.ndarray:
        wanted = sum_dtype(dtype_of(x.dtype), dtype).numpy
        wide = np.float64 if wanted.kind == "f" else wanted
        return function(x, axis=axis, dtype=wide, include_initial=include_initial)

    return reference


def _samples(kind: str) -> Callable[[], list[Sample]]:
    cases = (
        *(((5,), None, False), ((3, 4), 0, False), ((2, 3, 4), -1, True), ((2, 0), 1, False)),
        *(((2, 0), 1, True), ((1,), 0, False), ((2, 300), 1, False), ((256, 2), 0, True)),
    )

    def draw(shape: tuple[int, ...]) -> Draw:
        return Draw(shape, 0.8, 1.2) if kind == "near one" else Draw(shape)

    return lambda: [
        Sample((draw(s),), {"axis": a, "dtype": None, "include_initial": i}, ("int32", *FLOATS))
        for s, a, i in cases
    ]


@op(
    "composite",
    reference=_reference(np.cumulative_sum),
    samples=_samples("any"),
    onnx="CumSum",
    autocast="wide",
)
def cumulative_sum(
    x: Value, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Value:
    """Sums of the first 1, 2, 3, ... elements along `axis` (may be None for one axis).

    dtype as in `sum`; `include_initial` starts with 0. Raises ShapeError where an axis is needed.

    >>> rb.cumulative_sum(rb.asarray([1, 2, 3]))
    tensor([1, 3, 6])
    """
    at = _axis("cumulative_sum", x, axis)
    found = run_along(cast(x, sum_dtype(x.dtype, dtype)), at, _SUM)
    return _framed(found, at, 1, 0, 0) if include_initial else found


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
    reference=_reference(np.cumulative_prod),
    samples=_samples("near one"),
    onnx="CumProd",
    autocast="wide",
)
def cumulative_prod(
    x: Value, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Value:
    """Products of the first 1, 2, 3, ... elements along `axis` (may be None for one axis).

    dtype as in `sum`; `include_initial` starts with 1. Raises ShapeError where an axis is needed.

    >>> rb.cumulative_prod(rb.asarray([1, 2, 3]))
    tensor([1, 2, 6])
    """
    at = _axis("cumulative_prod", x, axis)
    found = run_along(cast(x, sum_dtype(x.dtype, dtype)), at, _PROD)
    return _framed(found, at, 1, 0, 1) if include_initial else found


# ---- log-sum-exp ---------------------------------------------------------------------------------


@op(
    "composite",
    promote="float",
    reference=lambda x, axis: np.logaddexp.accumulate(x.astype(np.float64), axis or 0),
    samples=lambda: [
        Sample((Draw(s),), {"axis": a})
        for s, a in (((5,), None), ((3, 4), 0), ((2, 3), -1), ((2, 0), 1), ((2, 300), 1))
    ],
    autocast="wide",
)
def logcumsumexp(x: Value, axis: int | None = None) -> Value:
    """log(exp(x[0]) + ... + exp(x[i])) for each i along `axis`, without overflow.

    The axis may be None where there is one only; else ShapeError.

    >>> rb.logcumsumexp(rb.asarray([1000.0, 1000.0]))
    tensor([1000.    , 1000.6932])
    """
    return run_along(x, _axis("logcumsumexp", x, axis), _LOGSUMEXP)


# ---- differences ---------------------------------------------------------------------------------


def _diff_reference(
    x: np.ndarray, n: int, axis: int, prepend: np.ndarray | None, append: np.ndarray | None
) -> np.ndarray:
    if n == 0:
        return x
    parts = [p for p in (prepend, x, append) if p is not None]
    return np.diff(np.concatenate(parts, axis) if len(parts) > 1 else x, n, axis)


def _diff_samples() -> list[Sample]:
    plain = [
        Sample((Draw(s), None, None), {"axis": a, "n": n}, ("int32", *FLOATS))
        for s, a, n in (((5,), -1, 1), ((3, 4), 0, 2), ((1, 2), 0, 1), ((3,), 0, 0))
    ]
    wider = (Draw((2, 3)), Draw((2, 1)), Draw((2, 2)))
    return [
        *plain,
        Sample(wider, {"axis": 1, "n": 1}),
        Sample((*wider[:1], None, wider[2]), {"axis": -1, "n": 2}),
    ]


@op("composite", promote="common", reference=_diff_reference, samples=_diff_samples)
def diff(
    x: Value,
    n: int = 1,
    axis: int = -1,
    prepend: Value | None = None,
    append: Value | None = None,
) -> Value:
    """Differences of neighbours along `axis`, `n` times over.

    `prepend` and `append` are joined to `x` along `axis` before; for `n` of 0 `x` is the result.

    >>> rb.diff(rb.asarray([1, 4, 9]))
    tensor([3, 5])
    """
    at = axis_of("diff", axis, x.ndim)
    if n < 0:
        raise RabbetError(f"diff: n is {n}, it must be 0 or more")
    if n == 0:
        return x
    parts = [p for p in (prepend, x, append) if p is not None]
    x = concat(parts, at) if len(parts) > 1 else x
    for _ in range(n):
        size = x.shape[at]
        if size == 0:
            return x
        later, earlier = cut(x, at, 1, size), cut(x, at, 0, size - 1)
        x = not_equal(later, earlier) if x.dtype is bool_ else subtract(later, earlier)
    return x
