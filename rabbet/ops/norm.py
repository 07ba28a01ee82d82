"""Normalisations: layer, RMS, batch, group, instance. Variances are biased and taken in two passes.

All share one gradient: for y = (x - mean) * rstd, with both taken over the same elements,
gx = rstd * (g - mean(g) - y * mean(g * y)). It writes the statistics down again as functions of x,
so that gradients of every order flow through them; a compiled step computes equal things once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import DType
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import product
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.checks import need_float, need_same_dtype, need_shape, wide
from rabbet.ops.create import extent
from rabbet.ops.float_functions import rsqrt
from rabbet.ops.index_maps import expand, reshape
from rabbet.ops.reductions import mean, sum_

Axes = tuple[int, ...]


def _standardize_array(x: np.ndarray, axes: Axes, eps: float) -> tuple[np.ndarray, np.ndarray]:
    y, _, variance = _standard_reference(x, axes, eps)
    return y, 1 / np.sqrt(variance + eps)


@op(
    "composite",
    public=False,
    outputs=2,
    reference=_standardize_array,
    samples=lambda: [
        Sample((Draw(shape),), {"axes": axes, "eps": 1e-5})
        for shape, axes in (((4, 6), (1,)), ((2, 3, 4), (1, 2)), ((3, 4), (0,)))
    ],
)
def standardize(x: Value, axes: Axes, eps: float) -> tuple[Value, Value]:
    """((x - mean) * rstd, rstd), the latter with the reduced axes kept as size 1.

    One op, so that a compiled step shares it between a norm and its gradient.
    """
    apart = x - mean(x, axes, keepdims=True)
    rstd = rsqrt(mean(apart * apart, axes, keepdims=True) + eps)
    return apart * rstd, rstd


def _standardize_gradient(g: Any, y: Any, rstd: Any, axes: Axes) -> Any:
    slope = mean(g * y, axes, keepdims=True)
    return rstd * (g - mean(g, axes, keepdims=True) - y * slope)


def _scale(y: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def _channel(v: Any, x: Any) -> Any:
    """A per-channel vector, laid along axis 1 of `x`."""
    return None if v is None else reshape(v, (v.shape[0],) + (1,) * (x.ndim - 2))


def _check_channels(name: str, x: Any, **vectors: Any) -> None:
    """Floats of one dtype; (N, C, ...); each vector (C,)."""
    need_float(name, "input", x.dtype)
    if x.ndim < 2:
        raise ShapeError(f"{name}: input {show(x.shape)} must be (N, C, ...)")
    need_same_dtype(name, input=x, **vectors)
    channels = x.shape[1]
    for key, vector in vectors.items():
        if vector is not None and (vector.ndim != 1 or vector.shape[0] != channels):
            raise ShapeError(
                f"{name}: {key} has shape {show(vector.shape)}, it must be ({channels},) for the "
                f"channels of input {show(x.shape)}"
            )


def _standard_reference(x: np.ndarray, axes: Axes, eps: float) -> tuple[np.ndarray, ...]:
    x = wide(x)
    center, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - center) / np.sqrt(variance + eps), center, variance


# ---- over the last axes --------------------------------------------------------------------------


def _last_axes(name: str, x: Any, normalized_shape: Any, weight: Any, bias: Any) -> Axes:
    need_float(name, "input", x.dtype)
    need_same_dtype(name, input=x, weight=weight, bias=bias)
    wanted = normalized_shape if isinstance(normalized_shape, tuple) else (normalized_shape,)
    count = len(wanted)
    if count == 0 or count > x.ndim or x.shape[x.ndim - count :] != wanted:
        raise ShapeError(
            f"{name}: input {show(x.shape)} does not end with normalized_shape {show(wanted)}"
        )
    need_shape(name, "weight", weight, wanted)
    need_shape(name, "bias", bias, wanted)
    return tuple(range(x.ndim - count, x.ndim))


def _layer_norm_reference(
    x: np.ndarray, normalized_shape: Any, weight: Any, bias: Any, eps: float
) -> np.ndarray:
    count = len(normalized_shape) if isinstance(normalized_shape, tuple) else 1
    y, _, _ = _standard_reference(x, tuple(range(-count, 0)), eps)
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def _layer_norm_samples() -> list[Sample]:
    def sample(shape: Axes, count: int, weight: bool, bias: bool, eps: float = 1e-5) -> Sample:
        last = shape[len(shape) - count :]
        vectors = (Draw(last) if weight else None, Draw(last) if bias else None)
        return Sample((Draw(shape), *vectors), {"normalized_shape": last, "eps": eps})

    return [
        sample((4, 6), 1, True, True),
        sample((2, 3, 4), 2, True, False),
        sample((3, 40), 1, False, False, 1e-2),
        sample((7,), 1, False, True),
        sample((0, 4), 1, True, True),
    ]


@op(
    "composite",
    method=None,
    reference=_layer_norm_reference,
    samples=_layer_norm_samples,
    onnx="LayerNormalization",
    autocast="wide",
)
def layer_norm(
    x: Value,
    normalized_shape: int | Axes,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    """(x - mean) / sqrt(variance + eps) over the last axes, times weight, plus bias.

    (..., *normalized_shape) -> the same; weight and bias have normalized_shape. Floats of one
    dtype, else DTypeError; ShapeError where the shapes do not end alike.

    >>> rb.layer_norm(rb.ones((2, 4)), (4,)).shape
    (2, 4)
    """
    axes = _last_axes("layer_norm", x, normalized_shape, weight, bias)
    return _scale(standardize(x, axes, eps)[0], weight, bias)


@layer_norm.gradient
def _layer_norm_gradient(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, normalized_shape: Any, eps: float
) -> tuple[Any, ...]:
    count = len(normalized_shape) if isinstance(normalized_shape, tuple) else 1
    lead, axes = tuple(range(x.ndim - count)), tuple(range(x.ndim - count, x.ndim))
    normal, rstd = standardize(x, axes, eps)
    inner = g if weight is None else g * weight
    return (
        _standardize_gradient(inner, normal, rstd, axes),
        None if weight is None else sum_(g * normal, lead),
        None if bias is None else sum_(g, lead),
    )


def _rms_eps(eps: float | None, dtype: DType) -> float:
    """PyTorch's default: the distance from 1 to the next number of the dtype."""
    return float(np.finfo(dtype.numpy).eps) if eps is None else eps


