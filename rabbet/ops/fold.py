"""Windows of images as columns, columns back as images, and channels as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.checks import agree, per_axis
from rabbet.ops.index_maps import fold_window, permute, reshape, slice_
from rabbet.ops.patches import Ints, output_sizes, padded_array, patch_slices, patches

Geometry = tuple[Ints, Ints, Ints, Ints]  # kernel, dilation, padding, stride


def _geometry(name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Geometry:
    given = (("kernel_size", kernel_size, 1), ("dilation", dilation, 1), ("padding", padding, 0))
    kernel, apart, border = (per_axis(name, n, v, 2, least) for n, v, least in given)
    return kernel, apart, border, per_axis(name, "stride", stride, 2, 1)


# ---- columns of windows --------------------------------------------------------------------------


def _unfold_array(x: np.ndarray, *attrs: Any) -> np.ndarray:
    kernel, apart, border, step = _geometry("unfold", *attrs)
    outputs = output_sizes("unfold", x.shape[-2:], kernel, step, border, border, apart)
    padded = padded_array(x, border, border)
    parts = [padded[patch_slices(at, outputs, step, apart)] for at in np.ndindex(*kernel)]
    shape: Any = (*x.shape[:-3], x.shape[-3] * int(np.prod(kernel)), sizes.product(outputs))
    return np.stack(parts, -3).reshape(shape)


_CASES: tuple[tuple[Any, ...], ...] = (
    ((2, 3, 5, 6), 2, 1, 0, 1),
    ((1, 2, 5, 6), (2, 3), (2, 1), (1, 0), (1, 2)),
    ((2, 4, 4), 2, 1, 0, 2),
    ((0, 1, 3, 3), 3, 1, 1, 2),
)
_NAMES = ("kernel_size", "dilation", "padding", "stride")


@op(
    "composite",
    method=None,
    public=False,
    reference=_unfold_array,
    samples=lambda: [
        Sample((Draw(s),), dict(zip(_NAMES, rest, strict=True)), ("int32", *FLOATS))
        for s, *rest in _CASES
    ],
)
def unfold(
    x: Value,
    kernel_size: int | Ints,
    dilation: int | Ints = 1,
    padding: int | Ints = 0,
    stride: int | Ints = 1,
) -> Value:
    """Every window of an image as a column: (N, C, H, W) -> (N, C KH KW, windows); without N too.

    Raises ShapeError where no window fits.
    """
    if x.ndim not in (3, 4):
        raise ShapeError(f"unfold: input {show(x.shape)} must be (N, C, H, W) or (C, H, W)")
    kernel, apart, border, step = _geometry("unfold", kernel_size, dilation, padding, stride)
    output_sizes("unfold", x.shape[-2:], kernel, step, border, border, apart)
    found = patches(x, kernel, step, border, border, apart)  # (N, C, OH, OW, KH, KW)
    lead = x.ndim - 3
    order = (*range(lead + 1), lead + 3, lead + 4, lead + 1, lead + 2)
    rows = x.shape[lead] * kernel[0] * kernel[1]
    columns = found.shape[lead + 1] * found.shape[lead + 2]
    return reshape(permute(found, order), (*x.shape[:lead], rows, columns))


def _fold_array(x: np.ndarray, output_size: Any, *attrs: Any) -> np.ndarray:
    kernel, apart, border, step = _geometry("fold", *attrs)
    size = per_axis("fold", "output_size", output_size, 2, 1)
    outputs = output_sizes("fold", size, kernel, step, border, border, apart)
    channels = x.shape[-2] // int(np.prod(kernel))
    parts = x.reshape((*x.shape[:-2], channels, *kernel, *outputs))
    total = padded_array(np.zeros((*x.shape[:-2], channels, *size), x.dtype), border, border)
    for at in np.ndindex(*kernel):
        total[patch_slices(at, outputs, step, apart)] += parts[(..., *at, slice(None), slice(None))]
    return total[..., border[0] : border[0] + size[0], border[1] : border[1] + size[1]]


@op(
    "composite",
    method=None,
    public=False,
    sizes=("output_size",),
    reference=_fold_array,
    samples=lambda: [
        Sample(
            (Draw(_unfold_array(np.zeros(s), *rest).shape),),
            {"output_size": s[-2:], **dict(zip(_NAMES, rest, strict=True))},
            ("int32", *FLOATS),
        )
        for s, *rest in _CASES
    ],
    onnx="Col2Im",
)
def fold(
    x: Value,
    output_size: tuple[Dim, ...],
    kernel_size: int | Ints,
    dilation: int | Ints = 1,
    padding: int | Ints = 0,
    stride: int | Ints = 1,
) -> Value:
    """Columns of windows added up to an image: (N, C KH KW, windows) -> (N, C, *output_size).

    The transpose of `unfold`; without N too. Raises ShapeError where rows or columns do not fit.
    """
    kernel, apart, border, step = _geometry("fold", kernel_size, dilation, padding, stride)
    size = output_size if isinstance(output_size, tuple) else (output_size,) * 2
    outputs = output_sizes("fold", size, kernel, step, border, border, apart)
    elements = kernel[0] * kernel[1]
    if (
        x.ndim not in (2, 3)
        or x.shape[-2] % elements != 0
        or not agree(x.shape[-1], sizes.product(outputs))
    ):
        raise ShapeError(
            f"fold: input {show(x.shape)} must be (N, C * {elements}, {sizes.product(outputs)}) "
            f"for images {show(size)} of windows {show(kernel)}"
        )
    lead, channels = x.shape[:-2], x.shape[-2] // elements
    y = reshape(x, (*lead, channels, *kernel, *outputs))
    first = len(lead) + 1
    y = permute(y, (*range(first), first + 2, first + 3, first, first + 1))
    wide = [n + 2 * p for n, p in zip(size, border, strict=True)]
    for axis in (1, 0):  # the last axis is the last axis's window
        y = fold_window(y, first + axis, wide[axis], kernel[axis], step[axis], apart[axis])
    if not any(border):
        return y
    begin = (*(0,) * first, *border)
    end = (*lead, channels, *(n + p for n, p in zip(size, border, strict=True)))
    return slice_(y, begin, end, (1,) * y.ndim)


# ---- channels and pixels -------------------------------------------------------------------------


def _shuffle_array(x: np.ndarray, upscale_factor: int) -> np.ndarray:
    *lead, c, h, w = x.shape
    r = upscale_factor
    y = np.zeros((*lead, c // r**2, h * r, w * r), x.dtype)
    for i in range(r):
        for j in range(r):
            y[..., i::r, j::r] = x[..., i * r + j :: r**2, :, :]
    return y


@op(
    "composite",
    method=None,
    public=False,
    reference=_shuffle_array,
    samples=lambda: [
        Sample((Draw(s),), {"upscale_factor": r}, ("int32", *FLOATS))
        for s, r in (((2, 8, 3, 2), 2), ((9, 2, 2), 3), ((1, 4, 0, 2), 2))
    ],
    onnx="DepthToSpace",
)
def pixel_shuffle(x: Value, upscale_factor: int) -> Value:
    """Channels as pixels: (..., C r^2, H, W) -> (..., C, H r, W r) (Shi et al., 2016)."""
    r = upscale_factor
    if x.ndim < 3 or r < 1 or x.shape[-3] % (r * r) != 0:
        raise ShapeError(
            f"pixel_shuffle: input {show(x.shape)} must be (..., C, H, W) with C a multiple of "
            f"{r} squared"
        )
    *lead, c, h, w = x.shape
    n = len(lead)
    y = reshape(x, (*lead, c // (r * r), r, r, h, w))
    y = permute(y, (*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return reshape(y, (*lead, c // (r * r), h * r, w * r))


@op(
    "composite",
    method=None,
    public=False,
    reference=lambda x, downscale_factor: np.concatenate(
        [
            x[..., i::downscale_factor, j::downscale_factor][..., None, :, :]
            for i in range(downscale_factor)
            for j in range(downscale_factor)
        ],
        -3,
    ).reshape(
        (
            *x.shape[:-3],
            x.shape[-3] * downscale_factor**2,
            x.shape[-2] // downscale_factor,
            x.shape[-1] // downscale_factor,
        )
    ),
    samples=lambda: [
        Sample((Draw(s),), {"downscale_factor": r}, ("int32", *FLOATS))
        for s, r in (((2, 2, 6, 4), 2), ((1, 3, 6), 3), ((1, 1, 0, 2), 2))
    ],
    onnx="SpaceToDepth",
)
def pixel_unshuffle(x: Value, downscale_factor: int) -> Value:
    """Pixels as channels: (..., C, H r, W r) -> (..., C r^2, H, W), the opposite of
    `pixel_shuffle`.
    """
    r = downscale_factor
    if x.ndim < 3 or r < 1 or x.shape[-2] % r != 0 or x.shape[-1] % r != 0:
        raise ShapeError(
            f"pixel_unshuffle: input {show(x.shape)} must be (..., C, H, W) with H and W multiples "
            f"of {r}"
        )
    *lead, c, h, w = x.shape
    n = len(lead)
    y = reshape(x, (*lead, c, h // r, r, w // r, r))
    y = permute(y, (*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return reshape(y, (*lead, c * r * r, h // r, w // r))


@op(
    "composite",
    method=None,
    public=False,
    reference=lambda x, groups: np.concatenate(
        [x[:, i :: x.shape[1] // groups] for i in range(x.shape[1] // groups)], 1
    ),
    samples=lambda: [
        Sample((Draw(s),), {"groups": g}, ("int32", *FLOATS))
        for s, g in (((2, 6, 3), 2), ((1, 6, 2, 2), 3))
    ],
)
def channel_shuffle(x: Value, groups: int) -> Value:
    """Channels of `groups` groups, interleaved: (N, C, ...) -> (N, C, ...) (Zhang et al., 2018)."""
    if x.ndim < 3 or groups < 1 or x.shape[1] % groups != 0:
        raise ShapeError(
            f"channel_shuffle: {groups} groups do not divide axis 1 of {show(x.shape)}"
        )
    n, c, *rest = x.shape
    y = reshape(x, (n, groups, c // groups, *rest))
    return reshape(permute(y, (0, 2, 1, *range(3, y.ndim))), x.shape)
