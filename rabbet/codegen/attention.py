"""AttentionKernel -> LLVM text: a tile of queries against tiles of keys, no matrix of all scores.

Vectors run along queries: scores, weights and the result of a tile are kept transposed, so maxima
and sums over keys need no step across lanes, and keys and values are read one element at a time.
`kernel/attention.py` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rabbet.base.dtypes import DType, int64
from rabbet.base.target import Target
from rabbet.codegen import attention_ahead as ahead
from rabbet.codegen import attention_parts as parts
from rabbet.codegen.attention_ahead import Rows
from rabbet.codegen.attention_product import product
from rabbet.codegen.attention_softmax import finish, weigh
from rabbet.codegen.contract_axes import Loop
from rabbet.codegen.contract_loops import Naturals, Part, call, minimum, quotient, split
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.launch import Launch
from rabbet.codegen.operations import register_type
from rabbet.codegen.stepping import product as product_of
from rabbet.expr.expr import Expr, const, select, var
from rabbet.expr.expr import call as call_row
from rabbet.kernel import attention
from rabbet.kernel.loops import ATTENTION_STEP as STEP
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

    asks = False  # do products ask for memory that is needed soon?

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
        self.product = product(self.module, self.dtype, asks=self.asks)
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


class Place(NamedTuple):
    """A task: batch and head, and the first of its tile of queries."""

    at: list[Value]
    query: Value


class Tile(NamedTuple):
    """A tile of queries and one of keys."""

    here: Place
    following: Place  # the task after this one
    queries: Value
    vectors: Value  # of queries
    key: Value
    keys: Value
    is_last: Value


class _Forward(AttentionWriter):
    """One AttentionKernel."""

    asks = True

    def __init__(self, kernel: AttentionKernel, target: Target, name: str) -> None:
        regions = _regions(kernel.scores, target)
        super().__init__(kernel, kernel.scores, target, name, regions)
        self.kernel, self.causal = kernel, kernel.scores.causal
        p, s = self.places, kernel.scores
        self.copy_query = self.copy("copy_query", s.query, (p.query, p.feature))
        self.copy_key = self.copy("copy_key", s.key, (p.key, p.feature))
        self.copy_value = self.copy("copy_value", kernel.value, (p.key, p.value))
        self.queries = ahead.Array.read(s.query, (p.query, p.feature))
        self.keys = ahead.Array.read(s.key, (p.key, p.feature))
        self.values = ahead.Array.read(kernel.value, (p.key, p.value))
        self.weigh = weigh(self.module, self.dtype)
        stairs = product(self.module, self.dtype, asks=True, stairs=True) if self.causal else None
        self.combine = stairs or self.product
        self.finish = finish(self.module, kernel, p)
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

        def place(number: Value) -> Place:
            head = quotient(fn, number, tiles)
            first = fn.mul(fn.sub(number, fn.mul(head, tiles)), TILE)
            found = split(self.root.inner(), loops, head)
            return Place([found[loop.variable] for loop in loops], first)

        with fn.loop(self.frame.begin, self.frame.end) as number:
            self._task(place(number), place(fn.add(number, 1)))
        return self.module.text()

    def _task(self, here: Place, following: Place) -> None:
        """One tile of queries of one head; `following`: the task after it."""
        fn, m, extent = self.fn, self.memory, self.extent
        at, query = here
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
        if self.causal:
            end = fn.intrinsic("smin.i64", "i64", end, fn.add(query, TILE))
        with fn.loop(i64(0), end, TILE) as key:
            is_last = fn.icmp("sge", fn.add(key, TILE), end)
            keys = parts.tile_length(self.root, extent["s"], key)
            tile = Tile(here, following, queries, vectors, key, keys, is_last)
            self._scores(tile)
            self._results(tile)
        call(fn, self.finish, *at, query, queries, m["top"], m["total"])
        turned = (m["result"], self.tile_step, m["rows"], self.step["v"], self.padded["v"], whole)
        call(fn, self.turn, *turned)
        result = (query, queries, extent["v"], m["rows"], self.step["v"], m["total"])
        call(fn, self.store, *at, *result)

    def _scores(self, t: Tile) -> None:
        """Scores of a tile of keys."""
        fn, m, step = self.fn, self.memory, self.step
        at, query = t.here
        call(fn, self.copy_key, *at, t.key, t.keys, self.extent["e"], m["key"], step["e"])
        soon = self._ahead_of_scores(t)
        if not self.causal or self.score is None:
            self._multiply_scores(t.vectors, t.keys, (m["key"], m["query"], m["score"]), soon)
            self.make_scores(at, t.key, t.keys, query, t.queries, m["score"])
            return
        is_diagonal = fn.icmp("eq", t.key, query)
        height = fn.select(is_diagonal, i64(STEP), i64(TILE))
        with fn.loop(i64(0), t.keys, height) as row:
            hidden = fn.select(is_diagonal, row, i64(0))  # queries
            keys = minimum(fn, height, fn.sub(t.keys, row))
            across = fn.mul(hidden, self.element)
            places = (
                fn.address(m["key"], fn.mul(row, step["e"]), "i8"),
                fn.address(m["query"], across, "i8"),
                fn.address(m["score"], fn.add(fn.mul(row, self.tile_step), across), "i8"),
            )
            queries = fn.intrinsic("smax.i64", "i64", fn.sub(t.queries, hidden), i64(0))
            here = [rows.after(fn, row) for rows in soon]
            self._multiply_scores(self.vectors(queries), keys, places, here)
            key, query_here = fn.add(t.key, row), fn.add(query, hidden)
            masked = TRUE
            if not attention.masks(self.scores):
                queries, masked = minimum(fn, queries, i64(STEP)), is_diagonal
            with fn.when(masked):
                call(fn, self.score, *at, key, keys, query_here, queries, places[2])

    def _multiply_scores(
        self, vectors: Value, keys: Value, places: tuple[Value, ...], soon: Sequence[Rows]
    ) -> None:
        key, query, score = places
        a, b = (key, self.step["e"], self.element), (query, self.tile_step)
        shape = (self.memory["shrink"], keys, vectors, self.extent["e"], TRUE)
        given = (*a, *b, score, self.tile_step, *shape)
        call(self.fn, self.product, *given, *(v for rows in soon for v in rows))

    def _results(self, t: Tile) -> None:
        """Weights of a tile of keys, and values times weights."""
        fn, m, extent, step = self.fn, self.memory, self.extent, self.step
        at, query = t.here
        first = fn.icmp("eq", t.key, 0)
        stair = i64(TILE)
        if self.causal:
            stair = fn.select(fn.icmp("eq", t.key, query), i64(STEP), stair)
        rows = (m["top"], m["total"], m["shrink"])
        call(fn, self.weigh, m["score"], t.keys, t.vectors, *rows, first, stair)
        call(fn, self.copy_value, *at, t.key, t.keys, extent["v"], m["value"], step["v"])
        tile = self.tile_step
        a, b, c = (m["value"], self.element, step["v"]), (m["score"], tile), (m["result"], tile)
        given = (*a, *b, *c, m["shrink"], extent["v"], t.vectors, t.keys, first)
        extra = (stair,) if self.causal else ()
        soon = self._ahead_of_results(t)
        call(fn, self.combine, *given, *extra, *(v for rows in soon for v in rows))

    def _ahead_of_scores(self, t: Tile) -> list[Rows]:
        """What scores ask for: values of their keys, and at last the next task's queries."""
        extent, (at, query) = self.extent, t.following
        values = self.values.rows(self.root, t.here.at, t.key, extent["v"], i64(1))
        share = self.fn.convert("zext", t.is_last, "i64")
        return [values, self.queries.rows(self.root, at, query, extent["e"], share)]

    def _ahead_of_results(self, t: Tile) -> list[Rows]:
        """What results ask for: the next keys, and at last their own place in memory."""
        fn, extent = self.fn, self.extent
        both = zip(t.here.at, t.following.at, strict=True)
        at = [fn.select(t.is_last, b, a) for a, b in both]
        key = fn.select(t.is_last, i64(0), fn.add(t.key, TILE))
        share = quotient(fn, fn.add(extent["v"], TILE - 1), extent["v"])
        soon = [self.keys.rows(self.root, at, key, extent["e"], share)]
        share = fn.select(t.is_last, share, i64(0))
        for store in self.kernel.stores[:1]:
            results = ahead.Array.written(store, (self.places.query, self.places.value))
            soon.append(results.rows(self.root, *t.here, extent["v"], share))
        return [*soon, ahead.NONE][:2]