def _rms(x: Any, axes: Axes, eps: float | None) -> Any:
    return inverse_rms(x, axes, float(_rms_eps(eps, x.dtype)))


@op(
    "composite",
    public=False,
    reference=lambda x, axes, eps: 1 / np.sqrt((wide(x) ** 2).mean(axes, keepdims=True) + eps),
    samples=lambda: [
        Sample((Draw(shape),), {"axes": axes, "eps": 1e-5})
        for shape, axes in (((4, 6), (1,)), ((2, 3, 4), (1, 2)))
    ],
)
def inverse_rms(x: Value, axes: Axes, eps: float) -> Value:
    """1 / sqrt(mean of squares + eps), the reduced axes kept as size 1."""
    return rsqrt(mean(x * x, axes, keepdims=True) + eps)


def _rms_norm_reference(
    x: np.ndarray, normalized_shape: Any, weight: Any, eps: float | None
) -> np.ndarray:
    count = len(normalized_shape) if isinstance(normalized_shape, tuple) else 1
    eps = np.finfo(x.dtype).eps if eps is None else eps
    x = wide(x)
    rstd = 1 / np.sqrt((x * x).mean(tuple(range(-count, 0)), keepdims=True) + eps)
    return x * rstd * (1 if weight is None else weight)


@op(
    "composite",
    method=None,
    reference=_rms_norm_reference,
    samples=lambda: [
        Sample(
            (Draw(shape), Draw(last) if weight else None),
            {"normalized_shape": last, "eps": eps},
        )
        for shape, last, weight, eps in (
            ((4, 6), (6,), True, 1e-6),
            ((2, 3, 4), (3, 4), False, None),
            ((20,), (20,), True, None),
            ((0, 4), (4,), True, None),
        )
    ],
    onnx="RMSNormalization",
    autocast="wide",
)
def rms_norm(
    x: Value, normalized_shape: int | Axes, weight: Value | None = None, eps: float | None = None
) -> Value:
    """x / sqrt(mean of squares + eps) over the last axes, times weight; eps: the dtype's own by
    default.

    (..., *normalized_shape) -> the same. Floats of one dtype, else DTypeError; ShapeError where the
    shapes do not end alike.

    >>> rb.rms_norm(rb.ones((2, 4)), (4,)).shape
    (2, 4)
    """
    axes = _last_axes("rms_norm", x, normalized_shape, weight, None)
    return _scale(x * _rms(x, axes, eps), weight, None)


