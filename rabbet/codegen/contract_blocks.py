"""How a contraction is cut into tasks: expressions over sizes, used by the kernel and its caller
alike.

Only sizes decide, never the number of threads. A task is a block of the result: `rows` row panels
by `lanes` lane panels of one batch element. Its copies of A and B, and its sums, live in scratch
memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rabbet.base.dtypes import int64
from rabbet.base.target import Target
from rabbet.codegen import contract_tile
from rabbet.codegen.contract_axes import Loop, Loops, Roles, View, view
from rabbet.codegen.contract_thin import MOST_ROWS
from rabbet.codegen.contract_tile import (
    ELEMENT,
    KEYS,
    LISTS,
    POSITION,
    STRIP,
    panel_rows,
    tile_shape,
)
from rabbet.expr.expr import Expr, call, const
from rabbet.kernel.bands import Bands, bands
from rabbet.kernel.loops import CONTRACT_BLOCK, ContractKernel
from rabbet.kernel.windows import Place

QUANTUM = 1 << 18  # products that make a task worth its packing
STREAM = 1 << 14  # elements of B that make a task for few rows, which only reads
TASKS = 32  # a large contraction has at least about this many tasks
ROW_PANELS_WORTH = 12  # fewer tile heights are not worth a copy of B, if there are more
VECTOR = 64  # bytes, at most: sums are read in whole ones
LANE_PANELS = 4  # lane panels of a task whose rows do not end before
POSITIONS = 512  # windows of a task that reads them from a band, at most where a line has fewer
FEWEST_POSITIONS = 224
MOST_CUT = 1024  # elements of a window that may be left out
MOST_EVEN = 8  # lines of a task that are made to divide those of the image


@dataclass(frozen=True)
class Operands:
    """The operands of a contraction as they are read: A as rows of k (`by_rows`) or as k rows of
    its rows, B as k rows of lanes; and whether they lie in panels already.
    """

    a: View
    b: View
    by_rows: bool
    a_packed: bool
    b_packed: bool
    pairs: bool  # the copies hold pairs of k; B is always copied, A's rows if a pair is not whole
    bands: Bands | None = None  # A's rows are windows, read from bands of their image

    @property
    def together(self) -> int:
        """k in a row of a copy."""
        return 2 if self.pairs else 1

    @property
    def block(self) -> int:
        """Rows of a copy for one block of k."""
        return CONTRACT_BLOCK // self.together

    @property
    def a_in_place(self) -> bool:
        """Is A always read where it is?"""
        return self.a.direct and not (self.pairs or self.a_packed)

    @property
    def a_panels(self) -> bool:
        """Does the register tile read A in panels?"""
        return self.a_packed or not (self.by_rows or self.a_in_place)

    @property
    def b_in_place(self) -> bool:
        """Are whole panels of B read where they are?"""
        return self.b.direct and not (self.pairs or self.b_packed)

    @property
    def streamed(self) -> bool:
        """Can few rows and all lanes be read where they are?"""
        b = self.b
        in_place = b.plain and not (b.kind == "runs" and b.dense())
        return in_place and self.a_in_place and not self.b_packed

    @property
    def a_copied(self) -> bool:
        """May a task have to copy its rows of A?"""
        return not (self.a_packed or self.a_in_place)


def tiled(kernel: ContractKernel, target: Target) -> Target:
    """The target with the kernel's register tile, if it has one of its own."""
    if not any(kernel.tile):
        return target
    rows, vectors = kernel.tile
    return replace(target, tile_rows=rows, tile_vectors=vectors)


def operands(kernel: ContractKernel, chosen: Roles) -> Operands:
    """How the operands are read: A along its rows where memory runs so, or in panels."""
    a, b = view(chosen.m, chosen.k, chosen.a), view(chosen.k, chosen.n, chosen.b)
    by_rows = a.kind != "turned"
    if not by_rows:
        a = view(chosen.k, chosen.m, chosen.a)
    a_packed, b_packed = reversed(kernel.packed) if chosen.swapped else kernel.packed
    if kernel.banded:
        places = bands(kernel)
        assert places is not None and chosen.swapped
        return Operands(a, b, True, False, b_packed, False, places)
    return Operands(a, b, by_rows, a_packed, b_packed, chosen.pairs)


