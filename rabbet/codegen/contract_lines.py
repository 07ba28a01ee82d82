"""Lines of an image, copied into scratch memory with their padding written out.

Takes the value that a kernel reads at a place of the image and the place's coordinate along memory;
copies the columns of one line, from a given coordinate on, so that windows of the copy need no
conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from rabbet.base.dtypes import DType
from rabbet.codegen.contract_loops import first_lanes, minimum, prefetch, quotient
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Value, i64, literal
from rabbet.codegen.operations import memory_type, register_type
from rabbet.codegen.stepping import vectors
from rabbet.expr.expr import Expr, const, substitute, var
from rabbet.expr.expr import load as make_load
from rabbet.kernel.windows import Inside, inside, loaded, within


class Lines:
    """Copies lines of `value`, a load of an image (perhaps cast).

    `coordinate`: the variables that stand for coordinates, by the coordinate as the kernel writes
    it; `column`: the variable that counts the columns of a line, `stride` elements apart and of
    coordinate `last`.
    """

    def __init__(
        self,
        frame: Frame,
        dtype: DType,
        value: Expr,
        coordinate: Mapping[Expr, int],
        last: Expr,
        column: int,
        stride: int,
    ) -> None:
        self.frame, self.fn, self.dtype = frame, frame.fn, dtype
        self.lanes = frame.target.lanes(dtype.bits)
        self.element = register_type(dtype)
        self.column, self.stride, self.start = column, stride, coordinate[last]
        places = {source: var(v) for source, v in coordinate.items()}
        places[last] = var(column) * stride + places[last]
        (value,) = substitute((value,), places.get)
        load, limits = loaded(value), inside(value, places[last])
        assert load is not None and limits is not None
        self.inside = limits
        operand, fill = cast("tuple[int, float]", load.value)
        self.load = make_load(operand, load.dtype, load.args[0], None, fill)
        self.value = substitute((value,), {load: self.load}.get)[0]
        self.outside = substitute((value,), {load: const(fill, load.dtype)}.get)[0]

    def hoist(self, em: Emitter) -> None:
        """Compute here what is the same for all columns of a line."""
        em.hoist([self.value, self.inside.others], {self.column})

    def copy(
        self,
        em: Emitter,
        target: Value,
        count: Value,
        limits: tuple[Value, Value],
        ahead: Value | None = None,
        unit: str | None = None,
    ) -> None:
        """`count` columns of one line: first what is outside the image, then the rest; may ask for
        what lies `ahead` elements (or units) behind.

        Vectors that end behind the line are written over by the next one.
        """
        fn, kind = self.fn, register_type(self.dtype, self.lanes)
        low = limits[0]
        high = fn.select(self.is_inside(em), limits[1], low)
        for begin, end in ((i64(0), low), (high, count)):
            with fn.loop(begin, end, self.lanes) as i:
                fill = em.inner(lanes=self.lanes, vector=self.column).value(self.outside)
                fn.store(Value(fill.text, kind), fn.address(target, i, self.element))

        def write(ems: list[Emitter], i: Value) -> None:
            (lane,) = ems
            found = lane.value(self.value)
            if lane.mask is not None:
                found = fn.select(lane.mask, found, lane.value(self.outside))
            fn.store(found, fn.address(target, i, self.element))
            if ahead is not None:
                self.fetch(lane, ahead, unit)

        vectors(em, self.column, low, high, (1, self.lanes), write)

    def between(self, limits: tuple[Value, Value], first: Value) -> Value:
        """The lanes of a vector of columns that are inside the image, from column `first` on."""
        fn, (low, high) = self.fn, limits
        before = first_lanes(fn, fn.sub(low, first), self.lanes)
        after = fn.binary("xor", before, literal(True, before.type))
        return fn.binary("and", first_lanes(fn, fn.sub(high, first), self.lanes), after)

    def fill_vector(self, em: Emitter, target: Value, first: Value) -> None:
        """A vector of columns from `first` on of a line outside the image."""
        fill = em.inner(lanes=self.lanes, vector=self.column).value(self.outside)
        kind = register_type(self.dtype, self.lanes)
        self.fn.store(Value(fill.text, kind), self.fn.address(target, first, self.element))

    def copy_vector(self, em: Emitter, target: Value, first: Value, mask: Value) -> None:
        """A vector of columns from `first` on, those outside the mask as they are outside the
        image.
        """
        fn = self.fn
        lane = em.inner({self.column: first}, lanes=self.lanes, vector=self.column, mask=mask)
        found = fn.select(mask, lane.value(self.value), lane.value(self.outside))
        fn.store(found, fn.address(target, first, self.element))

    def limits(self, em: Emitter, count: Value) -> tuple[Value, Value]:
        """The columns of a line that are inside the image: the first, and where they end."""
        return self._limits(em, self.inside, (em.variables[self.start], self.stride), count)

    def along(self, line: int) -> Inside:
        """Which lines are inside, along the axis whose coordinate is variable `line`."""
        found = within((self.inside.others,), var(line))
        assert found is not None
        return found

    def limits_of(self, em: Emitter, line: int, count: Value) -> tuple[Value, Value]:
        """The lines that are inside, of `count` from the one that `em` knows on."""
        return self._limits(em, self.along(line), (em.variables[line], 1), count)

    def _limits(
        self, em: Emitter, inside: Inside, axis: tuple[Value, int], count: Value
    ) -> tuple[Value, Value]:
        fn = self.fn
        low, high = i64(0), count
        for e in inside.low:
            low = fn.intrinsic("smax.i64", "i64", low, self._first_from(em, e, *axis))
        for e in inside.high:
            high = minimum(fn, high, self._first_from(em, e, *axis))
        low = minimum(fn, low, count)
        return low, fn.intrinsic("smax.i64", "i64", low, high)

    def is_inside(self, em: Emitter) -> Value:
        """i1: is a line inside the image, as far as its other coordinates tell?"""
        return em.scalar(self.inside.others)

    def _first_from(self, em: Emitter, place: Expr, start: Value, stride: int) -> Value:
        """The first of places `stride` apart that is not before `place`."""
        fn = self.fn
        far = fn.sub(em.scalar(place), start)
        far = fn.add(fn.intrinsic("smax.i64", "i64", far, i64(0)), stride - 1)
        return quotient(fn, far, i64(stride))

    def index(self, em: Emitter) -> Value:
        """Where the element at some coordinates lies in its image."""
        return em.scalar(self.load.args[0])

    def address(self, index: Value) -> Value:
        """Where an element of the image lies in memory."""
        operand = cast("tuple[int, float]", self.load.value)[0]
        return self.fn.address(self.frame.pointer(operand), index, memory_type(self.load.dtype))

    def fetch(self, em: Emitter, ahead: Value, unit: str | None = None) -> None:
        """Ask for what lies `ahead` elements (or units) behind a column."""
        kind = unit or memory_type(self.load.dtype)
        prefetch(self.fn, self.fn.address(self.address(self.index(em)), ahead, kind), soon=False)
