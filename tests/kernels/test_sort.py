"""SortKernels against the interpreter: lines short and long, equal keys, keys of every width."""

import numpy as np
import pytest

from rabbet.base.dtypes import DType, int64, uint8, uint16, uint32, uint64
from rabbet.expr.expr import load, size, var
from rabbet.kernel.loops import Operand, SortKernel


def sort_lines(dtype: DType, wide: bool, across: bool = False) -> SortKernel:
    """out[o, i] = which key[o, :] comes i-th (across: of key[:, o])."""
    place = var(0) * size(1) + var(1)
    source = var(1) * size(0) + var(0) if across else place
    return SortKernel(
        (Operand(dtype, "in"), Operand(int64, "out")),
        outer=(size(0),),
        line=(size(1),),
        key=load(0, dtype, source),
        out=1,
        index=place,
        wide=wide,
    )


@pytest.mark.parametrize("dtype", [uint8, uint16, uint32, uint64], ids=lambda d: d.name)
@pytest.mark.parametrize("wide", [False, True])
def test_sorted_lines(runner, rng, dtype, wide):
    if dtype is uint64 and not wide:
        pytest.skip("a narrow record has no room for it")
    top = np.iinfo(dtype.numpy).max
    for lines, length in ((3, 0), (0, 3), (3, 1), (4, 16), (4, 17), (2, 32), (3, 33), (2, 700)):
        for high in (1, 3, top):  # all alike, many alike, few alike
            keys = rng.integers(0, high, lines * length, dtype.numpy, endpoint=True)
            out = np.full(lines * length, -1, np.int64)
            for across in (False, True):
                kernel = sort_lines(dtype, wide, across)
                runner.check(kernel, [keys, out], [lines, length], pieces=2)


def test_lines_of_one_point_have_no_loop(runner):
    kernel = SortKernel(
        (Operand(uint8, "in"), Operand(int64, "out")),
        outer=(size(0),),
        line=(),
        key=load(0, uint8, var(0)),
        out=1,
        index=var(0),
        wide=False,
    )
    runner.check(kernel, [np.array([3, 1], np.uint8), np.full(2, 7, np.int64)], [2])
