"""Random RowKernels: loops, operands, expressions and sizes by chance."""

import numpy as np
import pytest

from rabbet.base.dtypes import (
    DType,
    bool_,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint32,
)
from rabbet.expr.expr import Expr, acc, cast, compare, const, load, make, select, size, var
from rabbet.kernel.loops import Operand, Reduction, RowKernel, Store, Sweep

DTYPES = (float32, float32, float64, int8, int16, int32, int64, uint8, uint32, bool_)
EXTENTS = (0, 1, 2, 3, 5, 15, 16, 17, 33, 64, 65, 70, 130)
BINARY = ("add", "sub", "mul", "min", "max")


class Maker:
    """One random kernel with its buffers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.operands: list[Operand] = []
        self.buffers: list[np.ndarray] = []
        outer, inner = int(rng.integers(0, 3)), int(rng.integers(0, 3))
        self.extents = [int(rng.choice(EXTENTS)) for _ in range(outer + inner)]
        while np.prod(self.extents) > 20000:
            widest = int(np.argmax(self.extents))
            self.extents[widest] //= 2
        self.outer = outer
        self.sweeps: list[Sweep] = []
        self.accs: list[DType] = []

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def operand(self, dtype: DType, count: int, mode: str) -> int:
        if dtype.is_float:
            data = (self.rng.standard_normal(count) * 4).astype(dtype.numpy)
            data[self.rng.random(count) < 0.02] = self.rng.choice([np.nan, np.inf, -0.0])
        else:
            top = 2 if dtype is bool_ else 100
            data = self.rng.integers(0, top, count).astype(dtype.numpy)
        self.operands.append(Operand(dtype, mode))
        self.buffers.append(data)
        return len(self.operands) - 1

    def index(self, axes: list[int], flips: bool) -> tuple[Expr, int]:
        """A row-major index over the axes in this order, perhaps backwards along some."""
        place, count = const(0, int64), 1
        for axis in axes:
            step = size(axis) - 1 - var(axis) if flips and self.chance(0.2) else var(axis)
            place = place * size(axis) + step
            count *= self.extents[axis]
        return place, count

    def read(self, depth: int) -> Expr:
        """A load over some of the first `depth` loops."""
        dtype = DTYPES[self.rng.integers(len(DTYPES))]
        axes = [a for a in range(depth) if self.chance(0.75)]
        if self.chance(0.3):
            self.rng.shuffle(axes)
        place, count = self.index(axes, True)
        if not self.chance(0.25) or not axes:
            return load(self.operand(dtype, count, "in"), dtype, place)
        low = int(self.rng.integers(0, count + 1))  # a window of a larger index space
        high = int(self.rng.integers(low, count + 1))
        valid = (const(low, int64) <= place) & (place < high)
        number = self.operand(dtype, high - low, "in")
        return load(number, dtype, place - low, valid, int(self.rng.integers(0, 2)))

    def value(self, dtype: DType, depth: int, budget: int) -> Expr:
        """A random expression of `dtype`."""
        if budget <= 0:
            if self.accs and self.chance(0.4):
                number = int(self.rng.integers(len(self.accs)))
                return cast(acc(number, self.accs[number]), dtype)
            return cast(self.read(depth), dtype)
        match int(self.rng.integers(5)):
            case 0:
                other = DTYPES[self.rng.integers(len(DTYPES))]
                return cast(self.value(other, depth, budget - 1), dtype)
            case 1 if dtype is not bool_:
                condition = self.value(bool_, depth, budget - 2)
                x, y = (self.value(dtype, depth, budget - 2) for _ in range(2))
                return select(condition, x, y)
            case 2 if depth:
                return cast(var(int(self.rng.integers(depth))), dtype)
        x, y = (self.value(dtype, depth, budget // 2) for _ in range(2))
        if dtype is bool_:
            return compare(str(self.rng.choice(["eq", "ne", "lt", "le"])), x, y)
        return make(str(self.rng.choice(BINARY)), (x, y), dtype)

    def store(self, depth: int) -> Store:
        dtype = DTYPES[self.rng.integers(len(DTYPES))]
        axes = list(range(depth))
        if self.chance(0.2):
            self.rng.shuffle(axes)
        value = self.value(dtype, depth, int(self.rng.integers(1, 5)))
        place, count = self.index(axes, False)
        return Store(self.operand(dtype, count, "out"), place, value)

    def reduction(self) -> Reduction:
        dtype = DTYPES[self.rng.integers(len(DTYPES) - 1)]
        combine = str(self.rng.choice(["sum", "prod", "max", "min", "argmax", "argmin"]))
        depth = len(self.extents)
        value = self.value(dtype, depth, int(self.rng.integers(1, 4)))
        key = None
        if combine.startswith("arg"):
            key, _ = self.index(list(range(self.outer, depth)), False)
        return Reduction(combine, value, key)

    def make(self) -> tuple[RowKernel, list[np.ndarray], list[int]]:
        depth = len(self.extents)
        for _ in range(int(self.rng.integers(1, 4))):
            reductions = tuple(self.reduction() for _ in range(int(self.rng.integers(0, 3))))
            stores = (self.store(depth),) if not reductions or self.chance(0.3) else ()
            self.sweeps.append(Sweep(reductions, stores))
            self.accs += [int64 if r.key is not None else r.value.dtype for r in reductions]
        finish = ()
        if self.accs:
            finish = tuple(self.store(self.outer) for _ in range(int(self.rng.integers(1, 3))))
        extents = [size(n) for n in range(depth)]
        kernel = RowKernel(
            tuple(self.operands),
            tuple(extents[: self.outer]),
            tuple(extents[self.outer :]),
            tuple(self.sweeps),
            finish,
            across=self.chance(0.5) and bool(self.accs),
        )
        return kernel, self.buffers, self.extents


@pytest.mark.parametrize("seed", [*range(30), 1016])  # 1016: room for three vectors
def test_random_kernel(runner, seed):
    rng = np.random.default_rng(seed)
    kernel, buffers, sizes = Maker(rng).make()
    pieces = int(rng.integers(1, 4))
    runner.check(kernel, buffers, sizes, at_end=bool(rng.integers(2)), pieces=pieces)
