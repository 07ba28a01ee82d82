"""ScatterKernels against the interpreter: repeated, ordered, vectorised or not, out of range."""

import numpy as np
import pytest

from rabbet.base.dtypes import float32, int32, int64, uint8
from rabbet.expr.expr import cast, const, load, size, var
from rabbet.expr.scalars import maximum, minimum
from rabbet.kernel.loops import Operand, ScatterKernel


def scatter_rows(dtype, combine: str, transposed: bool = False) -> ScatterKernel:
    """out[index[u], i] (or out[i, index[u]]) combine= value[u, i]"""
    place = cast(load(1, int32, var(0)), int64)
    kept = maximum(minimum(place, size(2) - 1), const(0, int64))
    index = var(1) * size(2) + kept if transposed else kept * size(1) + var(1)
    return ScatterKernel(
        (Operand(dtype, "in"), Operand(int32, "in"), Operand(dtype, "out")),
        outer=(),
        updates=(size(0),),
        inner=(size(1),),
        out=2,
        index=index,
        value=load(0, dtype, var(0) * size(1) + var(1)),
        combine=combine,
        checks=((place, size(2)),),
    )


@pytest.mark.parametrize("combine", ["add", "set", "max", "min"])
@pytest.mark.parametrize("dtype", [float32, uint8], ids=lambda d: d.name)
@pytest.mark.parametrize("transposed", [False, True])
def test_scatter_rows(runner, rng, combine, dtype, transposed):
    kernel = scatter_rows(dtype, combine, transposed)
    for updates, width, rows in ((0, 3, 2), (1, 1, 1), (7, 20, 3), (30, 70, 5)):
        value = (rng.standard_normal(updates * width) * 10).astype(dtype.numpy)
        index = rng.integers(0, rows, updates).astype(np.int32)
        out = (rng.standard_normal(rows * width) * 10).astype(dtype.numpy)
        for at_end in (True, False):
            runner.check(kernel, [value, index, out], [updates, width, rows], at_end=at_end)


def test_bad_indices_are_reported(runner, rng):
    kernel = scatter_rows(float32, "add")
    index = np.array([0, 1, 4, -1], np.int32)
    value = rng.standard_normal(4 * 20).astype(np.float32)
    failure = runner.check(kernel, [value, index, np.zeros(60, np.float32)], [4, 20, 3])
    assert failure == (40, 4)


def test_tasks_are_outer_points(runner, rng):
    """out[o, index[o, u]] += value[o, u]"""
    flat = var(0) * size(1) + var(1)
    kernel = ScatterKernel(
        (Operand(float32, "in"), Operand(int64, "in"), Operand(float32, "out")),
        outer=(size(0),),
        updates=(size(1),),
        inner=(),
        out=2,
        index=var(0) * size(2) + load(1, int64, flat),
        value=load(0, float32, flat),
        combine="add",
    )
    for outer, updates, width in ((4, 50, 7), (3, 0, 2)):
        value = rng.standard_normal(outer * updates).astype(np.float32)
        index = rng.integers(0, width, outer * updates)
        out = rng.standard_normal(outer * width).astype(np.float32)
        runner.check(kernel, [value, index, out], [outer, updates, width], pieces=2)
