"""Losses of numbers and probabilities, with PyTorch's names, argument order and reductions.

Gradients come from the bodies unless a rule stands beside the op. Cross-entropy is in
cross_entropy.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.activation import softplus
from rabbet.ops.arithmetic import abs_, cast, maximum
from rabbet.ops.checks import need_choice, need_float, need_same_dtype, wide
from rabbet.ops.compare import equal, where
from rabbet.ops.float_functions import exp, log, log1p
from rabbet.ops.loss_reduction import REDUCTIONS, reduce_array, reduce_loss
from rabbet.ops.reductions import mean, sum_

Ints = tuple[int, ...]

# ---- numbers -------------------------------------------------------------------------------------


def _matched(name: str, x: Any, target: Any) -> Any:
    """The target in input's dtype, after checks: same shape, and no other floating dtype."""
    need_float(name, "input", x.dtype)
    if target.dtype.is_float:
        need_same_dtype(name, input=x, target=target)
    if x.ndim != target.ndim or x.shape != target.shape:
        raise ShapeError(
            f"{name}: input {show(x.shape)} and target {show(target.shape)} must have one shape"
            + _reshape_hint(x, target)
        )
    return target if target.dtype is x.dtype else cast(target, x.dtype)


def _reshape_hint(x: Any, target: Any) -> str:
    if x.ndim == target.ndim + 1 and x.shape[:-1] == target.shape and x.shape[-1] == 1:
        return "\n  hint: drop input's last axis, e.g. input.squeeze(-1)"
    return ""


def _number_samples(kinks: tuple[float, ...] = (), **attrs: Any) -> list[Sample]:
    # the difference of the operands stays between the kinks, or beyond them
    def pair(shape: tuple[int, ...], low: float, high: float, **own: Any) -> Sample:
        return Sample((Draw(shape, low, high), Draw(shape, -0.1, 0.1)), attrs | own)

    found = [
        pair((2, 3), 2.5, 3.0, reduction="none"),
        pair((5,), -3.0, -2.5, reduction="sum"),
        pair((3, 4), 0.3, 0.45, reduction="mean"),
        pair((), 0.3, 0.45, reduction="mean"),
        pair((0, 2), 0.3, 0.45, reduction="sum"),
    ]
    whole = Draw((3,), -1, 2, "int")
    found.append(Sample((Draw((3,), 0.3, 0.45), whole), attrs | {"reduction": "mean"}))
    return found


@op(
    "composite",
    method=None,
    reference=lambda x, t, reduction: reduce_array((wide(x) - t) ** 2, reduction),
    samples=_number_samples,
    autocast="wide",
)
def mse_loss(input: Value, target: Value, reduction: str = "mean") -> Value:
    """Squared difference, averaged, summed or as it is.

    input and target of one shape -> 0-d, or that shape with reduction "none". Integer targets are
    cast; another floating dtype than input's raises DTypeError; another shape raises ShapeError
    (nothing is broadcast).

    >>> rb.mse_loss(rb.zeros((3,)), rb.ones((3,))).shape
    ()
    """
    apart = input - _matched("mse_loss", input, target)
    return reduce_loss("mse_loss", apart * apart, reduction)


@op(
    "composite",
    method=None,
    reference=lambda x, t, reduction: reduce_array(np.abs(wide(x) - t), reduction),
    samples=_number_samples,
    autocast="wide",
)
def l1_loss(input: Value, target: Value, reduction: str = "mean") -> Value:
    """Absolute difference, averaged, summed or as it is; shapes and dtypes as in `mse_loss`.

    >>> rb.l1_loss(rb.zeros((3,)), rb.ones((3,))).shape
    ()
    """
    return reduce_loss("l1_loss", abs_(input - _matched("l1_loss", input, target)), reduction)


