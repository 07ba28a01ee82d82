"""Maps whose last loop is a few elements long: vectors run along the loop before it.

out[u * S + j] = f(u, j) for j < S <= MOST_DIGITS: what comes of weaving tensors together, of making
an image larger, of the gradient of pooling. Each j is code of its own, so conditions on it cost
nothing; its vector runs along u, and S of them are woven into vectors of neighbours to be stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Value, i64
from rabbet.codegen.operations import memory_type, to_memory
from rabbet.codegen.rows_shared import Writer, sweep_roots
from rabbet.codegen.stepping import tail_mask, tasks, vectors
from rabbet.expr.affine import coefficient
from rabbet.kernel.loops import MOST_DIGITS, RowKernel, Store

COLUMNS = 256  # values of u per task


def digits(kernel: RowKernel) -> int | None:
    """The extent S of the last loop, if the kernel is such a map."""
    plain = len(kernel.sweeps) == 1 and not kernel.sweeps[0].reductions and not kernel.across
    if not plain or kernel.finish or kernel.checks or not kernel.outer or len(kernel.inner) != 1:
        return None
    extent = kernel.inner[0]
    if extent.op != "const" or not 2 <= int(extent.value) <= MOST_DIGITS:
        return None
    count = int(extent.value)
    last = len(kernel.outer)
    for store in kernel.sweeps[0].stores:
        for variable, wanted in ((last, 1), (last - 1, count)):
            step = coefficient(store.index, variable)
            if step is None or step.op != "const" or step.value != wanted:
                return None
    return count


class Digits(Writer):
    """Vectors along the last outer loop, the inner loop written out."""

    def __init__(self, kernel: RowKernel, frame: Frame, count: int) -> None:
        super().__init__(kernel, frame)
        self.count = count

    def write(self) -> None:
        """The whole function body."""
        fn, last = self.fn, self.outer[-1]
        blocks = fn.binary("udiv", fn.add(last, COLUMNS - 1), i64(COLUMNS))
        extents = [*self.outer[:-1], blocks]
        with tasks(fn, self.frame.begin, self.frame.end, extents) as variables:
            start = fn.mul(variables.pop(self.rank - 1), COLUMNS)
            stop = fn.intrinsic("smin.i64", "i64", fn.add(start, COLUMNS), last)
            em = self.root.inner(variables)
            em.hoist(list(sweep_roots(self.kernel.sweeps[0])), {self.rank - 1, self.rank})

            def work(ems: list[Emitter], u: Value) -> None:
                self.block(ems[0], fn.sub(stop, u))

            vectors(em, self.rank - 1, start, stop, (1, self.lanes), work)

    def block(self, em: Emitter, rest: Value) -> None:
        """All elements of one vector of u; `rest` values of u are left."""
        stores = self.kernel.sweeps[0].stores
        each = [em.inner({self.rank: i64(j)}) for j in range(self.count)]
        if em.lanes == 1:
            for inside in each:
                self.store(inside, stores)
            return
        found = [[to_memory(self.fn, e.value(s.value)) for e in each] for s in stores]
        for store, values in zip(stores, found, strict=True):
            self.woven(each[0], store, values, rest)

    def woven(self, em: Emitter, store: Store, values: Sequence[Value], rest: Value) -> None:
        """Store values[j][lane] at lane * count + j."""
        fn, lanes = self.fn, em.lanes
        kind = memory_type(self.kernel.operands[store.operand].dtype)
        base = fn.address(self.frame.pointer(store.operand), em.scalar(store.index), kind)
        for part in range(self.count):
            found = values[0]
            sources = [divmod(part * lanes + i, self.count) for i in range(lanes)]
            for j in range(1, self.count):
                before = [lane if j == 1 else i for i, (lane, _) in enumerate(sources)]
                taken = [
                    lanes + lane if source == j else old
                    for (lane, source), old in zip(sources, before, strict=True)
                ]
                found = fn.shuffle(found, values[j], taken)
            place = fn.address(base, i64(part * lanes), kind)
            if em.mask is None:
                fn.store(found, place)
                continue
            left = fn.sub(fn.mul(rest, self.count), part * lanes)
            some = fn.intrinsic("smax.i64", "i64", left, i64(0))
            fn.masked_store(found, place, tail_mask(fn, some, lanes))
