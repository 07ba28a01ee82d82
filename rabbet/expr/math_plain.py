"""Expansions that need no approximation: sign, copysign, nextafter, predicates."""

from __future__ import annotations

from rabbet.base.dtypes import BY_NAME, bool_, float32
from rabbet.expr.expr import Expr, bitcast, call, cast, const, select
from rabbet.expr.math_base import (
    INF,
    absolute,
    bits_of,
    copysign,
    number,
)


def square(x: Expr) -> Expr:
    return x * x


def reciprocal(x: Expr) -> Expr:
    return number(1.0, x) / x


def rsqrt(x: Expr) -> Expr:
    return number(1.0, x) / call("sqrt", x)


def sign(x: Expr) -> Expr:
    """-1, 0 or 1; zeros keep their sign and NaN stays."""
    one = const(1, x.dtype)
    if x.dtype is bool_:
        return x
    if x.dtype.kind == "u":
        return select(x.equals(0), x, one)
    below = select(x < 0, const(-1, x.dtype), x)
    return select(x > 0, one, below)


def copy_sign(x: Expr, y: Expr) -> Expr:
    return copysign(absolute(x), y)


def isnan(x: Expr) -> Expr:
    return x.differs(x) if x.dtype.is_float else const(False, bool_)


def isinf(x: Expr) -> Expr:
    return absolute(x).equals(INF) if x.dtype.is_float else const(False, bool_)


def isfinite(x: Expr) -> Expr:
    return absolute(x) < INF if x.dtype.is_float else const(True, bool_)


def signbit(x: Expr) -> Expr:
    if x.dtype.is_float:
        return bits_of(x) < 0
    return x < 0 if x.dtype.kind == "i" else const(False, bool_)


def nextafter(x: Expr, y: Expr) -> Expr:
    """The next number after x towards y; equal arguments give y.

    Halves are compared in float32 and moved by their own bits: their neighbours are not float32's.
    """
    signed = BY_NAME[f"int{x.dtype.bits}"]
    raw = bitcast(x, signed)
    a, b = (cast(x, float32), cast(y, float32)) if x.dtype.is_half else (x, y)
    away = (a < b).equals(a > 0.0)  # the size grows
    moved = bitcast(raw + select(away, const(1, signed), const(-1, signed)), x.dtype)
    sign = bitcast(y, signed) & const(-(2 ** (x.dtype.bits - 1)), signed)
    smallest = bitcast(sign | const(1, signed), x.dtype)
    moved = select(a.equals(0.0), smallest, moved)
    moved = select(a.equals(b), y, moved)
    missing = cast(a + b, x.dtype)
    return select(a.differs(a) | b.differs(b), missing, moved)
