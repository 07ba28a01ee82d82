"""Few rows times a matrix that runs along k in memory (a vector times transposed weights).

Nothing is copied: W lanes of B are read along k, W elements at a time, turned in registers, and
used at once, so every row of B is one long stream through memory. The order of additions is that of
all contractions.
"""

from __future__ import annotations

from rabbet.base.dtypes import DType
from rabbet.codegen.contract_loops import Part, minimum, prefetch
from rabbet.codegen.contract_tile import add_product
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.ir import Module, Value, Variable, i64, literal
from rabbet.codegen.operations import register_type
from rabbet.kernel.loops import CONTRACT_BLOCK

MOST_ROWS = 4  # more rows than this are worth copying B
AHEAD = 2048  # bytes of a stream that are asked for early

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


class Thin:
    """The function for one to MOST_ROWS rows: missing ones repeat the last, which costs nothing
    here.
    """

    def __init__(self, module: Module, dtype: DType) -> None:
        self.dtype = dtype
        self.part = part = Part(module, "thin", (), PARAMETERS)
        self.fn = fn = part.fn
        self.width = module.target.lanes(dtype.bits)
        self.kind = register_type(dtype, self.width)
        last = fn.sub(part["rows"], 1)
        self.a = [self._stream("a", minimum(fn, i64(r), last)) for r in range(MOST_ROWS)]
        self.turned = fn.allocate(f"[{self.width} x {self.kind}]")
        with fn.loop(i64(0), part["lanes"], self.width) as lane:
            totals = self._totals(lane, MOST_ROWS)
            for r, total in enumerate(totals):
                with fn.when(fn.icmp("slt", i64(r), part["rows"])):
                    row = fn.address(part["c"], fn.mul(part["c_step"], r), "i8")
                    fn.store(total.get(), fn.address(row, lane, register_type(dtype)))

    def _stream(self, name: str, number: Value) -> Value:
        fn = self.fn
        return fn.address(self.part[name], fn.mul(self.part[f"{name}_step"], number), "i8")

    def _totals(self, lane: Value, rows: int) -> list[Variable]:
        """The sums of one vector of lanes; lanes that do not exist repeat the last one."""
        fn, part = self.fn, self.part
        last = fn.sub(part["lanes"], 1)
        streams = [self._stream("b", minimum(fn, fn.add(lane, i), last)) for i in range(self.width)]
        zero = literal(0, self.kind)
        totals = [fn.variable(self.kind, zero) for _ in range(rows)]
        plus = "fadd" if self.dtype.is_float else "add"
        with fn.loop(i64(0), part["count"], CONTRACT_BLOCK) as begin:
            end = minimum(fn, fn.add(begin, CONTRACT_BLOCK), part["count"])
            whole = fn.add(begin, fn.binary("and", fn.sub(end, begin), i64(-self.width)))
            sums = [fn.variable(self.kind, zero) for _ in range(rows)]
            with fn.loop(begin, whole, self.width) as k:
                self._add_block(streams, sums, k)
            with fn.when(fn.icmp("slt", whole, end)):
                self._add_rest(streams, sums, whole, end)
            for total, found in zip(totals, sums, strict=True):
                both = fn.binary(plus, total.get(), found.get())
                total.set(fn.select(fn.icmp("eq", begin, 0), found.get(), both))
        return totals

    def _add_block(self, streams: list[Value], sums: list[Variable], k: Value) -> None:
        fn, element = self.fn, register_type(self.dtype)
        rows = []
        for stream in streams:
            place = fn.address(stream, k, element)
            prefetch(fn, fn.address(place, i64(AHEAD), "i8"))
            rows.append(fn.load(self.kind, place))
        for number, column in enumerate(transpose(fn, rows, self.dtype.bits)):
            fn.store(column, fn.address(self.turned, i64(number), self.kind))
        with fn.loop(i64(0), i64(self.width)) as lane:
            column = fn.load(self.kind, fn.address(self.turned, lane, self.kind))
            self._add(column, sums, fn.add(k, lane))

    def _add_rest(
        self, streams: list[Value], sums: list[Variable], begin: Value, end: Value
    ) -> None:
        """Fewer k than a vector holds, one after the other."""
        fn, element = self.fn, register_type(self.dtype)
        kind = f"<{self.width} x ptr>"
        places = Value("poison", kind)
        for i, stream in enumerate(streams):
            places = fn.do(kind, f"insertelement {kind} {places.text}, ptr {stream.text}, i64 {i}")
        every, zero = literal(True, f"<{self.width} x i1>"), literal(0, self.kind)
        with fn.loop(begin, end) as k:
            offsets = fn.splat(k, self.width)
            here = fn.do(
                kind,
                f"getelementptr {element}, {kind} {places.text}, {offsets.type} {offsets.text}",
            )
            self._add(fn.gather(self.kind, here, every, zero), sums, k)

    def _add(self, column: Value, sums: list[Variable], k: Value) -> None:
        fn, element = self.fn, register_type(self.dtype)
        for row, total in zip(self.a, sums, strict=True):
            x = fn.splat(fn.load(element, fn.address(row, k, element)), self.width)
            total.set(add_product(fn, self.dtype, x, column, total.get()))
