"""What each scalar row means, as slow and plain NumPy on arrays of one dtype.

float32 transcendental functions are evaluated in float64 and rounded once, so they are correctly
rounded except in rare near-ties. This file is the reference; the expansions of `scalars.py` are the
implementation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from rabbet.base.dtypes import DType, dtype_of, to_half
from rabbet.base.errors import InternalError

Array: TypeAlias = np.ndarray[Any, Any]
Meaning: TypeAlias = Callable[..., Array]


def wide(function: Meaning) -> Meaning:
    """float32 through float64, rounded once at the end."""

    def evaluate(*args: Array) -> Array:
        if args[0].dtype == np.float32:
            widened = [a.astype(np.float64) for a in args]
            return np.asarray(function(*widened)).astype(np.float32)
        return np.asarray(function(*args))

    return evaluate


def elementwise(function: Callable[[float], float]) -> Meaning:
    """A Python function of one float, for arrays."""
    return wide(np.vectorize(function, otypes=[np.float64]))


# ------------------------------------------------------------------------------------ integers


def maximum(a: Array, b: Array) -> Array:
    """The larger; NaN wins, and -0 < +0."""
    if a.dtype.kind != "f":
        return np.maximum(a, b)
    larger = np.where(a == b, np.where(np.signbit(a), b, a), np.where(a > b, a, b))
    return np.where(np.isnan(a), a, np.where(np.isnan(b), b, larger))


def minimum(a: Array, b: Array) -> Array:
    """The smaller; NaN wins, and -0 < +0."""
    if a.dtype.kind != "f":
        return np.minimum(a, b)
    smaller = np.where(a == b, np.where(np.signbit(a), a, b), np.where(a < b, a, b))
    return np.where(np.isnan(a), a, np.where(np.isnan(b), b, smaller))


def floordiv(a: Array, b: Array) -> Array:
    """Floor division; x // 0 = 0 for integers, and with an infinity it is x / y."""
    if a.dtype.kind == "f":
        return np.where(np.isinf(a) | np.isinf(b), a / b, np.floor_divide(a, b))
    safe = np.where(b == 0, np.ones_like(b), b)
    return np.where(b == 0, np.zeros_like(a), np.floor_divide(a, safe))


def modulo(a: Array, b: Array) -> Array:
    """The remainder with the sign of the divisor; x % 0 = 0 for integers."""
    if a.dtype.kind == "f":
        return np.asarray(np.remainder(a, b))
    safe = np.where(b == 0, np.ones_like(b), b)
    return np.where(b == 0, np.zeros_like(a), np.remainder(a, safe))


def shift_left(a: Array, b: Array) -> Array:
    """a << b; a count (read as unsigned) of the width or more gives 0."""
    bits = a.dtype.itemsize * 8
    count = b.astype(np.uint64) if a.dtype.itemsize == 8 else b.astype(np.int64) & (2**bits - 1)
    wrong = count >= bits
    shifted = np.left_shift(a, np.where(wrong, np.zeros_like(b), b))
    return np.where(wrong, np.zeros_like(a), shifted)


def shift_right(a: Array, b: Array) -> Array:
    """a >> b, arithmetic for signed integers; a count of the width or more leaves only the sign."""
    bits = a.dtype.itemsize * 8
    count = b.astype(np.uint64) if a.dtype.itemsize == 8 else b.astype(np.int64) & (2**bits - 1)
    most = np.full_like(b, bits - 1)
    shifted = np.right_shift(a, np.where(count >= bits, most, b))
    if a.dtype.kind == "i":
        return np.asarray(shifted)
    return np.where(count >= bits, np.zeros_like(a), shifted)


def high_product(a: Array, b: Array) -> Array:
    """The upper 32 of the 64 bits of a product of two uint32."""
    if a.dtype != np.uint32:
        raise InternalError(f"scalar mulhi: {a.dtype} is not uint32")
    product = a.astype(np.uint64) * b.astype(np.uint64)
    return np.asarray(product >> np.uint64(32), np.uint32)


def scaled(a: Array, n: Array) -> Array:
    """a * 2**n rounded once, for whole n within the exponents' range where a * 2**(n // 2) is a
    normal number (or n is 0); NaN for a NaN, whatever n is.
    """
    whole = np.where(np.isnan(n), 0, n).astype(np.int32)
    return np.asarray(np.ldexp(a, whole), a.dtype)


