"""Expansions of activation functions, where a formula of other rows would lose digits.

Each keeps a small relative error in its tail, down to the subnormal numbers, and has its limits at
the infinities. In float32, an exponent that is a product carries what its roundings lose.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rabbet.base.dtypes import float32, float64
from rabbet.expr import coefficients as c
from rabbet.expr.expr import Expr, bitcast, call, cast, select
from rabbet.expr.math_base import (
    DOUBLE,
    SINGLE,
    absolute,
    at_least,
    at_most,
    fma,
    number,
    polynomial,
    polynomial_in_pairs,
    residue,
    two_product,
    two_sum,
)
from rabbet.expr.math_exp import LOG2_E


def _split(value: float, bits: int) -> tuple[float, float]:
    """A number as its first `bits` bits, which float32 holds, and the rest."""
    unit = 2.0 ** (math.frexp(value)[1] - bits)
    high = round(value / unit) * unit
    return high, value - high


_SHIFT = 64.0  # float64 below -600: exp(x + 64), where the sum is exact, is a normal number
_FADING = -600.0
ROOT_HALF = math.sqrt(0.5)
TANH_LINEAR = 2 * math.sqrt(2 / math.pi)  # gelu of "tanh": x * sigmoid(x * (a + b * x * x))
TANH_CUBIC = TANH_LINEAR * 0.044715
_CONSTANT = _split(-LOG2_E * TANH_LINEAR, 12)  # float32's exponents are of powers of two
_SQUARE = _split(-LOG2_E * TANH_CUBIC, 24)
_LINEAR_REST, _CUBIC_REST = -9.9693088091109203e-17, -6.1751499181553155e-19  # what they lack
_GELU_OFFSET, _GELU_MIDDLE = 1.5, 0.49  # those of tools/fit_math.py
_FALLING_32 = tuple(x * (-1.0) ** (power + 1) for power, x in enumerate(c.EXP_32))


def _by_width(
    single: Callable[[Expr], Expr], double: Callable[[Expr], Expr]
) -> Callable[[Expr], Expr]:
    """float32 by `single`, float64 by `double`."""

    def expand(x: Expr) -> Expr:
        return double(x) if x.dtype is float64 else single(x)

    return expand


def _whole(exponent: Expr) -> Expr:
    """The whole number nearest to a small one, as a float."""
    return exponent + SINGLE.magic - SINGLE.magic


def _sigmoid_times(top: Expr, r: Expr, slope: Expr, n: Expr) -> Expr:
    """top / (1 + (1 + r * slope) * 2**n) for n from -72 to 210.

    Numbers are added in an order in which one rounding counts, whatever n is.
    """
    power = call("scale", number(1.0, top), -n)
    return call("scale", top / (fma(r, slope, power) + 1.0), -n)


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


def _silu_single(x: Expr) -> Expr:
    top = at_least(x, -120.0)
    inner = at_most(top, 40.0)
    n = _whole(inner * -LOG2_E)
    r = fma(n, -SINGLE.ln2_low, fma(n, -SINGLE.ln2_high, -inner))
    return _sigmoid_times(top, r, polynomial(r, (1.0, *c.EXP_32)), n)


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


def _gelu_single(x: Expr) -> Expr:
    """max(x, 0) - a * F(-a) with a = |x| and F the normal distribution function.

    F(-a) is exp(-a * a / 2) times (1 + share) / 2 / (a + 1.5), where the share, a polynomial in the
    quotient, is so small that its roundings hardly count: it is added to the quotient, not
    multiplied, as is exp(r) - 1 after it. What the exponent, the quotient and its product with a
    lose is carried along.
    """
    a = at_most(absolute(x), 14.5)
    below = a + _GELU_OFFSET
    lost = a - (below - _GELU_OFFSET)
    one = number(1.0, x)
    quotient = one / below
    excess = fma(quotient, lost, residue(quotient, below, one))

    half = a * 0.5
    size, size_lost = two_product(half, a)
    n = fma(size, -LOG2_E, SINGLE.magic) - SINGLE.magic
    near = fma(n, SINGLE.ln2_high, size)
    rest = fma(n, SINGLE.ln2_low, size_lost)
    r = near + rest
    falling = near + fma(r * r, polynomial(r, _FALLING_32), rest)  # 1 - exp(-r)

    base, base_lost = two_product(half, quotient)
    base_lost = fma(-base, excess, base_lost)
    share = polynomial_in_pairs(quotient - _GELU_MIDDLE, c.GELU_32)
    more = fma(base, share, fma(base_lost, share, base_lost))
    tail = call("scale", base + fma(-(base + more), falling, more), n)
    return at_least(x, -0.0) - tail


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


def _gelu_tanh_single(x: Expr) -> Expr:
    """x / (1 + 2**(x * slope)): the slope's first number has so few bits that its sum is exact."""
    top = at_least(x, -12.0)
    inner = at_most(top, 8.0)
    square, lost = two_product(inner, inner)
    slope = fma(square, _SQUARE[0], _CONSTANT[0])
    rest = residue(square, number(_SQUARE[0], x), slope - _CONSTANT[0])
    rest = fma(lost, _SQUARE[0], fma(square, _SQUARE[1], rest)) + _CONSTANT[1]
    exponent, lost = two_product(inner, slope)
    n = _whole(exponent)
    r = exponent - n + fma(inner, rest, lost)
    return _sigmoid_times(top, r, polynomial(r, c.EXP2_32), n)


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


def _mish_single(x: Expr) -> Expr:
    """In float64, with a polynomial just long enough."""
    top = at_least(cast(x, float64), -170.0)
    share = _mish_share(_short_exp(at_most(top, 40.0)), number(1.0, top))
    return cast(top * share, float32)


def _mish_full(x: Expr) -> Expr:
    top = at_least(x, -800.0)
    e, scale = _fading_exp(at_most(top, 40.0))
    return top * _mish_share(e, scale) * scale


silu = _by_width(_silu_single, _silu_full)
gelu = _by_width(_gelu_single, _gelu_full)
gelu_tanh = _by_width(_gelu_tanh_single, _gelu_tanh_full)
mish = _by_width(_mish_single, _mish_full)
