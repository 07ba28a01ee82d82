"""RowKernels written by hand: one for each thing that code generation must do."""

import numpy as np
import pytest

from rabbet.base.dtypes import DType, bool_, float32, float64, int16, int32, int64, uint8
from rabbet.codegen.rows_beside import is_beside
from rabbet.expr import scalars
from rabbet.expr.expr import Expr, acc, cast, const, load, select, size, var
from rabbet.expr.scalars import expand_all, maximum, minimum
from rabbet.kernel.loops import Operand, Reduction, RowKernel, Store, Sweep

LENGTHS = (0, 1, 3, 15, 16, 17, 31, 63, 64, 65, 127, 128, 131, 200, 259)


def operands(*dtypes: DType, outputs: int = 1) -> tuple[Operand, ...]:
    """Inputs first, then outputs."""
    first = len(dtypes) - outputs
    return tuple(Operand(d, "out" if n >= first else "in") for n, d in enumerate(dtypes))


def numbers(rng, count: int, dtype: DType) -> np.ndarray:
    if dtype.is_float:
        return rng.standard_normal(count).astype(dtype.numpy)
    return rng.integers(0, 2 if dtype is bool_ else 100, count).astype(dtype.numpy)


def row(dtype: DType, operand: int = 0) -> Expr:
    """in[v0 * s1 + v1]"""
    return load(operand, dtype, var(0) * size(1) + var(1))


@pytest.mark.parametrize("dtype", [float32, float64, int32, uint8], ids=lambda d: d.name)
def test_map(runner, rng, dtype):
    x, y = load(0, dtype, var(0)), load(1, dtype, var(0))
    kernel = RowKernel(
        operands(dtype, dtype, dtype),
        (),
        (size(0),),
        (Sweep(stores=(Store(2, var(0), x * y + 3),)),),
    )
    for n in LENGTHS:
        buffers = [numbers(rng, n, dtype) for _ in range(3)]
        runner.check(kernel, buffers, [n], pieces=1 + n % 3)
        runner.check(kernel, buffers, [n], at_end=False)


