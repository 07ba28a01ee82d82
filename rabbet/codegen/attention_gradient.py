"""AttentionGradientKernel -> LLVM text: probabilities are made again, tile by tile.

A task is one head of keys: its keys, values and their gradients stay in scratch memory while the
queries that share them pass by, tile after tile. Scores and probabilities are kept transposed, as
in `attention.py`; sums over queries read them along rows, sums over keys along columns.
"""

from __future__ import annotations

from rabbet.base.dtypes import DType, int64
from rabbet.base.target import Target
from rabbet.codegen import attention_parts as parts
from rabbet.codegen.attention import TRUE, AttentionWriter, Memory, padded
from rabbet.codegen.contract_axes import Loop
from rabbet.codegen.contract_loops import Part, call, chunks, split
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.launch import Launch
from rabbet.codegen.operations import register_type
from rabbet.codegen.stepping import product as product_of
from rabbet.expr.expr import Expr, const
from rabbet.expr.expr import call as call_row
from rabbet.expr.scalars import expand_all
from rabbet.kernel import attention
from rabbet.kernel.loops import ATTENTION_TILE as TILE
from rabbet.kernel.loops import AttentionGradientKernel, Scores

FALSE = Value("false", "i1")


def emit_attention_gradient(kernel: AttentionGradientKernel, target: Target, name: str) -> str:
    """The LLVM text of an AttentionGradientKernel as function `name`."""
    return _Backward(kernel, target, name).text()


def launch_attention_gradient(kernel: AttentionGradientKernel, target: Target) -> Launch:
    """Tasks, scratch memory per thread, and cost of an AttentionGradientKernel."""
    s = kernel.scores
    tasks = product_of(s.batch)
    memory = Memory(s, target, _regions(s, target))
    cost = tasks * s.heads * s.queries * s.keys * (s.features * 3 + s.values * 2 + 10) * 2
    return Launch(tasks, memory.bytes, cost)


def _regions(s: Scores, target: Target) -> dict[str, Expr]:
    """Elements of each region of scratch memory."""
    features, values = (padded(e, target, s.query.dtype) for e in (s.features, s.values))
    tile = const(TILE, int64)
    return {
        "key": features * s.keys,
        "value": values * s.keys,
        "of_key": features * s.keys,
        "of_value": values * s.keys,
        "query": features * TILE,
        "query_turned": features * TILE,
        "gradient": values * TILE,
        "gradient_turned": values * TILE,
        "of_query": features * TILE,
        "score": tile * TILE,
        "slope": tile * TILE,
        "total": tile,
        "drop": tile,
        "ones": call_row("max", call_row("max", features, values), tile),
    }


