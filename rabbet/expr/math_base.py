"""Building blocks of the expansions: polynomials, bits of floats, exact sums and products.

All expansions are branch-free and hold their error bounds with a true fused multiply-add and with a
rounded product and sum (targets without the instruction), so no step relies on `fma` being exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from rabbet.base.dtypes import DType, float32, float64, int32, int64, uint32, uint64
from rabbet.expr.expr import Expr, bitcast, call, cast, const, select

INF = float("inf")
NAN = float("nan")
Coefficients: TypeAlias = tuple[float, ...]


@dataclass(frozen=True)
class Format:
    """The layout of a float dtype, and the numbers that depend on it."""

    dtype: DType
    signed: DType
    unsigned: DType
    fraction: int  # stored bits of the significand
    bias: int
    ln2_high: float  # a multiple of 2**-11 (2**-32): its product with any exponent is exact
    ln2_low: float

    @property
    def magic(self) -> float:
        """1.5 * 2**fraction: adding it rounds to an integer, kept in the low bits."""
        return 1.5 * 2.0**self.fraction

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def sign_mask(self) -> int:
        return 1 << (self.dtype.bits - 1)


SINGLE = Format(float32, int32, uint32, 23, 127, 0.693359375, -2.1219444005469057e-04)
DOUBLE = Format(float64, int64, uint64, 52, 1023, 0.6931471803691238, 1.9082149292705877e-10)


def format_of(x: Expr) -> Format:
    """The layout of x's dtype."""
    return SINGLE if x.dtype is float32 else DOUBLE


def pick(x: Expr, single: Coefficients, double: Coefficients) -> Coefficients:
    """The coefficients for x's dtype."""
    return single if x.dtype is float32 else double


def floating(expand: Callable[..., Expr]) -> Callable[..., Expr | None]:
    """An expansion for float32 and float64 only."""

    def guarded(*args: Expr) -> Expr | None:
        return expand(*args) if args[0].dtype in (float32, float64) else None

    return guarded


def through_double(expand: Callable[..., Expr]) -> Callable[..., Expr]:
    """float32 by the float64 expansion, rounded once."""

    def guarded(*args: Expr) -> Expr:
        if args[0].dtype is float64:
            return expand(*args)
        return cast(expand(*(cast(a, float64) for a in args)), float32)

    return guarded


def fma(x: Expr, y: Expr | float, z: Expr | float) -> Expr:
    """x * y + z; numbers take x's dtype."""
    return call("fma", x, number(y, x), number(z, x))


def number(value: Expr | float, like: Expr) -> Expr:
    """A literal of `like`'s dtype, or the expression itself."""
    return value if isinstance(value, Expr) else const(value, like.dtype)


def polynomial(x: Expr, coefficients: Coefficients) -> Expr:
    """Sum of c[i] * x**i, by Horner's rule."""
    result = const(coefficients[-1], x.dtype)
    for c in reversed(coefficients[:-1]):
        result = fma(result, x, c)
    return result


def polynomial_in_pairs(x: Expr, coefficients: Coefficients) -> Expr:
    """The same from pairs of terms and x * x: one product more, and half as many in a row."""
    low, high = coefficients[::2], coefficients[1::2]
    pairs = [fma(number(b, x), x, a) for a, b in zip(low, high, strict=False)]
    pairs += [number(rest, x) for rest in low[len(high) :]]
    square = x * x
    result = pairs[-1]
    for pair in reversed(pairs[:-1]):
        result = fma(result, square, pair)
    return result


def absolute(x: Expr) -> Expr:
    return call("abs", x)


def copysign(size: Expr, sign: Expr) -> Expr:
    """`size`, which is not negative, with the sign of `sign`."""
    form = format_of(size)
    bit = bitcast(sign, form.unsigned) & form.sign_mask
    return bitcast(bitcast(size, form.unsigned) | bit, size.dtype)


def is_nan(x: Expr) -> Expr:
    return x.differs(x)


def clamp(x: Expr, low: float, high: float) -> Expr:
    """x within [low, high]; NaN stays NaN."""
    x = select(x < low, number(low, x), x)
    return select(x > high, number(high, x), x)


def at_most(x: Expr, high: float) -> Expr:
    """The smaller of x and a number; NaN stays NaN."""
    return select(x > high, number(high, x), x)


def at_least(x: Expr, low: float) -> Expr:
    """The larger of x and a number; NaN stays NaN."""
    return select(x < low, number(low, x), x)


def bits_of(x: Expr) -> Expr:
    """The bits as a signed integer."""
    return bitcast(x, format_of(x).signed)


def power_of_two(exponent: Expr, form: Format) -> Expr:
    """2**exponent for a signed integer within the normal range."""
    return bitcast((exponent + form.bias) << form.fraction, form.dtype)


def small_integer(x: Expr, form: Format) -> Expr:
    """A signed integer below 2**(fraction - 2) as a float; no conversion instruction needed."""
    base = const(form.magic, form.dtype)
    return bitcast(x + bits_of(base), form.dtype) - form.magic


def nearest_integer(x: Expr) -> tuple[Expr, Expr]:
    """x rounded to an integer: as a float, and as a signed integer; |x| < 2**(fraction - 2)."""
    form = format_of(x)
    shifted = x + form.magic
    whole = bits_of(shifted) - bits_of(number(form.magic, x))
    return shifted - form.magic, whole


# ------------------------------------------------------------------- twice the working precision


def two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """a + b as a rounded sum and its exact error (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def quick_two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """`two_sum` for |a| >= |b| (Dekker)."""
    total = a + b
    return total, b - (total - a)


def residue(a: Expr, b: Expr, near: Expr) -> Expr:
    """a * b - near, for a number near the product: exact where the product is a normal number and
    both factors are below half of the largest one (without an fma, halves of them are rounded up).
    """
    return call("residue", a, b, near)


def two_product(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """a * b as a rounded product and its exact error."""
    product = a * b
    return product, residue(a, b, product)
