"""x - tanh(x), which cancels near 0."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np

from rabbet.graph.op import op
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import abs_, square
from rabbet.ops.compare import where
from rabbet.ops.error_functions import in_double
from rabbet.ops.rules import unary_samples, wide
from rabbet.ops.special import polynomial
from rabbet.ops.trigonometry import tanh


def _lambert(depth: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Polynomials C, B of z = x * x with (x - tanh(x)) / x = z C(z) / B(z), near enough.

    From Lambert's continued fraction (1761), tanh(x) = x / (1 + z / (3 + z / (5 + ...))): all
    coefficients are positive, so nothing cancels.
    """
    top, bottom = [1], [2 * depth + 1]
    for odd in range(2 * depth - 1, 0, -2):  # odd + z / (bottom / top)
        longer = [0, *top] + [0] * (len(bottom) - len(top) - 1)
        padded = bottom + [0] * (len(longer) - len(bottom))
        top, bottom = bottom, [odd * b + t for b, t in zip(padded, longer, strict=True)]
    # tanh(x) = x * top / bottom
    rest = [b - t for b, t in zip_longest(bottom, top, fillvalue=0)]
    scale = bottom[0]
    return tuple(r / scale for r in rest[1:]), tuple(b / scale for b in bottom)


_SHRUNK = _lambert(14)


def _tanhshrink_reference(x: np.ndarray) -> np.ndarray:
    near = np.where(abs(x) < 0.05, x, 0.0)
    z = near * near
    series = z * (17 / 315 - z * (62 / 2835 - z * (1382 / 155925 - z * (21844 / 6081075))))
    return np.where(abs(x) < 0.05, near * z * (1 / 3 - z * (2 / 15) + z * series), x - np.tanh(x))


@op(
    "composite",
    public=False,
    promote="float",
    reference=wide(_tanhshrink_reference),
    samples=unary_samples(-4, 4),
)
def tanhshrink(x: Value) -> Value:
    """x - tanh(x), with all its digits near 0."""
    return in_double("tanhshrink", _tanhshrink, x)


def _tanhshrink(x: Any) -> Any:
    is_near = abs_(x) < 2.0
    near = where(is_near, x, 0.0)
    z = near * near
    top, bottom = (polynomial(z, part) for part in _SHRUNK)
    return where(is_near, near * (z * top / bottom), x - tanh(x))


@tanhshrink.gradient
def _tanhshrink_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (g * square(tanh(x)),)
