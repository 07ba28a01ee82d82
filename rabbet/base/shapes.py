"""Broadcasting, axes and strides: the only copy. Works on sizes that may be symbolic."""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.base.errors import AxisError, ShapeError
from rabbet.base.sizes import Dim

# Taken from a negative index that is not to count from the end: what is left lies outside any axis,
# and says in an error what was given.
NEVER_FROM_END = 2**62

Shape = tuple[Dim, ...]


def broadcast(op: str, *shapes: Shape) -> Shape:
    """The common shape (trailing axes aligned, size 1 stretches); ShapeError names all."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = []
    for axis in range(-rank, 0):
        size: Dim = 1
        for shape in shapes:
            if len(shape) < -axis:
                continue
            dim = shape[axis]
            if size is not dim and dim != 1:
                if size != 1 and size != dim:
                    listed = " and ".join(show(s) for s in shapes)
                    raise ShapeError(
                        f"{op}: shapes {listed} do not broadcast: sizes {size} and {dim} "
                        f"meet in axis {axis}"
                    )
                if size == 1:
                    size = dim
        result.append(size)
    return tuple(result)


def axis_of(op: str, axis: int, rank: int) -> int:
    """A non-negative axis; AxisError if it does not exist."""
    if not -rank <= axis < rank:
        raise AxisError(f"{op}: axis {axis} does not exist in a tensor of {rank} axes")
    return axis % rank


def axes_of(op: str, axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Sorted, distinct, non-negative axes; None means all.

    The first or last axis of a tensor without axes is none, as NumPy and PyTorch have it.
    """
    if axis is None or (not rank and isinstance(axis, int) and axis in (0, -1)):
        return tuple(range(rank))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    found = tuple(sorted(axis_of(op, a, rank) for a in given))
    if len(set(found)) != len(found):
        raise ShapeError(f"{op}: axes {given} name an axis twice")
    return found


def strides_of(shape: Shape) -> Shape:
    """Row-major strides in elements."""
    strides: list[Dim] = []
    step: Dim = 1
    for dim in reversed(shape):
        strides.append(step)
        step = step * dim
    return tuple(reversed(strides))


def show(shape: Sequence[object]) -> str:
    """A shape as users write it: (3, 4) or (5,)."""
    inner = ", ".join(str(d) for d in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"
