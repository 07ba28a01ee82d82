"""Cross-entropy and negative log-likelihood with PyTorch's arguments.

Class numbers are compared with 0..C-1 instead of being used as addresses, so that a loss and its
gradient are one pass over the row. The weights of the classes have gradients too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import int64
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import product
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import cast
from rabbet.ops.axis_moves import expand_dims
from rabbet.ops.checks import fixed, need_choice, need_float, need_same_dtype, need_shape, wide
from rabbet.ops.compare import where
from rabbet.ops.create import extent, iota
from rabbet.ops.gather_scatter import counted_places
from rabbet.ops.index_maps import reshape
from rabbet.ops.loss_reduction import REDUCTIONS, reduce_array, reduce_loss
from rabbet.ops.network import log_softmax, log_softmax_array, softmax
from rabbet.ops.reductions import sum_


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
    return counted_places(where(counts, target, 0), x.shape[_class_axis(x)]), counts


def _hits(x: Any, target: Any) -> Any:
    """True at the class of each example, in the shape of `x`."""
    axis = _class_axis(x)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    numbers = iota.like(x, tuple(shape), axis, int64)
    return expand_dims(cast(target, int64), axis) == numbers


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
    hit = _hits(log_p, chosen)
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


def _nll_gradient(
    g: Any,
    y: Any,
    log_p: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    smooth: float,
) -> tuple[Any, Any, Any]:
    """(g per example, pull, weight's gradient): the gradient of log_p is -g * pull."""
    axis = _class_axis(log_p)
    hit, counts = _hits(log_p, target), expand_dims(target != ignore_index, axis)
    pull = cast(hit, log_p.dtype)
    even = smooth / fixed(log_p.shape[axis])
    classes = None if weight is None else _along_classes(weight, log_p)
    if reduction == "none":
        g = expand_dims(g, axis)
    elif reduction == "mean":
        own = pull if classes is None else pull * classes
        g = g / sum_(where(counts, sum_(own, axis, keepdims=True), 0.0))
    g = where(counts, g, 0.0)
    if smooth:
        pull = pull * (1.0 - smooth) + even
    if classes is None:
        return g, pull, None
    # where, not a product with `pull`: an impossible class has log_p = -inf
    loss = where(hit, log_p * (1.0 - smooth + even), log_p * even if smooth else 0.0)
    if reduction == "mean":  # a weight is also a part of the divisor
        loss = loss + where(hit, y, 0.0)
    axes = tuple(a for a in range(log_p.ndim) if a != axis)
    return g, pull * classes, -sum_(g * loss, axes)


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


def _class_samples(probabilities: bool, **base: Any) -> list[Sample]:
    base = {"ignore_index": -100, "reduction": "mean"} | base

    def sample(
        shape: tuple[int, ...], weight: bool = False, ignore: int = -100, **attrs: Any
    ) -> Sample:
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
    axis = _class_axis(x)
    log_p = log_softmax_array(wide(x), axis)
    if target.dtype.kind in "iu":
        return _nll_reference(log_p, target, weight, ignore_index, reduction, label_smoothing)
    p = (1 - label_smoothing) * wide(target) + label_smoothing / x.shape[axis]
    w = 1 if weight is None else wide(weight).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    loss = -(w * p * log_p).sum(axis)
    return reduce_array(loss, reduction)


@op(
    "composite",
    method=None,
    reference=_cross_entropy_reference,
    samples=lambda: _class_samples(True, label_smoothing=0.0),
    onnx="SoftmaxCrossEntropyLoss",
    autocast="wide",
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


@cross_entropy.gradient
def _cross_entropy_gradient(
    g: Any,
    y: Any,
    input: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[Any, Any, Any]:
    axis, smooth = _class_axis(input), float(label_smoothing)
    soft = target.dtype.is_float
    log_p = log_softmax(input, axis) if soft or weight is not None else input
    if soft:
        g, pull, g_target, g_weight = _soft_gradient(g, log_p, target, weight, reduction, smooth)
    else:
        options = (ignore_index, reduction, smooth)
        g, pull, g_weight = _nll_gradient(g, y, log_p, target, weight, *options)
        g_target = None
    p = softmax(input, axis)
    if soft or weight is not None:
        p = p * sum_(pull, axis, keepdims=True)  # otherwise this sum is 1
    return g * (p - pull), g_target, g_weight


def _soft_gradient(
    g: Any, log_p: Any, target: Any, weight: Any, reduction: str, smooth: float
) -> tuple[Any, Any, Any, Any]:
    """As `_nll_gradient`, for targets that are probabilities, whose gradient is there too."""
    axis = _class_axis(log_p)
    axes = tuple(a for a in range(log_p.ndim) if a != axis)
    if reduction == "none":
        g = expand_dims(g, axis)
    elif reduction == "mean":
        g = g / extent.like(log_p, product([log_p.shape[a] for a in axes]), log_p.dtype)
    p = target
    if smooth:
        p = target * (1.0 - smooth) + smooth / fixed(log_p.shape[axis])
    slope = -g * log_p * (1.0 - smooth)
    if weight is None:
        return g, p, slope, None
    classes = _along_classes(weight, log_p)
    return g, p * classes, slope * classes, -sum_(g * p * log_p, axes)


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
    return reduce_loss("cross_entropy", -sum_(p * log_softmax(x, axis), axis), reduction)


@op(
    "composite",
    method=None,
    reference=_nll_reference,
    samples=lambda: _class_samples(False),
    onnx="NegativeLogLikelihoodLoss",
    autocast="wide",
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


@nll_loss.gradient
def _nll_loss_gradient(
    g: Any, y: Any, input: Any, target: Any, weight: Any, ignore_index: int, reduction: str
) -> tuple[Any, Any, Any]:
    options = (ignore_index, reduction, 0.0)
    g, pull, g_weight = _nll_gradient(g, y, input, target, weight, *options)
    return -g * pull, None, g_weight
