"""Private functions that attention kernels are made of: products, copies, transposes of tiles.

Tiles live in scratch memory, rows of whole vectors; what lies beyond their edges is computed with
and never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rabbet.base.dtypes import DType
from rabbet.codegen.contract_loops import Part, chunks, minimum
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.expr.expr import Expr, acc
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import ATTENTION_TILE, Operand, Scores, Store

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
