"""Windows that slide down an image which is read in place (depthwise convolutions, stride 1).

Some vectors of columns go down all rows of a band side by side: every line of the image is read
once, in the order of memory, and added to the sums of all windows that see it. The lines of the
image and of the result are two streams that the machine fetches ahead by itself, which it does not
where one vector after the other goes down all rows. Only the outer vectors of a line may reach
beyond the image, so only they have masks; where that is not so (an image narrower than its
windows), every vector goes down by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from rabbet.codegen.contract_elements import AHEAD, InPlace
from rabbet.codegen.contract_loops import first_lanes, minimum, prefetch, quotient
from rabbet.codegen.contract_taps import Band
from rabbet.codegen.contract_tile import add_product
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Value, Variable, i64, literal
from rabbet.codegen.operations import from_memory, memory_type, register_type

SUMS = 12  # vectors of sums that are open at a time, at most

# (where, row and column of the first lane, which lanes count, sums)
Finish = Callable[[Emitter, Value, Value, "Value | None", Value], None]


class Slide:
    """The bands of one kernel. `direction`: 1 where the elements of a window go down the rows of
    the image, -1 where they go up.
    """

    def __init__(self, elements: InPlace, lanes: int, direction: int, finish: Finish) -> None:
        self.elements, self.fn, self.image = elements, elements.fn, elements.image
        self.dtype, self.lanes, self.direction = elements.dtype, lanes, direction
        self.finish = finish
        assert self.image.rows is not None
        self.place, self.reach = self.image.rows, self.image.reach(self.image.rows)
        lines = [
            [t for t, tap in enumerate(self.image.taps) if tap.row == row]
            for row in range(self.reach + 1)
        ]
        self.columns = [self.image.taps[t].column for t in lines[0]]
        self.taps = lines[::direction]
        self.most = max(1, SUMS // (self.reach + 1))

    def write(self, em: Emitter, band: Band, weights: list[Value]) -> None:
        """One row of the kernel: all columns and rows of a band. `weights`: vectors, by tap."""
        fn, lanes, widest = self.fn, self.lanes, self.image.widest(0)
        source = self.elements.coordinate[self.image.columns.source]
        self.start = {source: i64(self.image.first(self.image.columns))}
        end = fn.add(band.column, band.columns)
        given = em.inner(self.start), fn.add(end, widest)
        self.limits = low, high = self.elements.lines.limits(*given)
        last = fn.mul(quotient(fn, fn.sub(band.columns, 1), i64(lanes)), lanes)  # of the vectors
        inner = fn.icmp("sle", low, fn.add(band.column, lanes))
        ends = fn.icmp("sle", fn.add(fn.add(band.column, last), widest), high)
        several = fn.select(fn.binary("and", inner, ends), i64(self.most), i64(1))
        # A pass over a part of the columns comes back to a line's neighbours only much later. Where
        # it sees whole lines, asking for the one that is read now gained a fifth at 28 columns.
        parts = fn.icmp("sgt", band.columns, self.most * lanes)
        self.ahead = fn.select(parts, i64(AHEAD), i64(0))
        with fn.loop(band.column, end, fn.mul(several, lanes)) as column:
            left = quotient(fn, fn.add(fn.sub(end, column), lanes - 1), i64(lanes))
            wanted = minimum(fn, left, several)
            for count in range(1, self.most + 1):
                with fn.when(fn.icmp("eq", wanted, count)):
                    self._down(em.inner(), band, column, fn.sub(end, column), count, weights)

    def _down(
        self,
        em: Emitter,
        band: Band,
        column: Value,
        left: Value,
        count: int,
        weights: list[Value],
    ) -> None:
        """`count` vectors from a column on, down all rows."""
        fn, reach, lanes = self.fn, self.reach, self.lanes
        kind = register_type(self.dtype, lanes)
        held = [[fn.variable(kind, literal(0, kind)) for _ in range(reach)] for _ in range(count)]
        masks = {
            (v, c): self.elements.lines.between(self.limits, fn.add(column, v * lanes + c))
            for v in {0, count - 1}
            for c in self.columns
        }
        stored = first_lanes(fn, fn.sub(left, (count - 1) * lanes), lanes)
        begin = band.row
        if self.direction < 0:
            begin = fn.add(band.row, fn.add(band.rows, reach - 1))
        above = self._above(em, band, column)
        with fn.loop(i64(0), fn.add(band.rows, reach)) as number:
            inside = em.inner()
            line = fn.add(begin, fn.mul(number, self.direction))
            start = self._line(above, line, count)
            done = [self._add(inside, start, v, masks, held[v], weights) for v in range(count)]
            row = fn.sub(line, reach) if self.direction > 0 else line
            with fn.when(fn.icmp("sge", number, reach)):
                for v, total in enumerate(done):
                    mask = stored if v == count - 1 else None
                    self.finish(inside.inner(), row, fn.add(column, v * lanes), mask, total)

    def _add(
        self,
        em: Emitter,
        start: Value,
        vector: int,
        masks: dict[tuple[int, int], Value],
        held: list[Variable],
        weights: list[Value],
    ) -> Value:
        """Add a line's elements to the open sums of a vector; gives the one that is done."""
        found = [self._element(em, start, vector, c, masks.get((vector, c))) for c in self.columns]
        zero = literal(0, register_type(self.dtype, self.lanes))
        sums = [zero, *(h.get() for h in held)]
        for n, taps in enumerate(self.taps):
            for t, element in zip(taps, found, strict=True):
                sums[n] = add_product(self.fn, self.dtype, weights[t], element, sums[n])
        *now, done = sums
        for h, total in zip(held, now, strict=True):
            h.set(total)
        return done

    def _above(self, em: Emitter, band: Band, column: Value) -> Emitter:
        """What all lines of the image have in common that windows from a column on see."""
        elements = self.elements
        offsets = {place: i64(offset) for place, offset in elements.offsets(0).items()}
        found = em.inner(
            {**self.start, **elements.plane_at(band, offsets), elements.column: column}
        )
        line = elements.coordinate[self.place.source]
        found.hoist([elements.lines.load.args[0], elements.lines.inside.others], {line})
        return found

    def _line(self, above: Emitter, row: Value, count: int) -> Value:
        """Where the line of the image lies that windows of `row` see first, or one as it is
        outside the image.
        """
        fn, elements = self.fn, self.elements
        first = elements.first(self.place, row)
        here = above.inner({elements.coordinate[self.place.source]: first})
        lines = elements.lines
        operand, _ = cast("tuple[int, float]", lines.load.value)
        kind = memory_type(lines.load.dtype)
        length = f"<{count * self.lanes + self.image.widest(0)} x {kind}>"
        outside = elements.frame.module.constant(length, literal(elements.fill, length).text)
        index = here.scalar(lines.load.args[0])
        inside = fn.address(elements.frame.pointer(operand), index, kind)
        first_asked = fn.address(inside, self.ahead, "i8")
        for v in range(count):
            prefetch(fn, fn.address(first_asked, i64(v * self.lanes), kind))
        return fn.select(lines.is_inside(here), inside, outside)

    def _element(
        self, em: Emitter, start: Value, vector: int, column: int, mask: Value | None
    ) -> Value:
        """One element of a vector's windows."""
        fn, lines = self.fn, self.elements.lines
        kind = memory_type(lines.load.dtype, self.lanes)
        offset = i64(vector * self.lanes + column)
        place = fn.address(start, offset, memory_type(lines.load.dtype))
        if mask is None:
            found = fn.load(kind, place)
        else:
            found = fn.masked_load(kind, place, mask, literal(self.elements.fill, kind))
        here = em.inner(lanes=self.lanes, vector=self.elements.column)
        here.give(lines.load, from_memory(fn, found, lines.load.dtype))
        return here.value(lines.value)
