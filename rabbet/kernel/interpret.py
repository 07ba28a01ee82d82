"""Run kernels with NumPy: the meaning of every kernel, slow and plain.

Takes 1-D arrays as buffers and writes into them. Additions happen in exactly the order that
`loops.py` tells, so compiled code must give the same bits. Whole grids of points are evaluated at
once; a load outside its buffer raises IndexError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from rabbet.base.dtypes import DType, bool_, int64
from rabbet.expr import meaning
from rabbet.expr.expr import Expr, acc, const, select, var
from rabbet.expr.interpret import evaluate
from rabbet.kernel import attention
from rabbet.kernel.loops import (
    ATTENTION_TILE,
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
    Scores,
    SortKernel,
    Store,
)
from rabbet.kernel.sums import add_pair, in_pairs, sum_dtype, widened

Array: TypeAlias = np.ndarray[Any, Any]
NO_KEY = 2**63 - 1  # the key of "nothing seen yet"


class Failure(NamedTuple):
    """The first index out of range: number of the element, and the index."""

    element: int
    value: int


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
            _Attention(kernel.scores, buffers, sizes, fused).forward(kernel)
            return None
        case AttentionGradientKernel():
            _Attention(kernel.scores, buffers, sizes, fused).gradient(kernel)
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


class _Grid:
    """All points of some loops at once: variable n is an array that changes along axis n."""

    def __init__(
        self, extents: Sequence[Expr], buffers: Sequence[Array], sizes: Sequence[int], fused: bool
    ) -> None:
        self.buffers = buffers
        self.sizes = sizes
        self.fused = fused
        self.variables: dict[int, Array] = {}
        self.accs: dict[int, Array] = {}
        self.shape: tuple[int, ...] = ()
        self.shape = tuple(int(self.values([e])[0]) for e in extents)
        rank = len(self.shape)
        for axis, extent in enumerate(self.shape):
            column = [-1 if a == axis else 1 for a in range(rank)]
            self.variables[axis] = np.arange(extent, dtype=np.int64).reshape(column)

    def values(self, roots: Sequence[Expr]) -> list[Array]:
        """Each root at every point, as arrays that broadcast to the grid."""
        return evaluate(roots, self._leaf, fused=self.fused)

    def full(self, e: Expr) -> Array:
        """One root at every point."""
        return np.broadcast_to(self.values([e])[0], self.shape)

    def _leaf(self, e: Expr) -> Array:
        if e.op == "load":
            return self._load(e)
        number = cast("int", e.value)
        if e.op == "var":
            return self.variables[number]
        if e.op == "size":
            return np.asarray(self.sizes[number], dtype=np.int64)
        found = self.accs[number]
        return found.reshape(found.shape + (1,) * (len(self.shape) - found.ndim))

    def _load(self, e: Expr) -> Array:
        operand, fill = cast("tuple[int, float]", e.value)
        index = self.values([e.args[0]])[0]
        valid = self.values([e.args[1]])[0] if len(e.args) > 1 else np.asarray(True)
        index, valid = np.broadcast_arrays(index, valid)
        data = self.buffers[operand]
        _demand(data, index[valid], "load")
        result = np.full(index.shape, fill, dtype=e.dtype.numpy)
        result[valid] = data[index[valid]]
        return result

    def store(self, stores: Sequence[Store]) -> None:
        """All values first, then all stores."""
        found = [(s, self.full(s.index), self.full(s.value)) for s in stores]
        for s, index, value in found:
            _demand(self.buffers[s.operand], index, "store")
            self.buffers[s.operand][index.reshape(-1)] = value.reshape(-1)

    def failure(self, checks: Sequence[tuple[Expr, Expr]]) -> Failure | None:
        """The first point, in row-major order, whose index is out of range."""
        found: list[Failure] = []
        for index, extent in checks:
            values = self.full(index).reshape(-1)
            bad = (values < 0) | (values >= self.full(extent).reshape(-1))
            if bad.any():
                first = int(bad.argmax())
                found.append(Failure(first, int(values[first])))
        return min(found, default=None)


def _demand(data: Array, index: Array, what: str) -> None:
    if index.size and (index.min() < 0 or index.max() >= data.size):
        raise IndexError(f"{what} at {index.min()}..{index.max()} of a buffer of {data.size}")


# ---------------------------------------------------------------------- rows


def _run_rows(
    kernel: RowKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> Failure | None:
    rank, given = len(kernel.outer), kernel
    if kernel.block is not None:  # the points of a block follow from the first inner loop
        kernel = replace(kernel, outer=(const(1, int64), *kernel.outer[1:]))
    grid = _Grid((*kernel.outer, *kernel.inner), buffers, sizes, fused)
    failure = grid.failure(kernel.checks)
    block = None if kernel.block is None else int(grid.values([kernel.block])[0])
    for sweep in kernel.sweeps:
        results = [_reduce(grid, rank, r, kernel.across, block) for r in sweep.reductions]
        grid.store(sweep.stores)
        for result in results:
            grid.accs[len(grid.accs)] = result
    outer = _Grid(given.outer, buffers, sizes, fused)
    outer.accs = grid.accs
    outer.store(kernel.finish)
    return failure


def _reduce(grid: _Grid, rank: int, reduction: Reduction, across: bool, block: int | None) -> Array:
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
    grid = _Grid((*outer, *kernel.k), buffers, sizes, fused)
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
            acc = _multiply_add(a[:, k], b[:, k], acc, fused)
        total = acc if first == 0 else total + acc
    result = _Grid(outer, buffers, sizes, fused)
    result.accs[0] = total.reshape(result.shape)
    result.store(kernel.stores)


def _pair(x: Array, k: int, end: int) -> tuple[Array, Array]:
    """Elements k and k + 1, which is zero if it is not before `end`."""
    return x[:, k], x[:, k + 1] if k + 1 < end else np.zeros_like(x[:, k])


def _run_pack(
    kernel: PackKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> None:
    grid = _Grid((*kernel.batch, *kernel.across, *kernel.k), buffers, sizes, fused)
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


def _multiply_add(a: Array, b: Array, c: Array, fused: bool) -> Array:
    with np.errstate(all="ignore"):
        if fused and a.dtype.kind == "f":
            return meaning.fma(a, b, c)
        return a * b + c


def _run_scatter(
    kernel: ScatterKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> Failure | None:
    grid = _Grid((*kernel.outer, *kernel.updates, *kernel.inner), buffers, sizes, fused)
    index = grid.full(kernel.index).reshape(-1)
    value = grid.full(kernel.value).reshape(-1)
    out = buffers[kernel.out]
    _demand(out, index, "store")
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
    grid = _Grid((*kernel.outer, *kernel.line), buffers, sizes, fused)
    length = math.prod(grid.shape[len(kernel.outer) :])
    if not math.prod(grid.shape):
        return
    keys = grid.full(kernel.key).reshape(-1, length)
    index = grid.full(kernel.index).reshape(-1)
    _demand(buffers[kernel.out], index, "store")
    buffers[kernel.out][index] = np.argsort(keys, axis=1, kind="stable").reshape(-1)


# ---------------------------------------------------------------------- attention


class _Attention:
    """All queries of all heads at once; axes are batch, heads, queries, keys, features, values."""

    def __init__(
        self, scores: Scores, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
    ) -> None:
        self.scores, self.buffers, self.sizes, self.fused = scores, buffers, sizes, fused
        s = scores
        self.extents = (*s.batch, s.heads, s.queries, s.keys, s.features, s.values)
        self.lead = len(s.batch)
        grid = _Grid(self.extents, buffers, sizes, fused)
        self.shape = (math.prod(grid.shape[: self.lead]), *grid.shape[self.lead :])

    def grid(self, axes: str) -> _Grid:
        """The batch axes and some of h, l, s, e, v; the others have one point."""
        one = const(1, int64)
        kept = [e if a in axes else one for a, e in zip("hlsev", self._own(), strict=True)]
        return _Grid((*self.scores.batch, *kept), self.buffers, self.sizes, self.fused)

    def _own(self) -> tuple[Expr, ...]:
        return self.extents[self.lead :]

    def read(self, e: Expr, axes: str, accs: Array | None = None) -> Array:
        """An expression as an array with the axes b, h, l, s, e, v, those not named of size 1."""
        grid = self.grid(axes)
        if accs is not None:
            grid.accs[0] = accs.reshape(grid.shape)
        return grid.full(e).reshape(-1, *grid.shape[self.lead :])

    def store(self, stores: Sequence[Store], axes: str, number: int, values: Array) -> None:
        """Run stores with the values as acc(number)."""
        grid = self.grid(axes)
        grid.accs[number] = values.reshape(grid.shape)
        grid.store(stores)

    def apply(self, rule: Callable[..., Expr], *arrays: Array) -> Array:
        """A rule of `kernel/attention.py` on arrays."""
        dtype = self.scores.query.dtype
        e = rule(*(acc(n, dtype) for n in range(len(arrays))))
        return evaluate([e], lambda leaf: arrays[cast("int", leaf.value)], fused=self.fused)[0]

    def chain(self, a: Array, b: Array, axis: int) -> Array:
        """Sum of a * b along an axis (kept with size 1), products in order from 0."""
        a, b = np.broadcast_arrays(a, b)
        total = np.zeros_like(np.take(a, [], axis).sum(axis, keepdims=True))
        for n in range(a.shape[axis]):
            total = _multiply_add(a.take([n], axis), b.take([n], axis), total, self.fused)
        return total

    def all_scores(self) -> Array:
        """Every score, (b, h, l, s, 1, 1)."""
        s = self.scores
        products = self.chain(self.read(s.query, "hle"), self.read(s.key, "se"), 4)
        score = s.score
        if s.causal:
            seen = var(self.lead + 2) <= var(self.lead + 1)
            score = select(seen, score, const(-math.inf, score.dtype))
        return self.read(score, "hls", products)

    def tiles(self, extent: int) -> list[slice]:
        """Tiles of queries or keys."""
        return [slice(n, n + ATTENTION_TILE) for n in range(0, extent, ATTENTION_TILE)]

    def seeing(self, keys: slice) -> slice:
        """The queries whose tiles see this tile of keys."""
        return slice(keys.start if self.scores.causal else 0, None)

    def forward(self, kernel: AttentionKernel) -> None:
        """An AttentionKernel."""
        score, value = self.all_scores(), self.read(kernel.value, "sv")
        b, h, queries, keys, _, values = self.shape
        top = np.full((b, h, queries, 1, 1, 1), -math.inf, score.dtype)
        total, result = np.zeros_like(top), np.zeros((b, h, queries, 1, 1, values), score.dtype)
        for tile in self.tiles(keys):
            rows = self.seeing(tile)
            part, old = score[:, :, rows, tile], top[:, :, rows]
            new = old
            for n in range(part.shape[3]):
                new = self.apply(attention.larger, new, part[:, :, :, n : n + 1])
            over = self.apply(attention.base, new)
            p = self.apply(attention.weight, part, over)
            shrink = self.apply(attention.weight, old, over)
            added = self.chain(p, value[:, :, :, tile], 3)
            summed = self._by_groups(p)
            if tile.start:
                summed = _multiply_add(total[:, :, rows], shrink, summed, self.fused)
                added = _multiply_add(result[:, :, rows], shrink, added, self.fused)
            top[:, :, rows], total[:, :, rows], result[:, :, rows] = new, summed, added
        self.store(kernel.row_stores, "hl", 1, self.apply(attention.logarithm, top, total))
        self.store(kernel.stores, "hlv", 0, result * self.apply(attention.inverse, total))

    def _by_groups(self, p: Array) -> Array:
        total = np.zeros_like(p[:, :, :, :1])
        for first in range(0, p.shape[3], attention.GROUP):
            group = [p[:, :, :, n : n + 1] for n in range(first, first + attention.GROUP)]
            a, b, c, d = (g if g.shape[3] else np.zeros_like(total) for g in group)
            total = total + ((a + b) + (c + d))
        return total

    def gradient(self, kernel: AttentionGradientKernel) -> None:
        """An AttentionGradientKernel."""
        score, value = self.all_scores(), self.read(kernel.value, "sv")
        query, key = self.read(self.scores.query, "hle"), self.read(self.scores.key, "se")
        gradient = self.read(kernel.gradient, "hlv")
        p = self.apply(attention.weight, score, self.read(kernel.total, "hl"))
        along = self.chain(value, gradient, 5)
        d = self.apply(attention.slope, p, along, self.read(kernel.drop, "hl"))
        b, h, queries, keys, features, values = self.shape
        of_query = np.zeros((b, h, queries, 1, features, 1), score.dtype)
        of_key = np.zeros((b, 1, 1, keys, features, 1), score.dtype)
        of_value = np.zeros((b, 1, 1, keys, 1, values), score.dtype)
        for head in range(h):
            one = slice(head, head + 1)
            for rows in self.tiles(queries):
                for tile in self.tiles(keys):
                    if self.scores.causal and tile.start > rows.start:
                        continue
                    here = (slice(None), one, rows, tile)
                    at_keys = (slice(None), slice(None), slice(None), tile)
                    added = self.chain(d[here], key[at_keys], 3)
                    of_query[:, one, rows] = of_query[:, one, rows] + added if tile.start else added
                    of_key[at_keys] += self.chain(d[here], query[:, one, rows], 2)
                    of_value[at_keys] += self.chain(p[here], gradient[:, one, rows], 2)
        self.store(kernel.query_stores, "hle", 0, of_query)
        self.store(kernel.key_stores, "se", 0, of_key)
        self.store(kernel.value_stores, "sv", 0, of_value)


# ---------------------------------------------------------------------- steps through time


def _run_recurrent(
    kernel: RecurrentKernel, buffers: Sequence[Array], sizes: Sequence[int], fused: bool
) -> None:
    def grid(*extents: Expr) -> _Grid:
        return _Grid(extents, buffers, sizes, fused)

    one = const(1, int64)
    whole = (one, one, kernel.units, const(kernel.targets, int64), const(kernel.sources, int64))
    weight = grid(*whole, kernel.units).full(kernel.weight)[0, 0]  # (j, g, p, k)
    states = grid(kernel.batch, one, kernel.units)
    carried = [states.full(e)[:, 0].copy() for e in kernel.start]
    for step in range(int(grid(kernel.steps).shape[0])):
        states.variables[1] = np.full((1, 1, 1), step, np.int64)
        sums = [_recurrent_sum(carried, weight[:, g], fused) for g in range(kernel.targets)]
        states.accs = {n: a[:, None] for n, a in enumerate([*sums, *carried])}
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
                found = _multiply_add(carried[p][:, k : k + 1], weight[:, p, k], found, fused)
            total = found if total is None else total + found
    assert total is not None
    return total
