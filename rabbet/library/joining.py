"""Tensors joined, cut in parts, and brought to one shape."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.shapes import broadcast as common_shape
from rabbet.library.manipulation import raised
from rabbet.ops import axis_moves, joining
from rabbet.tensor.create import asarray, zeros
from rabbet.tensor.lift import functions, spoken
from rabbet.tensor.tensor import Tensor, as_operand


def _axis(axis: int, dim: int | None) -> int:
    return axis if dim is None else dim


def hstack(arrays: Sequence[Any]) -> Tensor:
    """Vectors joined, or matrices and more joined along axis 1.

    >>> rb.hstack([rb.asarray([1, 2]), rb.asarray([3])])
    tensor([1, 2, 3])
    """
    parts = [raised(a, 1) for a in arrays]
    return functions["concat"](parts, 0 if parts and parts[0].ndim == 1 else 1)


def vstack(arrays: Sequence[Any]) -> Tensor:
    """Rows (or matrices and more) below one another.

    >>> rb.vstack([rb.asarray([1, 2]), rb.asarray([3, 4])])
    tensor([[1, 2],
            [3, 4]])
    """
    return functions["concat"]([raised(a, 2) for a in arrays], 0)


def dstack(arrays: Sequence[Any]) -> Tensor:
    """Matrices (or more) behind one another, along axis 2.

    >>> rb.dstack([rb.ones((2, 3)), rb.zeros((2, 3))]).shape
    (2, 3, 2)
    """
    return functions["concat"]([raised(a, 3) for a in arrays], 2)


def column_stack(arrays: Sequence[Any]) -> Tensor:
    """Vectors as columns, beside one another and beside matrices.

    >>> rb.column_stack([rb.asarray([1, 2]), rb.asarray([3, 4])])
    tensor([[1, 3],
            [2, 4]])
    """
    parts = [as_operand(a) for a in arrays]
    return functions["concat"]([t if t.ndim > 1 else t.reshape((t.numel(), 1)) for t in parts], 1)


def block_diag(*arrays: Any) -> Tensor:
    """A matrix of zeros with these matrices along its diagonal (a vector is a row).

    >>> rb.block_diag(rb.asarray([[1, 2]]), 3)
    tensor([[1, 2, 0],
            [0, 0, 3]])
    """
    parts = [raised(a, 2) for a in arrays]
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


def split(
    x: Any, split_size_or_sections: int | Sequence[int], axis: int = 0, *, dim: int | None = None
) -> list[Tensor]:
    """Consecutive parts of one axis: of one size (the last may be smaller), or of given sizes.

    >>> [p.shape for p in rb.split(rb.zeros(5), 2)]
    [(2,), (2,), (1,)]
    """
    return joining.split(as_operand(x), split_size_or_sections, _axis(axis, dim))


def chunk(x: Any, chunks: int, axis: int = 0, *, dim: int | None = None) -> list[Tensor]:
    """At most `chunks` parts of one axis, of equal size but for the last.

    >>> [p.shape for p in rb.chunk(rb.zeros(5), 2)]
    [(3,), (2,)]
    """
    if chunks < 1:
        raise ShapeError(f"chunk: chunks must be at least 1, not {chunks}")
    t, at = as_operand(x), _axis(axis, dim)
    return split(t, max(1, -(-t.shape[at] // chunks)), at)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of one axis, without it.

    >>> [float(t) for t in rb.unstack(rb.tensor([1.0, 2.0]))]
    [1.0, 2.0]
    """
    return tuple(joining.unstack(as_operand(x), axis))


def unbind(x: Any, axis: int = 0, *, dim: int | None = None) -> tuple[Tensor, ...]:
    """The slices of one axis, without it (PyTorch's name of `unstack`).

    >>> [t.tolist() for t in rb.unbind(rb.asarray([[1, 2], [3, 4]]))]
    [[1, 2], [3, 4]]
    """
    return unstack(x, axis=_axis(axis, dim))


@spoken
def tensor_split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Parts of one axis: so many, the first ones larger by one where need be, or cut at places.

    >>> [p.tolist() for p in rb.tensor_split(rb.arange(5), 2)]
    [[0, 1, 2], [3, 4]]
    """
    t = as_operand(x)
    at = axis_of("tensor_split", axis, t.ndim)
    size = t.shape[at]
    if isinstance(sections, int | np.integer):
        count = int(sections)
        if count < 1:
            raise ShapeError(f"tensor_split: {count} sections; at least 1 is needed")
        each, more = divmod(size, count)
        ends = [each * i + min(i, more) for i in range(1, count)]
    else:
        ends = [int(i) for i in sections]
    cuts = [slice(a, b) for a, b in zip([0, *ends], [*ends, size], strict=True)]
    return [t[(*(slice(None),) * at, c)] for c in cuts]


def hsplit(x: Any, sections: int | Sequence[int]) -> list[Tensor]:
    """`tensor_split` along columns (of a vector: along itself).

    >>> [t.shape for t in rb.hsplit(rb.ones(2, 4), 2)]
    [(2, 2), (2, 2)]
    """
    t = as_operand(x)
    return tensor_split(t, sections, 0 if t.ndim == 1 else 1)


def vsplit(x: Any, sections: int | Sequence[int]) -> list[Tensor]:
    """`tensor_split` along rows.

    >>> [t.shape for t in rb.vsplit(rb.ones(4, 2), 2)]
    [(2, 2), (2, 2)]
    """
    return tensor_split(x, sections, 0)


def dsplit(x: Any, sections: int | Sequence[int]) -> list[Tensor]:
    """`tensor_split` along the third axis.

    >>> [t.shape for t in rb.dsplit(rb.ones(1, 1, 4), 2)]
    [(1, 1, 2), (1, 1, 2)]
    """
    return tensor_split(x, sections, 2)


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinate grids from vectors; "xy" puts the second vector first, "ij" keeps the order.

    >>> [t.shape for t in rb.meshgrid(rb.zeros(2), rb.zeros(3))]
    [(3, 2), (3, 2)]
    """
    return joining.meshgrid(*map(as_operand, arrays), indexing=indexing)


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
    return functions["stack"]([g.reshape((g.numel(),)) for g in grids], -1)


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


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """All arrays broadcast to their common shape; ShapeError where there is none.

    >>> [t.shape for t in rb.broadcast_arrays(rb.zeros(2, 1), rb.zeros(3))]
    [(2, 3), (2, 3)]
    """
    return axis_moves.broadcast_arrays(*map(as_operand, arrays))


def broadcast_tensors(*arrays: Any) -> list[Tensor]:
    """All arrays broadcast to their common shape (PyTorch's name of `broadcast_arrays`).

    >>> [t.shape for t in rb.broadcast_tensors(rb.zeros(2, 1), rb.zeros(3))]
    [(2, 3), (2, 3)]
    """
    return broadcast_arrays(*arrays)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that operands of these shapes have together; ShapeError where there is none.

    >>> rb.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    # Of whole numbers, so the result has no symbols either.
    return tuple(common_shape("broadcast_shapes", *given))  # type: ignore[arg-type]


def split_with_sizes(x: Any, split_sizes: Sequence[int], dim: int = 0) -> list[Tensor]:
    """`split` into parts of given sizes.

    >>> [p.shape for p in rb.split_with_sizes(rb.ones(5), [2, 3])]
    [(2,), (3,)]
    """
    return split(x, list(split_sizes), dim)


METHODS: dict[str, Any] = {
    f.__name__: f
    for f in (split, split_with_sizes, chunk, unbind, tensor_split, hsplit, vsplit, dsplit)
}
