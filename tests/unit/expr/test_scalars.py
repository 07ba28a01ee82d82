"""The table of rows, their expansion and their NumPy meaning."""

from __future__ import annotations

import ctypes
import ctypes.util
import itertools

import numpy as np
import pytest

from rabbet.base.dtypes import (
    ALL,
    DType,
    bool_,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from rabbet.base.errors import InternalError
from rabbet.expr import meaning, scalars
from rabbet.expr.expr import Expr, bitcast, call, cast, const, load, make, select, topological, var
from rabbet.expr.interpret import evaluate
from rabbet.expr.meaning import Array

NAN, INF = float("nan"), float("inf")
COMPUTED = [d for d in ALL if d.computed and d.kind != "c"]  # kernels see parts of complex numbers


def operand(dtype: DType, number: int = 0) -> Expr:
    return load(number, dtype, var(0))


def value(root: Expr, *arrays: Array) -> Array:
    def leaf(e: Expr) -> Array:
        return arrays[e.value[0]] if e.op == "load" else np.zeros(1, np.int64)

    return evaluate([root], leaf)[0]


# ----------------------------------------------------------------------------------- expansion


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("name", [n for n, row in scalars.ROWS.items() if row.expand])
def test_expansion_has_only_primitive_rows_and_keeps_the_dtype(name: str, dtype: DType) -> None:
    row = scalars.ROWS[name]
    root = scalars.apply(name, *(operand(dtype, n) for n in range(row.arity)))
    expanded = scalars.expand_all(root)
    assert expanded.dtype is (bool_ if row.predicate else dtype)
    leaves = {"const", "load", "var"}
    assert {e.op for e in topological([expanded])} <= scalars.PRIMITIVE | leaves


def test_expansion_keeps_sharing() -> None:
    x = scalars.exp(operand(float32))
    once = len(topological([scalars.expand_all(x)]))
    twice = len(topological([scalars.expand_all(x * x + x)]))
    assert twice == once + 2


def test_expansion_reaches_loads_and_nested_rows() -> None:
    x = scalars.tanh(scalars.log1p(scalars.exp(operand(float32))))
    inside = select(x > 0.0, x, scalars.sqrt(x))
    names = {e.op for e in topological([scalars.expand_all(inside)])}
    assert names.isdisjoint({"tanh", "log1p", "exp"})


def test_primitive_rows_are_left_alone() -> None:
    x, y = operand(int32), operand(int32, 1)
    for root in (x // y, x % y, x + y, call("max", x, y), cast(x, float32)):
        assert scalars.expand_all(root) is root


def test_unknown_rows_and_dtypes_are_named() -> None:
    with pytest.raises(InternalError, match="frobnicate"):
        scalars.expand_all(make("frobnicate", (operand(float32),), float32))
    with pytest.raises(InternalError, match="exp: no expansion for int32"):
        scalars.expand_all(scalars.exp(operand(int32)))
    with pytest.raises(InternalError, match="differ"):
        scalars.power(operand(float32), operand(float64))
    with pytest.raises(InternalError, match="arguments"):
        scalars.apply("exp", operand(float32), operand(float32))


def test_float_literals_are_rounded_to_their_dtype() -> None:
    assert const(0.1, float32).value == float(np.float32(0.1))
    assert const(0.1, float64).value == 0.1
    assert const(1e300, float32).value == INF


# -------------------------------------------------------------------------------------- meaning


def test_minimum_and_maximum() -> None:
    x, y = (np.array(v, np.float32) for v in ([0.0, -0.0, NAN, 1, -INF], [-0.0, 0.0, 1, NAN, 2]))
    low, high = (
        value(call(n, operand(float32), operand(float32, 1)), x, y) for n in ("min", "max")
    )
    assert np.signbit(low).tolist()[:2] == [True, True]
    assert np.signbit(high).tolist()[:2] == [False, False]
    assert np.isnan(low[2:4]).all() and np.isnan(high[2:4]).all()
    assert (low[4], high[4]) == (-INF, 2)


@pytest.mark.parametrize("dtype", [int8, int32, int64, uint8, uint64], ids=lambda d: d.name)
def test_integer_division_floors_and_never_fails(dtype: DType) -> None:
    info = np.iinfo(dtype.numpy)
    numbers = [n for n in (info.min, -7, -1, 0, 1, 2, 7, info.max) if n >= info.min]
    points = list(itertools.product(numbers, numbers))
    x, y = (np.array(v, dtype.numpy) for v in zip(*points, strict=True))
    got = value(operand(dtype) // operand(dtype, 1), x, y)
    rest = value(operand(dtype) % operand(dtype, 1), x, y)
    for (a, b), quotient, remainder in zip(points, got, rest, strict=True):
        wrapped = const(a // b, dtype).value if b else 0
        assert (int(quotient), int(remainder)) == (wrapped, a % b if b else 0)


@pytest.mark.parametrize("dtype", [int8, uint8, int16, int64, uint64], ids=lambda d: d.name)
def test_shifts_past_the_width(dtype: DType) -> None:
    info = np.iinfo(dtype.numpy)
    numbers = [n for n in (info.min, -3, 0, 1, 77, info.max) if n >= info.min]
    counts = [0, 1, dtype.bits - 1, dtype.bits, 100]
    points = list(itertools.product(numbers, counts))
    x, y = (np.array(v, dtype.numpy) for v in zip(*points, strict=True))
    left = value(operand(dtype) << operand(dtype, 1), x, y)
    right = value(operand(dtype) >> operand(dtype, 1), x, y)
    for (a, n), up, down in zip(points, left, right, strict=True):
        assert int(up) == const(a << n, dtype).value
        assert int(down) == a >> n


@pytest.mark.parametrize("source", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize(
    "target", [int8, int16, int32, int64, uint8, uint16, uint32, uint64], ids=lambda d: d.name
)
def test_float_to_integer_truncates_and_saturates(source: DType, target: DType) -> None:
    info = np.iinfo(target.numpy)
    x = np.array([0.9, -0.9, 1.5, -1.5, NAN, INF, -INF, 1e30, -1e30, 2.0**31, 2.0**63, 100.99])
    x = np.concatenate([x.astype(source.numpy), [float(info.max), float(info.min)]])
    x = x.astype(source.numpy)
    for number, got in zip(x, value(cast(operand(source), target), x), strict=True):
        if np.isnan(number):
            expected = 0
        elif np.isinf(number):
            expected = info.max if number > 0 else info.min
        else:
            expected = min(max(int(float(number)), info.min), info.max)
        assert int(got) == expected


@pytest.mark.parametrize("source", COMPUTED, ids=lambda d: d.name)
@pytest.mark.parametrize("target", COMPUTED, ids=lambda d: d.name)
def test_every_cast_is_defined(source: DType, target: DType) -> None:
    x = np.array([0, 1, 3, 100]).astype(source.numpy)
    expected = x != 0 if target is bool_ else x.astype(target.numpy)
    assert np.array_equal(value(cast(operand(source), target), x), expected)


def test_bitcast_and_mulhi() -> None:
    x = np.array([1.0, -0.0], np.float32)
    assert value(bitcast(operand(float32), uint32), x).tolist() == [0x3F800000, 0x80000000]
    a, b = np.array([2**32 - 1, 3], np.uint32), np.array([2**32 - 1, 5], np.uint32)
    product = call("mulhi", operand(uint32), operand(uint32, 1))
    assert value(product, a, b).tolist() == [2**32 - 2, 0]


def test_wrong_result_dtype_is_an_error() -> None:
    with pytest.raises(InternalError, match="instead of"):
        value(make("eq", (operand(float32), operand(float32)), float32), np.ones(2, np.float32))


# ------------------------------------------------------------------------- fused multiply-add


def triples(dtype: DType, kind: str, count: int = 4000) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(5)
    info = np.finfo(dtype.numpy)
    unsigned = np.uint32 if dtype is float32 else np.uint64
    top = np.iinfo(unsigned).max
    a, b, c = (
        rng.integers(0, top, count, unsigned, endpoint=True).view(dtype.numpy) for _ in "abc"
    )
    if kind == "bits":
        return a, b, c
    if kind == "cancel":
        with np.errstate(all="ignore"):
            near = 1 + rng.integers(-3, 4, count).astype(dtype.numpy) * info.eps
            return a, b, (-(a * b) * near).astype(dtype.numpy)
    root = float(info.tiny) ** 0.5
    a, b = ((rng.standard_normal(count) * root).astype(dtype.numpy) for _ in "ab")
    return a, b, rng.integers(-5, 6, count).astype(dtype.numpy) * info.smallest_subnormal


@pytest.mark.parametrize("kind", ["bits", "cancel", "subnormal"])
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_fma_equals_the_c_library(dtype: DType, kind: str) -> None:
    path = ctypes.util.find_library("m")
    if path is None:
        pytest.skip("no C math library to compare with")
    library = ctypes.CDLL(path)
    function = library.fmaf if dtype is float32 else library.fma
    number = ctypes.c_float if dtype is float32 else ctypes.c_double
    function.argtypes, function.restype = [number] * 3, number
    a, b, c = triples(dtype, kind)
    with np.errstate(all="ignore"):
        got = meaning.fma(a, b, c)
    points = zip(a, b, c, strict=True)
    expected = np.array([function(*map(float, p)) for p in points], dtype.numpy)
    assert np.array_equal(got, expected, equal_nan=True)
    finite = ~np.isnan(got)
    assert np.array_equal(np.signbit(got[finite]), np.signbit(expected[finite]))
