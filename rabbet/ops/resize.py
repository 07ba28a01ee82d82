"""Images of another size, by nearest elements, linearly or cubically: one axis at a time.

Positions are computed in float64, so they do not depend on the dtype of the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from rabbet.base.dtypes import float64, int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import add, cast, clip, floor, multiply, subtract
from rabbet.ops.checks import need_choice, need_float, wide
from rabbet.ops.create import iota, number
from rabbet.ops.gather_scatter import take
from rabbet.ops.index_maps import reshape

MODES = ("nearest", "nearest-exact", "linear", "cubic")
CUBIC = -0.75  # the free number of cubic convolution (R. Keys, 1981), as in PyTorch

Scale = float | None

# ---- what both ways of resizing ask and are tested with ------------------------------------------


def resized_axes(
    x: Value, size: tuple[Dim, ...], scales: tuple[Scale, ...], mode: str, modes: tuple[str, ...]
) -> Iterator[tuple[int, Dim, Scale]]:
    """(axis, new size, scale) of each last axis; errors for what cannot be resized."""
    need_choice("interpolate", "mode", mode, modes)
    need_float("interpolate", "input", x.dtype)
    lead = x.ndim - len(size)
    if lead < 0 or len(scales) != len(size):
        raise ShapeError(f"interpolate: sizes {show(size)} do not fit an input {show(x.shape)}")
    if any(isinstance(d, int) and d < 1 for d in (*x.shape[lead:], *size)) or any(
        scale is not None and not scale > 0 for scale in scales
    ):
        raise ShapeError(
            f"interpolate: input {show(x.shape)}, sizes {show(size)} and scales {scales} must be "
            "positive"
        )
    return ((axis, m, s) for axis, (m, s) in enumerate(zip(size, scales, strict=True), lead))


def resize_samples(*cases: tuple[Any, ...]) -> list[Sample]:
    """(shape, size, mode, align_corners, scales) as samples."""
    names = ("size", "mode", "align_corners", "scales")
    return [Sample((Draw(s),), dict(zip(names, rest, strict=True))) for s, *rest in cases]


# ---- where an output element lies in the input ---------------------------------------------------


def _places(x: Any, n: Dim, m: Dim, scale: Scale, align_corners: bool) -> Any:
    """Positions (m,) in an axis of n elements, float64, not yet kept inside."""
    o = iota.like(x, (m,), 0, float64)
    if align_corners:
        if isinstance(m, int) and m == 1:
            return multiply(o, 0.0)
        return multiply(o, number(x, n - 1, float64) / number(x, m - 1, float64))
    step = number(x, n, float64) / number(x, m, float64) if scale is None else 1.0 / scale
    return subtract(multiply(add(o, 0.5), step), 0.5)


def _nearest(x: Any, n: Dim, m: Dim, scale: Scale, exact: bool) -> Any:
    """Whole positions (m,): in integers where the sizes alone decide."""
    last = number(x, n - 1, int64)
    if scale is None:
        o = iota.like(x, (m,), 0, int64)
        length, count = number(x, n, int64), number(x, m, int64)
        return (o * 2 + 1) * length // (count * 2) if exact else o * length // count
    o = iota.like(x, (m,), 0, float64)
    place = multiply(add(o, 0.5) if exact else o, 1.0 / scale)
    return clip(cast(floor(place), int64), 0, last)


def cubic_weights(t: Any) -> list[Any]:
    """The weights of the four neighbours -1, 0, 1, 2 at a distance t behind the second."""

    def near(d: Any) -> Any:
        return ((CUBIC + 2.0) * d - (CUBIC + 3.0)) * d * d + 1.0

    def far(d: Any) -> Any:
        return ((CUBIC * d - 5.0 * CUBIC) * d + 8.0 * CUBIC) * d - 4.0 * CUBIC

    return [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]


def _resize_axis(x: Any, axis: int, m: Dim, mode: str, align_corners: bool, scale: Scale) -> Any:
    n = x.shape[axis]
    if mode.startswith("nearest"):
        return take(x, _nearest(x, n, m, scale, mode != "nearest"), axis)
    place = _places(x, n, m, scale, align_corners)
    place = clip(place, 0.0, None) if mode == "linear" else place
    first = floor(place)
    inside = cast(subtract(place, first), x.dtype)
    t = reshape(inside, (m, *(1,) * (x.ndim - axis - 1)))
    start, last = cast(first, int64), number(x, n - 1, int64)
    if mode == "linear":
        taps = [(0, 1.0 - t), (1, t)]
    else:
        taps = list(zip(range(-1, 3), cubic_weights(t), strict=True))
    total = None
    for step, weight in taps:
        part = take(x, clip(start + step, 0, last), axis) * weight
        total = part if total is None else total + part
    return total


def _resize_array(
    x: np.ndarray, size: Any, mode: str, align_corners: bool, scales: tuple[Scale, ...]
) -> np.ndarray:
    y = wide(x)
    for axis, (m, scale) in enumerate(zip(size, scales, strict=True), x.ndim - len(size)):
        n = y.shape[axis]
        weights = np.zeros((m, n))
        step = n / m if scale is None else 1 / scale
        for o in range(m):
            if mode == "nearest":
                weights[o, min(math.floor(o * step + 1e-9), n - 1)] = 1
                continue
            if mode == "nearest-exact":
                weights[o, min(math.floor((o + 0.5) * step + 1e-9), n - 1)] = 1
                continue
            place = (o + 0.5) * step - 0.5
            if align_corners:
                place = o * (n - 1) / max(m - 1, 1)
            place = max(place, 0) if mode == "linear" else place
            i, t = math.floor(place), place - math.floor(place)
            taps = [(0, 1 - t), (1, t)]
            if mode == "cubic":
                taps = list(zip(range(-1, 3), cubic_weights(t), strict=True))
            for k, w in taps:
                weights[o, min(max(i + k, 0), n - 1)] += w
        y = np.moveaxis(np.tensordot(weights, y, (1, axis)), 0, axis)
    return y.astype(x.dtype)


def _resize_samples() -> list[Sample]:
    return resize_samples(
        *(((2, 3, 5), (8,), m, False, (None,)) for m in MODES),
        *(((1, 2, 4, 6), (7, 3), m, True, (None, None)) for m in ("linear", "cubic")),
        *(((1, 1, 3, 4), (7, 6), m, False, (2.5, 1.5)) for m in MODES),
        ((1, 1, 3, 2, 4), (2, 3, 1), "linear", False, (None, None, None)),
        ((1, 2, 3), (1,), "linear", True, (None,)),
        ((1, 2, 4, 4), (2, 9), "nearest", False, (None, None)),
    )


@op(
    "composite",
    public=False,
    sizes=("size",),
    reference=_resize_array,
    samples=_resize_samples,
    onnx="Resize",
)
def resize(
    x: Value,
    size: tuple[Dim, ...],
    mode: str,
    align_corners: bool,
    scales: tuple[float | None, ...],
) -> Value:
    """The last axes with other sizes: "nearest", "nearest-exact", "linear" or "cubic".

    Elements are areas, whose corners agree; with `align_corners` points, of which the first and the
    last agree. A scale says how large an output element is instead of the ratio of sizes.
    """
    for axis, m, scale in resized_axes(x, size, scales, mode, MODES):
        x = _resize_axis(x, axis, m, mode, align_corners, scale)
    return x
