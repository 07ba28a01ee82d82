"""The complementary error function, and the normal distribution function with its inverse.

All are computed in double precision and rounded once: in the tails they are made of erfcx, a
polynomial in 4 / (4 + x), times exp(-x * x) with the square in two parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rabbet.base.dtypes import float32, float64
from rabbet.expr import coefficients as c
from rabbet.graph.op import op
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import (
    abs_,
    add,
    cast,
    divide,
    minimum,
    multiply,
    negative,
    square,
    subtract,
)
from rabbet.ops.checks import need_float
from rabbet.ops.compare import equal, greater, isinf, less, logical_and, logical_or, where
from rabbet.ops.float_functions import exp, log, log1p, sqrt
from rabbet.ops.rules import each, unary_samples
from rabbet.ops.special import erfinv, polynomial

ROOT_2 = math.sqrt(2.0)
ROOT_PI = math.sqrt(math.pi)
NORMAL = 1 / math.sqrt(2 * math.pi)  # the density's factor
_FAR = 45.0  # exp(-x * x / 2) is 0 there


def in_double(name: str, body: Callable[..., Any], *operands: Any) -> Any:
    """`body` of the operands as float64, rounded to their dtype once."""
    dtype = operands[0].dtype
    need_float(name, "input", dtype)
    if dtype is float64:
        return body(*operands)
    return cast(body(*(cast(x, float64) for x in operands)), dtype)


def _erfcx_above(z: Any) -> Any:
    """erfcx of float64 numbers from 0 on."""
    near = minimum(z, 1e300)
    share = divide(4.0, add(near, 4.0))
    found = multiply(share, polynomial(divide(subtract(4.0, near), add(near, 4.0)), c.ERFCX_64))
    return where(isinf(z), 0.0, found)


def _exp_square(a: Any, sign: float) -> Any:
    """exp(sign * a * a) for a >= 0; the rounding error of the square is put right.

    `sign` is a power of two, at most 1 in size.
    """
    a = minimum(a, _FAR)
    upper = cast(cast(a, float32), float64)
    rest = multiply(subtract(a, upper), add(a, upper))
    return multiply(exp(multiply(square(upper), sign)), exp(multiply(rest, sign)))


def _erfc(x: Any) -> Any:
    a = abs_(x)
    tail = multiply(_erfcx_above(a), _exp_square(a, -1.0))
    return where(less(x, 0.0), subtract(2.0, tail), tail)


def _erfcx(x: Any) -> Any:
    a = abs_(x)
    above = _erfcx_above(a)
    return where(less(x, 0.0), subtract(multiply(_exp_square(a, 1.0), 2.0), above), above)


def _ndtr(x: Any) -> Any:
    """By erfcx of |x| / sqrt(2) and the exact square of x, not of the rounded quotient."""
    a = abs_(x)
    scaled = _erfcx_above(multiply(a, 1 / ROOT_2))
    tail = multiply(multiply(scaled, 0.5), _exp_square(a, -0.5))
    return where(less(x, 0.0), tail, subtract(1.0, tail))


def _log_ndtr(x: Any) -> Any:
    z = multiply(x, -1 / ROOT_2)
    low = less(x, -1.0)
    below = where(low, z, 1.0)
    square_ = multiply(square(where(low, x, 0.0)), -0.5)
    tail = add(log(multiply(_erfcx_above(below), 0.5)), square_)
    above = log1p(negative(_ndtr(where(low, 0.0, negative(x)))))
    return where(isinf(where(low, x, 0.0)), -math.inf, where(low, tail, above))


def _ndtri(p: Any) -> Any:
    """erfinv in the middle; in the tails two steps of Halley's method on the logarithm."""
    upper = greater(p, 0.5)
    q = where(upper, subtract(1.0, p), p)
    middle = multiply(erfinv(subtract(multiply(p, 2.0), 1.0)), ROOT_2)
    inside = logical_and(greater(q, 0.0), less(q, 0.5))
    wanted = log(where(inside, q, 0.25))
    # Abramowitz and Stegun, 26.2.23: an error below 5e-4
    t = sqrt(multiply(wanted, -2.0))
    top = polynomial(t, (2.515517, 0.802853, 0.010328))
    x = subtract(t, divide(top, polynomial(t, (1.0, 1.432788, 0.189269, 0.001308))))
    for _ in range(2):
        z = multiply(x, 1 / ROOT_2)
        scaled = _erfcx_above(z)
        miss = subtract(subtract(log(multiply(scaled, 0.5)), square(z)), wanted)
        hazard = divide(math.sqrt(2 / math.pi), scaled)
        slope = add(multiply(hazard, 2.0), multiply(miss, subtract(hazard, x)))
        x = add(x, divide(multiply(miss, 2.0), slope))
    tail = where(upper, x, negative(x))
    found = where(greater(q, 0.05), middle, tail)
    ends = where(equal(p, 0.0), -math.inf, where(equal(p, 1.0), math.inf, math.nan))
    return where(logical_or(inside, equal(p, 0.5)), found, ends)


