"""RowKernels whose reductions are those of blocks: machine code beside the interpreter."""

import numpy as np
import pytest

from rabbet.base.dtypes import DType, float32, float64, int64
from rabbet.expr.expr import Expr, acc, const, load, size, var
from rabbet.kernel.loops import LANES, Operand, Reduction, RowKernel, Store, Sweep

MOST = 100_000  # elements: the interpreter takes a second for as many


def place(axes: list[int]) -> Expr:
    """The row-major index over loops whose extents are the sizes of the same numbers."""
    index = const(0, int64)
    for axis in axes:
        index = index * size(axis) + var(axis)
    return index


def blocked(rng: np.random.Generator) -> tuple[RowKernel, list[np.ndarray], list[int]]:
    """One sweep over random loops, with a store, and the results of blocks."""
    kept, inner = int(rng.integers(0, 3)), int(rng.integers(1, 3))
    across = bool(kept) and bool(rng.integers(2))
    extents = [int(rng.choice([1, 3, 17, 70])) for _ in range(kept)]
    reduced = [int(rng.choice([0, 1, 5, 64, 65, 200])) for _ in range(inner)]
    if np.prod(extents + reduced) > MOST:
        extents = [min(n, 3) for n in extents]
    block = int(rng.choice([1, 3, 64, 70]))
    if inner == 1 and not across:
        block = LANES * int(rng.integers(1, 3))
    sizes = [-(-reduced[0] // block), *extents, *reduced]
    points = list(range(1, len(sizes)))
    dtype: DType = [float32, float64, int64][rng.integers(3)]
    order = list(points)
    rng.shuffle(order)
    count = int(np.prod(sizes[1:]))
    x = load(0, dtype, place(order))
    key = place(points[kept:]) if rng.integers(3) == 0 else None
    combine = "argmax" if key is not None else str(rng.choice(["sum", "max", "prod"]))
    reduction = Reduction(combine, x + x, key)
    result = int64 if key is not None else dtype
    outs = [(dtype, count), (result, int(np.prod(sizes[: 1 + kept])))]
    kernel = RowKernel(
        (Operand(dtype, "in"), *(Operand(d, "out") for d, _ in outs)),
        tuple(size(n) for n in range(1 + kept)),
        tuple(size(n) for n in range(1 + kept, len(sizes))),
        (Sweep((reduction,), (Store(1, place(points), x * x),)),),
        (Store(2, place(list(range(1 + kept))), acc(0, result)),),
        across=across,
        block=const(block, int64),
    )
    data = (rng.standard_normal(count) * 3).astype(dtype.numpy)
    return kernel, [data, *(np.zeros(n, d.numpy) for d, n in outs)], sizes


@pytest.mark.parametrize("seed", range(24))
def test_blocks_of_a_reduction(runner, seed):
    rng = np.random.default_rng(seed)
    kernel, buffers, sizes = blocked(rng)
    pieces = int(rng.integers(1, 4))
    runner.check(kernel, buffers, sizes, at_end=bool(rng.integers(2)), pieces=pieces)
