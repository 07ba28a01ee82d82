"""Windows of images and their transpose: what convolution and pooling, forward and backward, share.

All functions treat the last `len(kernel)` axes as spatial and the axes before as they are. Kernel
sizes, strides, paddings and dilations are static; image sizes need not be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.ops.checks import per_axis
from rabbet.ops.index_maps import pad, slice_, window

Ints = tuple[int, ...]


def resolve_padding(
    op: str, padding: Any, kernel: Ints, stride: Ints, dilation: Ints
) -> tuple[Ints, Ints]:
    """The amounts before and after each axis; "same" pads the odd one behind, as PyTorch does."""
    if padding == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ShapeError(f"{op}: padding='same' needs stride 1, not {show(stride)}")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    if isinstance(padding, str):
        raise ShapeError(f"{op}: padding {padding!r} is not 'same', 'valid' or numbers")
    both = per_axis(op, "padding", padding, len(kernel), 0)
    return both, both


def output_sizes(
    op: str,
    sizes: tuple[Dim, ...],
    kernel: Ints,
    stride: Ints,
    low: Ints,
    high: Ints,
    dilation: Ints,
) -> tuple[Dim, ...]:
    """How many windows fit in each axis; ShapeError where not even one does."""
    found = []
    for size, k, s, a, b, d in zip(sizes, kernel, stride, low, high, dilation, strict=True):
        room = size + a + b - d * (k - 1) - 1
        if room < 0:
            raise ShapeError(
                f"{op}: a window of {d * (k - 1) + 1} elements (kernel {show(kernel)}, dilation "
                f"{show(dilation)}) does not fit in {size + a + b}: input {show(sizes)} "
                f"padded by {show(low)} before and {show(high)} behind"
            )
        found.append(room // s + 1)
    return tuple(found)


def patches(
    x: Any, kernel: Ints, stride: Ints, low: Ints, high: Ints, dilation: Ints, fill: float = 0.0
) -> Any:
    """Every window of the padded image: (..., *sizes) -> (..., *output sizes, *kernel)."""
    lead = x.ndim - len(kernel)
    if any(low) or any(high):
        none = (0,) * lead
        x = pad(x, none + low, none + high, (0,) * x.ndim, fill)
    return window(x, tuple(range(lead, x.ndim)), kernel, stride, dilation)


def spread(
    g: Any,
    sizes: tuple[Dim, ...],
    kernel: Ints,
    stride: Ints,
    low: Ints,
    high: Ints,
    dilation: Ints,
    fill: float = 0.0,
) -> Any:
    """For each image element the outputs whose windows hold it: (..., *outputs) -> (..., *sizes,
    *kernel).

    Element [s, j] is g[o] where window o holds image position s as its element kernel - 1 - j (o *
    stride - low + (kernel - 1 - j) * dilation == s), else `fill`. A gradient is thus gathered, with
    a fixed order of additions, and never scattered.
    """
    lead = g.ndim - len(kernel)
    before, behind, interior = [0] * lead, [0] * lead, [0] * lead
    begin, end = [0] * lead, list(g.shape[:lead])
    cropped = False
    axes = zip(sizes, g.shape[lead:], kernel, stride, low, high, dilation, strict=True)
    for size, outputs, k, s, a, b, d in axes:
        reach = d * (k - 1)
        # Padding wider than a window's reach: the first or last windows see no image; cut them off.
        crop_before, crop_behind = max(a - reach, 0), max(b - reach, 0)
        if isinstance(size, int) and size == 0:  # `window` wants room for one element
            crop_behind = max(crop_behind, 1)
        before.append(reach - a + crop_before)
        behind.append(size + crop_before + crop_behind + reach - before[-1] - (outputs - 1) * s - 1)
        interior.append(s - 1)
        begin.append(crop_before)
        end.append(crop_before + size)
        cropped |= crop_before > 0 or crop_behind > 0
    padded = pad(g, tuple(before), tuple(behind), tuple(interior), fill)
    ones = (1,) * len(kernel)
    found = window(padded, tuple(range(lead, g.ndim)), kernel, ones, dilation)
    if not cropped:
        return found
    steps = (1,) * found.ndim
    begin, end = begin + [0] * len(kernel), end + list(kernel)
    return slice_(found, tuple(begin), tuple(end), steps)


def patch_slices(
    at: Ints, outputs: tuple[Dim, ...], stride: Ints, dilation: Ints
) -> tuple[Any, ...]:
    """For references: where element `at` of every window lies in a padded NumPy image."""
    found: list[Any] = [...]
    for k, n, s, d in zip(at, outputs, stride, dilation, strict=True):
        assert isinstance(n, int)
        found.append(slice(k * d, k * d + (n - 1) * s + 1, s))
    return tuple(found)


def padded_array(x: np.ndarray, low: Ints, high: Ints, fill: float = 0.0) -> np.ndarray:
    """For references: a NumPy image with its border."""
    lead = [(0, 0)] * (x.ndim - len(low))
    return np.pad(x, [*lead, *zip(low, high, strict=True)], constant_values=fill)
