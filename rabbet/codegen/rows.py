"""RowKernel -> LLVM text: maps, reductions along the innermost loop, reductions across it.

The order of additions is that of `rabbet.kernel.loops` and never depends on the vector width: an "along"
reduction always has LANES partial sums, an "across" reduction adds one after the other per output.
Tails run under masks where the machine has them, else one element at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from rabbet.base.dtypes import int64
from rabbet.base.errors import InternalError
from rabbet.base.target import Target
from rabbet.codegen.checks import emit_check
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Module, Value, Variable, i64, literal
from rabbet.codegen.launch import Launch
from rabbet.codegen.operations import register_type
from rabbet.codegen.reductions import (
    LaneMemory,
    combine,
    identities,
    masked,
    parts,
    tree,
)
from rabbet.codegen.stepping import decode, lanes_for, operations, product, vectors
from rabbet.expr.expr import Expr, const, topological, var
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import LANES, Reduction, RowKernel, Store, Sweep
from rabbet.kernel.show import kernel_name

COLUMNS = 64  # an "across" task is this many neighbouring outputs of the last outer loop
Accs: TypeAlias = dict[int, Value]


def emit_rows(kernel: RowKernel, target: Target) -> str:
    """The LLVM text of a RowKernel; the function is called `kernel_name(kernel)`."""
    module = Module(target)
    frame = Frame(module, kernel_name(kernel), kernel.operands)
    writer = _Across if kernel.across and kernel.outer else _Along
    writer(expanded(kernel), frame).write()
    return module.text()


def launch_rows(kernel: RowKernel) -> Launch:
    """Tasks and cost of a RowKernel, from its sizes."""
    last = kernel.outer[-1] if kernel.outer else None
    if kernel.across and last is not None:
        tasks = product(kernel.outer[:-1]) * ((last + (COLUMNS - 1)) // COLUMNS)
    elif kernel.outer:
        tasks = product(kernel.outer)
    else:
        tasks = kernel.inner[0] if _splits_inner(kernel) else const(1, int64)
    inside = sum(operations(_sweep_roots(s)) for s in kernel.sweeps)
    after = operations(e for s in kernel.finish for e in (s.value, s.index))
    cost = product(kernel.outer) * (product(kernel.inner) * inside + after)
    return Launch(tasks, const(0, int64), cost)


def _splits_inner(kernel: RowKernel) -> bool:
    """No outer loops and no reductions: the tasks are the points of the first inner loop."""
    return bool(kernel.inner) and not kernel.outer and not any(s.reductions for s in kernel.sweeps)


def _sweep_roots(sweep: Sweep) -> Iterator[Expr]:
    for reduction in sweep.reductions:
        yield reduction.value
        if reduction.key is not None:
            yield reduction.key
    for store in sweep.stores:
        yield store.value
        yield store.index


def expanded(kernel: RowKernel) -> RowKernel:
    """The kernel with primitive rows only."""

    def stores(given: tuple[Store, ...]) -> tuple[Store, ...]:
        return tuple(Store(s.operand, expand_all(s.index), expand_all(s.value)) for s in given)

    def reduction(r: Reduction) -> Reduction:
        return Reduction(r.combine, expand_all(r.value), r.key and expand_all(r.key))

    return replace(
        kernel,
        sweeps=tuple(
            Sweep(tuple(reduction(r) for r in s.reductions), stores(s.stores))
            for s in kernel.sweeps
        ),
        finish=stores(kernel.finish),
        checks=tuple((expand_all(i), expand_all(e)) for i, e in kernel.checks),
    )


class _Writer:
    """What both orientations share. Work is a function of emitters, one per vector of a step."""

    def __init__(self, kernel: RowKernel, frame: Frame) -> None:
        self.kernel = kernel
        self.frame = frame
        self.fn = frame.fn
        self.root = Emitter(frame)
        self.outer = [self.root.scalar(expand_all(e)) for e in kernel.outer]
        self.inner = [self.root.scalar(expand_all(e)) for e in kernel.inner]
        self.rank = len(kernel.outer)
        every = [e for s in kernel.sweeps for e in _sweep_roots(s)]
        values = [s.value for w in kernel.sweeps for s in w.stores]
        values += [r.value for w in kernel.sweeps for r in w.reductions]
        values += [s.value for s in kernel.finish]
        self.lanes = lanes_for(values, frame.target)
        self.body = operations(every)
        self.root.scalar(product(kernel.inner))
        self.inner_variables = set(range(self.rank, self.rank + len(kernel.inner)))

    # ------------------------------------------------------------------ loops

    @contextmanager
    def nested(
        self, ems: list[Emitter], roots: list[Expr], first: int, count: int, begin: Value | None
    ) -> Iterator[list[Emitter]]:
        """`count` loops inside one another from variable `first` on; what stays the same is hoisted.

        `begin` (with the task range's end) replaces the bounds of the outermost loop.
        """
        if count == 0:
            yield ems
            return
        low, high = i64(0), self.inner[first - self.rank]
        if begin is not None:
            low, high = begin, self.frame.end
        with self.fn.when(self.fn.icmp("slt", low, high)):
            ems = [em.inner() for em in ems]
            unknown = set(range(first, self.rank + len(self.kernel.inner)))
            for em in ems:
                em.hoist(roots, unknown)
            with self.fn.loop(low, high) as i:
                inside = [em.inner({first: i}) for em in ems]
                with self.nested(inside, roots, first + 1, count - 1, None) as points:
                    yield points

    # ------------------------------------------------------------------ pieces of a body

    def unroll(self) -> int:
        """Vectors per step of a map."""
        return 4 if self.body <= 12 else 2 if self.body <= 40 else 1

    def store(self, em: Emitter, stores: Sequence[Store]) -> None:
        """All values first: a store may overwrite what another value was read from."""
        values = [em.value(s.value) for s in stores]
        for s, value in zip(stores, values, strict=True):
            dtype = self.kernel.operands[s.operand].dtype
            if s.value.dtype is not dtype:
                raise InternalError(f"store of {s.value.dtype.name} into {dtype.name}")
            em.store(s.operand, s.index, value, dtype)

    def check(self, em: Emitter, inside: bool) -> None:
        """The checks that use inner variables (inside), or those that do not, once per row.

        Elements are numbered over all loops; a row without points has none.
        """
        element, points = const(0, int64), product(self.kernel.inner)
        for number, extent in enumerate((*self.kernel.outer, *self.kernel.inner)):
            known = inside or number < self.rank
            element = element * extent + (var(number) if known else const(0, int64))
        for index, extent in self.kernel.checks:
            used = {e.value for e in topological([index]) if e.op == "var"}
            if bool(used & self.inner_variables) != inside:
                continue
            if inside:
                emit_check(em, index, extent, element)
                continue
            with self.fn.when(self.fn.icmp("sgt", self.root.scalar(points), 0)):
                emit_check(em.inner(), index, extent, element)


class _Along(_Writer):
    """Vectors run along the last inner loop; one scalar per row is left of a reduction."""

    def write(self) -> None:
        kernel, frame = self.kernel, self.frame
        if kernel.outer:
            with self.fn.loop(frame.begin, frame.end) as task:
                self.row(self.root.inner(decode(self.fn, task, self.outer)), None)
        elif _splits_inner(kernel):
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
        roots = list(_sweep_roots(sweep))
        depth = len(self.kernel.inner)
        if depth == 0:
            self.point(em, sweep, memories, i64(0), first)
        else:
            last = self.rank + depth - 1
            with self.nested([em], roots, self.rank, depth - 1, begin) as (inside,):
                low, high = i64(0), self.inner[-1]
                if begin is not None and depth == 1:
                    low, high = begin, self.frame.end
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
            at = self.groups(em, sweep, memories, end, first)
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
        self, em: Emitter, sweep: Sweep, memories: list[LaneMemory], end: Value, first: bool
    ) -> Value:
        """Whole groups of LANES elements with the partial sums in registers; gives where they end."""
        variable = self.rank + len(self.kernel.inner) - 1
        stop = self.fn.binary("and", end, i64(-LANES))
        starts = range(0, LANES, self.lanes)
        with self.fn.when(self.fn.icmp("sgt", stop, i64(0))):
            em = em.inner()
            held = [
                [
                    [self.fn.variable(v.type, v) for v in memory.get(i64(start), self.lanes)]
                    for memory in memories
                ]
                for start in starts
            ]
            with self.fn.loop(i64(0), stop, LANES) as i:
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


class _Across(_Writer):
    """Vectors run along the last outer loop; every lane reduces for itself, in order."""

    def write(self) -> None:
        last = self.outer[-1]
        padded = self.fn.add(last, COLUMNS - 1)
        blocks = self.fn.binary("udiv", padded, i64(COLUMNS))
        with self.fn.loop(self.frame.begin, self.frame.end) as task:
            variables = decode(self.fn, task, [*self.outer[:-1], blocks])
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
        wanted = 4 if self.body <= 40 else 2 if self.body <= 100 else 1
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
        roots = list(_sweep_roots(sweep))
        with self.nested(ems, roots, self.rank, len(self.kernel.inner), None) as points:
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
