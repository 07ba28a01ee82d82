"""Few rows times a matrix that runs along k in memory (a vector times transposed weights).

Nothing is copied: W lanes of B are read along k, W elements at a time, turned in registers, and
used at once. What bounds it is memory, so W streams of one block of k are fetched a block early,
in runs as long as the block. The order of additions is that of all contractions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from rabbet.base.dtypes import DType
from rabbet.base.target import Target
from rabbet.codegen.contract_loops import Part, minimum, prefetch
from rabbet.codegen.contract_tile import LINE, add_product
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.kernel.loops import CONTRACT_BLOCK

MOST_ROWS = 6  # more rows than this are worth copying B
FANOUT = 4  # lanes that are addressed from one pointer

# a: A's rows, `a_step` bytes apart, elements along k; b: B's lanes, `b_step` bytes apart, elements
# along k; c: the sums, rows of `c_step` bytes; count: how many k, all blocks.
PARAMETERS = (
    ("ptr noalias readonly", "a"),
    ("i64", "a_step"),
    ("ptr noalias readonly", "b"),
    ("i64", "b_step"),
    ("ptr noalias", "c"),
    ("i64", "c_step"),
    ("i64", "rows"),
    ("i64", "lanes"),
    ("i64", "count"),
)


@lru_cache(maxsize=16)
def thins(target: Target, dtype: DType) -> tuple[Module, dict[bool, Part]]:
    """The functions for one row, and for some, for all kernels, in a module of their own."""
    module = Module(target, shared=True)
    return module, {single: Thin(module, dtype, single=single).part for single in (True, False)}


class Thin:
    """The function for one row, or for one to MOST_ROWS rows of which the sums wait in memory."""

    def __init__(self, module: Module, dtype: DType, *, single: bool) -> None:
        self.dtype, self.single = dtype, single
        self.part = part = Part(module, "thin1" if single else "thin", (), PARAMETERS)
        self.fn = fn = part.fn
        self.element = register_type(dtype)
        self.width = module.target.lanes(dtype.bits)
        self.kind = register_type(dtype, self.width)
        self.rows = i64(1) if single else part["rows"]
        places = 1 if single else MOST_ROWS
        self.sums = fn.allocate(f"[{places} x {self.kind}]")
        self.totals = fn.allocate(f"[{places} x {self.kind}]")
        if not single:
            self.turned = fn.allocate(f"[{self.width} x {self.kind}]")
        whole = fn.icmp("sge", part["lanes"], self.width)
        with fn.when(whole):
            last = fn.sub(part["lanes"], self.width)
            with fn.loop(i64(0), part["lanes"], self.width) as lane:
                self._group(minimum(fn, lane, last), i64(self.width))
        with fn.when(fn.binary("xor", whole, Value("true", "i1"))):
            self._group(i64(0), part["lanes"])

    @contextmanager
    def _each_row(self) -> Iterator[Value]:
        if self.single:
            yield i64(0)
            return
        with self.fn.loop(i64(0), self.rows) as row:
            yield row

    def _group(self, lane: Value, lanes: Value) -> None:
        """The sums of one vector of lanes: all of them, in streams, or fewer, point by point."""
        fn, part = self.fn, self.part
        first = fn.address(part["b"], fn.mul(part["b_step"], lane), "i8")
        after = fn.address(first, fn.mul(part["b_step"], self.width), "i8")
        plus = "fadd" if self.dtype.is_float else "add"
        with self._each_row() as row:
            fn.store(literal(0, self.kind), fn.address(self.totals, row, self.kind))
        with fn.loop(i64(0), part["count"], CONTRACT_BLOCK) as begin:
            end = minimum(fn, fn.add(begin, CONTRACT_BLOCK), part["count"])
            with self._each_row() as row:
                fn.store(literal(0, self.kind), fn.address(self.sums, row, self.kind))
            whole = begin
            if lanes.text == str(self.width):
                whole = fn.add(begin, fn.binary("and", fn.sub(end, begin), i64(-self.width)))
                following = fn.icmp("slt", end, part["count"])
                ahead = fn.select(following, fn.address(first, end, self.element), after)
                self._stream(first, begin, whole, ahead)
            with fn.when(fn.icmp("slt", whole, end)):
                self._add_points(first, lanes, whole, end)
            with self._each_row() as row:
                place = fn.address(self.totals, row, self.kind)
                found = fn.load(self.kind, fn.address(self.sums, row, self.kind))
                both = fn.binary(plus, fn.load(self.kind, place), found)
                fn.store(fn.select(fn.icmp("eq", begin, 0), found, both), place)
        with self._each_row() as row:
            place = fn.address(part["c"], fn.mul(part["c_step"], row), "i8")
            total = fn.load(self.kind, fn.address(self.totals, row, self.kind))
            fn.store(total, fn.address(place, lane, self.element))

    def _stream(self, first: Value, begin: Value, end: Value, ahead: Value) -> None:
        """Whole vectors of k of all lanes. Every fourth lane has a pointer of its own, so that all
        addresses are a pointer and a multiple of the step.
        """
        fn, step = self.fn, self.part["b_step"]
        steps = [fn.mul(step, i) for i in range(FANOUT)]
        start = fn.address(first, begin, self.element)
        pointers = [
            fn.variable("ptr", fn.address(start, fn.mul(step, i), "i8"))
            for i in range(0, self.width, FANOUT)
        ]
        with fn.loop(begin, end, self.width) as k:
            self._fetch(ahead, fn.sub(k, begin))
            rows: list[Value] = []
            for pointer in pointers:
                place = pointer.get()
                rows += [fn.load(self.kind, fn.address(place, by, "i8")) for by in steps]
                pointer.set(fn.address(place, i64(self.width), self.element))
            self._add_block(rows[: self.width], k)

    def _fetch(self, ahead: Value, done: Value) -> None:
        """Ask for as much of the block at `ahead` as one step reads, in long runs."""
        fn = self.fn
        position = fn.mul(done, self.width)
        row = fn.do("i64", f"lshr i64 {position.text}, {CONTRACT_BLOCK.bit_length() - 1}")
        column = fn.binary("and", position, i64(CONTRACT_BLOCK - 1))
        place = fn.address(ahead, fn.mul(self.part["b_step"], row), "i8")
        place = fn.address(place, column, self.element)
        for offset in range(0, self.width * self.width * self.dtype.itemsize, LINE):
            prefetch(fn, fn.address(place, i64(offset), "i8"))

    def _add_block(self, rows: list[Value], k: Value) -> None:
        fn = self.fn
        columns = transpose(fn, rows, self.dtype.bits)
        if self.single:
            self._add(columns, i64(0), k)
            return
        for number, column in enumerate(columns):
            fn.store(column, fn.address(self.turned, i64(number), self.kind))
        with self._each_row() as row:
            places = [fn.address(self.turned, i64(i), self.kind) for i in range(self.width)]
            self._add([fn.load(self.kind, place) for place in places], row, k)

    def _add_points(self, first: Value, lanes: Value, begin: Value, end: Value) -> None:
        """One k after the other; lanes that do not exist repeat the first one."""
        fn = self.fn
        exists = fn.icmp("slt", fn.iota(self.width), fn.splat(lanes, self.width))
        numbers = fn.select(exists, fn.iota(self.width), literal(0, f"<{self.width} x i64>"))
        offsets = fn.binary("mul", numbers, fn.splat(self.part["b_step"], self.width))
        every, zero = literal(True, f"<{self.width} x i1>"), literal(0, self.kind)
        with fn.loop(begin, end) as k:
            places = fn.address(fn.address(first, k, self.element), offsets, "i8")
            column = fn.gather(self.kind, places, every, zero)
            with self._each_row() as row:
                self._add([column], row, k)

    def _add(self, columns: list[Value], row: Value, k: Value) -> None:
        """The products of consecutive k from `k` on, to the sums of a row."""
        fn = self.fn
        place = fn.address(self.sums, row, self.kind)
        stream = fn.address(self.part["a"], fn.mul(self.part["a_step"], row), "i8")
        first = fn.address(stream, k, self.element)
        total = fn.load(self.kind, place)
        for number, column in enumerate(columns):
            x = fn.load(self.element, fn.address(first, i64(number), self.element))
            total = add_product(fn, self.dtype, fn.splat(x, self.width), column, total)
        fn.store(total, place)
