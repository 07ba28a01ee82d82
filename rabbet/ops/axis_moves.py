"""Moving elements, as users spell it: composites over index_maps.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base import shapes, sizes
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axes_of, axis_of, show
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.index_maps import expand, permute, reshape, turn


def _matrix_transpose(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, -1, -2)


@op(
    "composite",
    reference=_matrix_transpose,
    samples=lambda: [Sample((Draw((2, 3, 4)),)), Sample((Draw((0, 1)),))],
)
def matrix_transpose(x: Value) -> Value:
    """The last two axes exchanged: (..., m, n) -> (..., n, m).

    >>> rb.matrix_transpose(rb.zeros((5, 2, 3))).shape
    (5, 3, 2)
    """
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose: {show(x.shape)} needs at least two axes")
    return swapaxes(x, -2, -1)


@op(
    "composite",
    reference=np.swapaxes,
    samples=lambda: [
        Sample((Draw((2, 3, 4)),), {"axis1": 0, "axis2": -1}),
        Sample((Draw((3,)),), {"axis1": 0, "axis2": 0}),
    ],
)
def swapaxes(x: Value, axis1: int, axis2: int) -> Value:
    """Two axes exchanged.

    >>> rb.swapaxes(rb.zeros((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    order = list(range(x.ndim))
    a, b = axis_of("swapaxes", axis1, x.ndim), axis_of("swapaxes", axis2, x.ndim)
    order[a], order[b] = order[b], order[a]
    return permute(x, tuple(order))


@op(
    "composite",
    reference=np.moveaxis,
    samples=lambda: [
        Sample((Draw((2, 3, 4)),), {"source": 0, "destination": -1}),
        Sample((Draw((2, 3, 4)),), {"source": (0, 1), "destination": (2, 0)}),
    ],
)
def moveaxis(x: Value, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Value:
    """Axes `source` moved to `destination`; the others keep their order.

    >>> rb.moveaxis(rb.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    origin, target = (
        tuple(axis_of("moveaxis", a, x.ndim) for a in ((v,) if isinstance(v, int) else v))
        for v in (source, destination)
    )
    if len(set(origin)) != len(origin) or len(set(target)) != len(origin):
        raise ShapeError(f"moveaxis: axes {show(origin)} cannot move to {show(target)}")
    order = [a for a in range(x.ndim) if a not in origin]
    for place, axis in sorted(zip(target, origin, strict=True)):
        order.insert(place, axis)
    return permute(x, tuple(order))


@op(
    "composite",
    reference=np.expand_dims,
    samples=lambda: [
        Sample((Draw((2, 3)),), {"axis": 0}),
        Sample((Draw((2, 3)),), {"axis": -1}),
        Sample((Draw((2,)),), {"axis": (0, 2)}),
        Sample((Draw(()),), {"axis": 0}),
    ],
    onnx="Unsqueeze",
)
def unsqueeze(x: Value, axis: int | tuple[int, ...]) -> Value:
    """New axes of size 1 at the places `axis` of the result.

    >>> rb.unsqueeze(rb.zeros((2, 3)), 0).shape
    (1, 2, 3)
    """
    given = (axis,) if isinstance(axis, int) else axis
    rank = x.ndim + len(given)
    places = axes_of("unsqueeze", axis, rank)
    rest = iter(x.shape)
    return reshape(x, tuple(1 if a in places else next(rest) for a in range(rank)))


expand_dims = unsqueeze  # the array API's name


@op(
    "composite",
    reference=np.squeeze,
    samples=lambda: [
        Sample((Draw((2, 1, 3, 1)),), {"axis": None}),
        Sample((Draw((2, 1, 3, 1)),), {"axis": 1}),
        Sample((Draw((1, 2, 1)),), {"axis": (0, -1)}),
        Sample((Draw(()),), {"axis": None}),
    ],
    onnx="Squeeze",
)
def squeeze(x: Value, axis: int | tuple[int, ...] | None = None) -> Value:
    """Without axes of size 1: those named, or all. ShapeError where a named axis is larger.

    >>> rb.squeeze(rb.zeros((2, 1, 3)), 1).shape
    (2, 3)
    """
    if axis is None:
        return reshape(x, tuple(d for d in x.shape if d != 1))
    gone = axes_of("squeeze", axis, x.ndim)
    if any(x.shape[a] != 1 for a in gone):
        raise ShapeError(f"squeeze: {show(x.shape)}: axes {show(gone)} are not all of size 1")
    return reshape(x, tuple(d for a, d in enumerate(x.shape) if a not in gone))


def _flatten_array(x: np.ndarray, start_dim: int, end_dim: int) -> np.ndarray:
    if x.ndim == 0:
        return x.reshape(1)
    start, end = start_dim % x.ndim, end_dim % x.ndim
    size = int(np.prod(x.shape[start : end + 1]))
    return x.reshape((*x.shape[:start], size, *x.shape[end + 1 :]))


@op(
    "composite",
    reference=_flatten_array,
    samples=lambda: [
        Sample((Draw((2, 3, 4)),), {"start_dim": 0, "end_dim": -1}),
        Sample((Draw((2, 3, 4)),), {"start_dim": 1, "end_dim": 2}),
        Sample((Draw(()),), {"start_dim": 0, "end_dim": -1}),
        Sample((Draw((0, 3)),), {"start_dim": 0, "end_dim": -1}),
    ],
)
def flatten(x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Axes start_dim to end_dim as one.

    >>> rb.flatten(rb.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    if x.ndim == 0:
        return reshape(x, (1,))
    start, end = axis_of("flatten", start_dim, x.ndim), axis_of("flatten", end_dim, x.ndim)
    if start > end:
        raise ShapeError(f"flatten: start_dim {start_dim} lies after end_dim {end_dim}")
    size = sizes.product(x.shape[start : end + 1])
    return reshape(x, (*x.shape[:start], size, *x.shape[end + 1 :]))


@op(
    "composite",
    reference=np.flip,
    samples=lambda: [
        Sample((Draw((2, 3)),), {"axis": None}),
        Sample((Draw((2, 3)),), {"axis": -1}),
        Sample((Draw((2, 0)),), {"axis": (0, 1)}),
        Sample((Draw(()),), {"axis": None}),
    ],
)
def flip(x: Value, axis: int | tuple[int, ...] | None = None) -> Value:
    """The order of elements reversed along `axis` (None: all axes).

    >>> rb.flip(rb.asarray([1, 2, 3]))
    tensor([3, 2, 1])
    """
    return turn(x, axes_of("flip", axis, x.ndim))


def broadcast_arrays(*arrays: Any) -> list[Any]:
    """All arrays broadcast to their common shape."""
    shape = shapes.broadcast("broadcast_arrays", *(a.shape for a in arrays))
    return [expand(a, shape) for a in arrays]
