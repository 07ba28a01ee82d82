"""Contractions of a few rows with windows of an image (depthwise convolutions), without copies of
the windows.

A task computes a band of the result: it copies the part of the image that the band's windows see
into scratch memory, once, padding written out and columns apart by their residue of the stride, so
that neighbouring windows have neighbouring elements; then it adds the products of all elements in
registers, for several rows of the band at a time. The order of additions is that of all
contractions, with k of one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

from rabbet.base.dtypes import int64
from rabbet.base.target import Target
from rabbet.codegen.contract_axes import Loop, Loops
from rabbet.codegen.contract_blocks import larger, smaller
from rabbet.codegen.contract_lines import Lines
from rabbet.codegen.contract_loops import Naturals, minimum, quotient, split
from rabbet.codegen.contract_tile import add_product
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.launch import Launch
from rabbet.codegen.operations import register_type
from rabbet.codegen.stepping import vectors
from rabbet.expr.expr import Expr, const, topological
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import ContractKernel, Store
from rabbet.kernel.windows import Place, literal_extents, places

COLUMNS = 512  # of a band, at most
ROWS = 4  # of a band that go through registers together
VECTORS = 4  # of a row, where there is one row
AHEAD = 1 << 14  # bytes of the image that are asked for early: more than a band, less than L2


@dataclass(frozen=True)
class _Tap:
    """Where the element of a window lies in the band: plane, row, residue and column, of the
    window whose first element lies at 0.
    """

    plane: int
    row: int
    residue: int
    column: int


_Line: TypeAlias = tuple[int, int, int]  # plane, row, residue


class _Image:
    """The band's part of the image: planes of rows of columns, each row by residues."""

    def __init__(self, kernel: ContractKernel) -> None:
        self.batch, self.m, self.n, self.k = _loops(kernel)
        found = places(kernel)
        assert found is not None
        at = {p.position: p for p in found if p.position is not None}
        self.columns = at[self.n[-1].variable]
        self.rows = at[self.n[-2].variable] if len(self.n) > 1 else None
        self.planes = [p for p in found if p not in (self.columns, self.rows)]
        self.elements = dict(
            zip((loop.variable for loop in self.k), literal_extents(kernel.k) or (), strict=True)
        )
        counts = [range(self.elements[loop.variable]) for loop in self.k]
        self.points = [
            dict(zip(self.elements, numbers, strict=True)) for numbers in product(*counts)
        ]
        self.taps = [self._tap(point) for point in self.points]
        self.residues = sorted({tap.residue for tap in self.taps})

    def reach(self, place: Place | None) -> int:
        """How far the last element of a window is from the first, in memory's order."""
        if place is None or place.element is None:
            return 0
        return abs(place.dilation) * (self.elements[place.element] - 1)

    def first(self, place: Place) -> int:
        """The coordinate of window 0's first element, in memory's order."""
        return place.first + (-self.reach(place) if place.dilation < 0 else 0)

    def widest(self, residue: int) -> int:
        """The last column that window 0 has of a residue."""
        return max(tap.column for tap in self.taps if tap.residue == residue)

    def _offset(self, place: Place | None, point: dict[int, int]) -> int:
        if place is None or place.element is None:
            return 0
        lowest = -self.reach(place) if place.dilation < 0 else 0
        return place.dilation * point[place.element] - lowest

    def _tap(self, point: dict[int, int]) -> _Tap:
        plane = 0
        for place in self.planes:
            plane = plane * (self.reach(place) + 1) + self._offset(place, point)
        column, residue = divmod(self._offset(self.columns, point), self.columns.stride)
        return _Tap(plane, self._offset(self.rows, point), residue, column)


def _loops(kernel: ContractKernel) -> list[Loops]:
    groups: list[Loops] = []
    number = 0
    for extents in (kernel.batch, kernel.m, kernel.n, kernel.k):
        groups.append(tuple(Loop(number + i, e) for i, e in enumerate(extents)))
        number += len(extents)
    return groups


@dataclass(frozen=True)
class _Cut:
    """Sizes of the bands, over size(n)."""

    height: Expr  # rows of the result in a band, at most
    width: Expr
    row_bands: Expr
    column_bands: Expr
    pitch: Expr  # elements from one residue to the next
    band_rows: Expr  # rows of the image in a band
    scratch: Expr  # elements
    tasks: Expr


