"""Pooling to a given size: means and largest elements of windows that divide an image evenly; and
the opposite of max pooling.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import int64
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import cast
from rabbet.ops.by_rank import op_by_rank
from rabbet.ops.checks import agree, fixed, need_float, per_axis, wide
from rabbet.ops.compare import where
from rabbet.ops.create import full, iota, number
from rabbet.ops.gather_scatter import (
    check_indices,
    checked_places,
    scatter_set,
    take,
    take_along_axis,
)
from rabbet.ops.index_maps import reshape
from rabbet.ops.reductions import argmax, mean, sum_

Wanted = int | tuple[int | None, ...] | None

# ---- means ---------------------------------------------------------------------------------------


def _adaptive_axis(x: Any, axis: int, outputs: int) -> Any:
    """Mean over windows [o * size // outputs, ceil((o + 1) * size / outputs)) of one axis."""
    size = x.shape[axis]
    if isinstance(size, int) and size == 0:
        raise ShapeError(f"adaptive_avg_pool: input {show(x.shape)} is empty along axis {axis}")
    if outputs == 1:
        return mean(x, axis, keepdims=True)
    if size % outputs == 0:
        split = (*x.shape[:axis], outputs, size // outputs, *x.shape[axis + 1 :])
        return mean(reshape(x, split), axis + 1)
    # Windows of unequal lengths: gather as many elements as the longest has, mask the surplus.
    size = fixed(size)
    longest = (size + outputs - 1) // outputs + 1
    rest = (1,) * (x.ndim - axis - 1)
    number = iota.like(x, (outputs, 1), 0, int64)
    start = number * size // outputs
    end = ((number + 1) * size + (outputs - 1)) // outputs
    at = start + iota.like(x, (1, longest), 1, int64)
    inside = at < end
    found = take(x, where(inside, at, start), axis)
    total = sum_(where(reshape(inside, (outputs, longest, *rest)), found, 0.0), axis + 1)
    return total / reshape(cast(end - start, x.dtype), (outputs, *rest))


def _wanted(name: str, x: Any, rank: int, output_size: Any) -> list[int | None]:
    """One output size per spatial axis; None keeps the size, as in PyTorch."""
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"{name}: input {show(x.shape)} needs {rank + 2} axes (or {rank + 1})")
    wanted = (output_size,) * rank if not isinstance(output_size, tuple) else output_size
    if len(wanted) != rank:
        raise ShapeError(f"{name}: output_size {show(wanted)} needs {rank} numbers")
    return [None if n is None else per_axis(name, "output_size", n, 1, 1)[0] for n in wanted]


def _bounds(size: int, outputs: int | None) -> list[tuple[int, int]]:
    count = size if outputs is None else outputs
    return [(o * size // count, -(-(o + 1) * size // count)) for o in range(count)]


def _mean_reference(rank: int, x: np.ndarray, output_size: Any) -> np.ndarray:
    wanted = _wanted("adaptive_avg_pool", x, rank, output_size)
    y = wide(x)
    for axis, outputs in zip(range(x.ndim - rank, x.ndim), wanted, strict=True):
        found = [
            y.take(range(a, b), axis).mean(axis, keepdims=True)
            for a, b in _bounds(y.shape[axis], outputs)
        ]
        y = np.concatenate(found, axis)
    return y.astype(x.dtype)


def _samples(rank: int, kind: str = "float") -> list[Sample]:
    shape = (2, 3, *(6, 4, 5)[:rank]) if rank < 3 else (1, 2, 4, 3, 5)
    asked: tuple[Wanted, ...] = (
        *(1, (3, 2, 1)[:rank], (4, 3, 2)[:rank], (None, 1, 3)[:rank], (7, 5, 2)[:rank]),
    )
    found = [Sample((Draw(shape, kind=kind),), {"output_size": n}) for n in asked]
    return [*found, Sample((Draw(shape[1:], kind=kind),), {"output_size": 2})]


@op_by_rank("adaptive_avg_pool<n>d", reference=_mean_reference, samples=_samples)
def adaptive_avg_pool(
    rank: int, x: Value, output_size: int | tuple[int | None, ...] | None
) -> Value:
    """Means of `output_size` windows that divide the image as evenly as possible; None keeps a
    size.

    (N, C, <L>) -> (N, C, *output_size), floats; without N too. 1 is global pooling.

    >>> rb.adaptive_avg_pool<n>d(rb.ones((1, 3, <8>)), 1).shape
    (1, 3, <1>)
    """
    name = f"adaptive_avg_pool{rank}d"
    need_float(name, "input", x.dtype)
    wanted = _wanted(name, x, rank, output_size)
    for axis, outputs in zip(range(x.ndim - rank, x.ndim), wanted, strict=True):
        if outputs is not None:
            x = _adaptive_axis(x, axis, outputs)
    return x


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = adaptive_avg_pool

# ---- largest elements ----------------------------------------------------------------------------


def _spans(x: Any, size: Dim, outputs: int | None) -> tuple[Any, Any]:
    """Positions (outputs, longest) of the windows of one axis; those behind an end repeat it.

    An element that comes twice is never the first of the largest.
    """
    if outputs is None:
        return iota.like(x, (size, 1), 0, int64), 1
    n = fixed(size)
    longest = _longest(n, outputs)
    o = iota.like(x, (outputs, 1), 0, int64)
    first = o * n // outputs
    last = ((o + 1) * n + (outputs - 1)) // outputs - 1
    place = first + iota.like(x, (1, longest), 1, int64)
    return where(place > last, last, place), longest


def _longest(size: int, outputs: int) -> int:
    """Elements of the longest of `outputs` windows; counting them one by one could take forever.

    A window starts at most 1 - gcd / outputs of an element behind the last whole one.
    """
    whole, rest = divmod(size, outputs)
    return whole + (rest > 0) + (rest > math.gcd(size, outputs))


def _row_starts(x: Any, count: Dim, elements: int) -> Any:
    return iota.like(x, (count, 1), 0, int64) * elements


def _max_reference(rank: int, x: np.ndarray, output_size: Any) -> tuple[np.ndarray, np.ndarray]:
    wanted = _wanted("adaptive_max_pool", x, rank, output_size)
    lead, image = x.shape[: x.ndim - rank], x.shape[x.ndim - rank :]
    bounds = [_bounds(n, o) for n, o in zip(image, wanted, strict=True)]
    values = np.zeros((*lead, *map(len, bounds)), x.dtype)
    places = np.zeros(values.shape, np.int64)
    numbers = np.arange(int(np.prod(image))).reshape(image)
    for at in np.ndindex(*map(len, bounds)):
        cut: Any = tuple(slice(*b[i]) for b, i in zip(bounds, at, strict=True))
        window = x[(..., *cut)].reshape((*lead, -1))
        values[(..., *at)] = window.max(-1)
        places[(..., *at)] = numbers[cut].reshape(-1)[window.argmax(-1)]
    return values, places


@op_by_rank(
    "adaptive_max_pool<n>d_with_indices",
    outputs=2,
    reference=_max_reference,
    samples=partial(_samples, kind="distinct"),
)
def adaptive_max_pool_with_indices(
    rank: int, x: Value, output_size: int | tuple[int | None, ...] | None
) -> tuple[Value, Value]:
    """The largest elements of `output_size` windows that divide the image as evenly as possible,
    and where they lie in the flattened image (int64); None keeps a size.

    (N, C, <L>) -> twice (N, C, *output_size); without N too. NaN wins.

    >>> rb.adaptive_max_pool<n>d_with_indices(rb.ones((1, 3, <8>)), 2)[0].shape
    (1, 3, <2>)
    """
    name = f"adaptive_max_pool{rank}d"
    wanted = _wanted(name, x, rank, output_size)
    lead, image = x.shape[: x.ndim - rank], x.shape[x.ndim - rank :]
    if any(isinstance(n, int) and n == 0 for n in image):
        raise ShapeError(f"{name}: input {show(x.shape)} has an empty spatial axis")
    places: Any = 0
    outs: list[Dim] = []
    elements = 1
    for axis, (size, outputs) in enumerate(zip(image, wanted, strict=True)):
        place, longest = _spans(x, size, outputs)
        outs.append(place.shape[0])
        elements *= longest
        shape: list[Dim] = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = place.shape[0], longest
        places = places * number(x, size, int64) + reshape(place, tuple(shape))
    count = sizes.product(outs)
    flat = reshape(x, (*lead, sizes.product(image)))
    found = take(flat, reshape(places, (count, elements)), len(lead))
    best = argmax(found, len(lead) + 1, keepdims=True)
    everywhere = take(reshape(places, (count * elements,)), _row_starts(x, count, elements) + best)
    position = reshape(everywhere, (*lead, count))
    values = take_along_axis(flat, position, -1)
    return reshape(values, (*lead, *outs)), reshape(position, (*lead, *outs))


(
    adaptive_max_pool1d_with_indices,
    adaptive_max_pool2d_with_indices,
    adaptive_max_pool3d_with_indices,
) = adaptive_max_pool_with_indices

# ---- the opposite of max pooling -----------------------------------------------------------------


def _unpool_array(x: np.ndarray, indices: np.ndarray, output_size: Any) -> np.ndarray:
    lead = x.shape[: x.ndim - len(output_size)]
    found = np.zeros((int(np.prod(lead)), int(np.prod(output_size))), x.dtype)
    pairs = (
        zip(x.reshape((*found.shape[:1], -1)), indices.reshape((*found.shape[:1], -1)), strict=True)
        if found.size
        else ()
    )
    for row, (values, places) in enumerate(pairs):
        found[row, places] = values
    return found.reshape((*lead, *output_size))


@op(
    "composite",
    method=None,
    public=False,
    sizes=("output_size",),
    reference=_unpool_array,
    samples=lambda: [
        Sample((Draw(s), Draw(s, 0, int(np.prod(n)), "int")), {"output_size": n})
        for s, n in (((2, 3, 4), (9,)), ((1, 2, 2, 3), (4, 5)), ((2, 2, 1, 2), (2, 3, 3)))
    ],
    onnx="MaxUnpool",
)
def max_unpool(x: Value, indices: Value, output_size: tuple[Dim, ...]) -> Value:
    """Elements at their places in flattened images of `output_size`, zeros elsewhere.

    The spatial axes are the last ones, as many as `output_size` has numbers. Of several elements
    with one place the last one stays. A place outside is an IndexRangeError when run.
    """
    check_indices("max_unpool", indices)
    if indices.ndim != x.ndim or not all(map(agree, indices.shape, x.shape)):
        raise ShapeError(
            f"max_unpool: input {show(x.shape)} and indices {show(indices.shape)} must have one "
            "shape"
        )
    if x.dtype.kind not in "iuf":
        raise DTypeError(f"max_unpool: {x.dtype.name} is not supported; cast to a real number")
    lead = x.shape[: x.ndim - len(output_size)]
    lines, size = sizes.product(lead), sizes.product(output_size)
    count = sizes.product(x.shape[len(lead) :])
    places = checked_places(reshape(indices, (lines, count)), size)
    start = iota.like(x, (lines, 1), 0, int64) * number(x, size, int64)
    everywhere = places + start
    base = full(number(x, 0, x.dtype), (lines * size,))
    flat = (lines * count,)
    found = scatter_set(base, reshape(everywhere, flat), reshape(x, flat), 0)
    return reshape(found, (*lead, *output_size))
