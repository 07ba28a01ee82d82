"""Expansions of log and its kin: log1p, log2, log10, asinh, acosh, atanh, logaddexp.

x = 2**e * (1 + f) with 1 + f between sqrt(1/2) and sqrt(2).
"""

from __future__ import annotations

from rabbet.expr import coefficients as c
from rabbet.expr.expr import Expr, bitcast, call, const, select
from rabbet.expr.math_base import (
    INF,
    NAN,
    absolute,
    bits_of,
    copysign,
    fma,
    format_of,
    number,
    pick,
    polynomial,
    power_of_two,
    small_integer,
    through_double,
    two_product,
    two_sum,
)

ROOT_HALF = 0.7071067811865476
LOG2_E_SINGLE = 1.4426950216293335  # float32(1 / ln 2): LOG2_32 is fitted to its error
# 1/ln 2, 1/ln 10 and log10(2), split so that 21 bits times the first part are exact.
LOG2_E = (1.4426950407214463, 1.6751713164886512e-10)
LOG10_E = (0.4342944818781689, 2.5082946711645275e-11)
LOG10_2 = (0.30102999566361177, 3.694239077158931e-13)


def split_exponent(x: Expr) -> tuple[Expr, Expr]:
    """1 + f and the integer e of a positive normal x."""
    form = format_of(x)
    raw = bits_of(x)
    e = (raw - bits_of(number(ROOT_HALF, x))) >> form.fraction
    return bitcast(raw - (e << form.fraction), x.dtype), e


def reduce_log(x: Expr) -> tuple[Expr, Expr]:
    """f and e (a float) of a positive finite x, subnormal ones included."""
    form = format_of(x)
    tiny = x < form.smallest_normal
    scaled = select(tiny, x * 2.0**form.fraction, x)
    m, e = split_exponent(scaled)
    e = e - select(tiny, const(form.fraction, e.dtype), const(0, e.dtype))
    return m - 1.0, small_integer(e, form)


def reduce_log1p(x: Expr, low: Expr | None = None) -> tuple[Expr, Expr, Expr]:
    """f, e and what f lacks, of 1 + x + low for x > -1; f keeps the bits that 1 + x loses."""
    form = format_of(x)
    m, e = split_exponent(x + 1.0)
    scale = power_of_two(-e, form)
    f, lost = two_sum(x * scale, scale - 1.0)
    lost = lost if low is None else fma(low, scale, lost)
    usual = x < 2.0 ** (form.fraction + 2)
    f, lost = select(usual, f, m - 1.0), select(usual, lost, number(0.0, x))
    return f, small_integer(e, form), lost


def finish_log(f: Expr, e: Expr, lost: Expr | None = None) -> Expr:
    """log(1 + f + lost) + e * ln 2."""
    # d log(1 + f) is lost / (1 + f); two terms are enough of it.
    extra = None if lost is None else fma(-f, lost, lost)
    form = format_of(f)
    half_square = f * f * 0.5
    if form.fraction == 23:
        y = f * (f * f) * polynomial(f, c.LOG_32)
        y = y if extra is None else y + extra
        y = fma(e, form.ln2_low, y) - half_square
        return fma(e, form.ln2_high, f + y)
    rest = _atanh_rest(f, half_square)
    rest = rest if extra is None else rest + extra
    return e * form.ln2_high - ((half_square - (rest + e * form.ln2_low)) - f)


def _atanh_rest(f: Expr, half_square: Expr) -> Expr:
    """log(1 + f) - f + f*f/2, from log(1 + f) = 2 atanh(s) where s = f / (2 + f)."""
    s = f / (f + 2.0)
    z = s * s
    return s * (half_square + z * 2.0 * polynomial(z, c.ATANH_64))


def with_limits(x: Expr, zero: float, result: Expr) -> Expr:
    """The limits of a logarithm: -inf at `zero`, NaN below it; inf and NaN stay."""
    below = select(x < zero, number(NAN, x), x)
    special = select(x.equals(zero), number(-INF, x), below)
    return select((x > zero) & (x < INF), result, special)


def log(x: Expr) -> Expr:
    return with_limits(x, 0.0, finish_log(*reduce_log(x)))


def log1p(x: Expr) -> Expr:
    result = with_limits(x, -1.0, finish_log(*reduce_log1p(x)))
    return select(absolute(x) < 2.0 ** (-format_of(x).fraction - 2), x, result)


def log2(x: Expr) -> Expr:
    f, e = reduce_log(x)
    if format_of(x).fraction == 23:
        tail = f * f * polynomial(f, c.LOG2_32)
        return with_limits(x, 0.0, fma(f, LOG2_E_SINGLE, tail) + e)
    return with_limits(x, 0.0, _scaled_log(f, LOG2_E, e, const(0.0, x.dtype)))


