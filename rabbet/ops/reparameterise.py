"""Gradients of gamma numbers with respect to their concentration.

A number z drawn from Gamma(a, 1) is no function of a that could be differentiated: it is found by
rejection. But were its quantile u = F(z; a) kept while a changes, z would move by
dz/da = -(dF/da) / (dF/dz): implicit reparameterisation (M. Figurnov, S. Mohamed and A. Mnih, 2018,
"Implicit reparameterization gradients"; M. Jankowiak and F. Obermeyer, 2018, "Pathwise derivatives
beyond the reparameterization trick").

With l = log z, and because log t has the mean digamma(a),

    dl/da = integral from 0 to infinity of exp(-a s - z (exp(-s) - 1)) (digamma(a) - l + s) ds
          = integral from 0 to infinity of exp(+a s - z (exp(+s) - 1)) (l + s - digamma(a)) ds,

the integral over smaller and over larger numbers. Of these the one is taken whose integrand is
positive everywhere, so no digits cancel; Gauss and Legendre's rule gives it to 11 digits, or to 8
for float32. Small z have a series. Logarithms stay finite where z is too small for a float.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from rabbet.base.dtypes import float64
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import show
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import add, cast, divide, maximum, minimum, multiply, subtract
from rabbet.ops.compare import greater, less, where
from rabbet.ops.float_functions import exp, expm1, log, log1p, sqrt
from rabbet.ops.index_maps import expand
from rabbet.ops.rules import each
from rabbet.ops.special import digamma

FEW = 0.5  # numbers below this have a series


class _Effort(NamedTuple):
    """What a relative error takes; each node is an exponential of two."""

    terms: int  # of the series
    nodes: int  # of the integral
    reach: float  # the integral's weight at the end of the interval is exp(-reach)


DOUBLE = _Effort(16, 32, 38.0)  # below 3e-12
SINGLE = _Effort(10, 20, 22.0)  # below 5e-9: less than a tenth of what rounding to float32 costs


@functools.cache
def _rule(count: int) -> list[tuple[float, float]]:
    """Nodes and weights of Gauss and Legendre's rule on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return [(float(t), float(w)) for t, w in zip((nodes + 1) / 2, weights / 2, strict=True)]


def _slope_of_number(a: float, level: float) -> float:
    """The same integral by many nodes as far as the weight counts, found by halving."""
    if math.isnan(a + level) or a <= 0:
        return math.nan
    z = math.exp(level)
    psi = float(np.asarray(digamma.reference(np.float64(a + 1)))) - 1 / a
    side = -1.0 if level < psi else 1.0

    def weight(s: Any) -> Any:
        return a * side * s - z * np.expm1(side * s)

    low, high = 0.0, 1.0
    while weight(high) > -60:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if weight(middle) > -60 else (low, middle)
    nodes, weights = np.array(_rule(150)).T
    s = high * nodes
    return float(np.sum(weights * np.exp(weight(s)) * (side * (level - psi) + s)) * high)


def _slope_samples() -> list[Sample]:
    cases = (((3, 4), 0.3, 6.0), ((20,), 0.8, 1.5), ((), 3.0, 3.0), ((0,), 1.0, 2.0))
    return [
        Sample((Draw(s, low, high), Draw(s, -0.5, 1.8)), tolerance=1e-4) for s, low, high in cases
    ]


@op(
    "composite",
    public=False,
    promote="float",
    reference=each(_slope_of_number),
    samples=_slope_samples,
)
def gamma_slope(concentration: Value, level: Value) -> Value:
    """How log z of a Gamma(concentration, 1) number z, now at `level`, moves with it: elementwise.

    Computed in float64. NaN unless the concentration is above 0.
    """
    a, at = cast(concentration, float64), cast(level, float64)
    a = where(greater(a, 0.0), a, math.nan)
    z = exp(at)
    effort = DOUBLE if concentration.dtype is float64 else SINGLE
    series = _series(a, at, minimum(z, FEW), effort)
    found = where(less(z, FEW), series, _integral(a, maximum(z, FEW), effort))
    return cast(found, concentration.dtype)


