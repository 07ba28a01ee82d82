"""Scaled dot-product attention. Layout as in PyTorch: (..., heads, positions, features)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.base.dtypes import bool_, int64
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import broadcast, show
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.checks import fixed, need_float, need_same_dtype, wide
from rabbet.ops.compare import where
from rabbet.ops.contract import matmul
from rabbet.ops.create import iota
from rabbet.ops.functions import exp
from rabbet.ops.movement import expand_dims, swapaxes
from rabbet.ops.moves import expand, reshape
from rabbet.ops.reduce import max_, sum_

Shape = tuple[int, ...]


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


def _check(query: Any, key: Any, value: Any, mask: Any, is_causal: bool) -> None:
    name = "scaled_dot_product_attention"
    need_float(name, "query", query.dtype)
    need_same_dtype(name, query=query, key=key, value=value)
    shapes = f"query {show(query.shape)}, key {show(key.shape)}, value {show(value.shape)}"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ShapeError(f"{name}: {shapes}: each needs at least two axes")
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            f"{name}: {shapes}: query has {query.shape[-1]} features, key {key.shape[-1]}"
        )
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"{name}: {shapes}: key has {key.shape[-2]} positions, value {value.shape[-2]}"
        )
    if mask is None:
        return
    if is_causal:
        raise ShapeError(f"{name}: attn_mask and is_causal exclude each other")
    if mask.dtype is not bool_ and mask.dtype is not query.dtype:
        raise DTypeError(
            f"{name}: attn_mask is {mask.dtype.name}, it must be bool or {query.dtype.name}"
        )
    scores = (*query.shape[:-1], key.shape[-2])
    if broadcast(name, mask.shape, scores) != scores:
        raise ShapeError(
            f"{name}: attn_mask {show(mask.shape)} does not broadcast to {show(scores)}"
        )


def _repeat_heads(x: Any, heads: Any, name: str) -> Any:
    """(..., h, s, d) -> (..., heads, s, d), each head repeated in place (grouped queries)."""
    own = x.shape[-3]
    if own == heads:
        return x
    if heads % own != 0:
        raise ShapeError(f"{name}: {own} heads of key and value do not divide {heads} of query")
    many = (*x.shape[:-2], heads // own, *x.shape[-2:])
    return reshape(expand(expand_dims(x, -3), many), (*x.shape[:-3], heads, *x.shape[-2:]))


def _attention_reference(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    mask: np.ndarray | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> np.ndarray:
    q, k, v = wide(query), wide(key), wide(value)
    if enable_gqa:
        k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else scale
    scores = q @ np.swapaxes(k, -1, -2) * scale
    if is_causal:
        mask = np.tril(np.ones(scores.shape[-2:], bool))
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + wide(mask)
    return _weights_reference(scores) @ v


def _samples() -> list[Sample]:
    def sample(q: Shape, k: Shape, v: Shape, mask: Draw | None = None, **attrs: Any) -> Sample:
        base = {"is_causal": False, "scale": None, "enable_gqa": False}
        return Sample((Draw(q), Draw(k), Draw(v), mask), base | attrs)

    return [
        sample((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2)),
        sample((2, 4, 3), (2, 4, 3), (2, 4, 3), is_causal=True),
        sample((2, 5, 3), (2, 3, 3), (2, 3, 3), is_causal=True, scale=0.3),
        sample((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4), Draw((2, 1, 3, 5), kind="bool")),
        sample((3, 4), (5, 4), (5, 4), Draw((3, 5))),
        sample((2, 3, 4), (2, 5, 4), (2, 5, 4), Draw((5,))),
        sample((1, 4, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2), enable_gqa=True),
        sample((0, 3, 4), (0, 5, 4), (0, 5, 4)),
    ]


@op("composite", method=None, reference=_attention_reference, samples=_samples)
def scaled_dot_product_attention(
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(query @ key^T * scale + mask) @ value.

    (..., L, E), (..., S, E), (..., S, V) -> (..., L, V). A bool mask is True where a query may
    attend; a float mask is added; `is_causal` lets position l attend to 0..l. scale: 1 / sqrt(E)
    unless given. A query that may attend to nothing gives zeros. `enable_gqa` repeats the heads
    (axis -3) of key and value to query's number. Raises ShapeError or DTypeError where operands do
    not fit.

    >>> q = rb.ones((2, 4, 3))
    >>> rb.scaled_dot_product_attention(q, q, q, is_causal=True).shape
    (2, 4, 3)
    """
    name = "scaled_dot_product_attention"
    _check(query, key, value, attn_mask, is_causal)
    if enable_gqa:
        if min(query.ndim, key.ndim, value.ndim) < 3:
            raise ShapeError(f"{name}: enable_gqa needs an axis of heads")
        key = _repeat_heads(key, query.shape[-3], name)
        value = _repeat_heads(value, query.shape[-3], name)
    if scale is None:
        scale = 1.0 / math.sqrt(max(fixed(query.shape[-1]), 1))
    scores = matmul(query * float(scale), swapaxes(key, -1, -2))
    if is_causal:
        table = scores.shape[-2:]
        seen = iota.like(query, table, 1, int64) <= iota.like(query, table, 0, int64)
        scores = where(seen, scores, -math.inf)
    elif attn_mask is not None and attn_mask.dtype is bool_:
        scores = where(attn_mask, scores, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return matmul(attention_weights(scores), value)
