"""Bands of an image whose channels lie side by side (`contract_bands` says what a band is).

A band keeps that order: images, lines, columns, and the channels that a block of k sees, each pixel
in whole vectors. Copying it turns nothing. Where a pixel has few channels and they all are copied,
a line is copied as one run.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.codegen.contract_axes import Roles
from rabbet.codegen.contract_bands import Bander
from rabbet.codegen.contract_blocks import Band
from rabbet.codegen.contract_loops import minimum, quotient
from rabbet.codegen.contract_store import Place
from rabbet.codegen.contract_tile import LINE
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Module, Value, i64
from rabbet.codegen.operations import register_type
from rabbet.codegen.stepping import vectors
from rabbet.kernel.loops import CONTRACT_BLOCK, Operand


def bander(
    module: Module,
    operands: Sequence[Operand],
    roles: Roles,
    band: Band,
    tile: tuple[int, int],
    place: Place | None,
) -> Bander:
    """What copies the bands of an image, as its channels lie."""
    way = Pixels if band.places.by_pixel else Bander
    return way(module, operands, roles, band, tile, place)


class Pixels(Bander):
    """The same functions for such an image."""

    def _copy_planes(self, channels: Value) -> None:
        """What a task's windows see of these channels, in ascending order: vectors that end too
        late are written over.
        """
        part, band, sizes = self.copy, self.band, self.sizes
        fn, line_step = part.fn, self.sizes[self.band.line_step]
        limits = self.lines.limits(self.around, sizes[band.width])
        run = self._run(channels, limits)
        self._write_ahead()
        with fn.loop(i64(0), part["images"]) as image:
            target = self._place(part["target"], fn.mul(image, sizes[band.image_step]))
            image = fn.add(part["image"], image)
            low, high = self._inner_lines(self._at(image, self.channel, self.line))
            self._fill(target, i64(0), fn.mul(low, line_step))
            with fn.loop(low, high) as line:
                here = self._at(image, self.channel, fn.add(self.line, line))
                to = self._place(target, fn.mul(line, line_step))
                first, behind = (fn.mul(x, sizes[band.pixel]) for x in limits)
                self._fill(to, i64(0), first)
                self._copy_line(here, self._place(to, first), limits[0], run)
                self._fill(to, behind, line_step)
            self._fill(target, fn.mul(high, line_step), sizes[band.image_step])

    def _run(self, channels: Value, limits: tuple[Value, Value]) -> tuple[Value, Value]:
        """Runs of a line that lie in one piece in the image and in the band: how many, how long."""
        fn, sizes, band = self.copy.fn, self.sizes, self.band
        corner = self.channel, self.line, i64(0)
        step = fn.sub(
            self._index(self.copy["image"], *corner, i64(1)),
            self._index(self.copy["image"], *corner, i64(0)),
        )
        pixels, pixel = fn.sub(limits[1], limits[0]), sizes[band.pixel]
        whole = fn.icmp("eq", channels, pixel)
        whole = fn.binary("and", whole, fn.icmp("eq", step, pixel))
        count = minimum(fn, pixels, i64(1))
        return (
            fn.select(whole, count, pixels),
            fn.select(whole, fn.mul(pixels, pixel), channels),
        )

    def _copy_line(
        self, em: Emitter, target: Value, column: Value, run: tuple[Value, Value]
    ) -> None:
        """The pixels of a line from a column on: a vector of channels of them all, then the next
        one. Pixels of more than one vector are whole ones.
        """
        fn, lines, channel = self.copy.fn, self.lines, self.band.places.channel
        assert channel is not None

        def write(ems: list[Emitter], i: Value) -> None:
            vector = self._place(target, fn.sub(i, self.channel))
            with fn.loop(i64(0), run[0]) as number:
                here = ems[0].inner({lines.column: fn.add(column, number)})
                place = self._place(vector, fn.mul(number, self.sizes[self.band.pixel]))
                fn.store(here.value(lines.value), place)

        end = fn.add(self.channel, run[1])
        vectors(em, channel, self.channel, end, (1, lines.lanes), write)

    def _fill(self, target: Value, begin: Value, end: Value) -> None:
        """Elements outside the image."""
        with self.copy.fn.loop(begin, end, self.lines.lanes) as i:
            self.lines.fill_vector(self.around, target, i)

    def _place(self, first: Value, elements: Value) -> Value:
        return self.copy.fn.address(first, elements, register_type(self.dtype))

    def _write_ahead(self) -> None:
        """What tiles fetch of the next band, cache line by cache line of its pixels, which are
        taken to follow each other in all its lines and images.
        """
        fn, part, band, sizes = self.copy.fn, self.copy, self.band, self.sizes
        itemsize = self.lines.load.dtype.itemsize
        (image, channel, line), channels = self._next()
        first = self._index(image, channel, line, i64(0), i64(0))
        beside = self._index(image, channel, line, i64(0), i64(1))
        image = fn.add(image, fn.sub(part["images"], 1))
        end = fn.sub(sizes[band.lines], 1), sizes[band.width]
        last = self._index(image, channel, line, *end)
        step, span = (fn.mul(fn.sub(e, first), itemsize) for e in (beside, last))
        pieces = fn.add(quotient(fn, fn.mul(channels, itemsize), i64(LINE)), 2)
        dense = fn.icmp("sle", step, fn.mul(pieces, LINE))
        step = fn.select(dense, i64(LINE), step)
        pieces = fn.select(dense, i64(1), pieces)
        pixels = quotient(fn, part["count"], pieces)
        pixels = fn.intrinsic("smax.i64", "i64", pixels, i64(1))
        span = fn.intrinsic("smax.i64", "i64", span, i64(1))
        table = self._band_ahead(first, fn.mul(pixels, step), span)
        with fn.loop(i64(0), pixels) as pixel, fn.loop(i64(0), pieces) as piece:
            offset = fn.add(fn.mul(pixel, step), fn.mul(piece, LINE))
            entry = fn.add(fn.mul(pixel, pieces), piece)
            entry = minimum(fn, entry, i64(CONTRACT_BLOCK - 1))
            fn.store(offset, fn.address(table, entry, "i64"))
