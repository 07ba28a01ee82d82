"""Tensors in another shape or order, and parts of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.tensor.lift import functions, spoken
from rabbet.tensor.tensor import Tensor, as_operand, from_numpy, shape_argument


def reshape(x: Tensor, /, shape: Any, *more: int, copy: bool | None = None) -> Tensor:
    """The same elements in row-major order under another shape; one size may be -1 (what is left).

    Tensors are values, so `copy` changes nothing. Raises ShapeError where the numbers of elements
    differ.

    >>> rb.reshape(rb.arange(4), (2, -1))
    tensor([[0, 1],
            [2, 3]])
    """
    return functions["reshape"](x, (shape, *more) if more else shape)


def repeat(
    x: Tensor, repeats: Any, /, axis: int | None = None, *, dim: int | None = None
) -> Tensor:
    """Every element repeated along `axis` (None: of the flattened tensor).

    `repeats` is a number, or a vector with one number per element of the axis; a vector is read at
    once, for the shape of the result depends on it.

    >>> rb.repeat(rb.asarray([1, 2]), rb.asarray([1, 3]))
    tensor([1, 2, 2, 2])
    """
    t, axis = as_operand(x), axis if dim is None else dim
    if hasattr(repeats, "__index__") and getattr(repeats, "ndim", 0) == 0:
        return functions["repeat"](t, repeats.__index__(), axis)
    counts = as_operand(repeats)
    if not counts.dtype.is_integer:
        raise DTypeError(f"repeat: repeats are {counts.dtype.name}, integers are needed")
    if axis is None:
        t, axis = t.reshape((t.numel(),)), 0
    at = axis_of("repeat", axis, t.ndim)
    if counts.shape not in ((), (1,), (t.shape[at],)):
        raise ShapeError(
            f"repeat: {show(counts.shape)} repeats for axis {at} of {show(t.shape)}; "
            "one for each element is needed (the whole tensor several times is x.tile(times))"
        )
    numbers = counts.numpy()
    if (numbers < 0).any():
        raise ShapeError(f"repeat: repeats={int(numbers.min())} must be 0 or more")
    places = np.repeat(np.arange(t.shape[at]), numbers.astype(np.int64))  # NumPy takes no uint64
    return functions["take"](t, from_numpy(places, copy=False), at)


def raised(x: Any, rank: int) -> Tensor:
    """`x` with `rank` axes or more, the new ones where NumPy's `atleast_1d` and kin put them."""
    t = as_operand(x)
    if t.ndim >= rank:
        return t
    shape = {0: (1,) * rank, 1: (1, *t.shape, *(1,) * (rank - 2))[:rank]}.get(t.ndim, (*t.shape, 1))
    return t.reshape(t.shape if rank == 1 and t.ndim == 1 else shape)


def atleast_1d(x: Any, /) -> Tensor:
    """`x`, a number as a vector.

    >>> rb.atleast_1d(3.0).shape
    (1,)
    """
    return raised(x, 1)


def atleast_2d(x: Any, /) -> Tensor:
    """`x`, a vector as a matrix of one row.

    >>> rb.atleast_2d(rb.ones(3)).shape
    (1, 3)
    """
    return raised(x, 2)


def atleast_3d(x: Any, /) -> Tensor:
    """`x` with three axes: (n,) -> (1, n, 1), (m, n) -> (m, n, 1).

    >>> rb.atleast_3d(rb.ones(3)).shape
    (1, 3, 1)
    """
    return raised(x, 3)


def ravel(x: Any, /) -> Tensor:
    """All elements as one vector, in row-major order.

    >>> rb.ravel(rb.ones((2, 3))).shape
    (6,)
    """
    t = as_operand(x)
    return t.reshape((t.numel(),))


@spoken
def unflatten(x: Any, axis: int, sizes: Sequence[int]) -> Tensor:
    """One axis as several of the given sizes (-1: what is left).

    >>> rb.unflatten(rb.ones((2, 6)), 1, (3, -1)).shape
    (2, 3, 2)
    """
    t = as_operand(x)
    at = axis_of("unflatten", axis, t.ndim)
    wanted = [int(s) for s in sizes]
    if -1 in wanted:
        known = -math.prod(wanted)
        wanted[wanted.index(-1)] = t.shape[at] // known if known > 0 else 0
    if math.prod(wanted) != t.shape[at]:
        raise ShapeError(f"unflatten: axis {at} of {show(t.shape)} is not {show(tuple(sizes))}")
    return t.reshape((*t.shape[:at], *wanted, *t.shape[at + 1 :]))


def fliplr(x: Any, /) -> Tensor:
    """Axis 1 in the other order.

    >>> rb.fliplr(rb.asarray([[1, 2]]))
    tensor([[2, 1]])
    """
    return functions["flip"](as_operand(x), 1)


def flipud(x: Any, /) -> Tensor:
    """Axis 0 in the other order.

    >>> rb.flipud(rb.asarray([1, 2]))
    tensor([2, 1])
    """
    return functions["flip"](as_operand(x), 0)


