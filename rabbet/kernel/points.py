"""All points of a loop nest at once, as NumPy arrays: what the interpreter of kernels works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from rabbet.expr import meaning
from rabbet.expr.expr import Expr
from rabbet.expr.interpret import evaluate
from rabbet.kernel.loops import Store

Array: TypeAlias = np.ndarray[Any, Any]


class Failure(NamedTuple):
    """The first index out of range: number of the element, and the index."""

    element: int
    value: int


class Grid:
    """All points of some loops at once: variable n is an array that changes along axis n."""

    def __init__(
        self, extents: Sequence[Expr], buffers: Sequence[Array], sizes: Sequence[int], fused: bool
    ) -> None:
        self.buffers = buffers
        self.sizes = sizes
        self.fused = fused
        self.variables: dict[int, Array] = {}
        self.accs: dict[int, Array] = {}
        self.shape: tuple[int, ...] = ()
        self.shape = tuple(int(self.values([e])[0]) for e in extents)
        rank = len(self.shape)
        for axis, extent in enumerate(self.shape):
            column = [-1 if a == axis else 1 for a in range(rank)]
            self.variables[axis] = np.arange(extent, dtype=np.int64).reshape(column)

    def values(self, roots: Sequence[Expr]) -> list[Array]:
        """Each root at every point, as arrays that broadcast to the grid."""
        return evaluate(roots, self._leaf, fused=self.fused)

    def full(self, e: Expr) -> Array:
        """One root at every point."""
        return np.broadcast_to(self.values([e])[0], self.shape)

    def _leaf(self, e: Expr) -> Array:
        if e.op == "load":
            return self._load(e)
        number = cast("int", e.value)
        if e.op == "var":
            return self.variables[number]
        if e.op == "size":
            return np.asarray(self.sizes[number], dtype=np.int64)
        found = self.accs[number]
        return found.reshape(found.shape + (1,) * (len(self.shape) - found.ndim))

    def _load(self, e: Expr) -> Array:
        operand, fill = cast("tuple[int, float]", e.value)
        index = self.values([e.args[0]])[0]
        valid = self.values([e.args[1]])[0] if len(e.args) > 1 else np.asarray(True)
        index, valid = np.broadcast_arrays(index, valid)
        data = self.buffers[operand]
        demand(data, index[valid], "load")
        result = np.full(index.shape, fill, dtype=e.dtype.numpy)
        result[valid] = data[index[valid]]
        return result

    def store(self, stores: Sequence[Store]) -> None:
        """All values first, then all stores."""
        found = [(s, self.full(s.index), self.full(s.value)) for s in stores]
        for s, index, value in found:
            demand(self.buffers[s.operand], index, "store")
            self.buffers[s.operand][index.reshape(-1)] = value.reshape(-1)

    def failure(self, checks: Sequence[tuple[Expr, Expr]]) -> Failure | None:
        """The first point, in row-major order, whose index is out of range."""
        found: list[Failure] = []
        for index, extent in checks:
            values = self.full(index).reshape(-1)
            bad = (values < 0) | (values >= self.full(extent).reshape(-1))
            if bad.any():
                first = int(bad.argmax())
                found.append(Failure(first, int(values[first])))
        return min(found, default=None)


def demand(data: Array, index: Array, what: str) -> None:
    """IndexError for an index outside a buffer."""
    if index.size and (index.min() < 0 or index.max() >= data.size):
        raise IndexError(f"{what} at {index.min()}..{index.max()} of a buffer of {data.size}")


def multiply_add(a: Array, b: Array, c: Array, fused: bool) -> Array:
    """a * b + c: of floats rounded once where `fused`, else twice."""
    with np.errstate(all="ignore"):
        if fused and a.dtype.kind == "f":
            return meaning.fma(a, b, c)
        return a * b + c
