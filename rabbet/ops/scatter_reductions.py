"""Writing at computed places with another rule than the sum: extremes, products, means; writing one
element per index along an axis; extremes and products of segments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import DType, dtype_of, int64
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, NUMERIC, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import cast, divide, floor_divide, maximum, multiply
from rabbet.ops.checks import agree, need_choice
from rabbet.ops.compare import equal, where
from rabbet.ops.create import full, iota, number, ones_like, zeros_like
from rabbet.ops.gather_scatter import (
    check_indices,
    checked_places,
    flat_places,
    scatter_add,
    scatter_array,
    scatter_batch,
    scatter_samples,
    scatter_set,
    scatter_spec,
    take,
)
from rabbet.ops.index_maps import reshape

# ---- primitives ----------------------------------------------------------------------------------


def _numeric_spec(name: str) -> Callable[..., Spec]:
    rule = scatter_spec(name)

    def infer(base: Spec, indices: Spec, updates: Spec, axis: int) -> Spec:
        if base.dtype.kind not in "iuf":
            raise DTypeError(f"{name}: {base.dtype.name} is not supported; cast to a real number")
        return rule(base, indices, updates, axis)

    return infer


@op(
    "scatter",
    lower="max",
    method=None,
    public=False,
    infer=_numeric_spec("scatter_max"),
    reference=lambda *x: scatter_array("scatter_max", *x),
    samples=scatter_samples(NUMERIC, "distinct"),
    onnx="ScatterElements",
)
def scatter_max(base: Value, indices: Value, updates: Value, axis: int = 0) -> Value:
    """The larger of `base` and the `updates` at `indices` along `axis`; NaN wins."""


@op(
    "scatter",
    lower="min",
    method=None,
    public=False,
    infer=_numeric_spec("scatter_min"),
    reference=lambda *x: scatter_array("scatter_min", *x),
    samples=scatter_samples(NUMERIC, "distinct"),
    onnx="ScatterElements",
)
def scatter_min(base: Value, indices: Value, updates: Value, axis: int = 0) -> Value:
    """The smaller of `base` and the `updates` at `indices` along `axis`; NaN wins."""


def _extreme_gradient(
    g: Any, y: Any, base: Any, indices: Any, updates: Any, axis: int
) -> tuple[Any, None, Any]:
    # The gradient is split evenly among equal ones, as in max and min.
    kept = cast(equal(base, y), g.dtype)
    won = cast(equal(updates, take(y, indices, axis)), g.dtype)
    share = divide(g, scatter_add(kept, indices, won, axis))
    return multiply(kept, share), None, multiply(won, take(share, indices, axis))


@op(
    "scatter",
    lower="mul",
    method=None,
    public=False,
    infer=_numeric_spec("scatter_mul"),
    reference=lambda *x: scatter_array("scatter_mul", *x),
    samples=scatter_samples(("int32", *FLOATS), "distinct"),
    onnx="ScatterElements",
)
def scatter_mul(base: Value, indices: Value, updates: Value, axis: int = 0) -> Value:
    """`base` times the `updates` at `indices` along `axis`, in their order."""


@scatter_mul.gradient
def _scatter_mul_gradient(
    g: Any, y: Any, base: Any, indices: Any, updates: Any, axis: int
) -> tuple[Any, None, Any]:
    # Without zeros the slope is y / x. A single zero leaves the product of the others to itself.
    none, empty = equal(base, 0.0), equal(updates, 0.0)
    count = scatter_add(cast(none, int64), indices, cast(empty, int64), axis)
    rest = scatter_mul(where(none, 1.0, base), indices, where(empty, 1.0, updates), axis)

    def slope(x: Any, zero: Any, count: Any, rest: Any, g: Any) -> Any:
        others = divide(rest, where(zero, 1.0, x))
        return where(equal(count, cast(zero, int64)), multiply(g, others), 0.0)

    below = (take(v, indices, axis) for v in (count, rest, g))
    return slope(base, none, count, rest, g), None, slope(updates, empty, *below)


for _extreme in (scatter_max, scatter_min):
    _extreme.gradient(_extreme_gradient)
for _op in (scatter_max, scatter_min, scatter_mul):
    _op.batching(scatter_batch(_op.name))

# ---- one element per index -----------------------------------------------------------------------

_RULES = {"add": scatter_add, "mul": scatter_mul, "max": scatter_max, "min": scatter_min}
REDUCTIONS = ("set", *_RULES, "mean")


def identity(reduce: str, dtype: DType) -> float:
    """What a reduction starts from: it changes nothing."""
    if reduce in ("add", "mean", "mul"):
        return 1 if reduce == "mul" else 0
    if dtype.is_float:
        return -np.inf if reduce == "max" else np.inf
    limits = np.iinfo(dtype.numpy)
    return int(limits.min if reduce == "max" else limits.max)


def _put(base: Any, places: Any, updates: Any, reduce: str, include_self: bool) -> Any:
    """One axis: `updates` at `places` of `base`."""
    if reduce == "set":
        return scatter_set(base, places, updates, 0)
    if not include_self:
        start = full(number(base, identity(reduce, base.dtype), base.dtype), updates.shape)
        base = scatter_set(base, places, start, 0)
    if reduce != "mean":
        return _RULES[reduce](base, places, updates, 0)
    total = scatter_add(base, places, updates, 0)
    first = ones_like(base) if include_self else zeros_like(base)
    count = maximum(scatter_add(first, places, ones_like(updates), 0), 1)
    return divide(total, count) if base.dtype.is_float else floor_divide(total, count)


def _put_array(
    x: np.ndarray,
    indices: np.ndarray,
    updates: np.ndarray,
    axis: int,
    reduce: str,
    include_self: bool,
) -> np.ndarray:
    found = x.copy()
    at = axis % x.ndim
    groups: dict[tuple[int, ...], list[Any]] = {}
    for place in np.ndindex(*indices.shape):
        target = (*place[:at], int(indices[place]) % x.shape[at], *place[at + 1 :])
        groups.setdefault(target, []).append(updates[place])
    for target, values in groups.items():
        values = [x[target], *values] if include_self else values
        line = np.asarray(values, np.float64 if x.dtype.kind == "f" else x.dtype)
        rules: dict[str, Callable[[Any], Any]] = {
            "set": lambda v: v[-1],
            "add": np.sum,
            "mul": np.prod,
            "max": np.max,
            "min": np.min,
            "mean": lambda v: np.mean(v) if v.dtype.kind == "f" else np.sum(v) // v.size,
        }
        found[target] = rules[reduce](line)
    return found


def _put_samples() -> list[Sample]:
    cases = (
        *(((3, 4), (3, 2), 1, "set", True), ((3, 4), (5, 4), 0, "add", True)),
        *(((2, 3, 4), (2, 2, 3), -2, "mul", True), ((4,), (6,), -1, "max", True)),
        *(((4, 2), (5, 2), 0, "min", False), ((4,), (6,), 0, "mean", True)),
        *(((3, 3), (4, 2), 0, "mean", False), ((4,), (6,), 0, "add", False)),
        *(((2, 3), (2, 0), 1, "add", True), ((4,), (5,), 0, "mul", False)),
    )
    return [
        Sample(
            (Draw(s, 0.6, 1.4, "distinct"), Draw(t, -s[a], s[a], "int"), Draw(t, 0.5, 1.5)),
            {"axis": a, "reduce": r, "include_self": i},
            ("int32", *FLOATS),
        )
        for s, t, a, r, i in cases
    ]


@op("composite", method=None, reference=_put_array, samples=_put_samples, onnx="ScatterElements")
def put_along_axis(
    x: Value,
    indices: Value,
    updates: Value,
    axis: int = -1,
    reduce: str = "set",
    include_self: bool = True,
) -> Value:
    """`x` with one update per index along `axis`: the opposite of `take_along_axis`.

    y[i, indices[i, j]] = updates[i, j] for the last of two axes. `reduce` is "set" (the last one
    wins), "add", "mul", "max", "min" or "mean"; without `include_self` what stood there before does
    not count. Indices and updates of one shape, no larger than `x` in the other axes (ShapeError).

    >>> rb.put_along_axis(rb.zeros((2, 2)), rb.asarray([[1], [0]]), rb.ones((2, 1)))
    tensor([[0., 1.],
            [1., 0.]])
    """
    name = "put_along_axis"
    need_choice(name, "reduce", reduce, REDUCTIONS)
    if reduce != "set" and x.dtype.kind == "b":
        raise DTypeError(f"{name}: bool is not supported with reduce={reduce!r}; cast it")
    at = axis_of(name, axis, x.ndim)
    check_indices(name, indices)
    fits = (
        indices.ndim == updates.ndim == x.ndim
        and all(agree(d, e) for d, e in zip(indices.shape, updates.shape, strict=True))
        and all(
            a == at or agree(indices.shape[a], n) or indices.shape[a] <= n
            for a, n in enumerate(x.shape)
        )
    )
    if not fits:
        raise ShapeError(
            f"{name}: indices {show(indices.shape)} and updates {show(updates.shape)} must have "
            f"one shape, and fit in {show(x.shape)} but for axis {at}"
        )
    if x.dtype is not updates.dtype:
        raise DTypeError(f"{name}: x is {x.dtype.name}, updates are {updates.dtype.name}; cast one")
    places = [
        checked_places(indices, x.shape[at]) if a == at else iota.like(x, indices.shape, a, int64)
        for a in range(x.ndim)
    ]
    flat = reshape(x, (sizes.product(x.shape),))
    where_ = reshape(flat_places(places, x.shape), (sizes.product(indices.shape),))
    found = _put(flat, where_, reshape(updates, where_.shape), reduce, include_self)
    return reshape(found, x.shape)


# ---- rows ----------------------------------------------------------------------------------------


def _rows_array(
    x: np.ndarray, indices: np.ndarray, updates: np.ndarray, axis: int, reduce: str
) -> np.ndarray:
    line = indices.reshape((1,) * (axis % x.ndim) + (-1,) + (1,) * (x.ndim - axis % x.ndim - 1))
    return _put_array(x, np.broadcast_to(line, updates.shape), updates, axis, reduce, True)


@op(
    "composite",
    method=None,
    reference=_rows_array,
    samples=lambda: [
        Sample(
            (Draw(s, 0.6, 1.4, "distinct"), Draw((t[a],), 0, s[a], "int"), Draw(t, 0.5, 1.5)),
            {"axis": a, "reduce": r},
            ("int32", *FLOATS),
        )
        for s, t, a, r in (
            *(((3, 4), (5, 4), 0, "add"), ((3, 4), (3, 6), 1, "max"), ((4,), (5,), 0, "mul")),
            *(((3, 2), (4, 2), 0, "mean"), ((3, 2), (0, 2), 0, "min"), ((3, 2), (2, 2), 0, "set")),
        )
    ],
)
def index_reduce(
    x: Value, indices: Value, updates: Value, axis: int = 0, reduce: str = "add"
) -> Value:
    """`x` with the rows of `updates` along `axis` written at `indices`: (n,) of them.

    `reduce` as in `put_along_axis`. Raises ShapeError where the rows do not fit.

    >>> rb.index_reduce(rb.zeros(3), rb.asarray([0, 2, 0]), rb.ones(3), reduce="add")
    tensor([2., 0., 1.])
    """
    need_choice("index_reduce", "reduce", reduce, REDUCTIONS)
    if indices.ndim != 1:
        raise ShapeError(f"index_reduce: indices {show(indices.shape)} must be a vector")
    if reduce == "set":
        return scatter_set(x, indices, updates, axis)
    if reduce != "mean":
        return _RULES[reduce](x, indices, updates, axis)
    total = scatter_add(x, indices, updates, axis)
    count = scatter_add(ones_like(x), indices, ones_like(updates), axis)
    return divide(total, count) if x.dtype.is_float else floor_divide(total, count)


# ---- segments ------------------------------------------------------------------------------------


def _segment_reference(reduce: str) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, segment_ids: np.ndarray, num_segments: int) -> np.ndarray:
        shape = (num_segments, *x.shape[1:])
        start = identity(reduce, dtype_of(x.dtype))
        return scatter_array(f"scatter_{reduce}", np.full(shape, start, x.dtype), segment_ids, x, 0)

    return reference


def _segment_samples() -> list[Sample]:
    return [
        Sample(
            (Draw(s, 0.5, 1.5, "distinct"), Draw((s[0],), 0, n, "int")),
            {"num_segments": n},
            ("int32", *FLOATS),
            grad=slope,  # infinite where a segment is empty
        )
        for s, n, slope in (
            *(((20,), 2, True), ((6,), 3, False), ((5, 2), 1, True), ((1, 3), 1, True)),
            ((0, 2), 2, False),
        )
    ]


def _segments(name: str, x: Any, segment_ids: Any, num_segments: Dim, reduce: str) -> Any:
    if x.ndim < 1 or segment_ids.ndim != 1 or not agree(segment_ids.shape[0], x.shape[0]):
        raise ShapeError(
            f"{name}: {show(x.shape)} needs one segment for each row, not {show(segment_ids.shape)}"
        )
    if x.dtype.kind not in "iuf":
        raise DTypeError(f"{name}: {x.dtype.name} is not supported; cast to a real number")
    start = number(x, identity(reduce, x.dtype), x.dtype)
    base = full(start, (num_segments, *x.shape[1:]))
    return _RULES[reduce](base, segment_ids, x, 0)


@op(
    "composite",
    method=None,
    sizes=("num_segments",),
    reference=_segment_reference("max"),
    samples=_segment_samples,
)
def segment_max(x: Value, segment_ids: Value, num_segments: Dim) -> Value:
    """The largest row elements of each segment: (n, *s), (n,) -> (num_segments, *s).

    Where a segment has no rows, minus infinity (or the smallest integer). NaN wins.

    >>> rb.segment_max(rb.asarray([1, 2, 3]), rb.asarray([0, 1, 0]), 2)
    tensor([3, 2])
    """
    return _segments("segment_max", x, segment_ids, num_segments, "max")


@op(
    "composite",
    method=None,
    sizes=("num_segments",),
    reference=_segment_reference("min"),
    samples=_segment_samples,
)
def segment_min(x: Value, segment_ids: Value, num_segments: Dim) -> Value:
    """The smallest row elements of each segment, as `segment_max`; infinity for no rows.

    >>> rb.segment_min(rb.asarray([1, 2, 3]), rb.asarray([0, 1, 0]), 2)
    tensor([1, 2])
    """
    return _segments("segment_min", x, segment_ids, num_segments, "min")


@op(
    "composite",
    method=None,
    sizes=("num_segments",),
    reference=_segment_reference("mul"),
    samples=_segment_samples,
)
def segment_prod(x: Value, segment_ids: Value, num_segments: Dim) -> Value:
    """The products of the rows of each segment, as `segment_sum`; 1 for no rows.

    >>> rb.segment_prod(rb.asarray([1, 2, 3]), rb.asarray([0, 1, 0]), 2)
    tensor([3, 2])
    """
    return _segments("segment_prod", x, segment_ids, num_segments, "mul")
