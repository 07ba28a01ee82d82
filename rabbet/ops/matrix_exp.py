"""The exponential of matrices: scaling, a rational approximation of order 13, squaring.

N. Higham, "The scaling and squaring method for the matrix exponential revisited" (2005), as a host
op. The gradient is the derivative of exp at x^H along g: a block of the exponential of
[[x^H, g], [0, x^H]] (R. Mathias, "A chain rule for matrix functions", 1996), so it has all orders.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.create import zeros_like
from rabbet.ops.index_maps import cut
from rabbet.ops.joining import concat
from rabbet.ops.linalg import adjoint, check_square

_ORDER = 13
_LARGEST = 5.371920351148152  # the 1-norm up to which the approximation is exact to 2**-53


def _spec(x: Spec) -> Spec:
    check_square("matrix_exp", x)
    return x


def _coefficients() -> list[float]:
    """Of the numerator of the diagonal Pade approximation, divided by the first."""
    found = [1.0]
    for k in range(1, _ORDER + 1):
        found.append(found[-1] * (_ORDER - k + 1) / (k * (2 * _ORDER - k + 1)))
    return found


def _exponential(x: np.ndarray) -> np.ndarray:
    n = x.shape[-1]
    wide = x.astype(np.result_type(x.dtype, np.float64))
    if not wide.size:
        return x.copy()
    norm = np.abs(wide).sum(-2).max(-1)
    with np.errstate(divide="ignore"):
        halvings = np.ceil(np.log2(norm / _LARGEST))
    halvings = np.where(np.isfinite(norm), np.clip(halvings, 0, 2000), 0).astype(int)
    part = wide * np.exp2(-halvings.astype(np.float64))[..., None, None]
    unit, square = np.eye(n), part @ part
    even, odd = np.zeros_like(part), np.zeros_like(part)
    c = _coefficients()
    for k in reversed(range(0, _ORDER + 1, 2)):  # Horner's rule in the square
        even = even @ square + c[k] * unit
        odd = odd @ square + c[k + 1] * unit
    odd = part @ odd
    bad = ~np.isfinite(norm)
    bottom = np.where(bad[..., None, None], unit, even - odd)
    found = np.linalg.solve(bottom, even + odd)
    for step in range(int(halvings.max(initial=0))):
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.where((step < halvings)[..., None, None], found @ found, found)
    with np.errstate(over="ignore"):
        return np.where(bad[..., None, None], np.nan, found).astype(x.dtype)


def _series(x: np.ndarray) -> np.ndarray:
    """The sum of x^k / k! after 2^10 parts, in double precision: for matrices of moderate size."""
    part = x.astype(np.result_type(x.dtype, np.float64)) / 1024
    found = term = np.broadcast_to(np.eye(x.shape[-1]), x.shape).astype(part.dtype)
    for k in range(1, 12):
        term = term @ part / k
        found = found + term
    for _ in range(10):
        found = found @ found
    return found.astype(x.dtype)


@op(
    "host",
    public=False,
    method=None,
    wirtinger=True,
    promote="float",
    infer=_spec,
    lower=_exponential,
    reference=_series,
    samples=lambda: [
        Sample((Draw(s, -a, a),))
        for s, a in (
            ((3, 3), 2.0),
            ((2, 4, 4), 1.0),
            ((1, 1), 2.0),
            ((0, 3, 3), 1.0),
            ((2, 2), 5.0),
        )
    ],
)
def matrix_exp(x: Value) -> Value:
    """The exponential of each square matrix: the sum of x^k / k!.

    (..., n, n) -> (..., n, n).

    >>> rb.linalg.matrix_exp(rb.zeros((2, 2))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """


@matrix_exp.gradient
def _matrix_exp_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    n, turned = x.shape[-1], adjoint(x)
    top = concat([turned, g], -1)
    bottom = concat([zeros_like(x), turned], -1)
    whole = matrix_exp(concat([top, bottom], -2))
    return (cut(cut(whole, whole.ndim - 2, 0, n), whole.ndim - 1, n, n + n),)
