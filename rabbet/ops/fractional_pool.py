"""Max pooling with windows at random distances: B. Graham, "Fractional Max-Pooling" (2014)."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import cast, floor
from rabbet.ops.by_rank import op_by_rank
from rabbet.ops.checks import agree, fixed, need_float, per_axis
from rabbet.ops.compare import equal, greater_equal, less, logical_and, where
from rabbet.ops.create import iota, number
from rabbet.ops.gather_scatter import take_along_axis
from rabbet.ops.index_maps import cut, expand, reshape
from rabbet.ops.reductions import argmax

_CASES = {
    1: (((2, 1, 9), 2, 4), ((1, 2, 5), 3, 1)),
    2: (((1, 2, 7, 6), 2, (3, 4)), ((2, 1, 4, 4), (2, 1), (3, 2))),
    3: (((1, 1, 5, 4, 5), 2, (2, 3, 2)),),
}


def _samples(rank: int) -> list[Sample]:
    return [
        Sample(
            (Draw(s, kind="distinct"), Draw((*s[:2], rank), 0.05, 0.95)),
            {"kernel_size": k, "output_size": o},
        )
        for s, k, o in _CASES[rank]
    ]


def _column(rank: int, axis: int) -> int:
    """Which random number an axis has: PyTorch counts those of images from the last axis."""
    return 1 - axis if rank == 2 else axis


def _starts(u: Any, size: int, kernel: int, outputs: int) -> np.ndarray:
    if outputs == 1:
        return np.array([size - kernel])
    alpha = u.dtype.type(size - kernel) / u.dtype.type(outputs - 1)
    found = np.floor((np.arange(outputs, dtype=u.dtype) + u) * alpha) - np.floor(u * alpha)
    return np.array([*found[:-1], size - kernel]).astype(np.int64)


def _reference(
    rank: int, x: np.ndarray, samples: np.ndarray, kernel_size: Any, output_size: Any
) -> tuple[np.ndarray, np.ndarray]:
    kernel, outs = np.broadcast_to(kernel_size, rank), np.broadcast_to(output_size, rank)
    samples = np.where((samples >= 0) & (samples < 1), samples, samples.dtype.type(0))
    values = np.zeros((*x.shape[:2], *outs), x.dtype)
    places = np.zeros(values.shape, np.int64)
    numbers = np.arange(int(np.prod(x.shape[2:]))).reshape(x.shape[2:])
    for plane in np.ndindex(*x.shape[:2]):
        starts = [
            _starts(samples[(*plane, _column(rank, a))], x.shape[2 + a], kernel[a], outs[a])
            for a in range(rank)
        ]
        for at in np.ndindex(*outs):
            window: Any = tuple(
                slice(s[i], s[i] + k) for s, i, k in zip(starts, at, kernel, strict=True)
            )
            elements = x[plane][window].reshape(-1)
            values[(*plane, *at)] = elements.max()
            places[(*plane, *at)] = numbers[window].reshape(-1)[elements.argmax()]
    return values, places


@op_by_rank(
    "fractional_max_pool<n>d_with_indices",
    outputs=2,
    public=False,
    reference=_reference,
    samples=_samples,
)
def fractional_max_pool(
    rank: int,
    x: Value,
    samples: Value,
    kernel_size: int | tuple[int, ...],
    output_size: int | tuple[int, ...],
) -> tuple[Value, Value]:
    """The largest elements of windows that begin at random distances, and where they lie in the
    flattened image (int64): (N, C, <L>), (N, C, <n>) numbers from 0 up to 1
    (others count as 0) -> twice (N, C, *output_size).
    """
    name = f"fractional_max_pool{rank}d"
    need_float(name, "input", x.dtype)
    need_float(name, "samples", samples.dtype)
    fit = x.ndim == rank + 2 and samples.ndim == 3 and agree(samples.shape[2], rank)
    if not fit or not all(map(agree, samples.shape[:2], x.shape[:2])):
        raise ShapeError(
            f"{name}: input {show(x.shape)} and samples {show(samples.shape)} must be "
            f"(N, C, {rank} axes) and (N, C, {rank})"
        )
    kernel = per_axis(name, "kernel_size", kernel_size, rank, 1)
    outs = per_axis(name, "output_size", output_size, rank, 1)
    image: tuple[Dim, ...] = tuple(fixed(n) for n in x.shape[2:])
    for n, k, o in zip(image, kernel, outs, strict=True):
        if o + k - 1 > n:
            raise ShapeError(f"{name}: {o} windows of {k} do not fit into {n} elements")
    samples = where(logical_and(greater_equal(samples, 0.0), less(samples, 1.0)), samples, 0.0)
    lead, elements = x.shape[:2], sizes.product(kernel)
    places: Any = None
    for axis, (n, k, o) in enumerate(zip(image, kernel, outs, strict=True)):
        u = cut(samples, 2, _column(rank, axis), _column(rank, axis) + 1)
        own = _places(u, n, k, o)
        shape: list[Any] = [*lead, *(1,) * (2 * rank)]
        shape[2 + axis], shape[2 + rank + axis] = o, k
        own = reshape(own, tuple(shape))
        places = own if places is None else places * number(x, n, int64) + own
    places = reshape(
        expand(places, (*lead, *outs, *kernel)), (*lead, sizes.product(outs), elements)
    )
    flat = reshape(x, (*lead, sizes.product(image)))
    many = reshape(places, (*lead, sizes.product(outs) * elements))
    found = reshape(take_along_axis(flat, many, -1), places.shape)
    best = argmax(found, 3, keepdims=True)
    values, position = (
        reshape(take_along_axis(t, best, -1), (*lead, *outs)) for t in (found, places)
    )
    return values, position


def _places(u: Any, size: Dim, kernel: int, outputs: int) -> Any:
    """The elements of each window along one axis: (N, C, 1) -> (N, C, outputs, kernel)."""
    o = iota.like(u, (1, 1, outputs), 2, int64)
    alpha = number(u, size - kernel, u.dtype) / number(u, max(outputs - 1, 1), u.dtype)
    begin = cast(floor((cast(o, u.dtype) + u) * alpha) - floor(u * alpha), int64)
    begin = where(equal(o, outputs - 1), size - kernel, begin)
    shape = (*begin.shape, 1)
    return reshape(begin, shape) + iota.like(u, (1, 1, 1, kernel), 3, int64)
