"""Python's indexing: x[key] and x[key] = value, for ints, slices, `...`, None and index tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

from rabbet.base import shapes, sizes
from rabbet.base.dtypes import int64
from rabbet.base.errors import IndexKeyError, IndexRangeError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim, SizeExpr
from rabbet.base.spec import Spec
from rabbet.ops.gather_scatter import (
    check_indices,
    checked_places,
    flat_places,
    scatter_set,
    slice_set,
    take,
)
from rabbet.ops.index_maps import expand, permute, reshape, slice_


class _Basic(NamedTuple):
    """What a key of ints and slices does: a slice, then axes dropped and added."""

    start: tuple[Dim, ...]
    stop: tuple[Dim, ...]
    step: tuple[int, ...]
    shape: tuple[Dim, ...]  # after dropping the axes of ints and adding those of None
    axes: tuple[int | None, ...]  # where each axis of the slice is in `shape`; None for one dropped
    arrays: dict[int, Any]  # index tensors by axis of `shape`
    apart: bool  # something stands between ints and index tensors in the key


def getitem(x: Any, key: Any) -> Any:
    """x[key] for ints, slices, `...`, None and integer tensors; `x` itself where nothing changes.

    Index tensors (and ints beside them) broadcast together; the axes of the result that they make
    take the place of the first of them, or stand in front where something is between them (as in
    NumPy). Raises IndexRangeError for a number outside its axis, IndexKeyError for too many.
    """
    basic = _parse(x, key)
    y = _sliced(x, basic)
    if not basic.arrays:
        return y
    axes = sorted(basic.arrays)
    together = shapes.broadcast("index", *(basic.arrays[a].shape for a in axes))
    indices = [_stretched(basic.arrays[a], together) for a in axes]
    y, first = _gathered(y, axes, basic.apart)
    if len(axes) == 1:
        return take(y, indices[0], first)
    dims = [basic.shape[a] for a in axes]
    lead, rest = y.shape[:first], y.shape[first + len(axes) :]
    flat = reshape(y, (*lead, sizes.product(dims), *rest))
    return take(flat, _places(indices, dims), first)


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
    moved, first = _gathered(y, axes, basic.apart)
    dims = [basic.shape[a] for a in axes]
    lead, rest = moved.shape[:first], moved.shape[first + len(axes) :]
    flat = reshape(moved, (*lead, sizes.product(dims), *rest))
    places = _places(indices, dims) if len(axes) > 1 else indices[0]
    updates = _fitted(value, (*lead, *together, *rest))
    changed = reshape(scatter_set(flat, places, updates, first), moved.shape)
    if moved is not y:
        order = _gathering_order(y.ndim, axes)
        changed = permute(changed, tuple(order.index(a) for a in range(y.ndim)))
    return changed if y is x else _set_basic(x, basic, changed)


def _places(indices: list[Any], dims: list[Dim]) -> Any:
    """Indices of several axes as indices of these axes made one; each is checked by itself."""
    return flat_places([checked_places(i, d) for i, d in zip(indices, dims, strict=True)], dims)


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
    """Axes of index tensors that stand apart move to the front."""
    return [*axes, *(a for a in range(rank) if a not in axes)]


def _gathered(y: Any, axes: list[int], apart: bool) -> tuple[Any, int]:
    """`y` with the indexed axes side by side, and the first of them."""
    order = _gathering_order(y.ndim, axes)
    if not apart:
        return y, axes[0]
    return (y if order == list(range(y.ndim)) else permute(y, tuple(order))), 0


def basic_plan(
    shape: tuple[Dim, ...], key: Any
) -> tuple[tuple[tuple[Dim, ...], ...] | None, tuple[Dim, ...] | None]:
    """(start, stop, step) of the slice and the shape after it that x[key] is, for an x of `shape`
    and a key without tensors; None in the place of what changes nothing.
    """
    basic = _parse(Spec(shape, int64), key)
    cut = None if _is_whole(shape, basic) else (basic.start, basic.stop, basic.step)
    left = tuple(
        _length(a, b, s) for a, b, s in zip(basic.start, basic.stop, basic.step, strict=True)
    )
    return cut, None if left == basic.shape else basic.shape


def _is_whole(shape: tuple[Dim, ...], basic: _Basic) -> bool:
    return all(
        s == 1 and sizes.same(a, 0) and sizes.same(b, n)
        for a, b, s, n in zip(basic.start, basic.stop, basic.step, shape, strict=True)
    )


def _sliced(x: Any, basic: _Basic) -> Any:
    y = x if _is_whole(x.shape, basic) else slice_(x, basic.start, basic.stop, basic.step)
    same = y.ndim == len(basic.shape) and all(map(sizes.same, y.shape, basic.shape))
    return y if same else reshape(y, basic.shape)


def _set_basic(x: Any, basic: _Basic, value: Any) -> Any:
    """The value, broadcast, where the key reaches; x elsewhere."""
    shape = _place(x.shape, basic, value.shape)
    value = value if shape is None else reshape(value, shape)
    if _is_whole(x.shape, basic):
        return _stretched(value, x.shape)
    return slice_set(x, value, basic.start, basic.stop, basic.step)


def _place(shape: tuple[Dim, ...], basic: _Basic, value: tuple[Dim, ...]) -> tuple[Dim, ...] | None:
    """A value's shape with the axes of the slice it goes to, so that it broadcasts; None where it
    has them. Raises ShapeError where it does not fit.
    """
    extra = max(len(value) - len(basic.shape), 0)
    skip = len(basic.shape) - len(value) + extra
    dims = dict(enumerate(value[extra:], skip))  # by axis of the key's shape
    fits = all(d == 1 for d in value[:extra]) and all(
        d == 1 or sizes.same(d, basic.shape[a]) or d == basic.shape[a] for a, d in dims.items()
    )
    if not fits:
        raise ShapeError(
            f"index: a value of shape {show(value)} does not fit in x[key] of shape "
            f"{show(basic.shape)}"
        )
    kept = [dims.get(a, 1) if a is not None else 1 for a in basic.axes]
    while kept and len(kept) > len(value) and _is_one(kept[0]):
        kept.pop(0)
    return None if len(kept) == len(value) and all(map(sizes.same, kept, value)) else tuple(kept)


def _is_one(d: Dim) -> bool:
    return isinstance(d, int) and d == 1


def basic_write(
    shape: tuple[Dim, ...], key: Any, value: tuple[Dim, ...]
) -> tuple[tuple[tuple[Dim, ...], ...] | None, tuple[Dim, ...] | None]:
    """(start, stop, step) of the slice that x[key] = v writes to and v's shape there, for an x of
    `shape`, a key without tensors and v of shape `value`; None for what is whole, or as it is.
    """
    basic = _parse(Spec(shape, int64), key)
    whole = _is_whole(shape, basic)
    return (
        None if whole else (basic.start, basic.stop, basic.step),
        _place(shape, basic, value),
    )


def _parse(x: Any, key: Any) -> _Basic:
    items = list(key) if isinstance(key, tuple) else [key]
    used = sum(1 for k in items if k is not None and k is not Ellipsis)
    if used > x.ndim:
        raise IndexKeyError(f"index: {show(x.shape)} has {x.ndim} axes, the key has {used} indices")
    if sum(1 for k in items if k is Ellipsis) > 1:
        raise IndexKeyError("index: a key may hold one ... only")
    if not any(k is Ellipsis for k in items):
        items.append(Ellipsis)
    at = next(i for i, k in enumerate(items) if k is Ellipsis)
    items[at : at + 1] = [slice(None)] * (x.ndim - used)
    start: list[Dim] = []
    stop: list[Dim] = []
    step: list[int] = []
    shape: list[Dim] = []
    axes: list[int | None] = []
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
        axes.append(None if size is None else len(shape))
        if size is not None:
            shape.append(size)
    apart = _stand_apart(key if isinstance(key, tuple) else (key,))
    cut = tuple(start), tuple(stop), tuple(step)
    return _Basic(*cut, tuple(shape), tuple(axes), arrays, apart)


def _stand_apart(items: tuple[Any, ...]) -> bool:
    """Is anything between the first and the last of a key's ints and index tensors?"""
    plain = [k is None or k is Ellipsis or isinstance(k, slice) for k in items]
    places = [i for i, p in enumerate(plain) if not p]
    return bool(places) and len(places) != places[-1] - places[0] + 1


def _parse_item(item: Any, n: Dim, axis: int) -> tuple[Dim, Dim, int, Dim | None]:
    """Canonical start, stop, step of one index, and the size it leaves (None: the axis goes)."""
    if hasattr(item, "emit"):
        check_indices("index", item)
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
