"""Images of another size without aliasing: every output element is a mean over all that it covers.

The weights of one axis are a matrix, made from the two sizes in closed form.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import float64
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import abs_, add, cast, divide, maximum, multiply, reciprocal, subtract
from rabbet.ops.axis_moves import moveaxis
from rabbet.ops.checks import wide
from rabbet.ops.compare import less, where
from rabbet.ops.contract import tensordot
from rabbet.ops.create import iota, number
from rabbet.ops.reductions import reduce_sum
from rabbet.ops.resize import Scale, resize_samples, resized_axes

MODES = ("linear", "cubic")
CUBIC = -0.5  # the free number of cubic convolution (R. Keys, 1981), as in PyTorch's and Pillow's


def _filter(d: Any, mode: str) -> Any:
    """The weight at a distance d >= 0 from the middle, in output elements."""
    if mode == "linear":
        return maximum(subtract(1.0, d), 0.0)
    near = ((CUBIC + 2.0) * d - (CUBIC + 3.0)) * d * d + 1.0
    far = ((CUBIC * d - 5.0 * CUBIC) * d + 8.0 * CUBIC) * d - 4.0 * CUBIC
    return where(less(d, 1.0), near, where(less(d, 2.0), far, 0.0))


def _weights(x: Any, n: Dim, m: Dim, mode: str, align_corners: bool, scale: Scale) -> Any:
    """(m, n): each row adds up to 1."""
    if align_corners:
        alone = isinstance(m, int) and m == 1
        below = number(x, 1, float64) if alone else number(x, m - 1, float64)
        step = divide(number(x, 0 if alone else n - 1, float64), below)
    elif scale is None:
        step = number(x, n, float64) / number(x, m, float64)
    else:
        step = number(x, 1.0 / scale, float64)
    middle = multiply(add(iota.like(x, (m, 1), 0, float64), 0.5), step)
    place = add(iota.like(x, (1, n), 1, float64), 0.5)
    spread = reciprocal(maximum(step, 1.0))
    found = _filter(multiply(abs_(subtract(place, middle)), spread), mode)
    return cast(divide(found, reduce_sum(found, (1,), True)), x.dtype)


def _resize_array(
    x: np.ndarray, size: Any, mode: str, align_corners: bool, scales: tuple[Scale, ...]
) -> np.ndarray:
    y = wide(x)
    for axis, (m, scale) in enumerate(zip(size, scales, strict=True), x.ndim - len(size)):
        n = y.shape[axis]
        step = n / m if scale is None else 1 / scale
        if align_corners:
            step = (n - 1) / (m - 1) if m > 1 else 0.0
        weights = np.zeros((m, n))
        for o in range(m):
            for i in range(n):
                d = abs(i + 0.5 - (o + 0.5) * step) / max(step, 1.0)
                if mode == "linear":
                    weights[o, i] = max(1 - d, 0)
                elif d < 2:
                    a, b = CUBIC, d
                    far = a * (b**3 - 5 * b**2 + 8 * b - 4)
                    weights[o, i] = (a + 2) * b**3 - (a + 3) * b**2 + 1 if d < 1 else far
        weights /= weights.sum(1, keepdims=True)
        y = np.moveaxis(np.tensordot(weights, y, (1, axis)), 0, axis)
    return y.astype(x.dtype)


def _samples() -> list[Sample]:
    return resize_samples(
        *(((2, 2, 9, 7), (4, 3), m, False, (None, None)) for m in MODES),
        *(((1, 2, 4, 9), (6, 5), m, True, (None, None)) for m in MODES),
        ((1, 1, 8, 8), (3, 5), "linear", False, (0.4, 0.7)),
        ((1, 1, 3), (1,), "linear", False, (None,)),
    )


@op(
    "composite",
    public=False,
    sizes=("size",),
    reference=_resize_array,
    samples=_samples,
    onnx="Resize",
)
def resize_antialiased(
    x: Value,
    size: tuple[Dim, ...],
    mode: str,
    align_corners: bool,
    scales: tuple[float | None, ...],
) -> Value:
    """The last axes with other sizes, "linear" or "cubic": filters as wide as output elements."""
    for axis, m, scale in resized_axes(x, size, scales, mode, MODES):
        weights = _weights(x, x.shape[axis], m, mode, align_corners, scale)
        x = moveaxis(tensordot(x, weights, ((axis,), (1,))), -1, axis)
    return x
