"""Windows of an image as rows of a contraction, read from bands of the image.

A task computes whole lines of the result (or all lines of several images) for some lanes. For each
block of k it copies the channels of that block, as far as its windows see them, into scratch
memory: once, padding written out. Two tables of byte offsets then say where the element of any
window lies: one of its position, one of its element and channel; a register tile adds them.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.codegen import contract_store as store
from rabbet.codegen.contract_axes import Roles, prefers_first
from rabbet.codegen.contract_blocks import Band
from rabbet.codegen.contract_edges import Edging
from rabbet.codegen.contract_lines import Lines
from rabbet.codegen.contract_loops import Naturals, Part, minimum, quotient, split
from rabbet.codegen.contract_pack import batch_emitter, batch_parameters
from rabbet.codegen.contract_tile import (
    BAND_AHEAD,
    LINE,
    NOTHING,
    ORIGIN,
    PANEL_AHEAD,
    RESULTS_AHEAD,
    TURNS,
    panel_turns,
)
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Function, Module, Value, i64
from rabbet.codegen.operations import has_masks, memory_type, register_type
from rabbet.expr.expr import Expr
from rabbet.kernel.loops import CONTRACT_BLOCK, Operand
from rabbet.kernel.windows import Place

ZERO = i64(0)
UNKNOWN = -(1 << 63)  # no step of a table

# image, images, line: the first image and line of a task, and how many images; k and count: the
# block; k_table: where offsets of the block's k are written, target: the band.
COPY = (
    ("i64", "image"),
    ("i64", "images"),
    ("i64", "line"),
    ("i64", "k"),
    ("i64", "count"),
    ("ptr noalias", "k_table"),
    ("ptr noalias", "target"),
)
# row, lane, lanes: of a panel; last: is its block of k the last? panel, panel_step: the next panel
# of B; k_table: as above.
PANELS = (
    ("i64", "row"),
    ("i64", "lane"),
    ("i64", "lanes"),
    ("i1", "last"),
    ("ptr", "panel"),
    ("i64", "panel_step"),
    ("ptr noalias", "k_table"),
)
# images, line: as above; table and k_table: where the windows of a task are described.
ROWS = (("i64", "images"), ("i64", "line"), ("ptr noalias", "table"), ("ptr noalias", "k_table"))


def sizes_of_tasks(band: Band) -> tuple[Expr, ...]:
    """What `lines_of_task` needs, to be computed before the loop over tasks."""
    images = band.images, band.all_images
    return (*images, band.row_bands, band.height, band.all_lines, band.columns)


def lines_of_task(
    fn: Function, sizes: Naturals, band: Band, number: Value
) -> tuple[Value, Value, Value, Value, Value]:
    """The first image of a task, how many, its first line; its first position, how many."""
    block = quotient(fn, number, sizes[band.row_bands])
    line = fn.mul(fn.sub(number, fn.mul(block, sizes[band.row_bands])), sizes[band.height])
    image = fn.mul(block, sizes[band.images])
    images = minimum(fn, sizes[band.images], fn.sub(sizes[band.all_images], image))
    lines = minimum(fn, sizes[band.height], fn.sub(sizes[band.all_lines], line))
    before = fn.add(fn.mul(image, sizes[band.all_lines]), line)
    row = fn.mul(before, sizes[band.columns])
    return image, images, line, row, fn.mul(fn.mul(images, lines), sizes[band.columns])


class Bander:
    """The functions that copy a band and write its tables; `tile`: its rows and lanes.
    `place`: where tiles write results themselves.
    """

    def __init__(
        self,
        module: Module,
        operands: Sequence[Operand],
        roles: Roles,
        band: Band,
        tile: tuple[int, int],
        place: store.Place | None,
    ) -> None:
        self.roles, self.band, self.dtype = roles, band, roles.dtype
        self.unit, self.panel = tile
        self.place = place
        self.rows = Part(module, "band_rows", operands, ROWS)
        self._write_rows()
        self.copy = Part(module, "band", operands, (*batch_parameters(roles.batch), *COPY))
        self._copy()
        given = (*batch_parameters(roles.batch), *PANELS)
        self.panels = Part(module, "band_panels", operands, given)
        self._write_panels()

    def _edging(self, part: Part, em: Emitter, sizes: Naturals) -> Edging:
        task = part["images"], part["line"]
        return Edging(em, sizes, self.band, self.dtype.itemsize, self.unit, task)

    def _write_rows(self) -> None:
        """What is the same for all blocks of a task."""
        part, em = self.rows, Emitter(self.rows)
        edging = self._edging(part, em, Naturals(em))
        steps = [em.scalar(e) for e in self.place.steps] if self.place is not None else [ZERO] * 3
        line = steps[-2] if self.band.places.line is not None else ZERO
        image = steps[0] if self.band.outer else ZERO
        edging.positions(part["table"], (image, line, steps[-1]))
        table = part["k_table"]
        edging.elements(table, self.roles.k, self.band.places.channel)
        for _, origin in (PANEL_AHEAD, RESULTS_AHEAD):  # no table yet
            em.fn.store(i64(UNKNOWN), em.fn.address(table, i64(origin + ORIGIN - 1), "i64"))
        with em.fn.loop(i64(NOTHING), i64(NOTHING + CONTRACT_BLOCK)) as n:
            em.fn.store(i64(0), em.fn.address(table, n, "i64"))

    def _write_panels(self) -> None:
        """What tiles fetch while they multiply a panel: the next one, and in the last block of k
        the lines of the results, so far as rows follow each other there, unless they go past the
        caches.
        """
        part, m, n = self.panels, self.roles.m, self.roles.n
        em = batch_emitter(part, self.roles.batch)
        fn, stores = em.fn, self.roles.stores
        dtype = part.operands[stores[0].operand].dtype
        at = split(em, m, part["row"])

        def index(at: dict[int, Value], lane: Value) -> Value:
            return em.inner(at | split(em, n, lane)).scalar(stores[0].index)

        first = index(at, part["lane"])
        pointer = part.pointer(stores[0].operand)
        place = fn.address(pointer, first, memory_type(dtype))
        step, half = part["panel_step"], CONTRACT_BLOCK // TURNS
        both, further = fn.mul(step, CONTRACT_BLOCK), fn.mul(step, half)
        self._origin(part, PANEL_AHEAD, part["panel"], i64(LINE), both, further)
        self._fetched(part, PANEL_AHEAD, step, i64(half))
        together = TURNS * self.unit
        if not prefers_first(stores, m, n):  # lanes run along memory: line by line of each row
            following = index(split(em, m, fn.add(part["row"], 1)), part["lane"])
            row_step = fn.mul(fn.sub(following, first), dtype.itemsize)
            length = fn.mul(Naturals(em)[self.band.positions], row_step)
            end = fn.select(part["last"], length, i64(0))
            if self.place is not None:  # tiles write them one after the other
                written = panel_turns(part.target) * self.unit + together
                place = fn.address(place, fn.mul(row_step, written), "i8")
            self._origin(part, RESULTS_AHEAD, place, fn.mul(row_step, together), end)
            pieces = min(self.panel * dtype.itemsize // LINE, CONTRACT_BLOCK // together)
            self._fetched(part, RESULTS_AHEAD, row_step, i64(together), pieces)
            return
        lane_step = fn.mul(fn.sub(index(at, fn.add(part["lane"], 1)), first), dtype.itemsize)
        wanted, passing = part["last"], store.streams(em, self.roles, stores, m)
        if passing is not None:
            wanted = fn.binary("and", wanted, fn.binary("xor", passing, Value("true", "i1")))
        length = fn.mul(Naturals(em)[self.band.height * self.band.columns], dtype.itemsize)
        end = fn.select(wanted, length, i64(0))
        self._origin(part, RESULTS_AHEAD, place, i64(together * dtype.itemsize), end)
        pieces = -(-together * dtype.itemsize // LINE)
        assert self.panel * pieces <= CONTRACT_BLOCK, "a table is as long as a block of k"
        self._fetched(part, RESULTS_AHEAD, lane_step, part["lanes"], pieces)

    def _origin(
        self,
        part: Part,
        where: tuple[int, int],
        place: Value,
        step: Value,
        end: Value,
        further: Value = ZERO,
    ) -> None:
        """What offsets are counted from; without an end nothing is fetched but one line."""
        fn = part.fn
        table = fn.select(fn.icmp("sgt", end, 0), i64(where[0]), i64(NOTHING))
        for n, word in enumerate((place, step, end, further, table)):
            fn.store(word, fn.address(part["k_table"], i64(where[1] + n), "i64"))

    def _fetched(
        self, part: Part, where: tuple[int, int], step: Value, count: Value, pieces: int = 1
    ) -> None:
        """Write a table of `count` offsets, `step` apart, for each of so many neighbouring lines of
        the cache, and zeros behind them: CONTRACT_BLOCK in all. The same step finds it written.
        """
        fn = part.fn
        table, known = (
            fn.address(part["k_table"], i64(at), "i64") for at in (where[0], where[1] + ORIGIN - 1)
        )
        with fn.when(fn.icmp("ne", fn.load("i64", known), step)):
            for piece in range(pieces):
                entries = fn.address(table, fn.mul(count, piece), "i64")
                with fn.loop(i64(0), count) as k:
                    offset = fn.add(fn.mul(k, step), piece * LINE)
                    fn.store(offset, fn.address(entries, k, "i64"))
            with fn.loop(fn.mul(count, pieces), i64(CONTRACT_BLOCK)) as k:
                fn.store(i64(0), fn.address(table, k, "i64"))
            fn.store(step, known)

    def _copy(self) -> None:
        part, band = self.copy, self.band
        em = batch_emitter(part, self.roles.batch)
        fn, self.sizes = em.fn, Naturals(em)
        sizes, places = self.sizes, band.places
        reaches = band.reach(places.line), band.reach(places.column)
        shape = (
            band.window,
            band.width,
            band.lines,
            band.channel_step,
            band.column_step,
            band.line_step,
            band.image_step,
            band.height,
        )
        for e in (*shape, band.row_bands, band.positions, band.k, *reaches):
            sizes[e]  # here, before the loops
        window = sizes[band.window]
        self.channel = quotient(fn, part["k"], window)
        end = quotient(fn, fn.add(fn.add(part["k"], part["count"]), fn.sub(window, 1)), window)
        channels = fn.sub(end, self.channel)
        start = fn.sub(part["k"], fn.mul(self.channel, window))
        edging = self._edging(part, em, sizes)
        edging.heads(part["k_table"], start, part["count"], channels)
        self.lines, self.coordinate = self._lines()
        start = self._first(places.column)
        self.around = em.inner({self.coordinate[places.column.source]: start})
        self.line = i64(0)
        if places.line is not None:
            down = fn.mul(part["line"], places.line.stride)
            self.line = fn.add(down, self._first(places.line))
        self._copy_planes(channels)

    def _lines(self) -> tuple[Lines, dict[Expr, int]]:
        """What copies lines, and the variables of their coordinates."""
        places = self.band.places
        loops = (*self.roles.batch, *self.roles.m, *self.roles.n, *self.roles.k)
        free = 1 + max(loop.variable for loop in loops)
        axes = [p for p in (places.line, places.column) if p is not None]
        coordinate = {place.source: free + i for i, place in enumerate(axes)}
        given = coordinate, places.column.source, free + len(axes), 1
        return Lines(self.copy, self.dtype, self.roles.a, *given), coordinate

    def _at(self, image: Value, channel: Value, line: Value) -> Emitter:
        """Knows a line of the image, all but its columns."""
        places = self.band.places
        known = split(self.around, self.band.outer, image)
        if places.channel is not None:
            known[places.channel] = channel
        if places.line is not None:
            known[self.coordinate[places.line.source]] = line
        return self.around.inner(known)

    def _copy_planes(self, channels: Value) -> None:
        """What a task's windows see of some channels."""
        part, band, sizes = self.copy, self.band, self.sizes
        fn = part.fn
        limits = self.lines.limits(self.around, sizes[band.width])
        self._write_ahead()
        copy = self._copy_vectors if has_masks(part.target) else self._copy_lines
        with fn.loop(i64(0), channels) as channel, fn.loop(i64(0), part["images"]) as image:
            first = fn.mul(channel, sizes[band.channel_step])
            first = fn.add(first, fn.mul(image, sizes[band.image_step]))
            plane = fn.address(part["target"], first, register_type(self.dtype))
            image, channel = fn.add(part["image"], image), fn.add(self.channel, channel)
            copy((image, channel), plane, limits)

    def _copy_vectors(
        self, plane: tuple[Value, Value], target: Value, limits: tuple[Value, Value]
    ) -> None:
        """All lines of one image's channel: a vector of columns, in all lines, then the next one.

        The last vector of the columns is the first, since the others write over what it writes of
        the line behind.
        """
        fn, lines, count = self.copy.fn, self.lines, self.sizes[self.band.line_step]
        last = fn.binary("and", fn.sub(count, 1), i64(-lines.lanes))
        low, high = self._inner_lines(self._at(*plane, self.line))

        def place(line: Value) -> Value:
            return fn.address(target, fn.mul(line, count), register_type(self.dtype))

        with fn.loop(i64(0), count, lines.lanes) as behind:
            first = fn.sub(last, behind)
            mask = lines.between(limits, first)
            for begin, end in ((i64(0), low), (high, self.sizes[self.band.lines])):
                with fn.loop(begin, end) as line:
                    lines.fill_vector(self.around, place(line), first)
            with fn.loop(low, high) as line:
                here = self._at(*plane, fn.add(self.line, line))
                lines.copy_vector(here, place(line), first, mask)

    def _inner_lines(self, em: Emitter) -> tuple[Value, Value]:
        """The lines of a plane that are inside the image: the first, and where they end."""
        fn, lines, places = self.copy.fn, self.lines, self.band.places
        low, high, others = i64(0), self.sizes[self.band.lines], lines.inside.others
        if places.line is not None:
            line = self.coordinate[places.line.source]
            low, high = lines.limits_of(em, line, high)
            others = lines.along(line).others
        return low, fn.select(em.scalar(others), high, low)

    def _copy_lines(
        self, plane: tuple[Value, Value], target: Value, limits: tuple[Value, Value]
    ) -> None:
        """The same, line by line."""
        fn, lines, count = self.copy.fn, self.lines, self.sizes[self.band.line_step]
        with fn.loop(i64(0), self.sizes[self.band.lines]) as line:
            here = self._at(*plane, fn.add(self.line, line))
            lines.hoist(here)
            to = fn.address(target, fn.mul(line, count), register_type(self.dtype))
            lines.copy(here, to, count, limits)

    def _write_ahead(self) -> None:
        """What tiles fetch of the next band, cache line by cache line: the next block's channels,
        or the first ones of the next task.

        Each element of k has a channel and an image, and one of so many lines that all tiles
        together go through a plane, which is taken to lie in one piece.
        """
        fn, part, band, sizes = self.copy.fn, self.copy, self.band, self.sizes
        itemsize = self.lines.load.dtype.itemsize
        here, channels = self._next()
        image, channel, line = here
        last = fn.sub(sizes[band.lines], 1), fn.sub(sizes[band.width], 1)
        corner = i64(0), i64(0)
        first = self._index(*here, *corner)
        others = (
            self._index(*here, *last),
            self._index(image, fn.add(channel, 1), line, *corner),
            self._index(fn.add(image, 1), channel, line, *corner),
        )
        span, plane, step = (fn.mul(fn.sub(e, first), itemsize) for e in others)
        span = fn.intrinsic("smax.i64", "i64", span, i64(1))
        left = fn.sub(sizes[band.positions], panel_turns(part.target) * self.unit)
        left = fn.intrinsic("smax.i64", "i64", left, i64(1))
        tiles = fn.add(quotient(fn, fn.sub(left, 1), i64(TURNS * self.unit)), 1)
        pieces = fn.add(quotient(fn, span, i64(LINE)), 1)
        each = fn.add(quotient(fn, fn.sub(pieces, 1), tiles), 1)
        places = fn.mul(channels, part["images"])  # 0 where nothing is summed
        places = fn.intrinsic("smax.i64", "i64", places, i64(1))
        each = minimum(fn, each, quotient(fn, part["count"], places))
        each = fn.intrinsic("smax.i64", "i64", each, i64(1))
        table = self._band_ahead(first, fn.mul(each, LINE), span)
        end = i64(CONTRACT_BLOCK - 1)
        with fn.loop(i64(0), each) as piece, fn.loop(i64(0), part["images"]) as image:
            done = fn.mul(fn.add(fn.mul(piece, part["images"]), image), channels)
            offset = fn.add(fn.mul(piece, LINE), fn.mul(image, step))
            with fn.loop(i64(0), channels) as channel:
                entry = minimum(fn, fn.add(done, channel), end)
                found = fn.add(offset, fn.mul(channel, plane))
                fn.store(found, fn.address(table, entry, "i64"))

    def _band_ahead(self, first: Value, step: Value, span: Value) -> Value:
        """The table of what is fetched of the next band, empty. `first`: of its elements, `step`:
        bytes from one tile that fetches some of it to the next, `span`: bytes of a plane.
        """
        fn, part = self.copy.fn, self.copy
        self._origin(part, BAND_AHEAD, self.lines.address(first), step, span)
        table = fn.address(part["k_table"], i64(BAND_AHEAD[0]), "i64")
        with fn.loop(i64(0), i64(CONTRACT_BLOCK)) as n:
            fn.store(i64(0), fn.address(table, n, "i64"))
        return table

    def _next(self) -> tuple[tuple[Value, Value, Value], Value]:
        """The next band: its first image, channel and line; how many channels."""
        fn, part, band, sizes = self.copy.fn, self.copy, self.band, self.sizes
        end = fn.add(part["k"], part["count"])
        is_last = fn.icmp("sge", end, sizes[band.k])
        is_cut = fn.icmp("ugt", sizes[band.row_bands], 1)
        image, line, window = part["image"], self.line, sizes[band.window]
        lower = fn.add(line, fn.mul(sizes[band.height], band.stride))
        next_line = fn.select(is_cut, lower, line)
        next_image = fn.select(is_cut, image, fn.add(image, part["images"]))
        k = fn.select(is_last, i64(0), end)
        channel = quotient(fn, k, window)
        end = minimum(fn, fn.add(k, CONTRACT_BLOCK), sizes[band.k])
        channels = fn.sub(quotient(fn, fn.add(end, fn.sub(window, 1)), window), channel)
        image = fn.select(is_last, next_image, image)
        return (image, channel, fn.select(is_last, next_line, line)), channels

    def _index(
        self, image: Value, channel: Value, line: Value, lines: Value, columns: Value
    ) -> Value:
        """Where an element of the image lies: so many lines and columns on."""
        at = self._at(image, channel, self.copy.fn.add(line, lines))
        return self.lines.index(at.inner({self.lines.column: columns}))

    def _first(self, place: Place) -> Value:
        """The coordinate of window 0's first element, in memory's order."""
        if place.dilation >= 0:
            return i64(place.first)
        fn = self.copy.fn
        return fn.sub(i64(place.first), self.sizes[self.band.reach(place)])
