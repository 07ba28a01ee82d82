"""Private functions that attention kernels are made of: products, copies, transposes of tiles.

Tiles live in scratch memory, rows of whole vectors; what lies beyond their edges is computed with
and never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rabbet.base.dtypes import DType
from rabbet.base.target import Target
from rabbet.codegen.contract_loops import Part, chunks, minimum
from rabbet.codegen.contract_tile import add_product
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.expr.expr import Expr, acc
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import ATTENTION_TILE, Operand, Scores, Store

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


def shapes(target: Target) -> tuple[tuple[int, int], ...]:
    """(vectors, rows) of the register tiles, widest first, each half as wide as the one before."""
    if target.registers >= 32:
        return (4, 6), (2, 8), (1, 8)
    return (2, 4), (1, 8)


def product(module: Module, dtype: DType, tiles: tuple[tuple[int, int], ...] | None = None) -> Part:
    """The function that multiplies tiles; `tiles`: the register tiles, if not the usual ones."""
    part = Part(module, "product", (), PRODUCT)
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
                    _tile(part, dtype, number, rows, first, width)
                row = stop
        column = end
    return part


def _tile(part: Part, dtype: DType, row: Value, rows: int, column: Value, width: int) -> None:
    fn, lanes = part.fn, part.target.lanes(dtype.bits)
    kind, element = register_type(dtype, lanes), register_type(dtype)
    zero = literal(0, kind)
    sums = [[fn.variable(kind, zero) for _ in range(width)] for _ in range(rows)]
    offset = fn.mul(column, lanes * dtype.itemsize)
    b = fn.address(part["b"], offset, "i8")
    sources = [
        fn.address(part["a"], fn.mul(fn.add(row, r), part["a_row"]), "i8") for r in range(rows)
    ]
    with fn.loop(i64(0), part["count"]) as k:
        here = fn.address(b, fn.mul(k, part["b_step"]), "i8")
        line = [fn.load(kind, fn.address(here, i64(v), kind)) for v in range(width)]
        along = fn.mul(k, part["a_k"])
        for source, totals in zip(sources, sums, strict=True):
            x = fn.splat(fn.load(element, fn.address(source, along, "i8")), lanes)
            for y, total in zip(line, totals, strict=True):
                total.set(add_product(fn, dtype, x, y, total.get()))
    c = fn.address(part["c"], fn.add(fn.mul(row, part["c_step"]), offset), "i8")
    places = []
    for _ in range(rows):
        places.append([fn.address(c, i64(v), kind) for v in range(width)])
        c = fn.address(c, part["c_step"], "i8")
    with either(part, part["fresh"]) as way:
        factors = fn.address(part["factors"], offset, "i8")
        for is_fresh in way:
            for v in range(width):
                factor = None if is_fresh else fn.load(kind, fn.address(factors, i64(v), kind))
                for line_places, totals in zip(places, sums, strict=True):
                    value = totals[v].get()
                    if factor is not None:
                        old = fn.load(kind, line_places[v])
                        value = add_product(fn, dtype, old, factor, value)
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


# to[column][row] = source[row][column] for whole blocks.
TURN = (
    ("ptr noalias readonly", "source"),
    ("i64", "source_step"),
    ("ptr noalias", "to"),
    ("i64", "to_step"),
    ("i64", "rows"),
    ("i64", "columns"),
)


def turn(module: Module, dtype: DType) -> Part:
    """The function that transposes a tile; its edges are those of whole vectors."""
    part = Part(module, "turn", (), TURN)
    fn, lanes = part.fn, part.target.lanes(dtype.bits)
    kind, element = register_type(dtype, lanes), register_type(dtype)
    with fn.loop(i64(0), part["rows"], lanes) as row:
        with fn.loop(i64(0), part["columns"], lanes) as column:
            source = fn.address(part["source"], fn.mul(row, part["source_step"]), "i8")
            source = fn.address(source, column, element)
            block = []
            for _ in range(lanes):
                block.append(fn.load(kind, source))
                source = fn.address(source, part["source_step"], "i8")
            to = fn.address(part["to"], fn.mul(column, part["to_step"]), "i8")
            to = fn.address(to, row, element)
            for vector in transpose(fn, block, dtype.bits):
                fn.store(vector, to)
                to = fn.address(to, part["to_step"], "i8")
    return part


class Places:
    """The variables of an attention kernel, and the parameters that carry them into a part."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.fixed = len(scores.batch) + 1  # batch and head
        self.query, self.key, self.feature, self.value = (self.fixed + n for n in range(4))

    def parameters(self) -> tuple[tuple[str, str], ...]:
        """One for each batch variable and the head."""
        return tuple(("i64", f"at{n}") for n in range(self.fixed))

    def emitter(self, part: Part) -> Emitter:
        """An emitter inside a part that knows them."""
        return Emitter(part, {n: part[f"at{n}"] for n in range(self.fixed)})


