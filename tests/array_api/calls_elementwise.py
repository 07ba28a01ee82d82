"""Random calls of the standard's elementwise functions and operators."""

from __future__ import annotations

import contextlib
import operator
from typing import Any

import numpy as np

from tests.array_api.arguments import Draw
from tests.array_api.calls import Call, Maker, applied
from tests.array_api.draws import ALL, COMPLEX, FLOATS, INTEGERS, NUMERIC, REAL, REAL_FLOATS

BITS = ("bool", *INTEGERS)
UNARY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ceil", "floor", "trunc"), REAL),
    **dict.fromkeys(("round", "square", "positive", "negative", "isnan", "isinf"), NUMERIC),
    **dict.fromkeys(("isfinite", "abs", "sign", "real", "conj"), NUMERIC),
    **dict.fromkeys(("acos", "asin", "atan", "acosh", "asinh", "atanh", "reciprocal"), FLOATS),
    **dict.fromkeys(("cos", "sin", "tan", "cosh", "sinh", "tanh", "exp", "expm1"), FLOATS),
    **dict.fromkeys(("log", "log1p", "log2", "log10", "sqrt"), FLOATS),
    "signbit": REAL_FLOATS,
    "imag": COMPLEX,
    "bitwise_invert": BITS,
    "logical_not": ("bool",),
}
BINARY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("add", "subtract", "multiply"), NUMERIC),
    **dict.fromkeys(("equal", "not_equal"), ALL),
    **dict.fromkeys(("less", "less_equal", "greater", "greater_equal"), REAL),
    **dict.fromkeys(("maximum", "minimum", "floor_divide", "remainder"), REAL),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), BITS),
    **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift"), INTEGERS),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), ("bool",)),
    **dict.fromkeys(("atan2", "copysign", "hypot", "logaddexp", "nextafter"), REAL_FLOATS),
    "divide": FLOATS,
    "pow": NUMERIC,
}
OPERATORS: dict[str, str] = {
    **{"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow"},
    **{"floordiv": "floor_divide", "mod": "remainder", "and": "bitwise_and", "or": "bitwise_or"},
    **{"xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift"},
    **{"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater"},
    "ge": "greater_equal",
}
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def unary(d: Draw, name: str) -> Call:
    x = d.array(UNARY[name])
    operators = {"abs": operator.abs, "negative": operator.neg, "positive": operator.pos}
    operators["bitwise_invert"] = operator.inv
    if name in operators and d.boolean():
        return Call(applied(operators[name]), (x,))
    return Call(name, (x,))


def two(d: Draw, name: str, names: tuple[str, ...]) -> tuple[Any, Any]:
    """Two operands of a function, one of them perhaps a number of Python."""
    first, second = d.dtypes(2, names)
    one, other = d.shapes(2)
    # What floor_divide gives for infinities the standard leaves open.
    kind = "plain" if name == "floor_divide" else "any"
    x, y = d.numbers(first, one, kind), d.numbers(second, other, kind)
    if "shift" in name:
        y = y % np.asarray(np.dtype(first).itemsize * 8, second)
    integral = x.dtype.kind in "iu" and y.dtype.kind in "iu"
    if name in ("floor_divide", "remainder") and integral:
        y = np.where(y == 0, np.ones((), y.dtype), y)  # left open
    if name == "pow" and integral:
        y = y % np.asarray(9, y.dtype)
    if d.chance(0.3):
        scalar = d.scalar(first)
        if name == "floor_divide" and not np.isfinite(scalar):
            scalar = 3
        if "shift" in name or (name == "pow" and integral):
            scalar = abs(scalar) % 7
        elif name in ("floor_divide", "remainder") and integral:
            scalar = scalar or 1
        x, y = (x, scalar) if d.boolean() or "shift" in name or name == "pow" else (scalar, x)
        if name in ("floor_divide", "remainder") and isinstance(y, np.ndarray) and integral:
            y = np.where(y == 0, np.ones((), y.dtype), y)
    return x, y


def binary(d: Draw, name: str) -> Call:
    return Call(name, two(d, name, BINARY[name]))


def operation(d: Draw, name: str) -> Call:
    form = "" if name in COMPARISONS else d.pick("", "i")
    function = getattr(operator, form + name + ("_" if not form and name in ("and", "or") else ""))
    x, y = two(d, OPERATORS[name], BINARY[OPERATORS[name]])
    if form == "i" and not isinstance(x, np.ndarray):
        x, y = y, x
        if name in ("floordiv", "mod") and x.dtype.kind in "iu":
            y = y or 1
    return Call(applied(function), (x, y))


def _clip(d: Draw) -> Call:
    dtype = d.pick(*REAL)
    shapes = d.shapes(3)
    x = d.numbers(dtype, shapes[0])
    low, high = (d.pick(None, d.scalar(dtype), d.numbers(dtype, s)) for s in shapes[1:])
    with contextlib.suppress(ValueError):  # shapes that do not fit
        if low is not None and high is not None and np.any(np.greater(low, high)):
            high = None  # left open
    return d.pick(Call("clip", (x, low, high)), Call("clip", (x,), {"min": low, "max": high}))


def _where(d: Draw) -> Call:
    shapes = d.shapes(3)
    kinds = d.dtypes(2, ALL)
    x, y = (d.numbers(k, s) for k, s in zip(kinds, shapes[1:], strict=True))
    condition = d.array(("bool",), shapes[0])
    if d.chance(0.3):
        pair = (x, d.scalar(kinds[0]))
        return Call("where", (condition, *(pair if d.boolean() else pair[::-1])))
    return Call("where", (condition, x, y))


ELEMENTWISE: dict[str, Maker] = {
    **{n: (lambda d, n=n: unary(d, n)) for n in UNARY},
    **{n: (lambda d, n=n: binary(d, n)) for n in BINARY},
    **{f"operator {n}": (lambda d, n=n: operation(d, n)) for n in OPERATORS},
    "clip": _clip,
    "where": _where,
}
