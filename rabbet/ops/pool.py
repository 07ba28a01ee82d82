"""The largest element of every window of lines, images or volumes, with PyTorch's arguments.

Gradients are gathered: each element looks at the outputs whose windows hold it, so the order
of additions is fixed. Windows that neither overlap nor leave the input need no gathering at all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rabbet.base.dtypes import DType, dtype_of, int64, uint8
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import cast, clip, maximum
from rabbet.ops.by_rank import op_by_rank
from rabbet.ops.checks import fixed, per_axis
from rabbet.ops.compare import isnan, where
from rabbet.ops.create import constant, extent, iota, zeros
from rabbet.ops.index_maps import expand, pad, reshape, slice_
from rabbet.ops.patches import Ints, output_sizes, padded_array, patch_slices, patches, spread
from rabbet.ops.reductions import max_, min_, sum_

MOST_WRITTEN_OUT = 16  # windows of up to this many elements are compared one element at a time


class Windows(NamedTuple):
    """The geometry of a pooling op, one number per spatial axis."""

    kernel: Ints
    stride: Ints
    low: Ints
    high: Ints
    dilation: Ints

    @property
    def tile(self) -> bool:
        """True where windows lie side by side inside the image: no element is in two."""
        padded = any(self.low) or any(self.high)
        return self.kernel == self.stride and not padded and all(d == 1 for d in self.dilation)


def windows(
    name: str,
    x: Any,
    rank: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Windows:
    """The arguments of a pooling op, checked, one number per axis."""
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"{name}: input {show(x.shape)} needs {rank + 2} axes (or {rank + 1})")
    kernel = per_axis(name, "kernel_size", kernel_size, rank, 1)
    step = kernel if stride is None else per_axis(name, "stride", stride, rank, 1)
    border = per_axis(name, "padding", padding, rank, 0)
    apart = per_axis(name, "dilation", dilation, rank, 1)
    for p, k in zip(border, kernel, strict=True):
        if p > k // 2:
            raise ShapeError(f"{name}: padding {p} is more than half of the kernel size {k}")
    high = border
    if ceil_mode:
        axes = zip(x.shape[-rank:], kernel, step, border, apart, strict=True)
        high = tuple(_reach(fixed(n), *numbers) for n, *numbers in axes)
    output_sizes(name, x.shape[-rank:], kernel, step, border, high, apart)
    return Windows(kernel, step, border, high, apart)


def _reach(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Padding behind so that a last, partial window counts that starts in front of the padding."""
    span = dilation * (kernel - 1) + 1
    room = size + 2 * padding - span
    count = -(-room // stride) + 1
    if (count - 1) * stride >= size + padding:
        count -= 1
    return max(padding, (count - 1) * stride + span - size - padding)


def _lowest(dtype: DType) -> float:
    """What padding holds when the largest element is sought."""
    if dtype.is_float:
        return -np.inf
    return float(np.iinfo(dtype.numpy).min) if dtype.is_integer else 0.0


def tile_back(g: Any, kernel: Ints) -> Any:
    """Outputs (..., *O) as (..., O1, 1, O2, 1, ...), to be set against elements of the same
    windows.
    """
    rank = len(kernel)
    shape: list[Dim] = list(g.shape[:-rank])
    for size in g.shape[-rank:]:
        shape += [size, 1]
    return reshape(g, tuple(shape))


def untile(tiled: Any, x: Any, kernel: Ints) -> Any:
    """(..., O1, K1, O2, K2, ...) -> the shape of `x`, with zeros where no window reaches."""
    rank = len(kernel)
    lead = x.ndim - rank
    outputs = tiled.shape[lead::2]
    covered = tuple(o * k for o, k in zip(outputs, kernel, strict=True))
    flat = reshape(tiled, (*x.shape[:lead], *covered))
    missing = tuple(s - c for s, c in zip(x.shape[lead:], covered, strict=True))
    if all(isinstance(m, int) and m == 0 for m in missing):
        return flat
    none = (0,) * x.ndim
    return pad(flat, none, (0,) * lead + missing, none, 0.0)


# ---- largest -------------------------------------------------------------------------------------


def _max_pool(x: Any, at: Windows) -> Any:
    # The values, and as a residual the number of the element that each was in its window.
    kernel = at.kernel
    found = patches(x, *at, _lowest(x.dtype))
    if int(np.prod(kernel)) <= MOST_WRITTEN_OUT:
        return _largest(found, x, at)
    axes = tuple(range(x.ndim, found.ndim))
    largest = max_(found, axes, keepdims=True)
    numbers = _element_numbers(x, kernel, axes, found.ndim, False, int64)
    hit = (found == largest) | isnan(found) if x.dtype.is_float else found == largest
    first = min_(where(hit, numbers, int(np.prod(kernel))), axes)
    return reshape(largest, first.shape), maximum(first, _first_inside(first, at, int64))


def _largest(found: Any, x: Any, at: Windows) -> tuple[Any, Any]:
    """The largest element of windows that lie along the axes behind those of `x`, and its number.

    One map over the outputs: vectors run along the image, never along a window.
    """
    best = index = None
    rank = x.ndim
    for number, place in enumerate(np.ndindex(*at.kernel)):
        begin = (*(0,) * rank, *place)
        end = (*found.shape[:rank], *(i + 1 for i in place))
        value = reshape(slice_(found, begin, end, (1,) * found.ndim), found.shape[:rank])
        if best is None:
            # a value that this map makes itself, so that all that follows joins it
            best, index = maximum(value, value), _first_inside(value, at, uint8)
            continue
        larger = maximum(best, value)
        wins = larger != best
        if value.dtype.is_float:
            wins = wins & (best == best)  # nothing comes after the first NaN
        index = where(wins, constant.like(value, number, uint8), index)
        best = larger
    return best, index


def _first_inside(home: Any, at: Windows, dtype: DType) -> Any:
    """The number of each window's first element that is not padding, in the shape of `home`: where
    there is nothing but minus infinity, padding is never the largest.
    """
    if not any(at.low):
        return zeros.like(home, home.shape, dtype)
    rank = len(at.kernel)
    total: Any = None
    for axis, (k, s, low, _, d) in enumerate(zip(*at, strict=True)):
        shape = (1,) * axis + (home.shape[home.ndim - rank + axis],) + (1,) * (rank - axis - 1)
        before = low - iota.like(home, shape, axis, int64) * s
        element = clip(before if d == 1 else (before + (d - 1)) // d, 0, k - 1)
        total = element if total is None else total * k + element
    return expand(cast(total, dtype), home.shape)


def _element_numbers(
    home: Any, kernel: Ints, axes: Ints, ndim: int, reverse: bool, dtype: DType
) -> Any:
    """Numbers of a window's elements (row-major), along `axes` of a tensor of `ndim` axes."""
    total: Any = None
    step = 1
    for k, axis in reversed(list(zip(kernel, axes, strict=True))):
        shape = [1] * ndim
        shape[axis] = k
        along = iota.like(home, tuple(shape), axis, int64)
        along = ((k - 1) - along if reverse else along) * step
        total = along if total is None else total + along
        step *= k
    return cast(total, dtype)


def _max_pool_gradient(g: Any, index: Any, x: Any, at: Windows) -> Any:
    kernel = at.kernel
    rank, lead = len(kernel), x.ndim - len(kernel)
    if at.tile:
        axes = tuple(range(lead + 1, lead + 2 * rank, 2))
        numbers = _element_numbers(g, kernel, axes, lead + 2 * rank, False, index.dtype)
        hit = tile_back(index, kernel) == numbers
        return untile(where(hit, tile_back(g, kernel), 0.0), x, kernel)
    geometry = (x.shape[lead:], *at)
    axes = tuple(range(x.ndim, x.ndim + rank))
    numbers = _element_numbers(g, kernel, axes, x.ndim + rank, True, index.dtype)
    hit = spread(index, *geometry, float(np.iinfo(index.dtype.numpy).max)) == numbers
    return sum_(where(hit, spread(g, *geometry), 0.0), axes)


def _positions(index: Any, x: Any, at: Windows) -> Any:
    """Where the elements of windows lie in the flattened image, by their numbers in the windows."""
    rank = len(at.kernel)
    sizes_ = x.shape[x.ndim - rank :]
    number, total = cast(index, int64), None
    inner = int(np.prod(at.kernel))
    for axis, (size, k, s, low, _, d) in enumerate(zip(sizes_, *at, strict=True)):
        inner //= k
        element = number // inner % k
        shape = (1,) * axis + (index.shape[index.ndim - rank + axis],) + (1,) * (rank - axis - 1)
        first = iota.like(index, shape, axis, int64) * s - low
        # A window may hold nothing but padding where its elements are far apart.
        place = clip(first + element * d, 0, extent.like(index, size - 1, int64))
        total = place if total is None else total * extent.like(index, size, int64) + place
    return total


def _max_reference(rank: int, x: np.ndarray, *attrs: Any) -> tuple[np.ndarray, np.ndarray]:
    at = windows("max_pool", x, rank, *attrs)
    lowest = _lowest(dtype_of(x.dtype))
    padded = padded_array(x, at.low, at.high, lowest)
    counts = output_sizes("max_pool", x.shape[-rank:], *at)
    elements = [
        padded[patch_slices(e, counts, at.stride, at.dilation)] for e in np.ndindex(*at.kernel)
    ]
    stacked = np.stack(elements, axis=-1)
    real = padded_array(np.ones(x.shape, bool), at.low, at.high, False)
    parts = [real[patch_slices(e, counts, at.stride, at.dilation)] for e in np.ndindex(*at.kernel)]
    first = np.stack(parts, axis=-1).argmax(axis=-1)  # padding comes after equal elements
    dtype = np.uint8 if stacked.shape[-1] <= MOST_WRITTEN_OUT else np.int64
    return stacked.max(axis=-1), np.maximum(stacked.argmax(axis=-1), first).astype(dtype)


def _positions_reference(rank: int, x: np.ndarray, *attrs: Any) -> tuple[np.ndarray, ...]:
    found, number = _max_reference(rank, x, *attrs)
    at = windows("max_pool", x, rank, *attrs)
    element = np.unravel_index(number.astype(np.int64), at.kernel)
    places = np.indices(found.shape)[x.ndim - rank :]
    place = [
        p * s - low + e * d
        for p, s, low, e, d in zip(places, at.stride, at.low, element, at.dilation, strict=True)
    ]
    flat = np.ravel_multi_index(place, x.shape[-rank:], "clip") if found.size else place[0]
    return found, np.asarray(flat, np.int64), number


def pool_samples(rank: int, draw: str, **options: Any) -> list[Sample]:
    """Samples that every kind of pooling shares."""

    def sample(lead: Ints, low: float = -2, **attrs: Any) -> Sample:
        shape = (*lead, *(7, 6, 5)[:rank])
        return Sample((Draw(shape, kind=draw),), options | attrs)

    found = [
        sample((2, 3), kernel_size=2),
        sample((2, 2), kernel_size=(3,) + (2,) * (rank - 1), stride=2, padding=1),
        sample((3,), kernel_size=3, stride=(1,) * rank),
        sample((1, 1), kernel_size=(2,) + (1,) * (rank - 1), stride=3),
        sample((0, 2), kernel_size=2),
    ]
    return found


def _max_samples(rank: int) -> list[Sample]:
    options = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
    found = pool_samples(rank, "distinct", **options)
    x = Draw((1, 2, *(7, 6, 5)[:rank]), kind="distinct")
    more: tuple[dict[str, Any], ...] = (
        {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 3},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
    )
    return found[: 5 if rank < 3 else 2] + [Sample((x,), options | m) for m in more]


def _max_gradient(rank: int, g: Any, y: Any, x: Any, **attrs: Any) -> tuple[Any]:
    slope = g[0] if isinstance(g, tuple) else g  # positions have none
    at = windows(f"max_pool{rank}d", x, rank, **attrs)
    return (_max_pool_gradient(slope, y[-1], x, at),)


@op_by_rank(
    "max_pool<n>d",
    residuals=1,
    reference=_max_reference,
    samples=_max_samples,
    gradient=_max_gradient,
    onnx="MaxPool",
)
def max_pool(
    rank: int,
    x: Value,
    kernel_size: int | Ints,
    stride: int | Ints | None = None,
    padding: int | Ints = 0,
    dilation: int | Ints = 1,
    ceil_mode: bool = False,
) -> Value:
    """The largest element of every window; NaN wins; of equal ones the first gets the gradient.

    (N, C, <L>) -> (N, C, <L'>), any real dtype; without N too.
    `stride` is the kernel size unless given; with `ceil_mode` a last window may reach over the
    end. Raises ShapeError where no window fits or the padding is more than half a kernel.

    >>> rb.max_pool<n>d(rb.ones((1, 1, <6>)), 2).shape
    (1, 1, <3>)
    """
    at = windows(f"max_pool{rank}d", x, rank, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool(x, at)


@op_by_rank(
    "max_pool<n>d_with_indices",
    outputs=2,
    residuals=1,
    reference=_positions_reference,
    samples=lambda rank: _max_samples(rank)[1:],
    gradient=_max_gradient,
    onnx="MaxPool",
)
def max_pool_with_indices(
    rank: int,
    x: Value,
    kernel_size: int | Ints,
    stride: int | Ints | None = None,
    padding: int | Ints = 0,
    dilation: int | Ints = 1,
    ceil_mode: bool = False,
) -> tuple[Value, ...]:
    """As `max_pool<n>d`, and where the elements lie in the flattened image (int64), for
    `max_unpool<n>d`.

    >>> x = rb.tensor([1.0, 4.0, 3.0, 2.0]).expand((1, 1, <4>))
    >>> rb.max_pool<n>d_with_indices(x, 2)[1].flatten()[:2].tolist()
    [1, 2]
    """
    at = windows(f"max_pool{rank}d", x, rank, kernel_size, stride, padding, dilation, ceil_mode)
    values, number = _max_pool(x, at)
    return values, _positions(number, x, at), number


max_pool1d, max_pool2d, max_pool3d = max_pool
(
    max_pool1d_with_indices,
    max_pool2d_with_indices,
    max_pool3d_with_indices,
) = max_pool_with_indices
