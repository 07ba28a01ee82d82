"""Softmax and embedding: small ops that every network has (activations are in activation.py)."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.axis_moves import expand_dims
from rabbet.ops.compare import where
from rabbet.ops.create import zeros_like
from rabbet.ops.float_functions import exp, log
from rabbet.ops.gather_scatter import scatter_add, take
from rabbet.ops.reductions import max_, sum_


def _softmax_samples() -> list[Sample]:
    return [
        Sample((Draw((3, 4)),), {"axis": -1}),
        Sample((Draw((2, 5, 3), -30, 30),), {"axis": 1}),
        Sample((Draw((2, 70)),), {"axis": -1}),
        Sample((Draw((4, 1)),), {"axis": 1}),
        Sample((Draw((0, 4)),), {"axis": 0}),
        Sample((Draw((0, 4)),), {"axis": 1}),
    ]


def _softmax_spec(x: Spec, axis: int) -> Spec:
    axis_of("softmax", axis, x.ndim)
    return x


def _softmax_reference(x: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(log_softmax_array(x.astype(np.float64), axis))


def log_softmax_array(x: np.ndarray, axis: int) -> np.ndarray:
    """log_softmax by its definition, shifted so that nothing overflows."""
    x = x.astype(np.float64)
    if x.shape[axis] == 0:
        return x
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _shifted(x: Any, axis: int) -> Any:
    """x minus its largest element along the axis, so that exp cannot overflow."""
    return x - max_(x, axis, keepdims=True)


@op(
    "composite",
    promote="float",
    infer=_softmax_spec,
    reference=_softmax_reference,
    samples=_softmax_samples,
    onnx="Softmax",
    autocast="wide",
)
def softmax(x: Value, axis: int = -1) -> Value:
    """exp(x) divided by its sum along an axis.

    Same shape; floats (integers become the default float). A row of only -inf gives NaN.

    >>> rb.softmax(rb.ones((2, 4))).shape
    (2, 4)
    """
    if isinstance(x.shape[axis], int) and x.shape[axis] == 0:
        return x
    e = exp(_shifted(x, axis))
    return e * (1.0 / sum_(e, axis, keepdims=True))  # one division a row


@softmax.batching
def _softmax_batch(size: int, flags: list[bool], x: Any, axis: int) -> Any:
    return softmax(x, axis=axis_of("softmax", axis, x.ndim - 1) + 1)


@softmax.gradient
def _softmax_gradient(g: Any, y: Any, x: Any, axis: int) -> tuple[Any]:
    return (y * (g - sum_(g * y, axis, keepdims=True)),)


@op(
    "composite",
    promote="float",
    infer=_softmax_spec,
    reference=log_softmax_array,
    samples=_softmax_samples,
    onnx="LogSoftmax",
    autocast="wide",
)
def log_softmax(x: Value, axis: int = -1) -> Value:
    """log(softmax(x)), computed without leaving the logarithm.

    Same shape; floats (integers become the default float).

    >>> rb.log_softmax(rb.ones((2, 4))).shape
    (2, 4)
    """
    if isinstance(x.shape[axis], int) and x.shape[axis] == 0:
        return x
    shifted = _shifted(x, axis)
    return shifted - log(sum_(exp(shifted), axis, keepdims=True))


@log_softmax.batching
def _log_softmax_batch(size: int, flags: list[bool], x: Any, axis: int) -> Any:
    return log_softmax(x, axis=axis_of("log_softmax", axis, x.ndim - 1) + 1)


@log_softmax.gradient
def _log_softmax_gradient(g: Any, y: Any, x: Any, axis: int) -> tuple[Any]:
    return (g - exp(y) * sum_(g, axis, keepdims=True),)


def _check_embedding(indices: Any, weight: Any, padding_idx: int | None) -> None:
    if not indices.dtype.is_integer:
        raise DTypeError(f"embedding: indices are {indices.dtype.name}, integers are needed")
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight {show(weight.shape)} must be (rows, features)")
    if padding_idx is not None and not -weight.shape[0] <= padding_idx < weight.shape[0]:
        raise ShapeError(
            f"embedding: padding_idx {padding_idx} is not a row of weight {show(weight.shape)}"
        )


@op(
    "composite",
    method=None,
    reference=lambda indices, weight, padding_idx: weight[indices],
    samples=lambda: [
        Sample((Draw(shape, 0, 5, "int"), Draw((5, 3))), {"padding_idx": None})
        for shape in ((4,), (2, 6), (), (0,))
    ],
    onnx="Gather",
)
def embedding(indices: Value, weight: Value, padding_idx: int | None = None) -> Value:
    """Rows of a table: weight[indices].

    indices (...) integers, weight (rows, features) -> (..., features). The row `padding_idx` gets
    no gradient. Negative indices count from the end, as in `take`; an index that is no row is an
    IndexRangeError when computed.

    >>> rb.embedding(rb.asarray([0, 2]), rb.ones((3, 4))).shape
    (2, 4)
    """
    _check_embedding(indices, weight, padding_idx)
    return take(weight, indices, 0)


@embedding.gradient
def _embedding_gradient(
    g: Any, y: Any, indices: Any, weight: Any, padding_idx: int | None
) -> tuple[None, Any]:
    if padding_idx is not None:
        row = padding_idx if padding_idx >= 0 else padding_idx + weight.shape[0]
        g = where(expand_dims(indices == row, -1), 0.0, g)
    return None, scatter_add(zeros_like(weight), indices, g, 0)
