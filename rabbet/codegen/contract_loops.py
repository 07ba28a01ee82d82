"""Walking flattened loop groups inside a contraction kernel.

A group of loops (rows, lanes, sum) is addressed by one flat number; these helpers turn a range of
flat numbers into loop variables: point by point (`walk`), or in runs along the last loop (`runs`),
and cut a run into vectors (`chunks`). `Part` is a private function of the kernel's module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rabbet.base.dtypes import int64
from rabbet.base.errors import InternalError
from rabbet.codegen.contract_axes import Loops
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Function, Module, Value, Variable, i64
from rabbet.expr.expr import Expr, const, topological
from rabbet.kernel.loops import Operand


class PartFunction(Function):
    """A function that only its own module calls (or, if that is shared, all it is a part of), with
    hand-made phis.
    """

    def name_value(self) -> str:
        """A name for a value that is defined later."""
        return self._fresh("p")

    def reserve(self) -> int:
        """A place in the text, to be filled later."""
        self._lines.append("")
        return len(self._lines) - 1

    def fill(self, place: int, lines: Sequence[str]) -> None:
        """The instructions of a reserved place."""
        self._lines[place] = "\n".join(f"  {line}" for line in lines)

    def lines(self) -> list[str]:
        first, *rest = super().lines()
        if self.module.shared:
            return [first, *rest]
        return [first.replace("define void", "define internal void", 1), *rest]


class Part(Frame):
    """A private function of a kernel: gets the kernel's buffers and sizes, and arguments of its
    own.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        operands: Sequence[Operand],
        parameters: Sequence[tuple[str, str]],
    ) -> None:
        kernel = (("ptr noalias readonly", "buffers"), ("ptr noalias readonly", "sizes"))
        self.module = module
        self.target = module.target
        self.fn: PartFunction = PartFunction(module, name, (*kernel, *parameters))
        module.functions.append(self.fn)
        self.operands = tuple(operands)
        self._pointers: dict[int, Value] = {}
        self._sizes: dict[int, Value] = {}

    def __getitem__(self, parameter: str) -> Value:
        return self.fn.parameters[parameter]


def call(fn: Function, part: Part, *arguments: Value) -> None:
    """Call a part from the kernel or another part; never inlined, so registers stay its own."""
    given = ", ".join(f"{a.type} {a.text}" for a in arguments)
    fn.emit(f"call void @{part.fn.name}(ptr %buffers, ptr %sizes, {given}) noinline")


class Run(NamedTuple):
    """`length` points of a group from flat position `position` on, along its last loop."""

    position: Value
    length: Value
    variables: dict[int, Value]  # at the first point
    last: int | None  # the variable that moves; None if the group has no loops


def minimum(fn: Function, a: Value, b: Value) -> Value:
    """The smaller of two signed numbers."""
    return fn.intrinsic("smin.i64", "i64", a, b)


def prefetch(fn: Function, address: Value, *, soon: bool = True) -> None:
    """Ask for a cache line that will be read, soon or later; any address will do."""
    hints = (Value("0", "i32"), Value("3" if soon else "2", "i32"), Value("1", "i32"))
    fn.intrinsic("prefetch.p0", "void", address, *hints)


def quotient(fn: Function, a: Value, b: Value) -> Value:
    """a // b for a >= 0 and b >= 1."""
    return fn.do("i64", f"udiv i64 {a.text}, {b.text}")


_NATURAL = {"add": "add", "sub": "sub", "mul": "mul", "floordiv": "udiv", "mod": "urem"}


class Naturals:
    """Values of size expressions in which nothing is negative and nothing is divided by zero.

    The same meaning as an Emitter's, in far fewer instructions: division needs no care for signs.
    """

    def __init__(self, em: Emitter) -> None:
        self._em = em
        self._values: dict[Expr, Value] = {}

    def __getitem__(self, wanted: Expr) -> Value:
        fn = self._em.fn
        for e in topological([wanted]):
            if e in self._values:
                continue
            if e.op in ("const", "size"):
                self._values[e] = self._em.scalar(e)
                continue
            x, y = (self._values[a] for a in e.args)
            if e.op in ("min", "max"):
                self._values[e] = fn.intrinsic(f"u{e.op}.i64", "i64", x, y)
            else:
                self._values[e] = fn.binary(_NATURAL[e.op], x, y)
        return self._values[wanted]


