"""Borders around images that go on as the image does: mirrored, repeated or from the other side."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import abs_, clip, remainder, subtract
from rabbet.ops.checks import need_choice
from rabbet.ops.create import iota, number
from rabbet.ops.gather_scatter import take

BORDERS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # and NumPy's names


def _border_array(x: np.ndarray, low: Any, high: Any, mode: str) -> np.ndarray:
    grow = [(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True)]
    wide_ = np.pad(x, grow, mode=BORDERS[mode])  # type: ignore[call-overload]
    cuts = tuple(
        slice(max(-a, 0), n - max(-b, 0)) for a, b, n in zip(low, high, wide_.shape, strict=True)
    )
    return np.asarray(wide_[cuts])


@op(
    "composite",
    public=False,
    reference=_border_array,
    samples=lambda: [
        Sample((Draw(s),), {"low": low, "high": high, "mode": m}, ("int32", *FLOATS))
        for m in BORDERS
        for s, low, high in (((4,), (2,), (3,)), ((2, 3, 4), (0, 1, 2), (0, 2, -1)))
    ],
    onnx="Pad",
)
def pad_border(x: Value, low: tuple[int, ...], high: tuple[int, ...], mode: str) -> Value:
    """`x` with elements around it that repeat it: "reflect", "replicate" or "circular".

    One number before and behind each axis; negative ones cut off.
    """
    need_choice("pad", "mode", mode, tuple(BORDERS))
    if len(low) != x.ndim or len(high) != x.ndim:
        raise ShapeError(f"pad: {len(low)} axes do not fit an input {show(x.shape)}")
    for axis, (a, b) in enumerate(zip(low, high, strict=True)):
        if a == 0 and b == 0:
            continue
        n = x.shape[axis]
        most = {"reflect": n - 1, "circular": n}.get(mode)
        if most is not None and (a > most or b > most):
            raise ShapeError(
                f"pad: {a} before and {b} behind axis {axis} of {show(x.shape)} are more than "
                f"mode={mode!r} can repeat"
            )
        if n + a + b < 0 or isinstance(n, int) and n == 0:
            raise ShapeError(f"pad: axis {axis} of {show(x.shape)} cannot be padded by {a} and {b}")
        at = subtract(iota.like(x, (n + a + b,), 0, int64), a)
        length = number(x, n, int64)
        if mode == "circular":
            at = remainder(at, length)
        elif mode == "replicate":
            at = clip(at, 0, length - 1)
        else:  # there and back again
            at = subtract(length - 1, abs_(subtract(length - 1, abs_(at))))
        x = take(x, at, axis)
    return x
