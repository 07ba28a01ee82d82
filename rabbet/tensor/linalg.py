"""rb.linalg: the array API's linear algebra, over stacks of matrices, with gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

from rabbet.graph.value import lookup
from rabbet.tensor.lift import functions
from rabbet.tensor.tensor import Tensor, as_operand

__all__ = [
    *("LinAlgError", "cholesky", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul"),
    *("matrix_norm", "matrix_power", "matrix_transpose", "outer", "slogdet", "solve", "tensordot"),
    *("trace", "vecdot", "vector_norm"),
]


class EighResult(NamedTuple):
    """What `eigh` gives."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SlogdetResult(NamedTuple):
    """What `slogdet` gives."""

    sign: Tensor
    logabsdet: Tensor


cholesky, solve, inv, det = (functions[n] for n in ("cholesky", "solve", "inv", "det"))
matmul, outer, tensordot, vecdot = (
    functions[n] for n in ("matmul", "outer", "tensordot", "vecdot")
)
matrix_transpose = functions["matrix_transpose"]


def eigh(x: Any, /) -> EighResult:
    """Eigenvalues in ascending order and eigenvectors (columns) of symmetric or Hermitian x."""
    return EighResult(*functions["eigh"](as_operand(x)))


def eigvalsh(x: Any, /) -> Tensor:
    """The eigenvalues of `eigh`."""
    return eigh(x).eigenvalues


def slogdet(x: Any, /) -> SlogdetResult:
    """Sign and logarithm of the size of each determinant; (0, -inf) where it is 0."""
    return SlogdetResult(*functions["slogdet"](as_operand(x)))


def diagonal(x: Any, /, *, offset: int = 0) -> Tensor:
    """The diagonals of matrices, as their last axis."""
    return functions["diagonal"](as_operand(x), offset)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum of each diagonal."""
    return functions["sum"](diagonal(x, offset=offset), axis=-1, dtype=dtype)


def matrix_power(x: Any, n: int, /) -> Tensor:
    """Each matrix multiplied with itself; a negative power is one of the inverse."""
    t = as_operand(x)
    if n < 0:
        return matrix_power(inv(t), -n)
    if n == 0:
        unit = lookup("eye").like(t, t.shape[-1], None, 0, t.dtype)
        return functions["expand"](unit, t.shape)
    found, square = None, t
    while n:
        if n & 1:
            found = square if found is None else matmul(found, square)
        n >>= 1
        square = matmul(square, square) if n else square
    assert found is not None
    return found


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """(sum of |x| ** ord) ** (1 / ord); largest for inf, smallest for -inf, count for 0."""
    t = functions["abs"](as_operand(x))
    given = {"axis": axis, "keepdims": keepdims}
    if ord in (float("inf"), float("-inf")):
        return functions["max" if ord > 0 else "min"](t, **given)
    if ord == 0:
        return functions["sum"]((t != 0).astype(t.dtype), **given)
    if ord == 1:
        return functions["sum"](t, **given)
    if ord == 2:
        return functions["sqrt"](functions["sum"](t * t, **given))
    return functions["sum"](t**ord, **given) ** (1.0 / ord)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """ "fro" (root of the sum of squares), 1 / -1 (columns), inf / -inf (rows) of each matrix.

    Raises ValueError for norms made of singular values, which are not there yet.
    """
    t = as_operand(x)
    if ord == "fro":
        return vector_norm(t, axis=(-2, -1), keepdims=keepdims)
    if ord not in (1, -1, float("inf"), float("-inf")):
        raise ValueError(f"matrix_norm: ord {ord!r} is not available; take 'fro', 1, -1, inf, -inf")
    sums = functions["sum"](functions["abs"](t), axis=-2 if abs(ord) == 1 else -1, keepdims=True)
    found = functions["max" if ord > 0 else "min"](sums, axis=(-2, -1), keepdims=True)
    return found if keepdims else functions["squeeze"](found, (-2, -1))
