"""Order: positions by size, sorted elements, the k largest, places in a sorted vector."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import BY_NAME, bool_, int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.spec import Spec
from rabbet.expr import expr
from rabbet.expr.expr import Expr, bitcast, const, select
from rabbet.graph.op import op
from rabbet.graph.sample import ALL, NUMERIC, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import add, minimum, multiply
from rabbet.ops.compare import isnan, less, less_equal, logical_and, logical_not, logical_or, where
from rabbet.ops.create import extent, full, iota, number
from rabbet.ops.gather_scatter import take
from rabbet.ops.index_maps import cut, permute, reshape

# ---- the primitive -------------------------------------------------------------------------------


def _key(x: Expr, descending: bool) -> Expr:
    """An unsigned integer that grows with `x`: NaN above all, zeros of both signs alike.

    A float's bits grow with it where its sign is clear, and fall where it is set.
    """
    key = _ascending(x)
    return ~key if descending else key


def _ascending(x: Expr) -> Expr:
    if x.dtype is bool_:
        return expr.cast(x, BY_NAME["uint8"])
    if x.dtype.kind == "u":
        return x
    raw = BY_NAME[f"uint{x.dtype.bits}"]
    sign = const(1 << (x.dtype.bits - 1), raw)
    if x.dtype.kind == "i":
        return bitcast(x, raw) ^ sign
    bits = bitcast(select(x.equals(0), const(0, x.dtype), x), raw)
    key = select((bits & sign).equals(0), bits | sign, ~bits)
    return select(x.differs(x), const((1 << x.dtype.bits) - 1, raw), key)


def _positions_spec(x: Spec, descending: bool) -> Spec:
    if not x.ndim:
        raise ShapeError("argsort: a tensor without axes has no order")
    return x.with_dtype(int64)


def _positions(x: np.ndarray, descending: bool) -> np.ndarray:
    if not descending:
        return np.argsort(x, -1, kind="stable")
    # Stable and descending: from the end, turned around. NaN comes first.
    backward = np.argsort(x[..., ::-1], -1, kind="stable")
    return x.shape[-1] - 1 - backward[..., ::-1]


def _position_samples() -> list[Sample]:
    shapes = ((7,), (3, 5), (2, 70), (1,), (2, 1), (0,), (2, 0), (0, 3), (2, 3, 30))
    return [
        Sample((Draw(s, -3, 3),), {"descending": d}, ALL) for s in shapes for d in (False, True)
    ]


@op(
    "sort",
    public=False,
    differentiable=False,
    infer=_positions_spec,
    lower=_key,
    reference=_positions,
    samples=_position_samples,
)
def sort_positions(x: Value, descending: bool) -> Value:
    """Where along the last axis the smallest element is, the next, ...; equal ones in order."""


@sort_positions.batching
def _positions_batch(size: int, flags: Any, x: Any, descending: bool) -> Any:
    return sort_positions(x, descending)


# ---- argsort, sort, topk -------------------------------------------------------------------------


def _moved(x: Any, at: int) -> Any:
    """Axis `at` last."""
    return x if at == x.ndim - 1 else permute(x, (*(a for a in range(x.ndim) if a != at), at))


def _moved_back(x: Any, at: int) -> Any:
    last = x.ndim - 1
    return x if at == last else permute(x, (*range(at), last, *range(at, last)))


def _order(name: str, x: Any, axis: int, descending: bool) -> tuple[Any, int]:
    """Positions with the axis last, and which axis that was."""
    at = axis_of(name, axis, x.ndim)
    return sort_positions(_moved(x, at), bool(descending)), at


def _picked(x: Any, positions: Any) -> Any:
    """Elements at positions along the last axis."""
    if x.ndim == 1:
        return take(x, positions, 0)
    lines, size = sizes.product(x.shape[:-1]), x.shape[-1]
    starts = multiply(iota.like(x, (lines, 1), 0, int64), extent.like(x, size, int64))
    places = add(reshape(positions, (lines, positions.shape[-1])), starts)
    return reshape(take(reshape(x, (lines * size,)), places, 0), positions.shape)


def _axis_samples() -> list[Sample]:
    cases = (((5,), -1), ((3, 4), 0), ((2, 3, 4), 1), ((2, 70), -1), ((1,), 0), ((2, 0), 1))
    return [
        Sample((Draw(s, kind="distinct"),), {"axis": a, "descending": d, "stable": True}, NUMERIC)
        for s, a in cases
        for d in (False, True)
    ]


def _argsort_reference(x: np.ndarray, axis: int, descending: bool, stable: bool) -> np.ndarray:
    found = _positions(np.moveaxis(x, axis, -1), descending)
    return np.moveaxis(found, -1, axis)


@op("composite", differentiable=False, reference=_argsort_reference, samples=_axis_samples)
def argsort(x: Value, axis: int = -1, descending: bool = False, stable: bool = True) -> Value:
    """The positions along `axis` of its elements in order; int64.

    Equal elements keep their order, whatever `stable` says; NaN counts as the largest.

    >>> rb.argsort(rb.asarray([3.0, 1.0, 2.0]))
    tensor([1, 2, 0])
    """
    found, at = _order("argsort", x, axis, descending)
    return _moved_back(found, at)


@op(
    "composite",
    reference=lambda x, axis, descending, stable: np.take_along_axis(
        x, _argsort_reference(x, axis, descending, stable), axis
    ),
    samples=_axis_samples,
)
def sort(x: Value, axis: int = -1, descending: bool = False, stable: bool = True) -> Value:
    """The elements in order along `axis`; NaN counts as the largest.

    >>> rb.sort(rb.asarray([3.0, 1.0, 2.0]), descending=True)
    tensor([3., 2., 1.])
    """
    found, at = _order("sort", x, axis, descending)
    return _moved_back(_picked(_moved(x, at), found), at)


def _topk_reference(
    x: np.ndarray, k: int, axis: int, largest: bool, sorted: bool
) -> tuple[np.ndarray, np.ndarray]:
    order = np.take(_argsort_reference(x, axis, largest, True), np.arange(k), axis)
    return np.take_along_axis(x, order, axis), order


@op(
    "composite",
    outputs=2,
    sizes=("k",),
    reference=_topk_reference,
    samples=lambda: [
        Sample(
            (Draw(s, kind="distinct"),), {"k": k, "axis": a, "largest": d, "sorted": True}, NUMERIC
        )
        for s, k, a, d in (((5,), 2, -1, True), ((3, 4), 3, 0, False), ((2, 70), 5, 1, True))
    ],
    onnx="TopK",
)
def topk(
    x: Value, k: int, axis: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Value, Value]:
    """The `k` largest (or smallest) elements along `axis` in order, and their positions.

    Of equal ones the first come first; NaN counts as the largest. Raises ShapeError where there are
    fewer than `k`.

    >>> rb.topk(rb.asarray([3.0, 1.0, 2.0]), 2)
    (tensor([3., 2.]), tensor([0, 2]))
    """
    at = axis_of("topk", axis, x.ndim)
    if not 0 <= k <= x.shape[at]:
        raise ShapeError(f"topk: k={k} of axis {at} of {show(x.shape)}")
    found, at = _order("topk", x, axis, largest)
    found = cut(found, x.ndim - 1, 0, k)
    return _moved_back(_picked(_moved(x, at), found), at), _moved_back(found, at)


# ---- searching -----------------------------------------------------------------------------------


def _before(x: Any, y: Any, or_equal: bool) -> Any:
    """x < y (or <=) in the order of sort: NaN is the largest, and equal to itself."""
    found = less_equal(x, y) if or_equal else less(x, y)
    if not x.dtype.is_float:
        return found
    last = isnan(y) if or_equal else logical_and(isnan(y), logical_not(isnan(x)))
    return logical_or(found, last)


def _search_samples() -> list[Sample]:
    haystack = Draw((9,), -4, 4, kind="distinct")
    return [
        Sample((haystack, Draw(s, -5, 5)), {"side": side}, NUMERIC)
        for s in ((7,), (2, 3), (), (0,))
        for side in ("left", "right")
    ]


def _search_reference(x1: np.ndarray, x2: np.ndarray, side: Any) -> np.ndarray:
    """Counted, so that it is defined for vectors that are not sorted as well."""
    lo = np.zeros(x2.shape, np.int64)
    for n in _steps(x1.shape[0]):
        probe = lo + n
        inside = probe <= x1.shape[0]
        at = x1[np.minimum(probe, x1.shape[0]) - 1]
        nan = at.dtype.kind == "f"
        before = (at < x2) if side == "left" else (at <= x2)
        if nan:
            last = np.isnan(x2) & (~np.isnan(at) if side == "left" else True)
            before = before | last
        lo = np.where(inside & before, probe, lo)
    return lo


def _steps(size: Any) -> list[int]:
    """Powers of two from the largest that is not above `size` down to 1."""
    found: list[int] = []
    step = 1
    while step <= size:
        found.append(step)
        step *= 2
    return found[::-1]


@op(
    "composite",
    method=None,
    promote="common",
    differentiable=False,
    reference=_search_reference,
    samples=_search_samples,
)
def searchsorted(x1: Value, x2: Value, side: str = "left") -> Value:
    """Where elements of `x2` would stand in the ascending vector `x1`: (n,), (*s) -> (*s), int64.

    "left": before equal elements, "right": behind them. NaN counts as the largest.

    >>> rb.searchsorted(rb.asarray([1, 3, 5]), rb.asarray([3, 4]))
    tensor([1, 2])
    """
    if x1.ndim != 1:
        raise ShapeError(f"searchsorted: {show(x1.shape)} is searched; it must be a vector")
    if side not in ("left", "right"):
        raise ValueError(f'searchsorted: side={side!r}; there are "left" and "right"')
    size = x1.shape[0]
    found = full(number(x2, 0, int64), x2.shape)
    length = extent.like(x2, size, int64)
    for step in _steps(size):  # as many elements stand before as were found, and `step` more?
        probe = add(found, step)
        last = add(minimum(probe, length), -1)
        before = _before(take(x1, last, 0), x2, side == "right")
        found = where(logical_and(less_equal(probe, length), before), probe, found)
    return found


@op(
    "composite",
    method=None,
    differentiable=False,
    reference=lambda x, boundaries, right: _search_reference(
        boundaries, x, "right" if right else "left"
    ),
    samples=lambda: [
        Sample((Draw((3, 4), -5, 5), Draw((6,), -4, 4, kind="distinct")), {"right": r}, NUMERIC)
        for r in (False, True)
    ],
)
def bucketize(x: Value, boundaries: Value, right: bool = False) -> Value:
    """The bucket between ascending `boundaries` that every element falls in; int64.

    An element equal to a boundary falls in the bucket below it, with `right` in the one above.

    >>> rb.bucketize(rb.asarray([0.5, 1.0, 9.0]), rb.asarray([1.0, 2.0]))
    tensor([0, 0, 2])
    """
    return searchsorted(boundaries, x, "right" if right else "left")
