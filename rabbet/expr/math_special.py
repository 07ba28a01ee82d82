"""Expansions of erf, erfinv, lgamma and digamma."""

from __future__ import annotations

import math

from rabbet.base.dtypes import float32
from rabbet.expr import coefficients as c
from rabbet.expr.expr import Expr, call, const, select
from rabbet.expr.math_base import (
    INF,
    NAN,
    absolute,
    at_most,
    bits_of,
    copysign,
    fma,
    number,
    pick,
    polynomial,
    through_double,
)
from rabbet.expr.math_exp import exp_normal
from rabbet.expr.math_log import finish_log, reduce_log


def erf(x: Expr) -> Expr:
    """A polynomial below 1; above, 1 - exp(-q) with a polynomial q = -log(erfc)."""
    a = absolute(x)
    z = x * x
    near = fma(x, polynomial(z, pick(x, c.ERF_32, c.ERF_64)), x)
    limit, middle = (4.0, 1.0) if x.dtype is float32 else (6.0, 1.0)
    t = at_most(a, limit) - middle
    q = polynomial(t, pick(x, c.ERF_TAIL_32, c.ERF_TAIL_64))
    far = copysign(const(1.0, x.dtype) - exp_normal(-q), x)
    return select(a < 1.0, near, far)


def erfinv(x: Expr) -> Expr:
    """x * P(w) with w = -log(1 - x*x), in pieces of w (the form of M. Giles, 2010)."""
    one = number(1.0, x)
    w = -call("log", (one - x) * (one + x))
    root = call("sqrt", w)
    if x.dtype is float32:
        near = polynomial(w - 2.5, c.ERFINV_0_32)
        ratio = select(w < 5.0, near, polynomial(root - 3.0, c.ERFINV_1_32))
    else:
        near = polynomial(w - 3.125, c.ERFINV_0_64)
        middle = polynomial(root - 3.25, c.ERFINV_1_64)
        far = select(root < 4.0, middle, polynomial(root - 5.0, c.ERFINV_2_64))
        ratio = select(w < 6.25, near, far)
    return select(absolute(x).equals(1.0), x * INF, x * ratio)


# ------------------------------------------------------------------------------ gamma function


def _sine_pi(x: Expr) -> tuple[Expr, Expr]:
    """sin and cos of pi * f, f = x less the nearest integer (so the sign of sin is that of f)."""
    f = x - call("round", x)
    quarter = absolute(f) > 0.25
    # Past pi/4 from the complement: |f| to 1/2 - |f|.
    g = select(quarter, number(0.5, x) - absolute(f), absolute(f)) * math.pi
    z = g * g
    sine = fma(g * z, polynomial(z, c.SIN_64), g)
    cosine = fma(z * z, polynomial(z, c.COS_64), number(1.0, x) - z * 0.5)
    return copysign(select(quarter, cosine, sine), f), select(quarter, sine, cosine)


def _fold_gamma(a: Expr, steps: int, overlap: float) -> tuple[Expr, Expr, list[Expr]]:
    """y in [1, 2 + overlap), a - y, and the t with gamma(a) = gamma(y) * product(t).

    For 1 <= a < 2 + steps.
    """
    count = call("floor", a - overlap) - 1.0
    count = select(count < 0.0, number(0.0, a), count)
    used = [(count > float(k)) for k in range(steps)]
    one = number(1.0, a)
    factors = [select(use, a - (k + 1.0), one) for k, use in enumerate(used)]
    return a - count, count, factors


def _lgamma(x: Expr) -> Expr:
    """log|gamma(x)|; inf at the poles. Near the zeros below 0 the error is absolute, not ulp."""
    a = absolute(x)
    one = number(1.0, x)
    large, small = a >= 8.0, a < 1.0
    inside = select(large, one, select(small, a + 1.0, a))
    y, _, factors = _fold_gamma(inside, 6, 0.5)
    product = one
    for factor in factors:
        product = product * factor
    product = select(small, a, product)
    log = _log(select(large, a, product))
    # The zeros at 1 and 2 from the exact argument: a + 1 has lost bits.
    zeros = select(small, a * (a - 1.0), (y - 1.0) * (y - 2.0))
    near = zeros * polynomial(y - 1.75, c.LGAMMA_64)
    near = near + select(small, -log, log)
    inverse = one / select(large, a, one)
    series = inverse * polynomial(inverse * inverse, c.STIRLING_64)
    half_log_2pi = 0.9189385332046728
    stirling = (a - 0.5) * (log - 1.0) + (series + (half_log_2pi - 0.5))
    # Products with an infinite logarithm: huge arguments overflow as they should.
    positive = select(large, stirling, near)
    sine = absolute(_sine_pi(x)[0])
    reflected = _log(const(math.pi, x.dtype) / (a * sine)) - positive
    # Tiny arguments: 1 / (a * sin) would overflow.
    reflected = select(a < 2.0**-60, positive, reflected)
    negative = x < 0.0
    pole = x.equals(0.0) | (negative & sine.equals(0.0)) | a.equals(INF)
    result = select(pole, number(INF, x), select(negative, reflected, positive))
    return select(x.differs(x), x, result)


def _log(x: Expr) -> Expr:
    """log of a positive finite number."""
    return finish_log(*reduce_log(x))


def _digamma(x: Expr) -> Expr:
    """Recurrence into [1, 2], where it is (y - root) * P; from 10 on the asymptotic series.

    NaN at the negative poles, -inf at 0. Near the zeros below 0 the error is absolute, not in ulp.
    """
    a = absolute(x)
    one = number(1.0, x)
    large, small = a >= 10.0, a < 1.0
    inside = select(large, one, select(small, a + 1.0, a))
    y, count, factors = _fold_gamma(inside, 8, 0.0)
    # The sum of 1 / t as one quotient.
    top, bottom = number(0.0, x), one
    for k, factor in enumerate(factors):
        top = select(count > float(k), top * factor + bottom, top)
        bottom = bottom * factor
    shift = select(small, number(-1.0, x), top) / select(small, a, bottom)
    offset = (y - c.DIGAMMA_ROOT[0]) - c.DIGAMMA_ROOT[1]
    near = fma(offset, polynomial(y - 1.5, c.DIGAMMA_64), shift)
    far_a = select(large, a, one)
    inverse = one / far_a
    z = inverse * inverse
    far = _log(far_a) - (inverse * 0.5 + z * polynomial(z, c.DIGAMMA_REST_64))
    positive = select(large, far, near)
    sine, cosine = _sine_pi(a)
    reflected = positive + one / a + cosine * math.pi / sine
    negative = bits_of(x) < 0
    result = select(negative, reflected, positive)
    bad = negative & (sine.equals(0.0) | a.equals(INF))
    result = select(bad, number(NAN, x), result)
    infinite = x.equals(0.0)
    result = select(infinite, copysign(number(INF, x), -x), result)
    return select(x.equals(INF), x, result)


lgamma = through_double(_lgamma)
digamma = through_double(_digamma)
