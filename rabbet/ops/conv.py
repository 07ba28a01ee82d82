"""Convolutions of 1 to 3 spatial axes, and transposed ones, with PyTorch's layouts and arguments.

Gradients of every order come from the inner ops of conv_contractions.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.axis_moves import expand_dims, squeeze
from rabbet.ops.by_rank import op_by_rank
from rabbet.ops.checks import need_float, need_same_dtype, need_shape, per_axis, wide
from rabbet.ops.conv_contractions import (
    convolution,
    convolution_input,
    convolution_weight,
    fixed_kernel,
)
from rabbet.ops.index_maps import reshape
from rabbet.ops.patches import (
    Ints,
    output_sizes,
    padded_array,
    patch_slices,
    resolve_padding,
)
from rabbet.ops.reductions import sum_

Padding = str | int | Ints


def _check(name: str, x: Any, weight: Any, bias: Any, channels: Any, outs: Any) -> None:
    """Dtypes and channel counts; `channels` are what the weight wants, `outs` what it gives."""
    need_float(name, "input", x.dtype)
    need_same_dtype(name, input=x, weight=weight, bias=bias)
    if x.shape[1] != channels:
        raise ShapeError(
            f"{name}: input {show(x.shape)} has {x.shape[1]} channels, "
            f"weight {show(weight.shape)} wants {channels}"
        )
    need_shape(name, "bias", bias, (outs,))


def _check_ranks(name: str, x: Any, weight: Any, rank: int) -> None:
    letters = {1: "L", 2: "H, W", 3: "D, H, W"}[rank]
    if weight.ndim != rank + 2:
        raise ShapeError(f"{name}: weight {show(weight.shape)} needs {rank + 2} axes")
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name}: input {show(x.shape)} must be (N, C, {letters}) or (C, {letters})"
        )


def _check_groups(name: str, groups: int, axis_name: str, channels: Any) -> None:
    if groups < 1 or channels % groups != 0:
        raise ShapeError(f"{name}: groups {groups} does not divide the {channels} {axis_name}")


def _add_bias(y: Any, bias: Any) -> Any:
    if bias is None:
        return y
    return y + reshape(bias, (bias.shape[0],) + (1,) * (y.ndim - 2))


def _conv_gradient(
    rank: int,
    g: Any,
    y: Any,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> tuple[Any, Any, Any]:
    if x.ndim == rank + 1:
        rest = (weight, bias, stride, padding, dilation, groups)
        gx, gw, gb = _conv_gradient(rank, expand_dims(g, 0), None, expand_dims(x, 0), *rest)
        return squeeze(gx, 0), gw, gb
    kernel = fixed_kernel(weight)
    steps = per_axis("conv", "stride", stride, rank, 1)
    apart = per_axis("conv", "dilation", dilation, rank, 1)
    low, high = resolve_padding("conv", padding, kernel, steps, apart)
    geometry = (steps, low, high, apart, groups)
    return (
        convolution_input(g, weight, x.shape[2:], *geometry),
        convolution_weight(g, x, kernel, *geometry),
        None if bias is None else sum_(g, (0, *range(2, g.ndim))),
    )


def _conv_reference(
    rank: int,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> np.ndarray:
    if x.ndim == rank + 1:
        return _conv_reference(rank, x[None], weight, bias, stride, padding, dilation, groups)[0]
    stride = per_axis("conv", "stride", stride, rank, 1)
    dilation = per_axis("conv", "dilation", dilation, rank, 1)
    kernel = weight.shape[2:]
    low, high = resolve_padding("conv", padding, kernel, stride, dilation)
    sizes = output_sizes("conv", x.shape[2:], kernel, stride, low, high, dilation)
    padded, w = padded_array(wide(x), low, high), wide(weight)
    y = np.zeros((x.shape[0], weight.shape[0], *sizes), w.dtype)
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    for o in range(weight.shape[0]):
        first = o // outs * ins
        for c in range(ins):
            for at in np.ndindex(*kernel):
                where = patch_slices(at, sizes, stride, dilation)
                y[:, o] += padded[:, first + c][where] * w[(o, c, *at)]
        if bias is not None:
            y[:, o] += wide(bias)[o]
    return y.astype(x.dtype)


def _conv_samples(rank: int) -> list[Sample]:
    def sample(channels: int, weight: Ints, bias: bool, batch: Ints = (2,), **attrs: Any) -> Sample:
        sizes = (6, 5, 4)[:rank]
        kernel = weight[2:] + (2, 3, 1)[:rank]
        third = Draw((weight[0],)) if bias else None
        base = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        x, w = Draw((*batch, channels, *sizes)), Draw(weight[:2] + kernel)
        return Sample((x, w, third), base | attrs)

    return [
        sample(3, (4, 3), True),
        sample(2, (3, 2), False, padding="same"),
        sample(4, (6, 2), True, groups=2, stride=2, padding=1),
        sample(2, (2, 1), True, (), groups=2, dilation=(2,) + (1,) * (rank - 1), padding=1),
        sample(1, (1, 1), False, (1,), padding="valid", stride=(3,) + (1,) * (rank - 1)),
        sample(2, (3, 2), True, (0,)),
    ]


@op_by_rank(
    "conv<n>d",
    reference=_conv_reference,
    samples=_conv_samples,
    gradient=_conv_gradient,
    onnx="Conv",
    autocast="narrow",
)
def conv(
    rank: int,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: int | Ints = 1,
    padding: Padding = 0,
    dilation: int | Ints = 1,
    groups: int = 1,
) -> Value:
    """<n>-D convolution (cross-correlation, as in PyTorch).

    (N, C, <L>), (O, C / groups, <KL>) -> (N, O, <L'>); without N too. One dtype for all operands.
    `padding` is a number of zeros on both sides, "same" or "valid". Raises ShapeError where
    channels or windows do not fit.

    >>> rb.conv<n>d(rb.ones((1, 3, <8>)), rb.ones((4, 3, <3>)), padding=1).shape
    (1, 4, <8>)
    """
    name = f"conv{rank}d"
    _check_ranks(name, x, weight, rank)
    is_alone = x.ndim == rank + 1
    x = expand_dims(x, 0) if is_alone else x
    _check_groups(name, groups, "output channels", weight.shape[0])
    _check(name, x, weight, bias, weight.shape[1] * groups, weight.shape[0])
    kernel = fixed_kernel(weight)
    stride = per_axis(name, "stride", stride, rank, 1)
    dilation = per_axis(name, "dilation", dilation, rank, 1)
    low, high = resolve_padding(name, padding, kernel, stride, dilation)
    output_sizes(name, x.shape[2:], kernel, stride, low, high, dilation)
    y = _add_bias(convolution(x, weight, stride, low, high, dilation, groups), bias)
    return squeeze(y, 0) if is_alone else y


conv1d, conv2d, conv3d = conv

# ---- transposed ----------------------------------------------------------------------------------


def _transposed_sizes(
    name: str, sizes: Any, kernel: Ints, stride: Ints, pad: Ints, extra: Ints, dilation: Ints
) -> tuple[Any, ...]:
    """Output sizes: (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding +
    1.
    """
    found = []
    for size, k, s, p, e, d in zip(sizes, kernel, stride, pad, extra, dilation, strict=True):
        if e >= s and e >= d:
            raise ShapeError(
                f"{name}: output_padding {e} must be smaller than the stride {s} or dilation {d}"
            )
        out = (size - 1) * s - 2 * p + d * (k - 1) + e + 1
        if out < 1:
            raise ShapeError(f"{name}: input sizes {show(sizes)} give an output size of {out}")
        found.append(out)
    return tuple(found)


def _transpose_reference(
    rank: int,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> np.ndarray:
    kernel = weight.shape[2:]
    if x.ndim == rank + 1:
        rest = (weight, bias, stride, padding, output_padding, groups, dilation)
        return _transpose_reference(rank, x[None], *rest)[0]
    stride = per_axis("conv", "stride", stride, rank, 1)
    dilation = per_axis("conv", "dilation", dilation, rank, 1)
    pad = per_axis("conv", "padding", padding, rank, 0)
    extra = per_axis("conv", "output_padding", output_padding, rank, 0)
    sizes = _transposed_sizes("conv", x.shape[2:], kernel, stride, pad, extra, dilation)
    ins, outs = weight.shape[0] // groups, weight.shape[1]
    y = padded_array(np.zeros((x.shape[0], outs * groups, *sizes)), pad, pad)
    for c in range(weight.shape[0]):
        for o in range(outs):
            for at in np.ndindex(*kernel):
                where = patch_slices(at, x.shape[2:], stride, dilation)
                y[:, c // ins * outs + o][where] += wide(x)[:, c] * wide(weight)[(c, o, *at)]
    inside = tuple(slice(p, p + s) for p, s in zip(pad, sizes, strict=True))
    y = y[(slice(None), slice(None), *inside)]
    if bias is not None:
        y = y + wide(bias).reshape((-1,) + (1,) * rank)
    return y.astype(x.dtype)


def _transpose_samples(rank: int) -> list[Sample]:
    def sample(channels: int, weight: Ints, bias: int, batch: Ints = (2,), **attrs: Any) -> Sample:
        x = Draw((*batch, channels, *(3, 4, 2)[:rank]))
        w = Draw((*weight, *(3, 2, 2)[:rank]))
        base = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
        return Sample((x, w, Draw((bias,)) if bias else None), base | attrs)

    return [
        sample(3, (3, 2), 2),
        sample(2, (2, 3), 0, stride=2, padding=1, output_padding=1),
        sample(4, (4, 1), 2, (), groups=2, stride=3, dilation=2, padding=1),
        sample(1, (1, 1), 0, (0,)),
    ]


@op_by_rank(
    "conv_transpose<n>d",
    reference=_transpose_reference,
    samples=_transpose_samples,
    onnx="ConvTranspose",
    autocast="narrow",
)
def conv_transpose(
    rank: int,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: int | Ints = 1,
    padding: int | Ints = 0,
    output_padding: int | Ints = 0,
    groups: int = 1,
    dilation: int | Ints = 1,
) -> Value:
    """Transposed <n>-D convolution (the gradient of conv<n>d's input), as in PyTorch.

    (N, C, <L>), (C, O / groups, <KL>) -> (N, O, <L'>); without N too. One dtype for all operands.
    Raises ShapeError where channels do not fit or output_padding is not smaller than the stride.

    >>> rb.conv_transpose<n>d(rb.ones((1, 3, <4>)), rb.ones((3, 2, <2>)), stride=2).shape
    (1, 2, <8>)
    """
    name = f"conv_transpose{rank}d"
    _check_ranks(name, x, weight, rank)
    is_alone = x.ndim == rank + 1
    x = expand_dims(x, 0) if is_alone else x
    _check_groups(name, groups, "input channels", weight.shape[0])
    _check(name, x, weight, bias, weight.shape[0], weight.shape[1] * groups)
    stride = per_axis(name, "stride", stride, rank, 1)
    dilation = per_axis(name, "dilation", dilation, rank, 1)
    pad = per_axis(name, "padding", padding, rank, 0)
    extra = per_axis(name, "output_padding", output_padding, rank, 0)
    sizes = _transposed_sizes(name, x.shape[2:], fixed_kernel(weight), stride, pad, extra, dilation)
    y = _add_bias(convolution_input(x, weight, sizes, stride, pad, pad, dilation, groups), bias)
    return squeeze(y, 0) if is_alone else y


conv_transpose1d, conv_transpose2d, conv_transpose3d = conv_transpose
