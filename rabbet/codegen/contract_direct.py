"""Contractions of a few rows with windows of an image (depthwise convolutions), without copies of
the windows.

A task computes a band of the result: vector by vector of columns, it adds the products of all
elements of the window in registers, for several rows of the band at a time. How it reads elements
is said in `contract_elements`. The order of additions is that of all contractions, with k of one
block.
"""

from __future__ import annotations

from itertools import product
from math import prod

from rabbet.base.dtypes import int64
from rabbet.base.target import Target
from rabbet.codegen.contract_elements import Copied, Element, Elements, InPlace, is_in_place
from rabbet.codegen.contract_loops import Naturals, minimum, quotient, split
from rabbet.codegen.contract_slide import Slide
from rabbet.codegen.contract_taps import ROWS, VECTORS, Band, Image, cut
from rabbet.codegen.contract_tile import add_product
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Module, Value, i64, lanes_of, literal
from rabbet.codegen.launch import Launch
from rabbet.codegen.operations import register_type
from rabbet.codegen.stepping import vectors
from rabbet.expr.expr import const, topological
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import ContractKernel, Store
from rabbet.kernel.windows import literal_extents


def launch_direct(kernel: ContractKernel, target: Target) -> Launch:
    """Tasks, scratch memory per thread, and cost."""
    image, bits = Image(kernel), kernel.a.dtype.bits
    sizes = cut(image, target, bits)
    each = len(image.taps) * 2 + sum(len(topological([s.index, s.value])) for s in kernel.stores)
    cost = const(each * prod(literal_extents(kernel.m) or ()), int64)
    for extent in (*kernel.batch, *kernel.n):
        cost = cost * extent
    scratch = const(0, int64) if is_in_place(image, target) else sizes.scratch * (bits // 8)
    return Launch(sizes.tasks, scratch, cost)


def emit_direct(kernel: ContractKernel, target: Target, name: str) -> str:
    """The LLVM text of the contraction with the kernel ABI as function `name`."""
    return _Direct(kernel, target, name).text()


class _Direct:
    """One kernel being written."""

    def __init__(self, kernel: ContractKernel, target: Target, name: str) -> None:
        self.dtype = kernel.a.dtype
        self.module = Module(target)
        self.frame = Frame(self.module, name, kernel.operands)
        self.fn = self.frame.fn
        self.lanes = target.lanes(self.dtype.bits)
        self.image = Image(kernel)
        self.cut = cut(self.image, target, self.dtype.bits)
        self.weight = expand_all(kernel.a)
        self.stores = tuple(Store(s.operand, s.index, expand_all(s.value)) for s in kernel.stores)
        way = InPlace if is_in_place(self.image, target) else Copied
        self.elements: Elements = way(self.frame, kernel, self.image, self.cut)
        self.slides = self._slides()

    def text(self) -> str:
        """The module."""
        frame, fn, cut, em = self.frame, self.fn, self.cut, Emitter(self.frame)
        self.sizes = sizes = Naturals(em)
        for e in (cut.height, cut.width, cut.row_bands, cut.column_bands):
            sizes[e]  # here, before the loop
        self.elements.start(sizes)
        for loop in (*self.image.batch, *self.image.n):
            em.scalar(loop.extent)
        with fn.loop(frame.begin, frame.end) as number:
            inside = em.inner()
            band = self._band(inside, number)
            here = inside.inner(band.at)
            self.elements.prepare(here, band)
            self._compute(here, band)
        return self.module.text()

    def _band(self, em: Emitter, number: Value) -> Band:
        """Columns fastest, then rows, then batch (channels), then the other positions (images): as
        results of convolutions lie in memory.
        """
        fn, cut, sizes, n = self.fn, self.cut, self.sizes, self.image.n
        rest = quotient(fn, number, sizes[cut.column_bands])
        column_band = fn.sub(number, fn.mul(rest, sizes[cut.column_bands]))
        outer = quotient(fn, rest, sizes[cut.row_bands])
        row_band = fn.sub(rest, fn.mul(outer, sizes[cut.row_bands]))
        at = split(em, (*n[:-2], *self.image.batch), outer)
        column = fn.mul(column_band, sizes[cut.width])
        columns = minimum(fn, sizes[cut.width], fn.sub(em.scalar(n[-1].extent), column))
        if self.image.rows is None:
            return Band(at, i64(0), i64(1), column, columns)
        row = fn.mul(row_band, sizes[cut.height])
        rows = minimum(fn, sizes[cut.height], fn.sub(em.scalar(n[-2].extent), row))
        return Band(at, row, rows, column, columns)

    def _compute(self, em: Emitter, band: Band) -> None:
        """All columns of the band, a few vectors at a time, each down all its rows."""
        fn, image = self.fn, self.image
        counts = [range(c) for c in (literal_extents(tuple(x.extent for x in image.m)) or ())]
        rows = [
            {loop.variable: i64(n) for loop, n in zip(image.m, point, strict=True)}
            for point in product(*counts)
        ]
        weights = [self._weights(em, m) for m in rows]
        if self.slides and isinstance(self.elements, InPlace):
            slide = Slide(self.elements, self.lanes, self._direction(), self._finish)
            moving = {loop.variable for loop in image.n[-2:]}
            for m, of_row in zip(rows, weights, strict=True):
                here = em.inner(m)
                here.hoist([store.index for store in self.stores], moving)
                slide.write(here, band, [fn.splat(w, self.lanes) for w in of_row])
            return
        variable = image.n[-1].variable
        end = fn.add(band.column, band.columns)

        def work(ems: list[Emitter], _: Value) -> None:
            factors = [[fn.splat(w, ems[0].lanes) for w in of_row] for of_row in weights]
            self.elements.at(em, band, [e.variables[variable] for e in ems], ems[0].lanes)
            if image.rows is None:
                self._rows(em, ems, (i64(0), 1), rows, factors)
                return
            if self.slides:
                for m, weights_of_m in zip(rows, factors, strict=True):
                    for column in ems:
                        self._slide(em.inner(m), column, band, weights_of_m)
                return
            at = band.row
            stop = fn.add(at, band.rows)
            whole = fn.sub(stop, fn.do("i64", f"urem i64 {band.rows.text}, {ROWS}"))
            for begin, end, height in ((at, whole, ROWS), (whole, stop, 1)):
                with fn.loop(begin, end, height) as row:
                    self._rows(em.inner(), ems, (row, height), rows, factors)

        wide = VECTORS if image.rows is None else 1
        vectors(em, variable, band.column, end, (wide, self.lanes), work)

    def _weights(self, em: Emitter, m: dict[int, Value]) -> list[Value]:
        """The weight of every tap, for one of the kernel's rows."""
        found = []
        for point in self.image.points:
            at = {v: i64(number) for v, number in point.items()}
            found.append(em.inner({**m, **at}).scalar(self.weight))
        return found

    def _slides(self) -> bool:
        """Does a row of the image give every row of a window to one row of the result, in order?

        Then it is read once, and as many sums are open as windows have rows.
        """
        image = self.image
        reach, step = image.reach(image.rows), self._direction()
        lines = [tap.row for tap in image.taps]
        every = range(reach + 1)[::step]
        return (
            image.rows is not None
            and image.rows.stride == 1
            and 0 < reach < len(set(lines))
            and {tap.plane for tap in image.taps} == {0}
            and {tap.residue for tap in image.taps} == {0}
            and lines == [line for line in every for _ in range(len(lines) // len(every))]
        )

    def _direction(self) -> int:
        """1 where the elements of a window go down the rows of the image, -1 where they go up."""
        return -1 if self.image.taps[-1].row < self.image.taps[0].row else 1

    def _slide(self, em: Emitter, column: Emitter, band: Band, weights: list[Value]) -> None:
        """One vector of columns, all rows of the band: every row of the image is added to the sums
        of all windows that see it, the first of which is then finished.
        """
        fn, image, step = self.fn, self.image, self._direction()
        reach = image.reach(image.rows)
        kind = register_type(self.dtype, column.lanes)
        taps = [[t for t, tap in enumerate(image.taps) if tap.row == r] for r in range(reach + 1)]
        first = taps[0]
        begin = band.row
        if step < 0:
            taps, begin = taps[::-1], fn.add(band.row, fn.add(band.rows, reach - 1))

        def add(at: Emitter, number: Value, sums: list[Value]) -> list[Value]:
            """Sums with one more row of the image, which a new window begins with."""
            line = fn.add(begin, fn.mul(number, step))
            element = self.elements.rows(at, line, 1, [image.taps[t] for t in first])
            added = []
            for total, of_row in zip([literal(0, kind), *sums], taps, strict=False):
                for t, same in zip(of_row, first, strict=True):
                    found = element(image.taps[same], 0, 0)
                    total = add_product(fn, self.dtype, weights[t], found, total)
                added.append(total)
            return added

        sums: list[Value] = []
        for line in range(reach):
            sums = add(em.inner(), i64(line), sums)
        held = [fn.variable(kind, total) for total in sums]
        with fn.loop(i64(reach), fn.add(band.rows, reach)) as number:
            inside = em.inner()
            *now, done = add(inside, number, [h.get() for h in held])
            for h, total in zip(held, now, strict=True):
                h.set(total)
            back = reach if step > 0 else 0
            row = fn.add(begin, fn.sub(fn.mul(number, step), back))
            assert image.rows is not None and image.rows.position is not None
            self._finish(inside, row, column.variables[image.n[-1].variable], column.mask, done)

    def _finish(
        self, em: Emitter, row: Value | None, column: Value, mask: Value | None, total: Value
    ) -> None:
        """Store one vector of sums."""
        variable = self.image.n[-1].variable
        at = {variable: column}
        if row is not None and self.image.rows is not None and self.image.rows.position is not None:
            at[self.image.rows.position] = row
        lanes = lanes_of(total.type)
        self._store(em.inner(at, {0: total}, lanes=lanes, vector=variable, mask=mask))

    def _rows(
        self,
        em: Emitter,
        columns: list[Emitter],
        tile: tuple[Value, int],
        rows: list[dict[int, Value]],
        weights: list[list[Value]],
    ) -> None:
        """One vector at each of `columns`; `tile`: the first row, and how many."""
        fn, image = self.fn, self.image
        first, height = tile
        element = self.elements.rows(em, first, height, image.taps)
        for m, factors in zip(rows, weights, strict=True):
            sums = self._products(factors, element, len(columns), columns[0].lanes, height)
            for r, values in enumerate(sums):
                here, row = em.inner(m), fn.add(first, r)
                for column, total in zip(columns, values, strict=True):
                    at = column.variables[image.n[-1].variable]
                    self._finish(here, row, at, column.mask, total)

    def _store(self, em: Emitter) -> None:
        """All values first: a store may overwrite what another value is read from."""
        values = [em.value(store.value) for store in self.stores]
        for store, value in zip(self.stores, values, strict=True):
            em.store(store.operand, store.index, value, store.value.dtype)

    def _products(
        self, weights: list[Value], element: Element, count: int, lanes: int, height: int
    ) -> list[list[Value]]:
        """The sums of `height` rows, for `count` vectors each."""
        fn = self.fn
        zero = literal(0, register_type(self.dtype, lanes))
        sums = [[zero for _ in range(count)] for _ in range(height)]
        for r, t in self._order(height):
            for v in range(count):
                found = element(self.image.taps[t], r, v)
                sums[r][v] = add_product(fn, self.dtype, weights[t], found, sums[r][v])
        return sums

    def _order(self, height: int) -> list[tuple[int, int]]:
        """(row, tap) in the order of products: line by line of the image, so that few elements are
        held, where that is the order of each row's taps.
        """
        taps, stride = self.image.taps, self.elements.stride
        way = -1 if taps[-1].row < taps[0].row else 1
        pairs = list(product(range(height), range(len(taps))))
        pairs.sort(key=lambda p: (taps[p[1]].plane, way * (taps[p[1]].row + p[0] * stride), p[1]))
        for row in range(height):
            if [t for r, t in pairs if r == row] != list(range(len(taps))):
                return sorted(pairs, key=lambda p: (p[1], p[0]))
        return pairs
