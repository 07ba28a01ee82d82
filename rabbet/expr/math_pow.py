"""Expansions of pow (floats and integers), hypot and cbrt."""

from __future__ import annotations

from rabbet.base.dtypes import float32, float64
from rabbet.expr import coefficients as c
from rabbet.expr.expr import Expr, bitcast, call, cast, const, select
from rabbet.expr.math_base import (
    DOUBLE,
    INF,
    NAN,
    absolute,
    bits_of,
    clamp,
    fma,
    format_of,
    number,
    polynomial,
    power_of_two,
    quick_two_sum,
    small_integer,
    two_product,
    two_sum,
)
from rabbet.expr.math_exp import exp_minus_one, reduce_exp, scale_twice
from rabbet.expr.math_log import split_exponent

THIRD = (1 / 3, 1.850371707708594e-17)
FIFTH = (1 / 5, -1.1102230246251566e-17)
Pair = tuple[Expr, Expr]


def power(x: Expr, y: Expr) -> Expr | None:
    """x ** y with the special cases of C99; for integers by squaring."""
    if x.dtype.is_integer:
        return _integer_power(x, y)
    if x.dtype is float32:
        size = cast(_single_size(cast(absolute(x), float64), cast(y, float64)), float32)
        return _special_cases(x, y, size)
    if x.dtype is float64:
        return _special_cases(x, y, _double_size(absolute(x), y))
    return None


def _special_cases(x: Expr, y: Expr, size: Expr) -> Expr:
    """Sign, NaN and the cases that are 1 whatever the other argument, given |x| ** y."""
    whole = call("floor", y).equals(y)
    half = y * 0.5
    odd = whole & call("floor", half).differs(half)
    negative = bits_of(x) < 0
    result = select(negative & odd, -size, size)
    result = select((x < 0.0) & (x > -INF) & ~whole, number(NAN, x), result)
    unit = x.equals(1.0) | y.equals(0.0) | (x.equals(-1.0) & absolute(y).equals(INF))
    return select(unit, number(1.0, x), result)


def _single_size(x: Expr, y: Expr) -> Expr:
    """x ** y for x >= 0 by float64's log2 and exp2, whose error is far below float32's."""
    return call("exp2", y * call("log2", x))


def _double_size(x: Expr, y: Expr) -> Expr:
    """x ** y for x >= 0: exp(y * log(x)) with log in about 68 bits."""
    high, low = _log_pair(x)
    # Beyond 2**66 the result is 0, 1 or infinite whatever y is.
    y = clamp(y, -(2.0**66), 2.0**66)
    product, error = two_product(y, high)
    error = error + y * low
    far = absolute(product) > 800.0
    product = clamp(product, -746.0, 710.0)
    error = select(far, number(0.0, x), error)
    result = _exp_pair(product, error)
    grows = y > 0.0
    zero, infinite = number(0.0, x), number(INF, x)
    result = select(x.equals(0.0), select(grows, zero, infinite), result)
    result = select(x.equals(INF), select(grows, infinite, zero), result)
    return select(x.differs(x) | y.differs(y), x + y, result)


def _log_pair(x: Expr) -> Pair:
    """log(x) of a positive finite float64 as a sum: 2 atanh(s) + e ln 2, s = (m - 1) / (m + 1)."""
    tiny = x < DOUBLE.smallest_normal
    m, e = split_exponent(select(tiny, x * 2.0**52, x))
    e = small_integer(e - select(tiny, const(52, e.dtype), const(0, e.dtype)), DOUBLE)
    f, below = m - 1.0, m + 1.0
    below_low = m - (below - 1.0)
    s = f / below
    back, back_error = two_product(s, below)
    s_low = ((f - back) - back_error - s * below_low) / below
    square, square_error = two_product(s, s)
    z = (square, square_error + s * s_low * 2.0)
    inner = quick_two_sum(number(FIFTH[0], x), square * polynomial(square, c.POW_64))
    inner = _pair_product(z, (inner[0], inner[1] + FIFTH[1]))
    inner = _pair_sum((number(THIRD[0], x), number(THIRD[1], x)), inner)
    rest = _pair_product((s, s_low), _pair_product(z, inner))
    whole = _pair_sum((s, s_low), rest)
    high, low = two_sum(e * DOUBLE.ln2_high, whole[0] * 2.0)
    return quick_two_sum(high, low + (whole[1] * 2.0 + e * DOUBLE.ln2_low))


