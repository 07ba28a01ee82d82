"""How contractions of a few rows read the elements of windows of an image (`contract_direct`).

Where columns of the result are columns of the image, one element apart in memory, and the machine
has masks, elements are read in place: a mask says which lanes of a vector are inside a line, and a
line that is not inside the image is a constant. Elsewhere a task first copies the part of the image
that its windows see into scratch memory, padding written out and columns apart by their residue of
the stride, so that neighbouring windows have neighbouring elements.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from math import prod
from typing import TypeAlias, cast

from rabbet.base.target import Target
from rabbet.codegen.contract_lines import Lines
from rabbet.codegen.contract_loops import Naturals, prefetch, quotient
from rabbet.codegen.contract_taps import Band, Cut, Image, Line, Tap
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Value, i64, literal
from rabbet.codegen.operations import (
    bits_of_half,
    from_memory,
    has_masks,
    memory_type,
    register_type,
)
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import ContractKernel
from rabbet.kernel.windows import Place

AHEAD = 1 << 14  # bytes of the image that are asked for early: more than a band, less than L2

# (element of a window, row of the result, vector of columns) -> a vector of elements.
Element: TypeAlias = Callable[[Tap, int, int], Value]


def is_in_place(image: Image, target: Target) -> bool:
    """Are elements read where they lie in the image?"""
    return image.follows and has_masks(target)


class Elements(ABC):
    """Reads the elements of the windows of one kernel."""

    def __init__(self, frame: Frame, kernel: ContractKernel, image: Image, cut: Cut) -> None:
        self.frame, self.fn, self.image, self.cut = frame, frame.fn, image, cut
        self.dtype = kernel.a.dtype
        self.element = register_type(self.dtype)
        # New variables: one for the coordinate of each axis, and one for columns of a residue.
        free = sum(len(x) for x in (kernel.batch, kernel.m, kernel.n, kernel.k))
        axes = (*image.planes, *((image.rows,) if image.rows else ()), image.columns)
        self.coordinate = {place.source: free + i for i, place in enumerate(axes)}
        self.column = free + len(axes)
        last = image.columns
        given = self.coordinate, last.source, self.column, last.stride
        self.lines = Lines(frame, self.dtype, expand_all(kernel.b), *given)

    @abstractmethod
    def start(self, sizes: Naturals) -> None:
        """Compute here what is the same for all tasks."""

    @abstractmethod
    def prepare(self, em: Emitter, band: Band) -> None:
        """The beginning of a task."""

    @abstractmethod
    def at(self, em: Emitter, band: Band, columns: list[Value], lanes: int) -> None:
        """Elements of windows in vectors that begin at `columns` are read next."""

    @abstractmethod
    def rows(self, em: Emitter, row: Value, height: int, taps: list[Tap]) -> Element:
        """These elements of `height` rows of windows, from `row` of the result on."""

    def offsets(self, plane: int) -> dict[Place, int]:
        """The coordinates of a plane, from the first that a window sees."""
        found: dict[Place, int] = {}
        for place in reversed(self.image.planes):
            plane, found[place] = divmod(plane, self.image.reach(place) + 1)
        return found

    def first(self, place: Place, position: Value | None) -> Value:
        """The first coordinate that a window at some position sees of an axis."""
        first = i64(self.image.first(place))
        if position is None:
            return first
        return self.fn.add(self.fn.mul(position, place.stride), first)

    def plane_at(self, band: Band, offsets: dict[Place, Value]) -> dict[int, Value]:
        """The coordinates of a plane."""
        return {
            self.coordinate[place.source]: self.fn.add(
                self.first(place, None if place.position is None else band.at[place.position]),
                offset,
            )
            for place, offset in offsets.items()
        }

    @property
    def stride(self) -> int:
        """Rows of the image from one row of the result to the next."""
        return self.image.rows.stride if self.image.rows is not None else 1


class InPlace(Elements):
    """Reads the image."""

    def start(self, sizes: Naturals) -> None:
        """Nothing."""

    def prepare(self, em: Emitter, band: Band) -> None:
        """Nothing."""

    def at(self, em: Emitter, band: Band, columns: list[Value], lanes: int) -> None:
        fn, image = self.fn, self.image
        self.band, self.places, self.lanes = band, columns, lanes
        self.widest = image.widest(0)
        self.line_start = {self.coordinate[image.columns.source]: i64(image.first(image.columns))}
        count = fn.add(fn.add(band.column, band.columns), self.widest)
        limits = self.lines.limits(em.inner(self.line_start), count)
        taps = sorted({tap.column for tap in image.taps})
        self.masks = {
            (c, v): self.lines.between(limits, fn.add(i, c))
            for c in taps
            for v, i in enumerate(columns)
        }

    def rows(self, em: Emitter, row: Value, height: int, taps: list[Tap]) -> Element:
        lines = {
            (tap.plane, tap.row + r * self.stride): None for r, tap in product(range(height), taps)
        }
        new = max(r for _, r in lines) - height * self.stride  # others were asked for before
        starts = {line: self._line(em, row, *line, line[1] > new) for line in lines}
        load, loaded = self.lines.load, dict[tuple[int, int, int, int], Value]()
        kind = memory_type(load.dtype, self.lanes)
        fill = literal(self.fill, kind)

        def element(tap: Tap, r: int, v: int) -> Value:
            key = tap.plane, tap.row + r * self.stride, tap.column, v
            if key not in loaded:
                base = starts[key[:2]][v]
                place = self.fn.address(base, i64(tap.column), memory_type(load.dtype))
                found = self.fn.masked_load(kind, place, self.masks[tap.column, v], fill)
                place_em = em.inner(lanes=self.lanes, vector=self.column)
                place_em.give(load, from_memory(self.fn, found, load.dtype))
                loaded[key] = place_em.value(self.lines.value)
            return loaded[key]

        return element

    def _line(self, em: Emitter, row: Value, plane: int, line: int, is_new: bool) -> list[Value]:
        """Where a line begins for the first element of each vector of windows."""
        fn, rows = self.fn, self.image.rows
        offsets = {place: i64(offset) for place, offset in self.offsets(plane).items()}
        at = {**self.line_start, **self.plane_at(self.band, offsets)}
        if rows is not None:
            position = None if rows.position is None else row
            at[self.coordinate[rows.source]] = fn.add(self.first(rows, position), line)
        around = em.inner(at)
        self.lines.hoist(around)
        kind = memory_type(self.lines.load.dtype)
        operand = cast("tuple[int, float]", self.lines.load.value)[0]
        length = self.lanes + self.widest
        text = literal(self.fill, f"<{length} x {kind}>").text
        outside = self.frame.module.constant(f"<{length} x {kind}>", text)
        found = []
        for column in self.places:
            index = around.inner({self.column: column}).scalar(self.lines.load.args[0])
            place = fn.address(self.frame.pointer(operand), index, kind)
            if is_new:
                prefetch(fn, fn.address(place, i64(AHEAD), "i8"))
            found.append(fn.select(self.lines.is_inside(around), place, outside))
        return found

    @property
    def fill(self) -> float:
        """What elements outside the image are, as it lies in memory."""
        return bits_of_half(
            cast("tuple[int, float]", self.lines.load.value)[1], self.lines.load.dtype
        )


class Copied(Elements):
    """Copies what a band sees and reads the copy."""

    def start(self, sizes: Naturals) -> None:
        self.pitch, self.band_rows = sizes[self.cut.pitch], sizes[self.cut.band_rows]
        self.row_step = self.fn.mul(self.pitch, len(self.image.residues))
        self.plane_step = self.fn.mul(self.row_step, self.band_rows)

    def prepare(self, em: Emitter, band: Band) -> None:
        """Copy all that the band's windows see, row by row, in the order of memory."""
        fn, image = self.fn, self.image
        last = image.columns
        with self._lines_of(em, band) as (around, row):
            line = fn.mul(row, self.row_step)
            for number, residue in enumerate(image.residues):
                start = fn.add(fn.mul(band.column, last.stride), i64(image.first(last) + residue))
                line_em = around.inner({self.coordinate[last.source]: start})
                self.lines.hoist(line_em)
                place = fn.add(line, fn.mul(self.pitch, number))
                target = fn.address(self._scratch, place, self.element)
                count = fn.add(band.columns, image.widest(residue))
                limits = self.lines.limits(line_em, count)
                self.lines.copy(line_em, target, count, limits, i64(AHEAD), "i8")

    @contextmanager
    def _lines_of(self, em: Emitter, band: Band) -> Iterator[tuple[Emitter, Value]]:
        """Every row of every plane of the band: where it is in the image, and its number."""
        fn, image, offsets = self.fn, self.image, dict[Place, Value]()
        planes = prod(image.reach(p) + 1 for p in image.planes)
        with fn.loop(i64(0), i64(planes)) as plane:
            rest = plane
            for place in reversed(image.planes):
                extent = image.reach(place) + 1
                above = quotient(fn, rest, i64(extent))
                offsets[place] = fn.sub(rest, fn.mul(above, extent)) if extent > 1 else i64(0)
                rest = above
            at = self.plane_at(band, offsets)
            first = fn.mul(plane, self.band_rows)
            if image.rows is None:
                yield em.inner(at), first
                return
            start = self.first(image.rows, None if image.rows.position is None else band.row)
            steps = fn.mul(fn.sub(band.rows, 1), image.rows.stride)
            with fn.loop(i64(0), fn.add(steps, image.reach(image.rows) + 1)) as row:
                at[self.coordinate[image.rows.source]] = fn.add(start, row)
                yield em.inner(at), fn.add(first, row)

    @property
    def _scratch(self) -> Value:
        return self.fn.parameters["scratch"]

    def at(self, em: Emitter, band: Band, columns: list[Value], lanes: int) -> None:
        self.band, self.lanes = band, lanes
        self.places = [self.fn.sub(column, band.column) for column in columns]

    def rows(self, em: Emitter, row: Value, height: int, taps: list[Tap]) -> Element:
        fn, image = self.fn, self.image
        first = fn.mul(fn.mul(fn.sub(row, self.band.row), self.stride), self.row_step)
        origin = fn.address(self._scratch, first, self.element)
        starts: dict[Line, Value] = {}
        loaded: dict[tuple[Line, int, int], Value] = {}
        for tap, r in product(taps, range(height)):
            line = tap.plane, tap.row + r * self.stride, tap.residue
            if line not in starts:
                residue = fn.mul(self.pitch, image.residues.index(line[2]))
                inside = fn.add(fn.mul(self.row_step, line[1]), residue)
                offset = fn.add(fn.mul(self.plane_step, line[0]), inside)
                starts[line] = fn.address(origin, offset, self.element)

        def element(tap: Tap, r: int, v: int) -> Value:
            line = tap.plane, tap.row + r * self.stride, tap.residue
            key = line, tap.column, v
            if key not in loaded:
                place = fn.address(starts[line], self.places[v], self.element)
                place = fn.address(place, i64(tap.column), self.element)
                loaded[key] = fn.load(register_type(self.dtype, self.lanes), place)
            return loaded[key]

        return element
