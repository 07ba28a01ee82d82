"""Derivatives of sampled functions by finite differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.library.manipulation import narrow
from rabbet.tensor.lift import functions
from rabbet.tensor.tensor import Tensor, as_operand


def gradient(
    x: Any,
    *spacings: Any,
    spacing: Any = None,
    axis: Any = None,
    dim: Any = None,
    edge_order: int = 1,
) -> tuple[Tensor, ...]:
    """Slopes of sampled values along each axis, of x's shape: NumPy's and PyTorch's `gradient`.

    Inside by central differences, exact for parabolas; at both ends by one-sided ones of
    `edge_order` 1 or 2. `spacing` (or what follows x) is the distance of samples, 1 unless given,
    or a list with a distance, or a vector of coordinates, for each axis. `axis` (`dim`) is an axis
    or several; all unless given. Always a tuple, as in PyTorch, with one tensor per axis.
    ShapeError for fewer than edge_order + 1 samples. (For derivatives of functions see `rb.grad`.)

    >>> rb.gradient(rb.asarray([0.0, 1.0, 4.0, 9.0]), edge_order=2)
    (tensor([0., 2., 4., 6.]),)
    >>> rb.gradient(rb.asarray([0.0, 1.0, 9.0]), spacing=(rb.asarray([0.0, 1.0, 3.0]),))[0].tolist()
    [1.0, 2.0, 4.0]
    """
    t = as_operand(x)
    t = t if t.dtype.kind in "fc" else functions["divide"](t, 1.0)
    if edge_order not in (1, 2):
        raise RabbetError(f"gradient: edge_order={edge_order} must be 1 or 2")
    asked = axis if dim is None else dim
    given = range(t.ndim) if asked is None else asked if isinstance(asked, Sequence) else (asked,)
    axes = [axis_of("gradient", a, t.ndim) for a in given]
    return tuple(
        _slope(t, a, h, edge_order)
        for a, h in zip(axes, _for_axes(spacings, spacing, len(axes)), strict=True)
    )


def _for_axes(spacings: tuple[Any, ...], spacing: Any, count: int) -> list[Any]:
    """The spacing of each axis."""
    if spacings and spacing is not None:
        raise RabbetError("gradient: spacing was given twice")
    each = list(spacings)
    if spacing is not None:
        each = list(spacing) if isinstance(spacing, list | tuple) else [spacing]
    each = each or [1.0]
    if len(each) == 1 and (isinstance(each[0], int | float) or as_operand(each[0]).ndim == 0):
        return each * count
    if len(each) != count:
        raise ShapeError(f"gradient: {len(each)} spacings for {count} axes")
    return each


def _slope(t: Tensor, axis: int, spacing: Any, edge_order: int) -> Tensor:
    count = t.shape[axis]
    if count < edge_order + 1:
        raise ShapeError(
            f"gradient: axis {axis} of {show(t.shape)} has {count} samples; {edge_order + 1} are "
            f"needed for edge_order={edge_order}"
        )

    def part(x: Tensor, first: int, length: int) -> Tensor:
        return narrow(x, axis if x.ndim > 1 else 0, first, length)

    steps = (part(t, 1, count - 1) - part(t, 0, count - 1)) / _distances(t, axis, spacing)
    first, last = part(steps, 0, 1), part(steps, count - 2, 1)
    if count == 2:
        return functions["concat"]([first, last], axis)
    # With the slopes s and t of the steps h and k at either side: (k s + h t) / (h + k).
    wide = _distances(t, axis, spacing, whole=True)
    before, after = part(wide, 0, count - 2), part(wide, 1, count - 2)
    earlier, later = part(steps, 0, count - 2), part(steps, 1, count - 2)
    inside = (after * earlier + before * later) / (before + after)
    if edge_order == 2:
        bend = (later - earlier) / (before + after)
        first = first - part(bend, 0, 1) * part(wide, 0, 1)
        last = last + part(bend, count - 3, 1) * part(wide, count - 2, 1)
    return functions["concat"]([first, inside, last], axis)


def _distances(t: Tensor, axis: int, spacing: Any, whole: bool = False) -> Tensor:
    """Between samples, to broadcast with `t` (one for each step with `whole`)."""
    count = t.shape[axis]
    shape = tuple(count - 1 if a == axis else 1 for a in range(t.ndim))
    points = as_operand(spacing, t)
    if points.ndim == 0:
        one = points.astype(t.dtype).reshape((1,) * t.ndim)
        return functions["expand"](one, shape) if whole else one
    if points.shape != (count,):
        raise ShapeError(
            f"gradient: coordinates {show(points.shape)} for axis {axis} of {show(t.shape)}; "
            f"({count},) is needed"
        )
    line = points if points.dtype is t.dtype else points.astype(t.dtype)
    return (line[1:] - line[:-1]).reshape(shape)


METHODS: dict[str, Any] = {}