def _pair_product(a: Pair, b: Pair) -> Pair:
    product, error = two_product(a[0], b[0])
    return quick_two_sum(product, error + (a[0] * b[1] + a[1] * b[0]))


def _pair_sum(a: Pair, b: Pair) -> Pair:
    """Sum of pairs, the first at least as large."""
    total, error = quick_two_sum(a[0], b[0])
    return quick_two_sum(total, error + (a[1] + b[1]))


def _exp_pair(high: Expr, low: Expr) -> Expr:
    """exp(high + low) with one rounding that matters."""
    _, _, encoded = reduce_exp(high, 2 * DOUBLE.bias)
    magic = DOUBLE.magic + 2 * DOUBLE.bias
    n = bitcast(encoded, float64) - magic
    near = high - n * DOUBLE.ln2_high
    r, r_low = two_sum(near, low - n * DOUBLE.ln2_low)
    tail = fma(r_low, r + 1.0, exp_minus_one(r) - r)
    return scale_twice((r + tail) + 1.0, encoded)


def _integer_power(x: Expr, y: Expr) -> Expr:
    """One squaring for each bit of the exponent; the product wraps."""
    dtype = x.dtype
    one, zero = const(1, dtype), const(0, dtype)
    result, square = one, x
    for bit in range(dtype.bits - (dtype.kind == "i")):
        chosen = (y & (1 << bit)).differs(0)
        result = result * select(chosen, square, one)
        square = square * square
    if dtype.kind == "u":
        return result
    unit = select((y & 1).equals(0), one, x)
    inverse = select(absolute(x).equals(1), unit, zero)
    return select(y < 0, inverse, result)


def hypot(x: Expr, y: Expr) -> Expr:
    """sqrt(x*x + y*y) without overflow; an infinite argument wins over NaN."""
    a, b = absolute(x), absolute(y)
    if x.dtype is float32:
        wide = [cast(v, float64) for v in (a, b)]
        result = cast(call("sqrt", wide[0] * wide[0] + wide[1] * wide[1]), float32)
    else:
        result = _double_hypot(a, b)
    return select(a.equals(INF) | b.equals(INF), number(INF, x), result)


def _double_hypot(a: Expr, b: Expr) -> Expr:
    larger = call("max", a, b)
    one = number(1.0, a)
    scale = select(larger < 2.0**-500, number(2.0**600, a), one)
    scale = select(larger > 2.0**500, number(2.0**-600, a), scale)
    back = select(larger < 2.0**-500, number(2.0**-600, a), one)
    back = select(larger > 2.0**500, number(2.0**600, a), back)
    a, b = a * scale, b * scale
    first, first_error = two_product(a, a)
    second, second_error = two_product(b, b)
    total, error = two_sum(first, second)
    total = total + (error + (first_error + second_error))
    return call("sqrt", total) * back


def cbrt(x: Expr) -> Expr:
    """The cube root: exponent / 3 and a cubic start, two steps of Halley, one exact correction."""
    form = format_of(x)
    if x.dtype is float32:
        return cast(cbrt(cast(x, float64)), float32)
    a = absolute(x)
    tiny = a < form.smallest_normal
    m, e = split_exponent(select(tiny, a * 2.0**54, a))
    e = e - select(tiny, const(54, e.dtype), const(0, e.dtype))
    # (e + 1200) // 3 - 400 by multiplication: exact for these few values.
    third = (((e + 1200) * 21846) >> 16) - 400
    left = e - third * 3
    m = m * power_of_two(left, form)
    root = polynomial(m, c.CBRT_64)
    for _ in range(2):
        cube = root * root * root
        root = root * (cube + m * 2.0) / (cube * 2.0 + m)
    # Newton with the residual in twice the precision.
    square, square_error = two_product(root, root)
    cube, cube_error = two_product(square, root)
    residual = (m - cube) - (cube_error + square_error * root)
    root = root + residual / (square * 3.0)
    result = root * power_of_two(third, form)
    ordinary = (a > 0.0) & (a < INF)
    negative = bits_of(x) < 0
    return select(ordinary, select(negative, -result, result), x)
