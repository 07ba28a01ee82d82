"""Expansions of sin, cos and tan, with exact argument reduction over the whole range.

x = (4 k + q) * pi/2 + r with |r| <= pi/4. The product x * (2/pi) modulo 4 needs only those bits of
2/pi that meet the bits of x (Payne and Hanek): float32 takes them as four float64 parts for each 32
exponents, float64 as 192 bits chosen by the exponent.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from rabbet.base.dtypes import float32, float64, uint64
from rabbet.expr import coefficients as c
from rabbet.expr.expr import Expr, bitcast, call, cast, const, select
from rabbet.expr.math_base import (
    absolute,
    bits_of,
    fma,
    is_nan,
    nearest_integer,
    number,
    polynomial,
    quick_two_sum,
    two_product,
    two_sum,
)

Pair: TypeAlias = tuple[Expr, Expr]

HALF_PI = (1.5707963267948966, 6.123233995736766e-17)


def sin(x: Expr) -> Expr:
    quadrant, r = _reduce(x)
    sine, cosine = (high + low for high, low in _sin_cos(*r))
    return _finish(x, _sign(_even(quadrant, sine, cosine), quadrant, 0), odd=True)


def cos(x: Expr) -> Expr:
    quadrant, r = _reduce(x)
    sine, cosine = (high + low for high, low in _sin_cos(*r))
    return _finish(x, _sign(_even(quadrant, cosine, sine), quadrant, 1), odd=False)


def tan(x: Expr) -> Expr:
    quadrant, r = _reduce(x)
    sine, cosine = (quick_two_sum(*pair) for pair in _sin_cos(*r))
    top = [_even(quadrant, even, -odd) for even, odd in zip(sine, cosine, strict=True)]
    bottom = [_even(quadrant, even, odd) for even, odd in zip(cosine, sine, strict=True)]
    quotient = top[0] / bottom[0]
    if x.dtype is float64:  # three roundings would come close to 2 ulp
        quotient = quotient + (top[1] - quotient * bottom[1]) / bottom[0]
    return _finish(x, quotient, odd=True)


def _even(quadrant: Expr, even: Expr, odd: Expr) -> Expr:
    return select((quadrant & 1).equals(0), even, odd)


def _sign(value: Expr, quadrant: Expr, ahead: int) -> Expr:
    """Negative in the second half of the turn."""
    return select(((quadrant + ahead) & 2).equals(0), value, -value)


def _finish(x: Expr, result: Expr, *, odd: bool) -> Expr:
    """Back to x's dtype; zeros keep their sign, infinities give NaN."""
    if x.dtype is float32:
        result = cast(result, float32)
        result = select(x.equals(0.0), x, result) if odd else result
    elif odd:
        negative = bits_of(x) < 0
        result = select(negative, -result, result)
    return select(is_nan(x - x), x - x, result)


def _reduce(x: Expr) -> tuple[Expr, tuple[Expr, Expr | None]]:
    """The quadrant as an integer, and the float64 remainder as a sum (of |x| for float64)."""
    if x.dtype is float32:
        return _reduce_single(cast(x, float64))
    return _reduce_double(absolute(x))


def _sin_cos(r: Expr, low: Expr | None) -> tuple[Pair, Pair]:
    """Sine and cosine of r + low, each as a sum; without `low` in the accuracy of float32."""
    z = r * r
    half = z * 0.5
    one = number(1.0, r)
    if low is None:
        sine = r * z * polynomial(z, c.SIN_32)
        return (r, sine), (one - half, z * z * polynomial(z, c.COS_32))
    sine = fma(r * z, polynomial(z, c.SIN_64), low * (one - half))
    top = one - half
    rest = ((one - top) - half) + fma(z * z, polynomial(z, c.COS_64), -(r * low))
    return (r, sine), (top, rest)


# --------------------------------------------------------------------------------- float32


def _fraction_bits(first: int, last: int) -> int:
    """Bits of 2/pi of weight 2**-first down to 2**-last; those before the point are 0."""
    return (c.TWO_OVER_PI >> (c.TWO_OVER_PI_BITS - last)) & ((1 << (last - first + 1)) - 1)


# For |x| in [2**(32 g), 2**(32 g + 32)): x * 2**(-32 g) is a multiple of 2**-23 (g > 0), so that
# bits of 2**(32 g) * 2/pi of weight 2**25 and more give multiples of 4. 29 bits times 24 are exact.
_PARTS = ((-24, 4), (5, 33), (34, 62), (63, 114))


def _part(group: int, first: int, last: int) -> float:
    bits = _fraction_bits(first + 32 * group, last + 32 * group)
    return math.ldexp(float(bits), -last)