def _cut(image: _Image, target: Target, bits: int) -> _Cut:
    lanes, one = target.lanes(bits), const(1, int64)
    columns = larger(image.n[-1].extent, one)
    rows = larger(image.n[-2].extent, one) if image.rows is not None else one
    widest = max(image.widest(r) for r in image.residues)
    column_bands = (columns + (COLUMNS - 1)) // COLUMNS
    width = (columns + column_bands - 1) // column_bands
    pitch = (width + (widest + lanes - 1)) // lanes * lanes
    planes = prod(image.reach(p) + 1 for p in image.planes)
    stride, reach = (image.rows.stride if image.rows else 1), image.reach(image.rows)
    fits = const(target.l1_bytes * 8 // bits // 2, int64) // (
        pitch * (len(image.residues) * planes)
    )
    height = (larger(fits, const(reach + ROWS * stride, int64)) - reach) // stride
    row_bands = (rows + height - 1) // height
    height = (rows + row_bands - 1) // row_bands
    band_rows = (height - 1) * stride + (reach + 1)
    scratch = band_rows * pitch * (planes * len(image.residues)) + VECTORS * lanes
    others = [loop.extent for loop in (*image.batch, *image.n[:-2])]
    tasks = row_bands * column_bands
    for extent in (*others, *(smaller(loop.extent, one) for loop in image.n[-2:])):
        tasks = tasks * extent
    return _Cut(height, width, row_bands, column_bands, pitch, band_rows, scratch, tasks)


