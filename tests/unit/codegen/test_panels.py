"""Operands in panels: pack kernels against their meaning, contractions of panels too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rabbet.base.dtypes import DType, bfloat16, dtype_of, float32
from rabbet.base.target import Target
from rabbet.codegen.build import build, launch
from rabbet.codegen.contract_tile import panel_rows, tile_shape
from rabbet.codegen.machine import object_code
from rabbet.expr.expr import Expr, cast, load, size, var
from rabbet.kernel import interpret
from rabbet.kernel.loops import ContractKernel, Operand, PackKernel
from rabbet.kernel.sums import has_pairs, sum_dtype
from rabbet.targets.x86 import runnable, x86_baseline, x86_v3, x86_v4
from tests.unit.codegen.products import check, model, numbers_of, product, run

TARGETS = runnable()
pytestmark = pytest.mark.skipif(not TARGETS, reason="needs an x86-64 processor")


def pack(dtype: DType, width: int, turned: bool, source: DType | None = None) -> PackKernel:
    """Panels of an operand [batch][across][k] (turned: [batch][k][across])."""
    count, across, k = (size(i) for i in range(3))
    i, x, s = (var(j) for j in range(3))
    index = i * across * k + (s * across + x if turned else x * k + s)
    value: Expr = load(0, source or dtype, index)
    if source is not None:
        value = cast(value, dtype)
    operands = (Operand(source or dtype, "in"), Operand(dtype, "out"))
    return PackKernel(operands, (count,), (across,), (k,), value, width)


def widths(target: Target, dtype: DType) -> tuple[int, int]:
    """Rows of a panel of A and lanes of one of B."""
    return panel_rows(target, dtype), tile_shape(target)[1] * target.lanes(sum_dtype(dtype).bits)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 37, 67), (1, 200, 300), (3, 16, 256), (2, 0, 4)])
def test_panels_hold_what_their_meaning_says(
    target: Target, turned: bool, sizes: tuple[int, int, int]
) -> None:
    for dtype, source in (
        (float32, None),
        (dtype_of("float64"), None),
        (float32, dtype_of("int8")),
        *([(bfloat16, None), (bfloat16, float32)] if has_pairs(target) else []),
    ):
        for width in widths(target, dtype):
            kernel = pack(dtype, width, turned, source)
            given = numbers_of(source or dtype, (np.prod(sizes),), 1)
            panels = -(-sizes[1] // width)
            shape = panels_shape(dtype, sizes, width)
            found, wanted = (np.full(shape, 7, dtype.numpy) for _ in range(2))
            run(kernel, target, [given, found], sizes, cuts=(1, 2))
            interpret.run(kernel, [given, wanted.reshape(-1)], sizes)
            across = np.arange(panels * width).reshape(1, panels, 1, width, 1) < sizes[1]
            check(np.where(across, found, np.array(7, dtype.numpy)), wanted)


def panels_shape(dtype: DType, sizes: tuple[int, int, int], width: int) -> tuple[int, ...]:
    """[batch][panels][rows][width][together]"""
    together = 2 if dtype is bfloat16 else 1
    rows = -(-sizes[2] // together)
    return (sizes[0], -(-sizes[1] // width), rows, width, together)


def of_panels(kernel: ContractKernel, packed: tuple[bool, bool], target: Target) -> ContractKernel:
    """A product [batch][m][k] x [batch][k][n] with operands in panels, lanes from b."""
    count, m, n, k = (size(i) for i in range(4))
    i, r, c, s = (var(j) for j in range(4))
    rows, lanes = widths(target, kernel.a.dtype)

    def panel(x: Expr, extent: Expr, width: int) -> Expr:
        panels = (extent + (width - 1)) // width
        if kernel.a.dtype is bfloat16:
            rows = (k + 1) // 2
            return (((i * panels + x // width) * rows + s // 2) * width + x % width) * 2 + s % 2
        return ((i * panels + x // width) * k + s) * width + x % width

    a, b = kernel.a, kernel.b
    if packed[0]:
        a = load(0, a.dtype, panel(r, m, rows))
    if packed[1]:
        b = load(1, b.dtype, panel(c, n, lanes))
    assert count is kernel.batch[0]
    return replace(kernel, a=a, b=b, packed=packed, lanes=1)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("packed", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("dtype", [float32, bfloat16], ids=lambda d: d.name)
def test_products_of_panels(target: Target, packed: tuple[bool, bool], dtype: DType) -> None:
    if dtype is bfloat16 and not has_pairs(target):
        pytest.skip("panels hold float32 there")
    plain = product(dtype)
    kernel = of_panels(plain, packed, target)
    rows, lanes = widths(target, dtype)
    for sizes in ((1, 1, 1, 1), (2, 37, 53, 300), (1, 150, 260, 257), (3, 16, 5, 12)):
        count, m, n, k = sizes
        a, b = numbers_of(dtype, (count, m, k), 1), numbers_of(dtype, (count, k, n), 2)
        operands = []
        for number, (x, width, turned) in enumerate(((a, rows, False), (b, lanes, True))):
            extent = (m, n)[number]
            shape = panels_shape(dtype, (count, extent, k), width)
            out = np.full(shape, np.nan, dtype.numpy)
            run(pack(dtype, width, turned), target, [x, out], (count, extent, k))
            operands.append(out if packed[number] else x)
        found, wanted = (np.empty((count, m, n), np.float32) for _ in range(2))
        run(kernel, target, [*operands, found], sizes, cuts=(1, 3))
        check(found, model(a, np.swapaxes(b, 1, 2), target))
        flat = [x.reshape(-1) for x in (*operands, wanted)]
        pairs = has_pairs(target)
        interpret.run(kernel, flat, sizes, fused=target.has_fma, pairs=pairs)
        check(found, wanted)


def test_every_target_compiles_and_texts_repeat() -> None:
    for target in (x86_v4, x86_v3, x86_baseline):
        kernel = pack(float32, 48, True)
        assert build(kernel, target) == build(kernel, target)
        assert object_code(build(kernel, target).text, target)
        assert launch(kernel, target).tasks is launch(kernel, target).tasks
