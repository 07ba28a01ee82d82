"""QR and singular value decompositions by LAPACK, as host ops over stacks of matrices.

Gradients: M. Giles, "An extended collection of matrix derivative results" (2008); J. Townsend,
"Differentiating the singular value decomposition" (2016); H. Liao et al., "Differentiable
programming tensor networks" (2019), for QR. For real matrices; singular values also for complex.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.errors import GradientError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.arithmetic import add, cast, divide, multiply, subtract
from rabbet.ops.axis_moves import unsqueeze
from rabbet.ops.compare import equal, where
from rabbet.ops.complex import part_of
from rabbet.ops.contract import matmul
from rabbet.ops.linalg import adjoint
from rabbet.ops.ranges import tril
from rabbet.ops.rules import check_kind
from rabbet.ops.triangular import solve_triangular


def _check_matrices(name: str, x: Spec) -> None:
    check_kind(name, x.dtype, "fc")
    if x.ndim < 2:
        raise ShapeError(f"{name}: {show(x.shape)} is no stack of matrices")


def _smaller(m: Dim, n: Dim) -> Dim:
    return m if m <= n else n  # asked of symbolic sizes, this is a guard


def _sum(first: Any, second: Any) -> Any:
    return second if first is None else add(first, second)


# ---- singular values -----------------------------------------------------------------------------


def _svd_spec(x: Spec, full_matrices: bool) -> tuple[Spec, Spec, Spec]:
    _check_matrices("svd", x)
    *stack, m, n = x.shape
    k = _smaller(m, n)
    left, right = (m, n) if full_matrices else (k, k)
    values = Spec((*stack, k), part_of(x.dtype), x.device)
    return x.with_shape((*stack, m, left)), values, x.with_shape((*stack, right, n))


def _svd(x: np.ndarray, full_matrices: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = np.linalg.svd(x, full_matrices)
    return found.U, found.S, found.Vh


@op(
    "host",
    public=False,
    wirtinger=True,
    promote="float",
    outputs=3,
    infer=_svd_spec,
    lower=_svd,
    reference=_svd,
    samples=lambda: [
        Sample((Draw(s),), {"full_matrices": f}, grad=not f)
        for s, f in (
            *(((3, 3), False), ((2, 4, 3), False), ((3, 5), False), ((1, 1), False)),
            *(((0, 3, 2), False), ((4, 2), True), ((2, 3, 4), True)),
        )
    ],
)
def svd(x: Value, full_matrices: bool = True) -> tuple[Value, Value, Value]:
    """U, the singular values in descending order, and V^H: x = U @ diag(S) @ V^H.

    (..., m, n) -> (..., m, k), (..., k), (..., k, n) with k = min(m, n); with `full_matrices` U is
    (m, m) and V^H is (n, n). Gradients of U and V^H need singular values that differ.
    """


@svd.gradient
def _svd_gradient(g: Any, y: Any, x: Any, full_matrices: bool) -> tuple[Any]:
    if (g[0] is not None or g[2] is not None) and (full_matrices or x.dtype.kind == "c"):
        kind = "complex matrices" if x.dtype.kind == "c" else "full matrices"
        raise GradientError(f"svd: U and Vh of {kind} have no gradient; singular values have")
    k = y[1].shape[-1]
    u, s, vh = _columns(y[0], k), y[1], _rows(y[2], k)
    v, inner = adjoint(vh), None
    row, column = unsqueeze(cast(s, x.dtype), -2), unsqueeze(cast(s, x.dtype), -1)
    if g[1] is not None:
        unit = lookup("eye").like(x, k, None, 0, x.dtype)
        inner = multiply(unit, unsqueeze(cast(g[1], x.dtype), -2))
    if g[0] is None and g[2] is None:
        return (matmul(matmul(u, inner), vh),)
    gap = multiply(subtract(row, column), add(row, column))  # (i, j): s_j^2 - s_i^2
    factor = where(equal(gap, 0.0), 0.0, divide(1.0, where(equal(gap, 0.0), 1.0, gap)))
    outside = None
    if g[0] is not None:
        turned = matmul(adjoint(u), g[0])
        spread = multiply(factor, turned)
        inner = _sum(inner, multiply(add(spread, adjoint(spread)), row))
        rest = divide(subtract(g[0], matmul(u, turned)), row)
        outside = matmul(rest, vh)
    if g[2] is not None:
        given = adjoint(g[2])
        turned = matmul(vh, given)
        spread = multiply(factor, turned)
        inner = _sum(inner, multiply(column, add(spread, adjoint(spread))))
        rest = adjoint(divide(subtract(given, matmul(v, turned)), row))
        outside = _sum(outside, matmul(u, rest))
    return (_sum(outside, matmul(matmul(u, inner), vh)),)


def _columns(x: Any, count: Dim) -> Any:
    """The first columns of matrices."""
    zero, one = (0,) * x.ndim, (1,) * x.ndim
    return lookup("slice")(x, zero, (*x.shape[:-1], count), one)


def _rows(x: Any, count: Dim) -> Any:
    zero, one = (0,) * x.ndim, (1,) * x.ndim
    return lookup("slice")(x, zero, (*x.shape[:-2], count, x.shape[-1]), one)


# ---- QR ------------------------------------------------------------------------------------------


def _qr_spec(x: Spec, complete: bool) -> tuple[Spec, Spec]:
    _check_matrices("qr", x)
    *stack, m, n = x.shape
    k = m if complete else _smaller(m, n)
    return x.with_shape((*stack, m, k)), x.with_shape((*stack, k, n))


def _qr(x: np.ndarray, complete: bool) -> tuple[np.ndarray, np.ndarray]:
    found = np.linalg.qr(x, "complete" if complete else "reduced")
    return found.Q, found.R


@op(
    "host",
    public=False,
    wirtinger=True,
    promote="float",
    outputs=2,
    infer=_qr_spec,
    lower=_qr,
    reference=_qr,
    samples=lambda: [
        Sample((Draw(s, kind="regular" if s[-1] == s[-2] else "float"),), {"complete": c}, grad=g)
        for s, c, g in (
            *(((3, 3), False, True), ((2, 4, 3), False, True), ((1, 1), False, True)),
            *(((2, 5), False, False), ((0, 3, 2), False, True), ((4, 2), True, False)),
        )
    ],
)
def qr(x: Value, complete: bool = False) -> tuple[Value, Value]:
    """Q with orthonormal columns and upper triangular R: x = Q @ R.

    (..., m, n) -> (..., m, k), (..., k, n) with k = min(m, n), or m if `complete`. Gradients are
    those of real matrices with at least as many rows as columns.
    """


@qr.gradient
def _qr_gradient(g: Any, y: Any, x: Any, complete: bool) -> tuple[Any]:
    q, r = y
    if complete or x.dtype.kind == "c" or r.shape[-1] > r.shape[-2]:
        raise GradientError("qr: only reduced factors of real, tall matrices have a gradient")
    inner = None
    if g[1] is not None:
        inner = matmul(r, adjoint(g[1]))
    if g[0] is not None:
        turned = matmul(adjoint(g[0]), q)
        inner = subtract(inner, turned) if inner is not None else multiply(turned, -1.0)
    lower = tril(inner, -1)
    mirrored = add(tril(inner, 0), adjoint(lower))
    found = _sum(g[0], matmul(q, mirrored))
    return (adjoint(solve_triangular(r, adjoint(found), True)),)
