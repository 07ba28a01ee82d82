"""RowKernels whose vectors run along the last outer loop; every lane reduces for itself."""

from __future__ import annotations

from typing import TypeAlias

from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Value, Variable, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.codegen.reductions import combine, identities, parts
from rabbet.codegen.rows_shared import Writer, sweep_roots
from rabbet.codegen.stepping import tasks, vectors
from rabbet.kernel.loops import Reduction, Sweep

# A task is this many neighbouring outputs of the last outer loop: enough that reading them row
# after row is like reading memory in order.
COLUMNS = 256
Accs: TypeAlias = dict[int, Value]


class Across(Writer):
    """Vectors run along the last outer loop; every lane reduces for itself, in order."""

    def write(self) -> None:
        last = self.outer[-1]
        padded = self.fn.add(last, COLUMNS - 1)
        blocks = self.fn.binary("udiv", padded, i64(COLUMNS))
        extents = [*self.outer[:-1], blocks]
        with tasks(self.fn, self.frame.begin, self.frame.end, extents) as variables:
            start = self.fn.mul(variables.pop(self.rank - 1), COLUMNS)
            stop = self.fn.intrinsic("smin.i64", "i64", self.fn.add(start, COLUMNS), last)
            em = self.root.inner(variables)
            step = (self.columns(), self.lanes)
            vectors(em, self.rank - 1, start, stop, step, self.column)

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
        held = [[self.start(r, em.lanes) for r in sweep.reductions] for em in ems]
        roots = list(sweep_roots(sweep))
        depth = len(self.kernel.inner)
        with self.nested(ems, roots, self.rank, depth, self.bounds(ems[0])) as points:
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
        return [[slot[-1].get() for slot in slots] for slots in held]

    def start(self, reduction: Reduction, lanes: int) -> list[Variable]:
        """Variables for one vector of partial results, nothing seen yet."""
        return [
            self.fn.variable(kind, literal(value, kind))
            for kind, value in zip(
                (register_type(d, lanes) for d in parts(reduction)),
                identities(reduction),
                strict=True,
            )
        ]
