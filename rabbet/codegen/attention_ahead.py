"""Memory that attention will touch soon: products of tiles ask for it while they multiply.

A head's rows are short and far from each other, so no machine sees by itself which come next; read
when they are needed, they take a quarter of the kernel's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rabbet.codegen.contract_loops import Part, prefetch
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Function, Value, i64
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr, topological
from rabbet.kernel.loops import Store

STREAMS = 2  # a product asks for rows of so many arrays
LINE = 64

PARAMETERS = tuple(
    (kind, f"{name}{n}")
    for n in range(STREAMS)
    for kind, name in (("ptr", "soon"), ("i64", "step"), ("i64", "length"), ("i64", "share"))
)


class Rows(NamedTuple):
    """Rows of an array that a product asks for."""

    start: Value
    step: Value  # bytes from row to row
    length: Value  # bytes of a row
    share: Value  # how many, for each row of the product's result

    def after(self, fn: Function, rows: Value) -> Rows:
        """What is left after so many rows of the product."""
        passed = fn.mul(fn.mul(rows, self.share), self.step)
        return self._replace(start=fn.address(self.start, passed, "i8"))


NONE = Rows(Value("null", "ptr"), i64(0), i64(0), i64(0))


class Array(NamedTuple):
    """An array whose rows are asked for; axes: the variables of its rows and columns."""

    operand: int
    place: Expr
    element_bytes: int
    axes: tuple[int, int]

    @classmethod
    def read(cls, value: Expr, axes: tuple[int, int]) -> Array:
        """What an expression reads."""
        loaded = next(e for e in topological((value,)) if e.op == "load")
        operand: int = loaded.value[0]
        return cls(operand, loaded.args[0], loaded.dtype.itemsize, axes)

    @classmethod
    def written(cls, store: Store, axes: tuple[int, int]) -> Array:
        """What a store writes."""
        return cls(store.operand, store.index, store.value.dtype.itemsize, axes)

    def rows(
        self, em: Emitter, at: Sequence[Value], first: Value, columns: Value, share: Value
    ) -> Rows:
        """Rows from `first` on, of one batch and head; none if their places are not plain to see.

        Nothing is read to find them: batch and head may be beyond the last.
        """
        row, column = self.axes
        step, along = (coefficient(self.place, axis) for axis in self.axes)
        reads = any(e.op == "load" for e in topological((self.place,)))
        if reads or step is None or along is None or along.op != "const" or along.value != 1:
            return NONE
        fn = em.fn
        here = em.inner({**dict(enumerate(at)), row: first, column: i64(0)})
        start = fn.mul(here.scalar(self.place), self.element_bytes)
        return Rows(
            fn.address(em.frame.pointer(self.operand), start, "i8"),
            fn.mul(here.scalar(step), self.element_bytes),
            fn.mul(columns, self.element_bytes),
            share,
        )


def ask(part: Part, first: Value, rows: int) -> None:
    """Ask for what belongs to `rows` rows of a product from `first` on."""
    fn = part.fn
    for n in range(STREAMS):
        names = ("soon", "step", "length", "share")
        soon, step, length, share = (part[f"{name}{n}"] for name in names)
        begin = fn.mul(first, share)
        with fn.loop(begin, fn.add(begin, fn.mul(share, rows))) as row:
            line = fn.address(soon, fn.mul(row, step), "i8")
            with fn.loop(i64(0), length, LINE) as offset:
                prefetch(fn, fn.address(line, offset, "i8"))
