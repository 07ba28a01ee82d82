"""How a contraction is cut into tasks: expressions over sizes, used by the kernel and its caller
alike.

Only sizes decide, never the number of threads. A task is a block of the result: `rows` row panels
by `lanes` lane panels of one batch element. Its copies of A and B, and its sums, live in scratch
memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from rabbet.base.dtypes import int64
from rabbet.base.target import Target
from rabbet.codegen.contract_axes import Loops, Roles, View
from rabbet.codegen.contract_tile import tile_shape
from rabbet.expr.expr import Expr, call, const
from rabbet.kernel.loops import CONTRACT_BLOCK

QUANTUM = 1 << 22  # products that make a task worth its packing
TASKS = 16  # a large contraction has at least about this many tasks
TILES = (
    172  # most register tiles in a task: their sums fill a quarter of a 1 MiB second-level cache
)
ROW_PANELS = 43  # most row panels in a task: A's copy fills a quarter of it
ROW_PANELS_WORTH = 12  # fewer row panels are not worth a copy of B, if there are more
LANE_PANELS = 4  # lane panels of a task whose rows do not end before


@dataclass(frozen=True)
class Blocks:
    """Sizes of one contraction on one target. All are expressions over size(n) unless they are
    ints.
    """

    tile_rows: int
    panel: int  # lanes of a full panel of B
    lanes: int  # elements in a vector
    itemsize: int
    m: Expr
    n: Expr
    k: Expr
    batch: Expr
    row_panels: Expr  # of a task, at most
    lane_panels: Expr
    row_blocks: Expr
    lane_blocks: Expr
    k_blocks: Expr
    table_columns: tuple[int, int]  # of the tables of A and B
    a_rows: bool  # does A's table describe rows of A
    b_rows: bool
    a_copied: bool
    a_turned: bool  # is A's copy written with its rows side by side

    @property
    def a_step(self) -> Expr:
        """Bytes of a row of A's copy (turned: of a k), and room to write one vector too far."""
        return (self._a_shape[1] + self.lanes) * self.itemsize

    @property
    def _a_shape(self) -> tuple[Expr, Expr]:
        """Rows and columns of A's copy."""
        rows, block = self.row_panels * self.tile_rows, const(CONTRACT_BLOCK, int64)
        return (block, rows) if self.a_turned else (rows, block)

    @property
    def panel_step(self) -> int:
        """Bytes of a row of a full panel of B's copy, and of a row of sums."""
        return self.panel * self.itemsize

    @property
    def tasks(self) -> Expr:
        return self.batch * self.row_blocks * self.lane_blocks

    @property
    def scratch(self) -> Scratch:
        """Where a thread's scratch memory holds what, in bytes."""
        a_table, b_table = self.table_entries
        sizes = (
            (self._a_shape[0] + self.lanes) * self.a_step * int(self.a_copied),
            const((CONTRACT_BLOCK + self.lanes) * self.panel_step, int64),
            a_table * 8 * self.table_columns[0],
            const(b_table * 8 * self.table_columns[1], int64),
            self.sums_bytes,
        )
        starts = [const(0, int64)]
        for size in sizes:
            starts.append(starts[-1] + (size + 63) // 64 * 64)
        return Scratch(*starts)

    @property
    def table_entries(self) -> tuple[Expr, int]:
        """Rows of A's and of B's table: a table describes rows of the copy, or its columns."""
        block = const(CONTRACT_BLOCK, int64)
        rows = self.row_panels * self.tile_rows
        return rows if self.a_rows else block, CONTRACT_BLOCK if self.b_rows else self.panel

    @property
    def column_bytes(self) -> Expr:
        """The sums of one lane panel."""
        return self.row_panels * (self.tile_rows * self.panel_step)

    @property
    def sums_bytes(self) -> Expr:
        """Sums that must outlive a block of k: with one block those of one panel, else of all."""
        several = smaller(self.k_blocks - 1, const(1, int64))
        return self.column_bytes * ((self.lane_panels - 1) * several + 1)


@dataclass(frozen=True)
class Scratch:
    """Byte offsets in a thread's scratch memory: the copies, their tables, the sums, the end."""

    a: Expr
    b: Expr
    a_table: Expr
    b_table: Expr
    sums: Expr
    end: Expr


def blocks(roles: Roles, a: View, b: View, target: Target, *, a_turned: bool) -> Blocks:
    """The cut of a contraction with these operands on a target; `a_turned`: A is seen as k rows."""
    tile_rows, vectors = tile_shape(target)
    lanes = target.lanes(roles.dtype.bits)
    panel = vectors * lanes
    m, n, k, batch = (_extent(g) for g in (roles.m, roles.n, roles.k, roles.batch))
    one = const(1, int64)
    rows, columns = _ceil(m, tile_rows), _ceil(n, panel)
    tile = larger(k, one) * (tile_rows * panel)
    tiles = larger(const(QUANTUM, int64) // tile, (rows * columns + (TASKS - 1)) // TASKS)
    tiles = larger(tiles, smaller(rows, const(ROW_PANELS_WORTH, int64)))
    tiles = larger(smaller(tiles, const(TILES, int64)), one)
    lane_panels = larger(
        smaller(tiles // 20, const(LANE_PANELS, int64)), tiles // larger(rows, one)
    )
    lane_panels = larger(smaller(lane_panels, columns), one)
    row_panels = smaller(tiles // lane_panels, const(ROW_PANELS, int64))
    row_panels = larger(smaller(row_panels, rows), one)
    row_blocks, lane_blocks = _divide(rows, row_panels), _divide(columns, lane_panels)
    return Blocks(
        tile_rows,
        panel,
        lanes,
        roles.dtype.itemsize,
        m,
        n,
        k,
        batch,
        _divide(rows, larger(row_blocks, one)),
        _divide(columns, larger(lane_blocks, one)),
        row_blocks,
        lane_blocks,
        larger(_ceil(k, CONTRACT_BLOCK), one),
        (a.table_columns, b.table_columns),
        a.kind == "runs" and not a_turned,
        b.kind == "runs",
        a_turned or not a.direct,
        a_turned,
    )


def _extent(loops: Loops) -> Expr:
    total = const(1, int64)
    for loop in loops:
        total = total * loop.extent
    return total


def _ceil(a: Expr, b: int) -> Expr:
    return (a + (b - 1)) // b


def _divide(a: Expr, b: Expr) -> Expr:
    return (a + b - 1) // b


def larger(a: Expr, b: Expr) -> Expr:
    """max(a, b)."""
    return call("max", a, b)


def smaller(a: Expr, b: Expr) -> Expr:
    """min(a, b)."""
    return call("min", a, b)
