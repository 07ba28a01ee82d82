"""Reductions that are made of others: variance, log-sum-exp, counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import bool_, int64
from rabbet.base.errors import DTypeError
from rabbet.base.shapes import axes_of
from rabbet.graph.op import op
from rabbet.graph.sample import ALL, FLOATS, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import add, cast, divide, maximum, multiply, square, subtract
from rabbet.ops.compare import isfinite, where
from rabbet.ops.complex import is_complex
from rabbet.ops.create import extent
from rabbet.ops.float_functions import exp, log, sqrt
from rabbet.ops.index_maps import reshape
from rabbet.ops.reductions import (
    Axes,
    as_double,
    as_float,
    count_along,
    left_shape,
    mean,
    reduce_max,
    reduce_sum,
    reduction_samples,
    rounded,
    spread,
)

# ---- variance ------------------------------------------------------------------------------------


def _var_reference(x: np.ndarray, axis: Axes, correction: float, keepdims: bool) -> np.ndarray:
    axes = axes_of("var", axis, x.ndim)
    count = np.prod([x.shape[a] for a in axes], dtype=np.float64)
    centre = np.sum(as_double(x), axes, keepdims=True) / count
    squares = np.sum((as_double(x) - centre) ** 2, axes, keepdims=keepdims)
    return rounded(x, squares / np.maximum(count - correction, 0))


def _var_samples() -> list[Sample]:
    return [
        *reduction_samples(("int32", *FLOATS), empty=False, correction=0.0)(),
        Sample((Draw((3, 5)),), {"axis": 1, "correction": 1, "keepdims": True}),
    ]


@op("composite", reference=_var_reference, samples=_var_samples, autocast="wide")
def var(x: Value, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """The mean squared distance from the mean: sum / (n - correction). Two passes over the data.

    >>> rb.var(rb.asarray([1.0, 3.0]))
    tensor(1.)
    """
    axes = axes_of("var", axis, x.ndim)
    x = as_float(x)
    if is_complex(x):
        raise DTypeError("var: a variance is one of real numbers; take real(), imag() or abs()")
    centred = subtract(x, mean(x, axes, True))
    return divide(reduce_sum(square(centred), axes, keepdims), _freedom(x, axes, correction))


def _freedom(x: Any, axes: tuple[int, ...], correction: float) -> Any:
    count = extent.like(x, count_along(x, axes), x.dtype)
    return maximum(subtract(count, float(correction)), 0.0) if correction else count


@var.gradient
def _var_gradient(
    g: Any, y: Any, x: Any, axis: Axes, correction: float, keepdims: bool
) -> tuple[Any]:
    if not x.dtype.is_float:
        return (None,)
    axes = axes_of("var", axis, x.ndim)
    centred = subtract(x, mean(x, axes, True))
    scale = divide(multiply(g, 2.0), _freedom(x, axes, correction))
    return (multiply(spread(scale, x.shape, axes, keepdims), centred),)


def _std_samples() -> list[Sample]:
    return [
        Sample((Draw((3, 4), kind="distinct"),), {"axis": a, "correction": c, "keepdims": k})
        for a, c, k in ((None, 0.0, False), (-1, 1, True), (0, 0.5, False))
    ]


@op(
    "composite",
    reference=lambda *x: np.sqrt(as_double(_var_reference(as_double(x[0]), *x[1:]))),
    samples=_std_samples,
    autocast="wide",
)
def std(x: Value, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Value:
    """The square root of `var`.

    >>> rb.std(rb.asarray([1.0, 3.0]), correction=1)
    tensor(1.4142135)
    """
    return sqrt(var(x, axis, correction, keepdims))


# ---- log-sum-exp, counts -------------------------------------------------------------------------


def _logsumexp_reference(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    axes = axes_of("logsumexp", axis, x.ndim)
    return rounded(x, np.log(np.sum(np.exp(as_double(x)), axes, keepdims=keepdims)))


@op(
    "composite",
    promote="float",
    reference=_logsumexp_reference,
    samples=reduction_samples(empty=False),
    onnx="ReduceLogSumExp",
    autocast="wide",
)
def logsumexp(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """log(sum(exp(x))) over `axis` (None: all) without overflow.

    >>> rb.logsumexp(rb.asarray([1000.0, 1000.0]))
    tensor(1000.6932)
    """
    axes = axes_of("logsumexp", axis, x.ndim)
    top = reduce_max(x, axes, True)
    top = where(isfinite(top), top, 0.0)
    total = log(reduce_sum(exp(subtract(x, top)), axes, True))
    found = add(total, top)
    return found if keepdims else reshape(found, left_shape(x.shape, axes))


@logsumexp.batching
def _logsumexp_batch(size: int, flags: list[bool], x: Any, axis: Axes, keepdims: bool) -> Any:
    axes = axes_of("logsumexp", axis, x.ndim - 1)
    return logsumexp(x, axis=tuple(a + 1 for a in axes), keepdims=keepdims)


@logsumexp.gradient
def _logsumexp_gradient(g: Any, y: Any, x: Any, axis: Axes, keepdims: bool) -> tuple[Any]:
    axes = axes_of("logsumexp", axis, x.ndim)
    level = spread(where(isfinite(y), y, 0.0), x.shape, axes, keepdims)
    return (multiply(spread(g, x.shape, axes, keepdims), exp(subtract(x, level))),)


@op(
    "composite",
    differentiable=False,
    reference=lambda x, axis, keepdims: np.asarray(
        np.count_nonzero(x, axis, keepdims=keepdims), np.int64
    ),
    samples=reduction_samples(ALL),
)
def count_nonzero(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """How many elements over `axis` (None: all) are not zero; int64.

    >>> rb.count_nonzero(rb.asarray([0, 3, 4]))
    tensor(2)
    """
    axes = axes_of("count_nonzero", axis, x.ndim)
    return reduce_sum(cast(cast(x, bool_), int64), axes, keepdims)