# ---- meanings ------------------------------------------------------------------------------------


def erfcx_number(x: float) -> float:
    """erfcx of one number: by erfc, or by Laplace's continued fraction where erfc is small."""
    if x != x or x < 2:
        return math.inf if x < -26.7 else math.exp(x * x) * math.erfc(x)
    fraction = x
    for k in range(200, 0, -1):
        fraction = x + k / 2 / fraction
    return 1 / (ROOT_PI * fraction)


def _ndtr_number(x: float) -> float:
    return math.erfc(-x / ROOT_2) / 2


def _log_ndtr_number(x: float) -> float:
    if x == -math.inf:
        return x
    if x < -5:
        return math.log(erfcx_number(-x / ROOT_2) / 2) - x * x / 2
    return math.log1p(-math.erfc(x / ROOT_2) / 2)


def _ndtri_number(p: float) -> float:
    """By halving an interval; the smaller of both tails counts."""
    if not 0 < p < 1:
        return math.nan if not 0 <= p <= 1 else math.copysign(math.inf, p - 0.5)
    if p > 0.5:
        return -_ndtri_number(1 - p)
    low, high = -40.0, 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _ndtr_number(middle) < p else (low, middle)
    return (low + high) / 2


# ---- ops -----------------------------------------------------------------------------------------


@op("composite", promote="float", reference=each(math.erfc), samples=unary_samples(-3, 6))
def erfc(x: Value) -> Value:
    """1 - erf(x), the complementary error function, with all its digits in the tail.

    >>> rb.erfc(rb.asarray([0.0, 5.0]))
    tensor([1.0000000e+00, 1.5374598e-12])
    """
    return in_double("erfc", _erfc, x)


@erfc.gradient
def _erfc_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, multiply(exp(negative(square(x))), -2 / ROOT_PI)),)


@op("composite", promote="float", reference=each(erfcx_number), samples=unary_samples(-2, 6))
def erfcx(x: Value) -> Value:
    """exp(x * x) * erfc(x), the scaled complementary error function.

    >>> rb.erfcx(rb.asarray([0.0, 100.0]))
    tensor([1.        , 0.00564161])
    """
    return in_double("erfcx", _erfcx, x)


@erfcx.gradient
def _erfcx_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, subtract(multiply(multiply(x, y), 2.0), 2 / ROOT_PI)),)


@op("composite", promote="float", reference=each(_ndtr_number), samples=unary_samples(-4, 4))
def ndtr(x: Value) -> Value:
    """The distribution function of the standard normal: the area of its density up to x.

    >>> rb.ndtr(rb.asarray([0.0, 1.0]))
    tensor([0.5      , 0.8413448])
    """
    return in_double("ndtr", _ndtr, x)


@ndtr.gradient
def _ndtr_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, multiply(exp(multiply(square(x), -0.5)), NORMAL)),)


@op("composite", promote="float", reference=each(_log_ndtr_number), samples=unary_samples(-9, 4))
def log_ndtr(x: Value) -> Value:
    """The logarithm of `ndtr`, with all its digits far below and above.

    >>> rb.log_ndtr(rb.asarray([0.0, -100.0]))
    tensor([-6.9314718e-01, -5.0055244e+03])
    """
    return in_double("log_ndtr", _log_ndtr, x)


@log_ndtr.gradient
def _log_ndtr_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    # density / distribution
    return (multiply(g, divide(math.sqrt(2 / math.pi), erfcx(multiply(x, -1 / ROOT_2)))),)


@op("composite", promote="float", reference=each(_ndtri_number), samples=unary_samples(0.01, 0.99))
def ndtri(x: Value) -> Value:
    """The inverse of `ndtr`: -inf at 0, inf at 1, NaN outside.

    >>> rb.ndtri(rb.asarray([0.5, 0.975]))
    tensor([0.       , 1.9599644])
    """
    return in_double("ndtri", _ndtri, x)


@ndtri.gradient
def _ndtri_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, multiply(exp(multiply(square(y), 0.5)), 1 / NORMAL)),)
