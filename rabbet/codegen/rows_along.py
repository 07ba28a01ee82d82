"""RowKernels whose vectors run along the last inner loop; reductions keep LANES partial sums."""

from __future__ import annotations

from typing import TypeAlias

from rabbet.base.dtypes import int64
from rabbet.codegen.contract_axes import polynomial
from rabbet.codegen.contract_loops import prefetch
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Value, i64
from rabbet.codegen.operations import has_masks, memory_type
from rabbet.codegen.reductions import (
    LaneMemory,
    LaneRegisters,
    combine,
    lane_registers,
    masked,
    parts,
)
from rabbet.codegen.rows_shared import Bounds, Writer, splits_inner, sweep_roots, task_points
from rabbet.codegen.rows_streamed import all_aligned, streamed_bytes
from rabbet.codegen.stepping import operations, tail_mask, tasks, vectors
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr, const, topological
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import LANES, Reduction, Sweep

Accs: TypeAlias = dict[int, Value]
Ahead: TypeAlias = tuple[Value, str, str]  # address, type of an element, 0 to read or 1 to write
_LARGEST_BODY = 400  # operations in all copies of a sweep's body
_MOST_AHEAD = 4  # streams that are asked for ahead of the program
_WINDOW = 4  # elements around a place that make a window, of which the next ones are asked for
_AHEAD = 1 << 14  # bytes
_LINE = 64  # bytes of a line of the cache


