"""Elementwise special functions: error function, gamma function and their kin."""

from __future__ import annotations

import math
from typing import Any

from rabbet.graph.op import op
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import (
    add,
    divide,
    multiply,
    negative,
    reciprocal,
    round_,
    square,
    subtract,
)
from rabbet.ops.compare import equal, less, where
from rabbet.ops.float_functions import exp
from rabbet.ops.rules import FLOATING, broadcast, each, row, unary_samples
from rabbet.ops.trigonometry import sin


def _erfinv(y: float) -> float:
    """Newton's method on erfc of the nearer tail, which keeps all digits near -1 and 1."""
    if not -1 < y < 1:
        return math.copysign(math.inf, y) if abs(y) == 1 else math.nan
    tail = 1 - abs(y)
    x = 0.0
    for _ in range(100):
        slope = 2 / math.sqrt(math.pi) * math.exp(-x * x)
        step = (math.erfc(x) - tail) / slope
        x += step
        if abs(step) <= 1e-17 * x:
            break
    return math.copysign(x, y)


def _lgamma(x: float) -> float:
    if math.isnan(x):
        return x
    pole = x <= 0 and (math.isinf(x) or x == math.floor(x))
    return math.inf if pole or math.isinf(x) else math.lgamma(x)


def _digamma(x: float) -> float:
    """Upward recurrence to x >= 10, then the asymptotic series; reflection below 0."""
    if math.isnan(x) or x == -math.inf:
        return math.nan
    if x == 0:
        return math.copysign(math.inf, -x)
    if x < 0:
        if x == math.floor(x):
            return math.nan
        return _digamma(1 - x) - math.pi / math.tan(math.pi * math.fmod(x, 1))
    total = 0.0
    while x < 10:
        total -= 1 / x
        x += 1
    if math.isinf(x):
        return x
    z = 1 / (x * x)
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132)))))
    return total + math.log(x) - 0.5 / x - series


def _trigamma(x: float) -> float:
    """The derivative of digamma: recurrence, then the asymptotic series; reflection below 0."""
    if math.isnan(x):
        return x
    if x <= 0:
        if math.isinf(x) or x == math.floor(x):
            return math.inf
        return (math.pi / math.sin(math.pi * math.fmod(x, 1))) ** 2 - _trigamma(1 - x)
    total = 0.0
    while x < 10:
        total += 1 / (x * x)
        x += 1
    if math.isinf(x):
        return 0.0
    z = 1 / (x * x)
    series = z * (1 / 6 - z * (1 / 30 - z * (1 / 42 - z * (1 / 30 - z * (5 / 66)))))
    return total + 1 / x + z / 2 + series / x


@op(
    "elementwise",
    promote="float",
    infer=broadcast("erf", FLOATING),
    lower=row("erf"),
    reference=each(math.erf),
    samples=unary_samples(),
    onnx="Erf",
)
def erf(x: Value) -> Value:
    """The error function.

    >>> rb.erf(rb.asarray([0.0, 1.0]))
    tensor([0.        , 0.84270084])
    """


@erf.gradient
def _erf_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, multiply(exp(negative(square(x))), 2 / math.sqrt(math.pi))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("erfinv", FLOATING),
    lower=row("erfinv"),
    reference=each(_erfinv),
    samples=unary_samples(-0.95, 0.95),
)
def erfinv(x: Value) -> Value:
    """Inverse of the error function.

    >>> rb.erfinv(rb.asarray([0.0, 1.0]))
    tensor([ 0., inf])
    """


@erfinv.gradient
def _erfinv_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, multiply(exp(square(y)), math.sqrt(math.pi) / 2)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("lgamma", FLOATING),
    lower=row("lgamma"),
    reference=each(_lgamma),
    samples=unary_samples(0.4, 6, tolerance=1e-5),
)
def lgamma(x: Value) -> Value:
    """Logarithm of the absolute value of the gamma function.

    >>> rb.lgamma(rb.asarray([1.0, 3.0]))
    tensor([0.       , 0.6931472])
    """


@lgamma.gradient
def _lgamma_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, digamma(x)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("digamma", FLOATING),
    lower=row("digamma"),
    reference=each(_digamma),
    samples=unary_samples(0.4, 6, tolerance=1e-5),
)
def digamma(x: Value) -> Value:
    """Logarithmic derivative of the gamma function.

    >>> rb.digamma(rb.asarray([1.0]))
    tensor([-0.5772157])
    """


@digamma.gradient
def _digamma_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, trigamma(x)),)


@op(
    "composite",
    public=False,
    reference=each(_trigamma),
    samples=unary_samples(0.4, 6, tolerance=1e-5),
)
def trigamma(x: Value) -> Value:
    """The derivative of digamma (floats)."""
    reflected = less(x, 0.5)
    at = where(reflected, subtract(1.0, x), x)
    total = reciprocal(square(at))
    for shift in range(1, 8):
        total = add(total, reciprocal(square(add(at, float(shift)))))
    inverse = reciprocal(add(at, 8.0))
    z = square(inverse)
    series = polynomial(z, (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6))
    found = add(
        total, multiply(inverse, add(add(1.0, multiply(inverse, 0.5)), multiply(z, series)))
    )
    angle = where(reflected, multiply(subtract(x, round_(x)), math.pi), 1.0)
    mirrored = subtract(square(divide(math.pi, sin(angle))), found)
    return where(reflected, where(equal(x, -math.inf), math.inf, mirrored), found)


def polynomial(z: Any, coefficients: tuple[float, ...]) -> Any:
    """c0 + c1 z + c2 z^2 + ... by Horner's rule."""
    found: Any = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        found = add(multiply(z, found), c)
    return found
