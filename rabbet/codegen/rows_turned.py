"""Maps that read an operand along one of their outer loops: blocks are transposed in registers.

out[u, v] = f(in[v, u], ...): neighbours of `in` lie along u, neighbours of `out` along v. A task
is ROWS values of u. Square blocks are read along u, turned, and written along v; the edges are
gathered.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.base.dtypes import bool_
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Value, i64
from rabbet.codegen.rows_shared import Writer
from rabbet.codegen.stepping import tasks, vectors, weight
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr
from rabbet.kernel.loops import RowKernel

ROWS = 16  # values of the turned loop per task: a multiple of every block
_LARGEST_BODY = 16  # operations: the code holds as many copies as a block has rows
_MOST_TURNED = 2  # blocks that are held in registers at the same time


def turned_axis(kernel: RowKernel) -> int | None:
    """The outer loop along which some load has its neighbours; None if no block must be turned."""
    if not _is_plain_map(kernel):
        return None
    loads = turned_loads(kernel, None)
    axes = [a for a in range(len(kernel.outer)) if any(_moves_by_one(e, a) for e in loads)]
    if not axes or len(turned_loads(kernel, axes[-1])) > _MOST_TURNED:
        return None
    values = [s.value for s in kernel.sweeps[0].stores]
    return axes[-1] if weight(values) <= _LARGEST_BODY else None


def _is_plain_map(kernel: RowKernel) -> bool:
    """One pass of stores over outer loops and one inner loop."""
    has_shape = bool(kernel.outer) and len(kernel.inner) == 1 and len(kernel.sweeps) == 1
    extra = kernel.finish or kernel.checks or kernel.across
    return has_shape and not extra and not kernel.sweeps[0].reductions


def turned_loads(kernel: RowKernel, axis: int | None) -> list[Expr]:
    """Loads that stride along the inner loop, with neighbours along `axis` (None: any)."""
    found: dict[Expr, None] = {}
    stack = [s.value for s in kernel.sweeps[0].stores]
    inner = len(kernel.outer)
    while stack:
        e = stack.pop()
        if e.op != "load":
            stack.extend(e.args)
        elif len(e.args) == 1 and e.dtype is not bool_ and _strides(e, inner):
            if axis is None or _moves_by_one(e, axis):
                found[e] = None
    return list(found)


def _strides(e: Expr, variable: int) -> bool:
    step = coefficient(e.args[0], variable)
    return step is not None and (step.op != "const" or step.value not in (-1, 0, 1))


def _moves_by_one(e: Expr, variable: int) -> bool:
    step = coefficient(e.args[0], variable)
    return step is not None and step.op == "const" and step.value == 1


class Turned(Writer):
    """Vectors run along the inner loop, blocks over it and the turned outer loop."""

    def __init__(self, kernel: RowKernel, frame: Frame, axis: int) -> None:
        super().__init__(kernel, frame)
        self.axis = axis
        self.loads = turned_loads(kernel, axis)
        self.lanes = min(self.lanes, ROWS)

    def write(self) -> None:
        """The whole function body."""
        fn, rows = self.fn, self.outer[self.axis]
        blocks = fn.binary("udiv", fn.add(rows, ROWS - 1), i64(ROWS))
        extents = [blocks if a == self.axis else e for a, e in enumerate(self.outer)]
        with tasks(fn, self.frame.begin, self.frame.end, extents) as variables:
            first = fn.mul(variables.pop(self.axis), ROWS)
            stop = fn.intrinsic("smin.i64", "i64", fn.add(first, ROWS), rows)
            em = self.root.inner(variables)
            em.hoist(self._roots(), {self.axis, self.rank})
            whole = fn.add(first, fn.binary("and", fn.sub(stop, first), i64(-self.lanes)))
            columns = fn.binary("and", self.inner[0], i64(-self.lanes))
            with (
                fn.loop(first, whole, self.lanes) as row,
                fn.loop(i64(0), columns, self.lanes) as v,
            ):
                self.block(em, row, v)
            with fn.loop(first, stop) as row:
                done = fn.select(fn.icmp("slt", row, whole), columns, i64(0))
                line = em.inner({self.axis: row})
                vectors(line, self.rank, done, self.inner[0], (1, self.lanes), self.edge)

    def _roots(self) -> list[Expr]:
        return [e for s in self.kernel.sweeps[0].stores for e in (s.value, s.index)]

    def edge(self, ems: Sequence[Emitter], v: Value) -> None:
        """A vector outside the blocks."""
        self.store(ems[0], self.kernel.sweeps[0].stores)

    def block(self, em: Emitter, row: Value, v: Value) -> None:
        """One square block: read along the turned loop, transposed, used along the inner loop."""
        turned = {e: self.turn(em, e, row, v) for e in self.loads}
        for j in range(self.lanes):
            at = {self.axis: self.fn.add(row, j), self.rank: v}
            line = em.inner(at, lanes=self.lanes, vector=self.rank)
            for e, columns in turned.items():
                line.give(e, columns[j])
            self.store(line, self.kernel.sweeps[0].stores)

    def turn(self, em: Emitter, e: Expr, row: Value, v: Value) -> list[Value]:
        """The load's block, as one vector along the inner loop for each row."""
        read = []
        for lane in range(self.lanes):
            at = {self.axis: row, self.rank: self.fn.add(v, lane)}
            read.append(em.inner(at, lanes=self.lanes, vector=self.axis).value(e))
        return transpose(self.fn, read, max(e.dtype.bits, 128 // self.lanes))
