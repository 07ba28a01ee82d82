"""Contractions, machine code against a model of the order of additions, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rabbet.base.dtypes import dtype_of, float32, int64
from rabbet.base.errors import CompileError
from rabbet.base.target import Target
from rabbet.codegen.contract import emit_contract
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.machine import object_code
from rabbet.expr.expr import Expr, acc, cast, const, load, size, var
from rabbet.expr.scalars import maximum
from rabbet.kernel import interpret
from rabbet.kernel.loops import ContractKernel, Operand, Store
from rabbet.kernel.sums import has_pairs
from rabbet.targets.x86 import x86_baseline, x86_v3, x86_v4
from tests.unit.codegen.products import (
    EDGES,
    TARGETS,
    check,
    convolution,
    guarded,
    model,
    numbers_of,
    patches,
    product,
    run,
    run_product,
)

pytestmark = pytest.mark.skipif(not TARGETS, reason="needs an x86-64 processor")


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("turned", [(x, y) for x in (False, True) for y in (False, True)])
def test_products_of_all_edges(target: Target, turned: tuple[bool, bool]) -> None:
    for shape in EDGES:
        run_product(float32, target, shape, turned)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("turned", [(x, y) for x in (False, True) for y in (False, True)])
def test_a_tile_of_the_kernels_own_changes_no_bits(
    target: Target, turned: tuple[bool, bool]
) -> None:
    for tile in ((6, 4), (12, 2)):
        for shape in ((1, 13, 128, 300), (2, 9, 131, 20), (1, 51, 256, 3)):
            run_product(float32, target, shape, turned, tile)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("turned", [(x, y) for x in (False, True) for y in (False, True)])
def test_few_rows_of_any_layout(target: Target, turned: tuple[bool, bool]) -> None:
    for rows in (1, 2, 3, 5, 7):
        run_product(float32, target, (2, rows, 421, 523), turned)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["float64", "int32", "int64", "uint32", "uint64"])
def test_products_of_other_dtypes(target: Target, name: str) -> None:
    for shape in ((1, 1, 1, 3), (2, 7, 33, 9), (1, 5, 9, 300), (1, 9, 40, 17)):
        for turned in ((False, False), (True, False), (False, True)):
            run_product(dtype_of(name), target, shape, turned)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("turned", [(x, y) for x in (False, True) for y in (False, True)])
def test_products_of_halves(target: Target, turned: tuple[bool, bool]) -> None:
    for shape in ((1, 1, 1, 1), (2, 7, 33, 9), (1, 5, 9, 300), (1, 40, 70, 257), (2, 3, 5, 0)):
        run_product(dtype_of("bfloat16"), target, shape, turned)
    run_product(dtype_of("float16"), target, (2, 7, 33, 19), turned)


def test_smallest_and_largest_products_of_pairs() -> None:
    """Subnormal numbers are zeros, infinities and NaN stay, sums round as without an end."""
    targets = [t for t in TARGETS if has_pairs(t)]
    if not targets:
        pytest.skip("needs a machine that multiplies pairs of bfloat16")
    half, draw = dtype_of("bfloat16"), np.random.default_rng(1)
    kernel = product(half)
    a, b = np.zeros((1, 64, 34), half.numpy), np.zeros((1, 34, 48), half.numpy)
    for x, numbers in ((a, (40, 90)), (b, (0, 80))):
        exponents = draw.integers(*numbers, x.shape).astype(np.uint16)
        mantissas = draw.integers(0, 1 << 16, x.shape).astype(np.uint16) & 0x807F
        x.view(np.uint16)[:] = exponents << 7 | mantissas
    a[0, 0, :3], a[0, 1, 0], a[0, 2, 1] = np.inf, np.nan, -np.inf
    a[0, 3:7, :3] = np.array([2.0**-63, 0, 1.5 * 2.0**-75])
    b[0, 0:3, :8] = np.array([2.0**-63, 0, -(2.0**-76)])[:, None]
    a[0, 3:7, 3:] = 0
    found, wanted = (np.full((1, 64, 48), 7, np.float32) for _ in range(2))
    run(kernel, targets[0], (a, b, found), (1, 64, 48, 34))
    flat = [x.reshape(-1) for x in (a, b, wanted)]
    interpret.run(kernel, flat, (1, 64, 48, 34), pairs=True)
    assert (found == 0).any() and np.isnan(found).any() and np.isinf(found).any()
    nan = np.isnan(wanted)
    np.testing.assert_array_equal(np.isnan(found), nan)
    check(np.where(nan, np.float32(0), found), np.where(nan, np.float32(0), wanted))


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(CompileError, match="cast them first"):
        emit_contract(product(dtype_of("int8")), TARGETS[0])


# ---------------------------------------------------------------------- several loops, epilogues


def test_linear_layer_with_casts_and_epilogue() -> None:
    """relu(x[b, t, k] W[n, k] + bias[n]) * scale, with x stored as int32."""
    batch, time, n, k = (size(i) for i in range(4))
    i, t, c, s = (var(j) for j in range(4))
    x = cast(load(0, dtype_of("int32"), (i * time + t) * k + s), float32)
    w = load(1, float32, c * k + s)
    biased = acc(0, float32) + load(2, float32, c)
    value = maximum(biased, const(0.0, float32)) * load(3, float32, const(0, int64))
    out = (i * time + t) * n + c
    kernel = ContractKernel(
        tuple(Operand(dtype_of(d), "in") for d in ("int32", "float32", "float32", "float32"))
        + (Operand(float32, "out"), Operand(float32, "out")),
        (),
        (batch, time),
        (n,),
        (k,),
        x,
        w,
        (Store(4, out, value), Store(5, out, biased)),
    )
    sizes = (3, 5, 37, 29)
    draw = np.random.default_rng(3)
    xs = draw.integers(-9, 9, (15, 29), np.int32)
    ws, bias = numbers_of(float32, (37, 29), 4), numbers_of(float32, (37,), 5)
    scale = np.array([1.7], np.float32)
    for target in TARGETS:
        found, second = np.zeros((15, 37), np.float32), np.zeros((15, 37), np.float32)
        run(kernel, target, (xs, ws, bias, scale, found, second), sizes)
        plain = model(xs.astype(np.float32), ws, target) + bias
        check(second, plain)
        check(found, np.maximum(plain, np.float32(0)) * scale)


def test_matrix_times_vector_and_transposed_result() -> None:
    """No lane loop, and a result that is contiguous along m: the roles swap."""
    m, n, k = (size(i) for i in range(3))
    a = numbers_of(float32, (70, 33), 10)
    x = numbers_of(float32, (33,), 11)
    operands = (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out"))
    vector = ContractKernel(
        operands,
        (),
        (m,),
        (),
        (k,),
        load(0, float32, var(0) * k + var(1)),
        load(1, float32, var(1)),
        (Store(2, var(0), acc(0, float32)),),
    )
    b = numbers_of(float32, (33, 21), 12)
    turned = ContractKernel(
        operands,
        (),
        (m,),
        (n,),
        (k,),
        load(0, float32, var(0) * k + var(2)),
        load(1, float32, var(2) * n + var(1)),
        (Store(2, var(1) * m + var(0), acc(0, float32)),),
    )
    for target in TARGETS:
        found = np.zeros(70, np.float32)
        run(vector, target, (a, x, found), (70, 1, 33))
        check(found, model(a, x[None], target)[:, 0])
        result = np.zeros((21, 70), np.float32)
        run(turned, target, (a, b, result), (70, 21, 33))
        check(result, np.ascontiguousarray(model(a, np.ascontiguousarray(b.T), target).T))


THIN = [(1, rows, n, k) for rows in (1, 2, 3, 4, 5) for n, k in ((1, 7), (17, 40), (70, 530))]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_few_rows_with_weights_along_k(target: Target) -> None:
    for shape in (*THIN, (3, 2, 33, 0)):
        run_product(float32, target, shape, (False, True))
    run_product(dtype_of("float64"), target, (1, 3, 21, 19), (False, True))
    run_product(dtype_of("int64"), target, (1, 1, 21, 19), (False, True))


def strided(a_index: Expr, b_index: Expr, out: Expr) -> ContractKernel:
    """Sizes m, n, k as size(0..2), variables m, n, k; other strides from size(3) on."""
    operands = (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out"))
    left, right = load(0, float32, a_index), load(1, float32, b_index)
    store = Store(2, out, acc(0, float32))
    return ContractKernel(operands, (), (size(0),), (size(1),), (size(2),), left, right, (store,))


VIEWS = {  # index of row i and column j, rows g apart; the same formula for expressions and arrays
    "gap": lambda g, i, j: i * g + j,
    "turned": lambda g, i, j: j * g + i,
    "halves": lambda g, i, j: i * g + j * 2,
    "thirds": lambda g, i, j: i * g + j * 3,
    "back": lambda g, i, j: 9000 - i * g - j,
    "repeated": lambda g, i, j: i * g + j // 3,
    "mixed": lambda g, i, j: (i * 2 + j) // 3 % 50,
}


@pytest.mark.parametrize("name", VIEWS)
def test_operands_with_gaps_steps_reversals_and_quotients(name: str) -> None:
    m, n, k, gap = 14, 70, 37, 90
    r, c, s = (var(j) for j in range(3))
    index = VIEWS[name]
    kernel = strided(index(size(3), r, s), index(size(3), s, c), r * size(1) + c)
    memory = numbers_of(float32, (10000,), 17)
    rows, lanes, sums = (np.arange(x) for x in (m, n, k))
    a = memory[index(gap, rows[:, None], sums)]
    b = memory[index(gap, sums[None], lanes[:, None])]
    for target in TARGETS:
        found = np.zeros((m, n), np.float32)
        run(kernel, target, (memory, memory, found), (m, n, k, gap))
        check(found, model(a, b, target))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_what_is_fetched_early_is_read_only_at_places_that_are_there(target: Target) -> None:
    """An epilogue that adds the row of a table that each row names."""
    m, n, k = 21, 48, 8
    kernel = product(float32)
    row, lane = var(1), var(2)
    named = load(4, int64, row)
    (store,) = kernel.stores
    value = store.value + load(3, float32, named * size(2) + lane)
    kernel = replace(
        kernel,
        operands=(*kernel.operands, Operand(float32, "in"), Operand(int64, "in")),
        stores=(replace(store, value=value),),
    )
    a, b, table = (numbers_of(float32, s, i) for i, s in enumerate(((1, m, k), (1, k, n), (5, n))))
    names = guarded(np.arange(m) % 5)
    found = guarded(np.zeros((1, m, n), np.float32))
    run(kernel, target, (a, b, found, guarded(table), names), (1, m, n, k))
    exact = a[0].astype(np.float64) @ b[0] + table[names]
    assert np.abs(found - exact).max() < 1e-3


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_nothing_is_read_or_written_behind_a_buffer(target: Target) -> None:
    for turned in ((False, False), (False, True), (True, False), (True, True)):
        for shape in ((1, 1, 19, 33), (1, 7, 83, 33), (1, 33, 5, 270), (2, 20, 64, 16)):
            count, m, n, k = shape
            a = guarded(numbers_of(float32, (count, k, m) if turned[0] else (count, m, k), 1))
            b = guarded(numbers_of(float32, (count, n, k) if turned[1] else (count, k, n), 2))
            found = guarded(np.zeros((count, m, n), np.float32))
            run(product(float32, *turned), target, (a, b, found), shape)
            exact = np.einsum(
                "bkm,bkn->bmn" if turned[0] else "bmk,bkn->bmn",
                a.astype(np.float64),
                (b.swapaxes(1, 2) if turned[1] else b).astype(np.float64),
            )
            assert np.abs(found - exact).max() < 1e-3
    for stride in (1, 2):
        x, w = numbers_of(float32, (2, 3, 9, 19), 3), numbers_of(float32, (5, 3, 3, 3), 4)
        seen = patches(x, (3, 3), stride, 1)
        rows, columns = seen.shape[1:3]
        found = guarded(np.zeros((2, 5, rows, columns), np.float32))
        sizes = (2, 5, rows, columns, 3, 3, 3, 9, 19, 1)
        run(convolution(stride), target, (guarded(x), guarded(w), found), sizes)
        exact = np.einsum("irshpq,ohpq->iors", seen.astype(np.float64), w.astype(np.float64))
        assert np.abs(found - exact).max() < 1e-3


def test_weights_whose_loops_do_not_follow_each_other() -> None:
    """Several loops of k that are one in memory only for some sizes: both are right."""
    m, n, outer, inner, gap = (size(i) for i in range(5))
    r, c, o, i = (var(j) for j in range(4))
    kernel = ContractKernel(
        (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out")),
        (),
        (m,),
        (n,),
        (outer, inner),
        load(0, float32, (r * outer + o) * gap + i),
        load(1, float32, (o * inner + i) * n + c),
        (Store(2, r * n + c, acc(0, float32)),),
    )
    for stride in (9, 11):
        a = numbers_of(float32, (13, 30, stride), 18)
        b = numbers_of(float32, (270, 40), 19)
        left = np.ascontiguousarray(a[:, :, :9]).reshape(13, 270)
        for target in TARGETS:
            found = np.zeros((13, 40), np.float32)
            run(kernel, target, (a, b, found), (13, 40, 30, 9, stride))
            check(found, model(left, np.ascontiguousarray(b.T), target))


def test_grouped_convolution_and_nothing_to_sum() -> None:
    """One batch loop for groups beside one for images, and a kernel of one element."""
    images, groups, filters, columns, channels, kw, width = (size(j) for j in range(7))
    i, g, o, c, ch, q = (var(j) for j in range(6))
    kernel = ContractKernel(
        (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out")),
        (images, groups),
        (filters,),
        (columns,),
        (channels, kw),
        load(1, float32, ((g * filters + o) * channels + ch) * kw + q),
        load(0, float32, ((i * groups + g) * channels + ch) * width + (c + q)),
        (Store(2, ((i * groups + g) * filters + o) * columns + c, acc(0, float32)),),
    )
    for size_of in ((2, 3, 4, 20, 5, 3), (3, 4, 1, 33, 1, 5), (1, 2, 3, 4, 0, 3)):
        count, g_count, f, w_out, c_in, k = size_of
        x = numbers_of(float32, (count, g_count, c_in, w_out + k - 1), 20)
        w = numbers_of(float32, (g_count, f, c_in, k), 21)
        seen = np.lib.stride_tricks.sliding_window_view(x, k, 3).transpose(0, 1, 3, 2, 4)
        b = np.ascontiguousarray(seen).reshape(count, g_count, w_out, c_in * k)
        a = np.broadcast_to(w.reshape(g_count, f, c_in * k), (count, g_count, f, c_in * k))
        for target in TARGETS:
            found = np.full((count, g_count, f, w_out), 9, np.float32)
            run(kernel, target, (x, w, found), (*size_of, w_out + k - 1), (2,))
            check(found, model(np.ascontiguousarray(a), b, target))


@pytest.mark.parametrize("count, bits", [(4, 32), (8, 32), (16, 32), (2, 64), (4, 64), (8, 64)])
def test_turned_blocks(count: int, bits: int) -> None:
    """The shuffles that turn a block, applied to lane numbers."""

    class Lanes:
        def shuffle(self, a: list, b: list, picks: Sequence[int]) -> list:
            both = a + b
            return [both[p] for p in picks]

    rows = [[(r, c) for c in range(count)] for r in range(count)]
    turned = transpose(Lanes(), rows, bits)  # type: ignore[arg-type]
    assert turned == [[(r, c) for r in range(count)] for c in range(count)]


def test_same_text_twice_and_every_target_compiles() -> None:
    for target in (x86_v4, x86_v3, x86_baseline):
        text = emit_contract(convolution(2), target, "f")
        assert text == emit_contract(convolution(2), target, "f")
        assert object_code(text, target)


# ---------------------------------------------------------------------- larger


@pytest.mark.parametrize("shape", [(1, 257, 515, 900), (1, 1000, 130, 300), (5, 64, 200, 64)])
def test_larger_products_against_float64(shape: tuple[int, int, int, int]) -> None:
    count, m, n, k = shape
    for turned in ((False, False), (True, True)):
        a = numbers_of(float32, (count, k, m) if turned[0] else (count, m, k), 13)
        b = numbers_of(float32, (count, n, k) if turned[1] else (count, k, n), 14)
        found = np.zeros((count, m, n), np.float32)
        run(product(float32, *turned), TARGETS[0], (a, b, found), shape, (2, 3))
        x = a.swapaxes(1, 2) if turned[0] else a
        y = b.swapaxes(1, 2) if turned[1] else b
        exact = x.astype(np.float64) @ y.astype(np.float64)
        assert np.abs(found - exact).max() < 1e-6 * k
