"""Elementwise functions and operators of the array API on drawn arrays, against NumPy."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import rabbet as rb
from tests.array_api.draws import (
    ALL,
    COMPLEX,
    INTEGERS,
    NUMERIC,
    REAL,
    REAL_FLOATS,
    agree,
    arrays,
    both,
    few,
    pairs,
    tensor,
)

BITS = ("bool", *INTEGERS)
CLOSE = 1e-5  # functions' own accuracy is measured elsewhere
UNARY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ceil", "floor", "trunc"), REAL),
    **dict.fromkeys(("round", "square", "positive", "negative", "isnan", "isinf"), NUMERIC),
    **dict.fromkeys(("isfinite", "abs"), NUMERIC),
    **dict.fromkeys(("real", "imag", "conj"), COMPLEX),
    **dict.fromkeys(("acos", "asin", "atan", "acosh", "asinh", "atanh", "reciprocal"), REAL_FLOATS),
    **dict.fromkeys(("cos", "sin", "tan", "cosh", "sinh", "tanh", "exp", "expm1"), REAL_FLOATS),
    **dict.fromkeys(("log", "log1p", "log2", "log10", "sqrt", "signbit"), REAL_FLOATS),
    "sign": REAL,
    "bitwise_invert": BITS,
    "logical_not": ("bool",),
}
BINARY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("add", "subtract", "multiply"), NUMERIC),
    **dict.fromkeys(("equal", "not_equal"), ALL),
    **dict.fromkeys(("less", "less_equal", "greater", "greater_equal"), REAL),
    **dict.fromkeys(("maximum", "minimum"), REAL),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), BITS),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), ("bool",)),
    **dict.fromkeys(("atan2", "copysign", "divide", "hypot", "logaddexp"), REAL_FLOATS),
    **dict.fromkeys(("nextafter", "pow"), REAL_FLOATS),
    **dict.fromkeys(("floor_divide", "remainder"), REAL),
}
OPERATORS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "add": (operator.add, NUMERIC),
    "sub": (operator.sub, NUMERIC),
    "mul": (operator.mul, NUMERIC),
    "truediv": (operator.truediv, REAL_FLOATS),
    "floordiv": (operator.floordiv, REAL),
    "mod": (operator.mod, REAL),
    "and": (operator.and_, BITS),
    "or": (operator.or_, BITS),
    "xor": (operator.xor, BITS),
    "lshift": (operator.lshift, INTEGERS),
    "rshift": (operator.rshift, INTEGERS),
    "pow": (operator.pow, (*INTEGERS, *REAL_FLOATS)),
    "lt": (operator.lt, REAL),
    "le": (operator.le, REAL),
    "gt": (operator.gt, REAL),
    "ge": (operator.ge, REAL),
    "eq": (operator.eq, ALL),
    "ne": (operator.ne, ALL),
}
EXACT = {"add", "subtract", "sub", "multiply", "mul", "divide", "truediv", "sqrt", "reciprocal"}
EXACT |= {"copysign", "nextafter", "square", "round", "ceil", "floor", "trunc", "maximum"}


def tolerance(name: str, *arrays_: Any) -> float:
    """How close to NumPy: products of complex numbers may be rounded otherwise."""
    kinds = {np.asarray(a).dtype.kind for a in arrays_}
    return 0.0 if name in EXACT and "c" not in kinds else CLOSE


@pytest.mark.parametrize("name", UNARY)
@few
@given(data=st.data())
def test_unary(name: str, data: st.DataObject) -> None:
    x = data.draw(arrays(UNARY[name]))
    found, wanted = both(lambda xp, a: getattr(xp, name)(a), x)
    if name == "sign":
        wanted = wanted + np.zeros((), x.dtype)  # either zero gives +0 here
    finite = np.isfinite(x) if x.dtype.kind == "c" else np.True_
    if x.dtype.kind == "c" and name in ("square", "abs"):
        assume(finite.all())
        assume((np.abs(x) < 1e15).all() and ((np.abs(x) > 1e-15) | (x == 0)).all())
    agree(found, wanted, tolerance(name, x))


def sensible(name: str, x: Any, y: Any) -> None:
    """Leave out what the standard leaves open."""
    kind = np.result_type(np.asarray(x), np.asarray(y)).kind
    if name in ("floor_divide", "remainder", "floordiv", "mod"):
        assume(bool(np.all(y != 0)))
        if kind == "f":  # NumPy's quotient of an infinity is NaN, the standard's too
            assume(bool(np.all(np.isfinite(y)) and np.all(np.isfinite(x))))
            assume(bool(np.all(np.abs(x) < 1e6) and np.all(np.abs(y) > 1e-3)))
    if name in ("pow",) and kind in "iu":
        assume(bool(np.all(y >= 0)))
    if kind == "c" and name in ("mul", "multiply"):
        for a in (x, y):
            size = np.abs(np.asarray(a))
            assume(bool(np.all(np.isfinite(size) & ((size < 1e15) & (size > 1e-15) | (size == 0)))))


def fitting(name: str, x: Any, y: Any) -> Any:
    """y, or for a shift a distance made from it: up to more bits than there are."""
    sensible(name, x, y)
    return y & 100 if name in ("lshift", "rshift") else y


@pytest.mark.parametrize("name", BINARY)
@few
@given(data=st.data())
def test_binary(name: str, data: st.DataObject) -> None:
    x, y = data.draw(pairs(BINARY[name]))
    sensible(name, x, y)
    found, wanted = both(lambda xp, a, b: getattr(xp, name)(a, b), x, y)
    agree(found, wanted, tolerance(name, x, y), zeros=name not in ("maximum", "minimum"))


def scalars(dtype: np.dtype) -> st.SearchStrategy[Any]:
    """Python numbers that an array of this dtype takes."""
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return st.integers(int(limits.min), int(limits.max)) | st.integers(1, 7)
    width = 32 if dtype.name in ("float32", "complex64") else 64
    real = st.floats(width=width, allow_nan=False) | st.integers(-9, 9)
    return real if dtype.kind == "f" else real | st.complex_numbers(max_magnitude=1e6)


@pytest.mark.parametrize("name", OPERATORS)
@few
@given(data=st.data())
def test_operator(name: str, data: st.DataObject) -> None:
    apply, names = OPERATORS[name]
    x, y = data.draw(pairs(names))
    y = fitting(name, x, y)
    agree(*both(lambda xp, a, b: apply(a, b), x, y), tolerance(name, x, y))


@pytest.mark.parametrize("name", OPERATORS)
@few
@given(data=st.data())
def test_operator_with_a_number(name: str, data: st.DataObject) -> None:
    apply, names = OPERATORS[name]
    x = data.draw(arrays(names))
    number = data.draw(scalars(x.dtype))
    for reflected in (False, True):
        a, b = (number, x) if reflected else (x, number)
        b = fitting(name, a, b)
        left, right = np.asarray(a, x.dtype), np.asarray(b, x.dtype)
        with np.errstate(all="ignore"):
            found, wanted = apply(tensor(a), tensor(b)), apply(left, right)
        agree(found, wanted, tolerance(name, x))


@pytest.mark.parametrize("name", [n for n in OPERATORS if n not in "lt le gt ge eq ne".split()])
@few
@given(data=st.data())
def test_operator_in_place(name: str, data: st.DataObject) -> None:
    _, names = OPERATORS[name]
    x, y = data.draw(pairs(names, in_place=True))
    if data.draw(st.booleans(), label="number"):
        y = data.draw(scalars(x.dtype))
    y = fitting(name, x, y)
    wanted, t = x.copy(), rb.asarray(x)
    found = getattr(operator, f"i{name.rstrip('_')}")(t, tensor(y))
    with np.errstate(all="ignore"):
        wanted = getattr(operator, f"i{name}")(wanted, y)
    assert found is t
    agree(found, wanted, tolerance(name, x))


@few
@given(data=st.data())
def test_clip(data: st.DataObject) -> None:
    x = data.draw(arrays(REAL))
    limits = []
    for _ in range(2):
        kind = data.draw(st.sampled_from(["none", "number", "array"]))
        limits.append(
            None
            if kind == "none"
            else data.draw(scalars(x.dtype))
            if kind == "number"
            else data.draw(arrays((x.dtype.name,), x.shape, allow_nan=False))
        )
    low, high = limits
    if low is not None and high is not None:
        assume(bool(np.all(np.asarray(low, x.dtype) <= np.asarray(high, x.dtype))))
    wanted = x
    if low is not None:
        wanted = np.maximum(wanted, np.asarray(low, x.dtype))
    if high is not None:
        wanted = np.minimum(wanted, np.asarray(high, x.dtype))
    agree(rb.clip(tensor(x), tensor(low), tensor(high)), wanted, zeros=False)


@few
@given(data=st.data())
def test_where_takes_numbers(data: st.DataObject) -> None:
    x = data.draw(arrays())
    number = data.draw(scalars(x.dtype))
    condition = data.draw(arrays(("bool",), x.shape))
    wanted = np.where(condition, x, np.asarray(number).astype(x.dtype))
    agree(rb.where(tensor(condition), tensor(x), number), wanted)
    wanted = np.where(condition, np.asarray(number).astype(x.dtype), x)
    agree(rb.where(tensor(condition), number, tensor(x)), wanted)


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "expm1"])
@few
@given(x=arrays(COMPLEX, max_magnitude=20))
def test_complex_functions(name: str, x: np.ndarray) -> None:
    agree(*both(lambda xp, a: getattr(xp, name)(a), x), 1e-4)


INVERSE = "acos acosh asin asinh atan atanh log log1p log2 log10 sqrt".split()


@pytest.mark.parametrize("name", INVERSE)
@few
@given(x=arrays(COMPLEX, min_magnitude=1e-3, max_magnitude=1e3))
def test_inverse_complex_functions(name: str, x: np.ndarray) -> None:
    wide = x.astype(np.complex128)
    if name in ("log", "log2", "log10", "acosh", "acos", "log1p", "atan", "atanh"):
        shifts = (1.0, -1.0, 1j, -1j)
        assume(bool(np.all([np.abs(wide - s) > 1e-2 for s in shifts])))
    found, wanted = both(lambda xp, a: getattr(xp, name)(a), x)
    agree(found, wanted, 1e-3)


@few
@given(x=arrays(COMPLEX))
def test_sign_of_complex_numbers(x: np.ndarray) -> None:
    size = np.abs(x.astype(np.complex128))
    assume(bool(np.all(np.isfinite(size) & ((size < 1e15) & (size > 1e-15) | (size == 0)))))
    with np.errstate(all="ignore"):
        wanted = np.where(size == 0, 0, x / size).astype(x.dtype)
    agree(rb.sign(tensor(x)), wanted, CLOSE)
