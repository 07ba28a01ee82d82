"""Functions of the array API that take more than the op they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.library.data_dependent import nonzero
from rabbet.tensor.lift import functions
from rabbet.tensor.tensor import Tensor, as_operand, from_numpy


def _axis(axis: int | None, dim: int | None) -> int | None:
    return axis if dim is None else dim


def reshape(x: Tensor, /, shape: Any, *more: int, copy: bool | None = None) -> Tensor:
    """The same elements in row-major order under another shape; one size may be -1 (what is left).

    Tensors are values, so `copy` changes nothing. Raises ShapeError where the numbers of elements
    differ.

    >>> rb.reshape(rb.arange(4), (2, -1))
    tensor([[0, 1],
            [2, 3]])
    """
    return functions["reshape"](x, (shape, *more) if more else shape)


def take(x: Tensor, indices: Any, /, axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """Elements at `indices` along `axis` (None: the first), whose place the axes of `indices` take.

    Negative indices count from the end. An index outside the axis is an IndexRangeError when run.

    >>> rb.take(rb.asarray([10, 20, 30]), rb.asarray([2, 0]))
    tensor([30, 10])
    """
    return functions["take"](x, indices, _axis(axis, dim) or 0)


def repeat(
    x: Tensor, repeats: Any, /, axis: int | None = None, *, dim: int | None = None
) -> Tensor:
    """Every element repeated along `axis` (None: of the flattened tensor).

    `repeats` is a number, or a vector with one number per element of the axis; a vector is read at
    once, for the shape of the result depends on it.

    >>> rb.repeat(rb.asarray([1, 2]), rb.asarray([1, 3]))
    tensor([1, 2, 2, 2])
    """
    t, axis = as_operand(x), _axis(axis, dim)
    if hasattr(repeats, "__index__") and getattr(repeats, "ndim", 0) == 0:
        return functions["repeat"](t, repeats.__index__(), axis)
    counts = as_operand(repeats)
    if not counts.dtype.is_integer:
        raise DTypeError(f"repeat: repeats are {counts.dtype.name}, integers are needed")
    if axis is None:
        t, axis = t.reshape((t.size,)), 0
    at = axis_of("repeat", axis, t.ndim)
    if counts.shape not in ((), (1,), (t.shape[at],)):
        raise ShapeError(
            f"repeat: {show(counts.shape)} repeats for axis {at} of {show(t.shape)}; "
            "one for each element is needed"
        )
    numbers = counts.numpy()
    if (numbers < 0).any():
        raise ShapeError(f"repeat: repeats={int(numbers.min())} must be 0 or more")
    places = np.repeat(np.arange(t.shape[at]), numbers)
    return functions["take"](t, from_numpy(places, copy=False), at)


def searchsorted(
    x1: Tensor, x2: Any, /, *, side: str = "left", sorter: Tensor | None = None
) -> Tensor:
    """Where elements of `x2` would stand in the ascending vector `x1` (or `x1[sorter]`); int64.

    "left": before equal elements, "right": behind them. NaN counts as the largest.

    >>> rb.searchsorted(rb.asarray([3, 1, 5]), rb.asarray([3, 4]), sorter=rb.asarray([1, 0, 2]))
    tensor([1, 2])
    """
    line = as_operand(x1)
    if sorter is not None:
        line = functions["take"](line, sorter, 0)
    return functions["searchsorted"](line, x2, side)


def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """Elements of `x1` where `condition` holds and of `x2` elsewhere; all three broadcast.

    A condition of numbers holds where they are not 0. With the condition alone, where it holds: a
    vector of positions for each axis, as `nonzero`, read at once.

    >>> rb.where(rb.asarray([True, False]), 1.0, 0.0)
    tensor([1., 0.])
    >>> rb.where(rb.asarray([0, 5, 0, 7]))
    (tensor([1, 3]),)
    """
    if x1 is None and x2 is None:
        return nonzero(condition)
    if x1 is None or x2 is None:
        raise TypeError("where: with values for one outcome those for the other are needed too")
    return functions["where"](condition, x1, x2)
