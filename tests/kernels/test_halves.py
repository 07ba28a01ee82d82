"""Casts of float16 and bfloat16: every bit pattern, every tie, with and without instructions."""

import numpy as np
import pytest

from rabbet.base.dtypes import (
    ALL,
    DType,
    bfloat16,
    float16,
    float32,
    float64,
    int32,
    int64,
    to_half,
    uint64,
)
from rabbet.expr.expr import Expr, cast, const, load, select, var
from rabbet.expr.expr import size as size_of
from rabbet.kernel.loops import Operand, RowKernel, Store, Sweep

HALVES = [float16, bfloat16]
each_half = pytest.mark.parametrize("half", HALVES, ids=lambda d: d.name)


def run(runner, value: Expr, given: np.ndarray, dtype: DType) -> np.ndarray:
    """The value at every element, by the kernel; also compared with the interpreter."""
    kernel = RowKernel(
        (Operand(dtype, "in"), Operand(value.dtype, "out")),
        (),
        (size_of(0),),
        (Sweep(stores=(Store(1, var(0), value),)),),
    )
    buffers = [given, np.zeros(len(given), value.dtype.numpy)]
    runner.check(kernel, buffers, [len(given)])
    return runner.run(kernel, buffers, [len(given)])[0][1]


def every(half: DType) -> np.ndarray:
    return np.arange(1 << 16, dtype=np.uint16).view(half.numpy)


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal, NaN for NaN, and zeros of the same sign."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(
        np.signbit(found[~np.isnan(wanted)]), np.signbit(wanted[~np.isnan(wanted)])
    )


@each_half
def test_all_values_to_every_dtype(runner, half):
    x = load(0, half, var(0))
    for to in ALL:
        if to.kind != "c" and to is not half:
            run(runner, cast(x, to), every(half), half)
    with np.errstate(invalid="ignore"):
        same(run(runner, cast(x, float32), every(half), half), every(half).astype(np.float32))


@each_half
@pytest.mark.parametrize("wide", [float32, float64], ids=lambda d: d.name)
def test_ties_go_to_even_and_nothing_is_rounded_twice(runner, half, wide):
    with np.errstate(invalid="ignore", over="ignore"):
        exact = every(half).astype(wide.numpy)
    exact = np.unique(exact[np.isfinite(exact)])  # sorted, one zero
    low, high = exact[:-1], exact[1:]
    middle = low + (high - low) / 2
    even = np.where(low.astype(half.numpy).view(np.uint16) % 2 == 0, low, high)
    cases = {
        "exact": (exact, exact),
        "tie": (middle, even),
        "above": (np.nextafter(middle, np.inf, dtype=wide.numpy), high),
        "below": (np.nextafter(middle, -np.inf, dtype=wide.numpy), low),
    }
    for name, (given, wanted) in cases.items():
        found = run(runner, cast(load(0, wide, var(0)), half), given, wide)
        np.testing.assert_array_equal(found.astype(wide.numpy), wanted, name)


@each_half
def test_what_is_too_large_becomes_infinite(runner, half):
    largest = float(every(half).astype(np.float32)[0x7BFF if half is float16 else 0x7F7F])
    step = largest - float(every(half).astype(np.float32)[0x7BFE if half is float16 else 0x7F7E])
    given = np.array([largest + step / 2, largest + step * 0.4999999, 1e300, -1e300, np.inf])
    found = run(runner, cast(load(0, float64, var(0)), half), given, float64)
    same(found, np.array([np.inf, largest, np.inf, -np.inf, np.inf]))


@each_half
def test_integers_round_once(runner, half, rng):
    shift = rng.integers(0, 64, 4000)
    wide = rng.integers(0, 2**64, 4000, dtype=np.uint64) >> shift.astype(np.uint64)
    tie = np.array(
        [(1 << 60) + (1 << 52) + 1, (1 << 60) + (1 << 52), (1 << 60) + 3 * (1 << 52) - 1]
    )
    for dtype, given in (
        (uint64, np.concatenate([wide, tie.astype(np.uint64)])),
        (int64, np.concatenate([wide.view(np.int64), tie, -tie])),
        (int32, wide.astype(np.int32)),
    ):
        run(runner, cast(load(0, dtype, var(0)), half), given, dtype)
    found = run(runner, cast(load(0, int64, var(0)), bfloat16), tie, int64).astype(np.float64)
    assert found.tolist() == [2.0**60 + 2.0**53, 2.0**60, 2.0**60 + 2.0**53]


@each_half
def test_a_literal_and_a_choice(runner, half):
    x = load(0, half, var(0), var(0) < 60000, 1.5)
    found = run(runner, select(cast(x, float32) < 0, const(-0.25, half), x), every(half), half)
    assert float(found[60001]) == 1.5 and float(found[0x8001]) == -0.25


def test_the_reference_rounds_as_numpy_does(rng):
    given = rng.standard_normal(20000) * 2.0 ** rng.integers(-30, 18, 20000)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(to_half(given, float16), given.astype(np.float16))
