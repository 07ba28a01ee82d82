"""Functions about gamma: polygamma, Hurwitz's zeta, the incomplete and the multivariate gamma.

zeta: Euler and Maclaurin's formula (NIST DLMF 25.11.28). The incomplete gamma function is an
integral of positive numbers alone (DLMF 8.6, t = x exp(-s) below x and x exp(s) above), by the
trapezoidal rule after Takahasi and Mori's double exponential substitution (1974): one sum of 80
terms for all arguments, which differentiates by both and needs no table of cases. Computed in
double precision and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np

from rabbet.base.dtypes import float64
from rabbet.base.errors import RabbetError
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import (
    abs_,
    add,
    divide,
    floor,
    maximum,
    minimum,
    multiply,
    negative,
    reciprocal,
    square,
    subtract,
)
from rabbet.ops.axis_moves import unsqueeze
from rabbet.ops.compare import (
    equal,
    greater,
    greater_equal,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
    where,
)
from rabbet.ops.create import iota, zeros_like
from rabbet.ops.error_functions import in_double
from rabbet.ops.float_functions import exp, expm1, log, log1p, pow_, sqrt
from rabbet.ops.pointwise_composites import xlogy
from rabbet.ops.reductions import sum_
from rabbet.ops.rules import each
from rabbet.ops.special import digamma, lgamma, polynomial, trigamma

# ---- zeta and polygamma --------------------------------------------------------------------------

_SUMMED = 10  # terms before the formula takes over
_MULTIPLIED = 8  # the largest power by multiplication
# B(2j) / (2j)!, j = 1, 2, ...
_BERNOULLI = (
    *(1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000),
    *(1 / 74724249600, -3617 / 10670622842880000, 43867 / 5109094217170944000),
)


Power = Callable[[Any], Any]  # a -> a ** -s, for a > 0


def _multiplied(s: int) -> Power:
    """By multiplication: one division is cheaper than `pow`."""

    def power(a: Any) -> Any:
        inverse = reciprocal(a)
        return reduce(multiply, [inverse] * s)

    return power


def _zeta_above(s: Any, a: Any, power: Power) -> Any:
    """For s > 1 and a > 0. The terms are an axis of their own: a kernel that has one power in a
    loop instead of ten one after the other, which take LLVM seconds.
    """
    end = add(a, float(_SUMMED))
    # Where s is larger, `last` is 0.
    few = minimum(s, 2000.0)
    inverse = reciprocal(end)
    shrink = square(inverse)
    factor = multiply(few, inverse)
    rest = multiply(factor, _BERNOULLI[0])
    for j, share in enumerate(_BERNOULLI[1:], 1):
        step = multiply(add(few, float(2 * j - 1)), add(few, float(2 * j)))
        factor = multiply(factor, multiply(step, shrink))
        rest = add(rest, multiply(factor, share))
    steps = iota.like(a, (_SUMMED + 1, *(1,) * a.ndim), 0, float64)
    term = power(add(unsqueeze(a, 0), steps))
    # The last one stands for all that follow.
    tail = add(multiply(term, 0.5), divide(multiply(term, unsqueeze(end, 0)), subtract(s, 1.0)))
    tail = add(tail, where(equal(term, 0.0), 0.0, multiply(term, unsqueeze(rest, 0))))
    return sum_(where(less(steps, float(_SUMMED)), term, tail), axis=0)


def _zeta(x: Any, q: Any, power: Power | None = None) -> Any:
    """Where x is the same for all q, `power` raises to -x.

    Below q = 0, for whole x: the sum over all q + k, k of either sign, depends on f = q mod 1
    alone, and so is zeta(x, f) + (-1)**x zeta(x, 1 - f); less the terms before q.
    """
    converges = greater(x, 1.0)
    low = less(q, 0.0)
    whole = floor(q)
    pole = logical_and(less_equal(q, 0.0), equal(whole, q))
    fits = logical_and(converges, logical_and(logical_not(pole), less(abs_(q), math.inf)))
    reflected = logical_and(fits, low)
    s = where(fits, x, 2.0)
    part = where(reflected, subtract(q, whole), 0.5)
    if power is None:
        power = partial(pow_, x2=negative(s))
    above = _zeta_above(s, where(fits, where(low, part, q), 1.0), power)
    # The way up to the next whole number, exact near it as `part` is near the one below.
    other = _zeta_above(s, where(reflected, subtract(add(whole, 1.0), q), 0.5), power)
    later = _zeta_above(s, where(reflected, subtract(1.0, q), 2.0), power)
    is_odd = not_equal(multiply(floor(multiply(s, 0.5)), 2.0), s)
    # Halfway the two large sums are equal: their difference comes first, so that it is 0.
    both = where(is_odd, subtract(above, other), add(above, other))
    below = add(both, where(is_odd, later, negative(later)))
    # Both sums are infinite: the nearest pole is the larger one.
    below = where(isnan(below), where(less(part, 0.5), math.inf, -math.inf), below)
    below = where(equal(floor(s), s), below, math.nan)
    found = where(fits, where(low, below, above), math.nan)
    is_infinite = logical_or(equal(x, 1.0), logical_and(converges, pole))
    found = where(is_infinite, math.inf, found)
    found = where(logical_and(converges, equal(q, math.inf)), 0.0, found)
    return where(logical_or(isnan(x), isnan(q)), math.nan, found)


def _zeta_number(x: float, q: float) -> float:
    if math.isnan(x) or math.isnan(q) or x < 1:
        return math.nan
    if x == 1:
        return math.inf
    if q <= 0 and math.isinf(q) or q == math.floor(q) <= 0:
        return math.inf
    if q == math.inf:
        return 0.0
    if q < 0:  # whole numbers: as many terms until q is positive
        terms = [(q + k) ** -x for k in range(-math.floor(q))] if x == int(x) else [math.nan]
        return math.fsum([*terms, _zeta_number(x, q - math.floor(q))])
    terms = [(q + k) ** -x for k in range(40)]
    end = q + 40
    terms += [end ** (1 - x) / (x - 1), end**-x / 2, x * end ** (-x - 1) / 12]
    terms += [-x * (x + 1) * (x + 2) * end ** (-x - 3) / 720]
    rising = x * (x + 1) * (x + 2) * (x + 3) * (x + 4)
    return math.fsum([*terms, rising * end ** (-x - 5) / 30240])


@op(
    "composite",
    promote="float",
    reference=each(_zeta_number),
    samples=lambda: [
        Sample((Draw(s, 1.5, 6), Draw(t, 0.3, 8)))
        for s, t in (((), ()), ((3, 4), (4,)), ((0,), (1,)), ((1,), (3, 1)))
    ],
)
def zeta(x: Value, q: Value) -> Value:
    """Hurwitz's zeta function: the sum over k >= 0 of (q + k) ** -x; Riemann's for q = 1.

    NaN for x < 1, and for q below 0 where x is not whole; infinite at its poles, q = 0, -1, ...

    >>> rb.zeta(rb.asarray([2.0, 4.0]), 1.0)
    tensor([1.644934 , 1.0823232])
    """
    return in_double("zeta", _zeta, x, q)


def _polygamma_array(n: int, x: np.ndarray) -> np.ndarray:
    if n == 0:
        return digamma.reference(x)
    if n == 1:
        return trigamma.reference(x)
    scale = (-1) ** (n + 1) * math.factorial(n)
    return np.asarray(scale * each(lambda q: _zeta_number(n + 1.0, q))(x))


@op(
    "composite",
    promote="float",
    reference=_polygamma_array,
    samples=lambda: [
        Sample((Draw(s, 0.4, 6),), {"n": n}, tolerance=1e-5)
        for s, n in (((3, 4), 2), ((), 1), ((0,), 3), ((1,), 0), ((5,), 4))
    ],
)
def polygamma(n: int, x: Value) -> Value:
    """The derivative number `n` (from 0 to 170) of `digamma`, infinite at its poles.

    >>> rb.polygamma(1, rb.asarray([1.0]))
    tensor([1.644934])
    """
    if not 0 <= n <= 170:
        raise RabbetError(f"polygamma: n is {n}, it must be from 0 to 170")
    if n == 0:
        return digamma(x)
    if n == 1:
        return in_double("polygamma", trigamma, x)
    scale = float((-1) ** (n + 1) * math.factorial(n))
    power = _multiplied(n + 1) if n < _MULTIPLIED else None
    return in_double("polygamma", lambda x: multiply(_zeta(_like(x, n + 1.0), x, power), scale), x)


def _like(x: Any, value: float) -> Any:
    return add(zeros_like(x), value)


@polygamma.gradient
def _polygamma_gradient(g: Any, y: Any, x: Any, n: int) -> tuple[Any]:
    return (multiply(g, polygamma(n + 1, x)),)


# ---- multivariate ----------------------------------------------------------------------------


def _multigammaln_array(x: np.ndarray, p: int) -> np.ndarray:
    shifted = [lgamma.reference(np.asarray(x, np.float64) - j / 2) for j in range(p)]
    return np.asarray(np.add.reduce(shifted) + p * (p - 1) / 4 * math.log(math.pi))


@op(
    "composite",
    promote="float",
    reference=_multigammaln_array,
    samples=lambda: [
        Sample((Draw(s, 2.2, 6),), {"p": p})
        for s, p in (((3, 4), 3), ((), 1), ((0,), 2), ((1,), 2), ((5,), 4))
    ],
)
def multigammaln(x: Value, p: int) -> Value:
    """The logarithm of the multivariate gamma function of dimension `p`, for x > (p - 1) / 2.

    >>> rb.multigammaln(rb.asarray([2.0]), 2)
    tensor([0.4515827])
    """
    if p < 1:
        raise RabbetError(f"multigammaln: p is {p}, it must be at least 1")
    return in_double("multigammaln", lambda x: _multigammaln(x, p), x)


def _multigammaln(x: Any, p: int) -> Any:
    total = lgamma(x)
    for j in range(1, p):
        total = add(total, lgamma(subtract(x, j / 2)))
    return add(total, p * (p - 1) / 4 * math.log(math.pi))


# ---- incomplete gamma ----------------------------------------------------------------------------

_NODES, _FIRST, _LAST = 80, -3.5, 3.7
_NATS = 40.0  # the integrand's last value, as -log


def _power_over_factorial(a: Any, x: Any) -> Any:
    """x ** a * exp(-x) / gamma(a + 1), without loss of digits for large a."""
    large = greater_equal(a, 10.0)
    big = where(large, a, 10.0)
    inverse = reciprocal(big)
    off = divide(subtract(where(large, x, 10.0), big), big)
    stirling = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
    error = multiply(inverse, polynomial(square(inverse), stirling))
    above = multiply(big, subtract(off, log1p(off)))
    above = add(add(above, error), multiply(log(multiply(big, 2 * math.pi)), 0.5))
    low = where(large, 1.0, a)
    below = subtract(subtract(xlogy(low, x), x), lgamma(add(low, 1.0)))
    return exp(where(large, negative(above), below))


def _widest(a: Any, x: Any, is_upper: Any) -> Any:
    """From where on the integrand is below exp(-_NATS)."""
    gap = abs_(subtract(x, a))
    share = divide(_NATS, a)
    first = multiply(add(share, sqrt(add(square(share), multiply(share, 8.0)))), 0.5)
    is_tight = greater(multiply(gap, first), _NATS)
    below = where(is_tight, divide(_NATS, where(is_tight, gap, 1.0)), first)
    far = where(is_upper, x, 1.0)
    gap = where(is_upper, gap, 1.0)
    root = sqrt(add(square(gap), multiply(far, 2 * _NATS)))
    bound = divide(2 * _NATS, add(gap, root))
    above = log1p(divide(add(multiply(a, bound), _NATS), far))
    return where(is_upper, minimum(bound, above), below)


def _tail(a: Any, x: Any, is_upper: Any) -> Any:
    """The integral of exp(-(a s - x (1 - exp(-s)))), or of exp(a s - x (exp(s) - 1))."""
    step = (_LAST - _FIRST) / (_NODES - 1)
    width = unsqueeze(_widest(a, x, is_upper), -1)
    a, x, is_upper = (unsqueeze(v, -1) for v in (a, x, is_upper))
    nodes = iota.like(a, (_NODES,), 0, float64)
    t = add(multiply(nodes, step), _FIRST)
    inner = exp(negative(t))
    s = multiply(width, exp(subtract(subtract(t, _LAST), inner)))
    weight = multiply(s, add(multiply(inner, step), step))
    side = where(is_upper, 1.0, -1.0)
    s_signed = multiply(s, side)
    height = subtract(multiply(a, s_signed), multiply(x, expm1(s_signed)))
    return sum_(multiply(exp(height), weight), axis=-1)


def _incomplete(a: Any, x: Any, upper: bool) -> Any:
    inside = logical_and(logical_and(greater(a, 0.0), greater(x, 0.0)), less(a, math.inf))
    inside = logical_and(inside, less(x, math.inf))
    shape, at = where(inside, a, 1.0), where(inside, x, 1.0)
    is_upper = greater_equal(at, maximum(shape, 1.0))
    lifted = logical_and(less(shape, 1.0), less(at, 1.0))
    raised = where(lifted, add(shape, 1.0), shape)
    own = _power_over_factorial(shape, at)
    scale = where(lifted, multiply(own, divide(at, raised)), own)
    part = multiply(multiply(scale, raised), _tail(raised, at, is_upper))
    # P(a) = P(a + 1) + x ** a exp(-x) / gamma(a + 1)
    part = add(part, where(lifted, own, 0.0))
    part = minimum(part, 1.0)
    found = (
        where(is_upper, part, subtract(1.0, part))
        if upper
        else where(is_upper, subtract(1.0, part), part)
    )
    return where(inside, found, _ends(a, x, upper))


def _ends(a: Any, x: Any, upper: bool) -> Any:
    """Values outside 0 < a, x < inf: NaN for negative numbers, and where both are at one end."""
    none, all_ = (1.0, 0.0) if upper else (0.0, 1.0)
    zero_a, zero_x = equal(a, 0.0), equal(x, 0.0)
    found = where(logical_or(zero_x, isinf(a)), none, all_)
    bad = logical_or(less(a, 0.0), less(x, 0.0))
    bad = logical_or(bad, logical_and(zero_a, zero_x))
    bad = logical_or(bad, logical_and(isinf(a), isinf(x)))
    bad = logical_or(bad, logical_or(isnan(a), isnan(x)))
    return where(bad, math.nan, found)


def _incomplete_number(a: float, x: float, upper: bool) -> float:
    """The series for x < a + 1, else Lentz's continued fraction."""
    if math.isnan(a) or math.isnan(x) or a < 0 or x < 0 or a == x == 0 or a == x == math.inf:
        return math.nan
    if x == 0 or a == math.inf or a == 0 or x == math.inf:
        return float((x == 0 or a == math.inf) == upper)
    scale = math.exp(a * math.log(x) - x - math.lgamma(a)) if x < 1e5 else 0.0
    if x < a + 1:
        term = total = 1 / a
        n = a
        while term > total * 1e-18:
            n += 1
            term *= x / n
            total += term
        found = total * scale
        return 1 - found if upper else found
    b = x + 1 - a
    numerator, d = 1e300, 1 / b
    h = d
    for i in range(1, 500):
        step = -i * (i - a)
        b += 2
        d = 1 / (step * d + b)
        numerator = b + step / numerator
        h *= d * numerator
    found = h * scale
    return found if upper else 1 - found