@dataclass(frozen=True)
class Band:
    """The part of an image that the windows of a task see, for one block of k: expressions.

    A plane for each channel, in it the images, in these their lines, `pitch` elements each; or,
    if channels lie side by side in the image, images, lines, columns, channels.
    """

    places: Bands
    outer: Loops  # images
    elements: dict[int, Expr]  # of a window, by loop
    images: Expr  # of a task
    height: Expr  # lines of the result in a task
    all_lines: Expr  # of the result in one image
    columns: Expr  # of the result
    window: Expr  # elements
    channels: Expr  # that a block of k may touch
    lanes: int  # of a vector: behind a plane (a band by pixels) there is room for one more
    some: Expr  # 0 where the result has no elements
    k: Expr

    def reach(self, place: Place | None) -> Expr:
        """How far the last element of a window is from the first, in memory's order."""
        if place is None or place.element is None:
            return const(0, int64)
        extent = larger(self.elements[place.element], const(1, int64))
        return (extent - 1) * abs(place.dilation)

    @property
    def listed(self) -> Expr:
        """Words of the list of a key: of the channels that a block of k may touch."""
        return (self._cut * 2 + CONTRACT_BLOCK) * ELEMENT

    @property
    def left(self) -> Expr:
        """Words for what a key leaves of one window: how many elements before each, and which."""
        return (self._cut + 1) * 2

    @property
    def words(self) -> tuple[Expr, Expr, Expr, Expr]:
        """What follows the lists of keys in the table of columns: where begins what keys leave of
        a window, by element the keys of windows it is outside of, the list of all elements; the
        end.
        """
        left = self.listed * len(KEYS) + LISTS
        dead = left + self.left * len(KEYS)
        every = dead + self._cut
        return left, dead, every, every + self.channels * self.window * ELEMENT

    @property
    def _cut(self) -> Expr:
        return smaller(self.window, const(MOST_CUT, int64))

    @property
    def stride(self) -> int:
        """Lines of the image from a line of the result to the next."""
        return self.places.line.stride if self.places.line is not None else 1

    @property
    def lines(self) -> Expr:
        """Lines of the image that a task sees."""
        return (self.height - 1) * self.stride + self.reach(self.places.line) + 1

    @property
    def pitch(self) -> Expr:
        """Elements from line to line: whole vectors, so that each is written to one line of the
        cache, unless that would take more than a quarter more.
        """
        width = self.width
        more = (width + (self.lanes - 1)) // self.lanes * self.lanes - width
        return width + more * smaller(width // (more * 4 + 1), const(1, int64))

    @property
    def width(self) -> Expr:
        """Columns of the image that a task sees."""
        column = self.places.column
        return (self.columns - 1) * column.stride + self.reach(column) + 1

    @property
    def pixel(self) -> Expr:
        """Elements from column to column where channels lie side by side: whole vectors, or less
        than one.
        """
        one = const(1, int64)
        whole = (self.channels + (self.lanes - 1)) // self.lanes * self.lanes
        more = smaller(self.channels // self.lanes, one)
        return self.channels + (whole - self.channels) * more

    @property
    def column_step(self) -> Expr:
        """Elements from column to column."""
        return self.pixel if self.places.by_pixel else const(1, int64)

    @property
    def line_step(self) -> Expr:
        """Elements from line to line."""
        return self.width * self.pixel if self.places.by_pixel else self.pitch

    @property
    def channel_step(self) -> Expr:
        """Elements from channel to channel."""
        if self.places.by_pixel:
            return const(1, int64)
        return self.images * self.image_step + self.lanes

    @property
    def size(self) -> Expr:
        """Elements of a band: vectors may end behind it."""
        if self.places.by_pixel:
            return self.images * self.image_step + self.lanes
        return self.channel_step * self.channels

    @property
    def all_images(self) -> Expr:
        """Of the result."""
        return _extent(self.outer)

    @property
    def image_step(self) -> Expr:
        """Elements from image to image."""
        return self.lines * self.line_step

    @property
    def extents(self) -> tuple[Expr, Expr, Expr]:
        """Of the positions of a task: images, lines, columns."""
        return self.images, self.height, self.columns

    @property
    def row_bands(self) -> Expr:
        """Tasks of one image."""
        return _divide(self.all_lines, self.height)

    @property
    def row_blocks(self) -> Expr:
        """Tasks of all images."""
        return _divide(self.all_images, self.images) * self.row_bands * self.some

    @property
    def positions(self) -> Expr:
        """Windows of a task, at most."""
        return self.images * self.height * self.columns


@dataclass(frozen=True)
class Blocks:
    """Sizes of one contraction on one target. All are expressions over size(n) unless they are
    ints.
    """

    operands: Operands
    tile_rows: int
    unit: int  # rows of a row panel: the rows of a task are a multiple of it
    panel: int  # lanes of a full panel of B
    lanes: int  # elements in a vector
    itemsize: int  # of a sum, and of what is multiplied for it at once
    m: Expr
    n: Expr
    k: Expr
    batch: Expr
    row_panels: Expr  # of a task, at most
    lane_panels: Expr
    row_blocks: Expr
    lane_blocks: Expr
    k_blocks: Expr
    band: Band | None = None

    @property
    def a_step(self) -> int:
        """Bytes of a row of A's copy (of a panel, if it has panels), and room to write one vector
        too far.
        """
        if self.operands.a_panels:
            return self.operands.block * self.unit * self.itemsize
        return (self.operands.block + self.lanes) * self.itemsize

    @property
    def panel_step(self) -> int:
        """Bytes of a row of a full panel of B's copy, and of a row of sums."""
        return self.panel * self.itemsize

    @property
    def k_rows(self) -> Expr:
        """Rows of a copy for all k."""
        return _ceil(self.k, self.operands.together)

    @property
    def panels(self) -> tuple[Expr, Expr]:
        """Panels of all of A and of all of B."""
        return _ceil(self.m, self.unit), _ceil(self.n, self.panel)

    @property
    def tasks(self) -> Expr:
        return self.batch * self.row_blocks * self.lane_blocks

    @property
    def scratch(self) -> Scratch:
        """Where a thread's scratch memory holds what, in bytes."""
        read, zero = self.operands, const(0, int64)
        a_table, b_table = self.table_entries
        in_copy = self.row_panels * (1 if read.a_panels else self.unit)
        b_rows = (read.block + self.lanes) * (not read.b_packed)
        copy = (in_copy + self.lanes) * self.a_step if read.a_copied else zero
        table = a_table * 8 * read.a.table_columns if read.a_copied else zero
        k_table = turned = zero
        if self.band is not None:
            copy = self.band.size * self.itemsize
            entries = (self.band.positions + self.unit) * POSITION + contract_tile.POSITIONS
            table, k_table = entries * 8, self.band.words[-1] * 8
            turned = (self.band.positions + self.lanes) * self.panel_step
        sizes = (
            copy,
            const(b_rows * self.panel_step, int64),
            table,
            zero if read.b_packed else const(b_table * 8 * read.b.table_columns, int64),
            self.sums_bytes + self.lanes * self.panel_step + VECTOR,
            k_table,
            turned,
        )
        starts = [zero]
        for size in sizes:
            starts.append(starts[-1] + (size + 63) // 64 * 64)
        return Scratch(*starts)

    @property
    def a_table_of_rows(self) -> bool:
        """Does A's table describe its rows?"""
        return self.operands.by_rows and self.operands.a.kind == "runs"

    @property
    def table_entries(self) -> tuple[Expr, int]:
        """Entries of A's and of B's table: they describe rows of the copy, or its columns."""
        block, rows = const(CONTRACT_BLOCK, int64), self.row_panels * self.unit
        of_k = self.operands.b.kind == "runs"
        return rows if self.a_table_of_rows else block, CONTRACT_BLOCK if of_k else self.panel

    @property
    def column_bytes(self) -> Expr:
        """The sums of one lane panel."""
        return self.row_panels * (self.unit * self.panel_step)

    @property
    def sums_bytes(self) -> Expr:
        """Sums that must outlive a block of k: with one block those of one panel, else of all."""
        several = smaller(self.k_blocks - 1, const(1, int64))
        return self.column_bytes * ((self.lane_panels - 1) * several + 1)


@dataclass(frozen=True)
class Scratch:
    """Byte offsets in a thread's scratch memory: the copies, their tables, the sums, what bands
    need besides (offsets by k, and a panel's sums turned), the end.
    """

    a: Expr
    b: Expr
    a_table: Expr
    b_table: Expr
    sums: Expr
    k_table: Expr
    turned: Expr
    end: Expr


def blocks(roles: Roles, operands: Operands, target: Target) -> Blocks:
    """The cut of a contraction with these operands on a target."""
    if operands.bands is not None:
        return _banded(roles, operands, operands.bands, target)
    tile_rows, vectors = tile_shape(target)
    itemsize, lanes = roles.dtype.itemsize, target.lanes(roles.dtype.bits)
    unit = panel_rows(target, roles.dtype) if operands.a_panels else tile_rows
    panel = vectors * lanes
    m, n, k, batch = (_extent(g) for g in (roles.m, roles.n, roles.k, roles.batch))
    one = const(1, int64)
    rows, columns = _ceil(m, unit), _ceil(n, panel)
    quarter = target.l2_bytes // 4 // itemsize  # for the sums, and as much for rows of A
    tiles = larger(
        const(QUANTUM, int64) // (larger(k, one) * (unit * panel)),
        (rows * columns + (TASKS - 1)) // TASKS,
    )
    worth = max(1, ROW_PANELS_WORTH * tile_rows // unit)
    tiles = larger(tiles, smaller(rows, const(worth, int64)))
    tiles_kept = const(max(1, quarter // (unit * panel)), int64)  # their sums stay in the cache
    tiles = larger(smaller(tiles, tiles_kept), one)
    if not operands.a_panels or operands.streamed:
        many = smaller(m // (MOST_ROWS + 1), one)
        read = larger(const(STREAM, int64) // (larger(k, one) * panel), one)
        if operands.b.kind == "runs":
            low = smaller(const(2, int64) // larger(m, one), one)  # one or two rows: whole strips
            read = larger(read, low * (STRIP // 2) + STRIP // 2)
        tiles = tiles * many + smaller(tiles_kept, read) * (one - many)
    tall = max(1, quarter // CONTRACT_BLOCK // unit)
    if operands.a_copied:  # the copy should serve many lanes
        lane_panels = smaller(tiles * unit // 64, const(2 * LANE_PANELS, int64))
        lane_panels = larger(lane_panels, const(LANE_PANELS, int64))  # of few, all
    else:
        lane_panels = smaller(tiles * unit // 128, const(LANE_PANELS, int64))
    lane_panels = larger(lane_panels, tiles // larger(rows, one))
    lane_panels = larger(smaller(lane_panels, columns), one)
    row_panels = smaller(tiles // lane_panels, const(tall, int64))
    row_panels = larger(smaller(row_panels, rows), one)
    row_blocks, lane_blocks = _divide(rows, row_panels), _divide(columns, lane_panels)
    return Blocks(
        operands,
        tile_rows,
        unit,
        panel,
        lanes,
        itemsize,
        m,
        n,
        k,
        batch,
        _divide(rows, larger(row_blocks, one)),
        _divide(columns, larger(lane_blocks, one)),
        row_blocks,
        lane_blocks,
        larger(_ceil(k, CONTRACT_BLOCK), one),
    )


def _banded(roles: Roles, operands: Operands, places: Bands, given: Target) -> Blocks:
    """The cut where rows are windows: whole lines, of as many images as are small enough."""
    target = band_target(given)
    unit, vectors = tile_shape(target)
    itemsize, lanes = roles.dtype.itemsize, target.lanes(roles.dtype.bits)
    panel, one = vectors * lanes, const(1, int64)
    m, n, k, batch = (_extent(g) for g in (roles.m, roles.n, roles.k, roles.batch))
    band = _band(roles, places, lanes)
    columns = _ceil(n, panel)
    row_panels, row_blocks = _ceil(band.positions, unit), band.row_blocks
    quarter = const(target.l2_bytes // 4 // itemsize // (unit * panel), int64)
    lane_panels = smaller(quarter // row_panels, columns)
    few = larger(row_blocks * columns // TASKS, const(2, int64))  # less would copy bands too often
    lane_panels = larger(smaller(smaller(lane_panels, few), columns), one)
    lane_blocks = _divide(columns, lane_panels)
    lane_panels = _divide(columns, larger(lane_blocks, one))
    shape = unit, unit, panel, lanes, itemsize, m, n, k, batch, row_panels, lane_panels
    k_blocks = larger(_ceil(k, CONTRACT_BLOCK), one)
    return Blocks(operands, *shape, row_blocks, lane_blocks, k_blocks, band)


def band_target(target: Target) -> Target:
    """The target with the tile for windows: wide, since each of its rows is an address."""
    if target.tile_rows or target.registers < 32:
        return target
    return replace(target, tile_rows=6, tile_vectors=4)


def _band(roles: Roles, places: Bands, lanes: int) -> Band:
    """Whole lines for about as many positions as a task should have."""
    one = const(1, int64)
    by_variable: dict[int, Loop] = {loop.variable: loop for loop in (*roles.m, *roles.k)}
    count = 1 if places.line is None else 2
    outer, inner = roles.m[:-count], roles.m[-count:]
    columns = larger(inner[-1].extent, one)
    all_lines = larger(inner[0].extent, one) if count == 2 else one
    total = _extent(roles.m)
    fewest, most = const(FEWEST_POSITIONS, int64), const(POSITIONS, int64)
    wanted = smaller(larger(total // TASKS, fewest), most)
    height = smaller(larger(wanted // columns, one), all_lines)
    height = equal_height(all_lines, _divide(all_lines, _divide(all_lines, height)))
    images = larger(_extent(outer), one)
    together = smaller(larger(wanted // (columns * all_lines), one), images)
    several = _divide(images, together)
    odd = several % 2 * smaller(several - 1, one)
    several = several + odd  # few tasks: as many for each thread
    together = _divide(images, several)
    window = one
    for v in places.window:
        window = window * larger(by_variable[v].extent, one)
    channels = _touched(window)
    if places.channel is not None:
        channels = smaller(channels, larger(by_variable[places.channel].extent, one))
    else:
        channels = one
    elements = {v: by_variable[v].extent for v in places.window}
    return Band(
        places,
        outer,
        elements,
        together,
        height,
        all_lines,
        columns,
        window,
        channels,
        lanes,
        smaller(total, one),
        _extent(roles.k),
    )


def equal_height(lines: Expr, height: Expr) -> Expr:
    """About `height`, but a divisor of `lines` if there is one: tasks of one size leave no thread
    waiting.
    """
    one, most = const(1, int64), height + height // 3
    divisor = one
    for h in range(2, MOST_EVEN + 1):
        divides = one - smaller(lines % h, one)
        fits = smaller(most // h, one)
        divisor = larger(divisor, divides * fits * h)
    is_near = smaller(divisor * 4 // (height * 3), one)
    return divisor * is_near + height * (one - is_near)


def _touched(window: Expr) -> Expr:
    """Channels that some block of k touches, at most."""
    return (window + (CONTRACT_BLOCK - 2)) // window + 1


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