def _huber_array(apart: np.ndarray, delta: float) -> np.ndarray:
    size = np.abs(apart)
    return np.where(size < delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def _huber(apart: Any, delta: float) -> Any:
    """delta^2 times the Huber function of apart / delta."""
    size = abs_(apart)
    return where(size < delta, 0.5 * (apart * apart), delta * (size - 0.5 * delta))


@op(
    "composite",
    method=None,
    reference=lambda x, t, reduction, beta: reduce_array(
        _huber_array(wide(x) - t, beta) / beta if beta else np.abs(wide(x) - t), reduction
    ),
    samples=lambda: _number_samples(beta=1.0) + _number_samples(beta=0.0),
    autocast="wide",
)
def smooth_l1_loss(
    input: Value, target: Value, reduction: str = "mean", beta: float = 1.0
) -> Value:
    """Squared difference / (2 beta) below beta, |difference| - beta / 2 above; as `mse_loss` else.

    >>> rb.smooth_l1_loss(rb.zeros((3,)), rb.ones((3,))).shape
    ()
    """
    if beta < 0:
        raise ShapeError(f"smooth_l1_loss: beta {beta} is negative")
    apart = input - _matched("smooth_l1_loss", input, target)
    loss = _huber(apart, float(beta)) / float(beta) if beta else abs_(apart)
    return reduce_loss("smooth_l1_loss", loss, reduction)


@op(
    "composite",
    method=None,
    reference=lambda x, t, reduction, delta: reduce_array(
        _huber_array(wide(x) - t, delta), reduction
    ),
    samples=lambda: _number_samples(delta=1.0) + _number_samples(delta=2.0),
    autocast="wide",
)
def huber_loss(input: Value, target: Value, reduction: str = "mean", delta: float = 1.0) -> Value:
    """Half the squared difference below delta, delta (|difference| - delta / 2) above; as
    `mse_loss` else.

    >>> rb.huber_loss(rb.zeros((3,)), rb.ones((3,))).shape
    ()
    """
    if delta <= 0:
        raise ShapeError(f"huber_loss: delta {delta} must be positive")
    apart = input - _matched("huber_loss", input, target)
    return reduce_loss("huber_loss", _huber(apart, float(delta)), reduction)


# ---- probabilities -------------------------------------------------------------------------------

LOG_FLOOR = (
    -100.0
)  # PyTorch's: log(0) counts as this, so that one sure mistake does not end a training
SLOPE_FLOOR = 1e-12  # and its gradient divides by at least this


def _bce_reference(x: np.ndarray, t: np.ndarray, weight: Any, reduction: str) -> np.ndarray:
    x, t = wide(x), wide(t)
    log_p, log_q = np.maximum(np.log(x), LOG_FLOOR), np.maximum(np.log1p(-x), LOG_FLOOR)
    loss = -(t * log_p + (1 - t) * log_q) * (1 if weight is None else wide(weight))
    return reduce_array(loss, reduction)


def _bce_samples(low: float, high: float, extra: int) -> list[Sample]:
    def sample(shape: Ints, target: Draw, last: Ints | None, reduction: str) -> Sample:
        rest = (Draw(last, 0.5, 2) if last is not None else None,) * extra
        kept = (1.0,) if high == 1.0 else ()  # away from an infinite slope
        first = Draw(shape, low, high, avoid=kept)
        return Sample((first, target, *rest), {"reduction": reduction})

    return [
        sample((3, 4), Draw((3, 4), 0, 1), None, "mean"),
        sample((2, 3), Draw((2, 3), 0, 1), (3,), "none"),
        sample((5,), Draw((5,), 0, 2, "int"), (5,), "sum"),
        sample((), Draw((), 0, 1), None, "mean"),
        sample((0, 2), Draw((0, 2), 0, 1), None, "sum"),
    ]


@op(
    "composite",
    method=None,
    reference=_bce_reference,
    samples=lambda: _bce_samples(0.1, 1.0, 1),
    autocast="wide",
)
def binary_cross_entropy(
    input: Value, target: Value, weight: Value | None = None, reduction: str = "mean"
) -> Value:
    """-(t log p + (1 - t) log(1 - p)) for probabilities `input`; logarithms are at least -100, as
    in PyTorch.

    input and target of one shape; weight broadcasts to it -> 0-d, or that shape with reduction
    "none". `binary_cross_entropy_with_logits` is more exact.

    >>> rb.binary_cross_entropy(rb.ones((3,)), rb.ones((3,))).shape
    ()
    """
    need_same_dtype("binary_cross_entropy", input=input, weight=weight)
    t = _matched("binary_cross_entropy", input, target)
    loss = binary_loss(input, t)
    loss = loss if weight is None else loss * weight
    return reduce_loss("binary_cross_entropy", loss, reduction)


def _binary_spec(p: Spec, t: Spec) -> Spec:
    need_float("binary_loss", "p", p.dtype)
    need_same_dtype("binary_loss", p=p, t=t)
    return p


@op(
    "composite",
    public=False,
    infer=_binary_spec,
    reference=lambda p, t: _bce_reference(p, t, None, "none"),
    samples=lambda: [Sample((Draw((3, 4), 0.1, 1.0, avoid=(1.0,)), Draw((3, 4), 0, 1)))],
)
def binary_loss(p: Value, t: Value) -> Value:
    """The loss of each probability; its gradient is finite at 0 and 1."""
    log_p, log_q = maximum(log(p), LOG_FLOOR), maximum(log1p(-p), LOG_FLOOR)
    return -(t * log_p + (1.0 - t) * log_q)


@binary_loss.gradient
def _binary_loss_gradient(g: Any, y: Any, p: Any, t: Any) -> tuple[Any, Any]:
    slope = (p - t) / maximum((1.0 - p) * p, SLOPE_FLOOR)
    return g * slope, g * (maximum(log1p(-p), LOG_FLOOR) - maximum(log(p), LOG_FLOOR))


def _logits_reference(
    x: np.ndarray, t: np.ndarray, weight: Any, reduction: str, pos_weight: Any
) -> np.ndarray:
    x, t = wide(x), wide(t)
    more = 1 if pos_weight is None else wide(pos_weight)
    loss = more * t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)
    return reduce_array(loss * (1 if weight is None else wide(weight)), reduction)


