"""RecurrentKernel -> LLVM text: batch elements go through all steps together, the weight in cache.

A task copies the weight once, panels of some lanes one after the other, in rows of one source unit;
then it multiplies and computes the cell step after step. Tasks never wait for one another.
"""

from __future__ import annotations

from rabbet.base.dtypes import DType, int64
from rabbet.base.target import Target
from rabbet.codegen.attention_product import product, shapes
from rabbet.codegen.contract_loops import Naturals, Part, call, chunks, minimum
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.launch import Launch
from rabbet.codegen.operations import register_type
from rabbet.codegen.stepping import weight as weight_of
from rabbet.expr.expr import Expr, const
from rabbet.expr.scalars import expand_roots
from rabbet.kernel.loops import CONTRACT_BLOCK, MOST_SHIFT, RecurrentKernel, Store

UNIT = 2  # the variable that vectors run along
FALSE = Value("false", "i1")


def emit_recurrent(kernel: RecurrentKernel, target: Target, name: str) -> str:
    """The LLVM text of a RecurrentKernel as function `name`."""
    return _Recurrent(kernel, target, name).text()


def launch_recurrent(kernel: RecurrentKernel, target: Target) -> Launch:
    """Tasks, scratch memory per thread, and cost of a RecurrentKernel."""
    k = kernel
    terms = k.units * (2 * k.sources * k.targets) + weight_of((*k.carried, *_values(k)))
    cost = k.batch * k.steps * k.units * terms
    tasks = (k.batch + (k.rows - 1)) // k.rows
    _, end = _memory(k, target)
    return Launch(tasks, end, cost)


def _values(kernel: RecurrentKernel) -> list[Expr]:
    return [s.value for s in kernel.stores]


def _padded(kernel: RecurrentKernel, target: Target) -> Expr:
    lanes = target.lanes(kernel.dtype.bits)
    return (kernel.units + (lanes - 1)) // lanes * lanes


def _tiles(target: Target) -> tuple[tuple[int, int], ...]:
    """(vectors, rows) of the register tiles; a panel is as wide as the widest."""
    return ((2, 8), (1, 8)) if target.registers >= 32 else shapes(target)


def _panel(target: Target, dtype: DType) -> int:
    """Lanes of a panel of the weight."""
    return _tiles(target)[0][0] * target.lanes(dtype.bits)


def _panels(kernel: RecurrentKernel, target: Target) -> Expr:
    """Panels that hold the units of all targets."""
    width = _panel(target, kernel.dtype)
    return (_padded(kernel, target) * kernel.targets + (width - 1)) // width


def _memory(kernel: RecurrentKernel, target: Target) -> tuple[dict[str, Expr], Expr]:
    """Byte offsets of the regions of scratch memory, and their end."""
    padded, itemsize = _padded(kernel, target), kernel.dtype.itemsize
    panels, width = _panels(kernel, target), _panel(target, kernel.dtype)
    gap = const(MOST_SHIFT, int64)
    sizes = {
        "weight": panels * width * kernel.units * kernel.sources,
        "before": gap,  # read, not used, where a neighbour is missing
        "carried": _carried(kernel, padded),
        **({"between": gap, "onward": _carried(kernel, padded)} if kernel.shifts else {}),
        "sums": _sums_row(kernel, target) * kernel.rows,
        "ones": const(width, int64),
    }
    at: Expr = const(0, int64)
    starts = {}
    for name, elements in sizes.items():
        starts[name] = at
        at = at + (elements * itemsize + 63) // 64 * 64
    return starts, at


def _carried(kernel: RecurrentKernel, padded: Expr) -> Expr:
    """Elements of what a task's rows carry."""
    return padded * (kernel.rows * len(kernel.start))


def _sums_row(kernel: RecurrentKernel, target: Target) -> Expr:
    """Elements from row to row of sums: a line more than needed, so that rows fall on other sets of
    a cache.
    """
    return _panels(kernel, target) * _panel(target, kernel.dtype) + 16


