"""Linear systems beyond the standard's, of triangular and of any matrices; all with gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.graph.value import lookup
from rabbet.ops.linalg import adjoint, check_square
from rabbet.tensor.create import asarray
from rabbet.tensor.lift import functions
from rabbet.tensor.tensor import Tensor, as_operand

matmul, solve, inv = functions["matmul"], functions["solve"], functions["inv"]


class LstsqResult(NamedTuple):
    """What `lstsq` gives."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def solve_triangular(
    a: Any, b: Any, /, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """The x with a @ x = b (x @ a = b unless `left`), of which one triangle of `a` counts.

    With `unitriangular` the diagonal counts as ones. Raises LinAlgError, when computed, where an
    element of the diagonal is 0.

    >>> rb.linalg.solve_triangular(rb.asarray([[2.0, 9.0], [0.0, 1.0]]),
    ...                            rb.asarray([[2.0], [1.0]]), upper=True).tolist()
    [[-3.5], [1.0]]
    """
    t, right = as_operand(a), as_operand(b)
    if t.ndim < 2 or right.ndim < 2:
        raise ShapeError(f"solve_triangular: {show(t.shape)}, {show(right.shape)}: matrices needed")
    found = functions["solve_triangular"]
    if left:
        return found(t, right, upper, unitriangular)
    transposed = functions["matrix_transpose"]
    return transposed(found(transposed(t), transposed(right), not upper, unitriangular))


def cutoff(t: Tensor, values: Tensor, rtol: Any) -> Tensor:
    """What counts as zero beside the largest singular value: (..., 1)."""
    largest = functions["max"](values, axis=-1, keepdims=True)
    if rtol is None:
        rtol = max(t.shape[-2:]) * float(np.finfo(values.dtype.numpy).eps)
    relative = as_operand(rtol, values)
    if isinstance(relative, Tensor) and relative.ndim:
        relative = relative[..., None]
    return largest * relative


def cholesky_solve(B: Any, L: Any, /, *, upper: bool = False) -> Tensor:
    """The x with a @ x = B, from the Cholesky factor of `a`: lower, or upper triangular.

    (..., n, k), (..., n, n) -> (..., n, k).

    >>> a = rb.asarray([[4.0, 2.0], [2.0, 5.0]])
    >>> rb.linalg.cholesky_solve(rb.asarray([[8.0], [12.0]]), rb.linalg.cholesky(a)).tolist()
    [[1.0], [2.0]]
    """
    right, factor = as_operand(B), as_operand(L)
    check_square("cholesky_solve", factor.spec)
    lower, higher = (adjoint(factor), factor) if upper else (factor, adjoint(factor))
    inner = solve_triangular(lower, right, upper=False)
    return solve_triangular(higher, inner, upper=True)


def cholesky_inverse(L: Any, /, *, upper: bool = False) -> Tensor:
    """The inverse of `a`, from the Cholesky factor of `a`: lower, or upper triangular.

    >>> rb.linalg.cholesky_inverse(rb.asarray([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.25, 0.0], [0.0, 0.0625]]
    """
    factor = as_operand(L)
    check_square("cholesky_inverse", factor.spec)
    n = factor.shape[-1]
    unit = functions["expand"](lookup("eye").like(factor, n, None, 0, factor.dtype), factor.shape)
    return cholesky_solve(unit, factor, upper=upper)


