"""rb.linalg: the array API's linear algebra, over stacks of matrices, with gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.graph.value import lookup
from rabbet.library.joining import broadcast_shapes
from rabbet.library.products import cross as cross
from rabbet.library.systems import LstsqResult as LstsqResult
from rabbet.library.systems import cholesky_inverse as cholesky_inverse
from rabbet.library.systems import cholesky_solve as cholesky_solve
from rabbet.library.systems import cond as cond
from rabbet.library.systems import cutoff
from rabbet.library.systems import householder_product as householder_product
from rabbet.library.systems import logdet as logdet
from rabbet.library.systems import lstsq as lstsq
from rabbet.library.systems import matrix_exp as matrix_exp
from rabbet.library.systems import multi_dot as multi_dot
from rabbet.library.systems import solve_triangular as solve_triangular
from rabbet.library.systems import tensorinv as tensorinv
from rabbet.library.systems import tensorsolve as tensorsolve
from rabbet.library.systems import vander as vander
from rabbet.ops.linalg import adjoint, check_square
from rabbet.tensor.create import zeros
from rabbet.tensor.lift import functions
from rabbet.tensor.tensor import Tensor, as_operand

__all__ = [
    *("LstsqResult", "cond", "logdet", "lstsq", "matrix_exp", "multi_dot", "solve_triangular"),
    *("EigResult", "LUFactors", "LUResult", "eig", "eigvals", "lu", "lu_factor", "lu_solve"),
    *("cholesky_inverse", "cholesky_solve", "householder_product", "lu_unpack"),
    *("tensorinv", "tensorsolve", "vander"),
    *("LinAlgError", "cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul"),
    *("matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr"),
    *("norm", "slogdet", "solve", "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm"),
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


class EigResult(NamedTuple):
    """What `eig` gives."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class LUResult(NamedTuple):
    """What `lu` gives."""

    P: Tensor
    L: Tensor
    U: Tensor


class LUFactors(NamedTuple):
    """What `lu_factor` gives."""

    LU: Tensor
    pivots: Tensor


def eig(x: Any, /) -> EigResult:
    """Eigenvalues, in no particular order, and eigenvectors of norm 1 (columns) of any square x.

    Both are complex. Gradients need eigenvalues that differ, and a result that does not depend on
    the phases of the vectors. Raises LinAlgError, when computed, where LAPACK does not converge.

    >>> rb.linalg.eig(rb.asarray([[0.0, 1.0], [-1.0, 0.0]])).eigenvalues.tolist()
    [1j, -1j]
    """
    return EigResult(*functions["eig"](as_operand(x)))


def eigvals(x: Any, /) -> Tensor:
    """The eigenvalues of `eig`."""
    return eig(x).eigenvalues


def lu_factor(a: Any, /) -> LUFactors:
    """L below the diagonal (its own is 1) and U in one matrix, and the pivots, for `lu_solve`.

    Pivots count from 1, as LAPACK's: row i was exchanged with row pivots[i], which holds the number
    of the largest |z|; LAPACK takes that of the largest |Re z| + |Im z| where numbers are complex.
    """
    packed, pivots, _ = functions["lu_factor"](as_operand(a))
    return LUFactors(packed, pivots)


def lu(a: Any, /) -> LUResult:
    """a = P @ L @ U: a permutation, lower triangular with ones, and upper triangular.

    (..., m, n) -> (..., m, m), (..., m, k), (..., k, n) with k = min(m, n). Gradients are those of
    square matrices.

    >>> rb.linalg.lu(rb.asarray([[0.0, 2.0], [1.0, 3.0]])).U.tolist()
    [[1.0, 3.0], [0.0, 2.0]]
    """
    packed, _, places = functions["lu_factor"](as_operand(a))
    return LUResult(_rows_at(packed, places), *_triangles(packed))


def _triangles(packed: Tensor) -> tuple[Tensor, Tensor]:
    """L and U, which `lu_factor` gives in one matrix."""
    m, n = packed.shape[-2:]
    k = min(m, n)
    unit = lookup("eye").like(packed, m, k, 0, packed.dtype)
    lower = functions["tril"](packed[..., :k], -1) + unit
    return lower, functions["triu"](packed[..., :k, :])


def _rows_at(packed: Tensor, places: Tensor) -> Tensor:
    """The rows of the unit matrix at `places`."""
    return lookup("eye").like(packed, packed.shape[-2], None, 0, packed.dtype)[places]