def rot90(x: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned `k` times by 90 degrees, from the first of two axes towards the second.

    >>> rb.rot90(rb.asarray([[1, 2], [3, 4]]))
    tensor([[2, 4],
            [1, 3]])
    """
    t = as_operand(x)
    first, second = (axis_of("rot90", d, t.ndim) for d in dims)
    if first == second:
        raise ShapeError(f"rot90: dims {tuple(dims)} of {show(t.shape)} are the same axis")
    turns = k % 4
    if turns == 2:
        return functions["flip"](t, (first, second))
    if turns == 0:
        return t
    flipped = functions["flip"](t, second if turns == 1 else first)
    return functions["swapaxes"](flipped, first, second)


def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or a number as it is.

    >>> rb.t(rb.ones(2, 3)).shape
    (3, 2)
    """
    if x.ndim > 2:
        raise ShapeError(f"t: {show(x.shape)} has more than two axes; use .mT or permute")
    return x.T if x.ndim == 2 else x


@spoken
def select(x: Tensor, axis: int, index: int) -> Tensor:
    """The slice number `index` of one axis, without it.

    >>> rb.select(rb.arange(6).reshape(2, 3), 1, 0)
    tensor([0, 3])
    """
    at = axis_of("select", axis, x.ndim)
    return x[(slice(None),) * at + (index,)]


@spoken
def narrow(x: Any, axis: int, start: int, length: int) -> Tensor:
    """`length` elements of axis `axis` from `start` on.

    >>> rb.narrow(rb.arange(5), 0, 1, 3)
    tensor([1, 2, 3])
    """
    t = as_operand(x)
    at = axis_of("narrow", axis, t.ndim)
    size = t.shape[at]
    first = start + size if start < 0 else start
    if length < 0 or first < 0 or first + length > size:
        raise ShapeError(
            f"narrow: {length} elements from {start} on of axis {at} of {show(t.shape)}"
        )
    return t[(*(slice(None),) * at, slice(first, first + length))]


def diagflat(x: Any, offset: int = 0) -> Tensor:
    """A matrix with all elements of x on a diagonal.

    >>> rb.diagflat(rb.asarray([[1, 2]]))
    tensor([[1, 0],
            [0, 2]])
    """
    return functions["diag"](as_operand(x).reshape((-1,)), offset)


def _diag(x: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or a matrix with a vector on its diagonal."""
    return functions["diag"](x, diagonal)


@spoken
def _unfold(x: Tensor, axis: int, size: int, step: int) -> Tensor:
    """All windows of `size` along an axis, `step` apart: (..., n, ...) -> (..., m, ..., size).

    ShapeError where a window does not fit.
    """
    at = axis_of("unfold", axis, x.ndim)
    if not 0 < size <= x.shape[at] or step < 1:
        raise ShapeError(
            f"unfold: size={size}, step={step} for axis {at} of {show(x.shape)}; the size must be "
            "from 1 to the axis's, the step at least 1"
        )
    return functions["window"](x, (at,), (size,), (step,), (1,))


def diagonal(x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The `offset`-th diagonal of two axes (the last two unless they are named), as the last axis.

    >>> rb.diagonal(rb.asarray([[1, 2], [3, 4]]))
    tensor([1, 4])
    """
    t = as_operand(x)
    ends = functions["moveaxis"](t, (dim1, dim2), (-2, -1)) if (dim1, dim2) != (-2, -1) else t
    return functions["diagonal"](ends, offset)


def _sum_to_size(x: Tensor, *size: Any) -> Tensor:
    """The sum over the axes along which a tensor of shape `size` was broadcast to this one."""
    wanted = shape_argument(size)
    lead = x.ndim - len(wanted)
    if lead < 0 or any(n not in (1, own) for n, own in zip(wanted, x.shape[lead:], strict=True)):
        raise ShapeError(f"sum_to_size: {show(wanted)} does not broadcast to {show(x.shape)}")
    ones = tuple(lead + i for i, n in enumerate(wanted) if n == 1 and x.shape[lead + i] != 1)
    axes = (*range(lead), *ones)
    return (x.sum(axis=axes, keepdims=True) if axes else x).reshape(wanted)


def _adjoint(x: Tensor) -> Tensor:
    """The matrices transposed, complex ones conjugated."""
    return functions["conj"](x).mT if x.dtype.kind == "c" else x.mT


METHODS: dict[str, Any] = {
    **{
        f.__name__: f
        for f in (ravel, unflatten, fliplr, flipud, rot90, t, select, narrow, diagflat, diagonal)
    },
    "diag": _diag,
    "unfold": _unfold,
    "repeat": repeat,
    "repeat_interleave": repeat,
    "sum_to_size": _sum_to_size,
    "adjoint": _adjoint,
    "mH": property(_adjoint),
    "H": property(lambda self: _adjoint(self) if self.ndim == 2 else _adjoint(self.T)),
}
