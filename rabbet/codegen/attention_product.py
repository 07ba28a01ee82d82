"""Products of the tiles that attention is made of, between rows in scratch memory.

A product asks meanwhile for memory that is needed next (`attention_ahead.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rabbet.base.dtypes import DType
from rabbet.base.target import Target
from rabbet.codegen import attention_ahead
from rabbet.codegen.contract_loops import Part, minimum
from rabbet.codegen.contract_tile import add_product
from rabbet.codegen.ir import Function, Module, Value, Variable, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.kernel.loops import ATTENTION_STEP

# c[rows][vectors] = sum over k of a[row][k] * b[k], from 0 in order; unless `fresh`, the old c
# times `factors` (one number for each lane) is added. Steps are in bytes.
PRODUCT = (
    ("ptr noalias readonly", "a"),
    ("i64", "a_row"),
    ("i64", "a_k"),
    ("ptr noalias readonly", "b"),
    ("i64", "b_step"),
    ("ptr noalias", "c"),
    ("i64", "c_step"),
    ("ptr noalias readonly", "factors"),
    ("i64", "rows"),
    ("i64", "vectors"),
    ("i64", "count"),
    ("i1", "fresh"),
)
STAIR = ("i64", "stair")


def shapes(target: Target) -> tuple[tuple[int, int], ...]:
    """(vectors, rows) of the register tiles, widest first, each half as wide as the one before."""
    if target.registers >= 32:
        return (4, 6), (2, 8), (1, 8)
    return (2, 4), (1, 8)


def product(
    module: Module,
    dtype: DType,
    tiles: tuple[tuple[int, int], ...] | None = None,
    *,
    asks: bool = False,
    stairs: bool = False,
) -> Part:
    """The function that multiplies tiles; `tiles`: the register tiles, if not the usual ones.

    `asks`: for memory that is needed soon, meanwhile. `stairs`: of the steps of ATTENTION_STEP
    lanes the first takes part in the first `stair` products of the sum, the second in twice as
    many, and so on.
    """
    name = "product_of_stairs" if stairs else "product"
    extra = (STAIR,) * stairs + attention_ahead.PARAMETERS * asks
    part = Part(module, name, (), (*PRODUCT, *extra))
    fn = part.fn
    column = i64(0)
    for width, height in tiles or shapes(module.target):
        end = fn.add(column, fn.binary("and", fn.sub(part["vectors"], column), i64(-width)))
        with fn.loop(column, end, width) as first:
            row = i64(0)
            for rows in (height, 2, 1):
                left = fn.sub(part["rows"], row)
                stop = fn.add(row, fn.sub(left, fn.binary("urem", left, i64(rows))))
                with fn.loop(row, stop, rows) as number:
                    if asks:
                        attention_ahead.ask(part, number, rows)
                    _Tile(part, dtype, (rows, width), stairs).write(number, first)
                row = stop
        column = end
    return part


def last_key(fn: Function, column: Value, lanes: int, stair: Value, keys: Value) -> Value:
    """Where the keys end that a vector of queries sees (see `product`)."""
    step = fn.binary("udiv", fn.mul(column, lanes), i64(ATTENTION_STEP))
    return minimum(fn, keys, fn.mul(fn.add(step, 1), stair))


class _Tile:
    """One register tile of a product."""

    def __init__(self, part: Part, dtype: DType, shape: tuple[int, int], stairs: bool) -> None:
        self.part, self.fn, self.dtype, self.stairs = part, part.fn, dtype, stairs
        self.rows, self.width = shape
        self.lanes = part.target.lanes(dtype.bits)
        self.kind, self.element = register_type(dtype, self.lanes), register_type(dtype)

    def write(self, row: Value, column: Value) -> None:
        """Sums of the rows and vectors from the given ones on, to memory."""
        fn, part, kind = self.fn, self.part, self.kind
        zero = literal(0, kind)
        sums = [[fn.variable(kind, zero) for _ in range(self.width)] for _ in range(self.rows)]
        offset = fn.mul(column, self.lanes * self.dtype.itemsize)
        sources = [
            fn.address(part["a"], fn.mul(fn.add(row, r), part["a_row"]), "i8")
            for r in range(self.rows)
        ]
        b = fn.address(part["b"], offset, "i8")
        if not self.stairs:
            self._add(sums, sources, b, (i64(0), part["count"]), 0)
        else:
            begin = i64(0)
            for v in range(self.width):
                lanes, stair = self.lanes, part["stair"]
                end = last_key(fn, fn.add(column, v), lanes, stair, part["count"])
                self._add(sums, sources, b, (begin, end), v)
                begin = end
        c = fn.address(part["c"], fn.add(fn.mul(row, part["c_step"]), offset), "i8")
        self._store(sums, c, offset)

    def _add(
        self,
        sums: list[list[Variable]],
        sources: list[Value],
        b: Value,
        terms: tuple[Value, Value],
        first: int,
    ) -> None:
        """Add products of the vectors from number `first` on."""
        fn, part = self.fn, self.part
        with fn.loop(*terms) as k:
            here = fn.address(b, fn.mul(k, part["b_step"]), "i8")
            seen = range(first, self.width)
            line = [fn.load(self.kind, fn.address(here, i64(v), self.kind)) for v in seen]
            along = fn.mul(k, part["a_k"])
            for source, totals in zip(sources, sums, strict=True):
                x = fn.load(self.element, fn.address(source, along, "i8"))
                x = fn.splat(x, self.lanes)
                for y, total in zip(line, totals[first:], strict=True):
                    total.set(add_product(fn, self.dtype, x, y, total.get()))

    def _store(self, sums: list[list[Variable]], c: Value, offset: Value) -> None:
        fn, part, kind = self.fn, self.part, self.kind
        places = []
        for _ in range(self.rows):
            places.append([fn.address(c, i64(v), kind) for v in range(self.width)])
            c = fn.address(c, part["c_step"], "i8")
        with either(part, part["fresh"]) as way:
            factors = fn.address(part["factors"], offset, "i8")
            for is_fresh in way:
                for v in range(self.width):
                    factor = None if is_fresh else fn.load(kind, fn.address(factors, i64(v), kind))
                    for line_places, totals in zip(places, sums, strict=True):
                        value = totals[v].get()
                        if factor is not None:
                            old = fn.load(kind, line_places[v])
                            value = add_product(fn, self.dtype, old, factor, value)
                        fn.store(value, line_places[v])


@contextmanager
def either(part: Part, condition: Value) -> Iterator[Iterator[bool]]:
    """Code for a condition and for its opposite: the caller writes both in turn."""
    fn = part.fn
    yes, no, done = (fn.fresh_label(n) for n in ("yes", "no", "done"))

    def ways() -> Iterator[bool]:
        fn.branch(condition, yes, no)
        fn.label(yes)
        yield True
        fn.jump(done)
        fn.label(no)
        yield False
        fn.jump(done)
        fn.label(done)

    yield ways()
