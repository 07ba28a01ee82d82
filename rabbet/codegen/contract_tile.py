"""The register tile of a contraction: C[rows][lanes] (+)= A[rows][k] * B[k][lanes].

A is read one element at a time down k (each row its own stream), B in vectors, both with any row
stride; the tile's sums stay in registers for one block of k. `sweep` goes down the rows in whole
tiles of one width, `rest` does the rows that are left, always in the full width: columns that do
not count are computed and never read.
"""

from __future__ import annotations

from rabbet.base.dtypes import DType
from rabbet.base.target import Target
from rabbet.codegen.contract_loops import Part, prefetch
from rabbet.codegen.ir import Function, Module, Value, i64, literal, type_suffix
from rabbet.codegen.operations import register_type

# a: address of A's first row, a_step: bytes from row to row. b likewise, from k to k. c: the sums,
# rows of `c_step` bytes. rows: how many, count: how many k, first: is this the first block of k.
# ahead: what to fetch meanwhile for the next panel, one row of it for each k, `ahead_step` bytes
# apart or at the offsets of `ahead_table`.
PARAMETERS = (
    ("ptr noalias readonly", "a"),
    ("i64", "a_step"),
    ("ptr noalias readonly", "b"),
    ("i64", "b_step"),
    ("ptr noalias", "c"),
    ("i64", "c_step"),
    ("i64", "rows"),
    ("i64", "count"),
    ("i1", "first"),
    ("ptr", "ahead"),
    ("i64", "ahead_step"),
    ("ptr noalias readonly", "ahead_table"),
)
LINE = 64  # bytes of a cache line

Tile = list[list[Value]]


def tile_shape(target: Target) -> tuple[int, int]:
    """Rows and vectors of the register tile: as many sums as the registers hold beside one row of
    B.
    """
    if target.tile_rows and target.tile_vectors:
        return target.tile_rows, target.tile_vectors
    return (6, 4) if target.registers >= 32 else (6, 2) if target.has_fma else (4, 2)


def widths(target: Target) -> tuple[int, ...]:
    """Vectors of the tiles that have code of their own: powers of two up to the full width."""
    _, vectors = tile_shape(target)
    return tuple(v for v in (1, 2, 4, 8) if v < vectors) + (vectors,)


def sweep(module: Module, dtype: DType, vectors: int, source: DType | None) -> Part:
    """The function that multiplies the whole row panels of A with a panel of B, `vectors` wide.

    `source`: the dtype of B in memory if the next panel is described by `ahead_table`.
    """
    part = Part(module, f"sweep{vectors}", (), PARAMETERS)
    fn = part.fn
    height, _ = tile_shape(module.target)
    with fn.loop(i64(0), fn.sub(part["rows"], height - 1), height) as row:
        _tile(part, dtype, height, vectors, row, source)
    return part


def rest(module: Module, dtype: DType) -> Part:
    """The function that multiplies the rows that make no whole panel: 3, 2 or 1 at a time."""
    part = Part(module, "rest", (), PARAMETERS)
    fn = part.fn
    height, vectors = tile_shape(module.target)
    whole = fn.mul(fn.do("i64", f"udiv i64 {part['rows'].text}, {height}"), height)
    row = fn.variable("i64", whole)
    for rows in (3, 2, 1):
        left = fn.sub(part["rows"], row.get())
        with fn.when(fn.icmp("sge", left, rows)):
            _tile(part, dtype, rows, vectors, row.get())
            row.set(fn.add(row.get(), rows))
    return part


