"""What the edges of an image cut off windows that are rows of a contraction.

Padding adds nothing to a sum, so a tile leaves out the elements of its windows that lie outside the
image for all of them. The positions of a task are ordered by the edges that cut them: the inside,
then side by side around the border. A *key* says which edges cut all rows of a tile, and for each
key there is a list of the elements that are left, in the order of k, so that sums keep theirs.

Nothing is left out where the other operand has an infinity or a NaN, since those make padding NaN.
A sum of products that all were too small for the dtype may have another sign of zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rabbet.codegen.contract_axes import Loops
from rabbet.codegen.contract_blocks import MOST_CUT, Band
from rabbet.codegen.contract_loops import Naturals, minimum, quotient, walk
from rabbet.codegen.contract_tile import (
    COLUMN_KEYS,
    CORNERS,
    ELEMENT,
    HEAD,
    HEADS,
    KEYS,
    LINE_KEYS,
    LISTS,
    POSITION,
    POSITIONS,
)
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Function, Value, i64
from rabbet.kernel.windows import Place

# Ranges of lines and of columns: the inside, then around the border, each side before a corner that
# it ends at.
AROUND_LINES = (1, 0, 0, 1, 0, 2, 2, 1, 2)
AROUND_COLUMNS = (1, 1, 0, 2, 2, 1, 2, 0, 0)
ORDER = 3  # words that say where the positions of a range go
WORTH = 3  # tiles around the border: fewer are not worth the lists


@dataclass(frozen=True)
class Edges:
    """One axis of an image. `ends`: where the positions cut at the low end begin, those that
    nothing cuts, those cut at the high end, and where these end. `low`, `high`: which elements of a
    window, counted as memory runs, lie inside for some position of the first and of the last range.
    """

    keys: tuple[int, int]
    ends: tuple[Value, Value, Value, Value]
    low: tuple[Value, Value]
    high: tuple[Value, Value]

    def cut(self, fn: Function) -> Value:
        """The keys of the ends that cut any position."""
        begin, whole, after, end = self.ends
        low, high = (i64(key) for key in self.keys)
        low = fn.select(fn.icmp("slt", begin, whole), low, i64(0))
        high = fn.select(fn.icmp("slt", after, end), high, i64(0))
        return fn.binary("or", low, high)

    def count(self, fn: Function) -> Value:
        """All positions."""
        return fn.sub(self.ends[3], self.ends[0])

    def sizes(self, fn: Function) -> list[Value]:
        """Positions of the three ranges: cut at the low end, by nothing, at the high end."""
        return [fn.sub(self.ends[i + 1], self.ends[i]) for i in range(3)]

    def range(self, fn: Function, number: Value) -> tuple[Value, Value, Value]:
        """One of the three ranges: where it begins and ends, its key."""
        begin, whole, after, end = self.ends
        low, high = (i64(key) for key in self.keys)

        def picked(first: Value, second: Value, third: Value) -> Value:
            last = fn.select(fn.icmp("eq", number, 2), third, second)
            return fn.select(fn.icmp("eq", number, 0), first, last)

        return picked(begin, whole, after), picked(whole, after, end), picked(low, i64(0), high)

    def dead(self, fn: Function, element: Value) -> Value:
        """The keys of the ends at which an element lies outside for all positions."""
        found = i64(0)
        for (first, end), key in zip((self.low, self.high), self.keys, strict=True):
            before, behind = fn.icmp("slt", element, first), fn.icmp("sge", element, end)
            outside = fn.binary("or", before, behind)
            found = fn.binary("or", found, fn.select(outside, i64(key), i64(0)))
        return found


def edges(em: Emitter, sizes: Naturals, band: Band, line: Value) -> tuple[Edges, Edges]:
    """The edges of lines and of columns, for a task that begins at a line of the result."""
    fn, places = em.fn, band.places
    behind = minimum(fn, fn.add(line, sizes[band.height]), sizes[band.all_lines])
    width = sizes[band.columns]
    return (
        _edges(em, sizes, band, places.line, LINE_KEYS, (line, behind)),
        _edges(em, sizes, band, places.column, COLUMN_KEYS, (i64(0), width)),
    )


def _edges(
    em: Emitter,
    sizes: Naturals,
    band: Band,
    place: Place | None,
    keys: tuple[int, int],
    positions: tuple[Value, Value],
) -> Edges:
    fn, (begin, end) = em.fn, positions
    limits = band.places.columns if keys is COLUMN_KEYS else band.places.lines
    if place is None or limits is None:
        nothing = i64(0), i64(0)
        return Edges(keys, (begin, begin, end, end), nothing, nothing)
    reach, step = sizes[band.reach(place)], abs(place.dilation) or 1
    first = i64(place.first) if place.dilation >= 0 else fn.sub(i64(place.first), reach)
    low, high = ([em.scalar(e) for e in group] for group in (limits.low, limits.high))

    def larger(a: Value, b: Value) -> Value:
        return fn.intrinsic("smax.i64", "i64", a, b)

    def from_there(far: Value, step: int) -> Value:
        """The first of the numbers 0, 1, ..., each worth `step`, that is not before `far`."""
        return quotient(fn, fn.add(larger(far, i64(0)), step - 1), i64(step))

    whole, after = begin, end
    for e in low:
        whole = larger(whole, from_there(fn.sub(e, first), place.stride))
    for e in high:
        after = minimum(fn, after, from_there(fn.sub(e, fn.add(first, reach)), place.stride))
    whole = minimum(fn, whole, end)
    after = larger(whole, after)

    def inside(one: Value, last: Value) -> tuple[Value, Value]:
        near, far = i64(0), fn.add(quotient(fn, reach, i64(step)), 1)
        for e in low:
            start = fn.add(fn.mul(last, place.stride), first)
            near = larger(near, from_there(fn.sub(e, start), step))
        for e in high:
            start = fn.add(fn.mul(one, place.stride), first)
            far = minimum(fn, far, from_there(fn.sub(e, start), step))
        return near, far

    ends = begin, whole, after, end
    return Edges(keys, ends, inside(begin, fn.sub(whole, 1)), inside(after, fn.sub(end, 1)))


class Edging:
    """Writes the tables of a task and of a block, in the words that `contract_tile` lays out."""

    def __init__(
        self,
        em: Emitter,
        sizes: Naturals,
        band: Band,
        itemsize: int,
        unit: int,
        task: tuple[Value, Value],
    ) -> None:
        """`unit`: rows of a tile; `task`: how many images, and the first line."""
        self.em, self.fn, self.sizes, self.band = em, em.fn, sizes, band
        self.itemsize, self.unit = itemsize, unit
        self.images, self.line = task
        fn = em.fn
        self.lines, self.columns = edges(em, sizes, band, self.line)
        worth = fn.icmp("sge", self._around(), WORTH * unit)
        self.listed, self.left_step = sizes[band.listed], sizes[band.left]
        self.left, self.dead, self.every, _ = (sizes[word] for word in band.words)
        few = fn.icmp("sle", sizes[band.window], MOST_CUT)
        cut = fn.binary("or", self.lines.cut(fn), self.columns.cut(fn))
        self.cut = fn.select(fn.binary("and", worth, few), cut, i64(0))
        # Keys that have lists of their own: corners if those of all images fill tiles.
        several = fn.icmp("sge", self.images, unit)
        self.own = fn.select(several, i64(len(KEYS)), i64(len(KEYS) - len(CORNERS)))

    def _around(self) -> Value:
        """Positions of a task that edges cut."""
        fn = self.fn
        all_ = fn.mul(self.lines.count(fn), self.columns.count(fn))
        whole = fn.mul(self.lines.sizes(fn)[1], self.columns.sizes(fn)[1])
        return fn.mul(self.images, fn.sub(all_, whole))

    def positions(self, table: Value, steps: tuple[Value, Value, Value]) -> None:
        """The table of positions, the last one repeated for the rest of a tile. `steps`: elements
        of the result from image to image, line to line and column to column.
        """
        fn, sizes, band = self.fn, self.sizes, self.band
        fn.store(self.cut, table)
        fn.store(i64(0), _word(fn, table, i64(1)))
        line_step = fn.mul(sizes[band.line_step], band.stride)
        column_step = fn.mul(sizes[band.column_step], band.places.column.stride)
        image_step, width = sizes[band.image_step], sizes[band.columns]
        height = self.lines.count(fn)
        count, order = self._order()

        def entry(number: Value) -> list[Value]:
            at = fn.mul(number, POSITION)
            return [_word(fn, table, at, POSITIONS + i) for i in range(POSITION)]

        with fn.loop(i64(0), i64(len(AROUND_LINES))) as number:
            first, end, line_key = self.lines.range(fn, _picked(fn, number, AROUND_LINES))
            left, right, column_key = self.columns.range(fn, _picked(fn, number, AROUND_COLUMNS))
            key = fn.binary("or", line_key, column_key)
            some, begin, behind = (
                fn.load("i64", _word(fn, order, fn.mul(number, ORDER), i)) for i in range(ORDER)
            )
            written = fn.variable("i64", fn.sub(i64(0), left))
            with fn.loop(i64(0), self.images) as image, fn.loop(first, end) as line:
                down = fn.sub(line, self.line)
                before = fn.mul(fn.add(fn.mul(image, height), down), width)
                offset = fn.add(fn.mul(image, image_step), fn.mul(down, line_step))
                result = fn.add(fn.mul(image, steps[0]), fn.mul(down, steps[1]))
                done = written.get()
                with fn.loop(left, right) as column:
                    at = fn.mul(fn.add(offset, fn.mul(column, column_step)), self.itemsize)
                    n = fn.add(done, column)
                    n = fn.add(n, fn.select(fn.icmp("slt", n, some), begin, behind))
                    to = fn.mul(fn.add(result, fn.mul(column, steps[2])), self.itemsize)
                    words = at, fn.add(before, column), key, to
                    for word, place in zip(words, entry(n), strict=True):
                        fn.store(word, place)
                written.set(fn.add(done, fn.sub(right, left)))
        last = [fn.load("i64", place) for place in entry(fn.sub(count, 1))]
        with fn.loop(i64(0), i64(self.unit)) as more:
            for word, place in zip(last, entry(fn.add(count, more)), strict=True):
                fn.store(word, place)

    def _order(self) -> tuple[Value, Value]:
        """How many positions there are, and a table of where those of each range go: so many of
        them, how far on from their number, and how far on the others.

        Tiles had best hold positions that the same edges cut. So the inside fills tiles, sides are
        filled up with corners, and what is left of corners and of the inside comes last.
        """
        fn, unit = self.fn, self.unit

        def size(number: int) -> Value:
            ranges = (self.lines, AROUND_LINES), (self.columns, AROUND_COLUMNS)
            line, column = (axis.sizes(fn)[around[number]] for axis, around in ranges)
            return fn.mul(self.images, fn.mul(line, column))

        counts = [size(number) for number in range(len(AROUND_LINES))]
        whole = fn.mul(quotient(fn, counts[0], i64(unit)), unit)
        some, begin, at = [whole], [i64(0)], whole
        for side, corner in zip(counts[1::2], counts[2::2], strict=True):
            over = fn.sub(side, fn.mul(quotient(fn, side, i64(unit)), unit))
            missing = fn.select(fn.icmp("eq", over, 0), over, fn.sub(i64(unit), over))
            for count in (side, minimum(fn, missing, corner)):
                some.append(count)
                begin.append(at)
                at = fn.add(at, count)
        behind = [i64(0)] * len(counts)  # sides have no others
        for number in (2, 4, 6, 8, 0):
            behind[number] = fn.sub(at, some[number])
            at = fn.add(at, fn.sub(counts[number], some[number]))
        order = fn.allocate(f"[{ORDER * len(counts)} x i64]")
        for number, words in enumerate(zip(some, begin, behind, strict=True)):
            for i, word in enumerate(words):
                fn.store(word, _word(fn, order, i64(ORDER * number + i)))
        return at, order

    def elements(self, table: Value, loops: Loops, channel: int | None) -> None:
        """The lists of elements, for all channels that a block may touch, from a channel's first
        on: blocks differ in where they begin.
        """
        fn, sizes, band = self.fn, self.sizes, self.band
        window, channels = sizes[band.window], sizes[band.channels]
        channel_step = sizes[band.channel_step]
        has_keys = fn.icmp("ne", self.cut, 0)
        with walk(self.em, loops, i64(0), fn.mul(channels, window)) as (t, at):
            offset, dead = self._element(at)
            if channel is not None:
                offset = fn.add(offset, fn.mul(at[channel], channel_step))
            for i, word in enumerate((fn.mul(offset, self.itemsize), i64(1))):
                fn.store(word, _word(fn, table, self._of_all(t), i))
            with fn.when(fn.binary("and", has_keys, fn.icmp("slt", t, window))):
                fn.store(dead, _word(fn, table, fn.add(self.dead, t)))
        count = fn.variable("i64")
        with self._each_key() as (key, number):
            left = _Left(self, table, number)
            count.set(i64(0))
            with fn.loop(i64(0), window) as t:
                n = count.get()
                fn.store(n, left.before(t))
                fn.store(t, left.number(n))
                dead = fn.load("i64", _word(fn, table, fn.add(self.dead, t)))
                dead = fn.binary("and", dead, key)
                count.set(fn.add(n, fn.convert("zext", fn.icmp("eq", dead, 0), "i64")))
            length = count.get()
            fn.store(length, left.before(window))
            first = fn.add(fn.load("i64", left.number(i64(0))), window)
            fn.store(first, left.number(length))
            with fn.loop(i64(0), channels) as c:
                source, target = fn.mul(c, window), fn.mul(c, length)
                with fn.loop(i64(0), length) as j:
                    here, following = (fn.load("i64", left.number(fn.add(j, i))) for i in range(2))
                    offset = _word(fn, table, self._of_all(fn.add(source, here)))
                    offset = fn.load("i64", offset)
                    for i, word in enumerate((offset, fn.sub(following, here))):
                        fn.store(word, left.element(fn.add(target, j), i))

    def _of_all(self, element: Value) -> Value:
        """The number of an element's first word in the list of all."""
        return self.fn.add(self.every, self.fn.mul(element, ELEMENT))

    def _element(self, at: Mapping[int, Value]) -> tuple[Value, Value]:
        """Where an element is in its window, and the keys of windows it is outside of."""
        fn, sizes, band = self.fn, self.sizes, self.band
        places = band.places
        offset = dead = i64(0)
        for place, step, axis in (
            (places.line, band.line_step, self.lines),
            (places.column, band.column_step, self.columns),
        ):
            number = i64(0)
            if place is not None and place.element is not None:
                moved = fn.mul(at[place.element], place.dilation)
                if place.dilation < 0:
                    moved = fn.add(moved, sizes[band.reach(place)])
                offset = fn.add(offset, fn.mul(moved, sizes[step]))
                number = quotient(fn, moved, i64(abs(place.dilation)))
            dead = fn.binary("or", dead, axis.dead(fn, number))
        return offset, dead

    def heads(self, table: Value, start: Value, count: Value, channels: Value) -> None:
        """The lists for a block of k. `start`: how far its first k is in a window; `count`: how
        many k there are, `channels`: of how many channels.
        """
        fn, window = self.fn, self.sizes[self.band.window]

        def describe(key: Value, *words: Value) -> None:
            for i, word in enumerate(words):
                fn.store(word, _word(fn, table, fn.mul(key, HEAD), HEADS + i))

        describe(i64(0), self._of_all(start), count, i64(0))
        others = fn.sub(channels, 1)
        end = fn.sub(fn.add(start, count), fn.mul(others, window))
        with self._each_key() as (key, number):
            left = _Left(self, table, number)
            dropped, last, length = (fn.load("i64", left.before(t)) for t in (start, end, window))
            some = fn.sub(fn.add(fn.mul(others, length), last), dropped)
            first = fn.sub(fn.load("i64", left.number(dropped)), start)
            describe(key, left.at(dropped), some, first)
        with fn.loop(self.own, i64(len(KEYS))) as number:  # as their lines
            key = _picked(fn, number, KEYS)
            line = fn.binary("and", key, i64(sum(LINE_KEYS)))
            at = fn.mul(line, HEAD)
            describe(key, *(fn.load("i64", _word(fn, table, at, HEADS + i)) for i in range(HEAD)))

    @contextmanager
    def _each_key(self) -> Iterator[tuple[Value, Value]]:
        """Each key that has a list of its own, and its number."""
        fn = self.fn
        with fn.loop(i64(0), self.own) as number:
            key = _picked(fn, number, KEYS)
            with fn.when(fn.icmp("eq", fn.binary("and", key, self.cut), key)):
                yield key, number


