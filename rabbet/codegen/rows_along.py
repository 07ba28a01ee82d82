"""RowKernels whose vectors run along the last inner loop; reductions keep LANES partial sums."""

from __future__ import annotations

from typing import TypeAlias

from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Value, i64
from rabbet.codegen.reductions import LaneMemory, combine, masked, parts, tree
from rabbet.codegen.rows_shared import Bounds, Writer, splits_inner, sweep_roots
from rabbet.codegen.stepping import tasks, vectors
from rabbet.kernel.loops import LANES, Reduction, Sweep

Accs: TypeAlias = dict[int, Value]


class Along(Writer):
    """Vectors run along the last inner loop; one scalar per row is left of a reduction."""

    def write(self) -> None:
        kernel, frame = self.kernel, self.frame
        if kernel.outer:
            with tasks(self.fn, frame.begin, frame.end, self.outer) as variables:
                self.row(self.root.inner(variables), None)
        elif splits_inner(kernel):
            self.row(self.root.inner(), frame.begin)
        else:
            with self.fn.when(self.fn.icmp("slt", frame.begin, frame.end)):
                self.row(self.root.inner(), None)

    def row(self, em: Emitter, begin: Value | None) -> None:
        """All sweeps of one row, then the finish."""
        self.check(em, inside=False)
        accs: Accs = {}
        for number, sweep in enumerate(self.kernel.sweeps):
            found = self.sweep(em.inner(accs=accs), sweep, begin, number == 0)
            accs.update(dict(enumerate(found, len(accs))))
        self.store(em.inner(accs=accs), self.kernel.finish)

    def sweep(self, em: Emitter, sweep: Sweep, begin: Value | None, first: bool) -> list[Value]:
        """One pass over the inner loops; gives the results of its reductions."""
        memories = [LaneMemory(self.fn, r) for r in sweep.reductions]
        for memory in memories:
            memory.clear()
        roots = list(sweep_roots(sweep))
        depth = len(self.kernel.inner)
        if depth == 0:
            self.point(em, sweep, memories, i64(0), first)
        else:
            last = self.rank + depth - 1
            bounds = self.bounds(em, begin)
            with self.nested([em], roots, self.rank, depth - 1, bounds) as (inside,):
                low, high = bounds if depth == 1 else (i64(0), self.inner[-1])
                with self.fn.when(self.fn.icmp("slt", low, high)):
                    line = inside.inner()
                    line.hoist(roots, {last})
                    self.line(line, sweep, memories, low, high, first)
        return [self.result(m) for m in memories]

    def result(self, memory: LaneMemory) -> Value:
        """The lanes combined by the fixed tree."""
        return tree(self.fn, memory.reduction, memory.get(i64(0), LANES))[-1]

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
            vectors(em, variable, begin, end, (self.unroll(), self.lanes), point)
        elif self.fits(sweep):
            at = self.groups(em, sweep, memories, (begin, end), first)
            vectors(em, variable, at, end, (1, self.lanes), point)
        else:
            vectors(em, variable, begin, end, (1, self.lanes), point)

    def fits(self, sweep: Sweep) -> bool:
        """Do all partial sums stay in registers, with little enough code for a step of LANES?"""
        bits = sum(d.bits for r in sweep.reductions for d in parts(r))
        registers = LANES * bits // self.frame.target.vector_bits
        copies = LANES // self.lanes
        return registers * 2 <= self.frame.target.registers and copies * self.body <= 320

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

    def updated(self, em: Emitter, reduction: Reduction, old: list[Value]) -> list[Value]:
        """The partial results with this vector's elements added, where they count."""
        new = [em.value(reduction.value)]
        if reduction.key is not None:
            new.append(em.value(reduction.key))
        return masked(self.fn, em.mask, combine(self.fn, reduction, old, new), old)
