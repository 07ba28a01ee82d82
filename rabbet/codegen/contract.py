"""Contractions (matrix products, einsum, convolutions as implicit matrix products) to LLVM text.

One task is a block of the result of one batch element. For each block of k it copies its rows of A
and, panel by panel, its lanes of B into scratch memory, multiplies them in register tiles, and adds
the tile's sums to those of earlier blocks; after the last block a panel goes through the epilogue.
The additions of an element depend on k alone, never on blocks, panels or tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rabbet.base.dtypes import bfloat16
from rabbet.base.errors import CompileError
from rabbet.base.target import Target
from rabbet.codegen import contract_tile
from rabbet.codegen.contract_axes import Roles, View, roles
from rabbet.codegen.contract_bands import Bander, lines_of_task, sizes_of_tasks
from rabbet.codegen.contract_blocks import Blocks, band_target, blocks, operands, tiled
from rabbet.codegen.contract_direct import emit_direct, launch_direct
from rabbet.codegen.contract_loops import Naturals, Part, call, minimum, quotient, split
from rabbet.codegen.contract_pack import Packer
from rabbet.codegen.contract_pairs import PairPacker, packer
from rabbet.codegen.contract_panels import Panels, copy_panels
from rabbet.codegen.contract_pixels import bander
from rabbet.codegen.contract_store import Place, epilogue, place
from rabbet.codegen.contract_thin import thins
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Function, Module, Value, i64
from rabbet.codegen.launch import Launch
from rabbet.codegen.operations import has_masks, memory_type
from rabbet.expr.expr import topological
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import CONTRACT_BLOCK, ContractKernel, Store
from rabbet.kernel.sums import as_computed
from rabbet.kernel.windows import is_direct

DTYPES = ("float32", "float64", "int32", "int64", "uint32", "uint64")
TRUE = Value("true", "i1")


def emit_contract(kernel: ContractKernel, target: Target, name: str = "kernel") -> str:
    """The LLVM text of a contraction with the kernel ABI as function `name`.

    Raises CompileError for a dtype that contractions do not compute with.
    """
    kernel = as_computed(kernel, target)
    _checked_roles(kernel)
    if is_direct(kernel):
        return emit_direct(kernel, target, name)
    return _Contraction(kernel, tiled(kernel, target), name).text()


def launch_contract(kernel: ContractKernel, target: Target) -> Launch:
    """Tasks, scratch memory per thread, and cost of a contraction."""
    kernel = as_computed(kernel, target)
    chosen = _checked_roles(kernel)
    if is_direct(kernel):
        return launch_direct(kernel, target)
    cut = blocks(chosen, operands(kernel, chosen), tiled(kernel, target))
    epilogues = sum(len(topological([s.index, s.value])) for s in kernel.stores)
    cost = cut.batch * cut.m * cut.n * (cut.k * 2 + epilogues)
    return Launch(cut.tasks, cut.scratch.end, cost)


def _checked_roles(kernel: ContractKernel) -> Roles:
    chosen = roles(kernel)
    if chosen.dtype.name not in DTYPES or kernel.b.dtype is not kernel.a.dtype:
        raise CompileError(
            f"contraction of {kernel.a.dtype.name} with {kernel.b.dtype.name}: both sides must "
            f"have one dtype of {', '.join(DTYPES)}; cast them first"
        )
    return chosen


@dataclass(frozen=True)
class _Task:
    """Values of one task: its batch variables (and their number), where its block lies and how
    large it is.
    """

    batch: list[Value]
    number: Value
    row: Value
    rows: Value
    lane: Value
    lanes: Value
    lines: tuple[Value, ...]  # with bands: the first image, how many, the first line


@dataclass(frozen=True)
class _Block:
    """Values of one block of k: where it begins, how long it is, and how A is read."""

    k: Value
    count: Value
    rows: Value  # of the copies, for these k
    first: Value  # i1: the first of the sum
    last: Value
    a: Value
    a_step: Value
    a_k: Value


class _Contraction:
    """One kernel being written."""

    pack_a: Packer | PairPacker | None
    pack_b: Packer | PairPacker | None

    def __init__(self, kernel: ContractKernel, target: Target, name: str) -> None:
        self.roles = _expanded(_checked_roles(kernel))
        self.read = operands(kernel, self.roles)
        self.a, self.b = self.read.a, self.read.b
        self.cut: Blocks = blocks(self.roles, self.read, target)
        self.module = Module(target)
        self.frame = Frame(self.module, name, kernel.operands)
        r, module, read = self.roles, self.module, self.read
        self.pack_a = self.pack_b = None
        self.bander: Bander | None = None
        band = self.cut.band
        self.place = place(r, band is not None)
        if band is not None:
            if len(band.outer) > 1:  # tiles know one step from image to image
                self.place = None
            given = r, band, (self.cut.unit, self.cut.panel), self.place
            self.bander = bander(module, kernel.operands, *given)
        elif read.a_copied:
            width = 0 if read.by_rows else self.cut.unit
            self.pack_a = packer(module, "pack_a", kernel.operands, r, self.a, width)
        if not read.b_packed:
            self.pack_b = packer(module, "pack_b", kernel.operands, r, self.b, self.cut.panel)
        tabled = self.pack_b is not None and self.b.kind == "runs" and self.pack_b.table is not None
        source = self.b.load.dtype if tabled and self.b.load is not None else None
        multiplied = bfloat16 if r.pairs else r.dtype
        form = contract_tile.PANELS if read.a_panels else contract_tile.ROWS
        self.tiled = target
        if band is not None:
            form, self.tiled = contract_tile.WINDOWS, band_target(target)
        tiles = contract_tile.tiles(self.tiled, multiplied, source, form)
        self.sweeps, self.rest = tiles.sweeps, tiles.rest
        module.parts.append(tiles.module)
        self.thin: dict[int, Part] = {}  # by rows
        self.strips: dict[tuple[int, int], Part] = {}  # by rows and vectors
        if read.streamed and self.b.kind == "turned":
            shared, self.thin = thins(target, r.dtype)
            module.parts.append(shared)
        elif read.streamed:
            strips = contract_tile.all_strips(target, r.dtype)
            self.strips = strips.by_shape
            module.parts.append(strips.module)
        self.epilogue = epilogue(module, kernel.operands, r, self.cut)

    @property
    def fn(self) -> Function:
        return self.frame.fn

    def text(self) -> str:
        """The module."""
        frame, em = self.frame, Emitter(self.frame)
        self.sizes = Naturals(em)
        cut, scratch = self.cut, self.cut.scratch
        self.memory = {
            name: self.fn.address(self.fn.parameters["scratch"], self.sizes[offset], "i8")
            for name, offset in vars(scratch).items()
        }
        shape = (cut.m, cut.n, cut.k, cut.k_rows, cut.row_panels, cut.lane_panels, cut.row_blocks)
        sizes = [*shape, cut.lane_blocks, cut.k_blocks, cut.column_bytes, *cut.panels]
        if cut.band is not None:
            sizes += sizes_of_tasks(cut.band)
        for e in (*sizes, cut.table_entries[0]):
            self.sizes[e]  # here, before the loops
        for loop in self.roles.batch:
            em.scalar(loop.extent)
        with self.fn.loop(frame.begin, frame.end) as number:
            self._task(em.inner(), self._place(em.inner(), number))
        return self.module.text()

    def _place(self, em: Emitter, number: Value) -> _Task:
        """The block of a task: rows fastest, then lanes, then batch."""
        fn, cut = self.fn, self.cut
        row_blocks, lane_blocks = self.sizes[cut.row_blocks], self.sizes[cut.lane_blocks]
        rest = quotient(fn, number, row_blocks)
        row_block = fn.sub(number, fn.mul(rest, row_blocks))
        batch = quotient(fn, rest, lane_blocks)
        lane_block = fn.sub(rest, fn.mul(batch, lane_blocks))
        width = fn.mul(self.sizes[cut.lane_panels], cut.panel)
        lane = fn.mul(lane_block, width)
        variables = split(em, self.roles.batch, batch)
        lines: list[Value] = []
        if cut.band is not None:
            *lines, row, rows = lines_of_task(fn, self.sizes, cut.band, row_block)
        else:
            height = fn.mul(self.sizes[cut.row_panels], cut.unit)
            row = fn.mul(row_block, height)
            rows = minimum(fn, height, fn.sub(self.sizes[cut.m], row))
        return _Task(
            [variables[loop.variable] for loop in self.roles.batch],
            batch,
            row,
            rows,
            lane,
            minimum(fn, width, fn.sub(self.sizes[cut.n], lane)),
            tuple(lines),
        )

    def _task(self, em: Emitter, task: _Task) -> None:
        """One task: few rows without copies if the operands allow it, else block by block of k."""
        fn, done = self.fn, self.fn.fresh_label("tasked")
        if self.thin:
            with self._few(task, max(self.thin), done):
                self._thin(em.inner(), task)
        if self.strips:
            finished = fn.variable("i64", i64(0))
            with fn.when(fn.icmp("sle", task.rows, max(rows for rows, _ in self.strips))):
                finished.set(self._strips(em.inner(), task))
            before = finished.get()
            left = fn.sub(task.lanes, before)
            task = replace(task, lane=fn.add(task.lane, before), lanes=left)
            some, fewer = fn.fresh_label("some"), fn.fresh_label("fewer")
            fn.branch(fn.icmp("sgt", left, 0), some, fewer)
            fn.label(fewer)
            fn.jump(done)
            fn.label(some)
        self._blocks(em.inner(), task)
        fn.jump(done)
        fn.label(done)

    @contextmanager
    def _few(self, task: _Task, most: int, done: str) -> Iterator[None]:
        """The instructions inside run instead of what follows if there are at most `most` rows."""
        fn = self.fn
        few, others = fn.fresh_label("few"), fn.fresh_label("others")
        fn.branch(fn.icmp("sle", task.rows, most), few, others)
        fn.label(few)
        yield
        fn.jump(done)
        fn.label(others)

    def _strips(self, em: Emitter, task: _Task) -> Value:
        """Strips of lanes, each over all k, as long as there is a whole one; the last one repeats
        lanes of the one before. How many lanes that are.
        """
        fn, cut, sums = self.fn, self.cut, self.memory["sums"]
        vectors, chosen, height = i64(0), i64(-1), i64(0)
        for number, (rows, width) in enumerate(self.strips):  # the last one that fits
            wide = fn.icmp("sge", task.lanes, width * cut.lanes)
            fits = fn.binary("and", wide, fn.icmp("sle", task.rows, rows))
            vectors = fn.select(fits, i64(width), vectors)
            chosen = fn.select(fits, i64(number), chosen)
            height = fn.select(fits, i64(rows), height)
        lanes = fn.mul(vectors, cut.lanes)
        step, end = fn.mul(lanes, cut.itemsize), fn.sub(task.lanes, lanes)
        k_blocks = self.sizes[cut.k_blocks]
        some = fn.select(fn.icmp("sgt", vectors, 0), task.lanes, i64(0))
        with fn.loop(i64(0), some, lanes) as begin:
            offset = minimum(fn, begin, end)
            part = replace(task, lane=fn.add(task.lane, offset))
            with fn.loop(i64(0), k_blocks) as block:
                here = em.inner()
                k, count, first, last = self._range(block, k_blocks)
                read = (
                    *self._streamed_a(here, part, k),
                    *self._direct(here, self.b, part, k, part.lane),
                )
                nothing = sums, i64(0), sums, i64(0)
                to, to_step = sums, step
                if self.place is not None:
                    result, row_step = self._stored(here, self.place, part)
                    final = fn.binary("and", last, fn.icmp("eq", task.rows, height))
                    to = fn.select(final, result, sums)
                    to_step = fn.select(final, row_step, step)
                written = sums, step, to, to_step, lanes
                given = *read, *written, task.rows, count, first, *nothing
                for which, strip in enumerate(self.strips.values()):
                    with fn.when(fn.icmp("eq", chosen, which)):
                        call(fn, strip, *given)
            known = fn.sub(begin, offset)
            new = task.row, task.rows, fn.add(task.lane, begin), fn.sub(lanes, known)
            place = fn.address(sums, fn.mul(known, cut.itemsize), "i8")
            with fn.when(TRUE if self.place is None else fn.icmp("ne", task.rows, height)):
                call(fn, self.epilogue, *part.batch, *new, place, step)
        return some

    def _streamed_a(self, em: Emitter, task: _Task, k: Value) -> tuple[Value, Value, Value]:
        """A from `k` on where it is, bytes from row to row, and from k to k."""
        size = i64(self.cut.itemsize)
        if self.read.by_rows:
            return *self._direct(em, self.a, task, task.row, k), size
        place, step = self._direct(em, self.a, task, k, task.row)
        return place, size, step

    def _thin(self, em: Emitter, task: _Task) -> None:
        """All k at once, panel by panel."""
        fn, cut = self.fn, self.cut
        a = self._streamed_a(em, task, i64(0))
        step, sums = i64(cut.panel_step), self.memory["sums"]
        with self._panels(task) as (_, part):
            b = self._direct(em.inner(), self.b, task, part.lane, i64(0))
            given = (*a, *b, sums, step, task.rows, part.lanes, self.sizes[cut.k])
            fewer = 0
            for rows, thin in self.thin.items():
                with fn.when(fn.icmp("ult", fn.sub(task.rows, fewer + 1), rows - fewer)):
                    call(fn, thin, *given)
                fewer = rows
            self._finish(part, sums)

    @contextmanager
    def _panels(self, task: _Task) -> Iterator[tuple[Value, _Task]]:
        """For each lane panel of a task: its number, and the task with these lanes only."""
        fn, cut = self.fn, self.cut
        panels = quotient(fn, fn.add(task.lanes, cut.panel - 1), i64(cut.panel))
        with fn.loop(i64(0), panels) as panel:
            offset = fn.mul(panel, cut.panel)
            lanes = minimum(fn, i64(cut.panel), fn.sub(task.lanes, offset))
            yield panel, replace(task, lane=fn.add(task.lane, offset), lanes=lanes)

    def _finish(self, part: _Task, sums: Value) -> None:
        """The stores of one panel."""
        result = (part.row, part.rows, part.lane, part.lanes, sums)
        turned = () if self.bander is None else (self.memory["turned"],)
        call(self.fn, self.epilogue, *part.batch, *result, i64(self.cut.panel_step), *turned)

    def _blocks(self, em: Emitter, task: _Task) -> None:
        fn, cut = self.fn, self.cut
        if self.bander is not None:
            call(fn, self.bander.rows, *task.lines[1:], *self._tables())
        elif self.cut.a_table_of_rows:
            self._write_table(self.pack_a, "a_table", task, task.row, task.rows)
        k_blocks = self.sizes[cut.k_blocks]
        # sums of different panels need different places only if they wait for another block of k
        several = fn.icmp("sgt", k_blocks, 1)
        column_step = fn.select(several, self.sizes[cut.column_bytes], i64(0))
        with fn.loop(i64(0), k_blocks) as number:
            block = self._block(em.inner(), task, number, k_blocks)
            if self.b.kind == "runs":
                self._write_table(self.pack_b, "b_table", task, block.k, block.count)
            with self._panels(task) as (panel, part):
                sums = fn.address(self.memory["sums"], fn.mul(panel, column_step), "i8")
                ahead = self._ahead(em.inner(), task, part, block)
                if self.bander is not None:
                    given = (part.row, part.lane, part.lanes, block.last, *ahead[:2])
                    call(fn, self.bander.panels, *task.batch, *given, self.memory["k_table"])
                *to, done = self._result(em.inner(), part, block, sums)
                self._panel(em.inner(), part, block, (sums, *to), ahead)
                left = fn.sub(part.rows, done)
                with fn.when(fn.binary("and", block.last, fn.icmp("sgt", left, 0))):
                    rest = replace(part, row=fn.add(part.row, done), rows=left)
                    place = fn.address(sums, fn.mul(done, cut.panel_step), "i8")
                    self._finish(rest, place)

    def _tables(self) -> tuple[Value, ...]:
        """What describes windows, if rows are windows."""
        return () if self.bander is None else (self.memory["a_table"], self.memory["k_table"])

    def _result(self, em: Emitter, part: _Task, block: _Block, sums: Value) -> tuple[Value, ...]:
        """Where tiles put the new sums of a panel, bytes from row to row, lanes of a row, and how
        many rows need no epilogue after that.
        """
        fn, cut, place = self.fn, self.cut, self.place
        if place is None:
            return sums, i64(cut.panel_step), i64(cut.panel), i64(0)
        result, step = self._stored(em, place, part)
        final = block.last
        if not has_masks(fn.module.target):
            exact = fn.icmp("eq", part.lanes, cut.panel)  # a tile as wide as the panel
            for width in self.sweeps if self.bander is None else ():
                exact = fn.binary("or", exact, fn.icmp("eq", part.lanes, width * cut.lanes))
            final = fn.binary("and", final, exact)
        over = fn.do("i64", f"urem i64 {part.rows.text}, {cut.tile_rows}")
        whole = fn.sub(part.rows, over) if self.bander is None else part.rows
        step = step if self.bander is None else i64(0)  # their table knows the places
        return (
            fn.select(final, result, sums),
            fn.select(final, step, i64(cut.panel_step)),
            fn.select(final, part.lanes, i64(cut.panel)),
            fn.select(final, whole, i64(0)),
        )

    def _stored(self, em: Emitter, place: Place, part: _Task) -> tuple[Value, Value]:
        """Where the kernel's one store has a part's first element, and bytes from row to row."""
        fn, dtype = self.fn, self.roles.dtype
        at = {loop.variable: x for loop, x in zip(self.roles.batch, part.batch, strict=True)}
        at[place.lanes] = part.lane
        if place.rows is not None:
            at[place.rows] = part.row
        elif place.steps:
            at |= split(em, self.roles.m, part.row)
        here = em.inner(at)
        index, row_step = here.scalar(place.index), here.scalar(place.row_step)
        first = fn.address(self.frame.pointer(place.operand), index, memory_type(dtype))
        return first, fn.mul(row_step, dtype.itemsize)

    def _write_table(
        self,
        packer: Packer | PairPacker | None,
        name: str,
        task: _Task,
        first: Value,
        count: Value,
    ) -> None:
        if packer is not None and packer.table is not None:
            given = (first, count, self.memory[name], self._capacity(name))
            call(self.fn, packer.table, *task.batch, *given)

    def _capacity(self, name: str) -> Value:
        entries = self.cut.table_entries
        return self.sizes[entries[0]] if name == "a_table" else i64(entries[1])

    def _block(self, em: Emitter, task: _Task, number: Value, k_blocks: Value) -> _Block:
        """One block of k, with this task's rows of A ready to be read."""
        fn, cut = self.fn, self.cut
        k, count, first, last = self._range(number, k_blocks)
        known = k, count, self._copied_rows(count), first, last
        a_step, a_k = i64(cut.a_step), i64(cut.itemsize)
        if self.bander is not None:
            given = (*task.lines, k, count, self.memory["k_table"], self.memory["a"])
            call(fn, self.bander.copy, *task.batch, *given)
            return _Block(*known, self.memory["a"], i64(0), i64(0))
        if self.read.a_packed:
            return _Block(*known, *self._packed(0, task, task.row, k, cut.unit), a_k)
        if self.read.a_in_place:
            return _Block(*known, *self._streamed_a(em, task, k))
        if not (self.read.by_rows and self.a.plain and self.a.kind == "runs"):
            self._copy_a(task, k, count)
            return _Block(*known, self.memory["a"], a_step, a_k)
        place, step = self._direct(em, self.a, task, task.row, k)
        dense = self._dense(em, self.a)
        if self.read.pairs:  # the last pair of an odd count is not in memory
            odd = fn.binary("and", self.sizes[cut.k], i64(1))
            dense = fn.binary("and", dense, fn.icmp("eq", odd, 0))
        with fn.when(fn.binary("xor", dense, TRUE)):
            self._copy_a(task, k, count)
        place = fn.select(dense, place, self.memory["a"])
        return _Block(*known, place, fn.select(dense, step, a_step), a_k)

    def _range(self, number: Value, k_blocks: Value) -> tuple[Value, Value, Value, Value]:
        """Where a block of k begins, how long it is, whether it is the first and the last."""
        fn = self.fn
        k = fn.mul(number, CONTRACT_BLOCK)
        count = minimum(fn, i64(CONTRACT_BLOCK), fn.sub(self.sizes[self.cut.k], k))
        first, last = fn.icmp("eq", number, 0), fn.icmp("eq", fn.add(number, 1), k_blocks)
        return k, count, first, last

    def _copied_rows(self, k: Value) -> Value:
        """Rows of a copy that so many k take."""
        if not self.read.pairs:
            return k
        return self.fn.do("i64", f"lshr i64 {self.fn.add(k, 1).text}, 1")

    def _copy_a(self, task: _Task, k: Value, count: Value) -> None:
        """This task's rows of A for one block of k."""
        assert self.pack_a is not None
        cut, target, table = self.cut, self.memory["a"], self.memory["a_table"]
        if not cut.a_table_of_rows:
            self._write_table(self.pack_a, "a_table", task, k, count)
        described = (table, self._capacity("a_table"))
        if self.read.by_rows:
            padded = count
            if self.read.pairs:  # an odd count needs a zero behind
                lanes = self.pack_a.lanes
                padded = self.fn.binary("and", self.fn.add(count, lanes - 1), i64(-lanes))
            matrix = (task.row, task.rows, k, count, target, i64(cut.a_step), padded)
            call(self.fn, self.pack_a.part, *task.batch, *matrix, *described)
            return
        to = Panels(target, i64(cut.a_step), cut.unit)
        copy_panels(
            self.fn, self.pack_a, task.batch, (k, count), (task.row, task.rows), to, described
        )

    def _packed(
        self, number: int, task: _Task, across: Value, k: Value, width: int
    ) -> tuple[Value, Value]:
        """Where a packed operand's panel has its row `k`, and bytes from panel to panel. `across`
        is the first of a panel.
        """
        fn, cut = self.fn, self.cut
        load = (self.roles.a, self.roles.b)[number]
        pointer = self.frame.pointer(load.value[0])
        before = fn.mul(task.number, self.sizes[cut.panels[number]])
        panel = fn.add(before, quotient(fn, across, i64(width)))
        row = width * cut.itemsize
        step = fn.mul(self.sizes[cut.k_rows], row)
        place = fn.address(pointer, fn.mul(panel, step), "i8")
        return fn.address(place, fn.mul(self._copied_rows(k), row), "i8"), step

    def _direct(
        self, em: Emitter, operand: View, task: _Task, across: Value, along: Value
    ) -> tuple[Value, Value]:
        """Address of an element of a plain operand, and bytes from one of its runs to the next."""
        fn, batch = self.fn, self.roles.batch
        assert operand.parts is not None and operand.load is not None
        at = {loop.variable: x for loop, x in zip(batch, task.batch, strict=True)}
        at |= {loop.variable: i64(0) for loop in (*operand.rows, *operand.columns)}
        at |= {loop.variable: across for loop in operand.across()[0]}
        here = em.inner(at)
        index = fn.add(here.scalar(operand.parts[0]), here.scalar(operand.parts[1]))
        number = operand.load.operand
        dtype = operand.load.dtype
        place = fn.address(self.frame.pointer(number), fn.add(index, along), memory_type(dtype))
        return place, fn.mul(here.scalar(operand.across_step()), dtype.itemsize)

    def _dense(self, em: Emitter, operand: View) -> Value:
        """i1: do the columns of a plain operand follow each other in memory?"""
        condition = TRUE
        for outer, inner in operand.dense():
            same = self.fn.icmp("eq", em.scalar(outer), em.scalar(inner))
            condition = self.fn.binary("and", condition, same)
        return condition

    def _panel(
        self,
        em: Emitter,
        task: _Task,
        block: _Block,
        sums: tuple[Value, ...],
        ahead: tuple[Value, ...],
    ) -> None:
        """Multiply all rows of the task with one panel of B. `sums`: earlier ones, where the new
        ones go, bytes from row to row of these, and lanes of a row.
        """
        fn, cut = self.fn, self.cut
        vectors = quotient(fn, fn.add(task.lanes, cut.lanes - 1), i64(cut.lanes))
        if self.pack_b is None:
            b, b_step = self._packed(1, task, task.lane, block.k, cut.panel)[0], i64(cut.panel_step)
        else:
            b, b_step = self._panel_of_b(em, self.pack_b, task, block, vectors)
        panel = (block.a, block.a_step, block.a_k, b, b_step, sums[0], i64(cut.panel_step))
        sizes = (task.rows, block.rows, block.first)
        a_ahead = i64(0 if self.read.by_rows else contract_tile.LINE)
        given = (*panel, *sums[1:], *sizes, *ahead, a_ahead, *self._tables())
        self._multiply(vectors, task.rows, given)

    def _panel_of_b(
        self, em: Emitter, packer: Packer | PairPacker, task: _Task, block: _Block, vectors: Value
    ) -> tuple[Value, Value]:
        """One panel of B: where it is if it is a whole one and memory runs along it, or copied."""
        fn, cut = self.fn, self.cut
        step = i64(cut.panel_step)
        b, b_step = fn.variable("ptr", self.memory["b"]), fn.variable("i64", step)
        copied = TRUE
        if self.read.b_in_place:
            copied = fn.icmp("slt", task.lanes, cut.panel)
            place, direct_step = self._direct(em, self.b, task, block.k, task.lane)
            b.set(fn.select(copied, b.get(), place))
            b_step.set(fn.select(copied, b_step.get(), direct_step))
        with fn.when(copied):
            if self.b.kind != "runs":
                self._write_table(packer, "b_table", task, task.lane, task.lanes)
            matrix = (block.k, block.count, task.lane, task.lanes, self.memory["b"], step)
            table = (self.memory["b_table"], self._capacity("b_table"))
            padded = fn.mul(vectors, cut.lanes)
            call(fn, packer.part, *task.batch, *matrix, padded, *table)
        return b.get(), b_step.get()

    def _ahead(
        self, em: Emitter, task: _Task, part: _Task, block: _Block
    ) -> tuple[Value, Value, Value]:
        """Where the next panel of B lies, and bytes from k to k, if that is one step."""
        fn, b = self.fn, self.b
        following = fn.add(part.lane, self.cut.panel)
        inside = fn.icmp("slt", following, fn.add(task.lane, task.lanes))
        lane = fn.select(inside, following, task.lane)
        k = fn.select(inside, block.k, fn.add(block.k, CONTRACT_BLOCK))
        table = self.memory["b_table"]
        if self.pack_b is None:  # panels of one block of k follow each other at a distance
            place, _ = self._packed(1, task, lane, k, self.cut.panel)
            return place, i64(self.cut.panel_step), table
        if b.kind != "runs" or b.load is None or b.parts is None:
            return self.memory["b"], i64(0), table
        at = {loop.variable: x for loop, x in zip(self.roles.batch, task.batch, strict=True)}
        at |= {loop.variable: k for loop in b.rows} | split(em, b.columns, lane)
        here = em.inner(at)
        index, step = here.scalar(b.parts[1]), i64(0)
        if self.pack_b.table is None and b.plain_across:
            index = fn.add(index, here.scalar(b.parts[0]))
            step = fn.mul(here.scalar(b.across_step()), b.load.dtype.itemsize)
        place = self.frame.pointer(b.load.value[0])
        return fn.address(place, index, memory_type(b.load.dtype)), step, table

    def _multiply(self, vectors: Value, rows: Value, given: tuple[Value, ...]) -> None:
        """Whole tiles of the least width that covers the vectors, then half a one if need be."""
        fn, narrower = self.fn, 0
        half = contract_tile.half(self.tiled)
        with fn.when(fn.icmp("sgt", rows, half)):
            for width, part in self.sweeps.items():
                fits = fn.icmp("ule", fn.sub(vectors, narrower + 1), width - narrower - 1)
                with fn.when(fits):
                    call(fn, part, *given)
                narrower = width
        over = fn.do("i64", f"urem i64 {rows.text}, {self.cut.tile_rows}")
        with fn.when(fn.icmp("ult", fn.sub(over, 1), half)):
            call(fn, self.rest, *given)


def _expanded(given: Roles) -> Roles:
    """The roles with only primitive scalar rows."""
    stores = tuple(Store(s.operand, s.index, expand_all(s.value)) for s in given.stores)
    return replace(given, a=expand_all(given.a), b=expand_all(given.b), stores=stores)
