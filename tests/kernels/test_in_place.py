"""Outputs written over inputs: which pairs may share memory; `Runner.check` then tries them."""

import numpy as np
import pytest

from rabbet.base.dtypes import float32, int32, int64
from rabbet.expr.expr import Expr, acc, load, size, var
from rabbet.kernel.inplace import is_copy, overwritable
from rabbet.kernel.loops import ContractKernel, Operand, Reduction, RowKernel, Store, Sweep

IN, OUT = Operand(float32, "in"), Operand(float32, "out")
ROW = var(0) * size(1) + var(1)
SIZES = [37, 133]


def at(index: Expr, operand: int = 0) -> Expr:
    return load(operand, float32, index)


def rows(*sweeps: Sweep, finish: tuple[Store, ...] = (), across: bool = False) -> RowKernel:
    return RowKernel((IN, IN, OUT), (size(0),), (size(1),), sweeps, finish, across)


def data(rng: np.random.Generator, m: int = 37, n: int = 133) -> list[np.ndarray]:
    return [rng.standard_normal(m * n).astype(np.float32) for _ in range(3)]


@pytest.mark.parametrize("across", [False, True])
def test_map_and_softmax(runner, rng: np.random.Generator, across: bool) -> None:
    both = rows(Sweep((), (Store(2, ROW, at(ROW) * at(ROW, 1) + at(ROW)),)), across=across)
    assert overwritable(both) == [(0, 2), (1, 2)]
    runner.check(both, data(rng), SIZES, pieces=5)
    shifted = at(ROW) - acc(0, float32)
    scaled = rows(
        Sweep((Reduction("max", at(ROW)),)),
        Sweep((Reduction("sum", shifted * at(ROW, 1)),)),
        Sweep((), (Store(2, ROW, shifted * acc(1, float32)),)),
        across=across,
    )
    assert overwritable(scaled) == [(0, 2), (1, 2)]
    runner.check(scaled, data(rng), SIZES, pieces=3)


def test_read_after_the_store() -> None:
    """The second sweep reads what the first has written over."""
    late = rows(Sweep((), (Store(2, ROW, at(ROW)),)), Sweep((Reduction("sum", at(ROW)),)))
    assert overwritable(late) == []


def test_other_places() -> None:
    turned = var(1) * size(0) + var(0)
    assert overwritable(rows(Sweep((), (Store(2, ROW, at(turned) + at(ROW, 1)),)))) == [(1, 2)]
    assert overwritable(rows(Sweep((), (Store(2, ROW, at(ROW) + at(turned)),)))) == []
    row = Store(2, var(0), acc(0, float32) + at(var(0), 1))
    sums = rows(Sweep((Reduction("sum", at(ROW)),)), finish=(row,))
    assert overwritable(sums) == [(1, 2)]
    wide = RowKernel(
        (IN, Operand(int64, "out")), (), (size(0),), (Sweep((), (Store(1, var(0), at(var(0))),)),)
    )
    assert overwritable(wide) == []


def test_copies() -> None:
    def copy(out: Operand, index: Expr) -> RowKernel:
        store = Store(1, var(0), load(0, out.dtype, index))
        return RowKernel((Operand(out.dtype, "in"), out), (), (size(0),), (Sweep((), (store,)),))

    assert is_copy(copy(Operand(int32, "out"), var(0)))
    assert not is_copy(copy(OUT, size(0) - 1 - var(0)))


def test_the_epilogue_of_a_product(runner, rng: np.random.Generator) -> None:
    """A residual is read where results are written, for both of them; the factors elsewhere."""
    m, n, k = 33, 50, 600
    index = var(0) * size(1) + var(1)
    kernel = ContractKernel(
        (IN, IN, IN, OUT, OUT),
        (),
        (size(0),),
        (size(1),),
        (size(2),),
        at(var(0) * size(2) + var(2)),
        at(var(1) * size(2) + var(2), 1),
        (
            Store(3, index, acc(0, float32)),
            Store(4, index, at(index, 2) - acc(0, float32)),
        ),
    )
    assert overwritable(kernel) == [(2, 3), (2, 4)]
    buffers = [rng.standard_normal(c).astype(np.float32) for c in (m * k, n * k, *[m * n] * 3)]
    runner.check(kernel, buffers, [m, n, k], pieces=2)
