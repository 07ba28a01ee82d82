"""Expansions of activation functions, where a formula of other rows would lose digits.

Each keeps a small relative error in its tail, down to the subnormal numbers, and has its limits at
the infinities. float32 is computed in float64 with polynomials just long enough for it: cheaper
than to carry the rounding errors along.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rabbet.base.dtypes import float32, float64
from rabbet.expr import coefficients as c
from rabbet.expr.expr import Expr, bitcast, call, cast, select
from rabbet.expr.math_base import (
    DOUBLE,
    absolute,
    at_least,
    at_most,
    fma,
    number,
    polynomial,
    two_product,
    two_sum,
)
from rabbet.expr.math_exp import LOG2_E

_SHIFT = 64.0  # float64 below -600: exp(x + 64), where the sum is exact, is a normal number
_FADING = -600.0
ROOT_HALF = math.sqrt(0.5)
TANH_LINEAR = 2 * math.sqrt(2 / math.pi)  # gelu of "tanh": x * sigmoid(x * (a + b * x * x))
TANH_CUBIC = TANH_LINEAR * 0.044715
_LINEAR_REST, _CUBIC_REST = -9.9693088091109203e-17, -6.1751499181553155e-19  # what they lack


def _in_float64(
    short: Callable[[Expr], Expr], full: Callable[[Expr], Expr]
) -> Callable[[Expr], Expr]:
    """float32 by `short` on float64 numbers, float64 by `full`."""

    def expand(x: Expr) -> Expr:
        if x.dtype is float64:
            return full(x)
        return cast(short(cast(x, float64)), float32)

    return expand


def _short_exp(x: Expr) -> Expr:
    """exp(x) of a float64 number, |x| < 700, with an error below 2**-26."""
    magic = DOUBLE.magic + DOUBLE.bias
    shifted = fma(x, LOG2_E, magic)
    r = fma(shifted - magic, -math.log(2), x)
    power = bitcast(bitcast(shifted, DOUBLE.unsigned) << DOUBLE.fraction, float64)
    return fma(fma(r, polynomial(r, c.EXP_32), 1.0) * r, power, power)


def _fading_exp(x: Expr) -> tuple[Expr, Expr]:
    """(e, s) with exp(x) = e * s, e not subnormal: for x down to -800, in float64."""
    far = x < _FADING
    e = call("exp", select(far, x + _SHIFT, x))
    return e, select(far, number(math.exp(-_SHIFT), x), number(1.0, x))


def _silu_short(x: Expr) -> Expr:
    top = at_least(x, -170.0)
    return top / (_short_exp(-at_most(top, 170.0)) + 1.0)


def _gate(top: Expr, exponent: Expr, rest: Expr | None = None) -> Expr:
    """top * sigmoid(exponent) for float64: the small factor of exp comes last.

    `rest` is what the exponent lost when it was rounded.
    """
    e, scale = _fading_exp(-absolute(exponent))
    negative = exponent < 0.0
    if rest is not None:
        e = fma(e, select(negative, rest, -rest), e)
    one = number(1.0, top)
    return select(negative, top * e, top) / (e * scale + 1.0) * select(negative, scale, one)


def _silu_full(x: Expr) -> Expr:
    top = at_least(x, -800.0)
    return _gate(top, top)


def _gelu_short(x: Expr) -> Expr:
    """max(x, 0) - a * F(-a) with a = |x| and F the normal distribution function.

    F(-a) is exp(-a * a / 2) times a polynomial in 1 / (a + 4).
    """
    a = at_most(absolute(x), 16.0)
    share = number(1.0, x) / (a + 4.0)
    tail = a * share * polynomial(share, c.GELU_32) * _short_exp(a * a * -0.5)
    return select(x < 0.0, -tail, x - tail)


def _gelu_full(x: Expr) -> Expr:
    """The same by erfcx; the square of a keeps the bits that it loses."""
    a = at_most(absolute(x), 40.0)
    z = a * ROOT_HALF
    share = number(4.0, x) / (z + 4.0)
    erfcx = polynomial((number(4.0, x) - z) / (z + 4.0), c.ERFCX_64) * share
    square, lost = two_product(a, a)
    e, scale = _fading_exp(square * -0.5)
    tail = a * erfcx * 0.5 * fma(e, lost * -0.5, e) * scale
    return select(x < 0.0, -tail, x - tail)


def _gelu_tanh_short(x: Expr) -> Expr:
    top = at_least(x, -12.0)
    inner = at_most(top, 12.0)
    exponent = inner * fma(inner * inner, -TANH_CUBIC, -TANH_LINEAR)
    return top / (_short_exp(exponent) + 1.0)


def _gelu_tanh_full(x: Expr) -> Expr:
    top = at_least(x, -30.0)
    inner = at_most(top, 30.0)
    square, square_rest = two_product(inner, inner)
    cubic, rest = two_product(square, number(TANH_CUBIC, x))
    rest += fma(square, _CUBIC_REST, square_rest * TANH_CUBIC)
    slope, slope_rest = two_sum(cubic, number(TANH_LINEAR, x))
    rest += slope_rest + _LINEAR_REST
    exponent, exponent_rest = two_product(inner, slope)
    return _gate(top, exponent, fma(inner, rest, exponent_rest))


def _mish_share(e: Expr, scale: Expr) -> Expr:
    """tanh(log(1 + e * scale)) / scale: with w = e (e + 2) it is w / (w + 2)."""
    w = e * (e * scale + 2.0)
    return w / (w * scale + 2.0)


def _mish_short(x: Expr) -> Expr:
    top = at_least(x, -170.0)
    return top * _mish_share(_short_exp(at_most(top, 40.0)), number(1.0, x))


def _mish_full(x: Expr) -> Expr:
    top = at_least(x, -800.0)
    e, scale = _fading_exp(at_most(top, 40.0))
    return top * _mish_share(e, scale) * scale


silu = _in_float64(_silu_short, _silu_full)
gelu = _in_float64(_gelu_short, _gelu_full)
gelu_tanh = _in_float64(_gelu_tanh_short, _gelu_tanh_full)
mish = _in_float64(_mish_short, _mish_full)