@pytest.mark.parametrize("combine", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", [float32, float64, int32, uint8], ids=lambda d: d.name)
def test_reduce_along(runner, rng, dtype, combine):
    kernel = RowKernel(
        operands(dtype, dtype),
        (size(0),),
        (size(1),),
        (Sweep((Reduction(combine, row(dtype)),)),),
        (Store(1, var(0), acc(0, dtype)),),
    )
    for n in LENGTHS:
        buffers = [numbers(rng, 5 * n, dtype), numbers(rng, 5, dtype)]
        runner.check(kernel, buffers, [5, n], pieces=2)


@pytest.mark.parametrize("combine", ["argmax", "argmin"])
@pytest.mark.parametrize("across", [False, True])
def test_index_of_extreme(runner, rng, combine, across):
    value = row(float32)
    kernel = RowKernel(
        operands(float32, int64),
        (size(0),),
        (size(1),),
        (Sweep((Reduction(combine, value, var(1)),)),),
        (Store(1, var(0), acc(0, int64)),),
        across,
    )
    for n in LENGTHS[1:]:
        data = rng.integers(0, 4, (20, n)).astype(np.float32)
        data[5:, n // 2] = np.nan
        data[10:, n // 3] = np.nan
        data[15] = -np.inf if combine == "argmax" else np.inf
        runner.check(kernel, [data.reshape(-1), np.zeros(20, np.int64)], [20, n])


def test_special_values_in_extremes(runner):
    kernel = RowKernel(
        operands(float32, float32, float32, outputs=2),
        (size(0),),
        (size(1),),
        (Sweep((Reduction("max", row(float32)), Reduction("min", row(float32)))),),
        (Store(1, var(0), acc(0, float32)), Store(2, var(0), acc(1, float32))),
    )
    rows = np.zeros((4, 40), np.float32)
    rows[0, ::2] = -0.0
    rows[1] = -0.0
    rows[2, 39] = np.nan
    rows[3, 3] = np.inf
    for across in (False, True):
        oriented = RowKernel(**{**vars(kernel), "across": across})
        runner.check(oriented, [rows.reshape(-1), np.ones(4, "f4"), np.ones(4, "f4")], [4, 40])


@pytest.mark.parametrize("columns", [1, 3, 16, 63, 64, 65, 200])
def test_reduce_across(runner, rng, columns):
    x = load(0, float32, var(1) * size(0) + var(0))
    kernel = RowKernel(
        operands(float32, float32, float64, outputs=2),
        (size(0),),
        (size(1),),
        (
            Sweep((Reduction("sum", x), Reduction("sum", cast(x, float64)))),
            Sweep((Reduction("max", x - acc(0, float32)),)),
        ),
        (
            Store(1, var(0), acc(0, float32) * acc(2, float32)),
            Store(2, var(0), acc(1, float64)),
        ),
        across=True,
    )
    for n in (0, 1, 2, 17):
        buffers = [numbers(rng, n * columns, float32), numbers(rng, columns, float32)]
        runner.check(kernel, [*buffers, numbers(rng, columns, float64)], [columns, n], pieces=2)


def test_rows_in_several_sweeps(runner, rng):
    """The skeleton of a softmax, without exp: max, then sum, then a store at each point."""
    x = row(float32)
    top, total = acc(0, float32), acc(1, float32)
    kernel = RowKernel(
        operands(float32, float32, float32, outputs=2),
        (size(0),),
        (size(1),),
        (
            Sweep((Reduction("max", x),)),
            Sweep((Reduction("sum", (x - top) * (x - top)),)),
            Sweep(stores=(Store(1, var(0) * size(1) + var(1), (x - top) / total),)),
        ),
        (Store(2, var(0), total),),
    )
    for n in LENGTHS[1:]:
        buffers = [
            numbers(rng, 3 * n, float32),
            numbers(rng, 3 * n, float32),
            numbers(rng, 3, float32),
        ]
        runner.check(kernel, buffers, [3, n])


def test_lanes_persist_over_outer_inner_loops(runner, rng):
    x = load(0, float32, (var(0) * size(1) + var(1)) * size(2) + var(2))
    kernel = RowKernel(
        operands(float32, float32),
        (size(0),),
        (size(1), size(2)),
        (Sweep((Reduction("sum", x),)),),
        (Store(1, var(0), acc(0, float32)),),
    )
    for a, b in ((3, 20), (1, 64), (5, 100), (0, 20), (4, 0), (2, 130)):
        buffers = [numbers(rng, 2 * a * b, float32), numbers(rng, 2, float32)]
        runner.check(kernel, buffers, [2, a, b])


def test_broadcast_flip_and_transpose(runner, rng):
    """out[i, j] = a[j, i] + b[n - 1 - j] + c[i] + d"""
    i, j = var(0), var(1)
    rows, columns = size(0), size(1)
    value = (
        load(0, float32, j * rows + i)
        + load(1, float32, columns - 1 - j)
        + load(2, float32, i)
        + load(3, float32, const(0, int64))
    )
    kernel = RowKernel(
        operands(*(float32,) * 5),
        (rows,),
        (columns,),
        (Sweep(stores=(Store(4, i * columns + j, value),)),),
    )
    for m, n in ((1, 1), (3, 40), (17, 16), (20, 35), (4, 0)):
        counts = (m * n, n, m, 1, m * n)
        runner.check(kernel, [numbers(rng, c, float32) for c in counts], [m, n], pieces=2)


@pytest.mark.parametrize("dtype", [float32, uint8, bool_], ids=lambda d: d.name)
@pytest.mark.parametrize("reverse", [False, True])
def test_padding_touches_no_memory(runner, rng, dtype, reverse):
    """out[i, j] = x[i - 2, j - 3] where that exists, else 1."""
    i, j = var(0) - 2, var(1) - 3
    if reverse:
        j = size(3) - 1 - j
    valid = (i >= 0) & (i < size(2)) & (j >= 0) & (j < size(3))
    value = load(0, dtype, i * size(3) + j, valid, 1)
    kernel = RowKernel(
        operands(dtype, dtype),
        (size(0),),
        (size(1),),
        (Sweep(stores=(Store(1, var(0) * size(1) + var(1), value),)),),
    )
    for m, n in ((1, 1), (5, 20), (3, 0), (2, 70)):
        buffers = [numbers(rng, m * n, dtype), numbers(rng, (m + 4) * (n + 7), dtype)]
        for at_end in (True, False):
            runner.check(kernel, buffers, [m + 4, n + 7, m, n], at_end=at_end)


@pytest.mark.parametrize("dtype", [float32, float64, uint8], ids=lambda d: d.name)
def test_gather_with_checks(runner, rng, dtype):
    """out[i] = x[clamp(index[i])]; the first bad index is reported."""
    place = cast(load(1, int32, var(0)), int64)
    kept = maximum(minimum(place, size(1) - 1), const(0, int64))
    kernel = RowKernel(
        operands(dtype, int32, dtype),
        (),
        (size(0),),
        (Sweep(stores=(Store(2, var(0), load(0, dtype, kept)),)),),
        checks=((place, size(1)),),
    )
    for n in (1, 5, 16, 50, 150):
        index = rng.integers(0, 7, n).astype(np.int32)
        buffers = [numbers(rng, 7, dtype), index, numbers(rng, n, dtype)]
        assert runner.check(kernel, buffers, [n, 7]) is None
        index[n // 2 :: 3] = (7, -1, 10**6)[n % 3]
        assert runner.check(kernel, buffers, [n, 7]) == (n // 2, int(index[n // 2]))


def test_gathered_rows_check_once_for_each(runner, rng):
    """out[i, j] = x[index[i], j]"""
    place = load(1, int64, var(0))
    kept = maximum(minimum(place, size(1) - 1), const(0, int64))
    kernel = RowKernel(
        operands(float32, int64, float32),
        (size(0),),
        (size(2),),
        (
            Sweep(
                stores=(
                    Store(2, var(0) * size(2) + var(1), load(0, float32, kept * size(2) + var(1))),
                )
            ),
        ),
        checks=((place, size(1)),),
    )
    buffers = [
        numbers(rng, 4 * 20, float32),
        np.array([1, 3, 4, 0, -2]),
        numbers(rng, 100, float32),
    ]
    assert runner.check(kernel, buffers, [5, 4, 20]) == (40, 4)


def test_bool_in_memory(runner, rng):
    """out = (a < 50) & b | select(b, c, d), as bytes"""
    a, b = load(0, uint8, var(0)), load(1, bool_, var(0))
    c, d = load(2, bool_, var(0)), load(3, bool_, var(0))
    value = ((a < 50) & b) | select(b, c, d)
    kernel = RowKernel(
        operands(uint8, bool_, bool_, bool_, bool_, bool_, outputs=2),
        (size(0),),
        (size(1),),
        (
            Sweep(
                (Reduction("max", load(1, bool_, var(0) * size(1) + var(1))),),
                (Store(4, var(0) * size(1) + var(1), value),),
            ),
        ),
        (Store(5, var(0), acc(0, bool_)),),
    )
    for n in (1, 15, 64, 100):
        counts = (3 * n, 3 * n, 3 * n, 3 * n, 3 * n, 3)
        dtypes = (uint8, *(bool_,) * 5)
        buffers = [numbers(rng, c, t) for c, t in zip(counts, dtypes, strict=True)]
        runner.check(kernel, buffers, [3, n])


def test_in_place(runner, rng):
    """An output that is its own input gives the same result."""
    x = load(0, float32, var(0))
    kernel = RowKernel(
        (Operand(float32, "out"),),
        (),
        (size(0),),
        (Sweep(stores=(Store(0, var(0), x * x + 1.5),)),),
    )
    for n in (1, 40, 150):
        runner.check(kernel, [numbers(rng, n, float32)], [n])


def test_no_loops(runner, rng):
    """A single point: a map, and a reduction of one element."""
    x = load(0, float32, const(0, int64))
    stores = (Store(1, const(0, int64), x * 2),)
    kernel = RowKernel(operands(float32, float32), (), (), (Sweep(stores=stores),))
    runner.check(kernel, [numbers(rng, 1, float32), numbers(rng, 1, float32)], [])
    for across in (False, True):
        reduced = RowKernel(
            operands(float32, float32),
            (),
            (),
            (Sweep((Reduction("sum", x),)),),
            (Store(1, const(0, int64), acc(0, float32)),),
            across,
        )
        runner.check(reduced, [numbers(rng, 1, float32), numbers(rng, 1, float32)], [])


@pytest.mark.parametrize(
    "dtype", [float32, float64, uint8, int16, int32, bool_], ids=lambda d: d.name
)
def test_turned_blocks(runner, rng, dtype):
    """out[b, u, v] = x[b, v, u] + y[u, v] + x[b, v, u] * z[v]"""
    b, u, v = var(0), var(1), var(2)
    x = load(0, dtype, (b * size(2) + v) * size(1) + u)
    y = load(1, dtype, u * size(2) + v)
    value = select(y, x, load(2, dtype, v)) if dtype is bool_ else x + y + x * load(2, dtype, v)
    kernel = RowKernel(
        operands(dtype, dtype, dtype, dtype),
        (size(0), size(1)),
        (size(2),),
        (Sweep(stores=(Store(3, (b * size(1) + u) * size(2) + v, value),)),),
    )
    for batch, rows, columns in ((1, 16, 16), (2, 17, 33), (3, 5, 70), (1, 70, 5), (2, 1, 1)):
        counts = (batch * rows * columns, rows * columns, columns, batch * rows * columns)
        buffers = [numbers(rng, c, dtype) for c in counts]
        runner.check(kernel, buffers, [batch, rows, columns], pieces=3)
        runner.check(kernel, buffers, [batch, rows, columns], at_end=False)


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize(
    "name", ["exp", "log", "tanh", "erf", "sin", "sigmoid", "expm1", "atan", "rsqrt"]
)
def test_math_functions(runner, rng, dtype, name):
    """Expansions give the bits that NumPy gives for the same steps."""
    value = expand_all(scalars.apply(name, load(0, dtype, var(0))))
    kernel = RowKernel(
        operands(dtype, dtype), (), (size(0),), (Sweep(stores=(Store(1, var(0), value),)),)
    )
    kind = np.int32 if dtype is float32 else np.int64
    bits = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, 500, dtype=kind)
    data = np.concatenate(
        [bits.view(dtype.numpy), (rng.standard_normal(500) * 5).astype(dtype.numpy)]
    )
    runner.check(kernel, [data, np.zeros_like(data)], [1000])


@pytest.mark.parametrize("stride", [2, 3, 4, 5, -2])
@pytest.mark.parametrize("dtype", [float32, float64, uint8], ids=lambda d: d.name)
def test_strides(runner, rng, dtype, stride):
    """out[i, j] = x[i, stride * j], touching nothing behind the last element."""
    first = size(1) * -stride + stride if stride < 0 else const(0, int64)
    place = var(0) * size(2) + first + var(1) * stride
    kernel = RowKernel(
        operands(dtype, dtype),
        (size(0),),
        (size(1),),
        (Sweep(stores=(Store(1, var(0) * size(1) + var(1), load(0, dtype, place)),)),),
    )
    for n in (1, 2, 16, 33, 100, 140):
        width = (n - 1) * abs(stride) + 1
        buffers = [numbers(rng, 2 * width, dtype), numbers(rng, 2 * n, dtype)]
        for at_end in (True, False):
            runner.check(kernel, buffers, [2, n, width], at_end=at_end)


def test_many_outer_loops(runner, rng):
    """Task numbers are taken apart and counted on, from any first task."""
    axes = [var(n) for n in range(4)]
    place = const(0, int64)
    for n, axis in enumerate(axes):
        place = place * size(n) + axis
    swapped = ((axes[2] * size(1) + axes[1]) * size(0) + axes[0]) * size(3) + axes[3]
    kernel = RowKernel(
        operands(float32, float32),
        tuple(size(n) for n in range(3)),
        (size(3),),
        (Sweep(stores=(Store(1, place, load(0, float32, swapped)),)),),
    )
    for sizes in ((2, 3, 4, 5), (1, 1, 7, 20), (3, 1, 2, 1), (2, 0, 3, 4)):
        count = int(np.prod(sizes))
        buffers = [numbers(rng, count, float32), numbers(rng, count, float32)]
        for pieces in (1, 4):
            runner.check(kernel, buffers, list(sizes), pieces=pieces)


def test_division_in_an_index(runner, rng):
    """out[i] = x[i // s, i % s] read from a transposed x; quotients and remainders are exact."""
    i, s = var(0), size(1)
    place = (i % s) * size(2) + i // s
    quotient = (i * size(3) + size(4)) // size(5)
    kernel = RowKernel(
        operands(float32, float32, int64, int64, outputs=3),
        (),
        (size(0),),
        (
            Sweep(
                stores=(
                    Store(1, i, load(0, float32, place)),
                    Store(2, i, quotient),
                    Store(3, i, (i * size(3) + size(4)) % size(5)),
                )
            ),
        ),
    )
    for rows, columns in ((1, 1), (7, 3), (3, 50), (40, 5)):
        n = rows * columns
        buffers = [numbers(rng, n, float32), numbers(rng, n, float32), *np.zeros((2, n), np.int64)]
        for step, first, divisor in (
            (1, -5, 3),
            (2**44 + 1, -(2**45), 3),
            (3 * 2**40, -1, 2**40),
            (1, 0, 0),
        ):
            runner.check(kernel, buffers, [n, columns, rows, step, first, divisor])


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("dtype", [float32, float64, uint8, bool_], ids=lambda d: d.name)
def test_last_loop_of_very_few_elements(runner, rng, dtype, count):
    """out[r, u, j] = in[u] where j == 1, else other[r, u, j]."""
    digits, rank = const(count, int64), 2
    r, u, j = (var(n) for n in range(rank + 1))
    place = (r * size(1) + u) * digits + j
    picked = select(j.equals(1), load(0, dtype, u), load(1, dtype, place))
    kernel = RowKernel(
        operands(dtype, dtype, dtype),
        (size(0), size(1)),
        (digits,),
        (Sweep(stores=(Store(2, place, picked),)),),
    )
    for n in LENGTHS:
        buffers = [numbers(rng, n, dtype), *(numbers(rng, 3 * n * count, dtype) for _ in range(2))]
        runner.check(kernel, buffers, [3, n], pieces=1 + n % 3)
        runner.check(kernel, buffers, [3, n], at_end=False)


@pytest.mark.parametrize("combine", ["sum", "prod", "max", "min", "argmax"])
@pytest.mark.parametrize("dtype", [float32, float64, int32, uint8], ids=lambda d: d.name)
def test_reduce_along_lines_side_by_side(runner, rng, dtype, combine):
    """Elements of a line lie apart, lines beside each other; a scale for each line, one for all."""
    value = load(0, dtype, (var(0) * size(2) + var(2)) * size(1) + var(1))
    value = minimum(value * load(1, dtype, var(1)), load(1, dtype, const(0, int64)))
    result = int64 if combine == "argmax" else dtype
    kernel = RowKernel(
        operands(dtype, dtype, result),
        (size(0), size(1)),
        (size(2),),
        (Sweep((Reduction(combine, value, var(2) if combine == "argmax" else None),)),),
        (Store(2, var(0) * size(1) + var(1), acc(0, result)),),
    )
    assert is_beside(kernel)
    for n, lines in zip(LENGTHS * 2, (1, 3, 16, 17, 64, 65, 70, 100, 200, 31) * 3, strict=True):
        if combine == "argmax" and n == 0:
            continue
        data = numbers(rng, 2 * n * lines, dtype)
        if dtype.is_float and n > 2:
            data[rng.random(data.size) < 0.01] = rng.choice([np.nan, np.inf, -0.0])
        scale = numbers(rng, lines, dtype)
        buffers = [data, scale, np.zeros(2 * lines, result.numpy)]
        runner.check(kernel, buffers, [2, lines, n], pieces=2)
