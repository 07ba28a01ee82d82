"""Reading and writing at computed places: take, scatter, and Python's indexing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rabbet.base import shapes, sizes
from rabbet.base.dtypes import DType, default_float, int64
from rabbet.base.errors import DTypeError, IndexRangeError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.sizes import Dim, SizeExpr
from rabbet.base.spec import Spec
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import ALL, FLOATS, INTEGERS, Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.arithmetic import add, cast, multiply
from rabbet.ops.compare import equal, greater_equal, less, logical_and, where
from rabbet.ops.create import extent, full, iota, number, zeros_like
from rabbet.ops.moves import expand, pad, permute, reshape, slice_, turn

# ---- primitives ----------------------------------------------------------------------------------


def _check_indices(name: str, indices: Any) -> None:
    if not indices.dtype.is_integer:
        raise DTypeError(f"{name}: indices are {indices.dtype.name}, integers are needed")


def _take_spec(x: Spec, indices: Spec, axis: int) -> Spec:
    _check_indices("take", indices)
    at = axis_of("take", axis, x.ndim)
    return x.with_shape((*x.shape[:at], *indices.shape, *x.shape[at + 1 :]))


def _in_range(name: str, indices: np.ndarray, extent_: int) -> np.ndarray:
    wrong = (indices < -extent_) | (indices >= extent_)
    if wrong.any():
        first = int(indices[wrong].reshape(-1)[0])
        raise IndexRangeError(f"{name}: index {first} is outside an axis of size {extent_}")
    return np.where(indices < 0, indices + extent_, indices).astype(np.int64)


def _take_array(x: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    return np.take(x, _in_range("take", indices, x.shape[axis]), axis)


def _take_samples() -> list[Sample]:
    def sample(
        shape: Any, places: Any, axis: int, dtypes: Any = FLOATS, kind: str = "int64"
    ) -> Any:
        n = shape[axis]
        return Sample((Draw(shape), Draw(places, -n, n, "int", dtype=kind)), {"axis": axis}, dtypes)

    return [
        sample((5, 3), (4,), 0, ALL),
        sample((2, 5, 3), (2, 4), 1),
        sample((2, 5), (), -1),
        sample((2, 5), (0,), 0),
        sample((5,), (3,), 0, kind="int32"),
        sample((1,), (1,), 0),
    ]


@op("gather", infer=_take_spec, reference=_take_array, samples=_take_samples)
def take(x: Value, indices: Value, axis: int = 0) -> Value:
    """Elements at `indices` along `axis`, whose place the axes of `indices` take.

    Negative indices count from the end. An index outside the axis is an IndexRangeError when run.

    >>> rb.take(rb.asarray([10, 20, 30]), rb.asarray([2, 0]), axis=0)
    tensor([30, 10])
    """


@take.gradient
def _take_gradient(g: Any, y: Any, x: Any, indices: Any, axis: int) -> tuple[Any, None]:
    return scatter_add(zeros_like(x), indices, g, axis), None


@take.batching
def _take_batch(size: int, flags: Flags, x: Any, indices: Any, axis: int) -> Any:
    at = axis % (x.ndim - flags[0])
    if not flags[1]:
        return take(x, indices, at + 1)
    if not flags[0]:
        found = take(x, indices, at)
        rest = (a for a in range(found.ndim) if a != at)
        return permute(found, (at, *rest))
    found = take(_rows(x, at), _places(indices, size, x.shape[at + 1]), 0)
    first = indices.ndim
    order = (*range(first, first + at), *range(1, first), *range(first + at, found.ndim))
    return permute(found, (0, *order))


def _rows(x: Any, at: int) -> Any:
    """Examples with their axis `at` next to them, and both as one axis."""
    order = (0, at + 1, *(a for a in range(1, x.ndim) if a != at + 1))
    return reshape(permute(x, order), (x.shape[0] * x.shape[at + 1], *_without(x.shape[1:], at)))


def _without(shape: Sequence[Dim], at: int) -> tuple[Dim, ...]:
    return (*shape[:at], *shape[at + 1 :])


def _places(indices: Any, size: int, length: Dim) -> Any:
    """Indices into each example as indices into the rows of all; out of range is found here."""
    inside = take(iota.like(indices, (length,), 0, int64), indices, 0)
    example = iota.like(indices, (size, *(1,) * (indices.ndim - 1)), 0, int64)
    return inside + example * length


def _scatter_batch(name: str) -> Callable[..., Any]:
    def rule(size: int, flags: Flags, base: Any, indices: Any, updates: Any, axis: int) -> Any:
        scatter = lookup(name)
        base = base if flags[0] else expand(base, (size, *base.shape))
        updates = updates if flags[2] else expand(updates, (size, *updates.shape))
        at = axis % (base.ndim - 1)
        if not flags[1]:
            return scatter(base, indices, updates, at + 1)
        length, rank = base.shape[at + 1], indices.ndim - 1
        middle = range(at + 1, at + 1 + rank)
        order = (0, *middle, *(a for a in range(1, updates.ndim) if a not in middle))
        flat = scatter(_rows(base, at), _places(indices, size, length), permute(updates, order), 0)
        found = reshape(flat, (size, length, *_without(base.shape[1:], at)))
        return permute(found, (0, *range(2, at + 2), 1, *range(at + 2, found.ndim)))

    return rule


def _scatter_spec(name: str) -> Callable[..., Spec]:
    def infer(base: Spec, indices: Spec, updates: Spec, axis: int) -> Spec:
        _check_indices(name, indices)
        at = axis_of(name, axis, base.ndim)
        wanted = (*base.shape[:at], *indices.shape, *base.shape[at + 1 :])
        same = len(wanted) == updates.ndim and all(
            sizes.same(d, e) or d == e for d, e in zip(wanted, updates.shape, strict=True)
        )
        if not same:
            raise ShapeError(
                f"{name}: base {show(base.shape)} with indices {show(indices.shape)} along axis "
                f"{at} needs updates {show(wanted)}, not {show(updates.shape)}"
            )
        if base.dtype is not updates.dtype:
            raise DTypeError(
                f"{name}: base is {base.dtype.name} and updates are {updates.dtype.name}; cast one"
            )
        return base

    return infer


def _scatter_array(
    name: str, base: np.ndarray, indices: np.ndarray, updates: np.ndarray, axis: int
) -> np.ndarray:
    at = axis % base.ndim
    places = _in_range(name, indices, base.shape[at]).reshape(-1)
    found = np.moveaxis(base, at, 0).copy()
    rest = (*range(at, at + indices.ndim), *range(at), *range(at + indices.ndim, updates.ndim))
    lines = np.transpose(updates, rest).reshape((places.size, *found.shape[1:]))
    for place, line in zip(places, lines, strict=True):
        found[place] = found[place] + line if name == "scatter_add" else line
    return np.moveaxis(found, 0, at)


def _scatter_samples(dtypes_: tuple[str, ...]) -> Callable[[], list[Sample]]:
    def samples() -> list[Sample]:
        cases = (
            *(((5, 3), (4,), 0), ((2, 5, 3), (2, 4), 1), ((2, 5), (), -1), ((2, 3), (0,), 0)),
            *(((4,), (9,), 0), ((1,), (1,), 0)),
        )
        found = []
        for base, places, axis in cases:
            at, n = axis % len(base), base[axis]
            updates = (*base[:at], *places, *base[at + 1 :])
            operands = (Draw(base), Draw(places, -n, n, "int"), Draw(updates))
            found.append(Sample(operands, {"axis": axis}, dtypes_))
        return found

    return samples


@op(
    "scatter",
    lower="add",
    method=None,
    infer=_scatter_spec("scatter_add"),
    reference=lambda *x: _scatter_array("scatter_add", *x),
    samples=_scatter_samples(("int32", *FLOATS)),
)
def scatter_add(base: Value, indices: Value, updates: Value, axis: int = 0) -> Value:
    """`base` with `updates` added at `indices` along `axis`: the opposite of `take`.

    Updates of one place are added in their order, so the result never depends on threads.

    >>> rb.scatter_add(rb.zeros(3), rb.asarray([0, 2, 0]), rb.ones(3))
    tensor([2., 0., 1.])
    """


@scatter_add.gradient
def _scatter_add_gradient(
    g: Any, y: Any, base: Any, indices: Any, updates: Any, axis: int
) -> tuple[Any, None, Any]:
    return g, None, take(g, indices, axis)


scatter_add.batching(_scatter_batch("scatter_add"))


@op(
    "scatter",
    lower="set",
    method=None,
    infer=_scatter_spec("scatter_set"),
    reference=lambda *x: _scatter_array("scatter_set", *x),
    samples=_scatter_samples(ALL),
)
def scatter_set(base: Value, indices: Value, updates: Value, axis: int = 0) -> Value:
    """`base` with `updates` in place of what was at `indices` along `axis`; the last one wins."""


@scatter_set.gradient
def _scatter_set_gradient(
    g: Any, y: Any, base: Any, indices: Any, updates: Any, axis: int
) -> tuple[Any, None, Any]:
    # Only the update that won has a slope: write every update's number, and see whose is left.
    at = axis_of("scatter_set", axis, base.ndim)
    count = sizes.product(indices.shape)
    ticket = reshape(iota.like(g, (count,), 0, int64), indices.shape)
    board = full(number(g, -1, int64), (base.shape[at],))
    won = equal(take(scatter_set(board, indices, ticket, 0), indices, 0), ticket)
    won = reshape(won, (*indices.shape, *(1,) * (base.ndim - at - 1)))
    return (
        scatter_set(g, indices, zeros_like(updates), axis),
        None,
        where(won, take(g, indices, axis), 0.0),
    )


scatter_set.batching(_scatter_batch("scatter_set"))


# ---- composites ----------------------------------------------------------------------------------


def checked_places(indices: Any, size: Dim) -> tuple[Any, Any]:
    """int64 indices counted from the start, and where they lie inside an axis of `size`."""
    places = cast(indices, int64)
    length = extent.like(places, size, int64)
    places = where(less(places, 0), add(places, length), places)
    return places, logical_and(greater_equal(places, 0), less(places, length))


def _flat_places(indices: Sequence[Any], dims: Sequence[Dim]) -> Any:
    """Row-major position of several indices; out of range where one of them is."""
    total = sizes.product(list(dims))
    found, valid = checked_places(indices[0], dims[0])
    for other, size in zip(indices[1:], dims[1:], strict=True):
        places, inside = checked_places(other, size)
        found = add(multiply(found, extent.like(found, size, int64)), places)
        valid = logical_and(valid, inside)
    return where(valid, found, extent.like(found, total, int64))


def _along_array(x: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    return np.take_along_axis(x, _in_range("take_along_axis", indices, x.shape[axis]), axis)


@op(
    "composite",
    reference=_along_array,
    samples=lambda: [
        Sample((Draw(s), Draw(t, -s[a], s[a], "int")), {"axis": a})
        for s, t, a in (
            *(((3, 4), (3, 2), 1), ((3, 4), (5, 4), 0), ((2, 3, 4), (2, 1, 4), -2)),
            *(((4,), (2,), -1), ((2, 3), (2, 0), 1)),
        )
    ],
)
def take_along_axis(x: Value, indices: Value, axis: int = -1) -> Value:
    """One element per index along `axis`; the other axes of `x` and `indices` agree.

    y[i, j] = x[i, indices[i, j]] for the last of two axes.

    >>> rb.take_along_axis(rb.asarray([[1, 2], [3, 4]]), rb.asarray([[1], [0]]), axis=1)
    tensor([[2],
            [3]])
    """
    at = axis_of("take_along_axis", axis, x.ndim)
    _check_indices("take_along_axis", indices)
    pairs = zip(x.shape, indices.shape, strict=False)
    if indices.ndim != x.ndim or any(
        a != at and not sizes.same(d, e) and d != e for a, (d, e) in enumerate(pairs)
    ):
        raise ShapeError(
            f"take_along_axis: {show(x.shape)} and indices {show(indices.shape)} may differ "
            f"only in axis {at}"
        )
    places = [indices if a == at else iota.like(x, indices.shape, a, int64) for a in range(x.ndim)]
    flat = reshape(x, (sizes.product(x.shape),))
    return take(flat, _flat_places(places, x.shape), 0)


def _one_hot_array(x: np.ndarray, num_classes: int, dtype: DType | None) -> np.ndarray:
    return (x[..., None] == np.arange(num_classes)).astype((dtype or default_float).numpy)


@op(
    "composite",
    differentiable=False,
    method=None,
    sizes=("num_classes",),
    reference=_one_hot_array,
    samples=lambda: [
        Sample((Draw((2, 3), 0, 5),), {"num_classes": 5, "dtype": None}, INTEGERS),
        Sample((Draw((), -2, 9, "int"),), {"num_classes": 4, "dtype": int64}),
        Sample((Draw((0,), kind="int"),), {"num_classes": 3, "dtype": None}),
    ],
)
def one_hot(x: Value, num_classes: Dim, dtype: DType | None = None) -> Value:
    """Class numbers as rows with a single one: (*s) -> (*s, num_classes); float32 unless told.

    A number that is no class gives a row of zeros. Raises DTypeError unless `x` holds integers.

    >>> rb.one_hot(rb.asarray([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if not x.dtype.is_integer:
        raise DTypeError(f"one_hot: class numbers are {x.dtype.name}, integers are needed")
    classes = iota.like(x, (*(1,) * x.ndim, num_classes), x.ndim, int64)
    labels = reshape(cast(x, int64), (*x.shape, 1))
    return cast(equal(labels, classes), dtype or default_float)


# ---- x[key] and x[key] = value -----------------------------------------------------------------


class _Basic(NamedTuple):
    """What a key of ints and slices does: a slice, then axes dropped and added."""

    start: tuple[Dim, ...]
    stop: tuple[Dim, ...]
    step: tuple[int, ...]
    shape: tuple[Dim, ...]  # after dropping the axes of ints and adding those of None
    arrays: dict[int, Any]  # index tensors by axis of `shape`


def getitem(x: Any, key: Any) -> Any:
    """x[key] for ints, slices, `...`, None and integer tensors; `x` itself where nothing changes.

    Ints are taken first, as in PyTorch: an int beside index tensors does not count as one of them.

    Raises IndexRangeError for a number outside its axis, ShapeError for too many indices.
    """
    basic = _parse(x, key)
    y = _sliced(x, basic)
    if not basic.arrays:
        return y
    axes = sorted(basic.arrays)
    together = shapes.broadcast("index", *(basic.arrays[a].shape for a in axes))
    indices = [_stretched(basic.arrays[a], together) for a in axes]
    if len(axes) == 1:
        return take(y, indices[0], axes[0])
    y, first = _gathered(y, axes)
    dims = [basic.shape[a] for a in axes]
    lead, rest = y.shape[:first], y.shape[first + len(axes) :]
    flat = reshape(y, (*lead, sizes.product(dims), *rest))
    return take(flat, _flat_places(indices, dims), first)


def setitem(x: Any, key: Any, value: Any) -> Any:
    """What `x` becomes by x[key] = value; `value` (of x's dtype) broadcasts to the shape of x[key].

    Where index tensors name a place twice the last one wins.
    """
    basic = _parse(x, key)
    if not basic.arrays:
        return _set_basic(x, basic, value)
    y = _sliced(x, basic)
    axes = sorted(basic.arrays)
    together = shapes.broadcast("index", *(basic.arrays[a].shape for a in axes))
    indices = [_stretched(basic.arrays[a], together) for a in axes]
    moved, first = _gathered(y, axes)
    dims = [basic.shape[a] for a in axes]
    lead, rest = moved.shape[:first], moved.shape[first + len(axes) :]
    flat = reshape(moved, (*lead, sizes.product(dims), *rest))
    places = _flat_places(indices, dims) if len(axes) > 1 else indices[0]
    updates = _fitted(value, (*lead, *together, *rest))
    changed = reshape(scatter_set(flat, places, updates, first), moved.shape)
    if moved is not y:
        order = _gathering_order(y.ndim, axes)
        changed = permute(changed, tuple(order.index(a) for a in range(y.ndim)))
    return changed if y is x else _set_basic(x, basic, changed)


def _stretched(x: Any, shape: tuple[Dim, ...]) -> Any:
    equal_ = x.ndim == len(shape) and all(map(sizes.same, x.shape, shape))
    return x if equal_ else expand(x, shape)


def _fitted(value: Any, shape: tuple[Dim, ...]) -> Any:
    """A value to be written, broadcast to the shape of the place; leading axes of size 1 go."""
    extra = max(value.ndim - len(shape), 0)
    try:
        return _stretched(reshape(value, value.shape[extra:]) if extra else value, shape)
    except ShapeError:
        raise ShapeError(
            f"index: a value of shape {show(value.shape)} does not fit in x[key] of shape "
            f"{show(shape)}"
        ) from None


def _gathering_order(rank: int, axes: list[int]) -> list[int]:
    """Index tensors that stand apart move to the front, as in NumPy."""
    return [*axes, *(a for a in range(rank) if a not in axes)]


def _gathered(y: Any, axes: list[int]) -> tuple[Any, int]:
    """`y` with the indexed axes side by side, and the first of them."""
    if axes == list(range(axes[0], axes[0] + len(axes))):
        return y, axes[0]
    return permute(y, tuple(_gathering_order(y.ndim, axes))), 0


def _sliced(x: Any, basic: _Basic) -> Any:
    whole = all(
        s == 1 and sizes.same(a, 0) and sizes.same(b, n)
        for a, b, s, n in zip(basic.start, basic.stop, basic.step, x.shape, strict=True)
    )
    y = x if whole else slice_(x, basic.start, basic.stop, basic.step)
    same = y.ndim == len(basic.shape) and all(map(sizes.same, y.shape, basic.shape))
    return y if same else reshape(y, basic.shape)


def _set_basic(x: Any, basic: _Basic, value: Any) -> Any:
    """The value padded to x's shape, where the key reaches; x elsewhere."""
    value = _fitted(value, basic.shape)
    probe = slice_(x, basic.start, basic.stop, basic.step)
    value = value if value.shape == probe.shape else reshape(value, probe.shape)
    low, high, gaps, mask = [], [], [], None
    backward = tuple(a for a, s in enumerate(basic.step) if s < 0)
    value = turn(value, backward) if backward else value
    for axis, n in enumerate(x.shape):
        a, b, s = basic.start[axis], basic.stop[axis], basic.step[axis]
        count = probe.shape[axis]
        if s != 1:
            if count == 0:
                return x
            a, b, s = (a, a + (count - 1) * s + 1, s) if s > 0 else (a + (count - 1) * s, a + 1, -s)
        low.append(a)
        high.append(n - b)
        gaps.append(s - 1)
        mask = _reached(x, axis, a, b, s, mask)
    if mask is None:
        return value
    return where(mask, pad(value, tuple(low), tuple(high), tuple(gaps)), x)


def _reached(x: Any, axis: int, start: Dim, stop: Dim, step: int, mask: Any) -> Any:
    """The mask, narrowed to the positions of one axis that a slice reaches."""
    n = x.shape[axis]
    if step == 1 and sizes.same(start, 0) and sizes.same(stop, n):
        return mask
    line = tuple(n if a == axis else 1 for a in range(x.ndim))
    at = iota.like(x, line, axis, int64)
    first = number(x, start, int64)
    here = logical_and(greater_equal(at, first), less(at, number(x, stop, int64)))
    if step != 1:
        here = logical_and(here, equal((at - first) % step, 0))
    return here if mask is None else logical_and(mask, here)


def _parse(x: Any, key: Any) -> _Basic:
    items = list(key) if isinstance(key, tuple) else [key]
    used = sum(1 for k in items if k is not None and k is not Ellipsis)
    if used > x.ndim:
        raise ShapeError(f"index: {show(x.shape)} has {x.ndim} axes, the key has {used} indices")
    if sum(1 for k in items if k is Ellipsis) > 1:
        raise ShapeError("index: a key may hold one ... only")
    if not any(k is Ellipsis for k in items):
        items.append(Ellipsis)
    at = next(i for i, k in enumerate(items) if k is Ellipsis)
    items[at : at + 1] = [slice(None)] * (x.ndim - used)
    start: list[Dim] = []
    stop: list[Dim] = []
    step: list[int] = []
    shape: list[Dim] = []
    arrays: dict[int, Any] = {}
    for item in items:
        if item is None:
            shape.append(1)
            continue
        n = x.shape[len(start)]
        first, last, stride, size = _parse_item(item, n, len(start))
        start.append(first)
        stop.append(last)
        step.append(stride)
        if hasattr(item, "emit"):
            arrays[len(shape)] = item
        if size is not None:
            shape.append(size)
    return _Basic(tuple(start), tuple(stop), tuple(step), tuple(shape), arrays)


def _parse_item(item: Any, n: Dim, axis: int) -> tuple[Dim, Dim, int, Dim | None]:
    """Canonical start, stop, step of one index, and the size it leaves (None: the axis goes)."""
    if hasattr(item, "emit"):
        _check_indices("index", item)
        return 0, n, 1, n
    if isinstance(item, slice):
        first, last, stride = canonical_slice(item, n)
        size = n if item == slice(None) else _length(first, last, stride)
        return first, last, stride, size
    if isinstance(item, bool) or not (hasattr(item, "__index__") or isinstance(item, SizeExpr)):
        raise ShapeError(f"index: {item!r} is not an index; use ints, slices, None, ... or tensors")
    place = item if isinstance(item, SizeExpr) else item.__index__()
    if not (-n <= place and place < n):
        raise IndexRangeError(f"index: {place} is outside axis {axis} of size {n}")
    place = place + n if place < 0 else place
    return place, place + 1, 1, None


def _length(start: Dim, stop: Dim, step: int) -> Dim:
    if step > 0:
        return stop - start if step == 1 else (stop - start + (step - 1)) // step
    return (start - stop - step - 1) // -step


def canonical_slice(item: slice, n: Dim) -> tuple[Dim, Dim, int]:
    """start, stop and step as `slice_` wants them: inside the axis and in order of the step."""
    step = 1 if item.step is None else item.step.__index__()
    if step == 0:
        raise ShapeError("index: the step of a slice is 0")
    if step > 0:
        start = _clamped(item.start, n, 0, 0, n)
        stop = _clamped(item.stop, n, n, 0, n)
        return start, start if stop < start else stop, step
    start = _clamped(item.start, n, n - 1, -1, n - 1)
    stop = _clamped(item.stop, n, -1, -1, n - 1)
    return start, start if start < stop else stop, step


def _clamped(given: Any, n: Dim, default: Dim, low: Dim, high: Dim) -> Dim:
    if given is None:
        return default
    place = given if isinstance(given, SizeExpr) else given.__index__()
    if sizes.same(place, high):
        return place
    place = place + n if place < 0 else place
    if place < low:
        return low
    return high if place > high else place
