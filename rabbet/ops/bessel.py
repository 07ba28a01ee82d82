"""Modified Bessel functions of the first kind, of order 0 and 1.

Polynomials in x up to 8 and in 1 / x above, in double precision, rounded once; the products with
exp(|x|) come last, in two factors, so that nothing overflows early.
"""

from __future__ import annotations

import math
from typing import Any

from rabbet.expr import coefficients as c
from rabbet.graph.op import op
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import (
    abs_,
    divide,
    maximum,
    minimum,
    multiply,
    sign,
    subtract,
)
from rabbet.ops.compare import equal, less, where
from rabbet.ops.error_functions import in_double
from rabbet.ops.float_functions import copysign, exp, sqrt
from rabbet.ops.rules import each, unary_samples
from rabbet.ops.special import polynomial

_MIDDLE = 8.0


def _scaled(order: int, a: Any) -> Any:
    """exp(-a) I(a) for a >= 0."""
    near, far = minimum(a, _MIDDLE), maximum(a, _MIDDLE)
    at = subtract(multiply(near, 0.25), 1.0)
    below = polynomial(at, c.I1E_NEAR_64 if order else c.I0E_NEAR_64)
    if order:
        below = multiply(near, below)
    at = subtract(divide(16.0, far), 1.0)
    above = divide(polynomial(at, c.I1E_FAR_64 if order else c.I0E_FAR_64), sqrt(far))
    return where(less(a, _MIDDLE), below, above)


def _full(order: int, a: Any) -> Any:
    a = minimum(a, 1500.0)  # infinite long before
    half = exp(multiply(a, 0.5))
    return multiply(multiply(_scaled(order, a), half), half)


def _number(order: int, scaled: bool) -> Any:
    """Bessel's integral by the trapezoidal rule: exact for such periodic functions."""

    def value(x: float) -> float:
        if math.isnan(x):
            return x
        if math.isinf(x):
            return math.copysign(0.0 if scaled else math.inf, x if order else 1.0)
        a, steps = abs(x), 64 + 16 * math.isqrt(int(min(abs(x), 1e6)) + 1)
        angles = [2 * math.pi * k / steps for k in range(steps)]
        if a > 1e6:
            found = (1 - (4 * order - 1) / (8 * a)) / math.sqrt(2 * math.pi * a)
        else:
            found = math.fsum(
                math.exp(a * (math.cos(t) - 1)) * (math.cos(t) if order else 1) for t in angles
            )
            found /= steps
        if not scaled:
            found = math.inf if a > 713 else found * math.exp(a / 2) * math.exp(a / 2)
        return math.copysign(found, x) if order else found

    return value


@op("composite", promote="float", reference=each(_number(0, False)), samples=unary_samples(-12, 12))
def i0(x: Value) -> Value:
    """The modified Bessel function of order 0.

    >>> rb.i0(rb.asarray([0.0, 1.0]))
    tensor([1.       , 1.2660658])
    """
    return in_double("i0", lambda x: _full(0, abs_(x)), x)


@i0.gradient
def _i0_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, i1(x)),)


@op(
    "composite",
    promote="float",
    reference=each(_number(0, True)),
    samples=unary_samples(-12, 12, (0.0,)),
)
def i0e(x: Value) -> Value:
    """exp(-|x|) * i0(x).

    >>> rb.i0e(rb.asarray([0.0, 100.0]))
    tensor([1.        , 0.03994438])
    """
    return in_double("i0e", lambda x: _scaled(0, abs_(x)), x)


@i0e.gradient
def _i0e_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, subtract(i1e(x), multiply(sign(x), y))),)


@op(
    "composite",
    promote="float",
    reference=each(_number(1, False)),
    samples=unary_samples(-12, 12, (0.0,)),
)
def i1(x: Value) -> Value:
    """The modified Bessel function of order 1.

    >>> rb.i1(rb.asarray([0.0, 1.0]))
    tensor([0.       , 0.5651591])
    """
    return in_double("i1", lambda x: copysign(_full(1, abs_(x)), x), x)


def _over(y: Any, x: Any) -> Any:
    """y / x for y = i1(x) or i1e(x), 1 / 2 at 0."""
    zero = equal(x, 0.0)
    return where(zero, 0.5, divide(y, where(zero, 1.0, x)))


@i1.gradient
def _i1_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, subtract(i0(x), _over(y, x))),)


@op(
    "composite",
    promote="float",
    reference=each(_number(1, True)),
    samples=unary_samples(-12, 12, (0.0,)),
)
def i1e(x: Value) -> Value:
    """exp(-|x|) * i1(x).

    >>> rb.i1e(rb.asarray([0.0, 100.0]))
    tensor([0.        , 0.03974415])
    """
    return in_double("i1e", lambda x: copysign(_scaled(1, abs_(x)), x), x)


@i1e.gradient
def _i1e_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    slope = subtract(i0e(x), multiply(sign(x), y))
    return (multiply(g, subtract(slope, _over(y, x))),)
