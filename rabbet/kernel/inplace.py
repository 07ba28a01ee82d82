"""Which operands of a kernel may be written over by one of its outputs: (input, output) pairs.

An output may lie in an input's memory where every load of that input stands at the very index of
the output's one store, and no later than the store. Stores never meet (each writes its element
once), so each element is read by the task that overwrites it, and before it does: within a point
all values are made before any is stored (`kernel/interpret.py` and the code generators alike).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from rabbet.expr.expr import Expr, topological
from rabbet.kernel.loops import ContractKernel, Kernel, RowKernel, Store

Stage = tuple[list[Expr], tuple[Store, ...]]  # what is evaluated before the stores of one point


def overwritable(kernel: Kernel) -> list[tuple[int, int]]:
    """(input, output) operand numbers that may share memory, inputs in order."""
    stages = list(_stages(kernel))
    loads: dict[int, set[Expr]] = {}  # input -> the indices it is read at
    last: dict[int, int] = {}  # input -> the last stage that reads it
    stores: dict[int, list[tuple[int, Expr]]] = {}
    for number, (roots, written) in enumerate(stages):
        for operand, index in _loads(roots):
            loads.setdefault(operand, set()).add(index)
            last[operand] = number
        for store in written:
            stores.setdefault(store.operand, []).append((number, store.index))
    return [
        (i, o)
        for i in sorted(loads)
        for o, places in sorted(stores.items())
        if len(places) == 1
        and kernel.operands[i].mode == "in"
        and kernel.operands[i].dtype.itemsize == kernel.operands[o].dtype.itemsize
        and last[i] <= places[0][0]
        and loads[i] == {places[0][1]}
    ]


def is_copy(kernel: Kernel) -> bool:
    """True for a map that only writes its one input to the same places of its one output."""
    if not isinstance(kernel, RowKernel) or len(kernel.operands) != 2 or kernel.finish:
        return False
    if len(kernel.sweeps) != 1 or kernel.sweeps[0].reductions or kernel.checks:
        return False
    value = kernel.sweeps[0].stores[0].value
    return value.op == "load" and len(value.args) == 1 and bool(overwritable(kernel))


def _stages(kernel: Kernel) -> Iterator[Stage]:
    if isinstance(kernel, RowKernel):
        checks = [e for pair in kernel.checks for e in pair]
        for sweep in kernel.sweeps:
            roots = [r.value for r in sweep.reductions]
            roots += [r.key for r in sweep.reductions if r.key is not None]
            yield [*checks, *roots, *_roots(sweep.stores)], sweep.stores
        yield _roots(kernel.finish), kernel.finish
    elif isinstance(kernel, ContractKernel):
        # The operands of the product are read at other places until the last element is stored.
        yield [kernel.a, kernel.b], ()
        yield _roots(kernel.stores), kernel.stores


def _roots(stores: Iterable[Store]) -> list[Expr]:
    return [e for s in stores for e in (s.value, s.index)]


def _loads(roots: list[Expr]) -> Iterator[tuple[int, Expr]]:
    for e in topological(roots):
        if e.op == "load":
            yield cast(tuple[int, float], e.value)[0], e.args[0]