def _series(a: Any, level: Any, z: Any, effort: _Effort) -> Any:
    """From F = z^a exp(-z) / gamma(a + 1) (1 + z / (a + 1) + z^2 / (a + 1) / (a + 2) + ...)."""
    term: Any = 1.0
    total: Any = 1.0
    slope: Any = 0.0
    harmonic: Any = 0.0
    for n in range(1, effort.terms + 1):
        inverse = divide(1.0, add(a, float(n)))
        term = multiply(multiply(z, inverse), term)
        harmonic = add(inverse, harmonic)
        total = add(term, total)
        slope = add(multiply(term, harmonic), slope)
    away = subtract(digamma(add(a, 1.0)), level)
    return divide(add(multiply(total, away), slope), a)


def _integral(a: Any, z: Any, effort: _Effort) -> Any:
    away = subtract(log(z), digamma(a))
    is_low = less(away, 0.0)
    side = where(is_low, -1.0, 1.0)
    reach = multiply(
        side, where(is_low, _reach_below(a, z, effort.reach), _reach_above(a, z, effort.reach))
    )
    total: Any = 0.0
    for node, weight in _rule(effort.nodes):
        s = multiply(reach, node)
        height = exp(subtract(multiply(a, s), multiply(z, expm1(s))))
        total = add(multiply(multiply(height, weight), add(away, s)), total)
    return multiply(total, reach)


def _reach_below(a: Any, z: Any, reach: float) -> Any:
    """Where a s + z (exp(-s) - 1) = reach, or a little behind it (z is below a).

    The left side is convex: Newton's method comes down on it from any point above.
    """
    s = divide(add(z, reach), a)
    s = minimum(s, where(greater(z, 3 * reach), sqrt(divide(3 * reach, z)), math.inf))
    for _ in range(3):
        over = subtract(add(multiply(a, s), multiply(z, expm1(multiply(s, -1.0)))), reach)
        s = subtract(s, divide(over, subtract(a, multiply(z, exp(multiply(s, -1.0))))))
    return s


def _reach_above(a: Any, z: Any, reach: float) -> Any:
    """Where z (exp(s) - 1) - a s = reach, or a little behind it (z is above a - 1 / 2).

    The left side is at least z s^2 / 2 - s / 2, and s = log(1 + (reach + a s) / z) comes closer.
    """
    s = divide(add(sqrt(add(multiply(z, 2 * reach), 0.25)), 0.5), z)
    for _ in range(3):
        s = minimum(s, log1p(divide(add(multiply(a, s), reach), z)))
    return s


# ---- the number itself, with that slope ----------------------------------------------------------


@op(
    "composite",
    public=False,
    reference=lambda level, concentration: level.copy(),
    samples=lambda: [
        Sample((Draw(s, -1, 1, dtype=d), Draw(s, 0.5, 3, dtype=d)), grad=False)
        for s in ((3, 4), (), (0,))
        for d in ("float32", "float64")
    ],
)
def gamma_path(level: Value, concentration: Value) -> Value:
    """`level`, the logarithm of a Gamma(concentration, 1) number, as one that moves with it.

    (*s), (*s) -> (*s). The value is `level` itself, which gets no gradient.
    """
    if not level.dtype.is_float or concentration.dtype is not level.dtype:
        raise DTypeError(
            f"gamma_path: {level.dtype.name} and {concentration.dtype.name}; equal floats needed"
        )
    if level.shape != concentration.shape:
        raise ShapeError(f"gamma_path: {show(level.shape)} is not {show(concentration.shape)}")
    return level


@gamma_path.gradient
def _path_gradient(g: Any, y: Any, level: Any, concentration: Any) -> tuple[None, Any]:
    return None, multiply(g, gamma_slope(concentration, y))


@gamma_path.batching
def _path_batch(size: int, flags: Flags, level: Any, concentration: Any) -> Any:
    shape = (size, *(level if flags[0] else concentration).shape[1:])
    return gamma_path(expand(level, shape), expand(concentration, shape))
