"""Expansions of exp and its kin: exp2, expm1, sinh, cosh, tanh, sigmoid.

exp(x) = 2**n * exp(r) with n the integer nearest to x / ln 2 and |r| <= ln(2) / 2.
"""

from __future__ import annotations

from rabbet.expr import coefficients as c
from rabbet.expr.expr import Expr, bitcast, call, const, select
from rabbet.expr.math_base import (
    absolute,
    at_least,
    at_most,
    clamp,
    copysign,
    fma,
    format_of,
    number,
    pick,
    polynomial,
    quick_two_sum,
)

LOG2_E = 1.4426950408889634


def reduce_exp(x: Expr, offset: int) -> tuple[Expr, Expr, Expr]:
    """x = n * ln 2 + r + low: r, low, and an integer with n + offset in its low bits."""
    form = format_of(x)
    magic = form.magic + offset
    shifted = fma(x, LOG2_E, magic)
    n = shifted - magic
    near = fma(n, -form.ln2_high, x)
    r = fma(n, -form.ln2_low, near)
    return r, fma(n, -form.ln2_low, near - r), bitcast(shifted, form.unsigned)


def exp_minus_one(r: Expr) -> Expr:
    """exp(r) - 1 for |r| <= ln(2) / 2."""
    return fma(r * r, _exp_tail(r), r)


def exp_minus_one_exactly(r: Expr, low: Expr) -> Expr:
    """exp(r + low) - 1, where the rounding of r would show."""
    return r + fma(r * r, _exp_tail(r), low)


def _exp_tail(r: Expr) -> Expr:
    """(exp(r) - 1 - r) / r**2"""
    return polynomial(r, pick(r, c.EXP_32, c.EXP_64))


def scale_twice(p: Expr, encoded: Expr) -> Expr:
    """p * 2**n for any n of the dtype's range: `encoded` holds n + 2 * bias in its low bits.

    Two factors, each of a normal exponent, so that subnormal results are rounded once.
    """
    form = format_of(p)
    half = encoded >> 1
    first = bitcast(half << form.fraction, p.dtype)
    second = bitcast((encoded - half) << form.fraction, p.dtype)
    return p * first * second


def exp_normal(x: Expr) -> Expr:
    """exp(x) where the result is a normal number."""
    form = format_of(x)
    r, _, encoded = reduce_exp(x, form.bias)
    return (exp_minus_one(r) + 1.0) * bitcast(encoded << form.fraction, x.dtype)


def exp_fading(x: Expr) -> Expr:
    """exp(x) for x that is not positive (or hardly so); 0 where that is no normal number."""
    limit = -87.0 if format_of(x).fraction == 23 else -708.0
    return select(x < limit, const(0.0, x.dtype), exp_normal(x))


def _exp_times(x: Expr, exponent: int) -> Expr:
    """exp(x) * 2**exponent for x within the limits of `exp_range`."""
    r, _, encoded = reduce_exp(x, 2 * format_of(x).bias + exponent)
    return scale_twice(exp_minus_one(r) + 1.0, encoded)


def exp_range(x: Expr) -> tuple[float, float]:
    """Below the first exp is 0, above the second infinite."""
    return (-104.0, 89.0) if format_of(x).fraction == 23 else (-746.0, 710.0)


def exp(x: Expr) -> Expr:
    low, high = exp_range(x)
    form = format_of(x)
    x = clamp(x, low, high)
    n = fma(x, LOG2_E, form.magic) - form.magic
    r = fma(n, -form.ln2_low, fma(n, -form.ln2_high, x))
    return call("scale", exp_minus_one(r) + 1.0, n)


def exp2(x: Expr) -> Expr:
    form = format_of(x)
    x = clamp(x, -form.bias - form.fraction - 1.0, form.bias + 2.0)
    shifted = x + (form.magic + 2 * form.bias)
    r = x - (shifted - (form.magic + 2 * form.bias))
    p = fma(polynomial(r, pick(x, c.EXP2_32, c.EXP2_64)), r, 1.0)
    return scale_twice(p, bitcast(shifted, form.unsigned))


def expm1(x: Expr) -> Expr:
    """2**n * (exp(r) - 1) + (2**n - 1), with half of 2**n so that n = 128 fits."""
    form = format_of(x)
    low = -20.0 if form.fraction == 23 else -40.0  # the result is -1 from here
    r, r_low, encoded = reduce_exp(clamp(x, low, exp_range(x)[1]), form.bias - 1)
    half = bitcast(encoded << form.fraction, x.dtype)
    result = fma(half, exp_minus_one_exactly(r, r_low), half - 0.5) * 2.0
    return select(absolute(x) < 2.0 ** (-form.fraction - 2), x, result)


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e) or e / (1 + e) with e = exp(-|x|).

    The roundings of e and of 1 + e would add to more than 2 ulp, so their errors are carried.
    """
    size = at_least(-absolute(x), exp_range(x)[0])
    r, _, encoded = reduce_exp(size, 2 * format_of(x).bias)
    p, p_low = quick_two_sum(number(1.0, x), exp_minus_one(r))
    small = scale_twice(p, encoded)
    total, total_low = quick_two_sum(number(1.0, x), small)
    negative = x < 0.0
    quotient = select(negative, small, number(1.0, x)) / total
    error = select(negative, p_low - total_low, -total_low)
    return fma(quotient, error, quotient)


def sinh(x: Expr) -> Expr:
    size = absolute(x)
    half = _half_exp(size)
    z = x * x
    near = fma(x * z, polynomial(z, pick(x, c.SINH_32, c.SINH_64)), x)
    return select(size < 1.0, near, copysign(half - const(0.25, x.dtype) / half, x))


def cosh(x: Expr) -> Expr:
    half = _half_exp(absolute(x))
    return half + const(0.25, x.dtype) / half


def _half_exp(size: Expr) -> Expr:
    """exp(size) / 2, finite a little longer than exp."""
    return _exp_times(at_most(size, exp_range(size)[1] + 1.0), -1)


def tanh(x: Expr) -> Expr:
    size = absolute(x)
    limit = 10.0 if format_of(x).fraction == 23 else 20.0  # the result is 1 from here
    grown = exp_normal(at_most(size, limit) * 2.0)
    far = const(1.0, x.dtype) - const(2.0, x.dtype) / (grown + 1.0)
    z = x * x
    near = fma(size * z, polynomial(z, pick(x, c.TANH_32, c.TANH_64)), size)
    return copysign(select(size < 0.625, near, far), x)