def lu_unpack(
    LU_data: Any, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True
) -> LUResult:
    """P, L and U with P @ L @ U = a, from what `lu_factor` gave for a.

    Parts that are not asked for are empty tensors, as in PyTorch.

    >>> a = rb.asarray([[0.0, 2.0], [1.0, 3.0]])
    >>> rb.linalg.lu_unpack(*rb.linalg.lu_factor(a)).P.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    packed, swaps = as_operand(LU_data), as_operand(LU_pivots)
    m, k = packed.shape[-2], min(packed.shape[-2:])
    if swaps.shape != (*packed.shape[:-2], k):
        raise ShapeError(
            f"lu_unpack: {show(packed.shape)} with pivots {show(swaps.shape)}; one for each of "
            f"{k} steps is needed"
        )
    none = zeros((0,), dtype=packed.dtype)
    lower, upper = _triangles(packed) if unpack_data else (none, none)
    if not unpack_pivots:
        return LUResult(none, lower, upper)
    # Rows that no step exchanges stay where they are.
    own = functions["expand"](
        lookup("iota").like(swaps, (m,), 0, swaps.dtype), (*swaps.shape[:-1], m)
    )
    all_swaps = functions["concat"]([swaps, own[..., k:] + 1], -1)
    order = functions["pivot_order"](all_swaps)
    return LUResult(matrix_transpose(_rows_at(packed, order)), lower, upper)


def lu_solve(LU: Any, pivots: Any, B: Any, /) -> Tensor:
    """The x with a @ x = B, from the factors of a that `lu_factor` gave.

    >>> a = rb.asarray([[0.0, 2.0], [1.0, 3.0]])
    >>> rb.linalg.lu_solve(*rb.linalg.lu_factor(a), rb.asarray([[2.0], [4.0]])).tolist()
    [[1.0], [1.0]]
    """
    packed, right, swaps = as_operand(LU), as_operand(B), as_operand(pivots)
    check_square("lu_solve", packed.spec)
    if right.ndim < 2 or swaps.shape != packed.shape[:-1]:
        raise ShapeError(
            f"lu_solve: {show(packed.shape)}, pivots {show(swaps.shape)}, B {show(right.shape)}: "
            "they must be (..., n, n), (..., n) and (..., n, k)"
        )
    shape = broadcast_shapes(packed.shape[:-2], right.shape[:-2])
    right = functions["expand"](right, (*shape, *right.shape[-2:]))
    order = functions["expand"](functions["pivot_order"](swaps), (*shape, swaps.shape[-1]))
    order = functions["expand"](order[..., None], right.shape)
    right = functions["take_along_axis"](right, order, -2)
    inner = functions["solve_triangular"](packed, right, False, True)
    return functions["solve_triangular"](packed, inner, True, False)


def slogdet(x: Any, /) -> SlogdetResult:
    """Sign and logarithm of the size of each determinant; (0, -inf) where it is 0.

    >>> rb.slogdet(-rb.eye(1)).sign.item()
    -1.0
    """
    return SlogdetResult(*functions["slogdet"](as_operand(x)))


def diagonal(x: Any, /, *, offset: int = 0) -> Tensor:
    """The diagonals of matrices, as their last axis."""
    return functions["diagonal"](as_operand(x), offset)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum of each diagonal."""
    return functions["sum"](diagonal(x, offset=offset), axis=-1, dtype=dtype)


def matrix_power(x: Any, n: int, /) -> Tensor:
    """Each matrix multiplied with itself; a negative power is one of the inverse.

    >>> rb.matrix_power(rb.asarray([[1.0, 1.0], [0.0, 1.0]]), 3).tolist()
    [[1.0, 3.0], [0.0, 1.0]]
    """
    t = as_operand(x)
    check_square("matrix_power", t.spec)
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
    """(sum of |x| ** ord) ** (1 / ord); largest for inf, smallest for -inf, count for 0.

    The gradient where the norm is 0 is 0.
    """
    t = functions["abs"](as_operand(x))
    given = {"axis": axis, "keepdims": keepdims}
    if ord in (float("inf"), float("-inf")):
        return functions["max" if ord > 0 else "min"](t, **given)
    if ord == 0:
        return functions["sum"]((t != 0).astype(t.dtype), **given)
    if ord == 1:
        return functions["sum"](t, **given)
    if ord < 0:
        return functions["sum"](t**ord, **given) ** (1.0 / ord)
    total = functions["sum"](t * t if ord == 2 else t**ord, **given)
    none = total == 0  # the root's slope there is infinite, and times 0 in the chain no number
    safe = functions["where"](none, 1.0, total)
    root = functions["sqrt"](safe) if ord == 2 else safe ** (1.0 / ord)
    return functions["where"](none, 0.0, root)