def split(em: Emitter, loops: Loops, flat: Value) -> dict[int, Value]:
    """The loop variables at a flat number (all extents at least 1)."""
    fn = em.fn
    found: dict[int, Value] = {}
    for loop in reversed(loops[1:]):
        extent = em.scalar(loop.extent)
        rest = quotient(fn, flat, extent)
        found[loop.variable] = fn.sub(flat, fn.mul(rest, extent))
        flat = rest
    if loops:
        found[loops[0].variable] = flat
    return found


def is_linear(loops: Loops) -> bool:
    """At most one loop: the flat number is the variable."""
    return len(loops) <= 1


def _counters(em: Emitter, loops: Loops, first: Value) -> dict[int, Variable]:
    return {v: em.fn.variable("i64", value) for v, value in split(em, loops, first).items()}


def _advance(em: Emitter, loops: Loops, counters: dict[int, Variable], by: Value) -> None:
    """Move the last variable on by at most what its loop has left, and carry."""
    fn = em.fn
    for loop in reversed(loops):
        counter = counters[loop.variable]
        moved = fn.add(counter.get(), by)
        wraps = fn.icmp("sge", moved, em.scalar(loop.extent))
        counter.set(fn.select(wraps, i64(0), moved))
        by = fn.convert("zext", wraps, "i64")


@contextmanager
def walk(
    em: Emitter, loops: Loops, first: Value, count: Value
) -> Iterator[tuple[Value, dict[int, Value]]]:
    """For each of `count` points from flat number `first` on: its number, the variables."""
    fn = em.fn
    for loop in loops:
        em.scalar(loop.extent)
    if is_linear(loops):
        with fn.loop(i64(0), count) as t:
            yield t, {loop.variable: fn.add(first, t) for loop in loops}
        return
    counters = _counters(em, loops, first)
    with fn.loop(i64(0), count) as t:
        yield t, {v: counter.get() for v, counter in counters.items()}
        _advance(em, loops, counters, i64(1))


@contextmanager
def runs(em: Emitter, loops: Loops, first: Value, count: Value) -> Iterator[Run]:
    """`count` points (at least one) from flat number `first` on, in runs along the last loop."""
    fn = em.fn
    if is_linear(loops):
        variables = {loop.variable: first for loop in loops}
        yield Run(i64(0), count, variables, loops[0].variable if loops else None)
        return
    last = loops[-1]
    counters = _counters(em, loops, first)
    extent = em.scalar(last.extent)
    for loop in loops:
        em.scalar(loop.extent)
    position = fn.variable("i64", i64(0))
    body, done = fn.fresh_label("run"), fn.fresh_label("ran")
    fn.jump(body)
    fn.label(body)
    here = position.get()
    variables = {v: counter.get() for v, counter in counters.items()}
    left = fn.sub(extent, variables[last.variable])
    length = minimum(fn, left, fn.sub(count, here))
    yield Run(here, length, variables, last.variable)
    _advance(em, loops, counters, length)
    following = fn.add(here, length)
    position.set(following)
    fn.branch(fn.icmp("slt", following, count), body, done)
    fn.label(done)


def chunks(
    fn: Function, length: Value, lanes: int, *, moves: bool = True
) -> Iterator[tuple[Value, int, Value | None]]:
    """Cut a run into vectors: (offset, lanes, mask), first for the whole ones, then for the rest.

    The caller writes its code once for each. A run that does not move (`moves` false) has one
    point.
    """
    if not moves:
        yield i64(0), 1, None
        return
    whole = fn.binary("and", length, i64(-lanes))
    with fn.loop(i64(0), whole, lanes) as offset:
        yield offset, lanes, None
    with fn.when(fn.icmp("slt", whole, length)):
        yield whole, lanes, first_lanes(fn, fn.sub(length, whole), lanes)


def first_lanes(fn: Function, count: Value, lanes: int) -> Value:
    """The mask of the first `count` lanes (any count, also negative or more than there are)."""
    clipped = minimum(fn, count, i64(lanes))
    narrow = fn.convert("trunc", fn.intrinsic("smax.i64", "i64", clipped, i64(0)), "i32")
    return fn.icmp("slt", fn.iota(lanes, "i32"), fn.splat(narrow, lanes))


def at_zero(loops: Loops) -> dict[int, Expr]:
    """Every variable of the loops as 0."""
    return {loop.variable: const(0, int64) for loop in loops}


def require(condition: bool, message: str) -> None:
    """InternalError with the message unless the condition holds."""
    if not condition:
        raise InternalError(message)
