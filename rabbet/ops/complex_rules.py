"""What each primitive does with complex numbers, in terms of their parts.

Values at infinities, zeros and NaN are those of C99 Annex G, as the array API standard wants.
Inverse functions after W. Kahan, "Branch cuts for complex elementary functions" (1987), division
after R. Smith, "Algorithm 116" (1962).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from rabbet.base.sizes import product as product_of
from rabbet.ops import arithmetic as a
from rabbet.ops import float_functions as f
from rabbet.ops import trigonometry as t
from rabbet.ops.compare import (
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    where,
)
from rabbet.ops.complex import complex_, imag, is_complex, part_of, real
from rabbet.ops.contract import contract
from rabbet.ops.create import full, number, zeros_like
from rabbet.ops.index_maps import cut, pad, permute, reshape
from rabbet.ops.reductions import reduce_prod, reduce_sum

INF = math.inf
# Beyond LARGE squares of parts overflow, below SMALL they lose digits; SCALE is a power of 4.
LARGE = {"float32": 2.0**60, "float64": 2.0**500}
SMALL = {"float32": 2.0**-50, "float64": 2.0**-450}
SCALE = {"float32": 2.0**80, "float64": 2.0**600}


class Pair(NamedTuple):
    """The two parts of complex numbers."""

    re: Any
    im: Any


def parts(z: Any) -> Pair:
    """The parts of a Value, real ones too."""
    return Pair(real(z), imag(z))


def whole(pair: Pair) -> Any:
    """One Value of two parts."""
    return complex_(pair.re, pair.im)


def _unary(rule: Callable[[Pair], Pair]) -> Callable[..., Any]:
    return lambda x: whole(rule(parts(x)))


def _binary(rule: Callable[[Pair, Pair], Pair]) -> Callable[..., Any]:
    return lambda x, y: whole(rule(parts(x), parts(y)))


# ---- arithmetic ----------------------------------------------------------------------------------


def plus(x: Pair, y: Pair) -> Pair:
    return Pair(x.re + y.re, x.im + y.im)


def minus(x: Pair, y: Pair) -> Pair:
    return Pair(x.re - y.re, x.im - y.im)


def times(x: Pair, y: Pair) -> Pair:
    return Pair(x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re)


def over(x: Pair, y: Pair) -> Pair:
    """x / y without overflow between; x / 0 is infinite, x / infinity zero."""
    wide = greater_equal(abs(y.re), abs(y.im))
    large, small = where(wide, y.re, y.im), where(wide, y.im, y.re)
    ratio = where(equal(large, 0), 0.0, small / large)
    scale = large + small * ratio
    first, second = where(wide, x.re, x.im), where(wide, x.im, x.re)
    re = (first + second * ratio) / scale
    im = (second - first * ratio) / scale
    found = Pair(re, where(wide, im, -im))
    finite = logical_and(isfinite(x.re), isfinite(x.im))
    endless = logical_or(isinf(y.re), isinf(y.im))
    nothing = logical_and(finite, endless)
    signs = Pair(_box(y.re), _box(y.im))
    at_zero = Pair(
        0.0 * (x.re * signs.re + x.im * signs.im), 0.0 * (x.im * signs.re - x.re * signs.im)
    )
    return choose(nothing, at_zero, found)


def _box(x: Any) -> Any:
    """1 for infinities and 0 for all else, with the sign."""
    return f.copysign(where(isinf(x), 1.0, zeros_like(x)), x)


def choose(condition: Any, x: Pair, y: Pair) -> Pair:
    """x where the condition holds, else y."""
    return Pair(where(condition, x.re, y.re), where(condition, x.im, y.im))


def minus_one(x: Pair) -> Pair:
    return Pair(-x.re, -x.im)


def is_zero(x: Pair) -> Any:
    return logical_and(equal(x.re, 0), equal(x.im, 0))


def is_endless(x: Pair) -> Any:
    return logical_or(isinf(x.re), isinf(x.im))


def conj(x: Pair) -> Pair:
    return Pair(x.re, -x.im)


def turned(x: Pair) -> Pair:
    """i * x, exactly."""
    return Pair(-x.im, x.re)


def turned_back(x: Pair) -> Pair:
    """-i * x, exactly."""
    return Pair(x.im, -x.re)


a.add.parts(_binary(plus))
a.subtract.parts(_binary(minus))
a.multiply.parts(_binary(times))
a.divide.parts(_binary(over))
a.negative.parts(_unary(minus_one))
a.positive.parts(lambda x: x)
a.detach.parts(lambda x: x)
a.round_.parts(_unary(lambda z: Pair(a.round_(z.re), a.round_(z.im))))
a.square.parts(_unary(lambda x: times(x, x)))
a.abs_.parts(lambda x: f.hypot(real(x), imag(x)))


@a.reciprocal.parts
def _reciprocal(x: Any) -> Any:
    one = a.add(zeros_like(real(x)), 1.0)
    return whole(over(Pair(one, zeros_like(one)), parts(x)))


@a.sign.parts
def _sign(x: Any) -> Any:
    """z / |z|; 0 + 0i for any zero, as for real numbers."""
    z, size = parts(x), f.hypot(real(x), imag(x))
    nothing = equal(size, 0)
    safe = where(nothing, 1.0, size)
    return complex_(where(nothing, 0.0, z.re / safe), where(nothing, 0.0, z.im / safe))


@a.cast.parts
def _cast(x: Any, dtype: Any) -> Any:
    if dtype is x.dtype:
        return x
    if dtype.kind == "c":
        return complex_(a.cast(real(x), part_of(dtype)), a.cast(imag(x), part_of(dtype)))
    return not_equal_zero(x)


def not_equal_zero(x: Any) -> Any:
    """Where a number is not zero."""
    if not is_complex(x):
        return not_equal(x, 0)
    return logical_or(not_equal(real(x), 0), not_equal(imag(x), 0))


# ---- comparisons and logic -----------------------------------------------------------------------

for _logic in (logical_and, logical_or, logical_xor):
    _logic.parts(lambda x, y, _logic=_logic: _logic(not_equal_zero(x), not_equal_zero(y)))
logical_not.parts(lambda x: logical_not(not_equal_zero(x)))
isnan.parts(lambda x: logical_or(isnan(real(x)), isnan(imag(x))))
isinf.parts(lambda x: logical_or(isinf(real(x)), isinf(imag(x))))
isfinite.parts(lambda x: logical_and(isfinite(real(x)), isfinite(imag(x))))
equal.parts(lambda x, y: logical_and(equal(real(x), real(y)), equal(imag(x), imag(y))))
not_equal.parts(lambda x, y: logical_or(not_equal(real(x), real(y)), not_equal(imag(x), imag(y))))


@where.parts
def _where(condition: Any, x1: Any, x2: Any) -> Any:
    if is_complex(condition):
        condition = not_equal_zero(condition)
    if not is_complex(x1):
        return where(condition, x1, x2)
    return whole(choose(condition, parts(x1), parts(x2)))


# ---- exponentials --------------------------------------------------------------------------------


def times_or_zero(x: Any, y: Any) -> Any:
    """x * y where 0 times anything is 0: a part that does not turn is not lost in an infinity."""
    zero = logical_or(equal(x, 0), equal(y, 0))
    sign = f.copysign(f.copysign(1.0, x), x * f.copysign(zeros_like(y) + 1.0, y))
    return where(zero, f.copysign(zeros_like(x * y), sign), x * y)


def exponential(z: Pair) -> Pair:
    """e^re (cos im + i sin im); the factor in two halves, so that it overflows last.

    >>> rb.exponential((2, 3), rate=4.0).shape
    (2, 3)
    """
    half = f.exp(z.re * 0.5)
    large = greater(abs(z.re), 40.0)
    factor, rest = where(large, half, f.exp(z.re)), where(large, half, 1.0)
    re = factor * (rest * t.cos(z.im))
    im = factor * (rest * t.sin(z.im))
    found = Pair(re, where(equal(z.im, 0), z.im, im))
    real_only = equal(z.im, 0)
    found = Pair(where(real_only, f.exp(z.re), found.re), found.im)
    wild = logical_not(isfinite(z.im))
    nothing = logical_and(equal(z.re, -INF), wild)
    endless = logical_and(equal(z.re, INF), wild)
    zero = zeros_like(found.re)
    found = choose(nothing, Pair(zero, zero), found)
    return choose(endless, Pair(zero + INF, zero + math.nan), found)


def logarithm_of_size(z: Pair) -> Any:
    """log |z|, also where |z| overflows, and near 1."""
    high, low = a.maximum(abs(z.re), abs(z.im)), a.minimum(abs(z.re), abs(z.im))
    ratio = where(equal(high, 0), 0.0, low / high)
    far = f.log(high) + 0.5 * f.log1p(ratio * ratio)
    near = 0.5 * f.log1p((high - 1.0) * (high + 1.0) + low * low)
    found = where(logical_and(greater(high, 0.5), less(high, 2.0)), near, far)
    return where(is_endless(z), INF, found)


def logarithm(z: Pair) -> Pair:
    return Pair(logarithm_of_size(z), t.atan2(z.im, z.re))


def root(z: Pair) -> Pair:
    """The square root with a real part that is not negative."""
    name = z.re.dtype.name
    size = a.maximum(abs(z.re), abs(z.im))
    down, up = greater(size, LARGE[name]), less(size, SMALL[name])
    one = zeros_like(z.re) + 1.0
    by = where(down, 1.0 / SCALE[name], where(up, SCALE[name], one))
    back = where(down, math.sqrt(SCALE[name]), where(up, 1.0 / math.sqrt(SCALE[name]), one))
    x, y = z.re * by, z.im * by
    s = f.sqrt((abs(x) + f.hypot(x, y)) * 0.5)
    other = where(equal(s, 0), 0.0, y / (s * 2.0))
    right = greater_equal(x, 0)
    found = Pair(where(right, s, abs(other)) * back, where(right, other, f.copysign(s, y)) * back)
    zero = zeros_like(z.re)
    found = choose(is_zero(z), Pair(zero, z.im), found)
    found = choose(
        equal(z.re, INF), Pair(z.re, where(isnan(z.im), z.im, f.copysign(zero, z.im))), found
    )
    back_axis = Pair(where(isnan(z.im), z.im, zero), f.copysign(zero + INF, z.im))
    found = choose(equal(z.re, -INF), back_axis, found)
    return choose(isinf(z.im), Pair(zero + INF, z.im), found)


def hyperbolic_sine(z: Pair) -> Pair:
    re = times_or_zero(t.sinh(z.re), t.cos(z.im))
    im = times_or_zero(t.cosh(z.re), t.sin(z.im))
    wild = logical_and(isinf(z.re), logical_not(isfinite(z.im)))
    return Pair(where(wild, z.re, re), im)


def hyperbolic_cosine(z: Pair) -> Pair:
    re = times_or_zero(t.cosh(z.re), t.cos(z.im))
    im = times_or_zero(t.sinh(z.re), t.sin(z.im))
    wild = logical_and(isinf(z.re), logical_not(isfinite(z.im)))
    return Pair(where(wild, abs(z.re), re), im)


def hyperbolic_tangent(z: Pair) -> Pair:
    far = greater(abs(z.re), 12.0 if z.re.dtype.bits == 32 else 22.0)
    re_in = where(logical_and(far, isfinite(z.im)), 0.0, z.re)
    tangent = t.tan(z.im)
    beta, s = tangent * tangent + 1.0, t.sinh(re_in)
    rho, scale = f.sqrt(s * s + 1.0), beta * s * s + 1.0
    found = Pair(beta * rho * s / scale, tangent / scale)
    small = t.sin(z.im) * t.cos(z.im) * 4.0 * f.exp(abs(z.re) * -2.0)
    edge = Pair(  # at an infinity the imaginary part is a zero with the operand's sign
        f.copysign(zeros_like(z.re) + 1.0, z.re),
        where(is_endless(z), f.copysign(zeros_like(z.im), z.im), small),
    )
    lost = logical_and(isfinite(z.re), logical_not(isfinite(z.im)))
    found = choose(logical_and(far, logical_not(lost)), edge, found)
    along = logical_and(equal(z.re, 0), logical_not(isfinite(z.im)))
    found = Pair(where(along, z.re, found.re), found.im)
    return Pair(found.re, where(logical_and(isnan(z.re), equal(z.im, 0)), z.im, found.im))


f.exp.parts(_unary(exponential))
f.log.parts(_unary(logarithm))
f.sqrt.parts(_unary(root))
t.sinh.parts(_unary(hyperbolic_sine))
t.cosh.parts(_unary(hyperbolic_cosine))
t.tanh.parts(_unary(hyperbolic_tangent))
t.sin.parts(_unary(lambda z: turned_back(hyperbolic_sine(turned(z)))))
t.cos.parts(_unary(lambda z: hyperbolic_cosine(turned(z))))
t.tan.parts(_unary(lambda z: turned_back(hyperbolic_tangent(turned(z)))))
f.log2.parts(_unary(lambda z: _scaled(logarithm(z), 1 / math.log(2))))
f.log10.parts(_unary(lambda z: _scaled(logarithm(z), 1 / math.log(10))))
f.exp2.parts(_unary(lambda z: exponential(_scaled(z, math.log(2)))))
f.rsqrt.parts(_unary(lambda z: over(Pair(zeros_like(z.re) + 1.0, zeros_like(z.re)), root(z))))


def _scaled(z: Pair, by: float) -> Pair:
    return Pair(z.re * by, z.im * by)


@f.expm1.parts
def _expm1(x: Any) -> Any:
    """exp - 1 = expm1(re) cos(im) - 2 sin(im/2)^2 + i e^re sin(im); a real part of 0 is +0."""
    z = parts(x)
    e = exponential(z)
    half = t.sin(z.im * 0.5)
    near = f.expm1(z.re) * t.cos(z.im) - half * half * 2.0
    near = where(equal(near, 0), 0.0, near)
    usual = logical_and(isfinite(z.re), isfinite(z.im))
    usual = logical_and(usual, less(z.re, 40.0))
    re = where(usual, near, where(equal(e.im, 0), f.expm1(z.re), e.re - 1.0))
    return complex_(re, e.im)


@f.log1p.parts
def _log1p(x: Any) -> Any:
    """log(1 + z): the size by log1p of re (2 + re) + im^2 where that is exact enough."""
    z = parts(x)
    moved = Pair(z.re + 1.0, z.im)
    near = 0.5 * f.log1p(z.re * (z.re + 2.0) + z.im * z.im)
    small = less(a.maximum(abs(z.re), abs(z.im)), 0.5)
    return complex_(where(small, near, logarithm_of_size(moved)), t.atan2(z.im, moved.re))


@f.pow_.parts
def _power(x1: Any, x2: Any) -> Any:
    """exp(x2 log x1); 1 for x2 = 0, and 0 for x1 = 0 where re x2 > 0."""
    x, y = parts(x1), parts(x2)
    found = exponential(times(y, logarithm(x)))
    zero = zeros_like(found.re)
    nothing = logical_and(is_zero(x), greater(y.re, 0))
    found = choose(nothing, Pair(zero, zero), found)
    return whole(choose(is_zero(y), Pair(zero + 1.0, zero), found))


# ---- inverse functions ---------------------------------------------------------------------------


def _around_one(z: Pair) -> tuple[Pair, Pair]:
    """sqrt(1 - z) and sqrt(1 + z)."""
    return root(Pair(1.0 - z.re, -z.im)), root(Pair(z.re + 1.0, z.im))


def arc_sine(z: Pair) -> Pair:
    below, above = _around_one(z)
    re = t.atan2(z.re, times(below, above).re)
    im = t.asinh(times(conj(below), above).im)
    endless = Pair(t.atan2(z.re, abs(z.im)), f.copysign(zeros_like(z.im) + INF, z.im))
    return _only_real(z, choose(is_endless(z), endless, Pair(re, im)))


def _only_real(z: Pair, found: Pair) -> Pair:
    """A NaN beside a part that is 0 leaves the 0 (C99 casinh(NaN + 0i))."""
    keep = logical_and(equal(z.re, 0), isnan(z.im))
    return Pair(where(keep, z.re, found.re), found.im)


def arc_cosine(z: Pair) -> Pair:
    below, above = _around_one(z)
    re = t.atan2(below.re, above.re) * 2.0
    im = t.asinh(times(conj(above), below).im)
    endless = Pair(abs(t.atan2(z.im, z.re)), f.copysign(zeros_like(z.im) + INF, -z.im))
    found = choose(is_endless(z), endless, Pair(re, im))
    middle = logical_and(equal(z.re, 0), isnan(z.im))
    return Pair(where(middle, math.pi / 2, found.re), found.im)


def area_cosine(z: Pair) -> Pair:
    below, above = root(Pair(z.re - 1.0, z.im)), root(Pair(z.re + 1.0, z.im))
    re = t.asinh(times(conj(below), above).re)
    im = t.atan2(below.im, above.re) * 2.0
    endless = Pair(zeros_like(z.re) + INF, t.atan2(z.im, z.re))
    found = choose(is_endless(z), endless, Pair(re, im))
    middle = logical_and(equal(z.re, 0), isnan(z.im))
    return Pair(found.re, where(middle, math.pi / 2, found.im))


def area_tangent(z: Pair) -> Pair:
    """atanh, by sums of squares near 1 and by 1 / z far away."""
    size = a.maximum(abs(z.re), abs(z.im))
    far = logical_or(greater(size, LARGE[z.re.dtype.name]), is_endless(z))
    x, y = where(far, 0.0, z.re), where(far, 0.0, z.im)
    x_size = abs(x)
    re = f.copysign(0.25, x) * f.log1p(x_size * 4.0 / (a.square(1.0 - x_size) + y * y))
    im = 0.5 * t.atan2(y * 2.0, (1.0 - x) * (x + 1.0) - y * y)
    near = less(abs(y), SMALL[z.re.dtype.name])  # y * y is lost beside 1
    beside_one = logical_and(equal(x_size, 1.0), logical_and(near, not_equal(y, 0)))
    re = where(beside_one, f.copysign(0.5, x) * (math.log(2.0) - f.log(abs(y))), re)
    scaled = Pair(z.re / size, z.im / size)
    away = scaled.re / size / (a.square(scaled.re) + a.square(scaled.im))
    away = where(is_endless(z), f.copysign(zeros_like(z.re), z.re), away)
    quarter = f.copysign(zeros_like(z.im) + math.pi / 2, z.im)
    quarter = where(isnan(z.im), z.im, quarter)
    found = choose(far, Pair(away, quarter), Pair(re, im))
    still = logical_and(equal(z.re, 0), isnan(z.im))
    found = Pair(where(still, z.re, found.re), found.im)
    return Pair(found.re, where(logical_and(isnan(z.re), isinf(z.im)), quarter, found.im))


t.asin.parts(_unary(arc_sine))
t.acos.parts(_unary(arc_cosine))
t.asinh.parts(_unary(lambda z: turned_back(arc_sine(turned(z)))))
t.acosh.parts(_unary(area_cosine))
t.atanh.parts(_unary(area_tangent))
t.atan.parts(_unary(lambda z: turned_back(area_tangent(turned(z)))))


# ---- sums and products ---------------------------------------------------------------------------


@reduce_sum.parts
def _sum(x: Any, axis: Any, keepdims: bool) -> Any:
    return complex_(reduce_sum(real(x), axis, keepdims), reduce_sum(imag(x), axis, keepdims))


@reduce_prod.parts
def _prod(x: Any, axis: Any, keepdims: bool) -> Any:
    """Halves of the line multiplied with each other until one number is left."""
    kept = [n for n in range(x.ndim) if n not in axis]
    line = permute(x, (*kept, *axis))
    outer = tuple(x.shape[n] for n in kept)
    line = reshape(line, (*outer, product_of([x.shape[n] for n in axis])))
    at = len(outer)
    if line.shape[at] == 0:
        found = full(number(x, 1.0, x.dtype), outer)
    else:
        found = reshape(_halved(line, at), outer)
    if not keepdims:
        return found
    return reshape(found, tuple(1 if n in axis else d for n, d in enumerate(x.shape)))


def _halved(line: Any, at: int) -> Any:
    while line.shape[at] != 1:
        n = line.shape[at]
        half = n // 2
        pairs = a.multiply(cut(line, at, 0, half), cut(line, at, half, half * 2))
        if n % 2 != 0:  # the last of an odd number joins the first product
            none = (0,) * line.ndim
            after = tuple(half - 1 if d == at else 0 for d in range(line.ndim))
            pairs = a.multiply(pairs, pad(cut(line, at, n - 1, n), none, after, none, 1.0))
        line = pairs
    return line


@contract.parts
def _contract(x: Any, y: Any, a_axes: Any, b_axes: Any, out_axes: Any) -> Any:
    def product(p: Any, q: Any) -> Any:
        return contract(p, q, a_axes, b_axes, out_axes)

    p, q = parts(x), parts(y)
    re = product(p.re, q.re) - product(p.im, q.im)
    return complex_(re, product(p.re, q.im) + product(p.im, q.re))