def householder_product(A: Any, tau: Any, /) -> Tensor:
    """The first columns of the product of reflections 1 - tau[i] v[i] v[i]^H.

    (..., m, n), (..., k) -> (..., m, n), k <= n <= m. v[i] is 1 at i, column i of A below, and 0
    above it, as LAPACK's `geqrf` leaves them. All at once: the product is 1 - V T V^H, where T is
    triangular (R. Schreiber and C. Van Loan, 1989).

    >>> v = rb.asarray([[1.0], [1.0]])
    >>> rb.linalg.householder_product(v, rb.asarray([1.0])).tolist()
    [[0.0], [-1.0]]
    """
    t, scale = as_operand(A), as_operand(tau)
    if t.ndim < 2 or scale.ndim != t.ndim - 1 or scale.shape[:-1] != t.shape[:-2]:
        raise ShapeError(
            f"householder_product: {show(t.shape)}, tau {show(scale.shape)}: they must be "
            "(..., m, n) and (..., k)"
        )
    m, n = t.shape[-2:]
    k = scale.shape[-1]
    if not k <= n <= m:
        raise ShapeError(f"householder_product: {show(t.shape)} with k={k}; k <= n <= m is needed")
    unit = functions["expand"](lookup("eye").like(t, m, n, 0, t.dtype), t.shape)
    v = functions["tril"](t[..., :k], -1) + unit[..., :k]
    turned, wide = adjoint(v), scale[..., None]
    # T = (1 + diag(tau) S)^-1 diag(tau), where S is V^H V above its diagonal.
    above = functions["triu"](wide * matmul(turned, v), 1)
    inner = solve_triangular(above, wide * matmul(turned, unit), upper=True, unitriangular=True)
    return unit - matmul(v, inner)


def lstsq(a: Any, b: Any, /, rcond: Any = None) -> LstsqResult:
    """The x of least |a @ x - b|, and where there are several, the shortest; by QR.

    (..., m, n), (..., m, k) -> (..., n, k), and (..., k) sums of squared residuals; (m, n), (m,) ->
    (n,), (). The rank is how many singular values are larger than rcond (as in `matrix_rank`)
    times the largest. `a` must have full rank: `pinv(a) @ b` is for others. Raises LinAlgError,
    when computed, for a singular `a`.

    >>> line = rb.linalg.lstsq(rb.asarray([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]),
    ...                        rb.asarray([[1.0], [3.0], [5.0]]))
    >>> [round(v, 5) for (v,) in line.solution.tolist()]
    [2.0, 1.0]
    """
    t, right = as_operand(a), as_operand(b)
    if right.ndim == 1 and t.ndim == 2:
        found = lstsq(t, right[:, None], rcond)
        return found._replace(solution=found.solution[:, 0], residuals=found.residuals[0])
    if t.ndim < 2 or right.ndim < 2 or t.shape[-2] != right.shape[-2]:
        raise ShapeError(
            f"lstsq: {show(t.shape)} and {show(right.shape)} must be (..., m, n) and (..., m, k)"
        )
    if t.shape[-2] >= t.shape[-1]:
        q, r = functions["qr"](t, False)
        solution = solve_triangular(r, matmul(adjoint(q), right), upper=True)
    else:
        q, r = functions["qr"](adjoint(t), False)
        solution = matmul(q, solve_triangular(adjoint(r), right, upper=False))
    miss = functions["abs"](matmul(t, solution) - right)
    squares = functions["sum"](miss * miss, axis=-2)
    values = functions["svd"](t.detach(), False)[1]
    rank = functions["count_nonzero"](values > cutoff(t, values, rcond), axis=-1)
    return LstsqResult(solution, squares, rank, values)


def cond(x: Any, /, p: Any = None) -> Tensor:
    """The condition number: the largest singular value over the smallest, or |x| |inv(x)|.

    `p` is None, 2, -2 (singular values), or a norm's name for square matrices: "fro", "nuc", 1, -1,
    inf, -inf.

    >>> rb.linalg.cond(rb.asarray([[4.0, 0.0], [0.0, 2.0]])).item()
    2.0
    """
    t = as_operand(x)
    if p in (None, 2, -2):
        values = functions["svd"](t, False)[1]
        ends = values[..., 0], values[..., -1]
        return ends[1] / ends[0] if p == -2 else ends[0] / ends[1]
    return _norm(t, p) * _norm(inv(t), p)


def _norm(t: Tensor, p: Any) -> Tensor:
    size = functions["abs"](t)
    if p == "fro":
        return functions["sqrt"](functions["sum"](size * size, axis=(-2, -1)))
    if p == "nuc":
        return functions["sum"](functions["svd"](t, False)[1], axis=-1)
    if p not in (1, -1, math.inf, -math.inf):
        raise RabbetError(f"cond: p={p!r} must be None, 'fro', 'nuc', or one of 1, 2, inf, +-")
    lines = functions["sum"](size, axis=-2 if abs(p) == 1 else -1)
    return functions["max" if p > 0 else "min"](lines, axis=-1)


