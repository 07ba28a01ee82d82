"""ScatterKernel -> LLVM text: out[index] combine= value, update after update.

Vectors run along the last inner loop where its points lie side by side in the destination;
otherwise everything is scalar. Updates are never reordered, so sums do not depend on the number
of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.base.dtypes import int64
from rabbet.base.errors import InternalError
from rabbet.base.target import Target
from rabbet.codegen.checks import emit_check
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Module, Value, i64
from rabbet.codegen.launch import Launch
from rabbet.codegen.operations import row
from rabbet.codegen.stepping import lanes_for, product, tasks, vectors, weight
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr, const, load, var
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import ScatterKernel
from rabbet.kernel.show import kernel_name

_ROWS = {"add": "add", "mul": "mul", "max": "max", "min": "min"}


def emit_scatter(kernel: ScatterKernel, target: Target) -> str:
    """The LLVM text of a ScatterKernel; the function is called `kernel_name(kernel)`."""
    module = Module(target)
    _Scatter(kernel, Frame(module, kernel_name(kernel), kernel.operands)).write()
    return module.text()


def launch_scatter(kernel: ScatterKernel) -> Launch:
    """Tasks and cost of a ScatterKernel, from its sizes."""
    points = product((*kernel.outer, *kernel.updates, *kernel.inner))
    cost = points * (weight([kernel.index, kernel.value]) + 2)
    return Launch(product(kernel.outer), const(0, int64), cost)


class _Scatter:
    """Writes one kernel."""

    def __init__(self, kernel: ScatterKernel, frame: Frame) -> None:
        self.kernel = kernel
        self.frame = frame
        self.fn = frame.fn
        self.root = Emitter(frame)
        self.index, self.value = expand_all(kernel.index), expand_all(kernel.value)
        self.checks = [(expand_all(i), expand_all(e)) for i, e in kernel.checks]
        self.dtype = kernel.operands[kernel.out].dtype
        if self.value.dtype is not self.dtype:
            raise InternalError(f"scatter of {self.value.dtype.name} into {self.dtype.name}")
        self.extents = (*kernel.outer, *kernel.updates, *kernel.inner)
        self.last = len(self.extents) - 1
        self.lanes = lanes_for([self.value], frame.target) if self._runs() else 1

    def _runs(self) -> bool:
        """Do the points of the last inner loop lie side by side?"""
        if not self.kernel.inner:
            return False
        stride = coefficient(self.index, self.last)
        return stride is not None and stride.op == "const" and stride.value in (1, -1)

    def write(self) -> None:
        """The whole function body."""
        outer = [self.root.scalar(expand_all(e)) for e in self.kernel.outer]
        sequential = (*self.kernel.updates, *self.kernel.inner)
        limits = [self.root.scalar(expand_all(e)) for e in sequential]
        with tasks(self.fn, self.frame.begin, self.frame.end, outer) as variables:
            self.loops(self.root.inner(variables), len(outer), limits)

    def loops(self, em: Emitter, number: int, limits: Sequence[Value]) -> None:
        """The loops over updates and inner points, outermost first."""
        if not limits:
            self.point(em)
            return
        with self.fn.when(self.fn.icmp("sgt", limits[0], 0)):
            em = em.inner()
            em.hoist([self.index, self.value], set(range(number, self.last + 1)))
            if len(limits) == 1 and self.lanes > 1:
                vectors(
                    em,
                    number,
                    i64(0),
                    limits[0],
                    (1, self.lanes),
                    lambda ems, i: self.point(ems[0]),
                )
                return
            with self.fn.loop(i64(0), limits[0]) as i:
                self.loops(em.inner({number: i}), number + 1, limits[1:])

    def point(self, em: Emitter) -> None:
        """One vector of destinations, read, combined and written."""
        element: Expr = const(0, int64)
        for number, extent in enumerate(self.extents):
            element = element * extent + var(number)
        for index, extent in self.checks:
            emit_check(em, index, extent, element)
        value = em.value(self.value)
        if self.kernel.combine != "set":
            old = em.value(load(self.kernel.out, self.dtype, self.index))
            value = row(self.fn, _ROWS[self.kernel.combine], self.dtype, [old, value], self.dtype)
        em.store(self.kernel.out, self.index, value, self.dtype)