class Along(Writer):
    """Vectors run along the last inner loop; one scalar per row is left of a reduction."""

    ahead: list[Ahead]
    windows_read: list[Expr]
    streams: Value | None = None  # do the results of the last sweep go past the caches?

    def write(self) -> None:
        kernel, frame = self.kernel, self.frame
        self.windows_read = self.windows()
        nbytes = streamed_bytes(kernel, frame.target)
        if nbytes is not None and self.lanes > 1:
            size = self.root.scalar(expand_all(nbytes))
            self.streams = self.fn.icmp("sge", size, frame.target.l3_bytes)
        if kernel.outer:
            with tasks(self.fn, frame.begin, frame.end, self.outer) as variables:
                self.row(self.root.inner(variables), None)
        elif splits_inner(kernel):
            self.row(self.root.inner(), self.task_bounds())
        else:
            with self.fn.when(self.fn.icmp("slt", frame.begin, frame.end)):
                self.row(self.root.inner(), None)
        if self.streams is not None:
            with self.fn.when(self.streams):  # other threads see the results only after this
                self.fn.intrinsic("x86.sse.sfence", "void")

    def task_bounds(self) -> Bounds:
        """Where a range of tasks of a kernel without outer loops begins and ends."""
        step = task_points(self.kernel)
        low, high = self.fn.mul(self.frame.begin, step), self.fn.mul(self.frame.end, step)
        return low, self.fn.intrinsic("smin.i64", "i64", high, self.inner[0])

    def row(self, em: Emitter, part: Bounds | None) -> None:
        """All sweeps of one row, then the finish."""
        self.check(em, inside=False)
        accs: Accs = {}
        for number, sweep in enumerate(self.kernel.sweeps):
            self.ahead = self.wanted(em, number)
            found = self.sweep(em.inner(accs=accs), sweep, part, number == 0)
            accs.update(dict(enumerate(found, len(accs))))
        self.store(em.inner(accs=accs), self.kernel.finish)

    def windows(self) -> list[Expr]:
        """Loads of a map that moves a window over what it reads: one for each row of a window.

        What walks ahead of the program by itself does not follow these rows once they are longer
        than the caches.
        """
        if self.lanes == 1 or not self.kernel.inner or len(self.kernel.sweeps) != 1:
            return []
        (sweep,) = self.kernel.sweeps
        if sweep.reductions:
            return []
        rows: dict[int, dict[frozenset[object], list[Expr]]] = {}
        last = self.rank + len(self.kernel.inner) - 1
        for e in topological(sweep_roots(sweep)):
            step = coefficient(e.args[0], last) if e.op == "load" else None
            if step is not None and step.op == "const" and step.value:
                row = frozenset((m, c) for m, c in polynomial(e.args[0]).items() if m)
                rows.setdefault(e.operand, {}).setdefault(row, []).append(e)
        return [
            loads[0]
            for found in rows.values()
            if sum(map(len, found.values())) >= _WINDOW > len(found)
            for loads in found.values()
        ]

    def fetch_windows(self, em: Emitter) -> None:
        """Ask for what windows will read a little later."""
        last = self.rank + len(self.kernel.inner) - 1
        for e in self.windows_read:
            step = coefficient(e.args[0], last)
            assert step is not None and isinstance(step.value, int)  # see `windows`
            length = em.lanes * step.value * e.dtype.itemsize
            kind = memory_type(e.dtype)
            here = self.fn.address(self.frame.pointer(e.operand), em.scalar(e.args[0]), kind)
            for line in range(0, max(length, 1), _LINE):
                prefetch(self.fn, self.fn.address(here, i64(_AHEAD + line), "i8"), soon=False)

    def wanted(self, em: Emitter, number: int) -> list[Ahead]:
        """What is asked for during sweep `number`: what walks along rows ahead of the program by
        itself, in hardware, stops at the end of a page.

        Elements of the next row that the first sweep reads, while the dearest of the other sweeps
        computes; places that the last sweep will write through the caches, while the one before
        it does.
        """
        sweeps = self.kernel.sweeps
        if len(sweeps) < 2 or len(self.kernel.inner) != 1 or self.rank == 0 or self.lanes == 1:
            return []
        loads = [e for e in topological(sweep_roots(sweeps[0])) if e.op == "load"]
        reads = [(e.operand, e.args[0]) for e in loads if len(e.args) == 1]
        found: list[Ahead] = []
        if number == max(range(1, len(sweeps)), key=lambda n: operations(sweep_roots(sweeps[n]))):
            row = {self.rank - 1: self.fn.add(em.variables[self.rank - 1], 1)}
            found += self.starts(self.root.inner({**em.variables, **row}), reads, "0")
        if number == len(sweeps) - 2:
            places = self.starts(em, [(s.operand, s.index) for s in sweeps[-1].stores], "1")
            near = self.starts(em, reads, "1")[:1]
            if self.streams is not None and near:
                # Those places would have to leave the caches again: then something that is there.
                there = near[0][0]
                places = [(self.fn.select(self.streams, there, b), k, i) for b, k, i in places]
            found += places
        return found[:_MOST_AHEAD]

    def starts(self, em: Emitter, indices: list[tuple[int, Expr]], intent: str) -> list[Ahead]:
        """Addresses at the beginning of a row, where its elements lie one beside the other."""
        last = self.rank
        em = em.inner({last: i64(0)})
        found: list[Ahead] = []
        for operand, index in indices:
            kind = memory_type(self.kernel.operands[operand].dtype)
            moves = coefficient(index, self.rank - 1) is not const(0, int64)
            if moves and coefficient(index, last) is const(1, int64):
                base = self.fn.address(self.frame.pointer(operand), em.scalar(index), kind)
                found.append((base, kind, intent))
        return found

    def sweep(self, em: Emitter, sweep: Sweep, part: Bounds | None, first: bool) -> list[Value]:
        """One pass over the inner loops; gives the results of its reductions."""
        roots = list(sweep_roots(sweep))
        depth = len(self.kernel.inner)
        held: list[LaneRegisters] = []
        if depth and self.stays_in_registers(sweep):
            held = [lane_registers(self.fn, r, self.lanes) for r in sweep.reductions]
        memories = [] if held else [LaneMemory(self.fn, r) for r in sweep.reductions]
        for memory in memories:
            memory.clear()
        if depth == 0:
            self.point(em, sweep, memories, i64(0), first)
        else:
            last = self.rank + depth - 1
            bounds = self.bounds(em, part)
            with self.nested([em], roots, self.rank, depth - 1, bounds) as (inside,):
                low, high = bounds if depth == 1 else (i64(0), self.inner[-1])
                with self.fn.when(self.fn.icmp("slt", low, high)):
                    line = inside.inner()
                    line.hoist(roots, {last})
                    if held:
                        self.registers(line, sweep, held, (low, high), first)
                    else:
                        self.line(line, sweep, memories, low, high, first)
        return [r.result() for r in (held or memories)]

    def stays_in_registers(self, sweep: Sweep) -> bool:
        """Does even the tail leave the partial sums in registers?"""
        copies = 2 * LANES // self.lanes
        small = copies * operations(sweep_roots(sweep)) <= _LARGEST_BODY
        masks = self.lanes > 1 and has_masks(self.frame.target)
        return bool(sweep.reductions) and masks and small and self.fits(sweep)

    def registers(
        self,
        em: Emitter,
        sweep: Sweep,
        held: list[LaneRegisters],
        bounds: Bounds,
        first: bool,
    ) -> None:
        """The innermost loop of a sweep: whole groups of LANES elements, then one under masks."""
        variable = self.rank + len(self.kernel.inner) - 1
        begin, end = bounds  # begins at a multiple of LANES
        stop = self.fn.binary("and", end, i64(-LANES))
        with self.fn.loop(begin, stop, LANES) as i:
            for number in range(LANES // self.lanes):
                at = {variable: self.fn.add(i, number * self.lanes)}
                inside = em.inner(at, lanes=self.lanes, vector=variable)
                self.vector(inside, sweep, held, number, first)
        for number in range(LANES // self.lanes):
            start = self.fn.add(stop, number * self.lanes)
            with self.fn.when(self.fn.icmp("slt", start, end)):
                mask = tail_mask(self.fn, self.fn.sub(end, start), self.lanes)
                at = {variable: start}
                inside = em.inner(at, lanes=self.lanes, vector=variable, mask=mask)
                self.vector(inside, sweep, held, number, first)

    def vector(
        self, em: Emitter, sweep: Sweep, held: list[LaneRegisters], number: int, first: bool
    ) -> None:
        """One vector of elements: checks, partial sums in registers, stores."""
        if first:
            self.check(em, inside=True)
        for lanes in held:
            lanes.add(number, self.elements(em, lanes.reduction), em.mask)
        self.store(em, sweep.stores)
        self.fetch(em)

    def fetch(self, em: Emitter) -> None:
        """Ask for what `wanted` says at this vector's place in the row."""
        if em.mask is not None:
            return
        at = em.variables[self.rank + len(self.kernel.inner) - 1] if self.ahead else i64(0)
        for base, kind, intent in self.ahead:
            how = (Value(intent, "i32"), Value("3", "i32"), Value("1", "i32"))  # near, data
            self.fn.intrinsic("prefetch.p0", "void", self.fn.address(base, at, kind), *how)

    def line(
        self,
        em: Emitter,
        sweep: Sweep,
        memories: list[LaneMemory],
        begin: Value,
        end: Value,
        first: bool,
    ) -> None:
        """The innermost loop of a sweep."""
        variable = self.rank + len(self.kernel.inner) - 1

        def point(ems: list[Emitter], i: Value) -> None:
            lane = self.fn.binary("and", i, i64(LANES - 1)) if memories else i
            for inside in ems:
                self.point(inside, sweep, memories, lane, first)

        if not memories:
            begin = self.streamed(em, sweep, (begin, end), first)
            vectors(em, variable, begin, end, (self.unroll(), self.lanes), point)
        elif self.fits(sweep):
            at = self.groups(em, sweep, memories, (begin, end), first)
            vectors(em, variable, at, end, (1, self.lanes), point)
        else:
            vectors(em, variable, begin, end, (1, self.lanes), point)

    def streamed(self, em: Emitter, sweep: Sweep, bounds: Bounds, first: bool) -> Value:
        """Whole steps of the last sweep with results written past the caches; gives their end."""
        (begin, end), fn = bounds, self.fn
        if self.streams is None or sweep is not self.kernel.sweeps[-1]:
            return begin
        variable, step = self.rank + len(self.kernel.inner) - 1, self.unroll() * self.lanes
        at = fn.variable("i64", begin)
        aligned = all_aligned(fn, em.inner({variable: begin}), sweep.stores)
        with fn.when(fn.binary("and", self.streams, aligned)):
            em = em.inner()
            stop = fn.add(begin, fn.binary("and", fn.sub(end, begin), i64(-step)))
            with fn.loop(begin, stop, step) as i:
                for number in range(self.unroll()):
                    place = {variable: fn.add(i, number * self.lanes)}
                    inside = em.inner(place, lanes=self.lanes, vector=variable)
                    inside.streams = True
                    self.point(inside, sweep, [], i, first)
            at.set(stop)
        return at.get()

    def fits(self, sweep: Sweep) -> bool:
        """Do all partial sums stay in registers, with little enough code for a step of LANES?"""
        bits = sum(d.bits for r in sweep.reductions for d in parts(r))
        registers = LANES * bits // self.frame.target.vector_bits
        copies = LANES // self.lanes
        small = copies * operations(sweep_roots(sweep)) <= _LARGEST_BODY
        return registers * 2 <= self.frame.target.registers and small

    def groups(
        self, em: Emitter, sweep: Sweep, memories: list[LaneMemory], bounds: Bounds, first: bool
    ) -> Value:
        """Whole groups of LANES elements, partial sums in registers; gives where they end."""
        variable = self.rank + len(self.kernel.inner) - 1
        begin, end = bounds  # begins at a multiple of LANES
        stop = self.fn.binary("and", end, i64(-LANES))
        starts = range(0, LANES, self.lanes)
        stop = self.fn.intrinsic("smax.i64", "i64", stop, begin)
        with self.fn.when(self.fn.icmp("sgt", stop, begin)):
            em = em.inner()
            held = [
                [
                    [self.fn.variable(v.type, v) for v in memory.get(i64(start), self.lanes)]
                    for memory in memories
                ]
                for start in starts
            ]
            with self.fn.loop(begin, stop, LANES) as i:
                for start, slots in zip(starts, held, strict=True):
                    at = {variable: self.fn.add(i, start)}
                    inside = em.inner(at, lanes=self.lanes, vector=variable)
                    if first:
                        self.check(inside, inside=True)
                    for reduction, slot in zip(sweep.reductions, slots, strict=True):
                        old = [s.get() for s in slot]
                        for s, value in zip(
                            slot, self.updated(inside, reduction, old), strict=True
                        ):
                            s.set(value)
                    self.store(inside, sweep.stores)
            for start, slots in zip(starts, held, strict=True):
                for memory, slot in zip(memories, slots, strict=True):
                    memory.set(i64(start), [s.get() for s in slot])
        return stop

    def point(
        self, em: Emitter, sweep: Sweep, memories: list[LaneMemory], lane: Value, first: bool
    ) -> None:
        """One vector of elements: checks, partial sums in memory, stores."""
        if first:
            self.check(em, inside=True)
        for memory in memories:
            old = memory.get(lane, em.lanes)
            memory.set(lane, self.updated(em, memory.reduction, old))
        self.store(em, sweep.stores)
        self.fetch(em)
        self.fetch_windows(em)

    def updated(self, em: Emitter, reduction: Reduction, old: list[Value]) -> list[Value]:
        """The partial results with this vector's elements added, where they count."""
        new = self.elements(em, reduction)
        return masked(self.fn, em.mask, combine(self.fn, reduction, old, new), old)

    def elements(self, em: Emitter, reduction: Reduction) -> list[Value]:
        """This vector's elements, as a partial result."""
        keys = [] if reduction.key is None else [em.value(reduction.key)]
        return [em.value(reduction.value), *keys]
