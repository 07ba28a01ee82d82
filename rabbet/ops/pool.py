"""Pooling over windows of images, with PyTorch's arguments: largest, average, and to a given size.

Gradients are gathered: each image element looks at the outputs whose windows hold it, so the order
of additions is fixed. Windows that neither overlap nor leave the image need no gathering at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import DType, int64, uint8
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import cast, maximum
from rabbet.ops.checks import fixed, need_float, per_axis, wide
from rabbet.ops.compare import isnan, where
from rabbet.ops.create import constant, iota, ones, zeros
from rabbet.ops.index import take
from rabbet.ops.moves import expand, pad, reshape, slice_
from rabbet.ops.patches import Ints, output_sizes, padded_array, patch_slices, patches, spread
from rabbet.ops.reduce import max_, mean, min_, sum_

MOST_WRITTEN_OUT = 16  # windows of up to this many elements are compared one element at a time

Windows = tuple[Ints, Ints, Ints, Ints]  # kernel, stride, padding, dilation


def _windows(
    name: str, x: Any, rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1
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
    output_sizes(name, x.shape[-rank:], kernel, step, border, border, apart)
    return kernel, step, border, apart


def _tiles(windows: Windows) -> bool:
    """True where windows lie side by side inside the image: every element is in at most one."""
    kernel, stride, padding, dilation = windows
    return kernel == stride and not any(padding) and all(d == 1 for d in dilation)


def _lowest(dtype: DType) -> float:
    """What padding holds when the largest element is sought."""
    if dtype.is_float:
        return -np.inf
    return float(np.iinfo(dtype.numpy).min) if dtype.is_integer else 0.0


def _tile_back(g: Any, kernel: Ints) -> Any:
    """Outputs (..., *O) as (..., O1, 1, O2, 1, ...), to be set against elements of the same
    windows.
    """
    rank = len(kernel)
    shape: list[Dim] = list(g.shape[:-rank])
    for size in g.shape[-rank:]:
        shape += [size, 1]
    return reshape(g, tuple(shape))


def _untile(tiled: Any, x: Any, kernel: Ints) -> Any:
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


def _max_pool(x: Any, windows: Windows) -> Any:
    # The values, and as a residual the number of the element that each was in its window.
    kernel, stride, padding, dilation = windows
    found = patches(x, kernel, stride, padding, padding, dilation, _lowest(x.dtype))
    if int(np.prod(kernel)) <= MOST_WRITTEN_OUT:
        return _largest(found, x.ndim, kernel)
    axes = tuple(range(x.ndim, found.ndim))
    largest = max_(found, axes, keepdims=True)
    numbers = _element_numbers(x, kernel, axes, found.ndim, False, int64)
    hit = (found == largest) | isnan(found) if x.dtype.is_float else found == largest
    first = min_(where(hit, numbers, int(np.prod(kernel))), axes)
    return reshape(largest, first.shape), first


def _largest(found: Any, rank: int, kernel: Ints) -> tuple[Any, Any]:
    """The largest element of windows that lie along the axes behind `rank`, and its number.

    One map over the outputs: vectors run along the image, never along a window.
    """
    best = index = None
    for number, at in enumerate(np.ndindex(*kernel)):
        begin = (*(0,) * rank, *at)
        end = (*found.shape[:rank], *(i + 1 for i in at))
        value = reshape(slice_(found, begin, end, (1,) * found.ndim), found.shape[:rank])
        if best is None:
            # a value that this map makes itself, so that all that follows joins it
            best, index = maximum(value, value), zeros.like(value, value.shape, uint8)
            continue
        larger = maximum(best, value)
        wins = larger != best
        if value.dtype.is_float:
            wins = wins & (best == best)  # nothing comes after the first NaN
        index = where(wins, constant.like(value, number, uint8), index)
        best = larger
    return best, index


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


def _max_pool_gradient(g: Any, index: Any, x: Any, windows: Windows) -> Any:
    kernel, stride, padding, dilation = windows
    rank, lead = len(kernel), x.ndim - len(kernel)
    if _tiles(windows):
        axes = tuple(range(lead + 1, lead + 2 * rank, 2))
        numbers = _element_numbers(g, kernel, axes, lead + 2 * rank, False, index.dtype)
        hit = _tile_back(index, kernel) == numbers
        return _untile(where(hit, _tile_back(g, kernel), 0.0), x, kernel)
    geometry = (x.shape[lead:], kernel, stride, padding, padding, dilation)
    axes = tuple(range(x.ndim, x.ndim + rank))
    numbers = _element_numbers(g, kernel, axes, x.ndim + rank, True, index.dtype)
    hit = spread(index, *geometry, float(np.iinfo(index.dtype.numpy).max)) == numbers
    return sum_(where(hit, spread(g, *geometry), 0.0), axes)


def _max_pool_reference(
    x: np.ndarray, kernel_size: Any, stride: Any, padding: Any, dilation: Any, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    kernel, step, border, apart = _windows(
        "max_pool", x, rank, kernel_size, stride, padding, dilation
    )
    lowest = (
        -np.inf if x.dtype.kind not in "biu" else (np.iinfo(x.dtype).min if x.dtype != bool else 0)
    )
    padded = padded_array(x, border, border, lowest)
    counts = output_sizes("max_pool", x.shape[-rank:], kernel, step, border, border, apart)
    elements = [padded[patch_slices(at, counts, step, apart)] for at in np.ndindex(*kernel)]
    stacked = np.stack(elements, axis=-1)
    number = np.uint8 if stacked.shape[-1] <= MOST_WRITTEN_OUT else np.int64
    return stacked.max(axis=-1), stacked.argmax(axis=-1).astype(number)


def _pool_samples(rank: int, draw: str, **options: Any) -> list[Sample]:
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
    if "dilation" in options:
        found.append(sample((1, 2), kernel_size=2, stride=1, padding=1, dilation=3))
    else:
        found.append(sample((1, 2), kernel_size=3, stride=2, padding=1, count_include_pad=False))
    return found


def _max_samples(rank: int) -> list[Sample]:
    return _pool_samples(rank, "distinct", stride=None, padding=0, dilation=1)


@op(
    "composite",
    residuals=1,
    method=None,
    reference=lambda x, kernel_size, stride, padding, dilation: _max_pool_reference(
        x, kernel_size, stride, padding, dilation, 1
    ),
    samples=lambda: _max_samples(1),
)
def max_pool1d(
    x: Value,
    kernel_size: int | Ints,
    stride: int | Ints | None = None,
    padding: int | Ints = 0,
    dilation: int | Ints = 1,
) -> Value:
    """The largest element of every window; NaN wins; of equal ones the first gets the gradient.

    (N, C, L) -> (N, C, L'), any dtype; without N too. `stride` is the kernel size unless given.
    Raises ShapeError where no window fits or the padding is more than half a kernel.

    >>> rb.max_pool1d(rb.ones((1, 1, 6)), 2).shape
    (1, 1, 3)
    """
    windows = _windows("max_pool1d", x, 1, kernel_size, stride, padding, dilation)
    return _max_pool(x, windows)


@max_pool1d.gradient
def _max_pool1d_gradient(g: Any, y: Any, x: Any, **attrs: Any) -> tuple[Any]:
    return (_max_pool_gradient(g, y[1], x, _windows("max_pool1d", x, 1, **attrs)),)


@op(
    "composite",
    residuals=1,
    method=None,
    reference=lambda x, kernel_size, stride, padding, dilation: _max_pool_reference(
        x, kernel_size, stride, padding, dilation, 2
    ),
    samples=lambda: _max_samples(2),
)
def max_pool2d(
    x: Value,
    kernel_size: int | Ints,
    stride: int | Ints | None = None,
    padding: int | Ints = 0,
    dilation: int | Ints = 1,
) -> Value:
    """The largest element of every window; NaN wins; of equal ones the first gets the gradient.

    (N, C, H, W) -> (N, C, H', W'), any dtype; without N too. `stride` is the kernel size unless
    given. Raises ShapeError where no window fits or the padding is more than half a kernel.

    >>> rb.max_pool2d(rb.ones((1, 1, 6, 6)), 2).shape
    (1, 1, 3, 3)
    """
    windows = _windows("max_pool2d", x, 2, kernel_size, stride, padding, dilation)
    return _max_pool(x, windows)


@max_pool2d.gradient
def _max_pool2d_gradient(g: Any, y: Any, x: Any, **attrs: Any) -> tuple[Any]:
    return (_max_pool_gradient(g, y[1], x, _windows("max_pool2d", x, 2, **attrs)),)


# ---- average -------------------------------------------------------------------------------------


def _avg_windows(
    name: str, x: Any, rank: int, kernel_size: Any, stride: Any, padding: Any
) -> Windows:
    need_float(name, "input", x.dtype)
    return _windows(name, x, rank, kernel_size, stride, padding)


def _counts(x: Any, windows: Windows, count_include_pad: bool) -> Any:
    """By how much each window's sum is divided: a number, or one per output position."""
    kernel, stride, padding, dilation = windows
    if count_include_pad or not any(padding):
        return float(np.prod(kernel))
    shape = (1,) * (x.ndim - len(kernel)) + x.shape[x.ndim - len(kernel) :]
    inside = patches(ones.like(x, shape, x.dtype), kernel, stride, padding, padding, dilation)
    return sum_(inside, tuple(range(x.ndim, inside.ndim)))


def _avg_pool(x: Any, windows: Windows, count_include_pad: bool) -> Any:
    kernel, stride, padding, dilation = windows
    found = patches(x, kernel, stride, padding, padding, dilation)
    total = sum_(found, tuple(range(x.ndim, found.ndim)))
    return total / _counts(x, windows, count_include_pad)


def _avg_pool_gradient(g: Any, x: Any, windows: Windows, count_include_pad: bool) -> Any:
    kernel, stride, padding, dilation = windows
    g = g / _counts(x, windows, count_include_pad)
    lead = x.ndim - len(kernel)
    if _tiles(windows):
        shape = list(g.shape[:lead])
        for size, k in zip(g.shape[lead:], kernel, strict=True):
            shape += [size, k]
        return _untile(expand(_tile_back(g, kernel), tuple(shape)), x, kernel)
    found = spread(g, x.shape[lead:], kernel, stride, padding, padding, dilation)
    return sum_(found, tuple(range(x.ndim, found.ndim)))


def _avg_pool_reference(
    x: np.ndarray, kernel_size: Any, stride: Any, padding: Any, count_include_pad: bool, rank: int
) -> np.ndarray:
    kernel, step, border, _ = windows = _windows("avg_pool", x, rank, kernel_size, stride, padding)
    counts = output_sizes("avg_pool", x.shape[-rank:], *windows[:3], border, windows[3])
    y = np.zeros((*x.shape[:-rank], *counts))
    for position in np.ndindex(*counts):
        inside: list[Any] = [...]
        for o, s, p, k, size in zip(position, step, border, kernel, x.shape[-rank:], strict=True):
            inside.append(slice(max(o * s - p, 0), min(o * s - p + k, size)))
        window = wide(x)[tuple(inside)]
        elements = np.prod(kernel if count_include_pad else window.shape[-rank:])
        axes = tuple(range(-rank, 0))
        y[(..., *position)] = window.sum(axis=axes) / elements
    return y.astype(x.dtype)


def _avg_samples(rank: int) -> list[Sample]:
    return _pool_samples(rank, "float", stride=None, padding=0, count_include_pad=True)


@op(
    "composite",
    method=None,
    reference=lambda x, kernel_size, stride, padding, count_include_pad: _avg_pool_reference(
        x, kernel_size, stride, padding, count_include_pad, 1
    ),
    samples=lambda: _avg_samples(1),
)
def avg_pool1d(
    x: Value,
    kernel_size: int | Ints,
    stride: int | Ints | None = None,
    padding: int | Ints = 0,
    count_include_pad: bool = True,
) -> Value:
    """The mean of every window; padding counts as zeros unless `count_include_pad` is False.

    (N, C, L) -> (N, C, L'), floats; without N too. `stride` is the kernel size unless given. Raises
    ShapeError where no window fits or the padding is more than half a kernel.

    >>> rb.avg_pool1d(rb.ones((1, 1, 6)), 2).shape
    (1, 1, 3)
    """
    windows = _avg_windows("avg_pool1d", x, 1, kernel_size, stride, padding)
    return _avg_pool(x, windows, count_include_pad)


@avg_pool1d.gradient
def _avg_pool1d_gradient(
    g: Any, y: Any, x: Any, kernel_size: Any, stride: Any, padding: Any, count_include_pad: bool
) -> tuple[Any]:
    windows = _windows("avg_pool1d", x, 1, kernel_size, stride, padding)
    return (_avg_pool_gradient(g, x, windows, count_include_pad),)


@op(
    "composite",
    method=None,
    reference=lambda x, kernel_size, stride, padding, count_include_pad: _avg_pool_reference(
        x, kernel_size, stride, padding, count_include_pad, 2
    ),
    samples=lambda: _avg_samples(2),
)
def avg_pool2d(
    x: Value,
    kernel_size: int | Ints,
    stride: int | Ints | None = None,
    padding: int | Ints = 0,
    count_include_pad: bool = True,
) -> Value:
    """The mean of every window; padding counts as zeros unless `count_include_pad` is False.

    (N, C, H, W) -> (N, C, H', W'), floats; without N too. `stride` is the kernel size unless given.
    Raises ShapeError where no window fits or the padding is more than half a kernel.

    >>> rb.avg_pool2d(rb.ones((1, 1, 6, 6)), 2).shape
    (1, 1, 3, 3)
    """
    windows = _avg_windows("avg_pool2d", x, 2, kernel_size, stride, padding)
    return _avg_pool(x, windows, count_include_pad)


@avg_pool2d.gradient
def _avg_pool2d_gradient(
    g: Any, y: Any, x: Any, kernel_size: Any, stride: Any, padding: Any, count_include_pad: bool
) -> tuple[Any]:
    windows = _windows("avg_pool2d", x, 2, kernel_size, stride, padding)
    return (_avg_pool_gradient(g, x, windows, count_include_pad),)


# ---- to a given size -----------------------------------------------------------------------------


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


def _adaptive(name: str, x: Any, rank: int, output_size: Any) -> Any:
    need_float(name, "input", x.dtype)
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"{name}: input {show(x.shape)} needs {rank + 2} axes (or {rank + 1})")
    wanted = (output_size,) * rank if not isinstance(output_size, tuple) else output_size
    if len(wanted) != rank:
        raise ShapeError(f"{name}: output_size {show(wanted)} needs {rank} numbers")
    for axis, outputs in zip(range(x.ndim - rank, x.ndim), wanted, strict=True):
        if outputs is not None:  # None keeps the size, as in PyTorch
            x = _adaptive_axis(x, axis, per_axis(name, "output_size", outputs, 1, 1)[0])
    return x


