"""Copying an operand of a contraction into the layout that the register tile reads.

The copy is a matrix D[rows][columns] with columns side by side: for A rows are m and columns k, for B
rows are k and columns n. Values outside the operand (padding) become its fill value.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.base.dtypes import DType
from rabbet.codegen.contract_axes import Loops, View
from rabbet.codegen.contract_loops import Part, chunks, runs, walk
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.kernel.loops import Operand

# rows, columns: flat numbers of the first ones and how many; target: D, with `step` bytes from row to
# row; padded: columns up to here are set to 0 where there is no element.
PARAMETERS = (
    ("i64", "row"),
    ("i64", "rows"),
    ("i64", "column"),
    ("i64", "columns"),
    ("ptr noalias", "target"),
    ("i64", "step"),
    ("i64", "padded"),
)


def batch_parameters(batch: Loops) -> tuple[tuple[str, str], ...]:
    """One parameter for each batch variable."""
    return tuple(("i64", f"batch{loop.variable}") for loop in batch)


def batch_emitter(part: Part, batch: Loops) -> Emitter:
    """An emitter that knows the batch variables of a part."""
    return Emitter(part, {loop.variable: part[f"batch{loop.variable}"] for loop in batch})


def pack(
    module: Module, name: str, operands: Sequence[Operand], dtype: DType, batch: Loops, view: View
) -> Part:
    """The function that copies a block of `view`."""
    part = Part(module, name, operands, (*batch_parameters(batch), *PARAMETERS))
    fn = part.fn
    some = fn.binary("and", fn.icmp("sgt", part["rows"], 0), fn.icmp("sgt", part["columns"], 0))
    with fn.when(some):
        _pad(part, dtype)
        _copy_any(part, dtype, batch, view)
    return part


def _pad(part: Part, dtype: DType) -> None:
    """Zero the last vector of every row if the columns do not fill it."""
    fn = part.fn
    lanes = part.target.lanes(dtype.bits)
    kind = register_type(dtype, lanes)
    with fn.when(fn.icmp("slt", part["columns"], part["padded"])):
        last = fn.mul(fn.sub(part["padded"], lanes), dtype.itemsize)
        with fn.loop(i64(0), part["rows"]) as t:
            place = fn.address(_row(part, t), last, "i8")
            fn.store(literal(0, kind), place)


def _row(part: Part, t: Value) -> Value:
    fn = part.fn
    return fn.address(part["target"], fn.mul(t, part["step"]), "i8")


def _copy_any(part: Part, dtype: DType, batch: Loops, view: View) -> None:
    """Any expression, element by element along the columns' runs."""
    fn = part.fn
    em = batch_emitter(part, batch)
    lanes = part.target.lanes(dtype.bits)
    element = register_type(dtype)
    with runs(em, view.columns, part["column"], part["columns"]) as run:
        fixed = {v: x for v, x in run.variables.items() if v != run.last}
        outer = em.inner(fixed)
        with walk(outer, view.rows, part["row"], part["rows"]) as (t, variables):
            place = fn.address(_row(part, t), run.position, element)
            row = outer.inner(variables)
            for offset, width, mask in chunks(fn, run.length, lanes, moves=run.last is not None):
                moving = {}
                if run.last is not None:
                    moving[run.last] = fn.add(run.variables[run.last], offset)
                point = row.inner(moving, lanes=width, vector=run.last, mask=mask)
                value = point.value(view.value)
                here = fn.address(place, offset, element)
                if mask is None:
                    fn.store(value, here)
                else:
                    fn.masked_store(value, here, mask)
