"""Orthogonal polynomials against NumPy's series and the cosines that they are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy import polynomial

import rabbet as rb

X = np.linspace(-0.97, 0.97, 9)
A = np.arccos(X)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_families(n: int) -> None:
    unit = [0.0] * n + [1.0]
    wanted = {
        "chebyshev_polynomial_t": np.cos(n * A),
        "chebyshev_polynomial_u": np.sin((n + 1) * A) / np.sin(A),
        "chebyshev_polynomial_v": np.cos((n + 0.5) * A) / np.cos(0.5 * A),
        "chebyshev_polynomial_w": np.sin((n + 0.5) * A) / np.sin(0.5 * A),
        "legendre_polynomial_p": polynomial.legendre.legval(X, unit),
        "hermite_polynomial_h": polynomial.hermite.hermval(X, unit),
        "hermite_polynomial_he": polynomial.hermite_e.hermeval(X, unit),
        "laguerre_polynomial_l": polynomial.laguerre.lagval(X, unit),
    }
    for name, values in wanted.items():
        found = getattr(rb.special, name)(rb.asarray(X), n).numpy()
        np.testing.assert_allclose(found, values, rtol=1e-10, atol=1e-11, err_msg=name)
    with pytest.raises(rb.RabbetError, match="must be from 0"):
        rb.special.legendre_polynomial_p(rb.asarray(X), -1)
