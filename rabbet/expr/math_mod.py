"""Expansions of the exact remainders of floats: fmod, and Python's % and //.

With |x| = p * 2**i and |y| = q * 2**j (p and q whole), |x| mod |y| = (p * 2**(i - j) mod q) * 2**j.
The power of two is taken modulo q by squaring; remainders are signed, at most q / 2, so each
product is reduced exactly. i - j goes up to 277 (2098 for float64).
"""

from __future__ import annotations

from rabbet.base.dtypes import float32, float64
from rabbet.expr.expr import Expr, bitcast, call, cast, const, select
from rabbet.expr.math_base import (
    DOUBLE,
    INF,
    NAN,
    absolute,
    bits_of,
    copysign,
    is_nan,
    number,
    power_of_two,
    two_product,
)


def fmod(x: Expr, y: Expr) -> Expr:
    """x - y * trunc(x / y), exactly: the sign of x; NaN for y = 0 or infinite x."""
    a, b = absolute(x), absolute(y)
    single = x.dtype is float32
    if single:
        a, b = cast(a, float64), cast(b, float64)
    usual = (a >= b) & (a < INF) & (b > 0.0)
    one = number(1.0, a)
    rest = _remainder(select(usual, a, one), select(usual, b, one), single)
    result = select(usual, rest, select((a < INF) & (b > 0.0), a, number(NAN, a)))
    if single:
        result = cast(result, float32)
    return select(is_nan(x) | is_nan(y), x + y, copysign(result, x))


def modulo(x: Expr, y: Expr) -> Expr | None:
    """The remainder with the sign of y, as Python's %; None for integers (primitive)."""
    if not x.dtype.is_float:
        return None
    rest = call("fmod", x, y)
    other_sign = (bits_of(rest) ^ bits_of(y)) < 0
    moved = select(other_sign, rest + y, rest)
    return select(rest.equals(0.0), copysign(absolute(rest), y), moved)


def floordiv(x: Expr, y: Expr) -> Expr | None:
    """floor(x / y) of the exact quotient, from the exact remainder; None for integers.

    With an infinity on either side x / y, which the array API prefers to Python's NaN and -1.
    """
    if not x.dtype.is_float:
        return None
    rest = call("fmod", x, y)
    quotient = (x - rest) / y
    other_sign = rest.differs(0.0) & ((bits_of(rest) ^ bits_of(y)) < 0)
    quotient = select(other_sign, quotient - 1.0, quotient)
    # The quotient is whole but for rounding.
    below = call("floor", quotient)
    whole = select(quotient - below > 0.5, below + 1.0, below)
    signed_zero = copysign(number(0.0, x), x / y)
    result = select(quotient.equals(0.0), signed_zero, whole)
    endless = absolute(x).equals(INF) | absolute(y).equals(INF)
    return select(y.equals(0.0) | endless, x / y, result)


def _remainder(a: Expr, b: Expr, single: bool) -> Expr:
    """a mod b for finite float64 a >= b > 0."""
    bits = 24 if single else 53
    p, p_exponent = _significand(a, bits)
    q, q_exponent = _significand(b, bits)
    gap = p_exponent - q_exponent
    squarings = 4 if single else 6
    power = power_of_two(gap >> squarings, DOUBLE)  # at most 2**17 (2**32): below q / 2
    for bit in reversed(range(squarings)):
        power = _multiply(power, power, q, single)
        doubled = _centre(power + power, q)
        power = select((gap & (1 << bit)).equals(0), power, doubled)
    rest = _multiply(_centre(select(p >= q, p - q, p), q), power, q, single)
    rest = select(rest < 0.0, rest + q, rest)
    # Exact in two steps: the remainder is a multiple of the smaller unit in the last place.
    half = q_exponent >> 1
    return rest * power_of_two(half, DOUBLE) * power_of_two(q_exponent - half, DOUBLE)


def _significand(x: Expr, bits: int) -> tuple[Expr, Expr]:
    """x = s * 2**e with a whole s in [2**(bits - 1), 2**bits)."""
    tiny = x < DOUBLE.smallest_normal
    raw = bits_of(select(tiny, x * 2.0**52, x))
    one = const(1.0, float64)
    significand = bitcast((raw & ((1 << 52) - 1)) | bits_of(one), float64) * 2.0 ** (bits - 1)
    bias = select(tiny, const(1023 + 52, raw.dtype), const(1023, raw.dtype))
    return significand, (raw >> 52) - bias - (bits - 1)


def _centre(x: Expr, q: Expr) -> Expr:
    """x, at most q in size, moved into [-q/2, q/2]."""
    half = q * 0.5
    return select(x > half, x - q, select(x < -half, x + q, x))


def _multiply(a: Expr, b: Expr, q: Expr, single: bool) -> Expr:
    """a * b mod q for |a|, |b| <= q / 2, exactly."""
    if single:  # 48 bits at most: products are exact
        product = a * b
        return _centre(product - call("round", product / q) * q, q)
    high, low = two_product(a, b)
    # The quotient is below 2**51, so it is wrong by one at most.
    back, back_low = two_product(call("round", high / q), q)
    return _centre((high - back) + (low - back_low), q)
