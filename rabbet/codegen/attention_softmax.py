"""The softmax of attention, online: scores of a tile become weights, totals become factors.

`kernel/attention.py` has the arithmetic.
"""

from __future__ import annotations

from rabbet.base.dtypes import DType
from rabbet.codegen import attention_parts as parts
from rabbet.codegen.attention_product import last_key
from rabbet.codegen.contract_loops import Part, chunks
from rabbet.codegen.contract_tile import add_product
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.kernel import attention
from rabbet.kernel.loops import ATTENTION_TILE as TILE
from rabbet.kernel.loops import AttentionKernel

# Scores become weights, in place; top, total and shrink have one number for each query.
WEIGH = (
    ("ptr noalias", "s"),
    ("i64", "keys"),
    ("i64", "vectors"),
    ("ptr noalias", "top"),
    ("ptr noalias", "total"),
    ("ptr noalias", "shrink"),
    ("i1", "first"),
    ("i64", "stair"),
)


def weigh(module: Module, dtype: DType) -> Part:
    """The function that does the online softmax of a tile; `stair`: see `attention_product.py`."""
    part = Part(module, "weigh", (), WEIGH)
    fn, lanes = part.fn, part.target.lanes(dtype.bits)
    kind = register_type(dtype, lanes)
    group = attention.GROUP

    def at(column: Value, row: Value) -> Value:
        line = fn.address(part["s"], fn.mul(row, TILE * dtype.itemsize), "i8")
        return fn.address(line, column, kind)

    with fn.loop(i64(0), part["vectors"]) as column:
        keys = last_key(fn, column, lanes, part["stair"], part["keys"])
        whole = fn.binary("and", keys, i64(-group))
        old = fn.load(kind, fn.address(part["top"], column, kind))
        tops = [fn.variable(kind, old) for _ in range(group)]
        with fn.loop(i64(0), whole, group) as row:
            for n, top in enumerate(tops):
                score = fn.load(kind, at(column, fn.add(row, n)))
                top.set(parts.apply(part, dtype, attention.larger, top.get(), score))
        with fn.loop(whole, keys) as row:
            score = fn.load(kind, at(column, row))
            tops[0].set(parts.apply(part, dtype, attention.larger, tops[0].get(), score))
        largest = tops[0].get()
        for top in tops[1:]:
            largest = parts.apply(part, dtype, attention.larger, largest, top.get())
        fn.store(largest, fn.address(part["top"], column, kind))
        over = parts.apply(part, dtype, attention.base, largest)
        shrink = parts.apply(part, dtype, attention.weight, old, over)
        fn.store(shrink, fn.address(part["shrink"], column, kind))

        def weighed(row: Value, column: Value = column, over: Value = over) -> Value:
            place = at(column, row)
            p = parts.apply(part, dtype, attention.weight, fn.load(kind, place), over)
            fn.store(p, place)
            return p

        total = fn.variable(kind, literal(0, kind))
        with fn.loop(i64(0), whole, group) as row:
            a, b, c, d = (weighed(fn.add(row, n)) for n in range(group))
            four = fn.binary("fadd", fn.binary("fadd", a, b), fn.binary("fadd", c, d))
            total.set(fn.binary("fadd", total.get(), four))
        rest = fn.variable(kind, literal(0, kind))
        with fn.loop(whole, keys) as row:
            rest.set(fn.binary("fadd", rest.get(), weighed(row)))
        found = fn.binary("fadd", total.get(), rest.get())
        place = fn.address(part["total"], column, kind)
        grown = add_product(fn, dtype, fn.load(kind, place), shrink, found)
        fn.store(fn.select(part["first"], found, grown), place)
    return part


# Logarithms are stored; totals become what results are multiplied with.
FINISH = (
    ("i64", "query"),
    ("i64", "queries"),
    ("ptr noalias readonly", "top"),
    ("ptr noalias", "total"),
)


def finish(module: Module, kernel: AttentionKernel, places: parts.Places) -> Part:
    """The function that ends the softmax of a tile of queries."""
    dtype, lanes = kernel.scores.query.dtype, module.target.lanes(kernel.scores.query.dtype.bits)
    part = Part(module, "finish", kernel.operands, (*places.parameters(), *FINISH))
    fn, element = part.fn, register_type(dtype)
    em = places.emitter(part)
    for offset, width, mask in chunks(fn, part["queries"], lanes):
        kind = register_type(dtype, width)
        top = fn.load(kind, fn.address(part["top"], offset, element))
        place = fn.address(part["total"], offset, element)
        total = fn.load(kind, place)
        fn.store(parts.apply(part, dtype, attention.inverse, total), place)
        if kernel.row_stores:
            found = parts.apply(part, dtype, attention.logarithm, top, total)
            at = {places.query: fn.add(part["query"], offset)}
            parts.write(em, at, places.query, {1: found}, width, mask, kernel.row_stores)
    return part
