"""The epilogue of a contraction: from one panel of finished sums to the kernel's stores."""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.codegen.contract_axes import Loops, Roles, merge
from rabbet.codegen.contract_loops import Part, chunks, runs, walk
from rabbet.codegen.contract_pack import batch_emitter, batch_parameters
from rabbet.codegen.ir import Module
from rabbet.codegen.operations import register_type
from rabbet.expr.expr import Expr
from rabbet.kernel.loops import Operand, Store

# row, lane: flat numbers of the first ones and how many; sums: rows of `step` bytes.
PARAMETERS = (
    ("i64", "row"),
    ("i64", "rows"),
    ("i64", "lane"),
    ("i64", "lanes"),
    ("ptr noalias readonly", "sums"),
    ("i64", "step"),
)


def epilogue(module: Module, operands: Sequence[Operand], roles: Roles) -> Part:
    """The function that runs the stores for `rows` x `lanes` finished sums."""
    m, n, stores = _merged(roles)
    part = Part(module, "epilogue", operands, (*batch_parameters(roles.batch), *PARAMETERS))
    fn = part.fn
    em = batch_emitter(part, roles.batch)
    vector = part.target.lanes(roles.dtype.bits)
    element = register_type(roles.dtype)
    with runs(em, n, part["lane"], part["lanes"]) as run:
        outer = em.inner({v: x for v, x in run.variables.items() if v != run.last})
        with walk(outer, m, part["row"], part["rows"]) as (t, variables):
            row = fn.address(part["sums"], fn.mul(t, part["step"]), "i8")
            row = fn.address(row, run.position, element)
            point = outer.inner(variables)
            for offset, width, mask in chunks(fn, run.length, vector, moves=run.last is not None):
                moving = {}
                if run.last is not None:
                    moving[run.last] = fn.add(run.variables[run.last], offset)
                # the sums have room for whole vectors, so the rest is read without a mask
                sums = fn.load(register_type(roles.dtype, width), fn.address(row, offset, element))
                here = point.inner(moving, {0: sums}, lanes=width, vector=run.last, mask=mask)
                for store in stores:
                    here.store(
                        store.operand, store.index, here.value(store.value), store.value.dtype
                    )
    return part


def _merged(roles: Roles) -> tuple[Loops, Loops, tuple[Store, ...]]:
    """Rows, lanes and stores with the loops merged that all stores step through as one."""
    roots: tuple[Expr, ...] = tuple(e for s in roles.stores for e in (s.index, s.value))
    m, roots = merge(roles.m, roots)
    n, roots = merge(roles.n, roots)
    stores = tuple(
        Store(s.operand, index, value)
        for s, index, value in zip(roles.stores, roots[::2], roots[1::2], strict=True)
    )
    return m, n, stores
