"""Expansions that need no approximation: sign, copysign, nextafter, predicates."""

from __future__ import annotations

from rabbet.base.dtypes import bool_
from rabbet.expr.expr import Expr, bitcast, call, const, select
from rabbet.expr.math_base import (
    INF,
    absolute,
    bits_of,
    copysign,
    format_of,
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
    """The next number after x towards y; equal arguments give y."""
    form = format_of(x)
    raw = bits_of(x)
    away = (x < y).equals(x > 0.0)  # the size grows
    one, minus = const(1, form.signed), const(-1, form.signed)
    moved = bitcast(raw + select(away, one, minus), x.dtype)
    smallest = bitcast(const(1, form.signed), x.dtype)
    moved = select(x.equals(0.0), copysign(smallest, y), moved)
    moved = select(x.equals(y), y, moved)
    return select(x.differs(x) | y.differs(y), x + y, moved)