def launch_direct(kernel: ContractKernel, target: Target) -> Launch:
    """Tasks, scratch memory per thread, and cost."""
    image, bits = _Image(kernel), kernel.a.dtype.bits
    cut = _cut(image, target, bits)
    each = len(image.taps) * 2 + sum(len(topological([s.index, s.value])) for s in kernel.stores)
    cost = const(each * prod(literal_extents(kernel.m) or ()), int64)
    for extent in (*kernel.batch, *kernel.n):
        cost = cost * extent
    return Launch(cut.tasks, cut.scratch * (bits // 8), cost)


def emit_direct(kernel: ContractKernel, target: Target, name: str) -> str:
    """The LLVM text of the contraction with the kernel ABI as function `name`."""
    return _Direct(kernel, target, name).text()


@dataclass(frozen=True)
class _Band:
    """Values of one task: its variables, where its rows and columns begin and how many it has."""

    at: dict[int, Value]
    row: Value
    rows: Value
    column: Value
    columns: Value


class _Direct:
    """One kernel being written."""

    def __init__(self, kernel: ContractKernel, target: Target, name: str) -> None:
        self.dtype = kernel.a.dtype
        self.module = Module(target)
        self.frame = Frame(self.module, name, kernel.operands)
        self.fn = self.frame.fn
        self.lanes = target.lanes(self.dtype.bits)
        self.image = image = _Image(kernel)
        self.cut = _cut(image, target, self.dtype.bits)
        self.weight = expand_all(kernel.a)
        self.stores = tuple(Store(s.operand, s.index, expand_all(s.value)) for s in kernel.stores)
        self.element = register_type(self.dtype)
        # New variables: one for the coordinate of each axis, and one for columns of a residue.
        free = sum(len(x) for x in (kernel.batch, kernel.m, kernel.n, kernel.k))
        axes = (*image.planes, *((image.rows,) if image.rows else ()), image.columns)
        self.coordinate = {place.source: free + i for i, place in enumerate(axes)}
        self.column = free + len(axes)
        last = image.columns
        given = self.coordinate, last.source, self.column, last.stride
        self.image_lines = Lines(self.frame, self.dtype, expand_all(kernel.b), *given)

    def text(self) -> str:
        """The module."""
        frame, fn, cut, em = self.frame, self.fn, self.cut, Emitter(self.frame)
        self.sizes = sizes = Naturals(em)
        for e in (cut.height, cut.width, cut.row_bands, cut.column_bands, cut.pitch, cut.band_rows):
            sizes[e]  # here, before the loop
        for loop in (*self.image.batch, *self.image.n):
            em.scalar(loop.extent)
        self.row_step = fn.mul(sizes[cut.pitch], len(self.image.residues))
        self.plane_step = fn.mul(self.row_step, sizes[cut.band_rows])
        with fn.loop(frame.begin, frame.end) as number:
            inside = em.inner()
            band = self._band(inside, number)
            self._copy(inside.inner(band.at), band)
            self._compute(inside.inner(band.at), band)
        return self.module.text()

    def _band(self, em: Emitter, number: Value) -> _Band:
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
            return _Band(at, i64(0), i64(1), column, columns)
        row = fn.mul(row_band, sizes[cut.height])
        rows = minimum(fn, sizes[cut.height], fn.sub(em.scalar(n[-2].extent), row))
        return _Band(at, row, rows, column, columns)

    # ------------------------------------------------------------------ the image

    def _copy(self, em: Emitter, band: _Band) -> None:
        """All that the band's windows see, row by row, in the order of memory."""
        fn, image = self.fn, self.image
        last = image.columns
        with self._rows(em, band) as (around, row):
            line = fn.mul(row, self.row_step)
            for number, residue in enumerate(image.residues):
                start = fn.add(fn.mul(band.column, last.stride), i64(image.first(last) + residue))
                line_em = around.inner({self.coordinate[last.source]: start})
                self.image_lines.hoist(line_em)
                place = fn.add(line, self._residue(number))
                target = fn.address(self._scratch(), place, self.element)
                count = fn.add(band.columns, image.widest(residue))
                limits = self.image_lines.limits(line_em, count)
                self.image_lines.copy(line_em, target, count, limits, i64(AHEAD), "i8")

    @contextmanager
    def _rows(self, em: Emitter, band: _Band) -> Iterator[tuple[Emitter, Value]]:
        """Every row of every plane of the band: where it is in the image, and its number."""
        fn, image, at = self.fn, self.image, {}
        planes = prod(image.reach(p) + 1 for p in image.planes)
        with fn.loop(i64(0), i64(planes)) as plane:
            rest = plane
            for place in reversed(image.planes):
                extent = image.reach(place) + 1
                above = quotient(fn, rest, i64(extent))
                offset = fn.sub(rest, fn.mul(above, extent)) if extent > 1 else i64(0)
                at[self.coordinate[place.source]] = fn.add(self._start(place, band), offset)
                rest = above
            first = fn.mul(plane, self.sizes[self.cut.band_rows])
            if image.rows is None:
                yield em.inner(at), first
                return
            start = self._start(image.rows, band)
            steps = fn.mul(fn.sub(band.rows, 1), image.rows.stride)
            with fn.loop(i64(0), fn.add(steps, image.reach(image.rows) + 1)) as row:
                at[self.coordinate[image.rows.source]] = fn.add(start, row)
                yield em.inner(at), fn.add(first, row)

    def _start(self, place: Place, band: _Band) -> Value:
        """The first coordinate that the band sees of an axis."""
        fn, first = self.fn, i64(self.image.first(place))
        if place.position is None:
            return first
        is_row = place is self.image.rows
        position = band.row if is_row else band.at[place.position]
        return fn.add(fn.mul(position, place.stride), first)

    def _scratch(self) -> Value:
        return self.fn.parameters["scratch"]

    def _residue(self, number: int) -> Value:
        return self.fn.mul(self.sizes[self.cut.pitch], number)

    # ------------------------------------------------------------------ the products

    def _compute(self, em: Emitter, band: _Band) -> None:
        """All rows of the result, a few at a time, vector by vector."""
        fn, image = self.fn, self.image
        counts = [range(c) for c in (literal_extents(tuple(x.extent for x in image.m)) or ())]
        rows = [
            {loop.variable: i64(n) for loop, n in zip(image.m, point, strict=True)}
            for point in product(*counts)
        ]
        weights = [self._weights(em, m) for m in rows]
        if image.rows is None:
            self._line(em, band, (i64(0), 1, VECTORS), rows, weights)
            return
        whole = fn.sub(band.rows, fn.do("i64", f"urem i64 {band.rows.text}, {ROWS}"))
        with fn.loop(i64(0), whole, ROWS) as row:
            self._line(em.inner(), band, (row, ROWS, 1), rows, weights)
        with fn.loop(whole, band.rows) as row:
            self._line(em.inner(), band, (row, 1, 1), rows, weights)

    def _weights(self, em: Emitter, m: dict[int, Value]) -> list[Value]:
        """The weight of every tap, for one of the kernel's rows."""
        found = []
        for point in self.image.points:
            at = {v: i64(number) for v, number in point.items()}
            found.append(em.inner({**m, **at}).scalar(self.weight))
        return found

    def _line(
        self,
        em: Emitter,
        band: _Band,
        tile: tuple[Value, int, int],
        rows: list[dict[int, Value]],
        weights: list[list[Value]],
    ) -> None:
        """`tile`: first row of the band, how many, and vectors at a time."""
        fn, image = self.fn, self.image
        row, height, wide = tile
        variable = image.n[-1].variable
        lines = self._lines(row, height)
        roots = [e for s in self.stores for e in (s.index, s.value)]
        points: list[list[Emitter]] = []
        for m in rows:
            points.append([])
            for r in range(height):
                at = dict(m)
                if image.rows is not None and image.rows.position is not None:
                    at[image.rows.position] = fn.add(fn.add(band.row, row), r)
                points[-1].append(em.inner(at))
                points[-1][-1].hoist(roots, {variable}, {0})

        def work(ems: list[Emitter], i: Value) -> None:
            columns = [fn.sub(em.variables[variable], band.column) for em in ems]
            for around, factors in zip(points, weights, strict=True):
                sums = self._products(factors, lines, columns, ems[0].lanes, height)
                for row, values in zip(around, sums, strict=True):
                    for em, total in zip(ems, values, strict=True):
                        at = {variable: em.variables[variable]}
                        how = {"lanes": em.lanes, "vector": variable}
                        self._store(row.inner(at, {0: total}, **how, mask=em.mask))

        end = fn.add(band.column, band.columns)
        vectors(em, variable, band.column, end, (wide, self.lanes), work)

    def _store(self, em: Emitter) -> None:
        """All values first: a store may overwrite what another value is read from."""
        values = [em.value(store.value) for store in self.stores]
        for store, value in zip(self.stores, values, strict=True):
            em.store(store.operand, store.index, value, store.value.dtype)

    def _lines(self, row: Value, height: int) -> dict[_Line, Value]:
        """Where the rows begin that `height` rows of the result see, from `row` of the band on."""
        fn, image = self.fn, self.image
        stride = image.rows.stride if image.rows is not None else 1
        first = fn.mul(fn.mul(row, stride), self.row_step)
        origin = fn.address(self._scratch(), first, self.element)
        found: dict[_Line, Value] = {}
        for tap, r in product(image.taps, range(height)):
            line = tap.plane, tap.row + r * stride, tap.residue
            if line not in found:
                inside = fn.add(
                    fn.mul(self.row_step, line[1]),
                    self._residue(image.residues.index(line[2])),
                )
                offset = fn.add(fn.mul(self.plane_step, line[0]), inside)
                found[line] = fn.address(origin, offset, self.element)
        return found

    def _products(
        self,
        weights: list[Value],
        lines: dict[_Line, Value],
        columns: list[Value],
        lanes: int,
        height: int,
    ) -> list[list[Value]]:
        """The sums of `height` rows, for one vector at each of `columns`."""
        fn, image = self.fn, self.image
        kind = register_type(self.dtype, lanes)
        stride = image.rows.stride if image.rows is not None else 1
        loaded: dict[tuple[_Line, int, int], Value] = {}

        def element(tap: _Tap, r: int, v: int) -> Value:
            line = tap.plane, tap.row + r * stride, tap.residue
            key = line, tap.column, v
            if key not in loaded:
                place = fn.address(lines[line], columns[v], self.element)
                loaded[key] = fn.load(kind, fn.address(place, i64(tap.column), self.element))
            return loaded[key]

        sums = [[literal(0, kind) for _ in columns] for _ in range(height)]
        for tap, weight in zip(image.taps, weights, strict=True):
            factor = fn.splat(weight, lanes)
            for r, v in product(range(height), range(len(columns))):
                sums[r][v] = add_product(fn, self.dtype, factor, element(tap, r, v), sums[r][v])
        return sums
