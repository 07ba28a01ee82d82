"""Scaled dot-product attention. Layout as in PyTorch: (..., heads, positions, features)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rabbet.base.dtypes import bool_, float32, float64
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import broadcast, show
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.attention_primitives import (
    attend,
    gradients,
    inward,
    outward,
    plain,
    plain_reference,
)
from rabbet.ops.axis_moves import expand_dims
from rabbet.ops.checks import agree, fixed, need_float, need_same_dtype, wide
from rabbet.ops.index_maps import expand, permute, reshape

LEAST_QUERIES = 8  # fewer leave most of a vector empty
MOST_FEATURES = 256  # more would need another order of additions

Shape = tuple[int, ...]


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
) -> tuple[np.ndarray, np.ndarray]:
    q, k, v = wide(query), wide(key), wide(value)
    if enable_gqa:
        k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else scale
    return plain_reference(q, k, v, mask, is_causal, scale)


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
        sample((2, 2, 9, 5), (2, 2, 70, 5), (2, 2, 70, 3), Draw((9, 70))),
        sample((2, 70, 3), (2, 70, 3), (2, 70, 3), is_causal=True),
        sample(
            (1, 4, 8, 2), (1, 2, 3, 2), (1, 2, 3, 2), Draw((4, 1, 3), kind="bool"), enable_gqa=True
        ),
    ]


@op(
    "composite",
    method=None,
    residuals=1,
    reference=_attention_reference,
    samples=_samples,
    onnx="Attention",
    autocast="narrow",
)
def scaled_dot_product_attention(
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Value, Value]:
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
    if enable_gqa and min(query.ndim, key.ndim, value.ndim) < 3:
        raise ShapeError(f"{name}: enable_gqa needs an axis of heads")
    if scale is None:
        scale = 1.0 / math.sqrt(max(fixed(query.shape[-1]), 1))
    plan = _plan(query, key, value, attn_mask, enable_gqa)
    if plan is not None:
        found = attend(*plan.operands, is_causal, float(scale), plan.heads)
        total = found.sibling(1)
        whole = plan.united(permute(found, outward(found.ndim, plan.heads)), query.shape[:-2])
        return whole, reshape(total, query.shape[:-1])
    if enable_gqa:
        key = _repeat_heads(key, query.shape[-3], name)
        value = _repeat_heads(value, query.shape[-3], name)
    return plain(query, key, value, attn_mask, is_causal, float(scale))


@scaled_dot_product_attention.gradient
def _attention_gradient(
    g: Any,
    y: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Any:
    plan = _plan(query, key, value, attn_mask, enable_gqa)
    if plan is None:
        return NotImplemented
    if scale is None:
        scale = 1.0 / math.sqrt(max(fixed(query.shape[-1]), 1))
    q, heads = plan.operands[0], plan.heads
    result, total = y
    shape = (*q.shape[:-1], value.shape[-1])
    result, g = (permute(reshape(x, shape), inward(q.ndim, heads)) for x in (result, g))
    y = (result, reshape(total, q.shape[:-1]))
    found = gradients(g, y, *plan.operands, is_causal, float(scale), heads)
    given = (query, key, value, attn_mask)
    return tuple(
        None if f is None else reshape(f, x.shape) for f, x in zip(found, given, strict=True)
    )


# ---- which form an attention takes: a property of its operands' specs alone ----------------------


@dataclass(frozen=True)
class _Plan:
    """Operands as `attend` takes them."""

    operands: tuple[Any, Any, Any, Any]
    heads: int

    def united(self, x: Any, lead: tuple[Any, ...]) -> Any:
        """A result with the axes of the query's lead."""
        return reshape(x, (*lead, *x.shape[-2:]))


def _plan(query: Any, key: Any, value: Any, mask: Any, enable_gqa: bool) -> _Plan | None:
    """How `attend` computes this attention; None where it is composed of other ops: few queries,
    many features, broadcast batches, dtypes that kernels do not multiply.
    """
    ndim = query.ndim
    if query.dtype not in (float32, float64) or not ndim == key.ndim == value.ndim:
        return None
    skip = 3 if enable_gqa else 2
    pairs = zip(query.shape[:-skip], key.shape[:-skip], strict=True)
    if not all(map(agree, key.shape[:-2], value.shape[:-2])):
        return None
    if not all(agree(a, b) for a, b in pairs):
        return None
    if query.shape[-2] < LEAST_QUERIES or any(
        x.shape[-1] > MOST_FEATURES or 0 in x.shape for x in (query, value)
    ):
        return None
    if mask is not None:
        mask = reshape(mask, (1,) * (ndim - mask.ndim) + mask.shape)
    heads = 0 if ndim < 4 else 1
    if not enable_gqa or agree(query.shape[-3], key.shape[-3]):
        return _Plan((query, key, value, mask), heads)
    own, many = key.shape[-3], query.shape[-3]
    if many % own != 0:
        return None
    groups = (own, many // own)
    query = reshape(query, (*query.shape[:-3], *groups, *query.shape[-2:]))
    if mask is not None:
        lead = (1, 1) if mask.shape[-3] == 1 else groups
        mask = reshape(mask, (*mask.shape[:-3], *lead, *mask.shape[-2:]))
    key, value = (expand_dims(x, -3) for x in (key, value))
    return _Plan((query, key, value, mask), heads * 2)