class _Backward(AttentionWriter):
    """One AttentionGradientKernel."""

    def __init__(self, kernel: AttentionGradientKernel, target: Target, name: str) -> None:
        super().__init__(kernel, kernel.scores, target, name, _regions(kernel.scores, target))
        p, s = self.places, kernel.scores
        self.copy_query = self.copy("copy_query", s.query, (p.query, p.feature))
        self.copy_key = self.copy("copy_key", s.key, (p.key, p.feature))
        self.copy_value = self.copy("copy_value", kernel.value, (p.key, p.value))
        self.copy_gradient = self.copy("copy_gradient", kernel.gradient, (p.query, p.value))
        self.copy_rows = _copy_rows(self, kernel)
        self.slopes = _slopes(self.module, self.dtype)
        self.stores = {
            name: parts.store(
                *(self.module, f"store_{name}", self.operands, p, stores, axes, self.dtype)
            )
            for name, stores, axes in (
                ("query", kernel.query_stores, (p.query, p.feature)),
                ("key", kernel.key_stores, (p.key, p.feature)),
                ("value", kernel.value_stores, (p.key, p.value)),
            )
            if stores
        }

    def text(self) -> str:
        """The module."""
        fn, m = self.fn, self.memory
        loops = tuple(Loop(n, e) for n, e in enumerate(self.scores.batch))
        for loop in loops:
            self.root.scalar(loop.extent)
        e, v = self.padded["e"], self.padded["v"]
        largest = fn.intrinsic("smax.i64", "i64", e, v)
        self._fill("ones", fn.intrinsic("smax.i64", "i64", largest, i64(TILE)), 1.0)
        with fn.loop(self.frame.begin, self.frame.end) as number:
            found = split(self.root.inner(), loops, number)
            at = [*(found[loop.variable] for loop in loops), i64(0)]
            keys = self.extent["s"]
            call(fn, self.copy_key, *at, i64(0), keys, self.extent["e"], m["key"], self.step["e"])
            value = (i64(0), keys, self.extent["v"], m["value"], self.step["v"])
            call(fn, self.copy_value, *at, *value)
            self._fill("of_key", fn.mul(keys, e), 0.0)
            self._fill("of_value", fn.mul(keys, v), 0.0)
            with fn.loop(i64(0), self.extent["h"]) as head:
                with fn.loop(i64(0), self.extent["l"], TILE) as query:
                    self._queries([*at[:-1], head], query)
            for name, axis in (("key", "e"), ("value", "v")):
                self._store(name, at, i64(0), keys, axis)
        return self.module.text()

    def _fill(self, region: str, count: Value, number: float) -> None:
        """Write one number everywhere in a region (whole vectors)."""
        fn, kind = self.fn, register_type(self.dtype, self.lanes)
        with fn.loop(i64(0), count, self.lanes) as lane:
            place = fn.address(self.memory[region], lane, register_type(self.dtype))
            fn.store(literal(number, kind), place)

    def _store(self, name: str, at: list[Value], first: Value, rows: Value, axis: str) -> None:
        if name in self.stores:
            tile = (self.memory[f"of_{name}"], self.step[axis])
            call(self.fn, self.stores[name], *at, first, rows, self.extent[axis], *tile)

    def _queries(self, at: list[Value], query: Value) -> None:
        """One tile of queries against all tiles of keys."""
        fn, m, extent, step = self.fn, self.memory, self.extent, self.step
        queries = parts.tile_length(self.root, extent["l"], query)
        vectors = self.vectors(queries)
        whole = fn.mul(vectors, self.lanes)
        for name, part, axis in (
            ("query", self.copy_query, "e"),
            ("gradient", self.copy_gradient, "v"),
        ):
            call(fn, part, *at, query, queries, extent[axis], m[name], step[axis])
            turned = (m[f"{name}_turned"], self.tile_step, whole, self.padded[axis])
            call(fn, self.turn, m[name], step[axis], *turned)
        call(fn, self.copy_rows, *at, query, queries, m["total"], m["drop"])
        end = extent["s"]
        if self.scores.causal:
            end = fn.intrinsic("smin.i64", "i64", end, fn.add(query, TILE))
        with fn.loop(i64(0), end, TILE) as key:
            self._tile(at, query, queries, vectors, key)
        self._store("query", at, query, queries, "e")

    def _tile(
        self, at: list[Value], query: Value, queries: Value, vectors: Value, key: Value
    ) -> None:
        """One tile of keys: five products."""
        fn, m, extent, step = self.fn, self.memory, self.extent, self.step
        keys = parts.tile_length(self.root, extent["s"], key)
        tile, one, ones = self.tile_step, self.element, m["ones"]
        rows_e, rows_v = fn.mul(key, step["e"]), fn.mul(key, step["v"])
        keyed = {
            name: fn.address(m[name], rows_e if name.endswith("key") else rows_v, "i8")
            for name in ("key", "value", "of_key", "of_value")
        }
        wide = {axis: self.vectors(extent[axis]) for axis in "ev"}

        def multiply(*given: Value) -> None:
            call(fn, self.product, *given)

        a, b, c = (keyed["key"], step["e"], one), (m["query_turned"], tile), (m["score"], tile)
        multiply(*a, *b, *c, ones, keys, vectors, extent["e"], TRUE)
        self.make_scores(at, key, keys, query, queries, m["score"])
        a, b, c = (keyed["value"], step["v"], one), (m["gradient_turned"], tile), (m["slope"], tile)
        multiply(*a, *b, *c, ones, keys, vectors, extent["v"], TRUE)
        call(fn, self.slopes, m["score"], m["slope"], keys, vectors, m["total"], m["drop"])
        a, b = (m["score"], tile, one), (m["gradient"], step["v"])
        multiply(*a, *b, keyed["of_value"], step["v"], ones, keys, wide["v"], queries, FALSE)
        a, b = (m["slope"], tile, one), (m["query"], step["e"])
        multiply(*a, *b, keyed["of_key"], step["e"], ones, keys, wide["e"], queries, FALSE)
        a, b, c = (m["slope"], one, tile), (keyed["key"], step["e"]), (m["of_query"], step["e"])
        multiply(*a, *b, *c, ones, queries, wide["e"], keys, fn.icmp("eq", key, 0))


ROWS = (
    ("i64", "query"),
    ("i64", "queries"),
    ("ptr noalias", "total"),
    ("ptr noalias", "drop"),
)


def _copy_rows(writer: AttentionWriter, kernel: AttentionGradientKernel) -> Part:
    """The function that copies the numbers of a tile's queries."""
    places, dtype = writer.places, writer.dtype
    part = Part(writer.module, "copy_rows", kernel.operands, (*places.parameters(), *ROWS))
    fn, em = part.fn, places.emitter(part)
    for offset, width, mask in chunks(fn, part["queries"], writer.lanes):
        at = {places.query: fn.add(part["query"], offset)}
        here = em.inner(at, lanes=width, vector=places.query, mask=mask)
        for name, e in (("total", kernel.total), ("drop", kernel.drop)):
            place = fn.address(part[name], offset, register_type(dtype))
            fn.store(here.value(expand_all(e)), place)
    return part


SLOPES = (
    ("ptr noalias", "score"),
    ("ptr noalias", "slope"),
    ("i64", "keys"),
    ("i64", "vectors"),
    ("ptr noalias readonly", "total"),
    ("ptr noalias readonly", "drop"),
)


def _slopes(module: Module, dtype: DType) -> Part:
    """Scores become probabilities, gradients of probabilities become those of scores."""
    part = Part(module, "slopes", (), SLOPES)
    fn, lanes = part.fn, part.target.lanes(dtype.bits)
    kind = register_type(dtype, lanes)
    with fn.loop(i64(0), part["vectors"]) as column:
        total, drop = (fn.load(kind, fn.address(part[n], column, kind)) for n in ("total", "drop"))
        with fn.loop(i64(0), part["keys"]) as row:
            offset = fn.mul(row, TILE * dtype.itemsize)
            places = [
                fn.address(fn.address(part[n], offset, "i8"), column, kind)
                for n in ("score", "slope")
            ]
            score, given = (fn.load(kind, place) for place in places)
            p = parts.apply(part, dtype, attention.weight, score, total)
            d = parts.apply(part, dtype, attention.slope, p, given, drop)
            for value, place in zip((p, d), places, strict=True):
                fn.store(value, place)
    return part
