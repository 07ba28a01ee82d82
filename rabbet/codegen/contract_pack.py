"""Copying an operand of a contraction into the layout that the register tile reads.

The copy is a matrix D[rows][columns] with columns side by side: for A rows are m and columns k, for
B rows are k and columns n. Where the operand's own memory runs along the columns, runs are copied;
where it runs along the rows, blocks are turned in registers; anything else goes element by element.
Values outside the operand (padding) become its fill value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rabbet.base.dtypes import DType, int64
from rabbet.codegen.contract_axes import Loops, View
from rabbet.codegen.contract_loops import (
    Part,
    Run,
    chunks,
    first_lanes,
    minimum,
    prefetch,
    runs,
    walk,
)
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.operations import from_memory, has_masks, memory_type, register_type
from rabbet.expr.expr import acc, const, substitute
from rabbet.kernel.loops import Operand

# rows, columns: flat numbers of the first ones and how many; target: D, with `step` bytes from row
# to row, written in whole vectors; padded: columns up to here are set to 0 where there is no
# element; table: see `Packer.table`.
PARAMETERS = (
    ("i64", "row"),
    ("i64", "rows"),
    ("i64", "column"),
    ("i64", "columns"),
    ("ptr noalias", "target"),
    ("i64", "step"),
    ("i64", "padded"),
    ("ptr noalias readonly", "table"),
    ("i64", "capacity"),
)
TABLE_PARAMETERS = (
    ("i64", "first"),
    ("i64", "count"),
    ("ptr noalias", "table"),
    ("i64", "capacity"),
)


TURN_AHEAD = 128
AHEAD = 8  # rows that are fetched before they are copied
TOGETHER = 32  # rows whose vectors of the same columns are copied side by side


def batch_parameters(batch: Loops) -> tuple[tuple[str, str], ...]:
    """One parameter for each batch variable."""
    return tuple(("i64", f"batch{loop.variable}") for loop in batch)


def batch_emitter(part: Part, batch: Loops) -> Emitter:
    """An emitter that knows the batch variables of a part."""
    return Emitter(part, {loop.variable: part[f"batch{loop.variable}"] for loop in batch})


class Packer:
    """The functions that copy one operand.

    `table` describes the axis that memory does not run along, if it has several loops: for each
    flat number the offset in memory, then, in further columns of `capacity` entries, the loop
    variables that the padding depends on. It is None where nothing has to be described.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        operands: Sequence[Operand],
        dtype: DType,
        batch: Loops,
        view: View,
    ) -> None:
        self.dtype, self.batch, self.view = dtype, batch, view
        self.lanes = module.target.lanes(dtype.bits)
        self.valid = view.valid
        self.table: Part | None = None
        if view.table_columns:
            self.table = Part(
                module, f"{name}_table", operands, (*batch_parameters(batch), *TABLE_PARAMETERS)
            )
            self._write_table(self.table)
        self.part = Part(module, name, operands, (*batch_parameters(batch), *PARAMETERS))
        fn = self.part.fn
        rows, columns = self.part["rows"], self.part["columns"]
        some = fn.binary("and", fn.icmp("sgt", rows, 0), fn.icmp("sgt", columns, 0))
        with fn.when(some):
            self._pad()
            copy = {"runs": self._copy_runs, "turned": self._turn, "gathered": self._gather}
            copy.get(view.kind, self._copy_any)()

    def _source(self) -> tuple[Value, str]:
        """The operand's address and the type of its elements in memory."""
        assert self.view.load is not None
        operand = self.view.load.operand
        return self.part.pointer(operand), memory_type(self.view.load.dtype)

    def _emitter(self) -> Emitter:
        return batch_emitter(self.part, self.batch)

    # ------------------------------------------------------------------ the axis beside memory's

    def _write_table(self, part: Part) -> None:
        fn, em = part.fn, batch_emitter(part, self.batch)
        loops, index = self.view.across()
        with fn.when(fn.icmp("sgt", part["count"], 0)):
            with walk(em, loops, part["first"], part["count"]) as (t, at):
                offset = em.inner(at).scalar(index)
                for number, value in enumerate(
                    (offset, *(at[v.variable] for v in self.view.tabled()))
                ):
                    place = fn.add(t, fn.mul(part["capacity"], number))
                    fn.store(value, fn.address(part["table"], place, "i64"))

    def _offset(self, em: Emitter, first: Value, t: Value) -> Value:
        """The index part of point `first + t` of that axis."""
        loops, index = self.view.across()
        fn = self.part.fn
        if self.table is None:
            return em.inner({loop.variable: fn.add(first, t) for loop in loops}).scalar(index)
        return fn.load("i64", fn.address(self.part["table"], t, "i64"))

    def _at(self, first: Value, t: Value) -> dict[int, Value]:
        """The variables of that axis at point `first + t`, as far as padding depends on them."""
        fn = self.part.fn
        if self.table is None:
            return {loop.variable: fn.add(first, t) for loop in self.view.across()[0]}
        found = {}
        for number, loop in enumerate(self.view.tabled(), 1):
            place = fn.add(t, fn.mul(self.part["capacity"], number))
            found[loop.variable] = fn.load("i64", fn.address(self.part["table"], place, "i64"))
        return found

    # ------------------------------------------------------------------ common steps

    def _pad(self) -> None:
        """Zero the last vector of every row if the columns do not fill it."""
        fn, part = self.part.fn, self.part
        kind = register_type(self.dtype, self.lanes)
        with fn.when(fn.icmp("slt", part["columns"], part["padded"])):
            last = fn.mul(fn.sub(part["padded"], self.lanes), self.dtype.itemsize)
            with fn.loop(i64(0), part["rows"]) as t:
                fn.store(literal(0, kind), fn.address(self._row(t), last, "i8"))

    def _row(self, t: Value) -> Value:
        fn, part = self.part.fn, self.part
        return fn.address(part["target"], fn.mul(t, part["step"]), "i8")

    def _read(self, em: Emitter, address: Value, width: int, mask: Value | None) -> Value:
        """Consecutive elements (the fill where the mask does not hold), cast as the view says."""
        load = self.view.load
        assert load is not None
        if self.view.kind == "runs" and self.view.stride == 2:
            found = self._every_second(address, width, mask)
        else:
            found = self._consecutive(address, width, mask)
        return self._converted(em, found, width)

    def _converted(self, em: Emitter, found: Value, width: int) -> Value:
        """What the view makes of elements as they are in memory."""
        load = self.view.load
        assert load is not None
        value = from_memory(self.part.fn, found, load.dtype)
        if self.view.value is load:
            return value
        loaded = acc(0, load.dtype)
        (casts,) = substitute((self.view.value,), lambda e: loaded if e is load else None)
        return em.inner({}, {0: value}, lanes=width, vector=-1).value(casts)

    def _consecutive(self, address: Value, width: int, mask: Value | None) -> Value:
        load = self.view.load
        assert load is not None
        kind = memory_type(load.dtype, width)
        if mask is None:
            return self.part.fn.load(kind, address)
        fill = literal(load.value[1], kind)
        return self.part.fn.masked_load(kind, address, mask, fill)

    def _every_second(self, address: Value, width: int, mask: Value | None) -> Value:
        """Elements 0, 2, 4, ... from two vectors; the second ends with the last one needed."""
        assert self.view.load is not None
        fn, element = self.part.fn, memory_type(self.view.load.dtype)
        upper = fn.address(address, i64(width - 1), element)
        low_mask = high_mask = mask
        if mask is not None:
            none = literal(False, mask.type)
            half = [lane // 2 if lane % 2 == 0 else width for lane in range(width)]
            low_mask = fn.shuffle(mask, none, half)
            half = [(width - 1 + lane) // 2 if lane % 2 else width for lane in range(width)]
            high_mask = fn.shuffle(mask, none, half)
        low = self._consecutive(address, width, low_mask)
        high = self._consecutive(upper, width, high_mask)
        picks = [*range(0, width, 2), *range(width + 1, 2 * width, 2)]
        return fn.shuffle(low, high, picks)

    def _write(self, value: Value, address: Value, mask: Value | None) -> None:
        if mask is None:
            self.part.fn.store(value, address)
        else:
            self.part.fn.masked_store(value, address, mask)

    # ------------------------------------------------------------------ memory along the columns

    def _copy_runs(self) -> None:
        part, view = self.part, self.view
        assert view.parts is not None
        source, element = self._source()
        em = self._emitter()
        with runs(em, view.columns, part["column"], part["columns"]) as run:
            start = em.inner(run.variables).scalar(view.parts[1])
            first = part.fn.address(source, start, element)
            if self.valid is None:
                self._copy_run(em, run, first, element)
            else:
                self._copy_padded_run(em, run, first, element)

    def _copy_run(self, em: Emitter, run: Run, first: Value, element: str) -> None:
        """Some rows, vector by vector: short loops, and few pages at a time."""
        fn, part = self.part.fn, self.part
        wide, row = register_type(self.dtype), part["row"]
        with fn.loop(i64(0), part["rows"], TOGETHER) as begin:
            end = minimum(fn, fn.add(begin, TOGETHER), part["rows"])
            for offset, width, mask in chunks(fn, run.length, self.lanes):
                distance = fn.mul(offset, self.view.stride)
                from_here = fn.address(first, distance, element)
                to_here = fn.add(run.position, offset)
                with fn.loop(begin, end) as t:
                    later = fn.add(t, AHEAD)
                    if self.table is not None:  # it ends there
                        later = minimum(fn, later, fn.sub(part["rows"], 1))
                    ahead = self._offset(em.inner(), row, later)
                    prefetch(fn, fn.address(from_here, ahead, element))
                    here = self._offset(em.inner(), row, t)
                    value = self._read(em, fn.address(from_here, here, element), width, mask)
                    self._write(value, fn.address(self._row(t), to_here, wide), mask)

    def _copy_padded_run(self, em: Emitter, run: Run, first: Value, element: str) -> None:
        """Find the valid lanes once for all rows whose padding is the same."""
        fn, valid = self.part.fn, self.valid
        assert valid is not None and run.last is not None
        wide = register_type(self.dtype)
        fixed = {v: x for v, x in run.variables.items() if v != run.last}
        for offset, width, mask in chunks(fn, run.length, self.lanes):
            column = fn.add(run.variables[run.last], offset)
            lane = em.inner({**fixed, run.last: column}, lanes=width, vector=run.last, mask=mask)
            lane.hoist([valid], {loop.variable for loop in self.view.rows})
            from_here = fn.address(first, fn.mul(offset, self.view.stride), element)
            to_here = fn.add(run.position, offset)
            with self._alike(em) as (t0, end, step):
                inside = lane.inner(self._at(self.part["row"], t0)).value(valid)
                if mask is not None:
                    inside = fn.binary("and", inside, mask)
                with fn.loop(t0, end, step) as t:
                    here = self._offset(em.inner(), self.part["row"], t)
                    value = self._read(em, fn.address(from_here, here, element), width, inside)
                    self._write(value, fn.address(self._row(t), to_here, wide), mask)

    @contextmanager
    def _alike(self, em: Emitter) -> Iterator[tuple[Value, Value, Value]]:
        """Sets of rows with the same padding, as first row, end and step.

        Where padding depends on outer loops, each run of the loops inside them is such a set; where
        it depends on the last loop, rows that are a period of the inner loops apart.
        """
        fn, part = self.part.fn, self.part
        loops, in_padding = self.view.rows, self.view.tabled()
        used = [n for n, loop in enumerate(loops) if loop in in_padding]
        inside = self._extent(em, loops[used[-1] + 1 :] if used else loops)
        if used and used[-1] == len(loops) - 1:
            period = minimum(fn, self._extent(em, loops[used[0] :]), part["rows"])
            with fn.loop(i64(0), period) as t0:
                yield t0, part["rows"], period
            return
        sets = fn.fresh_label("alike")
        done = fn.fresh_label("unlike")
        into = fn.do("i64", f"urem i64 {part['row'].text}, {inside.text}")
        begin, left = fn.variable("i64", i64(0)), fn.variable("i64", fn.sub(inside, into))
        fn.jump(sets)
        fn.label(sets)
        t0 = begin.get()
        end = fn.add(t0, minimum(fn, left.get(), fn.sub(part["rows"], t0)))
        yield t0, end, i64(1)
        begin.set(end)
        left.set(inside)
        fn.branch(fn.icmp("slt", end, part["rows"]), sets, done)
        fn.label(done)

    def _extent(self, em: Emitter, loops: Loops) -> Value:
        """How many points some loops have."""
        total = const(1, int64)
        for loop in loops:
            total = total * loop.extent
        return em.inner().scalar(total)

    # ------------------------------------------------------------------ memory along the rows

    def _turn(self) -> None:
        """Blocks of lanes x lanes: read along the rows, turned, written along the columns."""
        part, view, fn = self.part, self.view, self.part.fn
        assert view.parts is not None
        source, element = self._source()
        lanes, em = self.lanes, self._emitter()
        spare = fn.allocate(f"[{lanes} x {register_type(self.dtype, lanes)}]")
        with runs(em, view.rows, part["row"], part["rows"]) as run:
            start = em.inner(run.variables).scalar(view.parts[0])
            first = fn.address(source, start, element)
            with fn.loop(i64(0), part["columns"], lanes) as c:
                columns = fn.sub(part["columns"], c)
                with fn.loop(i64(0), run.length, lanes) as r:
                    rows = fn.sub(run.length, r)
                    here = fn.address(first, r, element)
                    block = self._block(em, run, (r, rows), (c, columns), here, element, spare)
                    self._write_turned(block, fn.add(run.position, r), rows, c)

    def _block(
        self,
        em: Emitter,
        run: Run,
        row: tuple[Value, Value],
        column: tuple[Value, Value],
        source: Value,
        element: str,
        spare: Value,
    ) -> list[Value]:
        """One vector along the rows for each column of a block; missing columns are 0."""
        fn, lanes = self.part.fn, self.lanes
        kind = register_type(self.dtype, lanes)
        spares = [fn.address(spare, i64(i), kind) for i in range(lanes)]
        if self.valid is not None or self.view.value is not self.view.load:
            self._gather_columns(em, run, row, column, source, element, spare)
            return [fn.load(kind, place) for place in spares]
        whole, part, done = (fn.fresh_label(n) for n in ("whole", "part", "block"))
        mask = first_lanes(fn, row[1], lanes) if has_masks(self.part.target) else None
        fits = column[1] if mask is not None else minimum(fn, row[1], column[1])
        fn.branch(fn.icmp("sge", fits, lanes), whole, part)
        fn.label(whole)
        found = []
        for i in range(lanes):
            offset = self._offset(em.inner(), self.part["column"], fn.add(column[0], i))
            place = fn.address(source, offset, element)
            if TURN_AHEAD:
                prefetch(fn, fn.address(place, i64(TURN_AHEAD), element))
            if mask is None:
                found.append(fn.load(kind, place))
            else:
                found.append(fn.masked_load(kind, place, mask, literal(0, kind)))
        fn.jump(done)
        fn.label(part)
        self._gather_columns(em, run, row, column, source, element, spare)
        slow = [fn.load(kind, place) for place in spares]
        from_slow = fn.block
        fn.jump(done)
        fn.label(done)
        return [
            fn.do(kind, f"phi {kind} [ {x.text}, %{whole} ], [ {y.text}, %{from_slow} ]")
            for x, y in zip(found, slow, strict=True)
        ]

    def _gather_columns(
        self,
        em: Emitter,
        run: Run,
        row: tuple[Value, Value],
        column: tuple[Value, Value],
        source: Value,
        element: str,
        spare: Value,
    ) -> None:
        """The block's columns into `spare`, each under the mask of its valid rows."""
        fn, lanes = self.part.fn, self.lanes
        kind = register_type(self.dtype, lanes)
        columns = minimum(fn, column[1], i64(lanes))
        mask = first_lanes(fn, row[1], lanes)
        fixed = {v: x for v, x in run.variables.items() if v != run.last}
        outer = em.inner(fixed)
        if self.valid is not None:
            assert run.last is not None
            moved = fn.add(run.variables[run.last], row[0])
            outer = outer.inner({run.last: moved}, lanes=lanes, vector=run.last)
            outer.hoist([self.valid], {loop.variable for loop in self.view.columns})
        with fn.loop(i64(0), columns) as i:
            t = fn.add(column[0], i)
            inside = mask
            if self.valid is not None:
                at = self._at(self.part["column"], t)
                inside = fn.binary("and", mask, outer.inner(at).value(self.valid))
            here = fn.address(source, self._offset(em.inner(), self.part["column"], t), element)
            fn.store(self._read(em, here, lanes, inside), fn.address(spare, i, kind))
        with fn.loop(columns, i64(lanes)) as i:
            fn.store(literal(0, kind), fn.address(spare, i, kind))

    def _write_turned(self, block: list[Value], first: Value, rows: Value, column: Value) -> None:
        """The rows of a turned block, as many as there are."""
        fn = self.part.fn
        turned = transpose(fn, block, self.dtype.bits)
        element = register_type(self.dtype)
        whole, part, done = (fn.fresh_label(n) for n in ("all", "some", "written"))
        fn.branch(fn.icmp("sge", rows, self.lanes), whole, part)
        fn.label(whole)
        for i, row in enumerate(turned):
            fn.store(row, fn.address(self._row(fn.add(first, i)), column, element))
        fn.jump(done)
        fn.label(part)
        for i, row in enumerate(turned[:-1]):
            with fn.when(fn.icmp("sgt", rows, i)):
                fn.store(row, fn.address(self._row(fn.add(first, i)), column, element))
        fn.jump(done)
        fn.label(done)

    # ------------------------------------------------------------------ memory along neither

    def _gather(self) -> None:
        """Row by row: the offsets of the columns are in the table."""
        part, view, fn = self.part, self.view, self.part.fn
        assert view.parts is not None and view.load is not None
        source, element = self._source()
        em, wide = self._emitter(), register_type(self.dtype)
        with walk(em, view.rows, part["row"], part["rows"]) as (t, at):
            start = fn.address(source, em.inner(at).scalar(view.parts[0]), element)
            for offset, width, mask in chunks(fn, part["columns"], self.lanes):
                entries = fn.address(part["table"], offset, "i64")
                places = fn.address(start, fn.load(f"<{width} x i64>", entries), element)
                if mask is not None:  # entries behind the last column are stale
                    places = fn.select(mask, places, fn.splat(source, width))
                kind = memory_type(view.load.dtype, width)
                every = literal(True, f"<{width} x i1>")
                found = fn.gather(kind, places, every, literal(0, kind))
                place = fn.address(self._row(t), offset, wide)
                self._write(self._converted(em, found, width), place, mask)

    # ------------------------------------------------------------------ anything

    def _copy_any(self) -> None:
        """Any expression, element by element along the columns' runs."""
        part, view, fn = self.part, self.view, self.part.fn
        em, element = self._emitter(), register_type(self.dtype)
        with runs(em, view.columns, part["column"], part["columns"]) as run:
            outer = em.inner({v: x for v, x in run.variables.items() if v != run.last})
            moves = run.last is not None
            with walk(outer, view.rows, part["row"], part["rows"]) as (t, at):
                place = fn.address(self._row(t), run.position, element)
                row = outer.inner(at)
                for offset, width, mask in chunks(fn, run.length, self.lanes, moves=moves):
                    moving = {}
                    if run.last is not None:
                        moving[run.last] = fn.add(run.variables[run.last], offset)
                    point = row.inner(moving, lanes=width, vector=run.last, mask=mask)
                    value = point.value(view.value)
                    self._write(value, fn.address(place, offset, element), mask)
