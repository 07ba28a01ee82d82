"""Losses of margins and distances, with PyTorch's names, argument order and reductions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.base.dtypes import int64
from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.activation import softplus
from rabbet.ops.arithmetic import abs_, cast, maximum, minimum
from rabbet.ops.checks import need_float, need_same_dtype, need_shape, wide
from rabbet.ops.compare import where
from rabbet.ops.create import iota, number
from rabbet.ops.float_functions import pow_, relu, sqrt
from rabbet.ops.gather_scatter import check_indices, counted_places, take, take_along_axis
from rabbet.ops.index_maps import reshape
from rabbet.ops.loss_reduction import reduce_array, reduce_loss
from rabbet.ops.reductions import max_, mean, min_, sum_

# ---- lengths and distances -----------------------------------------------------------------------


def norm(x: Any, p: float, axis: int, keepdims: bool = False) -> Any:
    """The p-norm along an axis; its gradient at 0 is 0."""
    if not p > 0:
        raise RabbetError(f"a norm needs p > 0, not {p}")
    if math.isinf(p):
        return max_(abs_(x), axis, keepdims)
    if p == 1:
        return sum_(abs_(x), axis, None, keepdims)
    total = sum_(x * x if p == 2 else pow_(abs_(x), float(p)), axis, None, keepdims)
    none = total == 0.0
    safe = where(none, 1.0, total)
    return where(none, 0.0, sqrt(safe) if p == 2 else pow_(safe, 1.0 / p))


def _distance_array(
    x1: np.ndarray, x2: np.ndarray, p: float, eps: float, keepdim: bool
) -> np.ndarray:
    return np.linalg.norm(wide(x1) - x2 + eps, p, -1, keepdims=keepdim)


@op(
    "composite",
    method=None,
    public=False,
    promote="float",
    reference=_distance_array,
    samples=lambda: [
        Sample((Draw(s, -2, -0.5), Draw(t, 0.5, 2)), {"p": p, "eps": 1e-6, "keepdim": k})
        for s, t, p, k in (
            *(((3, 4), (3, 4), 2.0, False), ((3, 4), (4,), 1.0, True)),
            *(((4,), (4,), 3.0, False), ((0, 2), (0, 2), 2.0, False)),
        )
    ],
    autocast="wide",
)
def pairwise_distance(
    x1: Value, x2: Value, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Value:
    """The p-norm of x1 - x2 + eps along the last axis: (..., D), (..., D) -> (...)."""
    return norm(x1 - x2 + eps, p, -1, keepdim)


def _cosine_array(x1: np.ndarray, x2: np.ndarray, axis: int, eps: float) -> np.ndarray:
    sizes = [np.maximum(np.linalg.norm(wide(x), axis=axis), eps) for x in (x1, x2)]
    return (wide(x1) * x2).sum(axis) / sizes[0] / sizes[1]


@op(
    "composite",
    method=None,
    public=False,
    promote="float",
    reference=_cosine_array,
    samples=lambda: [
        Sample((Draw(s), Draw(t)), {"axis": a, "eps": 1e-8})
        for s, t, a in (((3, 4), (3, 4), 1), ((2, 3, 4), (3, 4), -2), ((4,), (4,), 0))
    ],
    autocast="wide",
)
def cosine_similarity(x1: Value, x2: Value, axis: int = 1, eps: float = 1e-8) -> Value:
    """The cosine of the angle between x1 and x2 along an axis; lengths are at least `eps`."""
    rank = max(x1.ndim, x2.ndim)
    at = axis_of("cosine_similarity", axis, rank) - rank
    if min(x1.ndim, x2.ndim) < -at:
        raise ShapeError(f"cosine_similarity: {show(x1.shape)} and {show(x2.shape)} share no axis")
    one, two = (maximum(norm(x, 2, at), eps) for x in (x1, x2))
    return sum_(x1 * x2, at) / (one * two)


@op(
    "composite",
    method=None,
    public=False,
    promote="float",
    reference=lambda x, p, axis, eps: (
        wide(x) / np.maximum(np.linalg.norm(wide(x), p, axis, keepdims=True), eps)
    ),
    samples=lambda: [
        Sample((Draw(s, kind="distinct"),), {"p": p, "axis": a, "eps": 1e-12})
        for s, p, a in (((3, 4), 2.0, 1), ((2, 3), 1.0, 0), ((4,), 3.0, 0), ((2, 3), math.inf, -1))
    ],
    autocast="wide",
)
def normalize(x: Value, p: float = 2.0, axis: int = 1, eps: float = 1e-12) -> Value:
    """x divided by its p-norm along an axis, or by eps where that is smaller."""
    return x / maximum(norm(x, p, axis_of("normalize", axis, x.ndim), True), eps)


# ---- pairs and triplets --------------------------------------------------------------------------


def in_dtype(name: str, target: Any, x: Any) -> Any:
    """A target in the dtype of the input, which is a floating one."""
    need_float(name, "input", x.dtype)
    return cast(target, x.dtype) if target.dtype is not x.dtype else target


@op(
    "composite",
    method=None,
    public=False,
    reference=lambda x1, x2, t, margin, reduction: reduce_array(
        np.maximum(0, -t * (wide(x1) - x2) + margin), reduction
    ),
    samples=lambda: [
        Sample((Draw(s), Draw(s), Draw(s, t, t + 1, "int")), {"margin": m, "reduction": r})
        for s, t, m, r in (((3, 4), 1, 0.0, "mean"), ((5,), -1, 0.5, "sum"), ((2,), 1, 0.2, "none"))
    ],
    autocast="wide",
)
def margin_ranking_loss(
    input1: Value, input2: Value, target: Value, margin: float = 0.0, reduction: str = "mean"
) -> Value:
    """max(0, -target (input1 - input2) + margin): target 1 asks for input1 to be larger, -1 for
    input2.
    """
    need_same_dtype("margin_ranking_loss", input1=input1, input2=input2)
    sign = in_dtype("margin_ranking_loss", target, input1)
    loss = relu(margin - sign * (input1 - input2))
    return reduce_loss("margin_ranking_loss", loss, reduction)


def _hinge_array(x: np.ndarray, t: np.ndarray, margin: float, reduction: str) -> np.ndarray:
    far = np.where(t != 1, np.maximum(0, margin - wide(x)), 0)
    return reduce_array(far + np.where(t != -1, wide(x), 0), reduction)


@op(
    "composite",
    method=None,
    public=False,
    reference=_hinge_array,
    samples=lambda: [
        Sample((Draw(s), Draw(s, t, t + 1, "int")), {"margin": m, "reduction": r})
        for s, t, m, r in (
            ((3, 4), 1, 1.0, "mean"),
            ((5,), -1, 0.5, "sum"),
            ((2,), -1, 1.0, "none"),
        )
    ],
    autocast="wide",
)
def hinge_embedding_loss(
    input: Value, target: Value, margin: float = 1.0, reduction: str = "mean"
) -> Value:
    """input where target is 1, max(0, margin - input) where it is -1."""
    sign = in_dtype("hinge_embedding_loss", target, input)
    loss = where(sign != 1.0, relu(margin - input), 0.0) + where(sign != -1.0, input, 0.0)
    return reduce_loss("hinge_embedding_loss", loss, reduction)


COSINE_EPS = 1e-12  # added to squared lengths, as in PyTorch


def _cosine_loss_array(
    x1: np.ndarray, x2: np.ndarray, t: np.ndarray, margin: float, reduction: str
) -> np.ndarray:
    one, two = wide(x1), wide(x2)
    sizes = ((one**2).sum(-1) + COSINE_EPS) * ((two**2).sum(-1) + COSINE_EPS)
    cosine = (one * two).sum(-1) / np.sqrt(sizes)
    return reduce_array(
        np.where(t == 1, 1 - cosine, np.where(t == -1, np.maximum(0, cosine - margin), 0)),
        reduction,
    )


@op(
    "composite",
    method=None,
    public=False,
    reference=_cosine_loss_array,
    samples=lambda: [
        Sample((Draw(s), Draw(s), Draw(s[:-1], t, t + 1, "int")), {"margin": m, "reduction": r})
        for s, t, m, r in (
            *(((3, 4), 1, 0.0, "mean"), ((5, 3), -1, 0.1, "sum"), ((4,), 1, 0.0, "none")),
        )
    ],
    autocast="wide",
)
def cosine_embedding_loss(
    input1: Value, input2: Value, target: Value, margin: float = 0.0, reduction: str = "mean"
) -> Value:
    """1 - cosine where target is 1, max(0, cosine - margin) where it is -1: (N, D) twice, (N,)."""
    name = "cosine_embedding_loss"
    need_same_dtype(name, input1=input1, input2=input2)
    if input1.ndim not in (1, 2) or input1.shape != input2.shape:
        raise ShapeError(f"{name}: {show(input1.shape)} and {show(input2.shape)} must be (N, D)")
    need_shape(name, "target", target, input1.shape[:-1])
    sign = in_dtype(name, target, input1)
    sizes = (sum_(input1 * input1, -1) + COSINE_EPS) * (sum_(input2 * input2, -1) + COSINE_EPS)
    cosine = sum_(input1 * input2, -1) / sqrt(sizes)
    apart = where(sign == -1.0, relu(cosine - margin), 0.0)
    return reduce_loss(name, where(sign == 1.0, 1.0 - cosine, apart), reduction)


def _triplet_array(
    a: np.ndarray,
    p: np.ndarray,
    n: np.ndarray,
    margin: float,
    power: float,
    eps: float,
    swap: bool,
    reduction: str,
) -> np.ndarray:
    near, far = (_distance_array(a, x, power, eps, False) for x in (p, n))
    if swap:
        far = np.minimum(far, _distance_array(p, n, power, eps, False))
    return reduce_array(np.maximum(0, near - far + margin), reduction)


@op(
    "composite",
    method=None,
    public=False,
    reference=_triplet_array,
    samples=lambda: [
        Sample(
            (Draw(s, -2, -1), Draw(s, -0.5, 0), Draw(s, 0.5, 1)),
            {"margin": m, "p": p, "eps": 1e-6, "swap": w, "reduction": r},
        )
        for s, m, p, w, r in (
            *(((3, 4), 9.0, 2.0, False, "mean"), ((2, 3), 9.0, 1.0, True, "none")),
            ((4,), 9.0, 2.0, False, "sum"),
        )
    ],
    autocast="wide",
)
def triplet_margin_loss(
    anchor: Value,
    positive: Value,
    negative: Value,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Value:
    """max(0, distance(anchor, positive) - distance(anchor, negative) + margin): (N, D) each.

    With `swap` the negative counts by its distance from the positive where that is smaller
    (V. Balntas et al., 2016).
    """
    name = "triplet_margin_loss"
    need_float(name, "anchor", anchor.dtype)
    need_same_dtype(name, anchor=anchor, positive=positive, negative=negative)
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    far = minimum(far, pairwise_distance(positive, negative, p, eps)) if swap else far
    return reduce_loss(name, relu(near - far + margin), reduction)


# ---- classes -------------------------------------------------------------------------------------


def _classes(name: str, x: Any) -> None:
    need_float(name, "input", x.dtype)
    if x.ndim not in (1, 2):
        raise ShapeError(f"{name}: input {show(x.shape)} must be (N, C) or (C,)")


def _multi_margin_array(
    x: np.ndarray, t: np.ndarray, weight: Any, p: int, margin: float, reduction: str
) -> np.ndarray:
    rows, labels = wide(x).reshape((-1, x.shape[-1])), t.reshape(-1)
    found = []
    for row, label in zip(rows, labels, strict=True):
        terms = np.maximum(0, margin - row[label] + row) ** p
        terms[label] = 0
        found.append(terms.mean() * (1 if weight is None else wide(weight)[label]))
    return reduce_array(np.asarray(found).reshape(t.shape), reduction)


@op(
    "composite",
    method=None,
    public=False,
    reference=_multi_margin_array,
    samples=lambda: [
        Sample(
            (Draw(s), Draw(s[:-1], 0, s[-1], "int"), Draw(s[-1:], 0.5, 2) if w else None),
            {"p": p, "margin": m, "reduction": r},
        )
        for s, w, p, m, r in (
            *(((3, 4), False, 1, 6.0, "mean"), ((2, 3), True, 2, 6.0, "none")),
            ((4,), False, 2, 1.0, "sum"),
        )
    ],
    autocast="wide",
)
def multi_margin_loss(
    input: Value,
    target: Value,
    weight: Value | None = None,
    p: int = 1,
    margin: float = 1.0,
    reduction: str = "mean",
) -> Value:
    """The mean over classes of max(0, margin - input[target] + input[other])^p: (N, C), (N,).

    Raises IndexRangeError, when computed, for a target that is no class.
    """
    name = "multi_margin_loss"
    _classes(name, input)
    need_same_dtype(name, input=input, weight=weight)
    check_indices(name, target)
    need_shape(name, "target", target, input.shape[:-1])
    need_shape(name, "weight", weight, input.shape[-1:])
    if p not in (1, 2):
        raise RabbetError(f"{name}: p must be 1 or 2, not {p}")
    place = counted_places(target, input.shape[-1])
    label = reshape(place, (*target.shape, 1))
    own = take_along_axis(input, label, -1)
    excess = relu(margin - own + input)
    excess = excess * excess if p == 2 else excess
    other = iota.like(input, input.shape, input.ndim - 1, int64) != label
    loss = mean(where(other, excess, 0.0), -1)
    if weight is not None:
        loss = loss * take(weight, place, 0)
    return reduce_loss(name, loss, reduction)


def _multilabel_array(x: np.ndarray, t: np.ndarray, reduction: str) -> np.ndarray:
    rows, labels = wide(x).reshape((-1, x.shape[-1])), t.reshape((-1, t.shape[-1]))
    found = []
    for row, line in zip(rows, labels, strict=True):
        ends = np.nonzero(line < 0)[0]
        own = line[: ends[0]] if ends.size else line
        rest = np.setdiff1d(np.arange(row.size), own)
        terms = np.maximum(0, 1 - (row[own][:, None] - row[rest][None, :]))
        found.append(terms.sum() / row.size)
    return reduce_array(np.asarray(found).reshape(x.shape[:-1]), reduction)


@op(
    "composite",
    method=None,
    public=False,
    reference=_multilabel_array,
    samples=lambda: [
        Sample((Draw(s, kind="distinct"), Draw(s, low, s[-1], "int")), {"reduction": r})
        for s, low, r in (((3, 5), -1, "mean"), ((4,), 0, "sum"), ((2, 3), -2, "none"))
    ],
    autocast="wide",
)
def multilabel_margin_loss(input: Value, target: Value, reduction: str = "mean") -> Value:
    """The mean over classes of max(0, 1 - (input[own] - input[other])), summed over own classes.

    (N, C), (N, C): a row of targets holds own classes up to its first negative number. Raises
    IndexRangeError, when computed, for one of these that is no class.
    """
    name = "multilabel_margin_loss"
    _classes(name, input)
    check_indices(name, target)
    need_shape(name, "target", target, input.shape)
    classes = input.shape[-1]
    label = cast(target, int64)
    place = iota.like(input, input.shape, input.ndim - 1, int64)
    end = min_(where(label < 0, place, number(place, classes, int64)), -1, True)
    listed = place < end
    wide_ = (*input.shape, 1)
    classes_ = iota.like(input, (*(1,) * input.ndim, classes), input.ndim, int64)
    match = (reshape(label, wide_) == classes_) & reshape(listed, wide_)  # (..., target, class)
    own = sum_(cast(match, int64), -2) > 0
    score = take_along_axis(input, counted_places(where(listed, label, 0), classes), -1)
    across = reshape(input, (*input.shape[:-1], 1, classes))
    excess = relu(1.0 - (reshape(score, wide_) - across))
    counts = reshape(listed, wide_) & ~reshape(own, (*input.shape[:-1], 1, classes))
    loss = mean(sum_(where(counts, excess, 0.0), -2), -1)
    return reduce_loss(name, loss, reduction)


@op(
    "composite",
    method=None,
    public=False,
    reference=lambda x, t, reduction: reduce_array(np.logaddexp(0, -t * wide(x)), reduction),
    samples=lambda: [
        Sample((Draw(s), Draw(s, t, t + 1, "int")), {"reduction": r})
        for s, t, r in (((3, 4), 1, "mean"), ((5,), -1, "sum"), ((2,), 1, "none"))
    ],
    autocast="wide",
)
def soft_margin_loss(input: Value, target: Value, reduction: str = "mean") -> Value:
    """log(1 + exp(-target * input)) for targets 1 and -1."""
    sign = in_dtype("soft_margin_loss", target, input)
    need_shape("soft_margin_loss", "target", target, input.shape)
    return reduce_loss("soft_margin_loss", softplus(-(sign * input)), reduction)


def _multilabel_soft_array(x: np.ndarray, t: np.ndarray, weight: Any, reduction: str) -> np.ndarray:
    loss = t * np.logaddexp(0, -wide(x)) + (1 - wide(t)) * np.logaddexp(0, wide(x))
    return reduce_array((loss * (1 if weight is None else wide(weight))).mean(-1), reduction)


@op(
    "composite",
    method=None,
    public=False,
    reference=_multilabel_soft_array,
    samples=lambda: [
        Sample((Draw(s), Draw(s, 0, 1), Draw(s[-1:], 0.5, 2) if w else None), {"reduction": r})
        for s, w, r in (((3, 4), False, "mean"), ((2, 3), True, "none"), ((4,), False, "sum"))
    ],
    autocast="wide",
)
def multilabel_soft_margin_loss(
    input: Value, target: Value, weight: Value | None = None, reduction: str = "mean"
) -> Value:
    """The mean over classes (the last axis) of binary cross-entropies of logits."""
    name = "multilabel_soft_margin_loss"
    need_same_dtype(name, input=input, weight=weight)
    need_shape(name, "target", target, input.shape)
    own = in_dtype(name, target, input)
    loss = own * softplus(-input) + (1.0 - own) * softplus(input)
    loss = loss if weight is None else loss * weight
    return reduce_loss(name, mean(loss, -1), reduction)
