"""Reductions along a line whose elements lie apart, while neighbouring lines lie side by side.

Means over the pixels of an image with its channels last, say: to walk along a line is to read every
element alone. So vectors run along the last outer loop, each lane a line of its own, and the LANES
partial results of every line lie in memory. Additions and their order are those of `rows_along`.
"""

from __future__ import annotations

from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Value, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.codegen.reductions import LaneMemory, combine, identities, parts
from rabbet.codegen.rows_shared import Writer, sweep_roots
from rabbet.codegen.stepping import tasks, vectors
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr, topological
from rabbet.kernel.loops import LANES, RowKernel

LINES = 64  # neighbouring lines that make a task
_MOST_BYTES = 1 << 15  # of partial results, which stay in the first cache


def is_beside(kernel: RowKernel) -> bool:
    """Is it one sweep of reductions along strided lines whose neighbours lie side by side?"""
    if kernel.across or kernel.checks or kernel.block is not None or not kernel.outer:
        return False
    if len(kernel.inner) != 1 or len(kernel.sweeps) != 1:
        return False
    (sweep,) = kernel.sweeps
    if sweep.stores or not sweep.reductions or _line_bytes(kernel) * LANES > _MOST_BYTES:
        return False
    loads = [e for e in topological(sweep_roots(sweep)) if e.op == "load"]
    lines, along = len(kernel.outer) - 1, len(kernel.outer)
    if any(len(e.args) > 1 or not _moves_by(e, lines, 0, 1) for e in loads):
        return False
    return any(_moves_by(e, lines, 1) for e in loads) and all(
        _moves_by(e, along, 0) or (_moves_by(e, lines, 1) and not _moves_by(e, along, -1, 1))
        for e in loads
    )


def _moves_by(e: Expr, variable: int, *steps: int) -> bool:
    step = coefficient(e.args[0], variable)
    return step is not None and step.op == "const" and step.value in steps


def _line_bytes(kernel: RowKernel) -> int:
    """Bytes of one partial result of every reduction, for so many lines as go together at least."""
    return 16 * sum(d.itemsize for r in kernel.sweeps[0].reductions for d in parts(r))


class Beside(Writer):
    """Vectors run along the last outer loop; every lane keeps LANES partial results."""

    def __init__(self, kernel: RowKernel, frame: Frame) -> None:
        super().__init__(kernel, frame)
        (self.sweep,) = kernel.sweeps
        self.lanes = min(self.lanes, LINES)
        room = max(16, 16 * _MOST_BYTES // (_line_bytes(kernel) * LANES))  # lines
        wanted = 4 if self.body <= 12 else 2 if self.body <= 40 else 1
        self.count = wanted
        while self.count > 1 and self.count * self.lanes > min(room, LINES):
            self.count //= 2
        self.memories = [
            LaneMemory(self.fn, r, LANES * self.count * self.lanes) for r in self.sweep.reductions
        ]

    def write(self) -> None:
        """The whole function body."""
        fn, last = self.fn, self.outer[-1]
        blocks = fn.binary("udiv", fn.add(last, LINES - 1), i64(LINES))
        extents = [*self.outer[:-1], blocks]
        with tasks(fn, self.frame.begin, self.frame.end, extents) as variables:
            start = fn.mul(variables.pop(self.rank - 1), LINES)
            stop = fn.intrinsic("smin.i64", "i64", fn.add(start, LINES), last)
            em = self.root.inner(variables)
            vectors(em, self.rank - 1, start, stop, (self.count, self.lanes), self.lines)

    def place(self, partial: Value, vector: int, lanes: int) -> Value:
        """Where a vector's partial results of one number lie."""
        return self.fn.add(self.fn.mul(partial, self.count * self.lanes), vector * lanes)

    def lines(self, ems: list[Emitter], i: Value) -> None:
        """Some vectors of lines: their elements, the tree over partial results, the finish."""
        fn, extent = self.fn, self.inner[0]
        begun = fn.intrinsic("smin.i64", "i64", extent, i64(LANES))
        for vector, em in enumerate(ems):
            for memory, nothing in zip(self.memories, self.nothing(em.lanes), strict=True):
                memory.set(self.place(i64(0), vector, em.lanes), nothing)
        self.elements(ems, (i64(0), begun), is_first=True)
        self.elements(ems, (begun, extent), is_first=False)
        half = LANES // 2
        while half:
            # Partial results that were not begun would change nothing.
            with fn.loop(i64(0), fn.sub(begun, half)) as partial:
                self.halve(ems, partial, half)
            begun = fn.intrinsic("smin.i64", "i64", begun, i64(half))
            half //= 2
        for vector, em in enumerate(ems):
            place = self.place(i64(0), vector, em.lanes)
            found = [memory.get(place, em.lanes)[-1] for memory in self.memories]
            self.store(em.inner(accs=dict(enumerate(found))), self.kernel.finish)

    def nothing(self, lanes: int) -> list[list[Value]]:
        """A vector of partial results of nothing, for each reduction."""
        return [
            [
                literal(v, register_type(d, lanes))
                for d, v in zip(parts(r), identities(r), strict=True)
            ]
            for r in self.sweep.reductions
        ]

    def elements(self, ems: list[Emitter], bounds: tuple[Value, Value], *, is_first: bool) -> None:
        """A part of every line: element i goes to partial result i modulo LANES."""
        roots = list(sweep_roots(self.sweep))
        with self.nested(ems, roots, self.rank, 1, bounds) as points:
            for vector, em in enumerate(points):
                partial = self.fn.binary("and", em.variables[self.rank], i64(LANES - 1))
                place = self.place(partial, vector, em.lanes)
                nothing = self.nothing(em.lanes)
                for r, memory, start in zip(
                    self.sweep.reductions, self.memories, nothing, strict=True
                ):
                    new = [em.value(e) for e in (r.value, r.key) if e is not None]
                    old = start if is_first else memory.get(place, em.lanes)
                    memory.set(place, combine(self.fn, r, old, new))

    def halve(self, ems: list[Emitter], partial: Value, half: int) -> None:
        """One partial result of each line and the one that lies `half` behind it become one."""
        for vector, em in enumerate(ems):
            low = self.place(partial, vector, em.lanes)
            high = self.place(self.fn.add(partial, half), vector, em.lanes)
            for r, memory in zip(self.sweep.reductions, self.memories, strict=True):
                both = [memory.get(place, em.lanes) for place in (low, high)]
                memory.set(low, combine(self.fn, r, both[0], both[1]))
