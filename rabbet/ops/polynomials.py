"""Orthogonal polynomials by their recurrences.

M. Abramowitz and I. Stegun, "Handbook of Mathematical Functions", chapter 22.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.create import ones_like
from rabbet.ops.error_functions import in_double

MOST = 400  # the highest degree: a polynomial is written out

Next = Callable[[int, Any, Any, Any], Any]  # (k, x, p of k, p of k - 1) -> p of k + 1


def _declare(name: str, title: str, first: Callable[[Any], Any], following: Next) -> Any:
    """The op of a family: 1, `first`, and then each from the two before."""

    def found(x: Any, one: Any, n: int) -> Any:
        if n == 0:
            return one
        last, here = one, first(x)
        for k in range(1, n):
            last, here = here, following(k, x, here, last)
        return here

    def reference(x: np.ndarray, n: int) -> np.ndarray:
        wide = np.asarray(x, np.float64)
        return np.asarray(found(wide, np.ones_like(wide), n))

    def samples() -> list[Sample]:
        return [
            Sample((Draw(s, -0.95, 0.95),), {"n": n})
            for s, n in (((3, 4), 5), ((5,), 0), ((), 1), ((2,), 12))
        ]

    def body(x: Value, n: int) -> Value:
        if not 0 <= n <= MOST:
            raise RabbetError(f"{name}: n={n} must be from 0 to {MOST}")
        return in_double(name, lambda x: found(x, ones_like(x), n), x)

    body.__name__ = name
    body.__module__ = __name__
    body.__doc__ = f"""{title} of degree `n`, an int from 0 to {MOST}.

    >>> rb.special.{name}(rb.asarray([0.0]), 0)
    tensor([1.])
    """
    return op("composite", promote="float", method=None, reference=reference, samples=samples)(body)


def _twice(k: int, x: Any, here: Any, last: Any) -> Any:
    return 2.0 * x * here - last


def _legendre(k: int, x: Any, here: Any, last: Any) -> Any:
    return (2 * k + 1) / (k + 1) * x * here - k / (k + 1) * last


def _laguerre(k: int, x: Any, here: Any, last: Any) -> Any:
    return ((2 * k + 1) / (k + 1) - x * (1 / (k + 1))) * here - k / (k + 1) * last


_CHEBYSHEV = "Chebyshev's polynomial of the"
chebyshev_polynomial_t = _declare(
    "chebyshev_polynomial_t", f"{_CHEBYSHEV} first kind", lambda x: 1.0 * x, _twice
)
chebyshev_polynomial_u = _declare(
    "chebyshev_polynomial_u", f"{_CHEBYSHEV} second kind", lambda x: 2.0 * x, _twice
)
chebyshev_polynomial_v = _declare(
    "chebyshev_polynomial_v", f"{_CHEBYSHEV} third kind", lambda x: 2.0 * x - 1.0, _twice
)
chebyshev_polynomial_w = _declare(
    "chebyshev_polynomial_w", f"{_CHEBYSHEV} fourth kind", lambda x: 2.0 * x + 1.0, _twice
)
legendre_polynomial_p = _declare(
    "legendre_polynomial_p", "Legendre's polynomial", lambda x: 1.0 * x, _legendre
)
hermite_polynomial_h = _declare(
    "hermite_polynomial_h",
    "Hermite's polynomial, physicists' form,",
    lambda x: 2.0 * x,
    lambda k, x, here, last: 2.0 * x * here - 2.0 * k * last,
)
hermite_polynomial_he = _declare(
    "hermite_polynomial_he",
    "Hermite's polynomial, probabilists' form,",
    lambda x: 1.0 * x,
    lambda k, x, here, last: x * here - float(k) * last,
)
laguerre_polynomial_l = _declare(
    "laguerre_polynomial_l", "Laguerre's polynomial", lambda x: 1.0 - x, _laguerre
)