def _reduce_single(x: Expr) -> tuple[Expr, tuple[Expr, None]]:
    size = absolute(x)
    large = [size >= 2.0 ** (32 * g) for g in (1, 2, 3)]

    def choose(values: list[float]) -> Expr:
        chosen = const(values[0], x.dtype)
        for condition, value in zip(large, values[1:], strict=True):
            chosen = select(condition, const(value, x.dtype), chosen)
        return chosen

    scaled = x * choose([2.0 ** (-32 * g) for g in range(4)])
    products = [scaled * choose([_part(g, *part) for g in range(4)]) for part in _PARTS]
    first, second = (_modulo_4(p) for p in products[:2])
    n, whole = nearest_integer(first + second + products[2])
    total, error = two_sum(first - n, second)
    fraction = (total + products[2]) + (error + products[3])
    return whole, (fraction * HALF_PI[0], None)


def _modulo_4(x: Expr) -> Expr:
    """x less the nearest multiple of 4, exactly."""
    return x - call("round", x * 0.25) * 4.0


# --------------------------------------------------------------------------------- float64

# M * 2**E times a bit of 2/pi of weight 2**-j is a multiple of 4 when j < E - 1. So the window
# begins at bit E - 1; 64 zeros ahead of the point keep its place positive. Words count from there.
_LEAD = 64
_WORDS = 20
_MASK = (1 << 32) - 1


def _word(number_: int) -> int:
    first = 64 * number_ + 1 - _LEAD
    return _fraction_bits(first, first + 63)


def _window(place: Expr) -> list[Expr]:
    """192 bits of 2/pi from bit `place` (0 to 1087) on, as three 64-bit words, highest first."""
    index, shift = place >> 6, place & 63
    words = [const(_word(n) if n < _WORDS else 0, uint64) for n in range(_WORDS + 16)]
    for step, keep in ((16, 19), (8, 11), (4, 7), (2, 5), (1, 4)):
        ahead = (index & step).differs(0)
        words = [select(ahead, words[n + step], words[n]) for n in range(keep)]
    back = const(64, uint64) - shift
    return [(words[n] << shift) | (words[n + 1] >> back) for n in range(3)]


def _limbs(words: list[Expr]) -> list[Expr]:
    """32-bit limbs, lowest first."""
    return [part for word in reversed(words) for part in (word & _MASK, word >> 32)]


def _times(significand: Expr, limbs: list[Expr]) -> list[Expr]:
    """The product modulo 2**192, as 32-bit limbs: row by row, each sum below 2**64."""
    low, high = significand & _MASK, significand >> 32
    result: list[Expr] = []
    carry = const(0, uint64)
    for limb in limbs:
        total = low * limb + carry
        result.append(total & _MASK)
        carry = total >> 32
    carry = const(0, uint64)
    for n, limb in enumerate(limbs[:-1]):
        total = high * limb + result[n + 1] + carry
        result[n + 1] = total & _MASK
        carry = total >> 32
    return result


def _small_float(x: Expr, exponent: int) -> Expr:
    """A uint64 below 2**52 as a float64 times 2**exponent."""
    base = const(2.0**52, float64)
    return (bitcast(x | bitcast(base, uint64), float64) - 2.0**52) * 2.0**exponent


def _reduce_double(a: Expr) -> tuple[Expr, tuple[Expr, Expr]]:
    raw = bitcast(a, uint64)
    exponent = raw >> 52
    significand = (raw & ((1 << 52) - 1)) | (1 << 52)
    # Bit E - 1, E = exponent - 1075, is at place E - 2 + lead; arguments below pi/4 are not used.
    smallest = const(1075 - 53, uint64)
    place = select(exponent < smallest, smallest, exponent) - (1075 + 2 - _LEAD)
    limbs = _times(significand, _limbs(_window(place)))
    # Two bits of quadrant, then the fraction: rounding up when its first bit is set.
    top = (limbs[5] << 32) | limbs[4]
    up = (top >> 61) & 1
    fraction = (top << 2) | (limbs[3] >> 30)
    below = ((limbs[3] << 34) | (limbs[2] << 2)) & ((1 << 64) - 1)
    high = _small_float(fraction >> 32, -32) - _small_float(up, 0)
    total, error = two_sum(high, _small_float(fraction & _MASK, -64))
    rest = error + (_small_float(below >> 32, -96) + _small_float(below & _MASK, -128))
    near, tail = quick_two_sum(total, rest)
    r, lost = two_product(near, const(HALF_PI[0], float64))
    r_low = lost + (near * HALF_PI[1] + tail * HALF_PI[0])
    inside = a < 0.7853981633974483
    zero = const(0.0, float64)
    quadrant = select(inside, const(0, uint64), ((top >> 62) + up) & 3)
    return quadrant, (select(inside, a, r), select(inside, zero, r_low))
