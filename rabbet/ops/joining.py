"""Putting tensors together and taking them apart: concat, stack, split, roll, tile, diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.graph.op import GROUP, op
from rabbet.graph.sample import ALL, Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.axis_moves import expand_dims
from rabbet.ops.compare import less, where
from rabbet.ops.create import iota, number
from rabbet.ops.index_maps import cut, expand, pad, reshape, slice_
from rabbet.ops.reductions import reduce_sum

# So many are chosen from where the result is read, which may be inside another kernel; the time and
# code of that grow with their number.
FEW = 2
# Every offset in a join is a sum of sizes. Where more than so many of these are symbols of their
# own, parts are joined first, a GROUP at a time: sums of up to all sizes at every part would cost
# the square of the number of parts, to compile and to bind.
LONG_SUM = 64


def _concat_samples() -> list[Sample]:
    def sample(axis: int | None, *shapes: Any, dtypes: Any = ("float32", "float64")) -> Sample:
        return Sample((tuple(Draw(s) for s in shapes),), {"axis": axis}, dtypes)

    return [
        sample(0, (2, 3), (1, 3), dtypes=ALL),
        sample(-1, (2, 3), (2, 1), (2, 4)),
        sample(1, (2, 0), (2, 3)),
        sample(0, (3,)),
        sample(None, (2, 2), (3,), ()),
        sample(1, *[(2, n) for n in (1, 2, 0, 1, 3, 1, 2, 1, 1, 2)], dtypes=ALL),
    ]


def _concat_spec(arrays: Sequence[Spec], axis: int | None) -> Spec:
    if axis is None:
        _check_some("concat", arrays)
        return arrays[0].with_shape((sizes.total([sizes.product(a.shape) for a in arrays]),))
    at = _check_joined("concat", arrays, axis)
    shape = arrays[0].shape
    return arrays[0].with_shape(
        (*shape[:at], sizes.total([a.shape[at] for a in arrays]), *shape[at + 1 :])
    )


def _stack_spec(arrays: Sequence[Spec], axis: int) -> Spec:
    first, at = _check_alike(arrays), axis_of("stack", axis, arrays[0].ndim + 1)
    return first.with_shape((*first.shape[:at], len(arrays), *first.shape[at:]))


def _concat_reference(arrays: Sequence[np.ndarray], axis: int | None) -> np.ndarray:
    if axis is None:
        return np.concatenate([a.reshape(-1) for a in arrays])
    return np.concatenate(arrays, axis)


@op(
    "composite",
    promote="common",
    method=None,
    infer=_concat_spec,
    reference=_concat_reference,
    samples=_concat_samples,
    onnx="Concat",
)
def concat(arrays: Sequence[Value], axis: int | None = 0) -> Value:
    """Tensors joined along an axis they already have (None: all flattened first).

    Raises ShapeError where any other size differs. Example: `rb.concat([x, y], axis=1)`.

    >>> rb.concat([rb.asarray([1, 2]), rb.asarray([3])])
    tensor([1, 2, 3])
    """
    if axis is None:
        arrays, axis = [reshape(a, (sizes.product(a.shape),)) for a in arrays], 0
    axis = _check_joined("concat", arrays, axis)
    if _is_long([a.shape[axis] for a in arrays]):
        arrays = _grouped(arrays, axis)
    if len(arrays) > FEW:
        return _one_by_one(arrays, axis)
    ends = _ends(arrays, axis)
    total = ends[-1]
    rank = arrays[0].ndim
    line = tuple(total if a == axis else 1 for a in range(rank))
    position = iota.like(arrays[0], line, axis, int64)
    found = _placed(arrays[-1], axis, total - arrays[-1].shape[axis], 0)
    for array, end in reversed(list(zip(arrays[:-1], ends[:-1], strict=True))):
        here = _placed(array, axis, end - array.shape[axis], total - end)
        found = where(less(position, number(array, end, int64)), here, found)
    return found


def _grouped(arrays: Sequence[Any], axis: int) -> Sequence[Any]:
    """At most GROUP tensors: neighbours joined, as often as that takes."""
    while len(arrays) > GROUP:
        groups = [arrays[i : i + GROUP] for i in range(0, len(arrays), GROUP)]
        arrays = [_one_by_one(group, axis) for group in groups]
    return arrays


def _one_by_one(arrays: Sequence[Any], axis: int) -> Any:
    """Each is written in its place: one small kernel serves all that have the same shape."""
    ends = _ends(arrays, axis)
    found = _placed(arrays[0], axis, 0, ends[-1] - ends[0])
    for array, begin, end in zip(arrays[1:], ends[:-1], ends[1:], strict=True):
        start = tuple(begin if a == axis else 0 for a in range(found.ndim))
        stop = tuple(end if a == axis else d for a, d in enumerate(found.shape))
        found = lookup("slice_set")(found, array, start, stop, (1,) * found.ndim)
    return found


@concat.gradient
def _concat_gradient(g: Any, y: Any, arrays: list[Any], axis: int | None) -> tuple[list[Any]]:
    flat = [reshape(a, (sizes.product(a.shape),)) for a in arrays] if axis is None else arrays
    at = axis_of("concat", axis or 0, g.ndim)
    parts = _apart(g, [a.shape[at] for a in flat], at)
    return ([reshape(part, a.shape) for part, a in zip(parts, arrays, strict=True)],)


def _apart(x: Any, lengths: Sequence[Dim], axis: int) -> list[Any]:
    """Neighbouring parts of `x`, all of it; by groups where joins are made by groups."""
    return _cut_by(GROUP if _is_long(lengths) else len(lengths), x, lengths, axis)


def _cut_by(most: int, x: Any, lengths: Sequence[Dim], axis: int) -> list[Any]:
    """Parts of `x`, cut from larger parts where there are more than `most`."""
    if len(lengths) > most:
        spans = [lengths[i : i + most] for i in range(0, len(lengths), most)]
        wholes = _cut_by(most, x, [sizes.total(span) for span in spans], axis)
        pairs = zip(wholes, spans, strict=True)
        return [part for whole, span in pairs for part in _cut_by(most, whole, span, axis)]
    parts: list[Any] = []
    start: Dim = 0
    for length in lengths:
        parts.append(cut(x, axis, start, start + length))
        start = start + length
    return parts


def _is_long(lengths: Sequence[Dim]) -> bool:
    return len({d.key for d in lengths if not isinstance(d, int)}) > LONG_SUM


def _check_joined(name: str, arrays: Sequence[Any], axis: int) -> int:
    _check_some(name, arrays)
    first = arrays[0]
    at = axis_of(name, axis, first.ndim)
    for other in arrays[1:]:
        pairs = zip(first.shape, other.shape, strict=False)
        if other.ndim != first.ndim or any(
            a != at and not sizes.same(d, e) and d != e for a, (d, e) in enumerate(pairs)
        ):
            listed = ", ".join(show(a.shape) for a in arrays)
            raise ShapeError(f"{name}: {listed}: sizes may differ only in axis {at}")
    return at


def _check_some(name: str, arrays: Sequence[Any]) -> None:
    if not arrays:
        raise ShapeError(f"{name}: the list is empty, at least one tensor is needed")


def _ends(arrays: Sequence[Any], axis: int) -> list[Dim]:
    ends: list[Dim] = []
    for array in arrays:
        ends.append(array.shape[axis] + (ends[-1] if ends else 0))
    return ends


def _placed(x: Any, axis: int, before: Dim, after: Dim) -> Any:
    none = (0,) * x.ndim
    low = tuple(before if a == axis else 0 for a in range(x.ndim))
    return pad(x, low, tuple(after if a == axis else 0 for a in range(x.ndim)), none)


@op(
    "composite",
    promote="common",
    method=None,
    infer=_stack_spec,
    reference=np.stack,
    samples=lambda: [
        Sample((tuple(Draw(s) for s in shapes),), {"axis": axis})
        for shapes, axis in (
            *((((2, 3), (2, 3)), 0), (((2,), (2,), (2,)), -1)),
            *((((), ()), 0), (((0, 2),), 1)),
        )
    ],
)
def stack(arrays: Sequence[Value], axis: int = 0) -> Value:
    """Tensors of one shape joined along a new axis.

    >>> rb.stack([rb.asarray([1, 2]), rb.asarray([3, 4])], axis=1)
    tensor([[1, 3],
            [2, 4]])
    """
    first = _check_alike(arrays)
    return concat([expand_dims(a, axis) for a in arrays], axis_of("stack", axis, first.ndim + 1))


@stack.gradient
def _stack_gradient(g: Any, y: Any, arrays: list[Any], axis: int) -> tuple[list[Any]]:
    at = axis_of("stack", axis, g.ndim)
    return ([reshape(cut(g, at, i, i + 1), a.shape) for i, a in enumerate(arrays)],)


@concat.groups
def _concat_of_groups(arrays: Sequence[Any], axis: int | None) -> Any:
    return _joined_by_groups(concat, arrays, axis)


@stack.groups
def _stack_of_groups(arrays: Sequence[Any], axis: int) -> Any:
    return _joined_by_groups(stack, arrays, axis)


def _joined_by_groups(join: Any, arrays: Sequence[Any], axis: int | None) -> Any:
    """What is left over comes last, so that all before have the shapes of other lengths too."""
    full, at = len(arrays) // GROUP * GROUP, axis or 0
    made = [join(arrays[i : i + GROUP], axis=axis) for i in range(0, full, GROUP)]
    whole = made[0] if len(made) == 1 else concat(made, axis=at)
    rest = arrays[full:]
    return concat([whole, join(rest, axis=axis)], axis=at) if rest else whole


def _check_alike(arrays: Sequence[Any]) -> Any:
    """The first of several for `stack`."""
    _check_some("stack", arrays)
    if any(a.shape != arrays[0].shape for a in arrays):
        listed = ", ".join(show(a.shape) for a in arrays)
        raise ShapeError(f"stack: {listed}: all shapes must be equal")
    return arrays[0]


def split(x: Any, size_or_sections: Dim | Sequence[Dim], axis: int = 0) -> list[Any]:
    """Consecutive parts of one axis: of one size (the last may be smaller), or of given sizes."""
    at = axis_of("split", axis, x.ndim)
    total = x.shape[at]
    if isinstance(size_or_sections, list | tuple):
        sections = list(size_or_sections)
        if sizes.total(sections) != total:
            raise ShapeError(f"split: sections {show(sections)} do not add up to {total}")
    else:
        sections = _even_sections(total, size_or_sections)
    return _apart(x, sections, at)


def _even_sections(total: Any, size: Any) -> list[Dim]:
    if size < 1:
        raise ShapeError(f"split: the size of a part is {size}")
    sections: list[Dim] = []
    while total > size:
        sections.append(size)
        total = total - size
    return [*sections, total]


def unstack(x: Any, axis: int = 0) -> list[Any]:
    """The slices of one axis, without it; the axis must have a known size."""
    at = axis_of("unstack", axis, x.ndim)
    count = x.shape[at]
    rest = tuple(d for a, d in enumerate(x.shape) if a != at)
    return [reshape(cut(x, at, i, i + 1), rest) for i in range(count)]


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Any]:
    """Coordinate grids from vectors; "xy" puts the second vector first, "ij" keeps the order."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(f'meshgrid: indexing is {indexing!r}, it must be "xy" or "ij"')
    if any(a.ndim > 1 for a in arrays):
        raise ShapeError("meshgrid: every operand must have one axis at most")
    places = list(range(len(arrays)))
    if indexing == "xy" and len(arrays) > 1:
        places[0], places[1] = 1, 0
    dims = [sizes.product(a.shape) for a in arrays]
    shape = [dims[places.index(i)] for i in range(len(arrays))]
    lines = [
        reshape(a, tuple(dims[i] if j == places[i] else 1 for j in range(len(arrays))))
        for i, a in enumerate(arrays)
    ]
    return [expand(line, tuple(shape)) for line in lines]