@op(
    "composite",
    method=None,
    reference=_logits_reference,
    samples=lambda: _bce_samples(-2, 2, 2) + _bce_samples(-40, 40, 2)[:1],
    autocast="wide",
)
def binary_cross_entropy_with_logits(
    input: Value,
    target: Value,
    weight: Value | None = None,
    reduction: str = "mean",
    pos_weight: Value | None = None,
) -> Value:
    """Binary cross-entropy of sigmoid(input), computed from the logits without overflow.

    input and target of one shape; weight and pos_weight (times the loss of t = 1) broadcast to it
    -> 0-d, or that shape with reduction "none".

    >>> rb.binary_cross_entropy_with_logits(rb.zeros((3,)), rb.ones((3,))).shape
    ()
    """
    name = "binary_cross_entropy_with_logits"
    need_same_dtype(name, input=input, weight=weight, pos_weight=pos_weight)
    t = _matched(name, input, target)
    miss = t * softplus(-input)  # the loss of t = 1
    miss = miss if pos_weight is None else miss * pos_weight
    loss = miss + (1.0 - t) * softplus(input)
    loss = loss if weight is None else loss * weight
    return reduce_loss(name, loss, reduction)


def _kl_reference(x: np.ndarray, t: np.ndarray, reduction: str, log_target: bool) -> np.ndarray:
    x, t = wide(x), wide(t)
    if log_target:
        loss = np.exp(t) * (t - x)
    else:
        loss = np.where(t == 0, 0, t * (np.log(np.where(t == 0, 1, t)) - x))
    if reduction == "batchmean":
        return loss.sum() / x.shape[0]
    return reduce_array(loss, reduction)


@op(
    "composite",
    method=None,
    reference=_kl_reference,
    samples=lambda: [
        Sample((Draw(s), Draw(s, 0.1, 1)), {"reduction": r, "log_target": log_target})
        for s, r, log_target in (
            ((3, 4), "mean", False),
            ((3, 4), "batchmean", True),
            ((5,), "none", False),
            ((2, 2), "sum", True),
            ((0, 2), "sum", False),
        )
    ],
    autocast="wide",
)
def kl_div(input: Value, target: Value, reduction: str = "mean", log_target: bool = False) -> Value:
    """target * (log target - input), for log-probabilities `input`; a target of 0 gives 0, a
    negative one NaN.

    input and target of one shape and dtype -> 0-d, or that shape with reduction "none". "batchmean"
    divides the sum by the first size, which is the divergence as it is defined.

    >>> rb.kl_div(rb.zeros((2, 3)), rb.ones((2, 3)), reduction="batchmean").shape
    ()
    """
    need_choice("kl_div", "reduction", reduction, (*REDUCTIONS, "batchmean"))
    t = _matched("kl_div", input, target)
    if log_target:
        loss = exp(t) * (t - input)
    else:
        absent = equal(t, 0.0)
        loss = where(absent, 0.0, t * (log(where(absent, 1.0, t)) - input))
    if reduction != "batchmean":
        return reduce_loss("kl_div", loss, reduction)
    if loss.ndim == 0:
        raise ShapeError("kl_div: reduction 'batchmean' needs at least one axis, input is ()")
    return sum_(mean(loss, 0))
