"""Tensors put together, turned and cut: functions that are made of ops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.shapes import broadcast as common_shape
from rabbet.library.several import broadcast_arrays, meshgrid
from rabbet.tensor.create import asarray, zeros
from rabbet.tensor.lift import functions, spoken
from rabbet.tensor.tensor import Tensor, as_operand

# ---- at least so many axes -----------------------------------------------------------------------


def _raised(x: Any, rank: int) -> Tensor:
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
    return _raised(x, 1)


def atleast_2d(x: Any, /) -> Tensor:
    """`x`, a vector as a matrix of one row.

    >>> rb.atleast_2d(rb.ones(3)).shape
    (1, 3)
    """
    return _raised(x, 2)


def atleast_3d(x: Any, /) -> Tensor:
    """`x` with three axes: (n,) -> (1, n, 1), (m, n) -> (m, n, 1).

    >>> rb.atleast_3d(rb.ones(3)).shape
    (1, 3, 1)
    """
    return _raised(x, 3)


# ---- stacks and blocks ---------------------------------------------------------------------------


def hstack(arrays: Sequence[Any]) -> Tensor:
    """Vectors joined, or matrices and more joined along axis 1.

    >>> rb.hstack([rb.asarray([1, 2]), rb.asarray([3])])
    tensor([1, 2, 3])
    """
    parts = [_raised(a, 1) for a in arrays]
    return functions["concat"](parts, 0 if parts and parts[0].ndim == 1 else 1)


def vstack(arrays: Sequence[Any]) -> Tensor:
    """Rows (or matrices and more) below one another.

    >>> rb.vstack([rb.asarray([1, 2]), rb.asarray([3, 4])])
    tensor([[1, 2],
            [3, 4]])
    """
    return functions["concat"]([_raised(a, 2) for a in arrays], 0)


def dstack(arrays: Sequence[Any]) -> Tensor:
    """Matrices (or more) behind one another, along axis 2.

    >>> rb.dstack([rb.ones((2, 3)), rb.zeros((2, 3))]).shape
    (2, 3, 2)
    """
    return functions["concat"]([_raised(a, 3) for a in arrays], 2)


def column_stack(arrays: Sequence[Any]) -> Tensor:
    """Vectors as columns, beside one another and beside matrices.

    >>> rb.column_stack([rb.asarray([1, 2]), rb.asarray([3, 4])])
    tensor([[1, 3],
            [2, 4]])
    """
    parts = [as_operand(a) for a in arrays]
    return functions["concat"]([t if t.ndim > 1 else t.reshape((t.size, 1)) for t in parts], 1)


def block_diag(*arrays: Any) -> Tensor:
    """A matrix of zeros with these matrices along its diagonal (a vector is a row).

    >>> rb.block_diag(rb.asarray([[1, 2]]), 3)
    tensor([[1, 2, 0],
            [0, 0, 3]])
    """
    parts = [_raised(a, 2) for a in arrays]
    if any(p.ndim != 2 for p in parts):
        raise ShapeError(f"block_diag: {', '.join(show(p.shape) for p in parts)}: matrices needed")
    if not parts:
        return zeros((1, 0))
    width, before, rows = sum(p.shape[1] for p in parts), 0, []
    for p in parts:
        after = width - before - p.shape[1]
        rows.append(functions["pad"](p, (0, before), (0, after), (0, 0)))
        before += p.shape[1]
    return functions["concat"](rows, 0)


# ---- all pairs and the like ----------------------------------------------------------------------


def cartesian_prod(*arrays: Any) -> Tensor:
    """Every way to take one element of each vector: rows in order; one vector stays as it is.

    >>> rb.cartesian_prod(rb.asarray([1, 2]), rb.asarray([5, 6])).tolist()
    [[1, 5], [1, 6], [2, 5], [2, 6]]
    """
    lines = [as_operand(a) for a in arrays]
    if not lines or any(t.ndim != 1 for t in lines):
        raise ShapeError(
            f"cartesian_prod: {', '.join(show(t.shape) for t in lines)}: vectors needed"
        )
    if len(lines) == 1:
        return lines[0]
    grids = meshgrid(*lines, indexing="ij")
    return functions["stack"]([g.reshape((g.size,)) for g in grids], -1)


def combinations(x: Any, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Every choice of `r` elements of a vector, in order: (n,) -> (choices, r).

    >>> rb.combinations(rb.asarray([1, 2, 3])).tolist()
    [[1, 2], [1, 3], [2, 3]]
    """
    t = as_operand(x)
    if t.ndim != 1 or r < 0:
        raise ShapeError(f"combinations: r={r} of {show(t.shape)}; a vector and r >= 0 are needed")
    ways = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(ways(range(t.shape[0]), r)), np.int64).reshape(-1, r)
    return functions["take"](t, asarray(places), 0)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that operands of these shapes have together; ShapeError where there is none.

    >>> rb.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    return tuple(common_shape("broadcast_shapes", *given))  # type: ignore[arg-type]


def broadcast_tensors(*arrays: Any) -> list[Tensor]:
    """All arrays broadcast to their common shape (PyTorch's name of `broadcast_arrays`).

    >>> [t.shape for t in rb.broadcast_tensors(rb.zeros(2, 1), rb.zeros(3))]
    [(2, 3), (2, 3)]
    """
    return broadcast_arrays(*arrays)


# ---- turned and cut ------------------------------------------------------------------------------


def ravel(x: Any, /) -> Tensor:
    """All elements as one vector, in row-major order.

    >>> rb.ravel(rb.ones((2, 3))).shape
    (6,)
    """
    t = as_operand(x)
    return t.reshape((t.size,))


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


@spoken
def tensor_split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Parts of one axis: so many, the first ones larger by one where need be, or cut at places.

    >>> [p.tolist() for p in rb.tensor_split(rb.arange(5), 2)]
    [[0, 1, 2], [3, 4]]
    """
    t = as_operand(x)
    at = axis_of("tensor_split", axis, t.ndim)
    size = t.shape[at]
    if isinstance(sections, int):
        if sections < 1:
            raise ShapeError(f"tensor_split: {sections} sections; at least 1 is needed")
        each, more = divmod(size, sections)
        ends = [each * i + min(i, more) for i in range(1, sections)]
    else:
        ends = [int(i) for i in sections]
    cuts = [slice(a, b) for a, b in zip([0, *ends], [*ends, size], strict=True)]
    return [t[(*(slice(None),) * at, c)] for c in cuts]


METHODS: dict[str, Any] = {
    f.__name__: f for f in (ravel, unflatten, narrow, rot90, fliplr, flipud, tensor_split)
}