def _adaptive_reference(x: np.ndarray, output_size: Any, rank: int) -> np.ndarray:
    wanted = output_size if isinstance(output_size, tuple) else (output_size,) * rank
    y = wide(x)
    for axis, outputs in zip(range(x.ndim - rank, x.ndim), wanted, strict=True):
        n = y.shape[axis]
        outputs = n if outputs is None else outputs
        bounds = [(o * n // outputs, -(-(o + 1) * n // outputs)) for o in range(outputs)]
        means = [y.take(range(a, b), axis).mean(axis, keepdims=True) for a, b in bounds]
        y = np.concatenate(means, axis)
    return y.astype(x.dtype)


@op(
    "composite",
    method=None,
    reference=lambda x, output_size: _adaptive_reference(x, output_size, 1),
    samples=lambda: [
        Sample((Draw((2, 3, 7)),), {"output_size": n}) for n in (1, 7, 3, (5,), None, 9)
    ],
)
def adaptive_avg_pool1d(x: Value, output_size: int | tuple[int | None, ...] | None) -> Value:
    """Means of `output_size` windows that divide the image as evenly as possible; None keeps the
    size.

    (N, C, L) -> (N, C, output_size), floats; without N too.

    >>> rb.adaptive_avg_pool1d(rb.ones((1, 3, 8)), 2).shape
    (1, 3, 2)
    """
    return _adaptive("adaptive_avg_pool1d", x, 1, output_size)


@op(
    "composite",
    method=None,
    reference=lambda x, output_size: _adaptive_reference(x, output_size, 2),
    samples=lambda: (
        [
            Sample((Draw((2, 3, 6, 4)),), {"output_size": n})
            for n in (1, (3, 2), (4, 3), (None, 1), (7, 5))
        ]
        + [Sample((Draw((2, 3, 3)),), {"output_size": 2})]
    ),
)
def adaptive_avg_pool2d(x: Value, output_size: int | tuple[int | None, ...] | None) -> Value:
    """Means of `output_size` windows that divide the image as evenly as possible; None keeps a
    size.

    (N, C, H, W) -> (N, C, *output_size), floats; without N too. `adaptive_avg_pool2d(x, 1)` is
    global pooling.

    >>> rb.adaptive_avg_pool2d(rb.ones((1, 3, 8, 8)), 1).shape
    (1, 3, 1, 1)
    """
    return _adaptive("adaptive_avg_pool2d", x, 2, output_size)
