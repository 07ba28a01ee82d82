"""The three inner ops of convolution, which are each other's gradients, for any number of spatial
axes.

`convolution` (image and weight -> output), `convolution_input` (output gradient and weight -> image
gradient) and `convolution_weight` (output gradient and image -> weight gradient). Each is one
contraction over windows, so no patches need memory. The public ops over them are in conv.py.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np

from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample, draws
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import multiply
from rabbet.ops.axis_moves import expand_dims
from rabbet.ops.checks import fixed, need_float, wide
from rabbet.ops.contract import contract
from rabbet.ops.index_maps import permute, reshape
from rabbet.ops.order import ALONG_MINIMUM
from rabbet.ops.patches import (
    Ints,
    output_sizes,
    padded_array,
    patch_slices,
    patches,
)
from rabbet.ops.phases import (
    positions,
    residue_weight,
    residue_windows,
    residues,
    taps,
    woven,
)
from rabbet.ops.reductions import sum_

# Labels of the contractions; positions and kernel elements get the numbers after these.
IMAGE, GROUP, OUT, IN = 0, 1, 2, 3

FEW_PRODUCTS = 64  # of one position and group: their sums need no matrix product


def _labels(rank: int, groups: int) -> tuple[Ints, Ints, Ints]:
    """(group label if there are groups, position labels, kernel labels)."""
    group = (GROUP,) if groups > 1 else ()
    return group, tuple(range(4, 4 + rank)), tuple(range(4 + rank, 4 + 2 * rank))


def _split(x: Any, axis: int, groups: int) -> Any:
    """Axis of `groups` times c channels -> two axes (groups, c); unchanged for one group."""
    if groups == 1:
        return x
    shape = x.shape
    return reshape(x, (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))


def _join(x: Any, axis: int, groups: int) -> Any:
    """Inverse of `_split`."""
    if groups == 1:
        return x
    shape = x.shape
    return reshape(x, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def fixed_kernel(weight: Any) -> Ints:
    """The sizes of a window, as plain numbers."""
    return tuple(fixed(k) for k in weight.shape[2:])


# ---- the three inner ops -------------------------------------------------------------------------


def _convolution_spec(
    x: Spec, weight: Spec, stride: Ints, low: Ints, high: Ints, dilation: Ints, groups: int
) -> Spec:
    need_float("convolution", "input", x.dtype)
    kernel = fixed_kernel(weight)
    sizes = output_sizes("convolution", x.shape[2:], kernel, stride, low, high, dilation)
    return x.with_shape((x.shape[0], weight.shape[0], *sizes))


def _positions(x: np.ndarray, weight: np.ndarray, groups: int) -> Any:
    """For references: (group slices of outputs, of inputs, kernel position) of every product."""
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    for at in product(*(range(k) for k in weight.shape[2:])):
        for g in range(groups):
            yield slice(g * outs, (g + 1) * outs), slice(g * ins, (g + 1) * ins), at


def _convolution_reference(
    x: np.ndarray,
    weight: np.ndarray,
    stride: Ints,
    low: Ints,
    high: Ints,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    kernel = weight.shape[2:]
    sizes = output_sizes("convolution", x.shape[2:], kernel, stride, low, high, dilation)
    padded, w = padded_array(wide(x), low, high), wide(weight)
    y = np.zeros((x.shape[0], weight.shape[0], *sizes), w.dtype)
    for outs, ins, at in _positions(x, weight, groups):
        patch = padded[patch_slices(at, sizes, stride, dilation)][:, ins]
        y[:, outs] += np.einsum("nc...,oc->no...", patch, w[(outs, slice(None), *at)])
    return y.astype(x.dtype)


def _convolution_samples() -> list[Sample]:
    def sample(x: Ints, w: Ints, **attrs: Any) -> Sample:
        rank = len(x) - 2
        base: dict[str, Any] = {"stride": (1,) * rank, "low": (0,) * rank, "high": (0,) * rank}
        base |= {"dilation": (1,) * rank, "groups": 1}
        return Sample((Draw(x), Draw(w)), base | attrs)

    return [
        sample((2, 3, 5, 4), (4, 3, 3, 2)),
        sample((2, 4, 6), (6, 2, 3), stride=(2,), low=(2,), high=(1,), groups=2),
        sample((1, 2, 3), (2, 2, 1), low=(2,), high=(3,)),
        sample((1, 2, 7, 5), (2, 1, 2, 3), stride=(3, 1), dilation=(2, 2), groups=2),
        sample((0, 2, 4), (3, 2, 2)),
    ]


@op(
    "composite",
    public=False,
    infer=_convolution_spec,
    reference=_convolution_reference,
    samples=_convolution_samples,
    onnx="Conv",
)
def convolution(
    x: Value, weight: Value, stride: Ints, low: Ints, high: Ints, dilation: Ints, groups: int
) -> Value:
    """(N, C, *S), (O, C / groups, *K) -> (N, O, *outputs)."""
    group, position, element = _labels(len(stride), groups)
    kernel = fixed_kernel(weight)
    windows = patches(_split(x, 1, groups), kernel, stride, low, high, dilation)
    y = contract(
        _split(weight, 0, groups),
        windows,
        (*group, OUT, IN, *element),
        (IMAGE, *group, IN, *position, *element),
        (IMAGE, *group, OUT, *position),
    )
    return _join(y, 1, groups)


@convolution.gradient
def _convolution_gradient(g: Any, y: Any, x: Any, weight: Any, **attrs: Any) -> tuple[Any, Any]:
    return (
        convolution_input(g, weight, spatial=x.shape[2:], **attrs),
        convolution_weight(g, x, kernel=fixed_kernel(weight), **attrs),
    )


def _input_spec(g: Spec, weight: Spec, spatial: tuple[Dim, ...], groups: int, **_: Any) -> Spec:
    need_float("convolution_input", "g", g.dtype)
    return g.with_shape((g.shape[0], weight.shape[1] * groups, *spatial))


def _input_reference(
    g: np.ndarray,
    weight: np.ndarray,
    spatial: Ints,
    stride: Ints,
    low: Ints,
    high: Ints,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    w, sizes = wide(weight), g.shape[2:]
    channels = weight.shape[1] * groups
    x = padded_array(np.zeros((g.shape[0], channels, *spatial), w.dtype), low, high)
    for outs, ins, at in _positions(g, weight, groups):
        where = patch_slices(at, sizes, stride, dilation)
        product_ = np.einsum("no...,oc->nc...", wide(g)[:, outs], w[(outs, slice(None), *at)])
        x[:, ins][where] += product_
    inside = tuple(slice(a, a + s) for a, s in zip(low, spatial, strict=True))
    return x[(slice(None), slice(None), *inside)].astype(g.dtype)


def _backward_samples(second: str) -> list[Sample]:
    found = []
    for s in _convolution_samples():
        x, w = (draw.shape for draw in draws(s))
        a = s.attrs
        sizes = output_sizes(
            "convolution", x[2:], w[2:], a["stride"], a["low"], a["high"], a["dilation"]
        )
        g = Draw((x[0], w[0], *map(fixed, sizes)))
        if second == "weight":
            found.append(Sample((g, Draw(w)), a | {"spatial": x[2:]}))
        else:
            found.append(Sample((g, Draw(x)), a | {"kernel": w[2:]}))
    return found


@op(
    "composite",
    public=False,
    sizes=("spatial",),
    infer=_input_spec,
    reference=_input_reference,
    samples=lambda: _backward_samples("weight"),
)
def convolution_input(
    g: Value,
    weight: Value,
    spatial: tuple[Dim, ...],
    stride: Ints,
    low: Ints,
    high: Ints,
    dilation: Ints,
    groups: int,
) -> Value:
    """(N, O, *outputs), (O, C / groups, *K) -> (N, C, *spatial), the gradient of the image."""
    group, position, element = _labels(len(stride), groups)
    kernel, lead = fixed_kernel(weight), 2 + (groups > 1)
    split, outputs = _split(weight, 0, groups), _split(g, 1, groups)
    if any(k > 1 and s > 1 for k, s in zip(kernel, stride, strict=True)):
        split = _elements_apart(split, lead)
    counts = tuple(map(positions, spatial, stride))
    parts = {}
    for residue in product(*map(residues, kernel, stride, low, dilation)):
        found = map(taps, residue, kernel, stride, low, dilation)
        seen = tuple(t for t in found if t is not None)
        if len(seen) < len(stride):
            continue
        parts[residue] = contract(
            residue_weight(split, lead, seen, kernel),
            residue_windows(outputs, seen, counts),
            (*group, OUT, IN, *element),
            (IMAGE, *group, OUT, *position, *element),
            (IMAGE, *group, IN, *position),
        )
    ins = weight.shape[1]
    shape = (g.shape[0], *((groups,) if groups > 1 else ()), ins, *spatial)
    return _join(woven(parts, g, shape, stride), 1, groups)


def _elements_apart(weight: Any, first: int) -> Any:
    """The same weight, stored with its input channels behind its window's axes (from `first` on).

    Then what a residue sees are runs of channels; as it was, one or two of each few neighbours.
    """
    inputs, window = first - 1, tuple(range(first, weight.ndim))
    moved = permute(weight, (*range(inputs), *window, inputs))
    # as a matrix: what joins axes of something moved reads it from memory
    rows = prod(moved.shape[:-1])
    stored = reshape(reshape(moved, (rows, moved.shape[-1])), moved.shape)
    return permute(stored, (*range(inputs), weight.ndim - 1, *range(inputs, weight.ndim - 1)))


@convolution_input.gradient
def _convolution_input_gradient(
    h: Any, x: Any, g: Any, weight: Any, spatial: Any, **attrs: Any
) -> tuple[Any, Any]:
    return (
        convolution(h, weight, **attrs),
        convolution_weight(g, h, kernel=fixed_kernel(weight), **attrs),
    )


def _weight_spec(g: Spec, x: Spec, kernel: Ints, groups: int, **_: Any) -> Spec:
    need_float("convolution_weight", "g", g.dtype)
    return g.with_shape((g.shape[1], x.shape[1] // groups, *kernel))


def _weight_reference(
    g: np.ndarray,
    x: np.ndarray,
    kernel: Ints,
    stride: Ints,
    low: Ints,
    high: Ints,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    padded = padded_array(wide(x), low, high)
    w = np.zeros((g.shape[1], x.shape[1] // groups, *kernel), padded.dtype)
    for outs, ins, at in _positions(g, w, groups):
        patch = padded[patch_slices(at, g.shape[2:], stride, dilation)][:, ins]
        left, right = wide(g)[:, outs], patch
        axes = (0, *range(2, g.ndim))
        w[(outs, slice(None), *at)] = np.tensordot(left, right, axes=(axes, axes))
    return w.astype(g.dtype)


@op(
    "composite",
    public=False,
    infer=_weight_spec,
    reference=_weight_reference,
    samples=lambda: _backward_samples("image"),
)
def convolution_weight(
    g: Value,
    x: Value,
    kernel: Ints,
    stride: Ints,
    low: Ints,
    high: Ints,
    dilation: Ints,
    groups: int,
) -> Value:
    """(N, O, *outputs), (N, C, *S) -> (O, C / groups, *kernel), the gradient of the weight."""
    group, position, element = _labels(len(stride), groups)
    windows = patches(_split(x, 1, groups), kernel, stride, low, high, dilation)
    if _has_few_products(g, x, kernel, groups):
        return _join(_sums_of_products(_split(g, 1, groups), windows, len(stride)), 0, groups)
    w = contract(
        _split(g, 1, groups),
        windows,
        (IMAGE, *group, OUT, *position),
        (IMAGE, *group, IN, *position, *element),
        (*group, OUT, IN, *element),
    )
    return _join(w, 0, groups)


def _has_few_products(g: Any, x: Any, kernel: Ints, groups: int) -> bool:
    """Is a group of few channels, and a row of the image a run of a sum (see ops/order.py)?"""
    is_few = g.shape[1] * x.shape[1] * prod(kernel) <= FEW_PRODUCTS * groups**2
    return bool(is_few) and bool(g.shape[-1] >= ALONG_MINIMUM)


def _sums_of_products(g: Any, windows: Any, rank: int) -> Any:
    """(N, [G], O, *S), (N, [G], C, *S, *K) -> ([G], O, C, *K): a sum for each weight, whose
    products are read along the image; a matrix product would copy all windows for few rows.
    """
    lead = g.ndim - rank  # before the positions
    rows, last = range(lead, g.ndim - 1), g.ndim - 1  # the sums' lanes are those of one row
    elements = range(lead + rank, lead + 2 * rank)
    g = permute(g, (0, *rows, *range(1, lead), last))
    windows = permute(windows, (0, *rows, *range(1, lead), *elements, last))
    g = reshape(g, (*g.shape[:-1], *(1,) * (1 + rank), g.shape[-1]))
    products = multiply(g, expand_dims(windows, rank + lead - 2))
    return sum_(products, (*range(rank), products.ndim - 1))


@convolution_weight.gradient
def _convolution_weight_gradient(
    h: Any, w: Any, g: Any, x: Any, kernel: Any, **attrs: Any
) -> tuple[Any, Any]:
    return convolution(x, h, **attrs), convolution_input(g, h, spatial=x.shape[2:], **attrs)
