"""Recurrent kernels against the interpreter: blocks of rows, edges of vectors, long sums."""

from __future__ import annotations

import numpy as np
import pytest

from rabbet.base.dtypes import DType, float32, float64, int64
from rabbet.base.errors import InternalError
from rabbet.expr.expr import acc, const, load, select, size, var
from rabbet.kernel.loops import MOST_SHIFT, Operand, RecurrentKernel, Store

BATCH, STEPS, UNITS = (size(n) for n in range(3))
B, T, J, TARGET, SOURCE, K = (var(n) for n in range(6))
HALF = 0.5


def kernel(dtype: DType, targets: int, sources: int) -> RecurrentKernel:
    """Operands: x (steps, batch, units), weight, result, what is carried last in the end.

    With p the products and u what is carried: u' = 0.5 u - x + p, in turns.
    """
    x = load(0, dtype, (T * BATCH + B) * UNITS + J)
    place = ((TARGET * sources + SOURCE) * UNITS + J) * UNITS + K
    before = [acc(targets + n, dtype) for n in range(sources + 1)]
    carried = tuple(
        u * const(HALF, dtype) - x + acc(n % targets, dtype) for n, u in enumerate(before)
    )
    return RecurrentKernel(
        (*(Operand(dtype, "in"),) * 2, *(Operand(dtype, "out"),) * 2),
        *(BATCH, STEPS, UNITS),
        *(targets, sources, load(1, dtype, place)),
        tuple(const(float(n), dtype) for n in range(sources + 1)),
        carried,
        (Store(2, (T * BATCH + B) * UNITS + J, carried[-1] + acc(0, dtype)),),
        (Store(3, B * UNITS + J, before[-1]),),
    )


@pytest.mark.parametrize(
    "case", [(1, 1, 1), (2, 3, 5), (17, 2, 16), (3, 2, 40), (2, 1, 259)], ids=str
)
@pytest.mark.parametrize("shape", [(3, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_steps(runner, rng, dtype: DType, shape: tuple[int, int], case: tuple) -> None:
    targets, sources = shape
    batch, steps, units = case
    x = rng.standard_normal(steps * batch * units).astype(dtype.numpy)
    weight = rng.standard_normal(targets * sources * units * units) / units
    outs = [np.zeros(n, dtype.numpy) for n in (x.size, batch * units)]
    given = [x, weight.astype(dtype.numpy), *outs]
    for at_end in (True, False):
        runner.check(kernel(dtype, targets, sources), given, case, at_end=at_end, pieces=2)


@pytest.mark.parametrize(
    "case", [(1, 1, 1), (2, 3, 5), (17, 2, 16), (3, 4, 40), (0, 2, 3)], ids=str
)
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_neighbours(runner, rng, dtype: DType, case: tuple) -> None:
    """Without a weight, from places below: u' = x + 0.5 u - u of 2 below, 0 where there is none."""
    batch, steps, units = case
    x = load(0, dtype, (T * BATCH + B) * UNITS + J)
    below = select(const(2, int64) <= J, acc(2, dtype), const(0.0, dtype))
    above = x + acc(0, dtype) * const(HALF, dtype) - below
    other = select(const(1, int64) <= J, acc(3, dtype), const(1.0, dtype)) + x
    made = RecurrentKernel(
        (Operand(dtype, "in"), *(Operand(dtype, "out"),) * 2),
        *(BATCH, STEPS, UNITS),
        *(0, 0, None),
        (const(1.0, dtype), const(2.0, dtype)),
        (above, other),
        (Store(1, (T * BATCH + B) * UNITS + J, above),),
        (Store(2, B * UNITS + J, acc(1, dtype)),),
        ((0, 2), (0, 1)),
    )
    given = rng.standard_normal(steps * batch * units).astype(dtype.numpy)
    outs = [np.zeros(n, dtype.numpy) for n in (given.size, batch * units)]
    for at_end in (True, False):
        runner.check(made, [given, *outs], case, at_end=at_end, pieces=2)


@pytest.mark.parametrize("case", [(1, 1, 1), (2, 3, 5), (17, 4, 40)], ids=str)
def test_neighbours_and_products(runner, rng, case: tuple) -> None:
    """A weight and neighbours in one: both read what the step before left."""
    batch, steps, units = case
    x = load(0, float32, (T * BATCH + B) * UNITS + J)
    below = select(const(1, int64) <= J, acc(2, float32), const(0.0, float32))
    made = RecurrentKernel(
        (*(Operand(float32, "in"),) * 2, Operand(float32, "out")),
        *(BATCH, STEPS, UNITS),
        *(1, 1, load(1, float32, J * UNITS + K)),
        (const(1.0, float32),),
        (x + acc(0, float32) - below * const(HALF, float32),),
        (Store(2, (T * BATCH + B) * UNITS + J, acc(0, float32) + below),),
        shifts=((0, 1),),
    )
    given = rng.standard_normal(steps * batch * units).astype(np.float32)
    weight = (rng.standard_normal(units * units) / units).astype(np.float32)
    for at_end in (True, False):
        found = [given, weight, np.zeros(given.size, np.float32)]
        runner.check(made, found, case, at_end=at_end, pieces=2)


@pytest.mark.parametrize("shift", [0, -1, MOST_SHIFT + 1])
def test_neighbours_that_lie_too_far(shift: int) -> None:
    one, x = const(1.0, float32), acc(0, float32)
    with pytest.raises(InternalError, match="neighbours lie 1 to 8 units below"):
        RecurrentKernel((), BATCH, STEPS, UNITS, 0, 0, None, (one,), (x,), (), shifts=((0, shift),))
