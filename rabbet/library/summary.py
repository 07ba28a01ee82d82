"""Functions that sum a tensor up: several results at once, counts, a Python bool."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rabbet.base.dtypes import int32
from rabbet.base.errors import DTypeError, NumberRangeError, RabbetError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.library.manipulation import narrow, ravel
from rabbet.tensor.create import asarray, linspace
from rabbet.tensor.lift import functions, spoken
from rabbet.tensor.tensor import Tensor, as_operand


@spoken
def aminmax(x: Any, *, axis: int | None = None, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """The smallest and the largest element along `axis` (None: of all).

    >>> rb.aminmax(rb.asarray([3, 1, 2]))
    (tensor(1), tensor(3))
    """
    t = as_operand(x)
    return functions["min"](t, axis, keepdims), functions["max"](t, axis, keepdims)


@spoken
def var_mean(
    x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False
) -> tuple[Tensor, Tensor]:
    """`var` and `mean` over the same axes.

    >>> rb.var_mean(rb.asarray([1.0, 3.0]))
    (tensor(1.), tensor(2.))
    """
    t, axes = as_operand(x), axis
    return functions["var"](t, axes, correction, keepdims), functions["mean"](t, axes, keepdims)


@spoken
def std_mean(
    x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False
) -> tuple[Tensor, Tensor]:
    """`std` and `mean` over the same axes.

    >>> rb.std_mean(rb.asarray([1.0, 5.0]))
    (tensor(2.), tensor(3.))
    """
    spread, middle = var_mean(x, axis, correction, keepdims)
    return functions["sqrt"](spread), middle


@spoken
def kthvalue(x: Any, k: int, axis: int = -1, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """The k-th smallest element along `axis` (from 1), and its position.

    >>> rb.kthvalue(rb.asarray([3.0, 1.0, 2.0]), 2)
    (tensor(2.), tensor(2))
    """
    t = as_operand(x)
    at = axis_of("kthvalue", axis, t.ndim)
    if not 1 <= k <= t.shape[at]:
        raise ShapeError(f"kthvalue: k={k} of axis {at} of {show(t.shape)}")
    place = narrow(functions["argsort"](t, at), at, k - 1, 1)
    value = functions["take_along_axis"](t, place, at)
    return (value, place) if keepdims else (value.squeeze(at), place.squeeze(at))


class ModeResult(NamedTuple):
    """What `mode` gives."""

    values: Tensor
    indices: Tensor


@spoken
def mode(x: Any, axis: int = -1, keepdims: bool = False) -> ModeResult:
    """The most frequent element along `axis`, the smallest of several, and its last position.

    Gradients reach that position. NaN equals nothing, so it counts once. ShapeError where there is
    no element.

    >>> rb.mode(rb.asarray([3, 1, 3, 1, 2]))
    ModeResult(values=tensor(1), indices=tensor(3))
    """
    t = as_operand(x)
    at = axis_of("mode", axis, t.ndim)
    if not t.shape[at]:
        raise ShapeError(f"mode: axis {at} of {show(t.shape)} has no elements")
    order = functions["argsort"](t, at)
    take = functions["take_along_axis"]
    line = take(t.detach(), order, at)
    place = functions["cumulative_sum"](functions["ones_like"](order), at) - 1
    starts = functions["logical_or"](
        line != functions["roll"](line, 1, at), functions["equal"](place, 0)
    )
    first = functions["cummax"](functions["where"](starts, place, 0), at)[0]
    # The first of the longest runs: its last element.
    best = functions["argmax"](place - first, at, True)
    index = take(order, best, at)
    value = take(t, index, at)
    if keepdims:
        return ModeResult(value, index)
    return ModeResult(value.squeeze(at), index.squeeze(at))


def histogram(
    x: Any,
    bins: Any = 10,
    range: tuple[float, float] | None = None,
    weight: Any = None,
    density: bool = False,
) -> tuple[Tensor, Tensor]:
    """How many elements (or how much `weight`) fall in each bin, and the bins' edges.

    `bins` is their number, between the ends of `range` (left out: smallest and largest element), or
    a vector of ascending edges. The last bin holds its right edge; others are open there. With
    `density` the areas add up to 1. Gradients reach `weight`.

    >>> rb.histogram(rb.asarray([1.0, 2.0, 2.5]), bins=rb.asarray([1.0, 2.0, 3.0]))
    (tensor([1., 2.]), tensor([1., 2., 3.]))
    """
    t = ravel(x)
    if not t.dtype.is_float:
        raise DTypeError(f"histogram: input is {t.dtype.name}, a floating dtype is needed")
    edges = _edges(t, bins, range).detach()
    last = edges.shape[0] - 1
    place = functions["searchsorted"](edges, t.detach(), "right") - 1
    place = functions["where"](t == edges[last], last - 1, place)
    inside = (place >= 0) & (place < last)
    heavy = 1.0 if weight is None else ravel(weight).astype(t.dtype)
    counted = functions["where"](inside, heavy, functions["zeros_like"](t))
    at = functions["where"](inside, place, 0)
    found = functions["segment_sum"](counted, at, last)
    if density:
        found = found / found.sum() / (edges[1:] - edges[:-1])
    return found, edges


def _edges(t: Tensor, bins: Any, ends: tuple[float, float] | None) -> Tensor:
    if not hasattr(bins, "__index__") or np.ndim(bins):
        edges = as_operand(bins).astype(t.dtype)
        if edges.ndim != 1 or edges.shape[0] < 2:
            raise ShapeError(
                f"histogram: edges {show(edges.shape)}; a vector of two or more needed"
            )
        return edges
    count = bins.__index__()
    if count < 1:
        raise ShapeError(f"histogram: bins={count} must be at least 1")
    if ends is not None:
        if not ends[0] <= ends[1]:
            raise NumberRangeError(f"histogram: range={ends} must be in order")
        low, high = (asarray(float(e), dtype=t.dtype) for e in ends)
    elif t.numel():
        low, high = aminmax(t)
    else:
        low, high = asarray(0.0, dtype=t.dtype), asarray(1.0, dtype=t.dtype)
    one = low == high
    low, high = (functions["where"](one, e + s, e) for e, s in ((low, -0.5), (high, 0.5)))
    share = linspace(0.0, 1.0, count + 1, dtype=t.dtype)
    return low * (1.0 - share) + high * share


def allclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close (see `isclose`): a Python bool, so the values are read.

    >>> rb.allclose(rb.asarray([1.0]), rb.asarray([1.0 + 1e-7]))
    True
    """
    return bool(functions["isclose"](as_operand(x1), x2, rtol, atol, equal_nan).all())


