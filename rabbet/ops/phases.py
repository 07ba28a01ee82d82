"""The gradient of a convolution's image, one contraction for each residue of its strides.

Image positions q * stride + r of one residue r see the same few kernel elements, in consecutive
outputs: a convolution of stride 1 with a part of the kernel, without products by zero. The residues
are woven together at the end. With stride 1 there is one residue, which sees the whole kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

from rabbet.base import sizes
from rabbet.base.errors import ShapeError
from rabbet.base.sizes import Dim
from rabbet.ops.axis_moves import expand_dims
from rabbet.ops.create import zeros
from rabbet.ops.index_maps import cut, pad, reshape, slice_, turn, window
from rabbet.ops.joining import concat
from rabbet.ops.patches import Ints

MOST_RESIDUES = 1 << 10


@dataclass(frozen=True)
class Taps:
    """The kernel elements that one residue of one axis sees: first, first + step, ... (count).

    Element number t meets output q + origin + (count - 1 - t) * apart.
    """

    first: int
    step: int
    count: int
    origin: int
    apart: int


def taps(residue: int, kernel: int, stride: int, low: int, dilation: int) -> Taps | None:
    """What image positions q * stride + residue see; None where no window holds them."""
    common = gcd(dilation, stride)
    if (residue + low) % common:
        return None
    step, apart = stride // common, dilation // common
    first = (residue + low) // common * pow(apart, -1, step) % step
    if first >= kernel:
        return None
    count = (kernel - first + step - 1) // step
    if count == 1:
        step = apart = 1
    nearest = (residue + low - first * dilation) // stride
    return Taps(first, step, count, nearest - (count - 1) * apart, apart)


def residues(kernel: int, stride: int, low: int, dilation: int) -> list[int]:
    """The residues of one axis that see an element of the kernel, in order."""
    different = min(kernel, stride // gcd(dilation, stride))
    if different > MOST_RESIDUES:
        raise ShapeError(
            f"convolution: kernel size {kernel} and stride {stride} make {different} different "
            f"windows along one axis, the gradient of the image takes {MOST_RESIDUES}"
        )
    return sorted((j * dilation - low) % stride for j in range(different))


def positions(size: Dim, stride: int) -> Dim:
    """How many positions each residue of an axis is given: enough for the longest, and one."""
    if isinstance(size, int):
        return max(-(-size // stride), 1)
    return (size + (stride - 1)) // stride


def residue_windows(g: Any, seen: tuple[Taps, ...], counts: tuple[Dim, ...]) -> Any:
    """The outputs each position meets: (..., *outputs) -> (..., *counts, *elements)."""
    lead = g.ndim - len(seen)
    low: list[Dim] = [0] * lead
    high: list[Dim] = [0] * lead
    begin: list[Dim] = [0] * lead
    end: list[Dim] = list(g.shape[:lead])
    for t, count, outputs in zip(seen, counts, g.shape[lead:], strict=True):
        reach = count + (t.count - 1) * t.apart
        before = max(-t.origin, 0)
        low.append(before)
        high.append(sizes.maximum(t.origin + reach - outputs, 0))
        begin.append(t.origin + before)
        end.append(t.origin + before + reach)
    if any(not isinstance(p, int) or p for p in (*low, *high)):
        g = pad(g, tuple(low), tuple(high), (0,) * g.ndim)
    if any(begin) or not all(map(sizes.same, end, g.shape)):
        g = slice_(g, tuple(begin), tuple(end), (1,) * g.ndim)
    axes = tuple(range(lead, g.ndim))
    elements = tuple(t.count for t in seen)
    found = window(g, axes, elements, (1,) * len(seen), tuple(t.apart for t in seen))
    return turn(found, tuple(range(found.ndim - len(seen), found.ndim)))


def residue_weight(weight: Any, first: int, seen: tuple[Taps, ...], kernel: Ints) -> Any:
    """The part of `weight` (its kernel axes from `first` on) that a residue sees."""
    if all(t.count == k for t, k in zip(seen, kernel, strict=True)):
        return weight
    begin, end = [0] * weight.ndim, list(weight.shape)
    step = [1] * weight.ndim
    for axis, t in enumerate(seen, first):
        begin[axis], step[axis] = t.first, t.step
        end[axis] = t.first + (t.count - 1) * t.step + 1
    return slice_(weight, tuple(begin), tuple(end), tuple(step))


def woven(parts: dict[Ints, Any], home: Any, shape: tuple[Dim, ...], stride: Ints) -> Any:
    """Results (..., *counts) of all residues as one image of `shape`; missing ones are 0."""
    rank, lead = len(stride), len(shape) - len(stride)
    some = next(iter(parts.values()), None)
    if some is None:
        return zeros.like(home, shape, home.dtype)
    found = parts
    for axis in reversed(range(rank)):
        lines: dict[Ints, dict[int, Any]] = {}
        for residue, part in found.items():
            lines.setdefault(residue[:-1], {})[residue[-1]] = part
        found = {r: _side_by_side(line, lead + axis + 1, stride[axis]) for r, line in lines.items()}
    wide = found[()]
    covered = tuple(n * s for n, s in zip(some.shape[lead:], stride, strict=True))
    wide = reshape(wide, (*shape[:lead], *covered))
    for axis, size in enumerate(shape[lead:], lead):
        if not sizes.same(wide.shape[axis], size):
            wide = cut(wide, axis, 0, size)
    return wide


def _side_by_side(line: dict[int, Any], axis: int, count: int) -> Any:
    """Tensors at their places along a new axis of `count`, zeros at the others (none for one)."""
    some = next(iter(line.values()))
    if count == 1:
        return some
    pieces, end = [], 0
    for place, x in sorted(line.items()):
        pieces += [] if place == end else [_nothing(some, axis, place - end)]
        pieces.append(expand_dims(x, axis))
        end = place + 1
    pieces += [] if end == count else [_nothing(some, axis, count - end)]
    return concat(pieces, axis)


def _nothing(like: Any, axis: int, count: int) -> Any:
    return zeros.like(like, (*like.shape[:axis], count, *like.shape[axis:]), like.dtype)