def matrix_exp(x: Any, /) -> Tensor:
    """The exponential of each square matrix (N. Higham, 2005); differentiable to any order.

    >>> rb.linalg.matrix_exp(rb.zeros((2, 2))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return functions["matrix_exp"](as_operand(x))


def multi_dot(arrays: Sequence[Any], /) -> Tensor:
    """The product of several matrices in the order that takes the fewest multiplications.

    The first and the last may be vectors. T. Cormen et al., "Introduction to algorithms", 15.2.

    >>> rb.linalg.multi_dot([rb.ones(2, 3), rb.ones(3, 4), rb.ones(4)]).tolist()
    [12.0, 12.0]
    """
    parts = [asarray(a) for a in arrays]
    if len(parts) < 2:
        raise ShapeError(f"multi_dot: {len(parts)} matrices; at least 2 are needed")
    first, last = parts[0].ndim == 1, parts[-1].ndim == 1
    parts[0] = parts[0][None] if first else parts[0]
    parts[-1] = parts[-1][:, None] if last else parts[-1]
    if any(p.ndim != 2 for p in parts):
        raise ShapeError(f"multi_dot: {', '.join(show(p.shape) for p in parts)}: matrices needed")
    found = _multiplied(parts, _best_cuts([parts[0].shape[0], *(p.shape[1] for p in parts)]))
    found = found[0] if first else found
    return found[..., 0] if last else found


def _best_cuts(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to cut the product of matrices i to j."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    cuts = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            cost[i, j], cuts[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )
    return cuts


def _multiplied(parts: list[Tensor], cuts: dict[tuple[int, int], int]) -> Tensor:
    def product(i: int, j: int) -> Tensor:
        if i == j:
            return parts[i]
        k = cuts[i, j]
        return matmul(product(i, k), product(k + 1, j))

    return product(0, len(parts) - 1)


def vander(x: Any, N: int | None = None) -> Tensor:
    """Powers 0 to N - 1 of each element: (..., n) -> (..., n, N), N = n if left out.

    >>> rb.linalg.vander(rb.asarray([2.0, 3.0]), 3).tolist()
    [[1.0, 2.0, 4.0], [1.0, 3.0, 9.0]]
    """
    t = as_operand(x)
    count = t.shape[-1] if N is None else N
    columns = [functions["ones_like"](t)]
    for _ in range(1, count):
        columns.append(columns[-1] * t)
    return functions["stack"](columns, axis=-1)[..., :count]


def tensorsolve(a: Any, b: Any, /) -> Tensor:
    """The x with tensordot(a, x, x.ndim) = b: (*b.shape, *x.shape), b -> x.

    >>> rb.linalg.tensorsolve(rb.eye(6).reshape(2, 3, 6), rb.ones(2, 3)).shape
    (6,)
    """
    t, right = as_operand(a), as_operand(b)
    shape = t.shape[right.ndim :]
    if t.shape[: right.ndim] != right.shape or math.prod(shape) != right.numel():
        raise ShapeError(f"tensorsolve: {show(t.shape)} and {show(right.shape)} do not fit")
    matrix = t.reshape((right.numel(), right.numel()))
    return solve(matrix, right.reshape((right.numel(),))).reshape(shape)


def tensorinv(a: Any, /, ind: int = 2) -> Tensor:
    """The inverse of `tensordot(a, _, a.ndim - ind)`; the first `ind` axes are the result's last.

    >>> rb.linalg.tensorinv(rb.eye(6).reshape(6, 2, 3), ind=1).shape
    (2, 3, 6)
    """
    t = as_operand(a)
    rows, columns = t.shape[:ind], t.shape[ind:]
    if math.prod(rows) != math.prod(columns):
        raise ShapeError(f"tensorinv: {show(rows)} and {show(columns)} have not the same size")
    n = math.prod(rows)
    return inv(t.reshape((n, n))).reshape((*columns, *rows))


def logdet(x: Any, /) -> Tensor:
    """The logarithm of each determinant; NaN where it is negative, -inf where it is 0.

    >>> rb.linalg.logdet(rb.eye(3)).item()
    0.0
    """
    sign, size = functions["slogdet"](as_operand(x))
    return functions["where"](sign < 0, math.nan, size)
