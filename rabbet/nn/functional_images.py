"""Functions of images for `functional`: pooling with positions, sizes, borders, columns, grids."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.library.random import default_generator, rand
from rabbet.nn.axes import per_axis
from rabbet.ops.checks import need_float
from rabbet.tensor import Tensor, functions, ones

Function = Callable[..., Any]
Sizes = int | tuple[int, ...]

unfold: Function = functions["unfold"]
pixel_shuffle: Function = functions["pixel_shuffle"]
pixel_unshuffle: Function = functions["pixel_unshuffle"]
channel_shuffle: Function = functions["channel_shuffle"]


def fold(
    input: Tensor,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Tensor:
    """Columns of windows added up to images: (N, C KH KW, windows) -> (N, C, *output_size)."""
    size = per_axis(output_size, 2)
    return functions["fold"](input, size, kernel_size, dilation, padding, stride)


# ---- pooling -------------------------------------------------------------------------------------


def _max_pool(rank: int) -> Function:
    name = f"max_pool{rank}d"
    plain, both = functions[name], functions[f"{name}_with_indices"]

    def function(
        input: Tensor,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        found = both if return_indices else plain
        return found(input, kernel_size, stride, padding, dilation, ceil_mode)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        "The largest element of every window; with `return_indices` also where it lies in the "
        f"flattened image. Else as `rabbet.{name}`."
    )
    return function


max_pool1d = _max_pool(1)
max_pool2d = _max_pool(2)
max_pool3d = _max_pool(3)


def _adaptive_max_pool(rank: int) -> Function:
    name = f"adaptive_max_pool{rank}d"
    both = functions[f"{name}_with_indices"]

    def function(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        wanted = output_size if isinstance(output_size, int | None) else tuple(output_size)
        values, places = both(input, wanted)
        return (values, places) if return_indices else values

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        "The largest elements of `output_size` windows that divide an image evenly; with "
        "`return_indices` also where they lie in the flattened image."
    )
    return function


adaptive_max_pool1d = _adaptive_max_pool(1)
adaptive_max_pool2d = _adaptive_max_pool(2)
adaptive_max_pool3d = _adaptive_max_pool(3)


def _fractional_max_pool(rank: int) -> Function:
    name = f"fractional_max_pool{rank}d"
    both = functions[f"{name}_with_indices"]

    def function(
        input: Tensor,
        kernel_size: Sizes,
        output_size: Sizes | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> Any:
        if (output_size is None) == (output_ratio is None):
            raise RabbetError(f"{name}: give output_size or output_ratio, one of them")
        need_float(name, "input", input.dtype)
        image = input.shape[-rank:]
        if output_ratio is not None:
            is_one = isinstance(output_ratio, int | float | np.floating)
            given: Any = (output_ratio,) * rank if is_one else output_ratio
            if any(not 0 < r < 1 for r in given) or len(given) != rank:
                raise RabbetError(f"{name}: output_ratio={output_ratio} must be between 0 and 1")
            output_size = tuple(int(n * r) for n, r in zip(image, given, strict=True))
        single = input.ndim == rank + 1
        x = input.unsqueeze(0) if single else input
        chance = _random_samples
        if chance is None:
            chance = rand((*x.shape[:2], rank), dtype=x.dtype)
        size = tuple(output_size) if isinstance(output_size, list) else output_size
        values, places = both(x, chance, kernel_size, size)
        if single:
            values, places = values.squeeze(0), places.squeeze(0)
        return (values, places) if return_indices else values

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        "The largest elements of windows that begin at random distances (B. Graham, 2014): of "
        "`output_size` windows, or `output_ratio` times the input's sizes; with `return_indices` "
        "also where they lie in the flattened image. `_random_samples` (N, C, axes), from 0 up to "
        "1, are drawn unless given."
    )
    return function


fractional_max_pool2d = _fractional_max_pool(2)
fractional_max_pool3d = _fractional_max_pool(3)


def _max_unpool(rank: int) -> Function:
    def function(
        input: Tensor,
        indices: Tensor,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        output_size: Sequence[int] | None = None,
    ) -> Tensor:
        kernel = per_axis(kernel_size, rank)
        step = kernel if stride is None else per_axis(stride, rank)
        border = per_axis(padding, rank)
        usual = tuple(
            (n - 1) * s - 2 * p + k
            for n, s, p, k in zip(input.shape[-rank:], step, border, kernel, strict=True)
        )
        size = usual if output_size is None else tuple(output_size)[-rank:]
        if any(not abs(n - u) < s for n, u, s in zip(size, usual, step, strict=True)):
            raise ShapeError(
                f"max_unpool{rank}d: output_size {show(size)} must be less than a stride "
                f"{show(step)} away from {show(usual)}"
            )
        return functions["max_unpool"](input, indices, size)

    function.__name__ = function.__qualname__ = f"max_unpool{rank}d"
    function.__doc__ = (
        "Elements back where max pooling found them, zeros elsewhere: `indices` are those of "
        f"max_pool{rank}d(..., return_indices=True)."
    )
    return function


max_unpool1d = _max_unpool(1)
max_unpool2d = _max_unpool(2)
max_unpool3d = _max_unpool(3)

# ---- sizes ---------------------------------------------------------------------------------------

_MODES = {
    **{"nearest": ("nearest", (1, 2, 3)), "nearest-exact": ("nearest-exact", (1, 2, 3))},
    **{"linear": ("linear", (1,)), "bilinear": ("linear", (2,)), "trilinear": ("linear", (3,))},
    **{"bicubic": ("cubic", (2,)), "area": ("area", (1, 2, 3))},
}


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Signals, images or volumes of another size: (N, C, *spatial) -> (N, C, *size).

    Give `size`, or `scale_factor` by which sizes are multiplied. mode: "nearest", "nearest-exact",
    "linear", "bilinear", "trilinear", "bicubic" or "area" (means). Elements are areas; with
    `align_corners` they are points, of which the first and the last agree. With
    `recompute_scale_factor` the ratio of the sizes is used, not the scale as given. `antialias`
    (bilinear, bicubic) takes means over all that an element of a smaller image covers.

    >>> nn.functional.interpolate(rb.ones((1, 1, 2, 2)), scale_factor=2, mode="bilinear").shape
    (1, 1, 4, 4)
    """
    rank = input.ndim - 2
    if mode not in _MODES or rank not in _MODES[mode][1]:
        raise RabbetError(
            f"interpolate: mode={mode!r} does not fit an input {show(input.shape)}; there are "
            + ", ".join(f"{m!r}" for m, (_, ranks) in _MODES.items() if rank in ranks)
        )
    kind = _MODES[mode][0]
    if align_corners is not None and kind not in ("linear", "cubic"):
        raise RabbetError(f"interpolate: align_corners means nothing with mode={mode!r}")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise RabbetError(f"interpolate: antialias=True is for bilinear and bicubic, not {mode!r}")
    if (size is None) == (scale_factor is None):
        raise RabbetError("interpolate: give size or scale_factor, one of them")
    scales: tuple[float | None, ...] = (None,) * rank
    if scale_factor is not None:
        given = (scale_factor,) * rank if isinstance(scale_factor, int | float) else scale_factor
        if len(given) != rank or any(not f > 0 for f in given):
            raise ShapeError(f"interpolate: scale_factor {given} needs {rank} positive numbers")
        wanted = tuple(
            math.floor(n * f) for n, f in zip(input.shape[2:], map(float, given), strict=True)
        )
        scales = scales if recompute_scale_factor else tuple(map(float, given))
    else:
        wanted = (size,) * rank if isinstance(size, int) else tuple(size or ())
    if len(wanted) != rank or any(n < 1 for n in wanted):
        raise ShapeError(f"interpolate: size {show(wanted)} needs {rank} positive numbers")
    if kind == "area":
        return functions[f"adaptive_avg_pool{rank}d"](input, wanted)
    resize = functions["resize_antialiased" if antialias else "resize"]
    return resize(input, wanted, kind, bool(align_corners), scales)


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate` under its old name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


# ---- borders -------------------------------------------------------------------------------------


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Add elements around the last axes: `value` (0), or what is there with another mode.

    `pad` is (before, after) of the last axis, then of the one before it, and so on. Negative
    numbers cut off. mode: "constant", "reflect", "replicate", "circular". ShapeError for a wrong
    count, or for more elements than a mode can repeat.

    >>> nn.functional.pad(rb.asarray([1.0, 2.0, 3.0]), (1, 1), mode="reflect")
    tensor([2., 1., 2., 3., 2.])
    """
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise RabbetError(
            f"pad: mode={mode!r} does not exist; there are 'constant', 'reflect', 'replicate' and "
            "'circular'"
        )
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ShapeError(f"pad: {len(pad)} numbers do not fit an input {show(input.shape)}")
    pairs = [(0, 0)] * (input.ndim - len(pad) // 2)
    pairs += [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    if mode != "constant":
        if value is not None:
            raise RabbetError(f"pad: value={value} means nothing with mode={mode!r}")
        low, high = tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
        return functions["pad_border"](input, low, high, mode)
    low = tuple(max(a, 0) for a, _ in pairs)
    high = tuple(max(b, 0) for _, b in pairs)
    fill = 0.0 if value is None else float(value)
    wide = functions["pad"](input, low, high, (0,) * input.ndim, fill)
    cuts = tuple(
        slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(pairs, wide.shape, strict=True)
    )
    return wide[cuts] if min(pad, default=0) < 0 else wide


# ---- grids ---------------------------------------------------------------------------------------


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """An image read at the positions of a grid: (N, C, H, W), (N, OH, OW, 2) -> (N, C, OH, OW).

    Or (N, C, D, H, W), (N, OD, OH, OW, 3). Positions are (x, y[, z]) from -1 to 1. mode:
    "bilinear", "nearest", "bicubic"; padding_mode: "zeros", "border", "reflection".
    """
    return functions["grid_sample"](input, grid, mode, padding_mode, bool(align_corners))


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Positions for `grid_sample` under affine maps: (N, 2, 3) and (N, C, H, W) -> (N, H, W, 2)."""
    return functions["affine_grid"](theta, tuple(size), bool(align_corners))


# ---- channels ------------------------------------------------------------------------------------


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """input / (k + alpha * mean of squares over `size` channels around) ** beta: (N, C, ...)."""
    if input.ndim < 3 or size < 1:
        raise ShapeError(f"local_response_norm: size {size} for an input {show(input.shape)}")
    n, c, *rest = input.shape
    square = (input * input).reshape((n, 1, c, math.prod(rest)))
    wide = pad(square, (0, 0, size // 2, (size - 1) // 2))
    mean = functions["avg_pool2d"](wide, (size, 1), 1).reshape(input.shape)
    return input / (mean * alpha + k) ** beta


def channel_dropout(name: str, rank: int, input: Tensor, p: float, training: bool) -> Tensor:
    """Whole channels set to 0 with probability p, the others divided by 1 - p."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p={p} is not a probability")
    if input.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"{name}: the input {show(input.shape)} needs {rank + 2} axes")
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0.0
    lead = input.shape[: input.ndim - rank]
    channels = ones(lead + (1,) * rank, dtype=input.dtype)
    key, offset = default_generator.reserve(channels.numel())
    return input * functions["dropout"](channels, float(p), key, offset)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Sets whole channels of (N, C, L) to 0 with probability p, while training."""
    return channel_dropout("dropout1d", 1, input, p, training)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Sets whole channels of (N, C, H, W) to 0 with probability p, while training."""
    return channel_dropout("dropout2d", 2, input, p, training)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Sets whole channels of (N, C, D, H, W) to 0 with probability p, while training."""
    return channel_dropout("dropout3d", 3, input, p, training)
