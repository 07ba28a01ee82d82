"""Reading and writing at computed places: take and scatter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import DType, default_float, int64
from rabbet.base.errors import DTypeError, IndexRangeError, ShapeError
from rabbet.base.shapes import NEVER_FROM_END, Shape, axis_of, show
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import ALL, FLOATS, INTEGERS, Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.arithmetic import add, cast, multiply, subtract
from rabbet.ops.compare import equal, less, where
from rabbet.ops.create import extent, full, iota, number, zeros_like
from rabbet.ops.index_maps import expand, permute, reshape, slice_

# ---- primitives ----------------------------------------------------------------------------------


def check_indices(name: str, indices: Any) -> None:
    if not indices.dtype.is_integer:
        raise DTypeError(f"{name}: indices are {indices.dtype.name}, integers are needed")


def _take_spec(x: Spec, indices: Spec, axis: int) -> Spec:
    check_indices("take", indices)
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


@op("gather", infer=_take_spec, reference=_take_array, samples=_take_samples, onnx="Gather")
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
    inside = checked_places(indices, length)
    example = iota.like(indices, (size, *(1,) * (indices.ndim - 1)), 0, int64)
    return inside + example * length


JOINS: dict[str, Callable[[Any, Any], Any]] = {
    "scatter_add": np.add,
    "scatter_mul": np.multiply,
    "scatter_max": np.maximum,
    "scatter_min": np.minimum,
    "scatter_set": lambda old, new: new,
}


def scatter_batch(name: str) -> Callable[..., Any]:
    """The batching rule of a scatter: examples become rows of one scatter."""

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


def check_same_dtype(name: str, base: Spec, what: str, other: Spec) -> None:
    """What is written has the dtype of what it is written into; DTypeError if not."""
    if base.dtype is not other.dtype:
        raise DTypeError(
            f"{name}: base is {base.dtype.name} and {what} {other.dtype.name}; cast one"
        )


def scatter_spec(name: str) -> Callable[..., Spec]:
    """The shape and dtype rule of a scatter."""

    def infer(base: Spec, indices: Spec, updates: Spec, axis: int) -> Spec:
        check_indices(name, indices)
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
        check_same_dtype(name, base, "updates are", updates)
        return base

    return infer


def scatter_array(
    name: str, base: np.ndarray, indices: np.ndarray, updates: np.ndarray, axis: int
) -> np.ndarray:
    """For references: a scatter, update after update."""
    at = axis % base.ndim
    places = _in_range(name, indices, base.shape[at]).reshape(-1)
    found = np.moveaxis(base, at, 0).copy()
    rest = (*range(at, at + indices.ndim), *range(at), *range(at + indices.ndim, updates.ndim))
    lines = np.transpose(updates, rest).reshape((places.size, *found.shape[1:]))
    join = JOINS[name]
    for place, line in zip(places, lines, strict=True):
        found[place] = join(found[place], line)
    return np.moveaxis(found, 0, at)


def scatter_samples(dtypes_: tuple[str, ...], kind: str = "float") -> Callable[[], list[Sample]]:
    """Samples of a scatter: places that repeat, from the end, none at all."""

    def samples() -> list[Sample]:
        cases = (
            *(((5, 3), (4,), 0), ((2, 5, 3), (2, 4), 1), ((2, 5), (), -1), ((2, 3), (0,), 0)),
            *(((4,), (9,), 0), ((1,), (1,), 0)),
        )
        found = []
        for base, places, axis in cases:
            at, n = axis % len(base), base[axis]
            updates = (*base[:at], *places, *base[at + 1 :])
            operands = (
                Draw(base, 0.6, 1.4, kind) if kind != "float" else Draw(base),
                Draw(places, -n, n, "int"),
                Draw(updates, 0.5, 1.5, kind) if kind != "float" else Draw(updates),
            )
            found.append(Sample(operands, {"axis": axis}, dtypes_))
        return found

    return samples


@op(
    "scatter",
    lower="add",
    public=False,
    infer=scatter_spec("scatter_add"),
    reference=lambda *x: scatter_array("scatter_add", *x),
    samples=scatter_samples(("int32", *FLOATS)),
    onnx="ScatterElements",
)
def scatter_add(base: Value, indices: Value, updates: Value, axis: int = 0) -> Value:
    """`base` with `updates` added at `indices` along `axis`: the opposite of `take`.

    Updates of one place are added in their order, so the result never depends on threads.
    Users have it as `index_add`.
    """


@scatter_add.gradient
def _scatter_add_gradient(
    g: Any, y: Any, base: Any, indices: Any, updates: Any, axis: int
) -> tuple[Any, None, Any]:
    return g, None, take(g, indices, axis)


scatter_add.batching(scatter_batch("scatter_add"))


@op(
    "scatter",
    holds_halves=True,
    lower="set",
    method=None,
    infer=scatter_spec("scatter_set"),
    reference=lambda *x: scatter_array("scatter_set", *x),
    samples=scatter_samples(ALL),
)
def scatter_set(base: Value, indices: Value, updates: Value, axis: int = 0) -> Value:
    """`base` with `updates` in place of what was at `indices` along `axis`; the last one wins.

    >>> rb.scatter_set(rb.zeros(3), rb.asarray([2]), rb.asarray([5.0]))
    tensor([0., 0., 5.])
    """


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


scatter_set.batching(scatter_batch("scatter_set"))


# ---- writing a slice ----------------------------------------------------------------------------


def _slice_set_spec(base: Spec, value: Spec, start: Shape, stop: Shape, step: Shape) -> Spec:
    place = slice_.infer(base, start, stop, step).shape  # type: ignore[misc]
    skip = len(place) - value.ndim
    fits = skip >= 0 and all(
        d == 1 or sizes.same(d, w) or d == w
        for d, w in zip(value.shape, place[max(skip, 0) :], strict=True)
    )
    if not fits:
        raise ShapeError(
            f"slice_set: a value of shape {show(value.shape)} does not fit in a slice of shape "
            f"{show(place)}"
        )
    check_same_dtype("slice_set", base, "value is", value)
    return base


def _slice_set_array(
    base: np.ndarray,
    value: np.ndarray,
    start: Sequence[int],
    stop: Sequence[int],
    step: Sequence[int],
) -> np.ndarray:
    found = base.copy()
    ranges = [np.arange(a, b, s) for a, b, s in zip(start, stop, step, strict=True)]
    found[np.ix_(*ranges) if ranges else ()] = value
    return found


def _slice_set_samples() -> list[Sample]:
    cases: tuple[Any, ...] = (
        ((5, 7), (3, 3), (1, 0), (4, 7), (1, 3)),
        ((5, 7), (7,), (2, 0), (3, 7), (1, 1)),
        ((5, 7), (5, 1), (4, 6), (-1, 0), (-1, -2)),
        ((2, 3, 4), (), (0, 1, 0), (2, 2, 4), (1, 1, 1)),
        ((2, 3, 4), (2, 2, 4), (0, 0, 0), (2, 2, 4), (1, 1, 1)),
        ((5,), (0,), (2,), (2,), (1,)),
        ((), (), (), (), ()),
    )
    return [
        Sample((Draw(x), Draw(v)), {"start": a, "stop": b, "step": s}, ALL if n == 0 else FLOATS)
        for n, (x, v, a, b, s) in enumerate(cases)
    ]


@op(
    "scatter",
    holds_halves=True,
    method=None,
    public=False,
    promote="common",
    sizes=("start", "stop", "step"),
    positions=("start", "stop"),
    infer=_slice_set_spec,
    lower=slice_.lower,
    reference=_slice_set_array,
    samples=_slice_set_samples,
)
def slice_set(base: Value, value: Value, start: Shape, stop: Shape, step: Shape) -> Value:
    """`base` with `value`, which broadcasts, in the place of a slice (see `slice_`): x[key] = v.

    Where nothing else reads `base`, only the slice is written: no other element is touched.
    """


@slice_set.gradient
def _slice_set_gradient(
    g: Any, y: Any, base: Any, value: Any, start: Shape, stop: Shape, step: Shape
) -> tuple[Any, Any]:
    nothing = number(g, 0, g.dtype)
    given = slice_(g, start, stop, step)
    return (
        slice_set(g, nothing, start, stop, step),
        lookup("sum_to")(given, value.shape),
    )


@slice_set.batching
def _slice_set_batch(
    size: int, flags: Flags, base: Any, value: Any, start: Shape, stop: Shape, step: Shape
) -> Any:
    base = base if flags[0] else expand(base, (size, *base.shape))
    if flags[1] and value.ndim < base.ndim:
        gap = (1,) * (base.ndim - value.ndim)
        value = reshape(value, (size, *gap, *value.shape[1:]))
    return slice_set(base, value, (0, *start), (size, *stop), (1, *step))


# ---- composites ----------------------------------------------------------------------------------


def checked_places(indices: Any, size: Dim) -> Any:
    """int64 indices counted from the start; one outside an axis of `size` is found when run."""
    return take(iota.like(indices, (size,), 0, int64), indices, 0)  # each number at its own place


def counted_places(indices: Any, size: Dim) -> Any:
    """`checked_places` where nothing counts from the end: labels, lengths. Errors say so."""
    x = cast(indices, int64)
    high = where(less(x, extent.like(x, size, int64)), x, add(x, NEVER_FROM_END))
    return checked_places(where(less(x, 0), subtract(x, NEVER_FROM_END), high), size)


def flat_places(places: Sequence[Any], dims: Sequence[Dim]) -> Any:
    """Row-major position of several places, which lie inside their axes."""
    found = places[0]
    for other, size in zip(places[1:], dims[1:], strict=True):
        found = add(multiply(found, extent.like(found, size, int64)), other)
    return found


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
            *(((2, 3), (1, 2), 1), ((1, 3), (4, 2), 1), ((1, 3, 2), (2, 2, 1), -2)),
        )
    ],
    onnx="GatherElements",
)
def take_along_axis(x: Value, indices: Value, axis: int = -1) -> Value:
    """One element per index along `axis`; the other axes of `x` and `indices` broadcast.

    y[i, j] = x[i, indices[i, j]] for the last of two axes.

    >>> rb.take_along_axis(rb.asarray([[1, 2], [3, 4]]), rb.asarray([[1], [0]]), axis=1)
    tensor([[2],
            [3]])
    """
    at = axis_of("take_along_axis", axis, x.ndim)
    check_indices("take_along_axis", indices)
    shape = _along_shape(x.shape, indices.shape, at)
    if not all(map(sizes.same, shape, indices.shape)):
        indices = expand(indices, shape)

    def place(axis: int) -> Any:
        size = x.shape[axis]
        if axis == at:
            return checked_places(indices, size)
        if sizes.same(size, shape[axis]) or size == shape[axis]:
            return iota.like(x, shape, axis, int64)
        return number(x, 0, int64)  # the only one there is

    flat = reshape(x, (sizes.product(x.shape),))
    return take(flat, flat_places([place(a) for a in range(x.ndim)], x.shape), 0)


def _along_shape(x: Shape, indices: Shape, at: int) -> Shape:
    """The common shape of all axes but `at`, whose size is that of the indices."""
    common = list(indices)
    fits = len(x) == len(indices)
    for axis, (d, e) in enumerate(zip(x, indices, strict=False)):
        if axis != at and not sizes.same(d, e) and d != e:
            fits = fits and (d == 1 or e == 1)
            common[axis] = e if d == 1 else d
    if not fits:
        raise ShapeError(
            f"take_along_axis: {show(x)} and indices {show(indices)} do not broadcast "
            f"beside axis {at}"
        )
    return tuple(common)


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
    onnx="OneHot",
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