def _tile(
    part: Part,
    dtype: DType,
    rows: int,
    vectors: int,
    first_row: Value,
    source: DType | None = None,
) -> None:
    """One tile: the sums over this block of k, stored, or added to those of earlier ones."""
    fn = part.fn
    kind = register_type(dtype, part.target.lanes(dtype.bits))
    offset = fn.mul(first_row, part["a_step"])
    pointers = []
    pointer = fn.address(part["a"], offset, "i8")
    for _ in range(rows):
        pointers.append(pointer)
        pointer = fn.address(pointer, part["a_step"], "i8")
    ahead: tuple[Value, Value] | None = None
    if (rows, vectors) == tile_shape(part.target):
        ahead = _line_ahead(part, first_row, rows, vectors * part.target.vector_bits // 8)
    sums = _products(part, dtype, pointers, vectors, ahead, source)
    place = fn.address(part["c"], fn.mul(first_row, part["c_step"]), "i8")
    slots = []
    for _ in range(rows):
        slots.append([fn.address(place, i64(v), kind) for v in range(vectors)])
        place = fn.address(place, part["c_step"], "i8")
    fresh, more, done = (fn.fresh_label(n) for n in ("fresh", "more", "stored"))
    fn.branch(part["first"], fresh, more)
    fn.label(fresh)
    _store(fn, sums, slots)
    fn.jump(done)
    fn.label(more)
    plus = "fadd" if dtype.is_float else "add"
    totals = [
        [fn.binary(plus, fn.load(kind, slot), x) for slot, x in zip(*pair, strict=True)]
        for pair in zip(slots, sums, strict=True)
    ]
    _store(fn, totals, slots)
    fn.jump(done)
    fn.label(done)


def _line_ahead(part: Part, first_row: Value, rows: int, panel: int) -> tuple[Value, Value]:
    """Tile number i fetches line i of each row of the next panel; later tiles fetch nothing new."""
    fn = part.fn
    number = fn.do("i64", f"udiv i64 {first_row.text}, {rows}")
    useful = fn.icmp("ule", number, panel // LINE)
    place = fn.address(part["ahead"], fn.mul(number, LINE), "i8")
    return (
        fn.select(useful, place, part["b"]),
        fn.select(useful, part["ahead_step"], i64(0)),
    )


def _store(fn: Function, tile: Tile, slots: Tile) -> None:
    for values, places in zip(tile, slots, strict=True):
        for value, place in zip(values, places, strict=True):
            fn.store(value, place)


def _products(
    part: Part,
    dtype: DType,
    pointers: list[Value],
    vectors: int,
    ahead: tuple[Value, Value] | None,
    source: DType | None,
) -> Tile:
    """The loop over k, with one phi for each sum; on the way it fetches a column `ahead`."""
    fn, rows = part.fn, len(pointers)
    lanes = part.target.lanes(dtype.bits)
    kind = register_type(dtype, lanes)
    before, body, done = fn.block, fn.fresh_label("k"), fn.fresh_label("summed")
    zero = literal(0, kind)
    fn.branch(fn.icmp("sgt", part["count"], 0), body, done)
    fn.label(body)
    sums = [[fn.name_value() for _ in range(vectors)] for _ in range(rows)]
    counter, panel = fn.name_value(), fn.name_value()
    position = fn.reserve()
    k, b = Value(counter, "i64"), Value(panel, "ptr")
    row = [fn.load(kind, fn.address(b, i64(v), kind)) for v in range(vectors)]
    moved: Tile = []
    for r, pointer in enumerate(pointers):
        element = fn.load(register_type(dtype), fn.address(pointer, k, register_type(dtype)))
        x = fn.splat(element, lanes)
        moved.append(
            [add_product(fn, dtype, x, row[v], Value(sums[r][v], kind)) for v in range(vectors)]
        )
    if ahead is not None:
        if source is None:
            offset = fn.mul(k, ahead[1])
        else:
            entry = fn.load("i64", fn.address(part["ahead_table"], k, "i64"))
            offset = fn.mul(entry, source.itemsize)
        prefetch(fn, fn.address(ahead[0], offset, "i8"), soon=False)
    following = fn.add(k, 1)
    below = fn.address(b, part["b_step"], "i8")
    phis = [f"{counter} = phi i64 [ 0, %{before} ], [ {following.text}, %{body} ]"]
    phis.append(f"{panel} = phi ptr [ %b, %{before} ], [ {below.text}, %{body} ]")
    for names, values in zip(sums, moved, strict=True):
        for name, value in zip(names, values, strict=True):
            phis.append(
                f"{name} = phi {kind} [ {zero.text}, %{before} ], [ {value.text}, %{body} ]"
            )
    fn.fill(position, phis)
    fn.branch(fn.icmp("slt", following, part["count"]), body, done)
    fn.label(done)
    return [
        [
            fn.do(kind, f"phi {kind} [ {zero.text}, %{before} ], [ {v.text}, %{body} ]")
            for v in values
        ]
        for values in moved
    ]


def add_product(fn: Function, dtype: DType, x: Value, y: Value, total: Value) -> Value:
    """x * y + total: fused where the target can."""
    if not dtype.is_float:
        return fn.add(fn.mul(x, y), total)
    if fn.module.target.has_fma:
        return fn.intrinsic(f"fma.{type_suffix(x.type)}", x.type, x, y, total)
    return fn.binary("fadd", fn.binary("fmul", x, y), total)