def searchsorted(
    x1: Tensor,
    x2: Any,
    /,
    *,
    side: str = "left",
    sorter: Tensor | None = None,
    right: bool | None = None,
    out_int32: bool = False,
) -> Tensor:
    """Where elements of `x2` would stand in the ascending vector `x1` (or `x1[sorter]`); int64.

    `side` "left": before equal elements, "right": behind them. NaN counts as the largest.
    PyTorch's words are `right=True`, and `out_int32=True` for int32; RabbetError for `right=False`
    with `side="right"`.

    >>> rb.searchsorted(rb.asarray([3, 1, 5]), rb.asarray([3, 4]), sorter=rb.asarray([1, 0, 2]))
    tensor([1, 2])
    """
    line = as_operand(x1)
    if sorter is not None:
        line = functions["take"](line, sorter, 0)
    if right is False and side == "right":
        raise RabbetError("searchsorted: side='right' and right=False contradict each other")
    found = functions["searchsorted"](line, x2, "right" if right else side)
    return found.astype(int32) if out_int32 else found


def msort(x: Any) -> Tensor:
    """Sorted along the first axis.

    >>> rb.msort(rb.asarray([3, 1, 2]))
    tensor([1, 2, 3])
    """
    return functions["sort"](as_operand(x), axis=0)


def trapz(y: Any, x: Any = None, *, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral along an axis by the trapezoidal rule, between points `x` or `dx` apart.

    >>> rb.trapz(rb.asarray([1.0, 2.0, 3.0]))
    tensor(4.)
    """
    t = functions["moveaxis"](as_operand(y), axis, -1)
    both = t[..., 1:] + t[..., :-1]
    width: Any = dx
    if x is not None:
        points = as_operand(x)
        points = points if points.ndim == 1 else functions["moveaxis"](points, axis, -1)
        width = points[..., 1:] - points[..., :-1]
    return functions["sum"](both * width, axis=-1) * 0.5


METHODS: dict[str, Any] = {
    f.__name__: f for f in (aminmax, kthvalue, mode, histogram, allclose, msort)
}