@dataclass(frozen=True)
class _Left:
    """Where what a key leaves is described: of one window, how many elements are left before each
    one, which ones are left, and behind them the first one of the next window; and the list.
    """

    edging: Edging
    table: Value
    index: Value  # of the key

    def before(self, element: Value) -> Value:
        return self._word(element)

    def number(self, element: Value) -> Value:
        half = self.edging.fn.binary("lshr", self.edging.left_step, i64(1))
        return self._word(self.edging.fn.add(half, element))

    def _word(self, number: Value) -> Value:
        edging, fn = self.edging, self.edging.fn
        first = fn.add(edging.left, fn.mul(self.index, edging.left_step))
        return _word(fn, self.table, fn.add(first, number))

    def at(self, element: Value) -> Value:
        """The number of an element's first word."""
        fn = self.edging.fn
        first = fn.add(fn.mul(self.index, self.edging.listed), LISTS)
        return fn.add(first, fn.mul(element, ELEMENT))

    def element(self, element: Value, word: int) -> Value:
        return _word(self.edging.fn, self.table, self.at(element), word)


def _word(fn: Function, table: Value, number: Value, more: int = 0) -> Value:
    """Where a word of a table lies."""
    return fn.address(table, fn.add(number, more), "i64")


def _picked(fn: Function, number: Value, values: Sequence[int]) -> Value:
    """One of at most sixteen values below 16."""
    packed = sum(value << 4 * i for i, value in enumerate(values))
    packed -= (packed >> 63) << 64
    shifted = fn.binary("lshr", i64(packed), fn.mul(number, 4))
    return fn.binary("and", shifted, i64(15))
