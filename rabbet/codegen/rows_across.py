"""RowKernels whose vectors run along the last outer loop; every lane reduces for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Value, Variable, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.codegen.reductions import LaneMemory, combine, identities, parts
from rabbet.codegen.rows_shared import Bounds, Writer, sweep_roots
from rabbet.codegen.stepping import tasks, vectors
from rabbet.kernel.loops import Reduction, RowKernel, Sweep

# A task is this many neighbouring outputs of the last outer loop: enough that reading them row
# after row is like reading memory in order.
COLUMNS = 256
# Of reductions over so many rows that they are split into blocks, a task is wider, and walks over
# all its columns a few rows at a time: memory answers slowly where of each row, often a page, a
# part is read, then of the next (4096 x 4096 floats: 48 GB/s where reading in order has 70).
WIDE_COLUMNS, ROWS_AT_ONCE = 1024, 8
Accs: TypeAlias = dict[int, Value]


def is_wide(kernel: RowKernel) -> bool:
    """Does it walk a few rows at a time, with its partial results in memory?"""
    return kernel.block is not None and len(kernel.sweeps) == 1 and not kernel.sweeps[0].stores


def columns_of(kernel: RowKernel) -> int:
    """Outputs of the last outer loop that make a task."""
    return WIDE_COLUMNS if is_wide(kernel) else COLUMNS


class Across(Writer):
    """Vectors run along the last outer loop; every lane reduces for itself, in order."""

    def write(self) -> None:
        last, columns = self.outer[-1], columns_of(self.kernel)
        padded = self.fn.add(last, columns - 1)
        blocks = self.fn.binary("udiv", padded, i64(columns))
        wide = is_wide(self.kernel)
        reductions = self.kernel.sweeps[0].reductions if wide else ()
        memories = [LaneMemory(self.fn, r, columns) for r in reductions]
        extents = [*self.outer[:-1], blocks]
        with tasks(self.fn, self.frame.begin, self.frame.end, extents) as variables:
            start = self.fn.mul(variables.pop(self.rank - 1), columns)
            stop = self.fn.intrinsic("smin.i64", "i64", self.fn.add(start, columns), last)
            em = self.root.inner(variables)
            if wide:
                self.in_blocks(em, memories, start, stop)
            else:
                self.walk(em, start, stop, self.column)

    def walk(
        self, em: Emitter, start: Value, stop: Value, work: Callable[[list[Emitter], Value], None]
    ) -> None:
        """work(emitters, first column) for all columns of a task."""
        vectors(em, self.rank - 1, start, stop, (self.columns(), self.lanes), work)

    def in_blocks(self, em: Emitter, memories: list[LaneMemory], start: Value, stop: Value) -> None:
        """The only sweep some rows at a time, its partial results in `memories`, then the finish.

        Every result still is one sum, row after row.
        """
        (sweep,), fn = self.kernel.sweeps, self.fn

        def at(i: Value, vector: int, lanes: int) -> Value:
            return fn.add(fn.sub(i, start), vector * lanes)

        def begin(ems: list[Emitter], i: Value) -> None:
            for n, inside in enumerate(ems):
                self.check(inside, inside=False)
                for memory, r in zip(memories, sweep.reductions, strict=True):
                    memory.set(at(i, n, inside.lanes), self.identities(r, inside.lanes))

        low, high = self.bounds(em)
        self.walk(em, start, stop, begin)
        with fn.loop(low, high, ROWS_AT_ONCE) as row:
            end = fn.intrinsic("smin.i64", "i64", fn.add(row, ROWS_AT_ONCE), high)

            def add(ems: list[Emitter], i: Value) -> None:
                places = [at(i, n, inside.lanes) for n, inside in enumerate(ems)]
                before = [
                    [m.get(place, inside.lanes) for m in memories]
                    for place, inside in zip(places, ems, strict=True)
                ]
                after = self.rows(ems, sweep, before, bounds=(row, end), first=True)
                for place, results in zip(places, after, strict=True):
                    for memory, result in zip(memories, results, strict=True):
                        memory.set(place, result)

            self.walk(em, start, stop, add)

        def finish(ems: list[Emitter], i: Value) -> None:
            for n, inside in enumerate(ems):
                found = [m.get(at(i, n, inside.lanes), inside.lanes)[-1] for m in memories]
                self.store(inside.inner(accs=dict(enumerate(found))), self.kernel.finish)

        self.walk(em, start, stop, finish)

    def columns(self) -> int:
        """Vectors of outputs per step: as many as registers and code size allow."""
        bits = sum(d.bits for w in self.kernel.sweeps for r in w.reductions for d in parts(r))
        each = max(1, self.lanes * bits // self.frame.target.vector_bits)
        room = max(1, self.frame.target.registers // 2 // each)
        room = 1 << (room.bit_length() - 1)  # steps are powers of two
        wanted = 16 if self.body <= 12 else 4 if self.body <= 40 else 2 if self.body <= 100 else 1
        return min(room, wanted, COLUMNS // self.lanes)

    def column(self, ems: list[Emitter], i: Value) -> None:
        """All sweeps of a few vectors of outputs, then the finish."""
        accs: list[Accs] = [{} for _ in ems]
        for em in ems:
            self.check(em, inside=False)
        for number, sweep in enumerate(self.kernel.sweeps):
            inside = [em.inner(accs=a) for em, a in zip(ems, accs, strict=True)]
            results = self.sweep(inside, sweep, number == 0)
            for known, found in zip(accs, results, strict=True):
                known.update(dict(enumerate(found, len(known))))
        for em, known in zip(ems, accs, strict=True):
            self.store(em.inner(accs=known), self.kernel.finish)

    def sweep(self, ems: list[Emitter], sweep: Sweep, first: bool) -> list[list[Value]]:
        """One pass over the inner loops; gives the results for each vector."""
        nothing = [[self.identities(r, em.lanes) for r in sweep.reductions] for em in ems]
        results = self.rows(ems, sweep, nothing, bounds=self.bounds(ems[0]), first=first)
        return [[parts[-1] for parts in found] for found in results]

    def rows(
        self,
        ems: list[Emitter],
        sweep: Sweep,
        before: list[list[list[Value]]],
        *,
        bounds: Bounds,
        first: bool,
    ) -> list[list[list[Value]]]:
        """The partial results (vector, reduction, part) after a part of the first inner loop."""
        held = [[[self.held(v) for v in parts] for parts in known] for known in before]
        roots = list(sweep_roots(sweep))
        depth = len(self.kernel.inner)
        with self.nested(ems, roots, self.rank, depth, bounds) as points:
            for em, slots in zip(points, held, strict=True):
                if first:
                    self.check(em, inside=True)
                for reduction, slot in zip(sweep.reductions, slots, strict=True):
                    new = [em.value(reduction.value)]
                    if reduction.key is not None:
                        new.append(em.value(reduction.key))
                    old = [s.get() for s in slot]
                    for s, value in zip(slot, combine(self.fn, reduction, old, new), strict=True):
                        s.set(value)
                self.store(em, sweep.stores)
        return [[[s.get() for s in slot] for slot in slots] for slots in held]

    def held(self, value: Value) -> Variable:
        """A variable that begins with a value."""
        return self.fn.variable(value.type, value)

    def identities(self, reduction: Reduction, lanes: int) -> list[Value]:
        """One vector of partial results, nothing seen yet."""
        kinds = (register_type(d, lanes) for d in parts(reduction))
        return [literal(v, kind) for kind, v in zip(kinds, identities(reduction), strict=True)]