@rms_norm.gradient
def _rms_norm_gradient(
    g: Any, y: Any, x: Any, weight: Any, normalized_shape: Any, eps: float | None
) -> tuple[Any, ...]:
    count = len(normalized_shape) if isinstance(normalized_shape, tuple) else 1
    lead, axes = tuple(range(x.ndim - count)), tuple(range(x.ndim - count, x.ndim))
    rstd = _rms(x, axes, eps)
    normal = x * rstd
    inner = g if weight is None else g * weight
    gx = rstd * (inner - normal * mean(inner * normal, axes, keepdims=True))
    return gx, None if weight is None else sum_(g * normal, lead)


# ---- over the batch ------------------------------------------------------------------------------


def _batch_axes(x: Any) -> Axes:
    return (0, *range(2, x.ndim))


def _batch_norm_reference(
    x: np.ndarray, weight: Any, bias: Any, eps: float
) -> tuple[np.ndarray, ...]:
    y, center, variance = _standard_reference(x, _batch_axes(x), eps)
    channel = (-1,) + (1,) * (x.ndim - 2)
    y = y * (1 if weight is None else weight.reshape(channel))
    y = y + (0 if bias is None else bias.reshape(channel))
    return y, center.reshape(-1), variance.reshape(-1)


def _channel_samples(vectors: int, **attrs: Any) -> list[Sample]:
    """Inputs of 2 to 4 axes, with and without weight and bias, after `vectors` required ones."""
    found = []
    cases = (
        ((5, 3), True, True),
        ((3, 2, 4), False, False),
        ((2, 3, 4, 2), True, True),
        ((4, 1, 3), True, False),
        ((2, 2, 5), False, True),
    )
    for shape, weight, bias in cases:
        c = (shape[1],)
        required = (Draw(c), Draw(c, 0.5, 2, kind="positive"))[:vectors]
        optional = (Draw(c) if weight else None, Draw(c) if bias else None)
        found.append(Sample((Draw(shape), *required, *optional), attrs | {"eps": 1e-5}))
    return found


@op(
    "composite",
    outputs=3,
    method=None,
    reference=_batch_norm_reference,
    samples=lambda: _channel_samples(0),
    onnx="BatchNormalization",
    autocast="wide",
)
def batch_norm_train(
    x: Value, weight: Value | None = None, bias: Value | None = None, eps: float = 1e-5
) -> tuple[Value, Value, Value]:
    """Normalise each channel by the mean and biased variance of the batch; gives these too.

    (N, C, ...) -> (N, C, ...), mean (C,), variance (C,); weight and bias (C,). Floats of one dtype,
    else DTypeError; ShapeError for a batch of one value per channel.

    >>> y, mean, variance = rb.batch_norm_train(rb.ones((2, 3, 4)))
    >>> variance.shape
    (3,)
    """
    _check_channels("batch_norm", x, weight=weight, bias=bias)
    others = [x.shape[axis] for axis in _batch_axes(x)]
    if all(isinstance(size, int) and size == 1 for size in others):
        raise ShapeError(
            f"batch_norm: input {show(x.shape)} has one value per channel; training needs more"
        )
    axes = _batch_axes(x)
    center = mean(x, axes, keepdims=True)
    apart = x - center
    variance = mean(apart * apart, axes, keepdims=True)
    y = _scale(apart * rsqrt(variance + eps), _channel(weight, x), _channel(bias, x))
    return y, reshape(center, x.shape[1:2]), reshape(variance, x.shape[1:2])


