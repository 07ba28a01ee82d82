"""Elementwise functions made of others: mixtures, logarithms that spare zeros, closeness."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, NUMERIC, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import (
    abs_,
    add,
    clip,
    divide,
    floor,
    maximum,
    minimum,
    multiply,
    negative,
    remainder,
    round_,
    subtract,
    trunc,
)
from rabbet.ops.checks import need_float
from rabbet.ops.compare import (
    equal,
    greater,
    isfinite,
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
from rabbet.ops.error_functions import in_double
from rabbet.ops.float_functions import copysign, log, log1p
from rabbet.ops.rules import binary_samples, unary_samples, wide
from rabbet.ops.trigonometry import atanh, sin

# ---- mixtures ------------------------------------------------------------------------------------


@op(
    "composite",
    promote="float",
    reference=lambda x, end, weight: x + weight * (end - x),
    samples=lambda: [
        Sample((Draw(s), Draw(t), Draw(u, 0.05, 0.95, avoid=(0.5,))))
        for s, t, u in (((3, 4), (4,), ()), ((), (2, 3), (3,)), ((0,), (1,), (1,)))
    ],
)
def lerp(x: Value, end: Value, weight: Value) -> Value:
    """From `x` (weight 0) to `end` (weight 1) along a straight line; exact at both.

    >>> rb.lerp(rb.asarray([0.0, 10.0]), rb.asarray([1.0, 20.0]), 0.5)
    tensor([ 0.5, 15. ])
    """
    need_float("lerp", "input", x.dtype)
    way = subtract(end, x)
    near = add(x, multiply(weight, way))
    far = subtract(end, multiply(subtract(1.0, weight), way))
    return where(less(abs_(weight), 0.5), near, far)


def _three() -> list[Sample]:
    return [
        Sample((Draw(s), Draw(t), Draw(u, kind="positive")), {"value": v})
        for s, t, u, v in (((3, 4), (4,), (3, 1), 0.5), ((), (), (), 1.0), ((0,), (1,), (1,), -2.0))
    ]


@op(
    "composite",
    promote="float",
    reference=lambda x, tensor1, tensor2, value: x + x.dtype.type(value) * tensor1 * tensor2,
    samples=_three,
)
def addcmul(x: Value, tensor1: Value, tensor2: Value, value: float = 1.0) -> Value:
    """x + value * tensor1 * tensor2.

    >>> rb.addcmul(rb.ones(2), rb.asarray([1.0, 2.0]), rb.asarray([3.0, 4.0]), value=0.5)
    tensor([2.5, 5. ])
    """
    need_float("addcmul", "input", x.dtype)
    product = multiply(tensor1, tensor2)
    return add(x, product if value == 1 else multiply(product, value))


@op(
    "composite",
    promote="float",
    reference=lambda x, tensor1, tensor2, value: x + value * (tensor1 / tensor2),
    samples=_three,
)
def addcdiv(x: Value, tensor1: Value, tensor2: Value, value: float = 1.0) -> Value:
    """x + value * tensor1 / tensor2.

    >>> rb.addcdiv(rb.ones(2), rb.asarray([1.0, 2.0]), rb.asarray([2.0, 4.0]))
    tensor([1.5, 1.5])
    """
    need_float("addcdiv", "input", x.dtype)
    quotient = divide(tensor1, tensor2)
    return add(x, quotient if value == 1 else multiply(quotient, value))


# ---- logarithms ----------------------------------------------------------------------------------


def _logit_array(x: np.ndarray, eps: float | None) -> np.ndarray:
    kept = np.asarray(x, np.float64) if eps is None else np.clip(x, eps, 1 - eps)
    return np.where(abs(kept - 0.5) < 0.25, 2 * np.arctanh(2 * kept - 1), np.log(kept / (1 - kept)))


@op(
    "composite",
    promote="float",
    reference=_logit_array,
    samples=lambda: [
        Sample((Draw(s, 0.05, 0.95),), {"eps": e})
        for s, e in (((3, 4), None), ((), None), ((0,), None), ((5,), 1e-6))
    ],
)
def logit(x: Value, eps: float | None = None) -> Value:
    """log(x / (1 - x)), the inverse of `sigmoid`; `eps` keeps x between eps and 1 - eps.

    >>> rb.logit(rb.asarray([0.5]))
    tensor([0.])
    """
    need_float("logit", "input", x.dtype)
    kept = x if eps is None else clip(x, float(eps), 1.0 - float(eps))
    # Around 1 / 2 the logarithms cancel; 2 x - 1 is exact there.
    middle = logical_and(less(0.25, kept), less(kept, 0.75))
    near = multiply(atanh(subtract(multiply(where(middle, kept, 0.5), 2.0), 1.0)), 2.0)
    return where(middle, near, subtract(log(kept), log1p(negative(kept))))


@op(
    "composite",
    promote="float",
    reference=wide(
        lambda x, y: np.where((x == 0) & ~np.isnan(y), 0, x * np.log(np.where(x == 0, 1, y)))
    ),
    samples=binary_samples(Draw(()), Draw((), kind="positive")),
)
def xlogy(x1: Value, x2: Value) -> Value:
    """x1 * log(x2), and 0 where x1 is 0 (NaN where x2 is).

    >>> rb.xlogy(rb.asarray([0.0, 2.0]), rb.asarray([0.0, 1.0]))
    tensor([0., 0.])
    """
    need_float("xlogy", "x1", x1.dtype)
    wild = logical_or(less_equal(x2, 0.0), isinf(x2))
    return multiply(x1, log(where(logical_and(equal(x1, 0.0), wild), 1.0, x2)))


# ---- NaN and infinities --------------------------------------------------------------------------


def _largest(dtype: np.dtype) -> float:
    limits: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(limits.max)


def _nan_to_num_array(x: np.ndarray, nan: float, posinf: Any, neginf: Any) -> np.ndarray:
    if x.dtype.kind in "biu":
        return x.copy()
    most = _largest(x.dtype)
    ends = [end if given is None else given for given, end in ((posinf, most), (neginf, -most))]
    found = np.where(x == np.inf, ends[0], np.where(x == -np.inf, ends[1], x))
    return np.where(np.isnan(x), nan, found).astype(x.dtype)


@op(
    "composite",
    holds_halves=True,
    reference=_nan_to_num_array,
    samples=lambda: [
        Sample((Draw(s),), {"nan": 0.5, "posinf": p, "neginf": None}, ("int32", *FLOATS))
        for s, p in (((3, 4), None), ((), 7.0), ((0,), None))
    ],
)
def nan_to_num(
    x: Value, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Value:
    """`x` with NaN, +inf and -inf as these numbers (None: the largest and smallest of the dtype).

    >>> rb.nan_to_num(rb.asarray([rb.nan, 1.0, rb.inf]), posinf=9.0)
    tensor([0., 1., 9.])
    """
    if x.dtype.kind in "biu":
        return x
    need_float("nan_to_num", "input", x.dtype)
    most = _largest(x.dtype.numpy)
    high = where(greater(x, 0.0), most if posinf is None else float(posinf), x)
    ends = where(less(x, 0.0), -most if neginf is None else float(neginf), high)
    return where(isnan(x), float(nan), where(isinf(x), ends, x))


@op(
    "composite",
    promote="common",
    differentiable=False,
    reference=lambda x1, x2, rtol, atol, equal_nan: np.isclose(x1, x2, rtol, atol, equal_nan),
    samples=lambda: [
        Sample(
            (Draw((3, 4), 0, 3), Draw((4,), 0, 3)),
            {"rtol": r, "atol": 1e-8, "equal_nan": e},
            ("int64", *FLOATS),
        )
        for r, e in ((1e-5, False), (0.5, True))
    ],
)
def isclose(
    x1: Value, x2: Value, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Value:
    """|x1 - x2| <= atol + rtol * |x2|, element by element; equal infinities are close.

    >>> rb.isclose(rb.asarray([1.0, 2.0]), rb.asarray([1.0 + 1e-7, 2.1]))
    tensor([ True, False])
    """
    same = equal(x1, x2)
    if not x1.dtype.is_float:
        apart = abs_(subtract(maximum(x1, x2), minimum(x1, x2)))
        return logical_or(same, less_equal(apart, add(multiply(abs_(x2), rtol), atol)))
    room = add(multiply(abs_(x2), float(rtol)), float(atol))
    near = logical_and(less_equal(abs_(subtract(x1, x2)), room), isfinite(x2))
    found = logical_or(same, near)
    both = logical_and(isnan(x1), isnan(x2))
    return logical_or(found, both) if equal_nan else found


def _ignoring(name: str, pick: Any, x1: Any, x2: Any) -> Any:
    if not x1.dtype.is_float:
        return pick(x1, x2)
    return where(isnan(x2), x1, where(isnan(x1), x2, pick(x1, x2)))


@op(
    "composite",
    promote="common",
    reference=np.fmax,
    samples=binary_samples(Draw((), kind="distinct"), Draw((), -1.9, 2.1, "distinct")),
)
def fmax(x1: Value, x2: Value) -> Value:
    """The larger of two, and the other one where one is NaN.

    >>> rb.fmax(rb.asarray([1.0, rb.nan]), 0.0)
    tensor([1., 0.])
    """
    return _ignoring("fmax", maximum, x1, x2)


@op(
    "composite",
    promote="common",
    reference=np.fmin,
    samples=binary_samples(Draw((), kind="distinct"), Draw((), -1.9, 2.1, "distinct")),
)
def fmin(x1: Value, x2: Value) -> Value:
    """The smaller of two, and the other one where one is NaN.

    >>> rb.fmin(rb.asarray([-1.0, rb.nan]), 0.0)
    tensor([-1.,  0.])
    """
    return _ignoring("fmin", minimum, x1, x2)


# ---- parts and steps -----------------------------------------------------------------------------


@op(
    "composite",
    promote="float",
    reference=wide(lambda x: x - np.trunc(x)),
    samples=unary_samples(0.1, 0.9),
)
def frac(x: Value) -> Value:
    """What stands behind the point, with the sign of `x`.

    >>> rb.frac(rb.asarray([1.25, -1.25]))
    tensor([ 0.25, -0.25])
    """
    return subtract(x, trunc(x))


@op(
    "composite",
    promote="common",
    reference=np.fmod,
    samples=lambda: (
        [Sample((Draw((3, 4), -2, 2, dtype=d), Draw((4,), 2.5, 3, dtype=d))) for d in FLOATS]
        + [
            Sample((Draw((3, 4), 0.3, 2), Draw((4,), 2.5, 3))),
            Sample((Draw((30,), -20, 20), Draw((30,), 1, 7)), dtypes=NUMERIC, grad=False),
        ]
    ),
    onnx="Mod",
)
def fmod(x1: Value, x2: Value) -> Value:
    """What division leaves, with the sign of `x1` (C's fmod; `remainder` has the sign of `x2`).

    >>> rb.fmod(rb.asarray([-3.0, 3.0]), 2.0)
    tensor([-1.,  1.])
    """
    if x1.dtype.is_float:
        return copysign(remainder(abs_(x1), abs_(x2)), x1)
    found = remainder(x1, x2)
    if x1.dtype.kind != "i":
        return found
    away = logical_and(logical_not(equal(found, 0)), less(multiply(_side(found), _side(x1)), 0))
    return where(away, subtract(found, x2), found)


def _side(x: Any) -> Any:
    return where(less(x, 0), -1, 1)


@op(
    "composite",
    promote="float",
    differentiable=False,
    reference=lambda x1, x2: np.where(
        np.isnan(x1), x1, np.where(x1 == 0, x2, np.where(x1 < 0, 0, 1))
    ).astype(x1.dtype),
    samples=binary_samples(Draw((), -1, 1)),
)
def heaviside(x1: Value, x2: Value) -> Value:
    """0 below 0, 1 above, and `x2` at 0.

    >>> rb.heaviside(rb.asarray([-1.0, 0.0, 2.0]), 0.5)
    tensor([0. , 0.5, 1. ])
    """
    need_float("heaviside", "x1", x1.dtype)
    found = where(equal(x1, 0.0), x2, where(less(x1, 0.0), 0.0, 1.0))
    return where(isnan(x1), x1, found)


@op(
    "composite",
    promote="float",
    reference=wide(np.sinc),
    samples=unary_samples(avoid=(0.0,)),
)
def sinc(x: Value) -> Value:
    """sin(pi x) / (pi x), and 1 at 0.

    >>> rb.sinc(rb.asarray([0.0, 0.5]))
    tensor([1.        , 0.63661975])
    """
    return in_double("sinc", _sinc, x)


def _sinc(x: Any) -> Any:
    """By the distance to the nearest whole number, which is exact however large x is."""
    whole = round_(x)
    is_odd = not_equal(multiply(floor(multiply(whole, 0.5)), 2.0), whole)
    found = sin(multiply(subtract(x, whole), math.pi))
    none = equal(x, 0.0)
    bottom = multiply(where(none, 1.0, x), math.pi)
    return where(none, 1.0, divide(where(is_odd, negative(found), found), bottom))


@op(
    "composite",
    promote="float",
    reference=wide(lambda x: x * (math.pi / 180)),
    samples=unary_samples(),
)
def deg2rad(x: Value) -> Value:
    """Degrees as radians.

    >>> rb.deg2rad(rb.asarray([180.0]))
    tensor([3.1415927])
    """
    need_float("deg2rad", "input", x.dtype)
    return multiply(x, math.pi / 180.0)


@op(
    "composite",
    promote="float",
    reference=wide(lambda x: x * (180 / math.pi)),
    samples=unary_samples(),
)
def rad2deg(x: Value) -> Value:
    """Radians as degrees.

    >>> rb.rad2deg(rb.asarray([0.0]))
    tensor([0.])
    """
    need_float("rad2deg", "input", x.dtype)
    return multiply(x, 180.0 / math.pi)
