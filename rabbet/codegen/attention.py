"""AttentionKernel -> LLVM text: a tile of queries against tiles of keys, no matrix of all scores.

Vectors run along queries: scores, weights and the result of a tile are kept transposed, so maxima
and sums over keys need no step across lanes, and keys and values are read one element at a time.
`kernel/attention.py` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.base.dtypes import DType, int64
from rabbet.base.target import Target
from rabbet.codegen import attention_parts as parts
from rabbet.codegen.contract_axes import Loop
from rabbet.codegen.contract_loops import Naturals, Part, call, chunks, quotient, split
from rabbet.codegen.contract_tile import add_product
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.launch import Launch
from rabbet.codegen.operations import register_type
from rabbet.codegen.stepping import product as product_of
from rabbet.expr.expr import Expr, const, select, var
from rabbet.expr.expr import call as call_row
from rabbet.kernel import attention
from rabbet.kernel.loops import ATTENTION_TILE as TILE
from rabbet.kernel.loops import AttentionKernel, Scores

TRUE = Value("true", "i1")


def emit_attention(kernel: AttentionKernel, target: Target, name: str) -> str:
    """The LLVM text of an AttentionKernel as function `name`."""
    return _Forward(kernel, target, name).text()


def launch_attention(kernel: AttentionKernel, target: Target) -> Launch:
    """Tasks, scratch memory per thread, and cost of an AttentionKernel."""
    s = kernel.scores
    heads = product_of(s.batch) * s.heads
    memory = Memory(s, target, _regions(s, target))
    cost = heads * s.queries * s.keys * (s.features + s.values + 10) * 2
    return Launch(heads * _tiles(s.queries), memory.bytes, cost)


def _tiles(extent: Expr) -> Expr:
    return (extent + (TILE - 1)) // TILE


def padded(extent: Expr, target: Target, dtype: DType) -> Expr:
    """The extent in whole vectors."""
    lanes = target.lanes(dtype.bits)
    return (extent + (lanes - 1)) // lanes * lanes


def _regions(s: Scores, target: Target) -> dict[str, Expr]:
    """Elements of each region of scratch memory."""
    features, values = (padded(e, target, s.query.dtype) for e in (s.features, s.values))
    return {
        "rows": call_row("max", features, values) * TILE,  # queries, then results, as in memory
        "query": features * TILE,
        "key": features * TILE,
        "value": values * TILE,
        "score": const(TILE * TILE, int64),
        "result": values * TILE,
        "top": const(TILE, int64),
        "total": const(TILE, int64),
        "shrink": const(TILE, int64),
    }


class Memory:
    """Scratch memory: named regions, one after the other, each from a cache line on."""

    def __init__(self, scores: Scores, target: Target, regions: dict[str, Expr]) -> None:
        self.starts: dict[str, Expr] = {}
        at: Expr = const(0, int64)
        for name, elements in regions.items():
            self.starts[name] = at
            at = at + (elements * scores.query.dtype.itemsize + 63) // 64 * 64
        self.bytes = at


class AttentionWriter:
    """What both attention kernels share: the frame, sizes, scratch memory, tasks."""

    def __init__(
        self,
        kernel: object,
        scores: Scores,
        target: Target,
        name: str,
        regions: dict[str, Expr],
    ) -> None:
        self.scores, self.dtype = scores, scores.query.dtype
        self.module = Module(target)
        self.operands = kernel.operands  # type: ignore[attr-defined]
        self.frame = Frame(self.module, name, self.operands)
        self.fn = self.frame.fn
        self.places = parts.Places(scores)
        self.lanes = target.lanes(self.dtype.bits)
        self.root = Emitter(self.frame)
        self.sizes = Naturals(self.root)
        starts = Memory(scores, target, regions).starts
        scratch = self.fn.parameters["scratch"]
        self.memory = {n: self.fn.address(scratch, self.sizes[e], "i8") for n, e in starts.items()}
        s = scores
        self.extent = {
            n: self.sizes[e]
            for n, e in zip(
                "hlsev", (s.heads, s.queries, s.keys, s.features, s.values), strict=True
            )
        }
        self.padded = {
            n: self.sizes[padded(e, target, self.dtype)]
            for n, e in zip("ev", (s.features, s.values), strict=True)
        }
        self.step = {n: self.fn.mul(p, self.dtype.itemsize) for n, p in self.padded.items()}
        self.tile_step = i64(TILE * self.dtype.itemsize)
        self.element = i64(self.dtype.itemsize)
        self.product = parts.product(self.module, self.dtype)
        self.turn = parts.turn(self.module, self.dtype)
        self.score = self._score()

    def _score(self) -> Part | None:
        s, p = self.scores, self.places
        value = s.score
        if s.causal:
            hidden = const(-attention.INF, value.dtype)
            value = select(var(p.key) <= var(p.query), value, hidden)
        if not s.causal and not attention.masks(s):
            return None
        return parts.score(self.module, self.operands, p, value)

    def vectors(self, count: Value) -> Value:
        """How many vectors hold `count` elements."""
        return quotient(self.fn, self.fn.add(count, self.lanes - 1), i64(self.lanes))

    def copy(self, name: str, value: Expr, axes: tuple[int, int]) -> Part:
        """The part that copies tiles of an operand."""
        return parts.copy(self.module, name, self.operands, self.places, value, axes)

    def make_scores(
        self, at: Sequence[Value], key: Value, keys: Value, query: Value, queries: Value, s: Value
    ) -> None:
        """Masks on a tile of products, where there are any."""
        if self.score is None:
            return
        given = (*at, key, keys, query, queries, s)
        if attention.masks(self.scores):
            call(self.fn, self.score, *given)
            return
        last = self.fn.add(key, TILE - 1)
        with self.fn.when(self.fn.icmp("sgt", last, query)):
            call(self.fn, self.score, *given)


class _Forward(AttentionWriter):
    """One AttentionKernel."""

    def __init__(self, kernel: AttentionKernel, target: Target, name: str) -> None:
        regions = _regions(kernel.scores, target)
        super().__init__(kernel, kernel.scores, target, name, regions)
        self.kernel = kernel
        p, s = self.places, kernel.scores
        self.copy_query = self.copy("copy_query", s.query, (p.query, p.feature))
        self.copy_key = self.copy("copy_key", s.key, (p.key, p.feature))
        self.copy_value = self.copy("copy_value", kernel.value, (p.key, p.value))
        self.weigh = _weigh(self.module, self.dtype)
        self.finish = _finish(self, kernel)
        self.store = parts.store(
            *(self.module, "store", self.operands, p, kernel.stores, (p.query, p.value)),
            *(self.dtype, True),
        )

    def text(self) -> str:
        """The module."""
        fn, s = self.fn, self.scores
        tiles = self.sizes[_tiles(s.queries)]
        loops = tuple(Loop(n, e) for n, e in enumerate((*s.batch, s.heads)))
        for loop in loops:
            self.root.scalar(loop.extent)
        with fn.loop(self.frame.begin, self.frame.end) as number:
            head = quotient(fn, number, tiles)
            first = fn.mul(fn.sub(number, fn.mul(head, tiles)), TILE)
            found = split(self.root.inner(), loops, head)
            self._task([found[loop.variable] for loop in loops], first)
        return self.module.text()

    def _task(self, at: list[Value], query: Value) -> None:
        """One tile of queries of one head."""
        fn, m, extent = self.fn, self.memory, self.extent
        queries = parts.tile_length(self.root, extent["l"], query)
        vectors = self.vectors(queries)
        whole = fn.mul(vectors, self.lanes)
        source = (query, queries, extent["e"], m["rows"], self.step["e"])
        call(fn, self.copy_query, *at, *source)
        turned = (m["rows"], self.step["e"], m["query"], self.tile_step, whole, self.padded["e"])
        call(fn, self.turn, *turned)
        lowest = literal(-attention.INF, register_type(self.dtype, self.lanes))
        with fn.loop(i64(0), i64(TILE), self.lanes) as lane:
            fn.store(lowest, fn.address(m["top"], lane, register_type(self.dtype)))
        end = extent["s"]
        if self.scores.causal:
            end = fn.intrinsic("smin.i64", "i64", end, fn.add(query, TILE))
        with fn.loop(i64(0), end, TILE) as key:
            self._tile(at, query, queries, vectors, key)
        call(fn, self.finish, *at, query, queries, m["top"], m["total"])
        turned = (m["result"], self.tile_step, m["rows"], self.step["v"], self.padded["v"], whole)
        call(fn, self.turn, *turned)
        result = (query, queries, extent["v"], m["rows"], self.step["v"], m["total"])
        call(fn, self.store, *at, *result)

    def _tile(
        self, at: list[Value], query: Value, queries: Value, vectors: Value, key: Value
    ) -> None:
        """One tile of keys."""
        fn, m, extent, step = self.fn, self.memory, self.extent, self.step
        keys = parts.tile_length(self.root, extent["s"], key)
        call(fn, self.copy_key, *at, key, keys, extent["e"], m["key"], step["e"])
        call(fn, self.copy_value, *at, key, keys, extent["v"], m["value"], step["v"])
        tile, none = self.tile_step, m["shrink"]
        a, b, c = (m["key"], step["e"], self.element), (m["query"], tile), (m["score"], tile)
        call(fn, self.product, *a, *b, *c, none, keys, vectors, extent["e"], TRUE)
        self.make_scores(at, key, keys, query, queries, m["score"])
        first = fn.icmp("eq", key, 0)
        rows = (m["top"], m["total"], m["shrink"])
        call(fn, self.weigh, m["score"], keys, vectors, *rows, first)
        a, b, c = (m["value"], self.element, step["v"]), (m["score"], tile), (m["result"], tile)
        call(fn, self.product, *a, *b, *c, m["shrink"], extent["v"], vectors, keys, first)


# Scores become weights, in place; top, total and shrink have one number for each query.
WEIGH = (
    ("ptr noalias", "s"),
    ("i64", "keys"),
    ("i64", "vectors"),
    ("ptr noalias", "top"),
    ("ptr noalias", "total"),
    ("ptr noalias", "shrink"),
    ("i1", "first"),
)


def _weigh(module: Module, dtype: DType) -> Part:
    """The function that does the online softmax of a tile."""
    part = Part(module, "weigh", (), WEIGH)
    fn, lanes = part.fn, part.target.lanes(dtype.bits)
    kind = register_type(dtype, lanes)
    group = attention.GROUP

    def at(column: Value, row: Value) -> Value:
        line = fn.address(part["s"], fn.mul(row, TILE * dtype.itemsize), "i8")
        return fn.address(line, column, kind)

    whole = fn.binary("and", part["keys"], i64(-group))
    with fn.loop(i64(0), part["vectors"]) as column:
        old = fn.load(kind, fn.address(part["top"], column, kind))
        tops = [fn.variable(kind, old) for _ in range(group)]
        with fn.loop(i64(0), whole, group) as row:
            for n, top in enumerate(tops):
                score = fn.load(kind, at(column, fn.add(row, n)))
                top.set(parts.apply(part, dtype, attention.larger, top.get(), score))
        with fn.loop(whole, part["keys"]) as row:
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
        with fn.loop(whole, part["keys"]) as row:
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


def _finish(writer: AttentionWriter, kernel: AttentionKernel) -> Part:
    """The function that ends the softmax of a tile of queries."""
    places, dtype = writer.places, writer.dtype
    part = Part(writer.module, "finish", kernel.operands, (*places.parameters(), *FINISH))
    fn, element = part.fn, register_type(dtype)
    em = places.emitter(part)
    for offset, width, mask in chunks(fn, part["queries"], writer.lanes):
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
