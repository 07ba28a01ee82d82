"""Contractions of many rows with windows of an image: convolutions, and the gradients of images.

Takes a ContractKernel whose `b` are windows (`kernel/windows.py`) and gives which of its loops are
images, lines, columns, channels and elements of a window. Code for such a kernel copies bands of
the image as they are, padding written out, and reads every window from there: the positions of
windows are its rows, what they are multiplied with is its lanes.
"""

from __future__ import annotations

from dataclasses import dataclass

from rabbet.base.dtypes import int64
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr, const, topological
from rabbet.kernel.loops import ContractKernel
from rabbet.kernel.sums import in_pairs
from rabbet.kernel.windows import Inside, Place, inside, loaded, places, within


@dataclass(frozen=True)
class Bands:
    """The axes of an image by what walks them.

    Loops are variables. `line` and `column`: places that the last two loops of n walk, with an
    element of a window or without; `channel`: the first loop of k, if it is not one of a window;
    `window`: the other loops of k. `by_pixel`: do channels lie side by side, and not columns?
    `lines`, `columns`: what is inside the image along each axis, if all else counts as 0 there and
    the same is inside for all channels and images.
    """

    line: Place | None
    column: Place
    channel: int | None
    window: tuple[int, ...]
    by_pixel: bool
    lines: Inside | None
    columns: Inside | None


def bands(kernel: ContractKernel) -> Bands | None:
    """The bands of a kernel's `b`, if it has windows that move along lines and columns alone."""
    if kernel.packed[1] or in_pairs(kernel) or not kernel.n or not kernel.m:
        return None
    found = places(kernel)
    if found is None:
        return None
    before = len(kernel.batch) + len(kernel.m)
    n = range(before, before + len(kernel.n))
    k = range(n.stop, n.stop + len(kernel.k))
    at = {p.position: p for p in found if p.position is not None}
    column = at[n[-1]]
    line = at[n[-2]] if len(n) > 1 else None
    others = [p for p in found if p is not column and p is not line]
    if any(p.position is not None and p.element is not None for p in others):
        return None
    channels = [p.element for p in others if p.element is not None]
    window = tuple(v for v in k if v not in channels)
    if not window or channels not in ([], [k[0]]):
        return None
    columns = inside(kernel.b, column.source)
    if columns is None:
        return None
    lines = None if line is None else within((columns.others,), line.source)
    if line is not None and lines is None:
        return None
    channel = k[0] if channels else None
    by_pixel = _is_by_pixel(kernel.b, n[-1], column, channel)
    edges = (_known(kernel.b, axis) for axis in (lines, columns))
    return Bands(line, column, channel, window, by_pixel, *edges)


def _known(value: Expr, axis: Inside | None) -> Inside | None:
    """The same, if its limits are sizes and numbers and what is outside is 0."""
    load = loaded(value)
    if axis is None or load is None or load.value[1] != 0:
        return None
    limits = topological([*axis.low, *axis.high])
    return axis if all(e.op not in ("var", "load") for e in limits) else None


def _is_by_pixel(value: Expr, columns: int, column: Place, channel: int | None) -> bool:
    load = loaded(value)
    if load is None or channel is None:
        return False
    near, far = (coefficient(load.args[0], v) for v in (channel, columns))
    is_next = near is const(1, int64)  # expressions are interned
    return is_next and far is not None and far is not const(column.stride, int64)
