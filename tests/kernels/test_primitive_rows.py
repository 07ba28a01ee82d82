"""Every primitive row, for every dtype, on special values: machine code against NumPy."""

import itertools

import numpy as np
import pytest

from rabbet.base.dtypes import (
    ALL,
    DType,
    bool_,
    float32,
    float64,
    int32,
    int64,
    uint32,
    uint64,
)
from rabbet.expr.expr import Expr, bitcast, cast, compare, load, make, size, var
from rabbet.kernel.loops import Operand, RowKernel, Store, Sweep

COMPUTED = [d for d in ALL if d.kind != "c" and not d.is_half]  # halves: test_halves.py
INTEGERS = ("add", "sub", "mul", "min", "max", "and", "or", "xor", "shl", "shr", "floordiv", "mod")
FLOATS = ("add", "sub", "mul", "div", "min", "max")
FLOAT_UNARY = ("neg", "abs", "sqrt", "floor", "ceil", "trunc", "round")


def special(dtype: DType) -> np.ndarray:
    """Edge values of a dtype."""
    if dtype is bool_:
        return np.array([False, True])
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        around = [0, 1, 2, 3, 7, dtype.bits - 1, dtype.bits, dtype.bits + 1, 100]
        values = [*around, *(-a for a in around), info.min, info.min + 1, info.max, info.max - 1]
        return np.array(sorted({v for v in values if info.min <= v <= info.max}), dtype.numpy)
    info = np.finfo(dtype.numpy)
    whole = 2.0**23 if dtype is float32 else 2.0**52
    values = [0.0, 0.3, 0.5, 1.0, 1.5, 2.5, 3.7, 127.5, 255.0, 256.0, whole - 0.5, whole, whole + 1]
    values += [2.0**31, 2.0**32, 2.0**63, 2.0**64, 2.0**63 * 1.5, 65535.9, float(info.max)]
    values += [float(info.tiny), float(info.smallest_subnormal), np.inf]
    return np.array([*values, *(-v for v in values), np.nan], dtype=dtype.numpy)


def pairs(dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    found = list(itertools.product(special(dtype), repeat=2))
    first, second = zip(*found, strict=True)
    return np.array(first, dtype.numpy), np.array(second, dtype.numpy)


def map_of(values: list[Expr], inputs: list[DType]) -> RowKernel:
    """out[n][i] = value n"""
    operands = [Operand(d, "in") for d in inputs] + [Operand(v.dtype, "out") for v in values]
    stores = tuple(Store(len(inputs) + n, var(0), v) for n, v in enumerate(values))
    return RowKernel(tuple(operands), (), (size(0),), (Sweep(stores=stores),))


def check(runner, values: list[Expr], inputs: list[np.ndarray], dtypes: list[DType]) -> None:
    n = len(inputs[0])
    outputs = [np.zeros(n, v.dtype.numpy) for v in values]
    runner.check(map_of(values, dtypes), [*inputs, *outputs], [n])


@pytest.mark.parametrize("dtype", COMPUTED, ids=lambda d: d.name)
def test_two_arguments(runner, dtype):
    x, y = load(0, dtype, var(0)), load(1, dtype, var(0))
    names = FLOATS if dtype.is_float else INTEGERS if dtype.is_integer else ("and", "or", "xor")
    values = [make(op, (x, y), dtype) for op in names]
    values += [compare(op, x, y) for op in ("eq", "ne", "lt", "le")]
    if dtype is uint32:
        values.append(make("mulhi", (x, y), dtype))
    check(runner, values, list(pairs(dtype)), [dtype, dtype])


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_scale(runner, dtype):
    """Powers of two from those that give 0 to those that give infinity, subnormals on the way."""
    widest = 160 if dtype is float32 else 1090
    n = np.array([*range(-widest, 130 if dtype is float32 else 1026, 3), np.nan], dtype.numpy)
    p = np.linspace(0.7, 1.5, n.size).astype(dtype.numpy)
    p[-1] = np.nan
    value = make("scale", (load(0, dtype, var(0)), load(1, dtype, var(0))), dtype)
    check(runner, [value], [p, n], [dtype, dtype])


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_residue(runner, rng, dtype):
    """What the rounding of a product lost, exactly, with and without an fma."""
    x, y = (np.exp(rng.standard_normal(500) * 3).astype(dtype.numpy) for _ in range(2))
    y[::2] *= -1
    a, b = load(0, dtype, var(0)), load(1, dtype, var(0))
    value = make("residue", (a, b, make("mul", (a, b), dtype)), dtype)
    check(runner, [value], [x, y], [dtype, dtype])


@pytest.mark.parametrize("dtype", COMPUTED, ids=lambda d: d.name)
def test_one_argument(runner, dtype):
    x = load(0, dtype, var(0))
    names = FLOAT_UNARY if dtype.is_float else ("not",) if dtype is bool_ else ("neg", "abs", "not")
    check(runner, [make(op, (x,), dtype) for op in names], [np.repeat(special(dtype), 3)], [dtype])


@pytest.mark.parametrize("dtype", COMPUTED, ids=lambda d: d.name)
def test_casts(runner, dtype):
    x = load(0, dtype, var(0))
    check(runner, [cast(x, to) for to in COMPUTED if to is not dtype], [special(dtype)], [dtype])


def test_casts_of_many_numbers(runner, rng):
    """Conversions that round: 64-bit integers to floats, float64 to float32."""
    wide = rng.integers(0, 2**64, 2000, dtype=np.uint64)
    for data, dtype, to in (
        (wide, uint64, float32),
        (wide, uint64, float64),
        (wide.view(np.int64), int64, float32),
        (wide.view(np.int64), int64, float64),
        (wide.view(np.float64), float64, float32),
        (wide.view(np.uint32)[:2000], uint32, float32),
    ):
        check(runner, [cast(load(0, dtype, var(0)), to)], [data], [dtype])


@pytest.mark.parametrize(("dtype", "to"), [(float32, int32), (float64, uint64)])
def test_bitcast(runner, dtype, to):
    x = load(0, dtype, var(0))
    values = [bitcast(x, to), bitcast(bitcast(x, to), dtype)]
    check(runner, values, [special(dtype)], [dtype])


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_fma(runner, rng, dtype):
    count = 500
    a, b = (rng.standard_normal(count).astype(dtype.numpy) for _ in range(2))
    c = (-a * b).astype(dtype.numpy) * (rng.integers(0, 2, count) * 2 - 1).astype(dtype.numpy)
    x, y, z = (load(n, dtype, var(0)) for n in range(3))
    check(runner, [make("fma", (x, y, z), dtype)], [a, b, c], [dtype] * 3)


@pytest.mark.parametrize("dtype", [d for d in COMPUTED if d is not bool_], ids=lambda d: d.name)
def test_constant_counts_and_divisors(runner, dtype):
    if dtype.is_float:
        x = load(0, dtype, var(0))
        check(runner, [x * 3 - 0.5, 1.0 / x, -0.0 + x], [special(dtype)], [dtype])
        return
    x = load(0, dtype, var(0))
    values = [
        make(op, (x, make("const", (), dtype, c)), dtype)
        for op in ("shl", "shr", "floordiv", "mod")
        for c in (0, 1, 3, 8, dtype.bits)
    ]
    check(runner, values, [special(dtype)], [dtype])
