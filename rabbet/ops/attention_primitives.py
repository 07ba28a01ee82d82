"""Attention as primitives: without a matrix of all scores, forward and backward.

Operands are (*lead, positions, features). In results the positions come before the last `heads`
axes of lead, where the next product wants them: a transpose of such a result costs nothing. The
bodies say the same with other ops; gradients of gradients go through them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.base.dtypes import bool_, int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.axis_moves import expand_dims, swapaxes
from rabbet.ops.checks import agree, need_float, need_same_dtype, wide
from rabbet.ops.compare import where
from rabbet.ops.contract import matmul
from rabbet.ops.create import iota
from rabbet.ops.float_functions import exp, log
from rabbet.ops.index_maps import permute, reshape
from rabbet.ops.reductions import max_, sum_

Shape = tuple[Any, ...]
Axes = tuple[int, ...]


# ---- shapes --------------------------------------------------------------------------------------


def inward(ndim: int, heads: int) -> Axes:
    """The permutation that brings positions (axis -2) before the last `heads` axes of lead."""
    place = ndim - 2 - heads
    return (*range(place), ndim - 2, *range(place, ndim - 2), ndim - 1)


def outward(ndim: int, heads: int) -> Axes:
    """The inverse of `inward`."""
    place = ndim - 2 - heads
    return (*range(place), *range(place + 1, ndim - 1), place, ndim - 1)


def _moved(shape: Shape, heads: int) -> Shape:
    return tuple(shape[a] for a in inward(len(shape), heads))


def is_grouped(query: Any, key: Any) -> bool:
    """Do the queries along the last axis of lead share keys and values?"""
    one = query.ndim > 2 and isinstance(key.shape[-3], int) and key.shape[-3] == 1
    return one and not (isinstance(query.shape[-3], int) and query.shape[-3] == 1)


def _check(query: Any, key: Any, value: Any, mask: Any, heads: int) -> None:
    need_float("attend", "query", query.dtype)
    need_same_dtype("attend", query=query, key=key, value=value)
    if mask is not None and mask.dtype is not bool_:
        need_same_dtype("attend", query=query, mask=mask)
    fit = len(query.shape) == len(key.shape) == len(value.shape) >= 2 + max(heads, 0)
    fit = fit and heads >= 0
    if not fit:
        raise ShapeError(f"attend: {show(query.shape)} with {heads} heads does not fit the others")
    lead = query.shape[:-3] if is_grouped(query, key) else query.shape[:-2]
    pairs = [*zip(lead, key.shape, strict=False), *zip(key.shape[:-1], value.shape, strict=False)]
    fit = fit and all(agree(a, b) for a, b in pairs)
    fit = fit and agree(query.shape[-1], key.shape[-1])
    if mask is not None:
        scores = (*query.shape[:-1], key.shape[-2])
        one = [d == 1 for d in mask.shape]
        fit = fit and len(scores) == mask.ndim
        fit = fit and all(
            u or agree(d, s) for u, d, s in zip(one, mask.shape, scores, strict=False)
        )
    if not fit:
        given = ", ".join(show(x.shape) for x in (query, key, value, mask) if x is not None)
        raise ShapeError(f"attend: {given} do not fit")


# ---- in other ops --------------------------------------------------------------------------------


def _scores(query: Any, key: Any, mask: Any, is_causal: bool, scale: float) -> Any:
    found = matmul(query * scale, swapaxes(key, -1, -2))
    if is_causal:
        table = found.shape[-2:]
        seen = iota.like(query, table, 1, int64) <= iota.like(query, table, 0, int64)
        found = where(seen, found, -math.inf)
    if mask is None:
        return found
    return where(mask, found, -math.inf) if mask.dtype is bool_ else found + mask


def _scores_reference(
    query: np.ndarray, key: np.ndarray, mask: np.ndarray | None, is_causal: bool, scale: float
) -> np.ndarray:
    found = wide(query) @ np.swapaxes(wide(key), -1, -2) * scale
    if is_causal:
        found = np.where(np.tril(np.ones(found.shape[-2:], bool)), found, -np.inf)
    if mask is None:
        return found
    return np.where(mask, found, -np.inf) if mask.dtype == bool else found + wide(mask)


def _weights_spec(scores: Spec) -> Spec:
    need_float("attention_weights", "scores", scores.dtype)
    return scores


def _weights_reference(scores: np.ndarray) -> np.ndarray:
    scores = wide(scores)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


@op(
    "composite",
    public=False,
    infer=_weights_spec,
    reference=_weights_reference,
    samples=lambda: [Sample((Draw(s),)) for s in ((3, 4), (2, 2, 70), (2, 1))],
    autocast="narrow",
)
def attention_weights(scores: Value) -> Value:
    """softmax over the last axis; a row of only -inf (nothing to attend to) gives zeros."""
    if isinstance(scores.shape[-1], int) and scores.shape[-1] == 0:
        return scores
    top = max_(scores, -1, keepdims=True)
    e = exp(scores - where(top == -math.inf, 0.0, top))
    total = sum_(e, -1, keepdims=True)
    return e / where(total == 0.0, 1.0, total)


@attention_weights.gradient
def _attention_weights_gradient(g: Any, y: Any, scores: Any) -> tuple[Any]:
    return (y * (g - sum_(g * y, -1, keepdims=True)),)


def plain(
    query: Any, key: Any, value: Any, mask: Any, is_causal: bool, scale: float
) -> tuple[Any, Any]:
    """Result (*lead, L, V) and log of the sum of exponentials (*lead, L): 0 where all is hidden."""
    scores = _scores(query, key, mask, is_causal, scale)
    result = matmul(attention_weights(scores), value)
    if isinstance(scores.shape[-1], int) and scores.shape[-1] == 0:
        return result, sum_(scores, -1)
    top = max_(scores, -1, keepdims=True)
    total = sum_(exp(scores - where(top == -math.inf, 0.0, top)), -1, keepdims=True)
    nothing = total == 0.0
    found = where(nothing, 0.0, top + log(where(nothing, 1.0, total)))
    return result, reshape(found, found.shape[:-1])


def plain_reference(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    mask: np.ndarray | None,
    is_causal: bool,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """What `plain` gives."""
    scores = _scores_reference(query, key, mask, is_causal, scale)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    total = np.exp(scores - np.where(np.isneginf(top), 0, top)).sum(-1, keepdims=True)
    found = np.where(total == 0, 0, top + np.log(np.where(total == 0, 1, total)))
    return _weights_reference(scores) @ wide(value), found[..., 0]


# ---- forward -------------------------------------------------------------------------------------


def _attend_spec(
    query: Spec,
    key: Spec,
    value: Spec,
    mask: Spec | None,
    is_causal: bool,
    scale: float,
    heads: int,
) -> tuple[Spec, Spec]:
    _check(query, key, value, mask, heads)
    shape = (*query.shape[:-1], value.shape[-1])
    return query.with_shape(_moved(shape, heads)), query.with_shape(query.shape[:-1])


def _attend_reference(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    mask: np.ndarray | None,
    is_causal: bool,
    scale: float,
    heads: int,
) -> tuple[np.ndarray, np.ndarray]:
    result, total = plain_reference(query, key, value, mask, is_causal, scale)
    return np.transpose(result, inward(result.ndim, heads)), total


def _samples(*extra: str) -> list[Sample]:
    """Operands of both ops; `extra` names what the gradient takes first."""

    def sample(
        q: Axes,
        k: Axes,
        values: int,
        mask: Draw | None = None,
        causal: bool = False,
        heads: int = 1,
    ) -> Sample:
        out = Draw(_moved((*q[:-1], values), heads))
        first = {"gradient": out, "total": Draw(q[:-1], 1, 2), "drop": Draw(q[:-1])}
        operands = (*(first[e] for e in extra), Draw(q), Draw(k), Draw((*k[:-1], values)), mask)
        return Sample(operands, {"is_causal": causal, "scale": 0.5, "heads": heads})

    return [
        sample((2, 3, 4, 5), (2, 3, 6, 5), 2),
        sample((2, 70, 3), (2, 70, 3), 3, causal=True),
        sample((2, 3, 4), (2, 5, 4), 4, Draw((1, 3, 5), kind="bool"), heads=0),
        sample((2, 2, 3, 4), (2, 2, 5, 4), 17, Draw((2, 1, 1, 5), kind="bool")),
        sample((2, 3, 4), (2, 5, 4), 4, Draw((2, 3, 5))),
        sample((1, 2, 3, 5, 2), (1, 2, 1, 3, 2), 2, heads=2),
        sample((1, 4), (3, 4), 2, heads=0),
    ]


@op(
    "attention",
    lower="forward",
    public=False,
    residuals=1,
    infer=_attend_spec,
    reference=_attend_reference,
    samples=_samples,
)
def attend(
    query: Value,
    key: Value,
    value: Value,
    mask: Value | None,
    is_causal: bool,
    scale: float,
    heads: int,
) -> tuple[Value, Value]:
    """softmax(scale * query @ key^T + mask) @ value, and log of the sum of exponentials (hidden).

    Query (*lead, L, E), key (*lead, S, E), value (*lead, S, V); the last axis of lead may be 1 in
    key and value (grouped heads). Mask: bool (True: seen) or added, each axis of
    (*lead, L, S) or 1.
    """
    result, total = plain(query, key, value, mask, is_causal, scale)
    return permute(result, inward(result.ndim, heads)), total


@attend.gradient
def _attend_gradient_rule(
    g: Any,
    y: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    is_causal: bool,
    scale: float,
    heads: int,
) -> tuple[Any, ...]:
    return gradients(g, y, query, key, value, mask, is_causal, scale, heads)


def gradients(
    g: Any,
    y: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    is_causal: bool,
    scale: float,
    heads: int,
) -> tuple[Any, ...]:
    """Of query, key, value and a float mask, given `attend`'s two outputs and the gradient of the
    first.
    """
    result, total = y
    summed = expand_dims(sum_(g * result, -1), -1)
    drop = permute(summed, outward(summed.ndim, heads))
    drop = reshape(drop, drop.shape[:-1])
    given = (query, key, value, mask)
    found = attend_gradient(g, total, drop, *given, is_causal, scale, heads)
    moved = [permute(x, outward(x.ndim, heads)) for x in found]
    if mask is None or not mask.dtype.is_float:
        return (*moved, None)
    _, slope = _slopes(g, total, drop, *given, is_causal, scale, heads)
    axes = tuple(a for a, d in enumerate(mask.shape) if d == 1)
    return (*moved, sum_(slope, axes, keepdims=True))


# ---- backward ------------------------------------------------------------------------------------


def _gradient_spec(
    gradient: Spec,
    total: Spec,
    drop: Spec,
    query: Spec,
    key: Spec,
    value: Spec,
    mask: Spec | None,
    is_causal: bool,
    scale: float,
    heads: int,
) -> tuple[Spec, ...]:
    _check(query, key, value, mask, heads)
    need_same_dtype("attend_gradient", query=query, gradient=gradient, total=total, drop=drop)
    result = _moved((*query.shape[:-1], value.shape[-1]), heads)
    for x, wanted in ((gradient, result), (total, query.shape[:-1]), (drop, query.shape[:-1])):
        if x.ndim != len(wanted) or not all(map(agree, x.shape, wanted)):
            raise ShapeError(f"attend_gradient: {show(x.shape)} is given, {show(wanted)} is needed")
    return tuple(x.with_shape(_moved(x.shape, heads)) for x in (query, key, value))


def _slopes(
    gradient: Any,
    total: Any,
    drop: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    is_causal: bool,
    scale: float,
    heads: int,
) -> tuple[Any, Any]:
    """Probabilities, and the gradient of every score."""
    p = exp(_scores(query, key, mask, is_causal, scale) - expand_dims(total, -1))
    g = permute(gradient, outward(gradient.ndim, heads))
    return p, p * (matmul(g, swapaxes(value, -1, -2)) - expand_dims(drop, -1))


def _gradient_reference(
    gradient: np.ndarray,
    total: np.ndarray,
    drop: np.ndarray,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    mask: np.ndarray | None,
    is_causal: bool,
    scale: float,
    heads: int,
) -> tuple[np.ndarray, ...]:
    q, k, v = wide(query), wide(key), wide(value)
    g = np.transpose(wide(gradient), outward(gradient.ndim, heads))
    p = np.exp(_scores_reference(query, key, mask, is_causal, scale) - wide(total)[..., None])
    slope = p * (g @ np.swapaxes(v, -1, -2) - wide(drop)[..., None])
    of_key, of_value = np.swapaxes(slope, -1, -2) @ q * scale, np.swapaxes(p, -1, -2) @ g
    if is_grouped(query, key):
        of_key, of_value = of_key.sum(-3, keepdims=True), of_value.sum(-3, keepdims=True)
    found = (slope @ k * scale, of_key, of_value)
    return tuple(np.transpose(x, inward(x.ndim, heads)) for x in found)


@op(
    "attention",
    lower="gradient",
    public=False,
    outputs=3,
    infer=_gradient_spec,
    reference=_gradient_reference,
    samples=lambda: _samples("gradient", "total", "drop"),
)
def attend_gradient(
    gradient: Value,
    total: Value,
    drop: Value,
    query: Value,
    key: Value,
    value: Value,
    mask: Value | None,
    is_causal: bool,
    scale: float,
    heads: int,
) -> tuple[Value, ...]:
    """Gradients of query, key and value, positions before heads.

    `gradient` is that of `attend`'s result, `total` its second output, `drop` the sum over the last
    axis of gradient * result, (*lead, L).
    """
    given = (query, key, value, mask, is_causal, scale, heads)
    p, slope = _slopes(gradient, total, drop, *given)
    g = permute(gradient, outward(gradient.ndim, heads))
    of_key = matmul(swapaxes(slope, -1, -2), query) * scale
    of_value = matmul(swapaxes(p, -1, -2), g)
    if is_grouped(query, key):
        of_key, of_value = (sum_(x, -3, keepdims=True) for x in (of_key, of_value))
    found = (matmul(slope, key) * scale, of_key, of_value)
    return tuple(permute(x, inward(x.ndim, heads)) for x in found)
