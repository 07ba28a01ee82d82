"""Eigenvalues of any square matrix, and the LU factors, as host ops over stacks of matrices.

Gradients: C. Boeddeker et al., "On the computation of complex-valued gradients with application to
statistically optimum beamforming" (2017), for eigenvectors of norm 1; S. Axen, "Differentiating the
LU decomposition" (2021).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.base.dtypes import float32, int32, int64
from rabbet.base.errors import GradientError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.arithmetic import add, cast, divide, multiply, subtract
from rabbet.ops.axis_moves import unsqueeze
from rabbet.ops.compare import equal, where
from rabbet.ops.complex import real, whole_of
from rabbet.ops.contract import matmul
from rabbet.ops.gather_scatter import take_along_axis
from rabbet.ops.index_maps import expand
from rabbet.ops.linalg import adjoint, check_square, named, solve
from rabbet.ops.ranges import tril, triu
from rabbet.ops.rules import check_kind

LU_PANEL = 32  # columns that are eliminated one by one before the rest of a matrix hears of it


def _eig_spec(x: Spec) -> tuple[Spec, Spec]:
    check_square("eig", x)
    dtype = float32 if x.dtype.is_half else x.dtype
    dtype = dtype if dtype.kind == "c" else whole_of(dtype)
    return x.with_shape(x.shape[:-1]).with_dtype(dtype), x.with_dtype(dtype)


def _eig(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # LAPACK never ends on values that are not finite: NaN comes of such matrices.
    wild = ~np.isfinite(x).all((-2, -1))
    values, vectors = np.linalg.eig(np.where(wild[..., None, None], 0, x))
    wanted = np.result_type(x.dtype, np.complex64)
    values = np.where(wild[..., None], np.nan, values).astype(wanted)
    return values, np.where(wild[..., None, None], np.nan, vectors).astype(wanted)


@op(
    "host",
    public=False,
    method=None,
    wirtinger=True,
    promote="float",
    outputs=2,
    infer=_eig_spec,
    lower=named("eig", _eig),
    reference=_eig,
    # Vectors are defined up to a phase, of which finite differences know nothing.
    samples=lambda: [
        Sample((Draw(s, kind="definite"),), grad=False) for s in ((3, 3), (2, 4, 4), (1, 1))
    ],
)
def eig(x: Value) -> tuple[Value, Value]:
    """Eigenvalues in no particular order, and eigenvectors of norm 1 as columns; always complex.

    Gradients need eigenvalues that differ, and results that do not depend on a vector's phase.
    """


@eig.gradient
def _eig_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    values, vectors = y
    unit = lookup("eye").like(values, x.shape[-1], None, 0, values.dtype)
    inner = None
    if g[1] is not None:
        turned = matmul(adjoint(vectors), g[1])
        own = cast(real(multiply(turned, unit)), values.dtype)  # the norm does not change
        turned = subtract(turned, matmul(matmul(adjoint(vectors), vectors), own))
        gap = subtract(unsqueeze(values, -2), unsqueeze(values, -1))
        none = equal(gap, 0.0)
        gap = lookup("conj")(where(none, 1.0, gap))
        inner = where(none, 0.0, divide(turned, gap))
    if g[0] is not None:
        straight = multiply(unit, unsqueeze(g[0], -2))
        inner = straight if inner is None else add(inner, straight)
    found = solve(adjoint(vectors), matmul(inner, adjoint(vectors)))
    return (found if x.dtype.kind == "c" else real(found),)


# ---- LU ------------------------------------------------------------------------------------------


def _lu_spec(x: Spec) -> tuple[Spec, Spec, Spec]:
    check_kind("lu_factor", x.dtype, "fc")
    if x.ndim < 2:
        raise ShapeError(f"lu_factor: {show(x.shape)} is no stack of matrices")
    *stack, m, n = x.shape
    steps = m if m <= n else n
    return (
        x,
        x.with_shape((*stack, steps)).with_dtype(int32),
        x.with_shape((*stack, m)).with_dtype(int64),
    )


def _lu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian elimination with partial pivoting, of all matrices at once: panels of columns one by
    one, what lies behind a panel by products (G. Golub and C. Van Loan, section 3.4).
    """
    m, n = x.shape[-2:]
    flat = x.reshape((math.prod(x.shape[:-2]), m, n)).copy()
    each, steps = np.arange(len(flat)), min(m, n)
    pivots = np.zeros((len(flat), steps), np.int32)
    order = np.tile(np.arange(m), (len(flat), 1))
    for k in range(steps):
        first = k - k % LU_PANEL
        last = min(first + LU_PANEL, steps)
        if k == first:
            _behind(flat, k - LU_PANEL, k)
        at = k + np.abs(flat[:, k:, k]).argmax(1)
        pivots[:, k] = at + 1
        for rows in (flat, order):
            kept = rows[:, k].copy()
            rows[:, k] = rows[each, at]
            rows[each, at] = kept
        head = flat[:, k, k]
        head = np.where(head == 0, 1, head)[:, None]
        flat[:, k + 1 :, k] /= head
        flat[:, k + 1 :, k + 1 : last] -= flat[:, k + 1 :, k, None] * flat[:, k, None, k + 1 : last]
    _behind(flat, (steps - 1) // LU_PANEL * LU_PANEL, steps)
    shape = x.shape[:-2]
    back = np.argsort(order, 1)
    return flat.reshape(x.shape), pivots.reshape((*shape, steps)), back.reshape((*shape, m))


def _behind(flat: np.ndarray, first: int, last: int) -> None:
    """The rows of U and the rest of the matrices behind the panel of columns first to last."""
    if first < 0 or last >= flat.shape[-1]:
        return
    for k in range(first, last):
        flat[:, k + 1 : last, last:] -= flat[:, k + 1 : last, k, None] * flat[:, k, None, last:]
    flat[:, last:, last:] -= flat[:, last:, first:last] @ flat[:, first:last, last:]


@op(
    "host",
    public=False,
    method=None,
    wirtinger=True,
    promote="float",
    outputs=3,
    infer=_lu_spec,
    lower=_lu,
    reference=_lu,
    samples=lambda: [
        Sample((Draw(s, kind="regular" if s[-1] == s[-2] else "float"),), grad=s[-1] == s[-2])
        for s in ((3, 3), (2, 4, 4), (1, 1), (0, 3, 3), (2, 0, 3), (2, 5), (4, 3))
    ],
)
def lu_factor(x: Value) -> tuple[Value, Value, Value]:
    """L and U in one matrix, pivots, and where each row of `x` went to: (..., m, n) -> (..., m, n),
    (..., k) int32 from 1 on (row i was exchanged with that row), (..., m) int64; k = min(m, n).
    """


@lu_factor.gradient
def _lu_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    if x.shape[-1] != x.shape[-2]:
        raise GradientError("lu: only factors of square matrices have a gradient")
    packed, _, back = y
    unit = lookup("eye").like(packed, x.shape[-1], None, 0, packed.dtype)
    lower, upper, solved = add(tril(packed, -1), unit), triu(packed), lookup("solve_triangular")
    inner = add(
        tril(matmul(adjoint(lower), tril(g[0], -1)), -1),
        triu(matmul(triu(g[0]), adjoint(upper))),
    )
    right = adjoint(solved(upper, adjoint(inner), True))  # inner @ upper^-H
    found = solved(adjoint(lower), right, True, True)
    return (take_along_axis(found, expand(unsqueeze(back, -1), found.shape), -2),)
