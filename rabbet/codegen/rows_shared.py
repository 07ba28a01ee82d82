"""What all ways of walking a RowKernel share: loops with hoisting, stores, checks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from rabbet.base.dtypes import int64
from rabbet.base.errors import InternalError
from rabbet.codegen.checks import emit_check
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Value, i64
from rabbet.codegen.stepping import lanes_for, operations, product
from rabbet.expr.expr import Expr, const, topological, var
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import LANES, Reduction, RowKernel, Store, Sweep


def splits_inner(kernel: RowKernel) -> bool:
    """No outer loops and no reductions: the tasks are parts of the first inner loop."""
    return bool(kernel.inner) and not kernel.outer and not any(s.reductions for s in kernel.sweeps)


def task_points(kernel: RowKernel) -> int:
    """Points of the first inner loop in a task, where it is split: with one loop so many that
    no two threads write to one line of the cache, and every task begins one."""
    return LANES if len(kernel.inner) == 1 else 1


def sweep_roots(sweep: Sweep) -> Iterator[Expr]:
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


KEPT = "out kept"  # the mode of an operand that is a row in scratch memory
_ALIGNMENT = 64
Bounds: TypeAlias = tuple[Value, Value]


def kept_offsets(kernel: RowKernel) -> Iterator[tuple[int, Expr]]:
    """Operand number and byte offset in scratch of every kept row; last, -1 and where they end."""
    offset: Expr = const(0, int64)
    for number, operand in enumerate(kernel.operands):
        if operand.mode != KEPT:
            continue
        yield number, offset
        nbytes = product(kernel.inner) * (operand.dtype.bits // 8)
        offset = offset + (nbytes + (_ALIGNMENT - 1)) // _ALIGNMENT * _ALIGNMENT
    yield -1, offset


class Writer(ABC):
    """What both orientations share. Work is a function of emitters, one per vector of a step."""

    def __init__(self, kernel: RowKernel, frame: Frame) -> None:
        self.kernel = kernel
        self.frame = frame
        self.fn = frame.fn
        self.root = Emitter(frame)
        self.outer = [self.root.scalar(expand_all(e)) for e in kernel.outer]
        self.inner = [self.root.scalar(expand_all(e)) for e in kernel.inner]
        for number, offset in kept_offsets(kernel):
            if number >= 0:
                frame.place(number, self.root.scalar(expand_all(offset)))
        self.rank = len(kernel.outer)
        every = [e for s in kernel.sweeps for e in sweep_roots(s)]
        values = [s.value for w in kernel.sweeps for s in w.stores]
        values += [r.value for w in kernel.sweeps for r in w.reductions]
        values += [s.value for s in kernel.finish]
        self.lanes = lanes_for(values, frame.target)
        self.body = operations(every)
        self.root.scalar(product(kernel.inner))
        self.inner_variables = set(range(self.rank, self.rank + len(kernel.inner)))

    @abstractmethod
    def write(self) -> None:
        """The whole function body."""

    # ------------------------------------------------------------------ loops

    @contextmanager
    def nested(
        self, ems: list[Emitter], roots: list[Expr], first: int, count: int, bounds: Bounds
    ) -> Iterator[list[Emitter]]:
        """`count` loops inside one another from variable `first` on; what stays the same is
        hoisted. `bounds` are those of the outermost one.
        """
        if count == 0:
            yield ems
            return
        low, high = bounds
        with self.fn.when(self.fn.icmp("slt", low, high)):
            ems = [em.inner() for em in ems]
            unknown = set(range(first, self.rank + len(self.kernel.inner)))
            for em in ems:
                em.hoist(roots, unknown)
            with self.fn.loop(low, high) as i:
                inside = [em.inner({first: i}) for em in ems]
                following = i64(0), self.inner[min(first + 1 - self.rank, len(self.inner) - 1)]
                with self.nested(inside, roots, first + 1, count - 1, following) as points:
                    yield points

    def bounds(self, em: Emitter, part: Bounds | None = None) -> Bounds:
        """Where the first inner loop begins and ends: a given part, a block's, or all of it."""
        if part is not None:
            return part
        if not self.inner:
            return i64(0), i64(1)
        if self.kernel.block is None:
            return i64(0), self.inner[0]
        size = self.root.scalar(expand_all(self.kernel.block))
        low = self.fn.mul(em.variables[0], size)
        return low, self.fn.intrinsic("smin.i64", "i64", self.fn.add(low, size), self.inner[0])

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
        blocks = int(self.kernel.block is not None)  # they are no points
        for number, extent in enumerate((*self.kernel.outer, *self.kernel.inner)):
            if number < blocks:
                continue
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