def _roll_samples() -> list[Sample]:
    cases = (
        *(((5,), 2, 0), ((3, 4), -1, 1), ((3, 4), (1, 2), (0, 1)), ((3, 4), 5, None)),
        *(((0, 2), 1, 0), ((4,), 0, 0)),
    )
    return [Sample((Draw(s),), {"shift": n, "axis": a}) for s, n, a in cases]


@op("composite", reference=np.roll, samples=_roll_samples)
def roll(
    x: Value, shift: int | tuple[int, ...], axis: int | tuple[int, ...] | None = None
) -> Value:
    """Elements moved by `shift` places along `axis` (None: flattened), wrapping around.

    >>> rb.roll(rb.asarray([1, 2, 3]), 1)
    tensor([3, 1, 2])
    """
    if axis is None:
        return reshape(roll(reshape(x, (sizes.product(x.shape),)), shift, 0), x.shape)
    axes = (axis,) if isinstance(axis, int) else axis
    shifts = (shift,) * len(axes) if isinstance(shift, int) else shift
    for amount, a in zip(shifts, axes, strict=True):
        at = axis_of("roll", a, x.ndim)
        size = x.shape[at]
        if size != 0:
            seam = (-amount) % size
            x = concat([cut(x, at, seam, size), cut(x, at, 0, seam)], at)
    return x