def _incomplete_samples() -> list[Sample]:
    return [
        Sample((Draw(s, 0.4, 9), Draw(t, 0.4, 9)))
        for s, t in (((3, 4), (4,)), ((), ()), ((0,), (1,)), ((1,), (3, 1)))
    ]


@op(
    "composite",
    promote="float",
    reference=each(lambda a, x: _incomplete_number(a, x, False)),
    samples=_incomplete_samples,
)
def gammainc(x1: Value, x2: Value) -> Value:
    """The regularised lower incomplete gamma function P(x1, x2): shape first, as in SciPy.

    Differentiable by both; NaN for negative numbers.

    >>> rb.gammainc(rb.asarray([1.0]), rb.asarray([2.0]))
    tensor([0.86466473])
    """
    return in_double("gammainc", lambda a, x: _incomplete(a, x, False), x1, x2)


@op(
    "composite",
    promote="float",
    reference=each(lambda a, x: _incomplete_number(a, x, True)),
    samples=_incomplete_samples,
)
def gammaincc(x1: Value, x2: Value) -> Value:
    """The regularised upper incomplete gamma function Q = 1 - P, with its digits in the tail.

    >>> rb.gammaincc(rb.asarray([1.0]), rb.asarray([20.0]))
    tensor([2.0611537e-09])
    """
    return in_double("gammaincc", lambda a, x: _incomplete(a, x, True), x1, x2)
