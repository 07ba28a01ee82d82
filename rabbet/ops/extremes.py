"""Running extremes with their places, and diagonals of new matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base.dtypes import int64
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.graph.op import op
from rabbet.graph.sample import NUMERIC, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import maximum, minimum
from rabbet.ops.compare import equal, isnan, logical_or, where
from rabbet.ops.create import eye, iota, number
from rabbet.ops.cumulative import Running, run_along
from rabbet.ops.gather_scatter import take_along_axis
from rabbet.ops.index_maps import pad, permute, reshape
from rabbet.ops.reductions import reduce_max, reduce_min
from rabbet.ops.scatter_reductions import identity

# ---- running extremes ----------------------------------------------------------------------------


def _running(name: str, x: Any, axis: int) -> tuple[Any, Any]:
    if x.dtype.kind not in "iuf":
        raise DTypeError(f"{name}: {x.dtype.name} is not supported; cast to a real number")
    at = axis_of(name, axis, x.ndim)
    word = name[3:]  # max or min
    fold, join = (reduce_max, maximum) if word == "max" else (reduce_min, minimum)
    best = run_along(x, at, Running(fold, join, identity(word, x.dtype)))
    # Of equal ones the last counts, as in PyTorch; NaN wins, and the last of them.
    hit = logical_or(isnan(x), equal(x, best)) if x.dtype.is_float else equal(x, best)
    place = where(hit, iota.like(x, x.shape, at, int64), number(x, 0, int64))
    where_ = run_along(place, at, Running(reduce_max, maximum, 0))
    return take_along_axis(x, where_, at), where_


def _reference(word: str) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    def reference(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        values = getattr(np, f"{word}imum").accumulate(x, axis)
        lines = np.moveaxis(x, axis, -1)
        places = np.zeros(lines.shape, np.int64)
        for at in np.ndindex(*lines.shape[:-1]):
            best = 0
            for i, v in enumerate(lines[at]):
                old = lines[at][best]
                better = v >= old if word == "max" else v <= old
                if v != v or (old == old and better):
                    best = i
                places[(*at, i)] = best
        return values, np.moveaxis(places, -1, axis)

    return reference


def _samples() -> list[Sample]:
    cases = (((5,), 0), ((3, 4), -1), ((2, 3, 2), 1), ((2, 300), 1), ((1,), 0), ((2, 0), 1))
    return [
        Sample(
            *((Draw(s, -3, 3, "distinct"),), {"axis": a}),
            NUMERIC if s == (5,) else ("float64", "int32"),
        )
        for s, a in cases
    ]


@op("composite", outputs=2, reference=_reference("max"), samples=_samples)
def cummax(x: Value, axis: int) -> tuple[Value, Value]:
    """The largest of the first 1, 2, 3, ... elements along `axis`, and where it lies (int64).

    NaN wins; of equal ones the last counts. Real numbers only.

    >>> rb.cummax(rb.asarray([1, 3, 2]), 0)
    (tensor([1, 3, 3]), tensor([0, 1, 1]))
    """
    return _running("cummax", x, axis)


@op("composite", outputs=2, reference=_reference("min"), samples=_samples)
def cummin(x: Value, axis: int) -> tuple[Value, Value]:
    """The smallest of the first 1, 2, 3, ... elements along `axis`, and where it lies (int64).

    NaN wins; of equal ones the last counts. Real numbers only.

    >>> rb.cummin(rb.asarray([3, 1, 2]), 0)
    (tensor([3, 1, 1]), tensor([0, 1, 1]))
    """
    return _running("cummin", x, axis)


# ---- diagonals -----------------------------------------------------------------------------------


def _embed_array(x: np.ndarray, offset: int, dim1: int, dim2: int) -> np.ndarray:
    n = x.shape[-1] + abs(offset)
    y = np.zeros((*x.shape[:-1], n, n), x.dtype)
    i = np.arange(x.shape[-1])
    y[..., i + max(0, -offset), i + max(0, offset)] = x
    return np.moveaxis(y, (-2, -1), (dim1, dim2))


@op(
    "composite",
    reference=_embed_array,
    samples=lambda: [
        Sample((Draw(s),), {"offset": k, "dim1": a, "dim2": b}, ("bool", "int32", "float64"))
        for s, k, a, b in (((3,), 0, -2, -1), ((2, 3), 1, 0, 2), ((2, 2), -2, -1, 0))
    ],
)
def diag_embed(x: Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Value:
    """Matrices of zeros with the last axis of `x` on a diagonal: (..., n) -> (..., m, m).

    m is n + |offset|; the rows are axis `dim1` of the result, the columns axis `dim2`.

    >>> rb.diag_embed(rb.asarray([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    if x.ndim < 1:
        raise ShapeError("diag_embed: a tensor without axes has no diagonal")
    rank = x.ndim + 1
    first, second = axis_of("diag_embed", dim1, rank), axis_of("diag_embed", dim2, rank)
    if first == second:
        raise ShapeError(f"diag_embed: dim1 and dim2 of {show(x.shape)} are both {first}")
    n, low, high = x.shape[-1], max(0, -offset), max(0, offset)
    inside = equal(eye.like(x, n, n, 0, int64), 1)
    y = where(inside, reshape(x, (*x.shape, 1)), number(x, 0, x.dtype))
    if offset:
        none = (0,) * (rank - 2)
        y = pad(y, (*none, low, high), (*none, high, low), (0,) * rank)
    rest = iter(range(rank - 2))
    last = {first: rank - 2, second: rank - 1}
    return permute(y, tuple(last[a] if a in last else next(rest) for a in range(rank)))