# to[row][column] = value, rows from `first` on; rows are filled up with zeros to whole vectors.
COPY = (
    ("i64", "first"),
    ("i64", "rows"),
    ("i64", "columns"),
    ("ptr noalias", "to"),
    ("i64", "step"),
)


def copy(
    module: Module,
    name: str,
    operands: Sequence[Operand],
    places: Places,
    value: Expr,
    axes: tuple[int, int],
) -> Part:
    """The function that copies a tile of an operand; `axes`: variables of rows and columns."""
    part = Part(module, name, operands, (*places.parameters(), *COPY))
    fn, lanes, e = part.fn, part.target.lanes(value.dtype.bits), expand_all(value)
    row_axis, column_axis = axes
    em = places.emitter(part)
    with fn.loop(i64(0), part["rows"]) as row:
        to = fn.address(part["to"], fn.mul(row, part["step"]), "i8")
        at = em.inner({row_axis: fn.add(part["first"], row)})
        for offset, width, mask in chunks(fn, part["columns"], lanes):
            here = at.inner({column_axis: offset}, lanes=width, vector=column_axis, mask=mask)
            found = here.value(e)
            if mask is not None:
                found = fn.select(mask, found, literal(0, found.type))
            fn.store(found, fn.address(to, offset, register_type(value.dtype)))
    return part


# The tile's rows from `first` on (each times its number of `factors`) through the stores.
STORE = (
    ("i64", "first"),
    ("i64", "rows"),
    ("i64", "columns"),
    ("ptr noalias readonly", "tile"),
    ("i64", "step"),
)


def store(
    module: Module,
    name: str,
    operands: Sequence[Operand],
    places: Places,
    stores: Sequence[Store],
    axes: tuple[int, int],
    dtype: DType,
    factors: bool = False,
) -> Part:
    """The function that stores a tile as acc(0); `axes`: variables of rows and columns."""
    extra = (("ptr noalias readonly", "factors"),) if factors else ()
    part = Part(module, name, operands, (*places.parameters(), *STORE, *extra))
    fn, lanes, element = part.fn, part.target.lanes(dtype.bits), register_type(dtype)
    row_axis, column_axis = axes
    em = places.emitter(part)
    with fn.loop(i64(0), part["rows"]) as row:
        tile = fn.address(part["tile"], fn.mul(row, part["step"]), "i8")
        at = em.inner({row_axis: fn.add(part["first"], row)})
        for offset, width, mask in chunks(fn, part["columns"], lanes):
            found = fn.load(register_type(dtype, width), fn.address(tile, offset, element))
            if factors:
                factor = fn.load(element, fn.address(part["factors"], row, element))
                found = fn.binary("fmul", found, fn.splat(factor, width))
            write(at, {column_axis: offset}, column_axis, {0: found}, width, mask, stores)
    return part


def write(
    em: Emitter,
    variables: dict[int, Value],
    axis: int,
    accs: dict[int, Value],
    width: int,
    mask: Value | None,
    stores: Sequence[Store],
) -> None:
    """Run stores for one vector along `axis`."""
    here = em.inner(variables, accs, lanes=width, vector=axis, mask=mask)
    for s in stores:
        here.store(s.operand, s.index, here.value(expand_all(s.value)), s.value.dtype)


def apply(part: Part, dtype: DType, rule: Callable[..., Expr], *values: Value) -> Value:
    """A rule of `kernel/attention.py` on vectors."""
    lanes = part.target.lanes(dtype.bits)
    em = Emitter(part, {}, dict(enumerate(values)), lanes=lanes, vector=-1)
    return em.value(expand_all(rule(*(acc(n, dtype) for n in range(len(values))))))


# s[key][query] = score, for keys and queries from the given ones on.
SCORE = (
    ("i64", "key"),
    ("i64", "keys"),
    ("i64", "query"),
    ("i64", "queries"),
    ("ptr noalias", "s"),
)


def score(module: Module, operands: Sequence[Operand], places: Places, value: Expr) -> Part:
    """The function that makes scores of products."""
    part = Part(module, "score", operands, (*places.parameters(), *SCORE))
    fn, dtype = part.fn, value.dtype
    lanes, element, e = part.target.lanes(dtype.bits), register_type(dtype), expand_all(value)
    em = places.emitter(part)
    with fn.loop(i64(0), part["keys"]) as row:
        at = em.inner({places.key: fn.add(part["key"], row)})
        line = fn.address(part["s"], fn.mul(row, ATTENTION_TILE * dtype.itemsize), "i8")
        for offset, width, mask in chunks(fn, part["queries"], lanes):
            place = fn.address(line, offset, element)
            product = fn.load(register_type(dtype, width), place)
            variables = {places.query: fn.add(part["query"], offset)}
            here = at.inner(variables, {0: product}, lanes=width, vector=places.query, mask=mask)
            fn.store(here.value(e), place)
    return part


def tile_length(em: Emitter, extent: Value, first: Value) -> Value:
    """How many queries or keys the tile from `first` on has."""
    return minimum(em.fn, i64(ATTENTION_TILE), em.fn.sub(extent, first))
