"""Systems of triangular matrices, block by block: nearly all of the work is products.

G. Golub and C. Van Loan, "Matrix Computations", section 3.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base import shapes, sizes
from rabbet.base.dtypes import int64
from rabbet.base.errors import IndexRangeError, LinAlgError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.arithmetic import negative
from rabbet.ops.checks import need_same_dtype
from rabbet.ops.contract import matmul
from rabbet.ops.gather_scatter import check_indices
from rabbet.ops.index_maps import aligned
from rabbet.ops.linalg import adjoint, check_square
from rabbet.ops.ranges import tril, triu

BLOCK = 32  # rows that are solved one by one; what lies beside them comes in by a product


def _spec(x1: Spec, x2: Spec, upper: bool, unit: bool) -> Spec:
    check_square("solve_triangular", x1)
    need_same_dtype("solve_triangular", x1=x1, x2=x2)
    if x2.ndim < 2 or not sizes.equal(x2.shape[-2], x1.shape[-1]):
        raise ShapeError(
            f"solve_triangular: {show(x1.shape)} and {show(x2.shape)} must be (..., n, n) and "
            "(..., n, k)"
        )
    stack = shapes.broadcast("solve_triangular", x1.shape[:-2], x2.shape[:-2])
    return x2.with_shape((*stack, *x2.shape[-2:]))


def _triangle(x: np.ndarray, upper: bool, unit: bool) -> np.ndarray:
    """What counts of matrices."""
    found = np.triu(x) if upper else np.tril(x)
    if unit:
        each = np.arange(x.shape[-1])
        found[..., each, each] = 1
    return found


def _solve(x1: np.ndarray, x2: np.ndarray, upper: bool, unit: bool) -> np.ndarray:
    n = x1.shape[-1]
    if not unit and not np.diagonal(x1, axis1=-2, axis2=-1).all():
        raise LinAlgError("solve_triangular: an element of the diagonal is 0")
    stack = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    found = np.array(np.broadcast_to(x2, (*stack, *x2.shape[-2:])))
    starts = range(0, n, BLOCK)
    with np.errstate(all="ignore"):
        for first in reversed(starts) if upper else starts:
            last = min(first + BLOCK, n)
            _take_off(found, x1, slice(first, last), slice(last, n) if upper else slice(first))
            for i in reversed(range(first, last)) if upper else range(first, last):
                known = slice(i + 1, last) if upper else slice(first, i)
                _take_off(found, x1, slice(i, i + 1), known)
                if not unit:
                    found[..., i, :] /= x1[..., i, i, None]
    return found


def _take_off(found: np.ndarray, x1: np.ndarray, rows: slice, known: slice) -> None:
    """What is known already, off the right-hand sides of some rows."""
    if (known.start or 0) < known.stop:
        found[..., rows, :] -= x1[..., rows, known] @ found[..., known, :]


def _reference(x1: np.ndarray, x2: np.ndarray, upper: bool, unit: bool) -> np.ndarray:
    """Row after row, in double precision."""
    wide = np.result_type(x1.dtype, np.float64)
    a = _triangle(x1.astype(wide), upper, unit)
    stack, n = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2]), x1.shape[-1]
    found = np.zeros((*stack, *x2.shape[-2:]), wide)
    for i in reversed(range(n)) if upper else range(n):
        known = slice(i + 1, n) if upper else slice(i)
        done = (a[..., i, None, known] @ found[..., known, :])[..., 0, :]
        found[..., i, :] = (x2[..., i, :] - done) / a[..., i, i, None]
    return found.astype(x2.dtype)


def _samples() -> list[Sample]:
    pairs = (
        *(((3, 3), (3, 2)), ((2, 3, 3), (3, 1)), ((4, 4), (2, 4, 3)), ((1, 1), (1, 1))),
        *(((0, 2, 2), (2, 2)), ((70, 70), (70, 2))),
    )
    return [
        Sample((Draw(a, kind="regular"), Draw(b)), {"upper": upper, "unit": unit}, grad=a[-1] < 70)
        for a, b in pairs
        for upper, unit in ((False, False), (True, False), (True, True))
        if not (unit and a[-1] == 70)  # numbers in the thousands
    ]


@op(
    "host",
    public=False,
    method=None,
    wirtinger=True,
    promote="float",
    infer=_spec,
    lower=_solve,
    reference=_reference,
    samples=_samples,
)
def solve_triangular(x1: Value, x2: Value, upper: bool = False, unit: bool = False) -> Value:
    """The x with x1 @ x = x2, of which one triangle of x1 counts; with `unit` its diagonal is 1."""


@solve_triangular.batching
def _solve_batch(size: int, flags: Flags, x1: Any, x2: Any, upper: bool, unit: bool) -> Any:
    ndim = max(x1.ndim - flags[0], x2.ndim - flags[1])
    wide = (aligned(x, f, ndim) for x, f in zip((x1, x2), flags, strict=True))
    return solve_triangular(*wide, upper, unit)


@solve_triangular.gradient
def _solve_gradient(g: Any, y: Any, x1: Any, x2: Any, upper: bool, unit: bool) -> tuple[Any, Any]:
    found, to = solve_triangular(adjoint(x1), g, not upper, unit), lookup("sum_to")
    first = to(negative(matmul(found, adjoint(y))), x1.shape)
    return (triu if upper else tril)(first, (1 if upper else -1) if unit else 0), to(
        found, x2.shape
    )


# ---- exchanges of rows ---------------------------------------------------------------------------


def _order_spec(pivots: Spec) -> Spec:
    check_indices("pivot_order", pivots)
    return pivots.with_dtype(int64)


def _order(pivots: np.ndarray) -> np.ndarray:
    count = pivots.shape[-1]
    if pivots.size and (pivots.min() < 1 or pivots.max() > count):
        raise IndexRangeError(
            f"pivots from {pivots.min()} to {pivots.max()} must be from 1 to {count}"
        )
    each = np.arange(pivots.size // count if count else 0)
    order = np.tile(np.arange(count, dtype=np.int64), (len(each), 1))
    places = pivots.reshape(order.shape).astype(np.int64) - 1
    for row in range(count):
        other = places[:, row]
        order[:, row], order[each, other] = order[each, other], order[:, row].copy()
    return order.reshape(pivots.shape)


@op(
    "host",
    public=False,
    method=None,
    differentiable=False,
    infer=_order_spec,
    lower=_order,
    reference=_order,
    samples=lambda: [
        Sample((Draw(s, 1, s[-1] + 1, "int"),)) for s in ((3,), (2, 4), (1,)) if s[-1]
    ],
)
def pivot_order(pivots: Value) -> Value:
    """Which rows lie where after exchanges: row i with row pivots[i] - 1, for i = 0, 1, ..."""
