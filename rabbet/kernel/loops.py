"""The kernel language: the whole grammar on one screen.

A kernel is loops over run-time extents around scalar expressions (`rabbet.expr`). Loop variables
are numbered in the order the loops are listed; `size(n)` expressions are run-time arguments.
Kernels hold no sizes of any tensor, so one serves every shape with the same structure. An output
may lie in the memory of an input that is read only where it is written (`kernel/inplace.py`): code
makes all values of a point before it stores any, and never uses an output as working memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rabbet.base.dtypes import DType
from rabbet.base.errors import InternalError
from rabbet.expr.expr import Expr

CONTRACT_BLOCK = 256  # kc: additions of a contraction are grouped in blocks of this many products
LANES = 64  # partial sums of an "along" reduction
RECURRENT_ROWS = 16  # batch elements that go through time together
MOST_SHIFT = 8  # units from a unit of a recurrent kernel to a neighbour that it reads
ATTENTION_TILE = 64  # attention takes queries and keys in tiles of this many
ATTENTION_STEP = 16  # causal queries, so many a step, leave out keys behind the step's last one

MOST_DIGITS = 4  # a map's last axis of 2 to this many elements is part of its kernel's structure


@dataclass(frozen=True)
class Operand:
    """A buffer a kernel reads (`in`) or writes (`out`)."""

    dtype: DType
    mode: str


@dataclass(frozen=True)
class Store:
    """operand[index] = value."""

    operand: int
    index: Expr
    value: Expr


@dataclass(frozen=True)
class Reduction:
    """acc(n) = combine over all inner points of `value`; n counts over all sweeps.

    combine: sum, prod, max, min (NaN wins in max and min; -0 < +0), or argmax, argmin: the int64
    `key` of the winning value (first NaN, else first best).
    """

    combine: str
    value: Expr
    key: Expr | None = None


@dataclass(frozen=True)
class Sweep:
    """One pass over the inner loops: reductions and stores at each inner point.

    Expressions may use acc(n) of *earlier* sweeps.
    """

    reductions: tuple[Reduction, ...] = ()
    stores: tuple[Store, ...] = ()


@dataclass(frozen=True)
class RowKernel:
    """For each point of `outer`: the sweeps over `inner`, one after the other, then the `finish`
    stores.

    Variables: outer loops 0..len(outer)-1, then inner loops. Extents are expressions over size(n).
    A map is a kernel with one sweep of stores and no reductions. Tasks: the product of the outer
    extents, except that a kernel without outer loops and without reductions splits its *first*
    inner loop (tasks = extent of inner[0]); without outer loops but with reductions there is one
    task. `across`: vectors run along the last outer loop and reductions are sequential in the inner
    loops; the task space is then the product of all outer extents but the last (1 if there is
    none). Otherwise reductions use LANES lanes along the last inner loop, as vectors do, unless
    its elements lie apart and those of the last outer loop side by side.

    `block`: the first outer loop counts blocks of that many values of the first inner loop, the
    last block shorter; every reduction is one of a block. There is one sweep, whose expressions
    are free of variable 0. Along a single inner loop a block is a multiple of LANES.
    """

    operands: tuple[Operand, ...]
    outer: tuple[Expr, ...]
    inner: tuple[Expr, ...]
    sweeps: tuple[Sweep, ...]
    finish: tuple[Store, ...] = ()
    across: bool = False
    # (index, extent): an index out of range is recorded in the status; loads keep it in range
    checks: tuple[tuple[Expr, Expr], ...] = ()
    block: Expr | None = None


@dataclass(frozen=True)
class ContractKernel:
    """acc(0)[b, m, n] = sum over k of a * b, then the stores (epilogue).

    Loops are numbered batch, m, n, k in this order. `a` is a load over (batch, m, k), `b` a load
    over
    (batch, n, k); each may carry a `valid` (padding) and casts around the load. Additions: for
    every block of
    CONTRACT_BLOCK flattened k: acc = 0, acc = fma(a, b, acc) in order; total += acc (the first
    block:
    total = acc). Halves are added as `rabbet.kernel.sums` tells. Stores use acc(0) and loads over
    (batch, m, n). Tasks: see `contract_tasks`.
    `packed`: a (b) is a load at `panel_index` from what a PackKernel wrote. `lanes`: the operand
    (0: a, 1: b) whose loops become lanes, so that it lies in panels of lanes; -1: not decided.
    `banded`: code reads the windows of `b` from bands of their image (`kernel/bands.py`); lanes are
    a's. `tile`: rows and vectors of the register tile, for these sizes; (0, 0): the target's.
    """

    operands: tuple[Operand, ...]
    batch: tuple[Expr, ...]
    m: tuple[Expr, ...]
    n: tuple[Expr, ...]
    k: tuple[Expr, ...]
    a: Expr
    b: Expr
    stores: tuple[Store, ...]
    packed: tuple[bool, bool] = (False, False)
    lanes: int = -1
    banded: bool = False
    tile: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class PackKernel:
    """An operand of contractions in the layout that register tiles read.

    out[batch, panel, k, j] = value at (batch, panel * width + j, k), row-major in the last operand;
    where panel * width + j is beyond the extent of `across`, anything. bfloat16 lies in pairs:
    out[batch, panel, k // 2, j, k % 2], an odd count of k ends with zeros. Variables: batch,
    across, k, each list flattened. Tasks: see `launch_pack`.
    """

    operands: tuple[Operand, ...]
    batch: tuple[Expr, ...]
    across: tuple[Expr, ...]
    k: tuple[Expr, ...]
    value: Expr
    width: int


@dataclass(frozen=True)
class ScatterKernel:
    """For each point of `updates` in order, for each point of `inner`: out[index] combine= value.

    One task per point of the flattened `outer` loops (independent destinations); updates are
    strictly sequential, so the sum is the same on any number of threads. combine: add, mul, set,
    max, min. `index` addresses operand `out`. Variables: outer, updates, inner.
    """

    operands: tuple[Operand, ...]
    outer: tuple[Expr, ...]
    updates: tuple[Expr, ...]
    inner: tuple[Expr, ...]
    out: int
    index: Expr
    value: Expr
    combine: str
    checks: tuple[tuple[Expr, Expr], ...] = ()


@dataclass(frozen=True)
class Scores:
    """score[b, h, l, s] = `score`, where acc(0) = sum over e of query * key, added as by contract.

    Loops in this order: batch, heads (queries that share keys and values), queries l, keys s,
    features e, value features v. `query` is a load over (batch, h, l, e), perhaps times a number;
    `key` a load over (batch, s, e); `score` may use acc(0), loads and variables over
    (batch, h, l, s). `causal`: query l sees no key behind l.
    """

    batch: tuple[Expr, ...]
    heads: Expr
    queries: Expr
    keys: Expr
    features: Expr
    values: Expr
    query: Expr
    key: Expr
    score: Expr
    causal: bool


@dataclass(frozen=True)
class AttentionKernel:
    """acc(0)[b, h, l, v] = sum over s of softmax(score)[s] * value[b, s, v], then the stores.

    Keys come in tiles of ATTENTION_TILE, and a tile is left out where causal queries of one tile
    see none of it; nor do steps of ATTENTION_STEP causal queries touch keys that none of them sees
    (other hidden keys have the weight 0). `kernel/attention.py` has the arithmetic of a tile.
    `stores` run over (b, h, l, v); `row_stores` over (b, h, l), where acc(1) is the logarithm of
    the sum of exponentials. Tasks: batch, heads and tiles of queries.
    """

    operands: tuple[Operand, ...]
    scores: Scores
    value: Expr
    stores: tuple[Store, ...]
    row_stores: tuple[Store, ...] = ()


@dataclass(frozen=True)
class AttentionGradientKernel:
    """Gradients of an AttentionKernel's result, given `gradient` over (batch, h, l, v).

    `total` is the kernel's acc(1), `drop` the sum over v of gradient * result, both over
    (batch, h, l). With p = exp(score - total) and d = p * (gradient . value - drop):
    query_stores get acc(0) = sum over s of d * key, over (b, h, l, e); key_stores sum over (h, l)
    of d * query, over (b, s, e); value_stores sum over (h, l) of p * gradient, over (b, s, v).
    Sums are made tile by tile. Tasks: batch.
    """

    operands: tuple[Operand, ...]
    scores: Scores
    value: Expr
    gradient: Expr
    total: Expr
    drop: Expr
    query_stores: tuple[Store, ...]
    key_stores: tuple[Store, ...]
    value_stores: tuple[Store, ...]


@dataclass(frozen=True)
class SortKernel:
    """For each point of `outer`: out[index] = positions 0, 1, ... along `line` by ascending key.

    Equal keys keep the order of their positions, so the result is unique whatever the method. `key`
    is an unsigned integer; `line` is one loop (or none: of one point). `index` addresses operand
    `out` (int64). One task per outer point. `wide`: a line may have 2^32 points or more, or keys
    have more than 32 bits. Variables: outer, line.
    """

    operands: tuple[Operand, ...]
    outer: tuple[Expr, ...]
    line: tuple[Expr, ...]
    key: Expr
    out: int
    index: Expr
    wide: bool


@dataclass(frozen=True)
class RecurrentKernel:
    """For each step t in order, for each batch element b and unit j: `carried`, then the stores.

    acc(g) for g < targets: the sum over sources p, then over units k, of carried p at k times
    `weight` (a load over variables 2 to 5: j, g, p, k; None without targets), in blocks of
    CONTRACT_BLOCK as in a contraction, p after p. acc(targets + n): what was carried as number n,
    at first `start` (over b, j). Behind these, one for each (n, d) of `shifts`: what was carried as
    number n at unit j - d (0 < d <= MOST_SHIFT); anything where j < d. `finish` stores run over
    (b, j) after the last step and use no shifts. Variables: b, t, j. Tasks: blocks of `rows` batch
    elements.
    """

    operands: tuple[Operand, ...]
    batch: Expr
    steps: Expr
    units: Expr
    targets: int
    sources: int
    weight: Expr | None
    start: tuple[Expr, ...]
    carried: tuple[Expr, ...]
    stores: tuple[Store, ...]
    finish: tuple[Store, ...] = ()
    shifts: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not all(0 < d <= MOST_SHIFT for _, d in self.shifts):
            raise InternalError(f"neighbours lie 1 to {MOST_SHIFT} units below, not {self.shifts}")

    @property
    def dtype(self) -> DType:
        """That of what is carried."""
        return self.carried[0].dtype

    @property
    def rows(self) -> int:
        """Batch elements of a task: many share a weight; without one there is nothing to share."""
        return RECURRENT_ROWS if self.targets else 1


Kernel: TypeAlias = (
    RowKernel
    | ContractKernel
    | PackKernel
    | ScatterKernel
    | SortKernel
    | AttentionKernel
    | AttentionGradientKernel
    | RecurrentKernel
)
