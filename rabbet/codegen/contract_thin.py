"""Few rows times a matrix that runs along k in memory (a vector times transposed weights).

Nothing is copied: W lanes of B are read along k, W elements at a time, turned in registers, and
used at once. What bounds it is memory, so W streams of one block of k are fetched a block early,
in runs as long as the block. The order of additions is that of all contractions.
"""

from __future__ import annotations

from functools import lru_cache

from rabbet.base.dtypes import DType
from rabbet.base.target import Target
from rabbet.codegen.contract_loops import Part, first_lanes, minimum, prefetch
from rabbet.codegen.contract_tile import LINE, add_product
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.kernel.loops import CONTRACT_BLOCK

ROWS = (1, 3, 6)  # that functions are made for
MOST_ROWS = ROWS[-1]  # more rows than this are worth copying B
FANOUT = 4  # lanes that are addressed from one pointer

# a: A's rows, `a_step` bytes apart, elements along k `a_k` bytes apart; b: B's lanes, `b_step`
# bytes apart, elements along k; c: the sums, rows of `c_step` bytes; count: how many k, all blocks.
PARAMETERS = (
    ("ptr noalias readonly", "a"),
    ("i64", "a_step"),
    ("i64", "a_k"),
    ("ptr noalias readonly", "b"),
    ("i64", "b_step"),
    ("ptr noalias", "c"),
    ("i64", "c_step"),
    ("i64", "rows"),
    ("i64", "lanes"),
    ("i64", "count"),
)


@lru_cache(maxsize=16)
def thins(target: Target, dtype: DType) -> tuple[Module, dict[int, Part]]:
    """The functions by the rows they are for at most, for all kernels, in a module of their own."""
    module = Module(target, shared=True)
    return module, {rows: Thin(module, dtype, rows).part for rows in ROWS}


class Thin:
    """The function for at most `rows` rows, whose sums wait in registers."""

    def __init__(self, module: Module, dtype: DType, rows: int) -> None:
        self.dtype, self.rows = dtype, rows
        self.part = part = Part(module, f"thin{rows}", (), PARAMETERS)
        self.fn = fn = part.fn
        self.element = register_type(dtype)
        self.width = module.target.lanes(dtype.bits)
        self.kind = register_type(dtype, self.width)
        zero = literal(0, self.kind)
        self.sums = [fn.variable(self.kind, zero) for _ in range(rows)]
        self.totals = [fn.variable(self.kind, zero) for _ in range(rows)]
        last = fn.sub(part["rows"], 1)  # rows that do not exist repeat the last one
        numbers = [minimum(fn, i64(r), last) for r in range(rows)]
        self.streams = [fn.address(part["a"], fn.mul(r, part["a_step"]), "i8") for r in numbers]
        whole = fn.icmp("sge", part["lanes"], self.width)
        with fn.when(whole):
            end = fn.sub(part["lanes"], self.width)
            with fn.loop(i64(0), part["lanes"], self.width) as lane:
                self._group(minimum(fn, lane, end), None)
        with fn.when(fn.binary("xor", whole, Value("true", "i1"))):
            self._group(i64(0), part["lanes"])

    def _group(self, lane: Value, lanes: Value | None) -> None:
        """The sums of one vector of lanes: all of them, or only so many."""
        fn, part, zero = self.fn, self.part, literal(0, self.kind)
        first = fn.address(part["b"], fn.mul(part["b_step"], lane), "i8")
        after = fn.address(first, fn.mul(part["b_step"], self.width), "i8")
        plus = "fadd" if self.dtype.is_float else "add"
        with fn.loop(i64(0), part["count"], CONTRACT_BLOCK) as begin:
            end = minimum(fn, fn.add(begin, CONTRACT_BLOCK), part["count"])
            for sums in self.sums:
                sums.set(zero)
            whole = fn.add(begin, fn.binary("and", fn.sub(end, begin), i64(-self.width)))
            if lanes is None:
                following = fn.icmp("slt", end, part["count"])
                ahead = fn.select(following, fn.address(first, end, self.element), after)
                self._stream(first, begin, whole, ahead)
            else:
                with fn.loop(begin, whole, self.width) as k:
                    self._add_columns(self._rows(first, k, lanes, None), k, None)
            with fn.when(fn.icmp("slt", whole, end)):
                count = fn.sub(end, whole)
                mask = first_lanes(fn, count, self.width)
                self._add_columns(self._rows(first, whole, lanes, mask), whole, count)
            fresh = fn.icmp("eq", begin, 0)
            for sums, total in zip(self.sums, self.totals, strict=True):
                found = sums.get()
                total.set(fn.select(fresh, found, fn.binary(plus, total.get(), found)))
        for row, total in enumerate(self.totals):
            with fn.when(fn.icmp("sgt", part["rows"], row)):
                place = fn.address(part["c"], fn.mul(part["c_step"], row), "i8")
                found = fn.select(fn.icmp("sgt", part["count"], 0), total.get(), zero)
                fn.store(found, fn.address(place, lane, self.element))

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
            self._add_columns(rows[: self.width], k, None)

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

    def _rows(self, first: Value, k: Value, lanes: Value | None, mask: Value | None) -> list[Value]:
        """A vector along k of each lane; lanes that do not exist repeat the last one."""
        fn, found = self.fn, []
        start = fn.address(first, k, self.element)
        for number in range(self.width):
            lane = i64(number)
            if lanes is not None:
                lane = minimum(fn, lane, fn.sub(lanes, 1))
            place = fn.address(start, fn.mul(self.part["b_step"], lane), "i8")
            if mask is None:
                found.append(fn.load(self.kind, place))
            else:
                found.append(fn.masked_load(self.kind, place, mask, literal(0, self.kind)))
        return found

    def _add_columns(self, rows: list[Value], k: Value, count: Value | None) -> None:
        """The products of a block from `k` on: of all its columns, or of the first `count`."""
        fn = self.fn
        here = [self._at(stream, k) for stream in self.streams]
        for number, column in enumerate(transpose(fn, rows, self.dtype.bits)):
            if count is None:
                here = [self._add(r, place, column) for r, place in enumerate(here)]
            elif number < self.width - 1:
                with fn.when(fn.icmp("sgt", count, number)):
                    for r, place in enumerate(here):
                        self._add(r, place, column)
                here = [fn.address(place, self.part["a_k"], "i8") for place in here]

    def _at(self, stream: Value, k: Value) -> Value:
        return self.fn.address(stream, self.fn.mul(k, self.part["a_k"]), "i8")

    def _add(self, row: int, place: Value, column: Value) -> Value:
        """The products with one element of a row; where the next one is."""
        fn, total = self.fn, self.sums[row]
        x = fn.splat(fn.load(self.element, place), self.width)
        total.set(add_product(fn, self.dtype, x, column, total.get()))
        return fn.address(place, self.part["a_k"], "i8")