def power(a: Array, b: Array) -> Array:
    """a ** b; integers wrap, and a negative exponent gives 0 except for base 1 and -1."""
    if a.dtype.kind == "f":
        return wide(np.power)(a, b)
    unit = np.where(b & 1 == 0, np.ones_like(a), a)
    negative = np.where(np.abs(a) == 1, unit, np.zeros_like(a)) if a.dtype.kind == "i" else a
    result, square, exponent = np.ones_like(a), a, b
    for _ in range(a.dtype.itemsize * 8):
        result = np.where(exponent & 1 == 1, result * square, result)
        square, exponent = square * square, exponent >> 1
    return np.where(b < 0, negative, result)


def sign(a: Array) -> Array:
    """-1, 0 or 1; zeros keep their sign and NaN stays."""
    if a.dtype.kind == "f":
        return np.where(a == 0, a, np.sign(a))
    if a.dtype.kind == "b":
        return a
    return np.asarray(np.sign(a))


# --------------------------------------------------------------------------------- conversions


def cast(x: Array, dtype: DType) -> Array:
    """float to integer truncates and saturates, NaN gives 0; anything to bool is `!= 0`."""
    if dtype_of(x.dtype).is_half:
        x = x.astype(np.float32)
    if dtype.is_half:
        return to_half(x, dtype)
    if dtype.kind == "b":
        return np.asarray(x != 0)
    if x.dtype.kind != "f" or not dtype.is_integer:
        return x.astype(dtype.numpy)
    low, high = int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max)
    whole = np.trunc(x).astype(np.float64)
    below, above = whole <= float(low), whole >= float(high + 1)
    inside = np.where(below | above | np.isnan(whole), 0.0, whole).astype(dtype.numpy)
    result = np.where(below, dtype.numpy.type(low), np.where(above, dtype.numpy.type(high), inside))
    return result.astype(dtype.numpy)


def bitcast(x: Array, dtype: DType) -> Array:
    """The same bits as another dtype of the same width."""
    return np.ascontiguousarray(x).view(dtype.numpy).reshape(x.shape)


# ------------------------------------------------------------------------- fused multiply-add


def fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once (exact, subnormal results included)."""
    a, b, c = np.broadcast_arrays(a, b, c)
    if a.dtype == np.float32:
        return _fma32(a, b, c)
    if a.dtype == np.float64:
        return _fma64(a, b, c)
    return np.asarray(a * b + c)  # integers wrap the same either way


def residue(a: Array, b: Array, near: Array) -> Array:
    """a * b - near rounded once, for a number near the product: what its rounding lost."""
    return fma(a, b, -near)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b as rounded sum and exact error (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _round_to_odd(total: Array, error: Array) -> Array:
    """The neighbour of total + error with an odd last bit, unless the error is 0."""
    bits = total.view(np.int64)
    away = (error > 0) == (total > 0)
    odd = np.where(away, bits, bits - 1) | 1
    inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    return np.where(inexact, odd, bits).view(np.float64)


def _fma32(a: Array, b: Array, c: Array) -> Array:
    """Through float64: product exact; the sum, rounded to odd, survives a second rounding."""
    product = a.astype(np.float64) * b.astype(np.float64)
    total, error = _two_sum(product, c.astype(np.float64))
    error = np.where(np.isfinite(total), error, 0.0)
    return _round_to_odd(np.ascontiguousarray(total), error).astype(np.float32)


def _split_product(a: Array, b: Array) -> tuple[Array, Array]:
    """a * b as rounded product and exact error (Veltkamp and Dekker)."""
    product = a * b
    scaled_a, scaled_b = a * 134217729.0, b * 134217729.0  # 2**27 + 1
    a_high = scaled_a - (scaled_a - a)
    b_high = scaled_b - (scaled_b - b)
    a_low, b_low = a - a_high, b - b_high
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _fma64(a: Array, b: Array, c: Array) -> Array:
    """Boldo and Melquiond (2008), on scaled operands; results near the subnormals by fractions."""
    plain = np.where(np.isfinite(a) & np.isfinite(b) & ~np.isfinite(c), c, a * b + c)
    special = ~(np.isfinite(a) & np.isfinite(b) & np.isfinite(c)) | (a == 0) | (b == 0)
    ma, ea = np.frexp(np.where(special, 1.0, a))
    mb, eb = np.frexp(np.where(special, 1.0, b))
    mc, ec = np.frexp(np.where(special, 1.0, c))
    exponent = (ea + eb).astype(np.int64)
    apart = np.where(c == 0, 0, ec - exponent)
    # Past 200 binades apart one operand only decides the direction of rounding.
    near = np.clip(apart, -200, 200)
    base = np.where(apart > 200, ec - near, exponent)
    high, low = _split_product(ma, mb)
    c_high, c_low = _two_sum(np.ldexp(mc, near), low)
    total, error = _two_sum(high, c_high)
    tail, tail_error = _two_sum(c_low, error)
    rounded = total + _round_to_odd(np.ascontiguousarray(tail), tail_error)
    size = np.frexp(rounded)[1] + base
    result = np.where(special, plain, np.ldexp(rounded, np.clip(base, -3000, 3000)))
    for where in zip(*np.nonzero(~special & ((size < -1020) | (rounded == 0))), strict=True):
        result[where] = _fma_fraction(float(a[where]), float(b[where]), float(c[where]))
    return np.asarray(result)


def _fma_fraction(a: float, b: float, c: float) -> float:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c if c == 0 or a * b == -c else 0.0
    negative = exact < 0
    step = Fraction(1, 2**1074)
    if abs(exact) >= Fraction(1, 2**1021):
        value = float(abs(exact))
    else:
        value = math.ldexp(float(round(abs(exact) / step)), -1074)  # round: ties to even
    return -value if negative else value


# -------------------------------------------------------------------------- special functions


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def _fading(x: Array) -> tuple[Array, Array]:
    """x, not below -1e4, and half of exp's exponent: x * e * e is 0 late enough."""
    kept = np.maximum(x, -1e4)
    return kept, np.exp(0.5 * np.minimum(kept, 0.0))