def _log10(x: Expr) -> Expr:
    f, e = reduce_log(x)
    return with_limits(x, 0.0, _scaled_log(f, LOG10_E, e * LOG10_2[0], e * LOG10_2[1]))


log10 = through_double(_log10)


def _scaled_log(f: Expr, factor: tuple[float, float], high: Expr, low: Expr) -> Expr:
    """log(1 + f) * factor + high + low, the products in twice the precision (float64)."""
    half_square = f * f * 0.5
    rest = _atanh_rest(f, half_square)
    near = f - half_square
    mask = (1 << 64) - (1 << 32)
    top = bitcast(bitcast(near, format_of(f).unsigned) & mask, f.dtype)
    bottom = (f - top) - half_square + rest
    leading = top * factor[0]
    trailing = low + ((bottom + top) * factor[1] + bottom * factor[0])
    total = high + leading
    return (trailing + ((high - total) + leading)) + total


def _asinh(x: Expr) -> Expr:
    """log1p(|x| + x*x / (1 + sqrt(1 + x*x))); for large |x| log(2 |x|)."""
    size = absolute(x)
    large = size > 2.0**28
    square = x * x
    grown = size + square / (call("sqrt", square + 1.0) + 1.0)
    result = _log1p_or_log(grown, number(0.0, x), large, size)
    ordinary = (size >= 2.0**-28) & (size < INF)
    return select(ordinary, copysign(result, x), x)


def _acosh(x: Expr) -> Expr:
    """log1p(t + sqrt(t * (t + 2))) with t = x - 1; for large x log(2 x)."""
    large = x > 2.0**28
    t = select(large, number(0.0, x), x - 1.0)
    # The square root with its rounding errors, which would add up to more than an ulp.
    square, square_low = two_product(t, t)
    radicand, radicand_low = two_sum(t * 2.0, square)
    root = call("sqrt", radicand)
    back, back_low = two_product(root, root)
    residual = ((radicand - back) - back_low) + (radicand_low + square_low)
    root_low = residual / select(root.equals(0.0), number(1.0, x), root * 2.0)
    grown, grown_low = two_sum(root, t)
    result = _log1p_or_log(grown, grown_low + root_low, large, x)
    ordinary = (x >= 1.0) & (x < INF)
    return select(ordinary, result, select(x < 1.0, number(NAN, x), x))


def _log1p_or_log(grown: Expr, low: Expr, large: Expr, size: Expr) -> Expr:
    """log(1 + grown + low), or log(2 size) where it is large."""
    zero, one = number(0.0, size), number(1.0, size)
    f, e, lost = reduce_log1p(select(large, zero, grown), select(large, zero, low))
    f_large, e_large = reduce_log(select(large, size, one))
    return finish_log(select(large, f_large, f), select(large, e_large + 1.0, e), lost)


asinh = through_double(_asinh)
acosh = through_double(_acosh)


def atanh(x: Expr) -> Expr:
    """log((1 + a) / (1 - a)) / 2 with a = |x|: k * ln(2) / 2 + atanh(s).

    k is the exponent of the quotient and s = (1 + a - c (1 - a)) / (1 + a + c (1 - a)), c = 2**k;
    for k = 0 s is a itself, so small arguments lose nothing.
    """
    form = format_of(x)
    a = absolute(x)
    up, down = a + 1.0, const(1.0, x.dtype) - a
    half = 1 << (form.fraction - 1)
    k = (bits_of(up) - bits_of(down) + half) >> form.fraction
    factor = power_of_two(k, form)
    scaled = factor * down
    # For k = 1 from the exact a: 1 + a has lost bits that matter there. a - 1/4 is exact.
    single = k.equals(1)
    difference = select(single, fma(a - 0.25, 3.0, -0.25), up - scaled)
    total = select(single, const(3.0, x.dtype) - a, up + scaled)
    s = select(k.equals(0), a, difference / total)
    z = s * s
    count = small_integer(k, form)
    tail = s * z * polynomial(z, pick(x, c.ATANH_32, c.ATANH_64)) + count * (form.ln2_low / 2)
    result = count * (form.ln2_high / 2) + (s + tail)
    special = select(a.equals(1.0), number(INF, x), number(NAN, x))
    return copysign(select(a < 1.0, result, special), x)


def logaddexp(x: Expr, y: Expr) -> Expr:
    """log(exp(x) + exp(y)); equal arguments, infinite ones too, add ln 2."""
    gap = select(x.equals(y), number(0.0, x), -absolute(x - y))
    return call("max", x, y) + call("log1p", call("exp", gap))
