"""Segments, matrices of matrices, distances: composites that research code asks for by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.base import dtypes, sizes
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import abs_, cast, divide, maximum, multiply, square, subtract
from rabbet.ops.compare import equal, where
from rabbet.ops.create import eye, full, number
from rabbet.ops.float_functions import pow_, sqrt
from rabbet.ops.gather_scatter import scatter_add
from rabbet.ops.index_maps import pad, reshape
from rabbet.ops.joining import diagonal
from rabbet.ops.reductions import reduce_max, reduce_sum

# ---- segments ------------------------------------------------------------------------------------


def _segment_array(x: np.ndarray, segment_ids: np.ndarray, num_segments: int) -> np.ndarray:
    found = np.zeros((num_segments, *x.shape[1:]), np.float64 if x.dtype.kind == "f" else x.dtype)
    np.add.at(found, segment_ids, x)
    return found


def _segment_samples() -> list[Sample]:
    return [
        Sample((Draw(s), Draw((s[0],), 0, n, "int")), {"num_segments": n})
        for s, n in (((6,), 3), ((5, 2), 4), ((1, 3), 1), ((0, 2), 2))
    ]


def _check_segments(name: str, x: Any, segment_ids: Any) -> None:
    if x.ndim < 1 or segment_ids.ndim != 1 or segment_ids.shape[0] != x.shape[0]:
        raise ShapeError(
            f"{name}: {show(x.shape)} needs one segment for each row, not {show(segment_ids.shape)}"
        )


@op(
    "composite",
    method=None,
    sizes=("num_segments",),
    reference=_segment_array,
    samples=_segment_samples,
    autocast="wide",
)
def segment_sum(x: Value, segment_ids: Value, num_segments: Dim) -> Value:
    """Sums of the rows of each segment: (n, *s), (n,) -> (num_segments, *s); 0 for no rows.

    Rows are added in their order. A segment outside the range is an IndexRangeError when run.

    >>> rb.segment_sum(rb.asarray([1, 2, 3]), rb.asarray([0, 1, 0]), 2)
    tensor([4, 2])
    """
    _check_segments("segment_sum", x, segment_ids)
    base = full(number(x, 0, x.dtype), (num_segments, *x.shape[1:]))
    return scatter_add(base, segment_ids, x, 0)


def _segment_mean_array(x: np.ndarray, segment_ids: np.ndarray, num_segments: int) -> np.ndarray:
    counts = np.bincount(segment_ids, minlength=num_segments).reshape(-1, *(1,) * (x.ndim - 1))
    return _segment_array(x.astype(np.float64), segment_ids, num_segments) / np.maximum(counts, 1)


@op(
    "composite",
    method=None,
    sizes=("num_segments",),
    reference=_segment_mean_array,
    samples=_segment_samples,
    autocast="wide",
)
def segment_mean(x: Value, segment_ids: Value, num_segments: Dim) -> Value:
    """Averages of the rows of each segment, as `segment_sum`; 0 where there are none.

    >>> rb.segment_mean(rb.asarray([1.0, 2.0, 3.0]), rb.asarray([0, 1, 0]), 2)
    tensor([2., 2.])
    """
    _check_segments("segment_mean", x, segment_ids)
    x = x if x.dtype.is_float else cast(x, dtypes.default_float)
    ones = full(number(x, 1, x.dtype), (x.shape[0],))
    counts = maximum(segment_sum(ones, segment_ids, num_segments), 1.0)
    counts = reshape(counts, (num_segments, *(1,) * (x.ndim - 1)))
    return divide(segment_sum(x, segment_ids, num_segments), counts)


# ---- matrices ------------------------------------------------------------------------------------


@op(
    "composite",
    method=None,
    promote="common",
    reference=np.kron,
    samples=lambda: [
        Sample((Draw(s), Draw(t)), {}, ("int32", *FLOATS))
        for s, t in (((2, 3), (3, 2)), ((3,), (2,)), ((2, 2), (3,)), ((), (2,)), ((0, 2), (2, 2)))
    ],
)
def kron(x1: Value, x2: Value) -> Value:
    """The Kronecker product: every element of `x1` times all of `x2`; sizes multiply.

    >>> rb.kron(rb.asarray([1, 10]), rb.asarray([1, 2]))
    tensor([ 1,  2, 10, 20])
    """
    rank = max(x1.ndim, x2.ndim)
    one = (*(1,) * (rank - x1.ndim), *x1.shape)
    two = (*(1,) * (rank - x2.ndim), *x2.shape)
    left = reshape(x1, tuple(d for n in one for d in (n, 1)))
    right = reshape(x2, tuple(d for n in two for d in (1, n)))
    return reshape(multiply(left, right), tuple(m * n for m, n in zip(one, two, strict=True)))


@op(
    "composite",
    method=None,
    reference=np.diag,
    samples=lambda: [Sample((Draw(s),), {"k": k}) for s in ((3,), (3, 4)) for k in (0, 1, -2)],
)
def diag(x: Value, k: int = 0) -> Value:
    """The k-th diagonal of a matrix, or a matrix of zeros with a vector on its k-th diagonal.

    >>> rb.diag(rb.asarray([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ShapeError(f"diag: {show(x.shape)} is neither a vector nor a matrix")
    n, low, high = x.shape[0], max(0, -k), max(0, k)
    inside = equal(eye.like(x, n, n, 0, dtypes.int64), 1)
    square_ = where(inside, reshape(x, (n, 1)), number(x, 0, x.dtype))
    return pad(square_, (low, high), (high, low), (0, 0)) if k else square_


# ---- distances -----------------------------------------------------------------------------------


def _cdist_array(x1: np.ndarray, x2: np.ndarray, p: float) -> np.ndarray:
    apart = np.abs(x1[..., :, None, :].astype(np.float64) - x2[..., None, :, :])
    return np.linalg.norm(apart, p, axis=-1) if apart.shape[-1] else np.zeros(apart.shape[:-1])


@op(
    "composite",
    method=None,
    promote="float",
    reference=_cdist_array,
    samples=lambda: [
        Sample((Draw(s, -2, -0.5), Draw(t, 0.5, 2)), {"p": p})
        for s, t, p in (
            *(((3, 4), (2, 4), 2.0), ((2, 3, 4), (2, 5, 4), 1.0), ((3, 2), (2, 2), 3.0)),
            *(((0, 2), (3, 2), 2.0), ((1, 1), (1, 1), 2.0)),
        )
    ],
    autocast="wide",
)
def cdist(x1: Value, x2: Value, p: float = 2.0) -> Value:
    """Distances of all rows to all others: (..., m, k), (..., n, k) -> (..., m, n).

    The p-norm of the difference (1, 2, any positive number or infinity). The gradient at distance
    0 is 0. Raises ShapeError where rows have different sizes.

    >>> rb.cdist(rb.asarray([[0.0, 0.0]]), rb.asarray([[3.0, 4.0]]))
    tensor([[5.]])
    """
    if min(x1.ndim, x2.ndim) < 2 or not sizes.equal(x1.shape[-1], x2.shape[-1]):
        raise ShapeError(f"cdist: rows of {show(x1.shape)} and {show(x2.shape)} do not agree")
    if not p > 0:
        raise ValueError(f"cdist: p={p} must be positive")
    if "c" in (x1.dtype.kind, x2.dtype.kind):
        raise DTypeError("cdist: complex numbers are not supported; take distances of their parts")
    one = reshape(x1, (*x1.shape[:-1], 1, x1.shape[-1]))
    two = reshape(x2, (*x2.shape[:-2], 1, *x2.shape[-2:]))
    apart = subtract(one, two)
    axis = (apart.ndim - 1,)
    if p == 1:
        return reduce_sum(abs_(apart), axis, False)
    if math.isinf(p):
        return reduce_max(abs_(apart), axis, False)
    total = reduce_sum(square(apart) if p == 2 else pow_(abs_(apart), float(p)), axis, False)
    none = equal(total, 0.0)
    safe = where(none, 1.0, total)
    return where(none, 0.0, sqrt(safe) if p == 2 else pow_(safe, 1.0 / p))
