"""Activation functions built from elementwise primitives (relu, sigmoid and tanh are primitives).

All work element by element on floats; integers become the default float. Where both sides of a
`where` could overflow, the unused side is kept finite, so that gradients of every order stay finite
too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.spec import Spec
from rabbet.expr import meaning
from rabbet.expr.expr import Expr, call
from rabbet.graph.op import Op, op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import abs_, clip, maximum, minimum
from rabbet.ops.checks import need_choice, same_as_first
from rabbet.ops.compare import where
from rabbet.ops.float_functions import exp, expm1, log1p, sigmoid
from rabbet.ops.index_maps import cut
from rabbet.ops.rules import row
from rabbet.ops.special import erf
from rabbet.ops.trigonometry import tanh


def _samples(kinks: tuple[float, ...] = (), **attrs: Any) -> list[Sample]:
    """The shapes every elementwise op is tried on, near zero and far from it."""
    return [
        Sample((Draw((2, 3, 4), -3, 3, avoid=kinks),), attrs),
        Sample((Draw((40,), -30, 30, avoid=kinks),), attrs),
        Sample((Draw(()),), attrs, grad=0.0 not in kinks),
        Sample((Draw((0, 3)),), attrs),
    ]


def _with(kinks: tuple[float, ...], *choices: dict[str, Any]) -> Any:
    return lambda: [s for attrs in choices for s in _samples(kinks, **attrs)]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def _activation(
    reference: Any,
    samples: Any,
    lower: Callable[..., Expr] | None = None,
    infer: Callable[..., Spec] = same_as_first,
    onnx: str | None = None,
) -> Callable[[Callable[..., Any]], Op]:
    """Declaration shared by all ops of this file: unary, float, shape kept.

    With `lower` it is a primitive, where the ops of a body would lose digits.
    """

    def own(x: np.ndarray, *attrs: Any) -> np.ndarray:
        return np.asarray(reference(x.astype(np.result_type(x, np.float64)), *attrs)).astype(
            x.dtype
        )

    def declare(function: Callable[..., Any]) -> Op:
        made = op(
            "elementwise" if lower else "composite",
            lower=lower,
            reference=own,
            samples=samples,
            promote="float",
            onnx=onnx,
            infer=infer,
            method=None,
        )(function)
        if lower is None:  # its own gradient holds under vmap too, at kinks above all
            made.batching(lambda size, flags, x, **attrs: made(x, **attrs))
        return made

    return declare


# ---- smooth --------------------------------------------------------------------------------------


FAR = 1000.0  # every factor exp(-FAR) is 0: slopes are taken there instead of at infinity


@_activation(meaning.silu, _samples, row("silu"), onnx="Swish")
def silu(x: Value) -> Value:
    """x * sigmoid(x), also called swish; its limits at the infinities are -0 and inf.

    >>> rb.silu(rb.asarray([0.0])).shape
    (1,)
    """


@silu.gradient
def _silu_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    s = sigmoid(x)
    return (g * (s + clip(x, -FAR, FAR) * s * (1.0 - s)),)


def _gelu_reference(x: np.ndarray, approximate: str) -> np.ndarray:
    return meaning.gelu_tanh(x) if approximate == "tanh" else meaning.gelu(x)


def _gelu_lower(x: Expr, approximate: str) -> Expr:
    return call("gelu_tanh" if approximate == "tanh" else "gelu", x)


def _gelu_spec(x: Spec, approximate: str) -> Spec:
    need_choice("gelu", "approximate", approximate, ("none", "tanh"))
    return x


@_activation(
    _gelu_reference,
    _with((), {"approximate": "none"}, {"approximate": "tanh"}),
    _gelu_lower,
    _gelu_spec,
    onnx="Gelu",
)
def gelu(x: Value, approximate: str = "none") -> Value:
    """x times the normal distribution function at x; `approximate="tanh"` is the formula of BERT
    and GPT-2.

    >>> rb.gelu(rb.asarray([0.0])).shape
    (1,)
    """


def _gelu_inner(x: Any) -> Any:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))


def _gelu_slope_reference(x: np.ndarray, approximate: str) -> np.ndarray:
    step = 1e-20j  # the slope by a complex step: no difference is taken
    if approximate == "tanh":
        z = x.astype(complex) + step
        inner = math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)
        return np.asarray((0.5 * z * (1 + np.tanh(inner))).imag / step.imag)
    density = np.exp(-0.5 * x.astype(float) ** 2) / math.sqrt(2 * math.pi)
    half = np.vectorize(math.erfc, otypes=[float])(-x * math.sqrt(0.5))
    return np.asarray(0.5 * half + x * density)


@op(
    "composite",
    public=False,
    reference=_gelu_slope_reference,
    samples=lambda: [
        Sample((Draw((3, 5), -3, 3),), {"approximate": a}, tolerance=1e-5) for a in ("none", "tanh")
    ],
)
def gelu_slope(x: Value, approximate: str) -> Value:
    """The derivative of gelu. One op, so that a compiled step shares its parts with gelu's own."""
    x = clip(x, -FAR, FAR)
    if approximate == "tanh":
        t = tanh(_gelu_inner(x))
        slope = math.sqrt(2 / math.pi) * (1.0 + 3 * 0.044715 * (x * x))
        return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope
    density = exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi))
    return 0.5 * (1.0 + erf(x * math.sqrt(0.5))) + x * density


