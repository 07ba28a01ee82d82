"""Common divisors of integers, and the exponents of floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base.dtypes import float64, int32
from rabbet.expr.expr import Expr, cast, const, select
from rabbet.expr.math_base import DOUBLE, INF, absolute, bits_of
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import INTEGERS, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import abs_, floor_divide, multiply
from rabbet.ops.compare import equal, where
from rabbet.ops.index_maps import aligned
from rabbet.ops.rules import FLOATING, INTEGER, binary_samples, broadcast, unary_samples


def _divisor_samples(low: int, high: int) -> Callable[[], list[Sample]]:
    return binary_samples(Draw((), low, high), dtypes=INTEGERS, grad=False)


@op(
    "host",  # as many steps as the numbers need: no kernel has a loop for one element
    promote="common",
    differentiable=False,
    infer=broadcast("gcd", INTEGER),
    lower=lambda x1, x2: np.gcd(x1, x2),
    reference=np.gcd,
    samples=_divisor_samples(-40, 40),
)
def gcd(x1: Value, x2: Value) -> Value:
    """The greatest common divisor of integers, 0 or more; that of 0 and x is abs(x).

    >>> rb.gcd(rb.asarray([12, 0, -8]), rb.asarray([18, 5, 12]))
    tensor([6, 5, 4])
    """


@gcd.batching
def _gcd_batch(size: int, flags: Flags, x1: Any, x2: Any) -> Any:
    ndim = max(x1.ndim - flags[0], x2.ndim - flags[1])
    return gcd(aligned(x1, flags[0], ndim), aligned(x2, flags[1], ndim))


@op(
    "composite",
    promote="common",
    differentiable=False,
    reference=np.lcm,
    samples=_divisor_samples(-9, 9),
)
def lcm(x1: Value, x2: Value) -> Value:
    """The least common multiple of integers, 0 or more; 0 where one of them is 0.

    >>> rb.lcm(rb.asarray([4, 0]), rb.asarray([6, 5]))
    tensor([12,  0])
    """
    shared = gcd(x1, x2)
    part = floor_divide(abs_(x1), where(equal(shared, 0), 1, shared))
    return multiply(part, abs_(x2))


def _exponent(x: Expr) -> Expr:
    size = absolute(cast(x, float64))
    tiny = size < DOUBLE.smallest_normal
    raw = bits_of(select(tiny, size * 2.0**54, size)) >> DOUBLE.fraction
    bias = select(tiny, const(1022 + 54, raw.dtype), const(1022, raw.dtype))
    usual = (size > 0.0) & (size < INF)
    return cast(select(usual, raw - bias, const(0, raw.dtype)), int32)


@op(
    "elementwise",
    public=False,
    method=None,
    differentiable=False,
    infer=broadcast("frexp", FLOATING, int32),
    lower=_exponent,
    reference=lambda x: np.where(np.isfinite(x), np.frexp(x)[1], 0).astype(np.int32),
    samples=unary_samples(-9, 9),
)
def exponent_of(x: Value) -> Value:
    """The int32 e with 0.5 <= |x| / 2**e < 1; 0 for 0 and for what is not finite."""
