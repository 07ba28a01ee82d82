"""Losses with PyTorch's names, argument order and reductions.

Class numbers are compared with 0..C-1 instead of being used as addresses, so that a loss and its
gradient are one pass over the row. Gradients come from the bodies unless a rule stands beside the
op.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rabbet.ops.index import take
from scipy import special

from rabbet.base.dtypes import int64
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import show
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.activation import softplus
from rabbet.ops.arithmetic import abs_, cast, maximum
from rabbet.ops.checks import fixed, need_choice, need_float, need_same_dtype, need_shape, wide
from rabbet.ops.compare import where
from rabbet.ops.create import iota
from rabbet.ops.functions import exp, log, log1p
from rabbet.ops.movement import expand_dims
from rabbet.ops.moves import reshape
from rabbet.ops.network import log_softmax
from rabbet.ops.reduce import mean, sum_

NO_CLASS = 2**62  # larger than any axis: found out of range
REDUCTIONS = ("none", "mean", "sum")


def _reduce(name: str, loss: Any, reduction: str) -> Any:
    need_choice(name, "reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return loss
    return mean(loss) if reduction == "mean" else sum_(loss)


def _reduce_reference(loss: np.ndarray, reduction: str) -> np.ndarray:
    return loss if reduction == "none" else getattr(np, reduction)(loss)


# ---- classes -------------------------------------------------------------------------------------


def _class_axis(x: Any) -> int:
    return 0 if x.ndim == 1 else 1


def _check_classes(name: str, x: Any, target: Any, weight: Any) -> None:
    """input (C,) or (N, C, ...); target class numbers without the class axis; weight (C,)."""
    need_float(name, "input", x.dtype)
    if x.ndim == 0:
        raise ShapeError(f"{name}: input () must be (C,) or (N, C, ...)")
    axis = _class_axis(x)
    wanted = x.shape[:axis] + x.shape[axis + 1 :]
    if target.ndim != len(wanted) or target.shape != wanted:
        hint = ""
        if target.ndim == x.ndim and target.shape[axis] == 1:
            hint = f"\n  hint: drop the axis of size 1, e.g. target.squeeze({axis})"
        elif target.ndim == x.ndim:
            hint = "\n  hint: a target of probabilities must be a float tensor"
        raise ShapeError(
            f"{name}: input {show(x.shape)} wants target {show(wanted)} of class numbers, "
            f"got {show(target.shape)}{hint}"
        )
    if not target.dtype.is_integer:
        raise DTypeError(
            f"{name}: target is {target.dtype.name}, class numbers must be integers; "
            "cast it with target.astype(rb.int64)"
        )
    _check_weight(name, x, weight)


def _check_weight(name: str, x: Any, weight: Any) -> None:
    need_same_dtype(name, input=x, weight=weight)
    need_shape(name, "weight", weight, (x.shape[_class_axis(x)],))


def _along_classes(v: Any, x: Any) -> Any:
    """A (C,) vector laid along the class axis of `x`."""
    return reshape(v, (v.shape[0],) + (1,) * (x.ndim - _class_axis(x) - 1))


def _checked_target(x: Any, target: Any, ignore_index: int) -> tuple[Any, Any]:
    """(int64 class numbers, which of them count); what is no class is found when computed."""
    target = cast(target, int64)
    counts = target != ignore_index
    classes = iota.like(x, (x.shape[_class_axis(x)],), 0, int64)
    # take from 0..C-1 gives the number itself and finds what lies outside; here, unlike there,
    # negative ones do not count from the end
    asked = where(target < 0, NO_CLASS, target)
    return take(classes, where(counts, asked, 0), 0), counts


def _nll(
    name: str,
    log_p: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    smooth: float,
) -> Any:
    """Negative log-likelihood of class numbers, with label smoothing."""
    need_choice(name, "reduction", reduction, REDUCTIONS)
    axis = _class_axis(log_p)
    chosen, counts = _checked_target(log_p, target, ignore_index)
    shape = [1] * log_p.ndim
    shape[axis] = log_p.shape[axis]
    hit = expand_dims(chosen, axis) == iota.like(log_p, tuple(shape), axis, int64)
    loss = -sum_(where(hit, log_p, 0.0), axis)
    scale = cast(counts, log_p.dtype)
    spread = log_p
    if weight is not None:
        classes = _along_classes(weight, log_p)
        scale = scale * sum_(where(hit, classes, 0.0), axis)
        spread = log_p * classes
    if smooth:
        # PyTorch's rule: the smoothed part is weighted class by class, and counts like the rest
        even = where(counts, -sum_(spread, axis), 0.0) * (smooth / fixed(log_p.shape[axis]))
        loss = (1.0 - smooth) * where(counts, loss, 0.0) * scale + even
    else:
        loss = where(counts, loss, 0.0) * scale
    if reduction == "mean":
        return sum_(loss) / sum_(scale)
    return loss if reduction == "none" else sum_(loss)


def _nll_reference(
    log_p: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
    smooth: float = 0.0,
) -> np.ndarray:
    rows = wide(log_p)
    rows = rows[None] if rows.ndim == 1 else rows
    rows = np.moveaxis(rows, 1, -1)  # (..., C)
    classes = rows.shape[-1]
    w = np.ones(classes) if weight is None else wide(weight)
    numbers = target.reshape(rows.shape[:-1])
    loss, scale = np.zeros(numbers.shape), np.zeros(numbers.shape)
    for at in np.ndindex(*numbers.shape):
        c = numbers[at]
        if c != ignore_index:
            scale[at] = w[c]
            loss[at] = -(1 - smooth) * w[c] * rows[at][c]
            if smooth:
                loss[at] -= smooth / classes * (w * rows[at]).sum()
    if reduction == "mean":
        return loss.sum() / scale.sum()
    return loss.reshape(target.shape) if reduction == "none" else loss.sum()


def _log_softmax_array(x: np.ndarray) -> np.ndarray:
    return special.log_softmax(wide(x), axis=_class_axis(x))


def _class_samples(probabilities: bool, **base: Any) -> list[Sample]:
    base = {"ignore_index": -100, "reduction": "mean"} | base

    def sample(shape: tuple, weight: bool = False, ignore: int = -100, **attrs: Any) -> Sample:
        axis = 0 if len(shape) == 1 else 1
        rest = shape[:axis] + shape[axis + 1 :]
        target = Draw(rest, 0, shape[axis], "int")
        third = Draw((shape[axis],), 0.5, 2) if weight else None
        return Sample((Draw(shape), target, third), base | {"ignore_index": ignore} | attrs)

    found = [
        sample((5, 4)),
        sample((6, 3), True, 1),
        sample((3, 4, 2), True, reduction="none"),
        sample((2, 3, 2, 2), reduction="sum"),
        sample((4,), reduction="none"),
        sample((0, 3), reduction="sum"),
        sample((2, 70)),
    ]
    if probabilities:
        found += [
            sample((5, 4), label_smoothing=0.1),
            sample((6, 3), True, 1, label_smoothing=0.3),
            sample((4, 3), True, 2, label_smoothing=0.3, reduction="none"),
            Sample((Draw((5, 4)), Draw((5, 4), 0, 1), None), base),
            Sample((Draw((3, 4, 2)), Draw((3, 4, 2), 0, 1), Draw((4,), 0.5, 2)), base),
            Sample(
                (Draw((4, 3)), Draw((4, 3), 0, 1), None),
                base | {"label_smoothing": 0.2, "reduction": "none"},
            ),
        ]
    return found


def _cross_entropy_reference(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> np.ndarray:
    log_p, axis = _log_softmax_array(x), _class_axis(x)
    if target.dtype.kind in "iu":
        return _nll_reference(log_p, target, weight, ignore_index, reduction, label_smoothing)
    p = (1 - label_smoothing) * wide(target) + label_smoothing / x.shape[axis]
    w = 1 if weight is None else wide(weight).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    loss = -(w * p * log_p).sum(axis)
    return _reduce_reference(loss, reduction)


@op(
    "composite",
    method=None,
    reference=_cross_entropy_reference,
    samples=lambda: _class_samples(True, label_smoothing=0.0),
)
def cross_entropy(
    input: Value,
    target: Value,
    weight: Value | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Value:
    """Cross-entropy of logits against class numbers or class probabilities, as in PyTorch.

    input (C,) or (N, C, ...) floats; target () or (N, ...) integers, or probabilities of input's
    shape and dtype; weight (C,) -> 0-d, or target's class-less shape with reduction "none". "mean"
    divides by the sum of the weights of the targets that count. Raises ShapeError, DTypeError;
    IndexRangeError, when computed, for a target that is neither a class nor ignore_index.

    >>> rb.cross_entropy(rb.zeros((2, 3)), rb.asarray([0, 2])).shape
    ()
    """
    need_float("cross_entropy", "input", input.dtype)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ShapeError(f"cross_entropy: label_smoothing {label_smoothing} is not in [0, 1]")
    if target.dtype.is_float and target.ndim == input.ndim:
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    _check_classes("cross_entropy", input, target, weight)
    log_p = log_softmax(input, _class_axis(input))
    smooth = float(label_smoothing)
    return _nll("cross_entropy", log_p, target, weight, ignore_index, reduction, smooth)


def _soft_cross_entropy(x: Any, target: Any, weight: Any, reduction: str, smooth: float) -> Any:
    need_same_dtype("cross_entropy", input=x, target=target)
    need_shape("cross_entropy", "target", target, x.shape)
    _check_weight("cross_entropy", x, weight)
    axis = _class_axis(x)
    p = target
    if smooth:
        p = target * (1.0 - smooth) + smooth / fixed(x.shape[axis])
    if weight is not None:
        p = p * _along_classes(weight, x)
    return _reduce("cross_entropy", -sum_(p * log_softmax(x, axis), axis), reduction)


@op(
    "composite",
    method=None,
    reference=_nll_reference,
    samples=lambda: _class_samples(False),
)
def nll_loss(
    input: Value,
    target: Value,
    weight: Value | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Value:
    """Negative log-likelihood of class numbers, given log-probabilities; see `cross_entropy`.

    input (C,) or (N, C, ...) floats; target () or (N, ...) integers; weight (C,) -> 0-d, or
    target's shape.

    >>> rb.nll_loss(rb.zeros((2, 3)), rb.asarray([0, 2])).shape
    ()
    """
    _check_classes("nll_loss", input, target, weight)
    return _nll("nll_loss", input, target, weight, ignore_index, reduction, 0.0)


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
        pair((3, 4), 0.3, 0.45, reduction="mean"),
        pair((5,), -3.0, -2.5, reduction="sum"),
        pair((2, 3), 2.5, 3.0, reduction="none"),
        pair((), 0.3, 0.45, reduction="mean"),
        pair((0, 2), 0.3, 0.45, reduction="sum"),
    ]
    whole = Draw((3,), -1, 2, "int")
    found.append(Sample((Draw((3,), 0.3, 0.45), whole), attrs | {"reduction": "mean"}))
    return found


@op(
    "composite",
    method=None,
    reference=lambda x, t, reduction: _reduce_reference((wide(x) - t) ** 2, reduction),
    samples=_number_samples,
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
    return _reduce("mse_loss", apart * apart, reduction)


@op(
    "composite",
    method=None,
    reference=lambda x, t, reduction: _reduce_reference(np.abs(wide(x) - t), reduction),
    samples=_number_samples,
)
def l1_loss(input: Value, target: Value, reduction: str = "mean") -> Value:
    """Absolute difference, averaged, summed or as it is; shapes and dtypes as in `mse_loss`.

    >>> rb.l1_loss(rb.zeros((3,)), rb.ones((3,))).shape
    ()
    """
    return _reduce("l1_loss", abs_(input - _matched("l1_loss", input, target)), reduction)


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
    reference=lambda x, t, reduction, beta: _reduce_reference(
        _huber_array(wide(x) - t, beta) / beta if beta else np.abs(wide(x) - t), reduction
    ),
    samples=lambda: _number_samples(beta=1.0) + _number_samples(beta=0.0),
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
    return _reduce("smooth_l1_loss", loss, reduction)


@op(
    "composite",
    method=None,
    reference=lambda x, t, reduction, delta: _reduce_reference(
        _huber_array(wide(x) - t, delta), reduction
    ),
    samples=lambda: _number_samples(delta=1.0) + _number_samples(delta=2.0),
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
    return _reduce("huber_loss", _huber(apart, float(delta)), reduction)


# ---- probabilities -------------------------------------------------------------------------------

LOG_FLOOR = (
    -100.0
)  # PyTorch's: log(0) counts as this, so that one sure mistake does not end a training
SLOPE_FLOOR = 1e-12  # and its gradient divides by at least this


def _bce_reference(x: np.ndarray, t: np.ndarray, weight: Any, reduction: str) -> np.ndarray:
    x, t = wide(x), wide(t)
    log_p, log_q = np.maximum(np.log(x), LOG_FLOOR), np.maximum(np.log1p(-x), LOG_FLOOR)
    loss = -(t * log_p + (1 - t) * log_q) * (1 if weight is None else wide(weight))
    return _reduce_reference(loss, reduction)


def _bce_samples(low: float, high: float, extra: int) -> list[Sample]:
    def sample(shape: tuple, target: Draw, last: tuple | None, reduction: str) -> Sample:
        rest = (Draw(last, 0.5, 2) if last is not None else None,) * extra
        return Sample((Draw(shape, low, high), target, *rest), {"reduction": reduction})

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
    samples=lambda: _bce_samples(0.05, 0.95, 1),
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
    return _reduce("binary_cross_entropy", loss, reduction)


@op(
    "composite",
    public=False,
    reference=lambda p, t: _bce_reference(p, t, None, "none"),
    samples=lambda: [Sample((Draw((3, 4), 0.05, 0.95), Draw((3, 4), 0, 1)))],
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
    return _reduce_reference(loss * (1 if weight is None else wide(weight)), reduction)


@op(
    "composite",
    method=None,
    reference=_logits_reference,
    samples=lambda: _bce_samples(-2, 2, 2) + _bce_samples(-40, 40, 2)[:1],
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
    return _reduce(name, loss, reduction)


def _kl_reference(x: np.ndarray, t: np.ndarray, reduction: str, log_target: bool) -> np.ndarray:
    x, t = wide(x), wide(t)
    loss = np.exp(t) * (t - x) if log_target else special.xlogy(t, t) - t * x
    if reduction == "batchmean":
        return loss.sum() / x.shape[0]
    return _reduce_reference(loss, reduction)


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
)
def kl_div(input: Value, target: Value, reduction: str = "mean", log_target: bool = False) -> Value:
    """target * (log target - input), for log-probabilities `input`; a target of 0 gives 0.

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
        positive = t > 0.0
        loss = where(positive, t * (log(where(positive, t, 1.0)) - input), 0.0)
    if reduction != "batchmean":
        return _reduce("kl_div", loss, reduction)
    if loss.ndim == 0:
        raise ShapeError("kl_div: reduction 'batchmean' needs at least one axis, input is ()")
    return sum_(mean(loss, 0))