@op(
    "composite",
    reference=np.tile,
    samples=lambda: [
        Sample((Draw(s),), {"repetitions": r})
        for s, r in (((2, 3), (2, 1)), ((3,), (2, 2)), ((2, 3), (2,)), ((), (3,)), ((2,), (0,)))
    ],
    onnx="Tile",
)
def tile(x: Value, repetitions: tuple[int, ...]) -> Value:
    """The whole tensor repeated along every axis: size n becomes r * n.

    >>> rb.tile(rb.asarray([1, 2]), (2, 2))
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    if any(r < 0 for r in repetitions):
        raise ShapeError(f"tile: repetitions {show(repetitions)} must be 0 or more")
    times = (*(1,) * (x.ndim - len(repetitions)), *repetitions)
    shape = (*(1,) * (len(times) - x.ndim), *x.shape)
    apart = tuple(d for r, n in zip(times, shape, strict=True) for d in (r, n))
    lines = reshape(x, tuple(d for n in shape for d in (1, n)))
    return reshape(expand(lines, apart), tuple(r * n for r, n in zip(times, shape, strict=True)))


@op(
    "composite",
    reference=np.repeat,
    samples=lambda: [
        Sample((Draw(s),), {"repeats": r, "axis": a})
        for s, r, a in (
            ((2, 3), 2, 1),
            ((2, 3), 3, None),
            ((2,), 1, 0),
            ((2, 2), 0, 0),
        )
    ],
)
def repeat(x: Value, repeats: int, axis: int | None = None) -> Value:
    """Every element repeated `repeats` times along `axis` (None: of the flattened tensor).

    >>> rb.repeat(rb.asarray([1, 2]), 2)
    tensor([1, 1, 2, 2])
    """
    if repeats < 0:
        raise ShapeError(f"repeat: repeats={repeats} of {show(x.shape)} must be 0 or more")
    if axis is None:
        return repeat(reshape(x, (sizes.product(x.shape),)), repeats, 0)
    at = axis_of("repeat", axis, x.ndim)
    size = x.shape[at]
    apart = (*x.shape[: at + 1], repeats, *x.shape[at + 1 :])
    found = expand(expand_dims(x, at + 1), apart)
    return reshape(found, (*x.shape[:at], size * repeats, *x.shape[at + 1 :]))


@op(
    "composite",
    method=None,
    reference=lambda x, offset: np.diagonal(x, offset, -2, -1),
    samples=lambda: [
        Sample((Draw(s),), {"offset": k})
        for s, k in (
            ((3, 3), 0),
            ((2, 3, 5), 1),
            ((5, 3), -2),
            ((3, 4), 3),
            ((1, 1), 0),
            ((2, 3), 9),
        )
    ],
)
def diagonal(x: Value, offset: int = 0) -> Value:
    """The `offset`-th diagonal of the last two axes: (..., m, n) -> (..., length).

    >>> rb.diagonal(rb.asarray([[1, 2], [3, 4]]))
    tensor([1, 4])
    """
    if x.ndim < 2:
        raise ShapeError(f"diagonal: {show(x.shape)} needs at least two axes")
    m, n = x.shape[-2:]
    row, column = max(0, -offset), max(0, offset)
    length = n - column if n - column < m - row else m - row
    lead = x.shape[:-2]
    flat = reshape(x, (*lead, m * n))
    none = (0,) * len(lead)
    if length < 1:
        return slice_(flat, (*none, 0), (*lead, 0), (1,) * (len(lead) + 1))
    # In the flattened matrix the diagonal is every (n + 1)-th element.
    first = row * n + column
    stop = first + (length - 1) * (n + 1) + 1
    return slice_(flat, (*none, first), (*lead, stop), (*(1,) * len(lead), n + 1))


@op(
    "composite",
    method=None,
    reference=lambda x, offset: np.trace(
        x, offset, -2, -1, np.float64 if x.dtype.kind == "f" else x.dtype
    ),
    samples=lambda: [
        Sample((Draw((3, 3)),), {"offset": 0}),
        Sample((Draw((2, 3, 4)),), {"offset": 1}),
    ],
    autocast="wide",
)
def trace(x: Value, offset: int = 0) -> Value:
    """The sum of a diagonal of the last two axes.

    >>> rb.trace(rb.asarray([[1, 2], [3, 4]]))
    tensor(5)
    """
    return reduce_sum(diagonal(x, offset), (x.ndim - 2,), False)