@batch_norm_train.gradient
def _batch_norm_train_gradient(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, eps: float
) -> tuple[Any, ...]:
    g_y, g_mean, g_variance = g
    axes = _batch_axes(x)
    apart = x - _channel(y[1], x)
    gx = g_weight = g_bias = None
    if g_y is not None:
        # Two sums over the batch serve all three gradients, and the image's is a map behind them.
        rstd = rsqrt(_row(y[2], x) + eps)
        total = sum_(g_y, axes, keepdims=True)
        slope = sum_(g_y * apart, axes, keepdims=True) * rstd
        count = extent.like(x, _batch_count(x), x.dtype)
        scale = rstd if weight is None else rstd * _row(weight, x)
        gx = scale * (g_y - total / count - apart * (slope * rstd / count))
        g_weight = None if weight is None else reshape(slope, x.shape[1:2])
        g_bias = None if bias is None else reshape(total, x.shape[1:2])
    if g_mean is not None:
        gx = _plus(gx, _over_batch(g_mean, x))
    if g_variance is not None:
        gx = _plus(gx, 2.0 * apart * _over_batch(g_variance, x))
    return gx, g_weight, g_bias


def _over_batch(v: Any, x: Any) -> Any:
    """v / count for every element of its channel: what each element of a mean receives."""
    return expand(_channel(v / extent.like(x, _batch_count(x), x.dtype), x), x.shape)


def _batch_count(x: Any) -> Any:
    """How many elements a channel has."""
    return product([x.shape[axis] for axis in _batch_axes(x)])


def _row(v: Any, x: Any) -> Any:
    """A per-channel vector in the shape that sums over the batch keep: (1, C, 1, ...)."""
    return reshape(v, (1, v.shape[0], *(1,) * (x.ndim - 2)))


def _plus(a: Any, b: Any) -> Any:
    return b if a is None else a + b


def _infer_reference(
    x: np.ndarray, running_mean: Any, running_var: Any, weight: Any, bias: Any, eps: float
) -> np.ndarray:
    channel = (-1,) + (1,) * (x.ndim - 2)
    center, variance = wide(running_mean).reshape(channel), wide(running_var).reshape(channel)
    y = (wide(x) - center) / np.sqrt(variance + eps)
    y = y * (1 if weight is None else weight.reshape(channel))
    return y + (0 if bias is None else bias.reshape(channel))


@op(
    "composite",
    method=None,
    reference=_infer_reference,
    samples=lambda: _channel_samples(2),
    onnx="BatchNormalization",
    autocast="wide",
)
def batch_norm_infer(
    x: Value,
    running_mean: Value,
    running_var: Value,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    """Normalise each channel by a given mean and variance, times weight, plus bias.

    (N, C, ...) -> the same; all others (C,). Floats of one dtype, else DTypeError.

    >>> rb.batch_norm_infer(rb.ones((2, 3)), rb.zeros((3,)), rb.ones((3,))).shape
    (2, 3)
    """
    vectors = {"running_mean": running_mean, "running_var": running_var}
    _check_channels("batch_norm", x, **vectors, weight=weight, bias=bias)
    y = (x - _channel(running_mean, x)) * rsqrt(_channel(running_var, x) + eps)
    return _scale(y, _channel(weight, x), _channel(bias, x))


# ---- over groups of channels ---------------------------------------------------------------------


def _grouped(x: Any, num_groups: int) -> Any:
    """(N, C, ...) -> (N, groups, C / groups, ...)."""
    return reshape(x, (x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:]))