def norm(
    x: Any, /, ord: Any = None, *, axis: Any = None, keepdims: bool = False, dim: Any = None
) -> Tensor:
    """`vector_norm` along one axis, `matrix_norm` over two; NumPy's and PyTorch's `norm`.

    Without `ord` the root of the sum of squares, over all axes unless some are named. Without axes
    an `ord` needs a vector or a matrix (ShapeError).

    >>> rb.linalg.norm(rb.asarray([3.0, 4.0]))
    tensor(5.)
    """
    t = as_operand(x)
    axes = axis if dim is None else dim
    if ord is None or axes is not None and not isinstance(axes, list | tuple):
        return vector_norm(t, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    axes = tuple(range(t.ndim)) if axes is None else tuple(axes)
    if len(axes) == 1:
        return vector_norm(t, axis=axes[0], keepdims=keepdims, ord=ord)
    if len(axes) != 2:
        raise ShapeError(f"norm: ord={ord!r} over {len(axes)} axes of {show(t.shape)}; 1 or 2")
    first, second = (axis_of("norm", a, t.ndim) for a in axes)
    found = matrix_norm(functions["moveaxis"](t, (first, second), (-2, -1)), ord=ord)
    return functions["unsqueeze"](found, tuple(sorted((first, second)))) if keepdims else found


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """ "fro" (root of the sum of squares), 1 / -1 (columns), inf / -inf (rows) of each matrix.

    Of singular values: 2 (the largest), -2 (the smallest), "nuc" (their sum). Raises ValueError for
    other norms.
    """
    t = as_operand(x)
    if ord == "fro":
        return vector_norm(t, axis=(-2, -1), keepdims=keepdims)
    if ord in (2, -2, "nuc"):
        values = svdvals(t)
        name = "sum" if ord == "nuc" else "max" if ord == 2 else "min"
        found = functions[name](values, axis=-1)
        return found[..., None, None] if keepdims else found
    if ord not in (1, -1, float("inf"), float("-inf")):
        raise ValueError(f"matrix_norm: no norm is called {ord!r}; 'fro', 'nuc', 1, 2, inf, ...")
    sums = functions["sum"](functions["abs"](t), axis=-2 if abs(ord) == 1 else -1, keepdims=True)
    found = functions["max" if ord > 0 else "min"](sums, axis=(-2, -1), keepdims=True)
    return found if keepdims else functions["squeeze"](found, (-2, -1))


class QRResult(NamedTuple):
    """What `qr` gives."""

    Q: Tensor
    R: Tensor


class SVDResult(NamedTuple):
    """What `svd` gives."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """x = Q @ R with orthonormal columns in Q; `mode` is "reduced" or "complete".

    >>> rb.qr(rb.eye(2)).R.shape
    (2, 2)
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f'qr: mode is "reduced" or "complete", not {mode!r}')
    return QRResult(*functions["qr"](as_operand(x), mode == "complete"))


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """x = U @ diag(S) @ Vh, singular values in descending order.

    >>> rb.svd(rb.asarray([[3.0, 0.0], [0.0, 4.0]])).S.tolist()
    [4.0, 3.0]
    """
    return SVDResult(*functions["svd"](as_operand(x), full_matrices))


def svdvals(x: Any, /) -> Tensor:
    """The singular values, in descending order."""
    return svd(x, full_matrices=False).S


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Tensor:
    """How many singular values are larger than rtol times the largest, int64.

    `rtol` is max(m, n) times the dtype's epsilon if left out.

    >>> rb.matrix_rank(rb.ones(2, 2)).item()
    1
    """
    t = as_operand(x)
    if t.ndim < 2:
        raise ShapeError(f"matrix_rank: {show(t.shape)} is no stack of matrices")
    if 0 in t.shape[-2:]:
        return zeros(t.shape[:-2], dtype="int64")
    values = svdvals(t)
    return functions["count_nonzero"](values > cutoff(t, values, rtol), axis=-1)


def pinv(x: Any, /, *, rtol: Any = None) -> Tensor:
    """The pseudo-inverse (Moore, Penrose); singular values below rtol times the largest are 0.

    >>> rb.pinverse(rb.asarray([[2.0]])).tolist()
    [[0.5]]
    """
    t = as_operand(x)
    if 0 in t.shape[-2:]:
        return zeros((*t.shape[:-2], t.shape[-1], t.shape[-2]), dtype=t.dtype)
    u, s, vh = svd(t, full_matrices=False)
    large = s > cutoff(t, s, rtol)
    where = functions["where"]
    inverse = where(large, 1.0 / where(large, s, 1.0), 0.0).astype(t.dtype)
    return matmul(adjoint(vh) * inverse[..., None, :], adjoint(u))


def _norm_of(
    x: Tensor, p: Any = None, dim: Any = None, keepdim: bool = False, *, axis: Any = None
) -> Tensor:
    """The root of the sum of squares, or PyTorch's norm `p`, of all elements or along axes.

    >>> rb.norm(rb.asarray([3.0, 4.0])).item()
    5.0
    """
    axes = dim if axis is None else axis
    if p in (None, "fro", "nuc"):
        return norm(x, None if p == "fro" else p, axis=axes, keepdims=keepdim)
    chosen = tuple(range(x.ndim)) if axes is None else axes
    return vector_norm(x, axis=chosen, keepdims=keepdim, ord=float(p))


# PyTorch has these as methods, and some at the top level too.
METHODS: dict[str, Any] = {
    **{f.__name__: f for f in (slogdet, matrix_power, pinv, qr, svd, trace, cholesky, det)},
    **{f.__name__: f for f in (logdet, lstsq, matrix_exp, inv)},
    "inverse": inv,
    "pinverse": pinv,
    "norm": _norm_of,
}
for _name, _method in METHODS.items():
    setattr(Tensor, _name, _method)
inverse, pinverse, norm_of = inv, pinv, _norm_of