@gelu.gradient
def _gelu_gradient(g: Any, y: Any, x: Any, approximate: str) -> tuple[Any]:
    return (g * gelu_slope(x, approximate),)


@_activation(
    lambda x, beta, threshold: np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta),
    _with((), {"beta": 1.0, "threshold": 20.0}, {"beta": 2.5, "threshold": 5.0}),
    onnx="Softplus",
)
def softplus(x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """log(1 + exp(beta x)) / beta, never overflowing; x itself where beta x > threshold.

    >>> rb.softplus(rb.asarray([0.0])).shape
    (1,)
    """
    scaled = x * float(beta)
    smooth = (maximum(scaled, 0.0) + log1p(exp(-abs_(scaled)))) / float(beta)
    return where(scaled > float(threshold), x, smooth)


@softplus.gradient
def _softplus_gradient(g: Any, y: Any, x: Any, beta: float, threshold: float) -> tuple[Any]:
    scaled = x * float(beta)
    return (where(scaled > float(threshold), g, g * sigmoid(scaled)),)


@_activation(lambda x: -np.logaddexp(0, -x), _samples)
def logsigmoid(x: Value) -> Value:
    """log(sigmoid(x)), never overflowing.

    >>> rb.logsigmoid(rb.asarray([0.0])).shape
    (1,)
    """
    return minimum(x, -0.0) - log1p(exp(-abs_(x)))  # not +0 where the logarithm is too small


@logsigmoid.gradient
def _logsigmoid_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (g * sigmoid(-x),)


@_activation(meaning.mish, _samples, row("mish"), onnx="Mish")
def mish(x: Value) -> Value:
    """x * tanh(softplus(x)); its limits at the infinities are -0 and inf.

    >>> rb.mish(rb.asarray([0.0])).shape
    (1,)
    """


@mish.gradient
def _mish_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    t = tanh(softplus(x))
    return (g * (t + clip(x, -FAR, FAR) * sigmoid(x) * (1.0 - t * t)),)


@_activation(lambda x: x / (1 + np.abs(x)), _samples, onnx="Softsign")
def softsign(x: Value) -> Value:
    """x / (1 + |x|).

    >>> rb.softsign(rb.asarray([1.0])).shape
    (1,)
    """
    kept = clip(x, -1e30, 1e30)  # not inf / inf
    return kept / (1.0 + abs_(kept))


@softsign.gradient
def _softsign_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    below = 1.0 / (1.0 + abs_(x))
    return (g * below * below,)


# ---- with a kink ---------------------------------------------------------------------------------


@_activation(
    lambda x, negative_slope: np.where(x > 0, x, x * negative_slope),
    _with((0.0,), {"negative_slope": 0.01}, {"negative_slope": -0.5}),
    onnx="LeakyRelu",
)
def leaky_relu(x: Value, negative_slope: float = 0.01) -> Value:
    """x where positive, negative_slope * x elsewhere (the slope at 0 too, as in PyTorch).

    >>> rb.leaky_relu(rb.asarray([-1.0])).shape
    (1,)
    """
    return where(x > 0.0, x, x * float(negative_slope))


@leaky_relu.gradient
def _leaky_relu_gradient(g: Any, y: Any, x: Any, negative_slope: float) -> tuple[Any]:
    return (where(x > 0.0, g, g * float(negative_slope)),)


@_activation(
    lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    _with((0.0,), {"alpha": 1.0}, {"alpha": 0.3}),
    onnx="Elu",
)
def elu(x: Value, alpha: float = 1.0) -> Value:
    """x where positive, alpha * (exp(x) - 1) elsewhere.

    >>> rb.elu(rb.asarray([-1.0])).shape
    (1,)
    """
    return where(x > 0.0, x, float(alpha) * expm1(minimum(x, 0.0)))


@elu.gradient
def _elu_gradient(g: Any, y: Any, x: Any, alpha: float) -> tuple[Any]:
    # where, not minimum: the slope of minimum at exactly 0 would halve second derivatives
    below = where(x > 0.0, 0.0, x)
    return (where(x > 0.0, g, g * (float(alpha) * exp(below))),)


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, appendix


@_activation(
    lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    _with((0.0,), {}),
    onnx="Selu",
)
def selu(x: Value) -> Value:
    """elu with the scale and alpha that keep activations normalised.

    >>> rb.selu(rb.asarray([-1.0])).shape
    (1,)
    """
    low = (SELU_SCALE * SELU_ALPHA) * expm1(minimum(x, 0.0))
    return where(x > 0.0, x * SELU_SCALE, low)


@selu.gradient
def _selu_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    below = (SELU_SCALE * SELU_ALPHA) * exp(where(x > 0.0, 0.0, x))
    return (g * where(x > 0.0, SELU_SCALE, below),)


@_activation(
    lambda x, min_val, max_val: np.clip(x, min_val, max_val),
    _with((-1.0, 1.0, 0.5), {"min_val": -1.0, "max_val": 1.0}, {"min_val": -1.0, "max_val": 0.5}),
    onnx="Clip",
)
def hardtanh(x: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    """x kept between min_val and max_val; gradient 0 at and beyond both, as in PyTorch.

    >>> rb.hardtanh(rb.asarray([-3.0])).shape
    (1,)
    """
    if min_val > max_val:
        raise ShapeError(f"hardtanh: min_val {min_val} is larger than max_val {max_val}")
    return clip(x, float(min_val), float(max_val))


@hardtanh.gradient
def _hardtanh_gradient(g: Any, y: Any, x: Any, min_val: float, max_val: float) -> tuple[Any]:
    return (where((x > float(min_val)) & (x < float(max_val)), g, 0.0),)


@_activation(lambda x: np.clip(x, 0, 6), _with((0.0, 6.0), {}), onnx="Clip")
def relu6(x: Value) -> Value:
    """x kept between 0 and 6.

    >>> rb.relu6(rb.asarray([-3.0])).shape
    (1,)
    """
    return hardtanh(x, 0.0, 6.0)


@_activation(lambda x: np.clip(x / 6 + 0.5, 0, 1), _with((-3.0, 3.0), {}), onnx="HardSigmoid")
def hardsigmoid(x: Value) -> Value:
    """x / 6 + 1 / 2 kept between 0 and 1.

    >>> rb.hardsigmoid(rb.asarray([0.0])).shape
    (1,)
    """
    return hardtanh(x + 3.0, 0.0, 6.0) / 6.0


@_activation(lambda x: x * np.clip(x / 6 + 0.5, 0, 1), _with((-3.0, 3.0), {}), onnx="HardSwish")
def hardswish(x: Value) -> Value:
    """x * hardsigmoid(x).

    >>> rb.hardswish(rb.asarray([0.0])).shape
    (1,)
    """
    return maximum(x, -3.0) * hardsigmoid(x)  # not -inf * 0


# ---- gated ---------------------------------------------------------------------------------------


def _glu_spec(x: Spec, axis: int) -> Spec:
    at = axis_of("glu", axis, x.ndim)
    if x.shape[at] % 2 != 0:
        raise ShapeError(f"glu: input {show(x.shape)} has an odd size {x.shape[at]} in axis {axis}")
    return x.with_shape((*x.shape[:at], x.shape[at] // 2, *x.shape[at + 1 :]))


def _glu_reference(x: np.ndarray, axis: int) -> np.ndarray:
    a, b = np.split(x.astype(np.float64), 2, axis)
    return a * _sigmoid(b)


@op(
    "composite",
    promote="float",
    method=None,
    infer=_glu_spec,
    reference=_glu_reference,
    samples=lambda: [
        Sample((Draw((3, 4)),), {"axis": -1}),
        Sample((Draw((6, 2, 3)),), {"axis": 0}),
        Sample((Draw((2,)),), {"axis": 0}),
        Sample((Draw((0, 4)),), {"axis": 1}),
    ],
)
def glu(x: Value, axis: int = -1) -> Value:
    """The first half of an axis times the sigmoid of the second half.

    >>> rb.glu(rb.ones((3, 4))).shape
    (3, 2)
    """
    at = axis_of("glu", axis, x.ndim)
    half = x.shape[at] // 2
    return cut(x, at, 0, half) * sigmoid(cut(x, at, half, x.shape[at]))


ACTIVATIONS: tuple[Op, ...] = (
    *(silu, gelu, softplus, logsigmoid, mish, softsign, leaky_relu, elu),
    *(selu, hardtanh, relu6, hardsigmoid, hardswish, glu),
)
