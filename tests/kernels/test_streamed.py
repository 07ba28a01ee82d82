"""Results larger than the last cache go past the caches: the same bits, where lines begin and where
they do not."""

from dataclasses import replace

import numpy as np
import pytest

from rabbet import targets
from rabbet.base.dtypes import float32, float64, uint8
from rabbet.codegen.build import build
from rabbet.expr.expr import acc, load, size, var
from rabbet.kernel.loops import Operand, Reduction, RowKernel, Store, Sweep
from tests.kernels.conftest import Runner


@pytest.fixture(scope="module")
def tiny() -> Runner:
    """This machine with a last cache of 1 KiB."""
    return Runner(replace(targets.runnable()[0], l3_bytes=1 << 10))


def times_sum() -> RowKernel:
    """out[i, j] = in[i, j] * sum of the row"""
    place = var(0) * size(1) + var(1)
    x = load(0, float32, place)
    value = x * acc(0, float32)
    return RowKernel(
        (Operand(float32, "in"), Operand(float32, "out")),
        (size(0),),
        (size(1),),
        (Sweep((Reduction("sum", x),)), Sweep(stores=(Store(1, place, value),))),
    )


@pytest.mark.parametrize("dtype", [float32, float64, uint8], ids=lambda d: d.name)
def test_map(tiny, rng, dtype):
    kernel = RowKernel(
        (Operand(dtype, "in"), Operand(dtype, "out")),
        (),
        (size(0),),
        (Sweep(stores=(Store(1, var(0), load(0, dtype, var(0)) + 3),)),),
    )
    assert "nontemporal" in build(kernel, tiny.target).text
    for n in (100, 1024, 1500, 4111):
        buffers = [rng.integers(0, 100, n).astype(dtype.numpy) for _ in range(2)]
        for at_end in (False, True):
            tiny.check(kernel, buffers, [n], at_end=at_end, pieces=3)


@pytest.mark.parametrize("width", [1, 48, 64, 130, 256])
def test_rows(tiny, rng, width):
    kernel = times_sum()
    assert "nontemporal" in build(kernel, tiny.target).text
    for rows in (1, 7, 40):
        buffers = [rng.standard_normal(rows * width).astype(np.float32) for _ in range(2)]
        for at_end in (False, True):
            tiny.check(kernel, buffers, [rows, width], at_end=at_end, pieces=2)
