"""The register tile of a contraction: C[rows][lanes] (+)= A[rows][k] * B[k][lanes].

A is read one element at a time: either where it is, with any step from row to row and from k to k,
or it lies in panels of `panel_rows` rows, one panel after the other, in a panel the rows side by
side for each k.
B is read in vectors, with any stride. The tile's sums stay in registers for one block of k. `sweep`
goes down the rows in tiles of one width; `rest` does the rows that are left where half a tile is
enough, always in the full width. Rows and columns that do not count are computed and never read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rabbet.base.dtypes import DType, bfloat16
from rabbet.base.target import Target
from rabbet.codegen.contract_loops import Part, first_lanes, minimum, prefetch
from rabbet.codegen.ir import (
    Function,
    Module,
    Value,
    bits_of,
    i64,
    lanes_of,
    literal,
    type_suffix,
    vector_of,
)
from rabbet.codegen.operations import has_masks, register_type
from rabbet.kernel.loops import CONTRACT_BLOCK
from rabbet.kernel.sums import sum_dtype

# a: address of A's first element, a_step: bytes from row to row (in panels: from panel to panel),
# a_k: bytes from k to k (unless in panels).
# b: that of B, b_step from k to k. c: the sums of earlier blocks, rows of `c_step` bytes, room for
# whole tiles. to: where the new sums of whole tiles go, `lanes` of each row; those of others go
# to c.
# rows: how many, count: how many k, first: is this the first block of k.
# ahead: what to fetch meanwhile for the next panel, one row of it for each k, `ahead_step` bytes
# apart or at the offsets of `ahead_table`. a_ahead: likewise of A, so many bytes on.
PARAMETERS = (
    ("ptr noalias readonly", "a"),
    ("i64", "a_step"),
    ("i64", "a_k"),
    ("ptr noalias readonly", "b"),
    ("i64", "b_step"),
    ("ptr", "c"),
    ("i64", "c_step"),
    ("ptr", "to"),
    ("i64", "to_step"),
    ("i64", "lanes"),
    ("i64", "rows"),
    ("i64", "count"),
    ("i1", "first"),
    ("ptr", "ahead"),
    ("i64", "ahead_step"),
    ("ptr noalias readonly", "ahead_table"),
    ("i64", "a_ahead"),
)
LINE = 64  # bytes of a cache line
# What describes windows, in words (`contract_edges` writes it). `a_rows`: the keys that cut any
# window of the task, those that cut tiles of this panel, and for each row of a tile the byte offset
# in A, its number among the sums, its key, and the byte offset of its result (used where `to_step`
# is 0). `a_columns`: by k, offsets of what to fetch meanwhile (of the next panel of B, of the next
# band, and of results that are about to be written); by key, a head: where the list of the elements
# that it leaves of this block begins, how long it is, and its first k. A list has for each element
# the byte offset and how many k further the next one is.
TABLES = (("ptr noalias", "a_rows"), ("ptr noalias readonly", "a_columns"))
POSITIONS, POSITION = 2, 4  # words before positions, and of each
LINE_KEYS, COLUMN_KEYS = (1, 2), (4, 8)  # windows cut at the low end, at the high end
CORNERS = tuple(line | column for line in LINE_KEYS for column in COLUMN_KEYS)
KEYS = (*LINE_KEYS, *COLUMN_KEYS, *CORNERS)
# Tables of offsets in `a_columns`, and what they are counted from: an address, bytes from one pair
# of tiles that fetches it to the next, where it ends, bytes from the first of a pair to the second,
# the table's first word, and a step by which to know it again. The first tiles fetch the next panel
# (few must suffice), of the others one of a pair the next band, one results.
FETCHED, ORIGIN, TURNS = 3, 6, 2
NOTHING = FETCHED * CONTRACT_BLOCK  # a table of zeros
PANEL_AHEAD, BAND_AHEAD, RESULTS_AHEAD = (
    (n * CONTRACT_BLOCK, NOTHING + CONTRACT_BLOCK + ORIGIN * n) for n in range(FETCHED)
)
HEADS, HEAD = NOTHING + CONTRACT_BLOCK + FETCHED * ORIGIN, 3
ELEMENT = 2  # words of an element
LISTS = HEADS + HEAD * (max(KEYS) + 1)  # where lists may begin
STRIP = 4  # panels that few rows read side by side
ROWS_EARLY = 16  # of B in such strips
REST_EARLY = 32  # of B where few rows read it: it may come from memory, which takes as long

# How A lies: where it is with a step, in panels, or windows of an image that two tables describe.
ROWS, PANELS, WINDOWS = "rows", "panels", "windows"

Tile = list[list[Value]]
Masks = Sequence[Value | None]  # by vectors; None: all lanes


def tile_shape(target: Target) -> tuple[int, int]:
    """Rows and vectors of the register tile: as many sums as the registers hold beside one row of
    B. A height that is a power of two divides the sizes people choose.
    """
    if target.tile_rows and target.tile_vectors:
        return target.tile_rows, target.tile_vectors
    return (8, 3) if target.registers >= 32 else (6, 2) if target.has_fma else (4, 2)


def panel_turns(target: Target) -> int:
    """Tiles that fetch a panel: each a line of the cache of half of its rows."""
    panel = tile_shape(target)[1] * target.vector_bits // 8
    return TURNS * -(-panel // LINE)


def widths(target: Target) -> tuple[int, ...]:
    """Vectors of the tiles that have code of their own."""
    _, vectors = tile_shape(target)
    return tuple(v for v in (1, 2, 4, 8) if v < vectors) + (vectors,)


def panel_rows(target: Target, dtype: DType) -> int:
    """Rows of a panel of A: whole tiles and whole vectors."""
    return math.lcm(tile_shape(target)[0], target.lanes(sum_dtype(dtype).bits))


def half(target: Target) -> int:
    """Rows of the lower tile."""
    return (tile_shape(target)[0] + 1) // 2


class Tiles(NamedTuple):
    """The tiles of one kind, for all kernels."""

    module: Module
    sweeps: dict[int, Part]  # by vectors
    rest: Part


@lru_cache(maxsize=64)
def tiles(target: Target, dtype: DType, source: DType | None, form: str) -> Tiles:
    """`sweep` in each width, and `rest`, in a module of their own."""
    module = Module(target, shared=True)
    sweeps = {v: sweep(module, dtype, v, source, form) for v in widths(target)}
    return Tiles(module, sweeps, rest(module, dtype, form))


class Strips(NamedTuple):
    """The strips of one kind, for all kernels."""

    module: Module
    by_shape: dict[tuple[int, int], Part]  # rows and vectors


@lru_cache(maxsize=64)
def all_strips(target: Target, dtype: DType) -> Strips:
    """`strip` in each shape, in a module of their own."""
    module = Module(target, shared=True)
    return Strips(module, {shape: strip(module, dtype, *shape) for shape in strips(target)})


def sweep(module: Module, dtype: DType, vectors: int, source: DType | None, form: str) -> Part:
    """The function that multiplies the rows of A with a panel of B, `vectors` wide, in whole tiles;
    half a tile or less is left to `rest`.

    `source`: the dtype of B in memory if the next panel is described by `ahead_table`.
    """
    part = Part(module, f"sweep{vectors}", (), _parameters(form))
    fn = part.fn
    height, _ = tile_shape(module.target)
    tile = _Tile(part, dtype, height, vectors, form)
    tile.allow(i64(0))
    with fn.loop(i64(0), fn.sub(part["rows"], half(module.target)), height) as row:
        tile.write(row, source)
    return part


def _parameters(form: str) -> tuple[tuple[str, str], ...]:
    return (*PARAMETERS, *TABLES) if form == WINDOWS else PARAMETERS


def rest(module: Module, dtype: DType, form: str) -> Part:
    """The function that multiplies the last rows if they fill no more than half a tile."""
    part = Part(module, "rest", (), _parameters(form))
    fn = part.fn
    height, vectors = tile_shape(module.target)
    whole = fn.mul(fn.do("i64", f"udiv i64 {part['rows'].text}, {height}"), height)
    few = half(module.target)
    final = form == WINDOWS
    _Tile(part, dtype, few, vectors, form, early=REST_EARLY, final=final).write(whole)
    return part


def strips(target: Target) -> tuple[tuple[int, int], ...]:
    """Rows and vectors of low tiles, the best one last: as many sums as a tile has, at most STRIP
    panels wide; and one for few lanes.
    """
    height, vectors = tile_shape(target)
    rows = [r for r in (4, 2, 1) if r <= half(target)]
    return (rows[0], 1), *((r, min(STRIP, height // r) * vectors) for r in rows)


def strip(module: Module, dtype: DType, rows: int, vectors: int) -> Part:
    """The function for at most `rows` rows and long runs of B, fetched early: each is read once."""
    part = Part(module, f"strip{rows}x{vectors}", (), PARAMETERS)
    _Tile(part, dtype, rows, vectors, ROWS, early=ROWS_EARLY).write(i64(0))
    return part


class _Tile:
    """The code of one tile shape inside a part; fetches B `early` rows before it is read. `final`:
    sums of a whole tile go where finished ones do.
    """

    def __init__(
        self,
        part: Part,
        dtype: DType,
        rows: int,
        vectors: int,
        form: str,
        *,
        early: int = 0,
        final: bool = True,
    ) -> None:
        self.part, self.fn, self.dtype = part, part.fn, dtype
        self.rows, self.vectors, self.early = rows, vectors, early
        self.panels, self.windows = form == PANELS, form == WINDOWS
        self.final = final
        sums = sum_dtype(dtype)
        self.lanes = part.target.lanes(sums.bits)
        self.kind = register_type(sums, self.lanes)
        # of A and of B: in bfloat16 a pair of k is one element
        self.element = "i32" if dtype is bfloat16 else register_type(dtype)
        self.row = f"<{self.lanes} x i32>" if dtype is bfloat16 else self.kind
        self.align = dtype.itemsize

    def write(self, first_row: Value, source: DType | None = None) -> None:
        """The sums over this block of k from `first_row` on, stored, or added to earlier ones."""
        fn, part = self.fn, self.part
        ahead: tuple[Value, Value] | None = None
        if self.windows and self.rows == tile_shape(part.target)[0]:
            ahead = self._by_turns(first_row)
        elif (self.rows, self.vectors) == tile_shape(part.target):
            ahead = self._line_ahead(first_row)
        if self.windows:
            self._look_up(first_row)
        sums = self._products(self._streams(first_row), ahead, source)
        if self.windows:
            with fn.when(fn.icmp("eq", first_row, 0)):
                self._allow_cuts(sums[0])
        earlier = self._slots(first_row, part["c"], part["c_step"])
        slots = earlier
        masks: Masks = [None] * self.vectors
        if self.final:
            inside = fn.icmp("sle", fn.add(first_row, self.rows), part["rows"])
            if self.windows:  # rows behind the last one repeat it
                inside = Value("true", "i1")
            to, step = (fn.select(inside, part[f"to{x}"], part[f"c{x}"]) for x in ("", "_step"))
            slots = self._slots(first_row, to, step)
            if has_masks(part.target):
                masks = self._masks(inside)
        fresh, more, done = (fn.fresh_label(n) for n in ("fresh", "more", "stored"))
        fn.branch(part["first"], fresh, more)
        fn.label(fresh)
        _store(fn, sums, slots, masks)
        fn.jump(done)
        fn.label(more)
        plus = "fadd" if self.dtype.is_float else "add"
        totals = [
            [fn.binary(plus, fn.load(self.kind, slot), x) for slot, x in zip(*pair, strict=True)]
            for pair in zip(earlier, sums, strict=True)
        ]
        _store(fn, totals, slots, masks)
        fn.jump(done)
        fn.label(done)

    def _masks(self, inside: Value) -> list[Value]:
        """The lanes of each vector that are stored: all of them in the room for sums."""
        fn = self.fn
        count = fn.select(inside, self.part["lanes"], i64(self.vectors * self.lanes))
        return [
            first_lanes(fn, fn.sub(count, v * self.lanes), self.lanes) for v in range(self.vectors)
        ]

    def _slots(self, first_row: Value, first: Value, step: Value) -> Tile:
        """Where the tile's sums lie."""
        fn, slots = self.fn, []
        if self.windows:
            pairs = zip(self.numbers, self.results, strict=True)
            is_result = fn.icmp("eq", step, 0)
            offsets = [fn.select(is_result, to, fn.mul(r, step)) for r, to in pairs]
            places = [fn.address(first, offset, "i8") for offset in offsets]
            vectors = range(self.vectors)
            return [[fn.address(p, i64(v), self.kind) for v in vectors] for p in places]
        place = fn.address(first, fn.mul(first_row, step), "i8")
        for _ in range(self.rows):
            slots.append([fn.address(place, i64(v), self.kind) for v in range(self.vectors)])
            place = fn.address(place, step, "i8")
        return slots

    def _look_up(self, first_row: Value) -> None:
        """What the tables say of this tile's windows, and of the elements that all of them cut."""
        fn, rows, columns = self.fn, self.part["a_rows"], self.part["a_columns"]
        at = fn.add(fn.mul(first_row, POSITION), POSITIONS)
        table = fn.address(rows, at, "i64")
        words = [
            fn.load("i64", fn.address(table, i64(i), "i64")) for i in range(self.rows * POSITION)
        ]
        self.offsets, self.numbers = words[::POSITION], words[1::POSITION]
        self.results = words[3::POSITION]
        key = fn.load("i64", fn.address(rows, i64(1), "i64"))
        for other in words[2::POSITION]:
            key = fn.binary("and", key, other)
        head = fn.address(columns, fn.add(fn.mul(key, HEAD), HEADS), "i64")
        first, self.left, before = (
            fn.load("i64", fn.address(head, i64(i), "i64")) for i in range(HEAD)
        )
        self.list = fn.address(columns, first, "i64")
        self.first_b = fn.address(self.part["b"], fn.mul(before, self.part["b_step"]), "i8")

    def allow(self, keys: Value) -> None:
        """Say which keys may cut the tiles that follow."""
        if self.windows:
            self.fn.store(keys, self.fn.address(self.part["a_rows"], i64(1), "i64"))

    def _allow_cuts(self, sums: Sequence[Value]) -> None:
        """Let tiles be cut after the first one, which is not, if no sum of a row of it says that
        this panel of B has an infinity or a NaN.
        """
        fn, bits = self.fn, self.dtype.bits
        keys = fn.load("i64", self.part["a_rows"])
        if self.dtype.is_float:
            kind = vector_of(f"i{bits}", self.lanes)
            infinity = literal(int(np.array(np.inf, self.dtype.numpy).view(f"i{bits // 8}")), kind)
            magnitude = literal((1 << bits - 1) - 1, kind)
            for total in sums:
                pattern = fn.do(kind, f"bitcast {total.type} {total.text} to {kind}")
                large = fn.icmp("sge", fn.binary("and", pattern, magnitude), infinity)
                keys = fn.select(fn.any_lane(large), i64(0), keys)
        self.allow(keys)

    def _streams(self, first_row: Value) -> list[Value]:
        """Where each row of A begins; rows that do not exist repeat the last one."""
        fn, part = self.fn, self.part
        if self.panels:
            width = panel_rows(part.target, self.dtype)
            number = fn.do("i64", f"udiv i64 {first_row.text}, {width}")
            inside = fn.sub(first_row, fn.mul(number, width))
            panel = fn.address(part["a"], fn.mul(number, part["a_step"]), "i8")
            return [fn.address(panel, inside, self.element)]
        if self.windows:
            return [fn.address(part["a"], offset, "i8") for offset in self.offsets]
        last = fn.sub(fn.sub(part["rows"], first_row), 1)
        first = fn.address(part["a"], fn.mul(first_row, part["a_step"]), "i8")
        numbers = [minimum(fn, i64(r), last) for r in range(self.rows)]
        return [fn.address(first, fn.mul(r, part["a_step"]), "i8") for r in numbers]

    def _line_ahead(self, first_row: Value) -> tuple[Value, Value]:
        """Tile number i fetches line i of each row of the next panel; later ones nothing new."""
        fn, part = self.fn, self.part
        panel = self.vectors * part.target.vector_bits // 8
        number = fn.do("i64", f"udiv i64 {first_row.text}, {self.rows}")
        useful = fn.icmp("ule", number, panel // LINE)
        place = fn.address(part["ahead"], fn.mul(number, LINE), "i8")
        return (
            fn.select(useful, place, part["b"]),
            fn.select(useful, part["ahead_step"], i64(0)),
        )

    def _by_turns(self, first_row: Value) -> tuple[Value, Value]:
        """A tile's share of one kind of what windows fetch: where it lies and the table of offsets.

        One kind for each tile, since the loop has no more registers. Tiles behind the end fetch
        the first one's.
        """
        fn, columns = self.fn, self.part["a_columns"]
        tile = fn.do("i64", f"udiv i64 {first_row.text}, {self.rows}")
        before = panel_turns(self.part.target)
        is_later = fn.icmp("sge", tile, before)
        pair = fn.do("i64", f"lshr i64 {tile.text}, 1")
        second = fn.binary("and", tile, i64(1))
        kind = fn.select(is_later, fn.add(second, 1), i64(0))
        number = fn.sub(pair, fn.select(is_later, i64(before // TURNS), i64(0)))
        origin = fn.address(columns, fn.add(fn.mul(kind, ORIGIN), PANEL_AHEAD[1]), "i64")
        place = fn.load("ptr", origin)
        step, end, further, table = (
            fn.load("i64", fn.address(origin, i64(n), "i64")) for n in range(1, 5)
        )
        offset = fn.add(fn.mul(number, step), fn.mul(second, further))
        offset = fn.select(fn.icmp("slt", offset, end), offset, i64(0))
        return fn.address(place, offset, "i8"), fn.address(columns, table, "i64")

    def _products(
        self, streams: list[Value], ahead: tuple[Value, Value] | None, source: DType | None
    ) -> Tile:
        """The loop over k, with one phi for each sum; on the way it fetches a column `ahead`."""
        fn, part, kind = self.fn, self.part, self.kind
        before, body, done = fn.block, fn.fresh_label("k"), fn.fresh_label("summed")
        zero, count = literal(0, kind), self.left if self.windows else part["count"]
        fn.branch(fn.icmp("sgt", count, 0), body, done)
        fn.label(body)
        sums = [[fn.name_value() for _ in range(self.vectors)] for _ in range(self.rows)]
        counter, panel, column = (fn.name_value() for _ in range(3))
        position = fn.reserve()
        k, b = Value(counter, "i64"), Value(panel, "ptr")
        vectors = [fn.load(self.row, fn.address(b, i64(v), kind)) for v in range(self.vectors)]
        if self.early:
            early = fn.address(b, fn.mul(part["b_step"], self.early), "i8")
            for v in range(self.vectors):
                prefetch(fn, fn.address(early, i64(v), kind))
        if self.windows:
            element = fn.address(self.list, fn.mul(k, ELEMENT), "i64")
            along = fn.load("i64", element)
        else:
            along = fn.mul(k, part["a_k"])
        moved: Tile = []
        for r in range(self.rows):
            if self.panels:
                place = fn.address(Value(column, "ptr"), i64(r), self.element)
            else:
                place = fn.address(streams[r], along, "i8")
            x = fn.splat(fn.load(self.element, place, self.align), self.lanes)
            row = zip(vectors, sums[r], strict=True)
            moved.append([add_product(fn, self.dtype, x, y, Value(s, kind)) for y, s in row])
        if ahead is not None:
            self._fetch(ahead, source, k)
        if self.panels and ahead is not None:  # the next panel of A: a page that nobody asked for
            prefetch(fn, fn.address(Value(column, "ptr"), part["a_step"], "i8"), soon=False)
        elif ahead is not None and not self.windows:
            prefetch(fn, fn.address(streams[0], fn.add(along, part["a_ahead"]), "i8"), soon=False)
        following = fn.add(k, 1)
        phis = [f"{counter} = phi i64 [ 0, %{before} ], [ {following.text}, %{body} ]"]
        start, step = part["b"], part["b_step"]
        if self.windows:
            further = fn.load("i64", fn.address(element, i64(1), "i64"))
            start, step = self.first_b, fn.mul(further, step)
        below = fn.address(b, step, "i8")
        phis.append(f"{panel} = phi ptr [ {start.text}, %{before} ], [ {below.text}, %{body} ]")
        if self.panels:
            width = panel_rows(part.target, self.dtype)
            next_column = fn.address(Value(column, "ptr"), i64(width), self.element)
            first = streams[0].text
            phis.append(
                f"{column} = phi ptr [ {first}, %{before} ], [ {next_column.text}, %{body} ]"
            )
        for names, values in zip(sums, moved, strict=True):
            for name, value in zip(names, values, strict=True):
                phis.append(
                    f"{name} = phi {kind} [ {zero.text}, %{before} ], [ {value.text}, %{body} ]"
                )
        fn.fill(position, phis)
        fn.branch(fn.icmp("slt", following, count), body, done)
        fn.label(done)
        return [
            [
                fn.do(kind, f"phi {kind} [ {zero.text}, %{before} ], [ {v.text}, %{body} ]")
                for v in values
            ]
            for values in moved
        ]

    def _fetch(self, ahead: tuple[Value, Value], source: DType | None, k: Value) -> None:
        fn = self.fn
        if self.windows:
            offset = fn.load("i64", fn.address(ahead[1], k, "i64"))
        elif source is None:
            offset = fn.mul(k, ahead[1])
        else:
            entry = fn.load("i64", fn.address(self.part["ahead_table"], k, "i64"))
            offset = fn.mul(entry, source.itemsize)
        prefetch(fn, fn.address(ahead[0], offset, "i8"), soon=False)


def _store(fn: Function, tile: Tile, slots: Tile, masks: Masks) -> None:
    for values, places in zip(tile, slots, strict=True):
        for value, place, mask in zip(values, places, masks, strict=True):
            if mask is None:
                fn.store(value, place)
            else:
                fn.masked_store(value, place, mask)


def add_product(fn: Function, dtype: DType, x: Value, y: Value, total: Value) -> Value:
    """x * y + total: fused where the target can. In bfloat16 x and y are pairs, as i32."""
    if dtype is bfloat16:
        pairs = f"<{2 * lanes_of(x.type)} x bfloat>"
        x, y = (fn.do(pairs, f"bitcast {v.type} {v.text} to {pairs}") for v in (x, y))
        name = f"x86.avx512bf16.dpbf16ps.{lanes_of(total.type) * bits_of(total.type)}"
        return fn.intrinsic(name, total.type, total, x, y)
    if not dtype.is_float:
        return fn.add(fn.mul(x, y), total)
    if fn.module.target.has_fma:
        return fn.intrinsic(f"fma.{type_suffix(x.type)}", x.type, x, y, total)
    return fn.binary("fadd", fn.binary("fmul", x, y), total)