class _Recurrent:
    """One kernel being written."""

    def __init__(self, kernel: RecurrentKernel, target: Target, name: str) -> None:
        self.kernel, self.dtype = kernel, kernel.dtype
        self.module = Module(target)
        self.frame = Frame(self.module, name, kernel.operands)
        self.fn = self.frame.fn
        self.lanes = target.lanes(self.dtype.bits)
        self.root = Emitter(self.frame)
        sizes = self.sizes = Naturals(self.root)
        starts, _ = _memory(kernel, target)
        scratch = self.fn.parameters["scratch"]
        self.memory = {n: self.fn.address(scratch, sizes[e], "i8") for n, e in starts.items()}
        self.padded = sizes[_padded(kernel, target)]
        self.row_step = self.fn.mul(self.padded, self.dtype.itemsize)
        self.panels = sizes[_panels(kernel, target)]
        self.panel = _panel(target, self.dtype)
        self.wide_step = self.fn.mul(sizes[_sums_row(kernel, target)], self.dtype.itemsize)
        if kernel.weight is not None:
            self.product = product(self.module, self.dtype, _tiles(target))
            self.pack = self._pack(kernel.weight)
        self.starting = self._cell("start", kernel.start, ())
        self.cell = self._cell("cell", kernel.carried, kernel.stores)
        self.finish = self._cell("finish", (), kernel.finish) if kernel.finish else None

    def text(self) -> str:
        """The module."""
        fn, kernel, sizes = self.fn, self.kernel, self.sizes
        batch, steps = sizes[kernel.batch], sizes[kernel.steps]
        kind, element = register_type(self.dtype, self.lanes), register_type(self.dtype)
        if kernel.weight is not None:
            with fn.loop(i64(0), i64(self.panel), self.lanes) as lane:
                fn.store(literal(1.0, kind), fn.address(self.memory["ones"], lane, element))
            with fn.when(fn.icmp("slt", self.frame.begin, self.frame.end)):
                call(fn, self.pack, self.memory["weight"], self.padded)
        with fn.loop(self.frame.begin, self.frame.end) as number:
            first = fn.mul(number, kernel.rows)
            rows = minimum(fn, i64(kernel.rows), fn.sub(batch, first))
            beside = (self.memory["sums"], self.row_step, self.wide_step)
            call(fn, self.starting, first, rows, i64(0), *self._carried(i64(1)), *beside)
            with fn.loop(i64(0), steps) as step:
                carried = self._carried(step)
                if kernel.weight is not None:
                    self._multiply(carried[0], rows)
                call(fn, self.cell, first, rows, step, *carried, *beside)
            if self.finish is not None:
                call(fn, self.finish, first, rows, i64(0), *self._carried(steps), *beside)
        return self.module.text()

    def _carried(self, turn: Value) -> tuple[Value, ...]:
        """Where what is carried lies; then where it goes on, if neighbours read it meanwhile: in
        memory of its own, which changes place with the first in every turn.
        """
        fn, memory = self.fn, self.memory
        if not self.kernel.shifts:
            return (memory["carried"],)
        odd = fn.icmp("ne", fn.binary("and", turn, i64(1)), 0)
        first, second = memory["carried"], memory["onward"]
        return fn.select(odd, second, first), fn.select(odd, first, second)

    def _multiply(self, carried: Value, rows: Value) -> None:
        """The products of one step, panel by panel."""
        fn, kernel, m = self.fn, self.kernel, self.memory
        units, itemsize = self.sizes[kernel.units], self.dtype.itemsize
        step = i64(self.panel * itemsize)
        region = fn.mul(self.row_step, kernel.rows)
        panel_bytes = fn.mul(fn.mul(units, kernel.sources), step)
        vectors = i64(self.panel // self.lanes)
        with fn.loop(i64(0), self.panels) as panel:
            weight = fn.address(m["weight"], fn.mul(panel, panel_bytes), "i8")
            sums = fn.address(m["sums"], fn.mul(panel, step), "i8")
            for source in range(kernel.sources):
                a = fn.address(carried, fn.mul(region, source), "i8")
                with fn.loop(i64(0), units, CONTRACT_BLOCK) as k:
                    count = minimum(fn, i64(CONTRACT_BLOCK), fn.sub(units, k))
                    row = fn.add(fn.mul(units, source), k)
                    b = fn.address(weight, fn.mul(row, step), "i8")
                    here = fn.address(a, fn.mul(k, itemsize), "i8")
                    fresh = fn.icmp("eq", k, 0) if source == 0 else FALSE
                    left = (here, self.row_step, i64(itemsize), b, step)
                    right = (sums, self.wide_step, m["ones"], rows, vectors, count, fresh)
                    call(fn, self.product, *left, *right)

    def _pack(self, weight: Expr) -> Part:
        """The function that copies the weight: panels of lanes, of all targets' units side by side;
        in a panel a row for each source and unit.
        """
        kernel, dtype = self.kernel, self.dtype
        part = Part(
            self.module, "pack", kernel.operands, (("ptr noalias", "to"), ("i64", "padded"))
        )
        fn, em, element = part.fn, Emitter(part), register_type(dtype)
        units = em.scalar(kernel.units)
        rows = fn.mul(units, kernel.sources)
        for target in range(kernel.targets):
            for offset, width, mask in chunks(fn, units, self.lanes):
                column = fn.add(fn.mul(part["padded"], target), offset)
                panel = fn.do("i64", f"udiv i64 {column.text}, {self.panel}")
                inside = fn.sub(column, fn.mul(panel, self.panel))
                start = fn.add(fn.mul(fn.mul(panel, rows), self.panel), inside)
                for source in range(kernel.sources):
                    with fn.loop(i64(0), units) as k:
                        at = {3: i64(target), 4: i64(source), 5: k, UNIT: offset}
                        here = em.inner(at, lanes=width, vector=UNIT, mask=mask)
                        found = here.value(weight)
                        if mask is not None:
                            found = fn.select(mask, found, literal(0.0, found.type))
                        row = fn.add(fn.mul(units, source), k)
                        place = fn.add(start, fn.mul(row, self.panel))
                        fn.store(found, fn.address(part["to"], place, element))
        return part

    def _cell(self, name: str, carried: tuple[Expr, ...], stores: tuple[Store, ...]) -> Part:
        """The function that computes what is carried on, and runs stores, for some rows."""
        kernel, dtype = self.kernel, self.dtype
        element = register_type(dtype)
        given = (
            *(("i64", "first"), ("i64", "rows"), ("i64", "step_number")),
            *(("ptr noalias", n) for n in ("carried", *(["onward"] if kernel.shifts else []))),
            *(("ptr noalias readonly", "sums"), ("i64", "step"), ("i64", "wide")),
        )
        part = Part(self.module, name, kernel.operands, given)
        fn, em = part.fn, Emitter(part)
        values = expand_roots((*carried, *(s.value for s in stores)))
        region = fn.mul(part["step"], kernel.rows)
        units = em.scalar(kernel.units)
        with fn.loop(i64(0), part["rows"]) as row:
            offset = fn.mul(row, part["step"])
            lines = [
                fn.address(
                    part["sums"], fn.add(fn.mul(row, part["wide"]), fn.mul(part["step"], g)), "i8"
                )
                for g in range(kernel.targets)
            ]
            kept, onward = (
                [
                    fn.address(part[name], fn.add(fn.mul(region, n), offset), "i8")
                    for n in range(len(kernel.start))
                ]
                for name in ("carried", "onward" if kernel.shifts else "carried")
            )
            at = em.inner({0: fn.add(part["first"], row), 1: part["step_number"]})
            for unit, width, mask in chunks(fn, units, self.lanes):
                kind = register_type(dtype, width)
                places = [fn.address(p, unit, element) for p in (*lines, *kept)]
                if name == "cell":
                    places.extend(
                        fn.address(kept[n], fn.sub(unit, i64(d)), element) for n, d in kernel.shifts
                    )
                accs = {}
                if name != "start":
                    accs = {n: fn.load(kind, place) for n, place in enumerate(places)}
                here = at.inner({UNIT: unit}, accs, lanes=width, vector=UNIT, mask=mask)
                found = [here.value(e) for e in values]
                for value, line in zip(found[: len(carried)], onward, strict=False):
                    fn.store(value, fn.address(line, unit, element))
                for s, e in zip(stores, values[len(carried) :], strict=True):
                    here.store(s.operand, s.index, here.value(e), s.value.dtype)
        return part