def _group_norm_reference(
    x: np.ndarray, num_groups: int, weight: Any, bias: Any, eps: float
) -> np.ndarray:
    split = _grouped_array(x, num_groups)
    y, _, _ = _standard_reference(split, tuple(range(2, split.ndim)), eps)
    channel = (-1,) + (1,) * (x.ndim - 2)
    y = y.reshape(x.shape) * (1 if weight is None else weight.reshape(channel))
    return y + (0 if bias is None else bias.reshape(channel))


def _grouped_array(x: np.ndarray, num_groups: int) -> np.ndarray:
    return x.reshape((x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:]))


def _group_norm_samples() -> list[Sample]:
    def sample(shape: Axes, num_groups: int, weight: bool, bias: bool) -> Sample:
        c = (shape[1],)
        vectors = (Draw(c) if weight else None, Draw(c) if bias else None)
        return Sample((Draw(shape), *vectors), {"num_groups": num_groups, "eps": 1e-5})

    return [
        sample((2, 6, 3), 3, True, True),
        sample((3, 4), 2, False, True),
        sample((2, 4, 2, 3), 1, True, False),
        sample((2, 3, 4), 3, False, False),
    ]


@op(
    "composite",
    method=None,
    reference=_group_norm_reference,
    samples=_group_norm_samples,
    onnx="GroupNormalization",
    autocast="wide",
)
def group_norm(
    x: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    """Normalise every group of channels of every example, times weight, plus bias.

    (N, C, ...) -> the same; weight and bias (C,). Floats of one dtype, else DTypeError; ShapeError
    where num_groups does not divide C.

    >>> rb.group_norm(rb.ones((2, 6, 4)), 3).shape
    (2, 6, 4)
    """
    _check_channels("group_norm", x, weight=weight, bias=bias)
    if num_groups < 1 or x.shape[1] % num_groups != 0:
        raise ShapeError(
            f"group_norm: num_groups {num_groups} does not divide the {x.shape[1]} channels "
            f"of input {show(x.shape)}"
        )
    split = _grouped(x, num_groups)
    y, _ = standardize(split, tuple(range(2, split.ndim)), eps)
    return _scale(reshape(y, x.shape), _channel(weight, x), _channel(bias, x))


@group_norm.gradient
def _group_norm_gradient(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, num_groups: int, eps: float
) -> tuple[Any, ...]:
    split = _grouped(x, num_groups)
    inside, axes = tuple(range(2, split.ndim)), _batch_axes(x)
    normal, rstd = standardize(split, inside, eps)
    inner = _grouped(g if weight is None else g * _channel(weight, x), num_groups)
    gx = _standardize_gradient(inner, normal, rstd, inside)
    return (
        reshape(gx, x.shape),
        None if weight is None else sum_(g * reshape(normal, x.shape), axes),
        None if bias is None else sum_(g, axes),
    )


@op(
    "composite",
    method=None,
    reference=lambda x, weight, bias, eps: _group_norm_reference(x, x.shape[1], weight, bias, eps),
    samples=lambda: _channel_samples(0)[1:],
    onnx="InstanceNormalization",
    autocast="wide",
)
def instance_norm(
    x: Value, weight: Value | None = None, bias: Value | None = None, eps: float = 1e-5
) -> Value:
    """Normalise every channel of every example over its positions, times weight, plus bias.

    (N, C, L...) -> the same; weight and bias (C,). Floats of one dtype, else DTypeError.

    >>> rb.instance_norm(rb.ones((2, 3, 4))).shape
    (2, 3, 4)
    """
    _check_channels("instance_norm", x, weight=weight, bias=bias)
    if x.ndim < 3:
        raise ShapeError(f"instance_norm: input {show(x.shape)} must be (N, C, L, ...)")
    return group_norm(x, x.shape[1], weight, bias, eps)
