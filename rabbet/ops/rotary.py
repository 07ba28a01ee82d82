"""Rotary position embedding: features in pairs, turned by an angle that grows with the position."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import broadcast, show
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import cast
from rabbet.ops.axis_moves import expand_dims, flip
from rabbet.ops.checks import need_float
from rabbet.ops.create import iota, number
from rabbet.ops.index_maps import cut, reshape
from rabbet.ops.joining import concat

Shape = tuple[int, ...]


def _rotary_reference(
    x: np.ndarray, cos: np.ndarray, sin: np.ndarray, interleaved: bool
) -> np.ndarray:
    turned = 2 * cos.shape[-1]
    a, b = (
        (x[..., 0:turned:2], x[..., 1:turned:2])
        if interleaved
        else (x[..., : turned // 2], x[..., turned // 2 : turned])
    )
    parts = [a * cos - b * sin, b * cos + a * sin]
    whole = np.stack(parts, -1).reshape(*a.shape[:-1], turned) if interleaved else None
    result = np.concatenate(parts, -1) if whole is None else whole
    return np.concatenate([result, x[..., turned:]], -1)


def _samples() -> list[Sample]:
    def sample(x: Shape, angles: Shape, interleaved: bool = False) -> Sample:
        return Sample((Draw(x), Draw(angles), Draw(angles)), {"interleaved": interleaved})

    return [
        sample((2, 3, 5, 8), (5, 4)),
        sample((2, 3, 5, 8), (5, 4), True),
        sample((2, 4, 7), (2, 4, 2)),
        sample((4, 7), (1, 3), True),
        sample((0, 3, 2), (3, 1)),
        sample((5, 4), (2,)),
    ]


@op(
    "composite",
    promote="common",
    method=None,
    reference=_rotary_reference,
    samples=_samples,
    onnx="RotaryEmbedding",
)
def rotary_embedding(x: Value, cos: Value, sin: Value, interleaved: bool = False) -> Value:
    """Pairs of features of (..., positions, features), turned by angles given as cosine and sine.

    cos, sin: (..., positions, pairs), broadcast to x's leading axes; the first 2 * pairs features
    are turned, the rest stay. A pair is feature i and i + pairs, or 2i and 2i + 1 if
    `interleaved`. One kernel. Raises ShapeError where shapes do not fit. Source: RoFormer
    (Su et al. 2021, arXiv:2104.09864).

    >>> rb.rotary_embedding(rb.asarray([[1.0, 0.0]]), rb.zeros(1, 1), rb.ones(1, 1))
    tensor([[0., 1.]])
    """
    need_float("rotary_embedding", "x", x.dtype)
    _check(x, cos, sin)
    pairs, features, last = cos.shape[-1], x.shape[-1], x.ndim - 1
    turned = cut(x, last, 0, 2 * pairs) if 2 * pairs != features else x
    at = -1 if interleaved else -2
    split = (pairs, 2) if interleaved else (2, pairs)
    two = reshape(turned, (*x.shape[:-1], *split))
    shape = tuple(2 if axis == two.ndim + at else 1 for axis in range(two.ndim))
    place = cast(iota.like(x, shape, two.ndim + at, int64), x.dtype)
    sign = place + place - number(x, 1, x.dtype)  # minus one, one
    result = two * expand_dims(cos, at) + flip(two, at) * (expand_dims(sin, at) * sign)
    result = reshape(result, (*x.shape[:-1], 2 * pairs))
    return result if turned is x else concat([result, cut(x, last, 2 * pairs, features)], last)


def _check(x: Any, cos: Any, sin: Any) -> None:
    shapes = f"rotary_embedding: x {show(x.shape)}, cos {show(cos.shape)}, sin {show(sin.shape)}"
    if cos.shape != sin.shape:
        raise ShapeError(f"{shapes}: cos and sin must have one shape")
    if x.ndim < 1 or cos.ndim < 1 or 2 * cos.shape[-1] > x.shape[-1]:
        raise ShapeError(f"{shapes}: each pair of features needs an angle of its own, not more")
    lead = x.shape[:-1]
    if cos.ndim > x.ndim or broadcast("rotary_embedding", cos.shape[:-1], lead) != lead:
        raise ShapeError(f"{shapes}: the angles' leading axes must broadcast to x's")
