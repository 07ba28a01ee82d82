"""Functions with several results: splitting, unstacking, grids, broadcasting together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base.errors import ShapeError
from rabbet.ops import joining, movement
from rabbet.tensor.lift import functions
from rabbet.tensor.tensor import Tensor, as_operand


def _axis(axis: int, dim: int | None) -> int:
    return axis if dim is None else dim


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


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinate grids from vectors; "xy" puts the second vector first, "ij" keeps the order.

    >>> [t.shape for t in rb.meshgrid(rb.zeros(2), rb.zeros(3))]
    [(3, 2), (3, 2)]
    """
    return joining.meshgrid(*map(as_operand, arrays), indexing=indexing)


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """All arrays broadcast to their common shape; ShapeError where there is none.

    >>> [t.shape for t in rb.broadcast_arrays(rb.zeros(2, 1), rb.zeros(3))]
    [(2, 3), (2, 3)]
    """
    return movement.broadcast_arrays(*map(as_operand, arrays))


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products named by letters: `einsum("ij,jk->ik", a, b)`.

    Repeated letters are summed over unless they stand behind `->`; `...` stands for further axes.
    Operands may also be given as one list. Raises ShapeError where sizes of a letter differ.

    >>> rb.einsum("ij,j->i", rb.ones(2, 3), rb.ones(3)).tolist()
    [3.0, 3.0]
    """
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    return functions["einsum"](list(operands), equation)


METHODS = {"split": split, "chunk": chunk, "unbind": unbind}
