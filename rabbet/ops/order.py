"""The order of additions in a reduction, by logical shape alone.

A reduction goes *along* its last axes, with partial sums in lanes, or *across* the outputs, one
addition after the other (see `kernel/loops.py`). A long one is cut into blocks of a fixed number of
elements, whose results are reduced again: threads share the blocks, and the rounding error grows
with the logarithm of the length (pairwise summation: N. Higham, "The accuracy of floating point
summation", 1993).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axes_of, show
from rabbet.base.sizes import Dim, maximum, product
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value

ALONG_MINIMUM = 16  # fewer elements than this along the innermost reduced axes: reduce "across"
ALONG_BLOCK = 1 << 15  # elements; a multiple of the lanes
ACROSS_BLOCK = 256  # elements for each output


class Blocks(NamedTuple):
    """Reduce `axes` first; the first `blocked` of them, flattened, are cut into blocks of `size`.

    The results are one for each block: the axis of blocks comes first, then the axes that are left.
    """

    axes: tuple[int, ...]
    blocked: int
    size: Dim


def trailing(rank: int, axes: tuple[int, ...]) -> int:
    """How many of the last axes are among `axes`."""
    count = 0
    while rank - 1 - count in axes:
        count += 1
    return count


def is_across(shape: tuple[Dim, ...], axes: tuple[int, ...]) -> bool:
    """True where each output adds its elements one after the other, neighbours side by side."""
    if len(axes) == len(shape):
        return False
    run = trailing(len(shape), axes)
    return run == 0 or bool(product(shape[-run:]) < ALONG_MINIMUM)


def blocks_of(shape: tuple[Dim, ...], axes: tuple[int, ...]) -> Blocks | None:
    """How a reduction of sorted `axes` begins where it is long; None where it is done in one go."""
    count = product([shape[a] for a in axes])
    if not axes or is_across(shape, axes):
        is_long = bool(count > 2 * ACROSS_BLOCK)
        return Blocks(axes, len(axes), ACROSS_BLOCK) if is_long else None
    if not count > 2 * ALONG_BLOCK:
        return None
    run = trailing(len(shape), axes)
    last = axes[len(axes) - run :]
    length = product([shape[a] for a in last])
    if length > 2 * ALONG_BLOCK:
        return Blocks(last, run, ALONG_BLOCK)
    return Blocks(axes, len(axes) - run, maximum(1, ALONG_BLOCK // length))


def block_count(shape: tuple[Dim, ...], blocks: Blocks) -> Dim:
    """How many blocks there are."""
    count = product([shape[a] for a in blocks.axes[: blocks.blocked]])
    return (count + blocks.size - 1) // blocks.size


# ---- the primitive ---------------------------------------------------------------------------

BLOCKED = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


def _blocks_rule(x: Spec, axis: tuple[int, ...], blocked: int, block: Dim, combine: str) -> Spec:
    if axes_of("reduce_blocks", axis, x.ndim) != tuple(axis) or not 0 < blocked <= len(axis):
        raise ShapeError(f"reduce_blocks: {blocked} of the axes {show(axis)} of {show(x.shape)}")
    left = tuple(d for a, d in enumerate(x.shape) if a not in axis)
    count = block_count(x.shape, Blocks(axis, blocked, block))
    return Spec((count, *left), x.dtype, x.device)


def _blocks_array(
    x: np.ndarray, axis: tuple[int, ...], blocked: int, block: int, combine: str
) -> np.ndarray:
    left = [a for a in range(x.ndim) if a not in axis]
    count = int(np.prod([x.shape[a] for a in axis[:blocked]]))
    flat = x.transpose(*axis, *left).reshape(count, -1, *(x.shape[a] for a in left))
    pieces = [flat[first : first + block] for first in range(0, count, block)]
    dtype = np.float64 if x.dtype.kind == "f" else x.dtype
    results = [BLOCKED[combine].reduce(p, (0, 1), dtype) for p in pieces]
    return np.stack(results) if results else np.zeros((0, *flat.shape[2:]), dtype)


def _blocks_samples() -> list[Sample]:
    cases = (
        *(((700,), (0,), 1, 128), ((5, 3), (0,), 1, 2), ((2, 3, 4), (0, 1), 2, 4)),
        *(((5, 3, 20), (0, 2), 1, 2), ((2, 3, 2, 17), (0, 1, 3), 2, 4), ((4, 130), (1,), 1, 64)),
    )
    return [
        Sample((Draw(shape),), {"axis": a, "blocked": n, "block": b, "combine": c}, grad=False)
        for shape, a, n, b in cases
        for c in BLOCKED
    ]


@op(
    "reduce",
    public=False,
    differentiable=False,
    sizes=("block",),
    infer=_blocks_rule,
    reference=_blocks_array,
    samples=_blocks_samples,
)
def reduce_blocks(x: Value, axis: tuple[int, ...], blocked: int, block: Dim, combine: str) -> Value:
    """The first step of a long reduction (see `Blocks`): (...) -> (blocks, *axes left).

    A block of the last axes is a multiple of 64 elements. Made when composites are taken apart,
    never recorded.
    """
