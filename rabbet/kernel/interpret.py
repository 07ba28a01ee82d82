"""Run kernels with NumPy: the meaning of every kernel, slow and plain.

Takes 1-D arrays as buffers and writes into them. Additions happen in exactly the order that
`loops.py` tells, so compiled code must give the same bits. Whole grids of points are evaluated at
once; a load outside its buffer raises IndexError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rabbet.base.dtypes import DType, bool_, int64
from rabbet.expr import meaning
from rabbet.expr.expr import Expr, const
from rabbet.kernel.interpret_attention import Attention
from rabbet.kernel.loops import (
    CONTRACT_BLOCK,
    LANES,
    AttentionGradientKernel,
    AttentionKernel,
    ContractKernel,
    Kernel,
    PackKernel,
    RecurrentKernel,
    Reduction,
    RowKernel,
    ScatterKernel,
    SortKernel,
)
from rabbet.kernel.points import Array, Failure, Grid, demand, multiply_add
from rabbet.kernel.sums import add_pair, in_pairs, sum_dtype, widened

NO_KEY = 2**63 - 1  # the key of "nothing seen yet"


def run(
    kernel: Kernel,
    buffers: Sequence[Array],
    sizes: Sequence[int],
    *,
    fused: bool = True,
    pairs: bool = False,
) -> Failure | None:
    """Execute a kernel on flat arrays; gives the first failed check.

    fused=False: as targets without fused multiply-add compute; pairs: as those with products of
    pairs of bfloat16. Raises IndexError for a load or
    store outside its buffer.
    """
    match kernel:
        case RowKernel():
            return _run_rows(kernel, buffers, sizes, fused)
        case ContractKernel():
            of_pairs = pairs and in_pairs(kernel)
            _run_contract(kernel if of_pairs else widened(kernel), buffers, sizes, fused)
            return None
        case AttentionKernel():
            Attention(kernel.scores, buffers, sizes, fused).forward(kernel)
            return None
        case AttentionGradientKernel():
            Attention(kernel.scores, buffers, sizes, fused).gradient(kernel)
            return None
        case RecurrentKernel():
            _run_recurrent(kernel, buffers, sizes, fused)
            return None
        case PackKernel():
            _run_pack(kernel, buffers, sizes, fused)
            return None
        case SortKernel():
            _run_sort(kernel, buffers, sizes, fused)
            return None
    return _run_scatter(kernel, buffers, sizes, fused)


# ---------------------------------------------------------------------- rows


def _run_rows(
    kernel: RowKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> Failure | None:
    rank, given = len(kernel.outer), kernel
    if kernel.block is not None:  # the points of a block follow from the first inner loop
        kernel = replace(kernel, outer=(const(1, int64), *kernel.outer[1:]))
    grid = Grid((*kernel.outer, *kernel.inner), buffers, sizes, fused)
    failure = grid.failure(kernel.checks)
    block = None if kernel.block is None else int(grid.values([kernel.block])[0])
    for sweep in kernel.sweeps:
        results = [_reduce(grid, rank, r, kernel.across, block) for r in sweep.reductions]
        grid.store(sweep.stores)
        for result in results:
            grid.accs[len(grid.accs)] = result
    outer = Grid(given.outer, buffers, sizes, fused)
    outer.accs = grid.accs
    outer.store(kernel.finish)
    return failure


def _reduce(grid: Grid, rank: int, reduction: Reduction, across: bool, block: int | None) -> Array:
    """The results at every outer point, all outer points at once, in the kernel's order."""
    outer, inner = grid.shape[:rank], grid.shape[rank:]
    parts = [reduction.value] + ([] if reduction.key is None else [reduction.key])
    columns = [grid.full(p) for p in parts]
    if block is None:
        return _reduce_points(outer, inner, reduction, across, columns)
    # Without elements there is no block, and one of nothing has the shape of none.
    starts = range(0, max(inner[0], 1), block)
    cuts = [range(s, min(s + block, inner[0])) for s in starts]
    found = [
        _reduce_points(
            *(outer, (len(cut), *inner[1:]), reduction, across),
            [np.take(c, cut, rank) for c in columns],
        )
        for cut in cuts
    ]
    return np.concatenate(found)[: -(-inner[0] // block)]


def _reduce_points(
    outer: tuple[int, ...],
    inner: tuple[int, ...],
    reduction: Reduction,
    across: bool,
    columns: list[Array],
) -> Array:
    """The results at every outer point, from the values (and keys) at all points."""
    has_lines = bool(inner) and not across
    line = inner[-1] if has_lines else 1
    lines = math.prod(inner[:-1] if has_lines else inner)
    data = [c.reshape(math.prod(outer), lines, line) for c in columns]
    lanes = 1 if across else LANES
    start = identities(reduction)
    state = [
        np.full((math.prod(outer), lanes), s, dtype=c.dtype)
        for s, c in zip(start, columns, strict=True)
    ]
    for prefix in range(data[0].shape[1]):
        for first in range(0, line, lanes):
            count = min(lanes, line - first)
            new = [d[:, prefix, first : first + count] for d in data]
            old = [s[:, :count] for s in state]
            for s, value in zip(state, combine(reduction, old, new), strict=True):
                s[:, :count] = value
    while state[0].shape[1] > 1:
        half = state[0].shape[1] // 2
        state = combine(reduction, [s[:, :half] for s in state], [s[:, half:] for s in state])
    return state[-1].reshape(outer)


def identities(reduction: Reduction) -> list[float]:
    """The partial result of nothing: value, and key for argmax and argmin."""
    match reduction.combine:
        case "sum":
            return [0]
        case "prod":
            return [1]
        case "max":
            return [_limits(reduction.value.dtype)[0]]
        case "min":
            return [_limits(reduction.value.dtype)[1]]
        case "argmax":
            return [_limits(reduction.value.dtype)[0], NO_KEY]
    return [_limits(reduction.value.dtype)[1], NO_KEY]


def _limits(dtype: DType) -> tuple[float, float]:
    if dtype.is_float:
        return -math.inf, math.inf
    if dtype is bool_:
        return False, True
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def combine(reduction: Reduction, a: list[Array], b: list[Array]) -> list[Array]:
    """Two partial results, `a` first."""
    with np.errstate(all="ignore"):
        match reduction.combine:
            case "sum":
                return [a[0] + b[0]]
            case "prod":
                return [a[0] * b[0]]
            case "max":
                return [meaning.maximum(a[0], b[0])]
            case "min":
                return [meaning.minimum(a[0], b[0])]
        (old, old_key), (new, new_key) = a, b
        better = old < new if reduction.combine == "argmax" else new < old
        old_nan, new_nan = old != old, new != new
        tie = (old == new) | (old_nan & new_nan)
        wins = better | (new_nan & ~old_nan) | (tie & (new_key < old_key))
        return [np.where(wins, new, old), np.where(wins, new_key, old_key)]


# ------------------------------------------------------------- contractions, scatters, sorts


def _run_contract(
    kernel: ContractKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> None:
    outer = (*kernel.batch, *kernel.m, *kernel.n)
    grid = Grid((*outer, *kernel.k), buffers, sizes, fused)
    points, terms = math.prod(grid.shape[: len(outer)]), math.prod(grid.shape[len(outer) :])
    a = grid.full(kernel.a).reshape(points, terms)
    b = grid.full(kernel.b).reshape(points, terms)
    total = np.zeros(points, dtype=sum_dtype(kernel.a.dtype).numpy)
    for first in range(0, terms, CONTRACT_BLOCK):
        acc = np.zeros_like(total)
        end = min(first + CONTRACT_BLOCK, terms)
        for k in range(first, end, 2) if in_pairs(kernel) else ():
            acc = add_pair(_pair(a, k, end), _pair(b, k, end), acc)
        for k in () if in_pairs(kernel) else range(first, end):
            acc = multiply_add(a[:, k], b[:, k], acc, fused)
        total = acc if first == 0 else total + acc
    result = Grid(outer, buffers, sizes, fused)
    result.accs[0] = total.reshape(result.shape)
    result.store(kernel.stores)


def _pair(x: Array, k: int, end: int) -> tuple[Array, Array]:
    """Elements k and k + 1, which is zero if it is not before `end`."""
    return x[:, k], x[:, k + 1] if k + 1 < end else np.zeros_like(x[:, k])


def _run_pack(
    kernel: PackKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> None:
    grid = Grid((*kernel.batch, *kernel.across, *kernel.k), buffers, sizes, fused)
    first, last = len(kernel.batch), len(kernel.batch) + len(kernel.across)
    shape = (grid.shape[:first], grid.shape[first:last], grid.shape[last:])
    batch, across, rows = map(math.prod, shape)
    values = grid.full(kernel.value).reshape(batch, across, rows)
    panels, together = -(-across // kernel.width), 2 if in_pairs(kernel) else 1
    values = np.pad(values, ((0, 0), (0, 0), (0, -rows % together)))
    laced = values.reshape(batch, across, -(-rows // together), together)
    out = buffers[-1].reshape(batch, panels, laced.shape[2], kernel.width, together)
    for row in range(across):
        out[:, row // kernel.width, :, row % kernel.width] = laced[:, row]


def _run_scatter(
    kernel: ScatterKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> Failure | None:
    grid = Grid((*kernel.outer, *kernel.updates, *kernel.inner), buffers, sizes, fused)
    index = grid.full(kernel.index).reshape(-1)
    value = grid.full(kernel.value).reshape(-1)
    out = buffers[kernel.out]
    demand(out, index, "store")
    as_reduction = {"add": "sum", "mul": "prod", "max": "max", "min": "min"}
    for at, new in zip(index, value, strict=True):
        if kernel.combine == "set":
            out[at] = new
        else:
            reduction = Reduction(as_reduction[kernel.combine], kernel.value)
            out[at] = combine(reduction, [out[at]], [new])[0]
    return grid.failure(kernel.checks)


def _run_sort(
    kernel: SortKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> None:
    grid = Grid((*kernel.outer, *kernel.line), buffers, sizes, fused)
    length = math.prod(grid.shape[len(kernel.outer) :])
    if not math.prod(grid.shape):
        return
    keys = grid.full(kernel.key).reshape(-1, length)
    index = grid.full(kernel.index).reshape(-1)
    demand(buffers[kernel.out], index, "store")
    buffers[kernel.out][index] = np.argsort(keys, axis=1, kind="stable").reshape(-1)


# ---------------------------------------------------------------------- steps through time


def _run_recurrent(
    kernel: RecurrentKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> None:
    def grid(*extents: Expr) -> Grid:
        return Grid(extents, buffers, sizes, fused)

    one = const(1, int64)
    whole = (one, one, kernel.units, const(kernel.targets, int64), const(kernel.sources, int64))
    weight = np.zeros(0)
    if kernel.weight is not None:
        weight = grid(*whole, kernel.units).full(kernel.weight)[0, 0]  # (j, g, p, k)
    states = grid(kernel.batch, one, kernel.units)
    carried = [states.full(e)[:, 0].copy() for e in kernel.start]
    for step in range(int(grid(kernel.steps).shape[0])):
        states.variables[1] = np.full((1, 1, 1), step, np.int64)
        sums = [_recurrent_sum(carried, weight[:, g], fused) for g in range(kernel.targets)]
        near = [np.roll(carried[n], d, axis=1) for n, d in kernel.shifts]
        states.accs = {n: a[:, None] for n, a in enumerate([*sums, *carried, *near])}
        following = [states.full(e)[:, 0].copy() for e in kernel.carried]
        states.store(kernel.stores)
        carried = following
    states.accs = {kernel.targets + n: a[:, None] for n, a in enumerate(carried)}
    states.store(kernel.finish)


def _recurrent_sum(carried: list[Array], weight: Array, fused: bool) -> Array:
    """Products of what is carried (b, k) with weight (j, p, k), block after block."""
    total: Array | None = None
    for p in range(weight.shape[1]):
        for first in range(0, weight.shape[2], CONTRACT_BLOCK):
            found = np.zeros((len(carried[p]), len(weight)), weight.dtype)
            for k in range(first, min(first + CONTRACT_BLOCK, weight.shape[2])):
                found = multiply_add(carried[p][:, k : k + 1], weight[:, p, k], found, fused)
            total = found if total is None else total + found
    assert total is not None
    return total
