"""Images read at any positions, and the positions that affine maps give (M. Jaderberg et al.,
"Spatial Transformer Networks", 2015), with PyTorch's definitions.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import (
    abs_,
    add,
    cast,
    clip,
    floor,
    multiply,
    remainder,
    round_,
    subtract,
)
from rabbet.ops.checks import agree, need_choice, need_float, need_same_dtype, wide
from rabbet.ops.compare import where
from rabbet.ops.contract import matmul
from rabbet.ops.create import iota, number
from rabbet.ops.gather_scatter import take
from rabbet.ops.index_maps import cut, permute, reshape
from rabbet.ops.joining import stack
from rabbet.ops.resize import cubic_weights

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")

# ---- positions -----------------------------------------------------------------------------------


def _pixels(place: Any, n: Any, align_corners: bool) -> Any:
    """From -1 to 1 -> element numbers."""
    if align_corners:
        return (place + 1.0) * 0.5 * (n - 1.0)
    return ((place + 1.0) * n - 1.0) * 0.5


def _reflected(place: Any, n: Any, align_corners: bool) -> Any:
    """Positions turned back at the borders until they are inside."""
    low, span = (0.0, n - 1.0) if align_corners else (-0.5, n * 1.0)
    if align_corners:
        span = where(span > 0.0, span, 1.0)  # a single point: everything is there
    away = remainder(abs_(place - low), span * 2.0)
    return where(away > span, span * 2.0 - away, away) + low


def _placed(place: Any, n: Any, padding_mode: str, align_corners: bool) -> Any:
    """Positions brought inside the image, as `padding_mode` says."""
    if padding_mode == "reflection":
        place = _reflected(place, n, align_corners)
    return place if padding_mode == "zeros" else clip(place, 0.0, n - 1.0)


class _Image:
    """An image (N, C, *sizes), to be read at positions (N, points) along every axis."""

    def __init__(self, x: Any, padding_mode: str, align_corners: bool) -> None:
        rank = x.ndim - 2
        self.sizes = x.shape[2:]
        self.padding_mode, self.align_corners = padding_mode, align_corners
        rows = permute(x, (0, *range(2, 2 + rank), 1))
        self.area = sizes.product(self.sizes)
        self.rows = reshape(rows, (x.shape[0] * self.area, x.shape[1]))
        self.start = multiply(iota.like(x, (x.shape[0], 1), 0, int64), number(x, self.area, int64))

    def at(self, places: list[Any]) -> Any:
        """Elements (N, points, C) at whole positions; what is outside counts as 0."""
        flat: Any = self.start
        inside: Any = None
        total: Any = 0
        for place, n in zip(places, self.sizes, strict=True):
            length = number(place, n, place.dtype)
            kept = clip(place, 0.0, length - 1.0)
            within = kept == place
            inside = within if inside is None else inside & within
            # NaN has no place: it is read at 0, and is outside.
            whole = cast(where(kept == kept, kept, 0.0), int64)
            total = total * number(place, n, int64) + whole
        found = take(self.rows, add(total, flat), 0)
        return where(reshape(inside, (*inside.shape, 1)), found, 0.0)


def _column(x: Any) -> Any:
    return reshape(x, (*x.shape, 1))


def _linear(image: _Image, places: list[Any]) -> Any:
    first = [floor(p) for p in places]
    inside = [subtract(p, f) for p, f in zip(places, first, strict=True)]
    total = None
    for corner in product((0, 1), repeat=len(places)):
        weight = None
        for c, t in zip(corner, inside, strict=True):
            part = t if c else 1.0 - t
            weight = part if weight is None else weight * part
        at = [f + float(c) if c else f for f, c in zip(first, corner, strict=True)]
        value = image.at(at) * _column(weight)
        total = value if total is None else total + value
    return total


def _cubic(image: _Image, places: list[Any]) -> Any:
    first = [floor(p) for p in places]
    weights = [cubic_weights(subtract(p, f)) for p, f in zip(places, first, strict=True)]
    total = None
    for taps in product(range(4), repeat=len(places)):
        weight, at = None, []
        for axis, tap in enumerate(taps):
            part = weights[axis][tap]
            weight = part if weight is None else weight * part
            n = number(first[axis], image.sizes[axis], first[axis].dtype)
            at.append(
                _placed(first[axis] + float(tap - 1), n, image.padding_mode, image.align_corners)
            )
        value = image.at(at) * _column(weight)
        total = value if total is None else total + value
    return total


# ---- reading -------------------------------------------------------------------------------------


def _sample_array(
    x: np.ndarray, grid: np.ndarray, mode: str, padding_mode: str, align_corners: bool
) -> np.ndarray:
    image, grid = wide(x), wide(grid)
    rank = x.ndim - 2
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]))

    def read(n: int, at: list[int]) -> np.ndarray:
        if all(0 <= a < s for a, s in zip(at, x.shape[2:], strict=True)):
            place: Any = (n, slice(None), *at)
            return image[place]
        return np.zeros(x.shape[1])

    def inside(p: float, s: int) -> float:
        if padding_mode == "reflection":
            low, span = (0.0, s - 1.0) if align_corners else (-0.5, float(s))
            away = abs(p - low) % (2 * span) if span else 0.0
            p = (2 * span - away if away > span else away) + low
        return p if padding_mode == "zeros" else min(max(p, 0.0), s - 1.0)

    for n, *point in np.ndindex(*grid.shape[:-1]):
        places = []
        for axis, s in enumerate(x.shape[2:]):
            g = grid[(n, *point, rank - 1 - axis)]
            p = (g + 1) / 2 * (s - 1) if align_corners else ((g + 1) * s - 1) / 2
            places.append(p if mode == "bicubic" else inside(p, s))
        whole = [math.floor(p) for p in places]
        total = np.zeros(x.shape[1])
        if mode == "nearest":
            total = read(n, [round(p) for p in places])
        elif mode == "bilinear":
            for c in product((0, 1), repeat=rank):
                parts = zip(c, places, whole, strict=True)
                w = math.prod(p - f if k else 1 - p + f for k, p, f in parts)
                total = total + w * read(n, [f + k for f, k in zip(whole, c, strict=True)])
        else:
            for c in product(range(4), repeat=rank):
                parts = zip(c, places, whole, strict=True)
                w = math.prod(cubic_weights(p - f)[k] for k, p, f in parts)
                at = zip(whole, c, x.shape[2:], strict=True)
                total = total + w * read(n, [int(inside(f + k - 1, s)) for f, k, s in at])
        y[(n, slice(None), *point)] = total
    return y.astype(x.dtype)


def _sample_samples() -> list[Sample]:
    cases = (
        *(("bilinear", "zeros", False), ("bilinear", "border", True)),
        *(("bilinear", "reflection", False), ("nearest", "reflection", True)),
        *(("bicubic", "zeros", True), ("bicubic", "reflection", False)),
    )
    flat = [
        Sample(
            (Draw((2, 1, 4, 3)), Draw((2, 2, 2, 2), -1.35, 1.35)),
            {"mode": m, "padding_mode": p, "align_corners": a},
        )
        for m, p, a in cases
    ]
    solid = (Draw((1, 2, 3, 2, 4)), Draw((1, 2, 1, 3, 3), -1.2, 1.2))
    attrs = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": False}
    return [*flat, Sample(solid, attrs)]


@op(
    "composite",
    method=None,
    public=False,
    reference=_sample_array,
    samples=_sample_samples,
    onnx="GridSample",
)
def grid_sample(
    x: Value,
    grid: Value,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Value:
    """An image read at the positions of a grid: (N, C, H, W), (N, OH, OW, 2) -> (N, C, OH, OW).

    Or (N, C, D, H, W), (N, OD, OH, OW, 3) -> (N, C, OD, OH, OW). Positions are (x, y) from -1 to 1,
    the last axis of the image first: the borders of its outer elements, or their middles with
    `align_corners`. mode: "bilinear" (of three axes too), "nearest", "bicubic" (images only).
    Outside are "zeros", the "border", or the "reflection".
    """
    need_choice("grid_sample", "mode", mode, MODES)
    need_choice("grid_sample", "padding_mode", padding_mode, PADDINGS)
    need_float("grid_sample", "input", x.dtype)
    need_same_dtype("grid_sample", input=x, grid=grid)
    rank = x.ndim - 2
    if (
        rank not in (2, 3)
        or grid.ndim != x.ndim
        or not agree(grid.shape[0], x.shape[0])
        or not agree(grid.shape[-1], rank)
        or any(isinstance(n, int) and n == 0 for n in x.shape[2:])
    ):
        raise ShapeError(
            f"grid_sample: input {show(x.shape)} and grid {show(grid.shape)} must be (N, C, H, W) "
            "and (N, OH, OW, 2), or (N, C, D, H, W) and (N, OD, OH, OW, 3)"
        )
    if mode == "bicubic" and rank != 2:
        raise ShapeError(f"grid_sample: mode='bicubic' needs images, not {show(x.shape)}")
    points = sizes.product(grid.shape[1:-1])
    flat = reshape(grid, (x.shape[0], points, rank))
    places = []
    for axis, n in enumerate(x.shape[2:]):
        place = reshape(cut(flat, 2, rank - 1 - axis, rank - axis), flat.shape[:2])
        length = number(place, n, place.dtype)
        place = _pixels(place, length, align_corners)
        if mode != "bicubic":
            place = _placed(place, length, padding_mode, align_corners)
        places.append(place)
    image = _Image(x, padding_mode, align_corners)
    if mode == "nearest":
        found = image.at([round_(p) for p in places])
    else:
        found = (_linear if mode == "bilinear" else _cubic)(image, places)
    shaped = reshape(found, (*grid.shape[:-1], x.shape[1]))
    return permute(shaped, (0, rank + 1, *range(1, rank + 1)))


# ---- affine maps ---------------------------------------------------------------------------------


def _affine_array(theta: np.ndarray, size: Any, align_corners: bool) -> np.ndarray:
    lines = []
    for n in size[2:]:
        line = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        lines.append(line if align_corners else line * (n - 1) / n)
    grids = np.meshgrid(*lines, indexing="ij")
    base = np.stack([*grids[::-1], np.ones(size[2:])], -1)
    found = np.tensordot(wide(theta), base, (2, base.ndim - 1))  # (N, rank, *sizes)
    return np.moveaxis(found, 1, -1).astype(theta.dtype)


@op(
    "composite",
    method=None,
    public=False,
    sizes=("size",),
    reference=_affine_array,
    samples=lambda: [
        Sample((Draw((s[0], len(s) - 2, len(s) - 1)),), {"size": s, "align_corners": a})
        for s in ((2, 3, 4, 5), (1, 1, 2, 3, 1), (2, 1, 1, 3))
        for a in (False, True)
    ],
    onnx="AffineGrid",
)
def affine_grid(theta: Value, size: tuple[Dim, ...], align_corners: bool = False) -> Value:
    """Positions for `grid_sample` under affine maps: (N, 2, 3), (N, C, H, W) -> (N, H, W, 2).

    Or (N, 3, 4), (N, C, D, H, W) -> (N, D, H, W, 3).
    """
    need_float("affine_grid", "theta", theta.dtype)
    rank = len(size) - 2
    if rank not in (2, 3) or theta.ndim != 3 or theta.shape != (size[0], rank, rank + 1):
        raise ShapeError(
            f"affine_grid: theta {show(theta.shape)} and size {show(size)} must be (N, 2, 3) and "
            "(N, C, H, W), or (N, 3, 4) and (N, C, D, H, W)"
        )
    image = size[2:]
    lines = []
    for axis, n in reversed(list(enumerate(image))):
        at, length = iota.like(theta, image, axis, theta.dtype), number(theta, n, theta.dtype)
        if not align_corners:
            lines.append(((at * 2.0 + 1.0) - length) / length)
        elif isinstance(n, int) and n == 1:
            lines.append(at)
        else:
            lines.append(at * (2.0 / (length - 1.0)) - 1.0)
    lines.append(iota.like(theta, image, 0, theta.dtype) * 0.0 + 1.0)
    base = reshape(stack(lines, rank), (sizes.product(image), rank + 1))
    found = matmul(base, permute(theta, (0, 2, 1)))
    return reshape(found, (size[0], *image, rank))
