"""Expansions of asin, acos, atan and atan2."""

from __future__ import annotations

from rabbet.expr import coefficients as c
from rabbet.expr.expr import Expr, call, const, select
from rabbet.expr.math_base import (
    INF,
    absolute,
    bits_of,
    copysign,
    fma,
    format_of,
    is_nan,
    number,
    pick,
    polynomial,
    quick_two_sum,
)

# pi/4 in two parts; three bits of the first are 0, so that small multiples are exact.
QUARTER_PI = {
    23: (0.785398006439209, 1.5695823932524066e-07),
    52: (0.7853981633974483, 3.061616997868383e-17),
}


def _arc_sine(x: Expr) -> tuple[Expr, Expr]:
    """asin of x for |x| <= 1/2, as x plus a rest."""
    z = x * x
    return x, x * z * polynomial(z, pick(x, c.ASIN_32, c.ASIN_64))


def _folded(x: Expr) -> tuple[Expr, Expr, Expr]:
    """|x| > 1/2, and asin of |x| or, where that holds, of sqrt((1 - |x|) / 2)."""
    a = absolute(x)
    large = a > 0.5
    root = call("sqrt", (number(1.0, x) - a) * 0.5)
    return (large, *_arc_sine(select(large, root, a)))


def asin(x: Expr) -> Expr:
    high, low = (2 * part for part in QUARTER_PI[format_of(x).fraction])
    large, y, rest = _folded(x)
    near, lost = quick_two_sum(number(high, x), y * -2.0)
    far = near - (rest * 2.0 - (low + lost))
    return copysign_or_nan(select(large, far, y + rest), x)


def acos(x: Expr) -> Expr:
    high, low = (2 * part for part in QUARTER_PI[format_of(x).fraction])
    large, y, rest = _folded(x)
    negative = x < 0.0
    double = (y + rest) * 2.0
    beyond = number(2 * high, x) - (double - 2 * low)
    signed, signed_rest = select(negative, -y, y), select(negative, -rest, rest)
    middle = number(high, x) - (signed - (number(low, x) - signed_rest))
    return select(large, select(negative, beyond, double), middle)


def copysign_or_nan(size: Expr, x: Expr) -> Expr:
    """`size` with the sign of x; NaN stays."""
    return select(is_nan(size), size, copysign(size, x))


def atan(x: Expr) -> Expr:
    a = absolute(x)
    one = number(1.0, x)
    swap = a > 1.0
    angle = _angle(select(swap, one, a), select(swap, a, one), swap, None)
    return select(is_nan(x), x, copysign(angle, x))


def atan2(y: Expr, x: Expr) -> Expr:
    a, b = absolute(y), absolute(x)
    both = (a.equals(INF) & b.equals(INF)) | (a.equals(0.0) & b.equals(0.0))
    one = number(1.0, x)
    zero = a.equals(0.0)
    # Equal infinities act as equal numbers, 0 / 0 as 0 / 1.
    a, b = select(both, select(zero, a, one), a), select(both, one, b)
    swap = a > b
    small, large = select(swap, b, a), select(swap, a, b)
    # Keep small + large finite.
    shrink = select(large > 2.0 ** (format_of(x).bias - 1), number(0.25, x), one)
    angle = _angle(small * shrink, large * shrink, swap, bits_of(x) < 0)
    total = x + y
    return select(is_nan(x) | is_nan(y), total, copysign(angle, y))


def _angle(small: Expr, large: Expr, swap: Expr, left: Expr | None) -> Expr:
    """atan(small / large) for 0 <= small <= large, reflected at pi/4 (swap) and pi/2 (left).

    Above 1/2 it is pi/4 - atan((large - small) / (large + small)), where the difference is exact.
    """
    high, low = QUARTER_PI[format_of(small).fraction]
    steep = small > large * 0.5
    t = select(steep, small - large, small) / select(steep, small + large, large)
    zero, one = number(0.0, small), number(1.0, small)
    count = select(steep, one, zero)
    t = select(swap, -t, t)
    count = select(swap, const(2.0, small.dtype) - count, count)
    if left is not None:
        t = select(left, -t, t)
        count = select(left, const(4.0, small.dtype) - count, count)
    z = t * t
    rest = fma(t * z, polynomial(z, pick(t, c.ATAN_32, c.ATAN_64)), count * low)
    return count * high + (t + rest)