def silu(x: Array) -> Array:
    """x * sigmoid(x), with its limits and without an early zero."""
    kept, half = _fading(x)
    return kept * half * half / (1.0 + np.exp(-np.abs(x)))


def _gelu(x: float) -> float:
    tail = 0.5 * min(abs(x), 100.0) * math.erfc(abs(x) * math.sqrt(0.5))
    return -tail if x < 0 else x - tail


def gelu_tanh(x: Array) -> Array:
    """x * (1 + tanh(z)) / 2 as silu has it: z(x) is math.sqrt(2 / pi) * (x + 0.044715 * x**3)."""
    kept = np.clip(x, -100.0, 100.0)
    twice = 2 * math.sqrt(2 / math.pi) * (kept + 0.044715 * kept**3)
    kept, half = np.maximum(x, -100.0), np.exp(0.5 * np.minimum(twice, 0.0))
    return kept * half * half / (1.0 + np.exp(-np.abs(twice)))


def mish(x: Array) -> Array:
    """x * tanh(log(1 + exp(x))) as a quotient: for w = e (e + 2) it is w / (w + 2)."""
    kept, half = _fading(x)
    e = np.exp(np.minimum(x, 40.0))
    rest = np.where(x < 0, half * (e + 2.0) / (e * (e + 2.0) + 2.0), e * (e + 2.0))
    return kept * half * np.where(x < 0, rest, rest / (rest + 2.0))


def _lgamma(x: float) -> float:
    if math.isinf(x) or (x <= 0 and x == math.floor(x)):
        return math.inf
    return math.lgamma(x)


def _digamma(x: float) -> float:
    """Reflection, then recurrence up to 15, then the asymptotic series."""
    if x == 0:
        return math.copysign(math.inf, -x)
    if x == -math.inf or (x < 0 and x == math.floor(x)):
        return math.nan
    if x < 0:
        return _digamma(-x) - 1 / x - math.pi / math.tan(math.pi * (x - round(x)))
    shift = 0.0
    while x < 15:
        shift, x = shift + 1 / x, x + 1
    z = 1 / (x * x)
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132)))))
    return math.log(x) - 0.5 / x - series - shift


def _erfinv(x: float) -> float:
    """Newton's method on erf, or on erfc where erf is flat."""
    if math.isnan(x) or abs(x) > 1:
        return math.nan
    if abs(x) == 1:
        return math.copysign(math.inf, x)
    target = abs(x)
    w = -math.log((1 - target) * (1 + target))
    a = 2 / (math.pi * 0.147) - w / 2
    y = math.sqrt(max(0.0, math.sqrt(a * a + w / 0.147) - a))  # Winitzki's approximation
    for _ in range(6):
        off = math.erf(y) - target if target < 0.5 else (1 - target) - math.erfc(y)
        slope = 2 / math.sqrt(math.pi) * math.exp(-y * y)
        y -= off / (slope + y * off)  # Halley
    return math.copysign(y, x)


erf = elementwise(math.erf)
gelu = elementwise(_gelu)
lgamma = elementwise(_lgamma)
digamma = elementwise(_digamma)
erfinv = elementwise(_erfinv)
