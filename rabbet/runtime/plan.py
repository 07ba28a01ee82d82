"""Plan: which kernels run in which order on which memory, as flat words that the native runtime
reads.

The layout of the words is written here and read in runtime/native/program.c (see docs/format.md).
Sizes are expressions over symbols, so one plan serves every batch size.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rabbet.base.errors import InternalError, ShapeError
from rabbet.base.sizes import Dim, Guard, SizeScope

MAGIC = int.from_bytes(b"RABBETP1", "little")
VERSION = 1
HEADER_WORDS = 16
INPUT, OUTPUT, CONSTANT, ARENA = range(4)
OPCODES = {"add": 2, "sub": 3, "mul": 4, "floordiv": 5, "mod": 6, "max": 7, "min": 8}
ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": max,
    "min": min,
}
RELATIONS = {"==": 0, "!=": 1, "<": 2, ">=": 3}
CAN_FAIL = 1
IS_COPY = 2  # nothing to do where its two buffers are the same memory
COND, LOOP = 4, 8  # a call that runs bodies; its buffers are listed in native/control.c


@dataclass(eq=False)
class PlanBuffer:
    """One block of memory of a plan; `alias`: an earlier buffer in whose memory it lies, or, for an
    output, an input that a run may give it to write over.
    """

    kind: int
    number: int
    bytes: int  # an expression number
    alias: int = -1


@dataclass(eq=False)
class PlanCall:
    """One launch: expression numbers for tasks, cost, scratch and sizes; buffer numbers.

    With COND or LOOP `kernel` is the number of its first body, and the second one follows.
    """

    kernel: int
    tasks: int
    cost: int
    scratch: int
    flags: int
    buffers: list[int]
    sizes: list[int]


@dataclass(eq=False)
class Plan:
    """A plan under construction; `words()` is what the runtime takes."""

    scope: SizeScope | None
    exprs: list[tuple[int, int, int]] = field(default_factory=list)
    buffers: list[PlanBuffer] = field(default_factory=list)
    calls: list[PlanCall] = field(default_factory=list)
    kernels: int = 0
    commit: int = -1  # the first call that may write over an input; -1: none
    known: dict[tuple[int, int, int], int] = field(default_factory=dict)
    bodies: list[Plan] = field(default_factory=list)

    def expr(self, dim: Dim) -> int:
        """The number of a size expression, equal ones shared."""
        if isinstance(dim, int):
            return self._node(0, dim, 0)
        total: int | None = None
        for monomial, coefficient in dim.terms.items():
            product: int | None = None
            for atom in monomial:
                factor = self._atom(atom)
                product = factor if product is None else self._node(4, product, factor)
            constant = self._node(0, coefficient, 0)
            if product is None:
                product = constant
            elif coefficient != 1:
                product = self._node(4, product, constant)
            total = product if total is None else self._node(2, total, product)
        if total is None:
            raise InternalError("an empty size expression")
        return total

    def buffer(self, kind: int, number: int, nbytes: Dim) -> int:
        """A new buffer."""
        self.buffers.append(PlanBuffer(kind, number, self.expr(nbytes)))
        return len(self.buffers) - 1

    def share(self, members: Sequence[int]) -> None:
        """Lay arena buffers, and at most one output, in one block of memory."""
        root = min(members)
        found = [self.buffers[m] for m in members]
        kind, number = min(
            ((b.kind, b.number) for b in found if b.kind == OUTPUT), default=(ARENA, -1)
        )
        for member, b in zip(members, found, strict=True):
            b.kind, b.number, b.alias = kind, number, -1 if member == root else root

    def inputs_read(self) -> set[int]:
        """The numbers of the inputs that some call reads, or a body through it."""
        used = {number for call in self.calls for number in call.buffers}
        return {self.buffers[n].number for n in used if self.buffers[n].kind == INPUT}

    def lifetimes(self) -> list[tuple[int, int]]:
        """First and last call of each buffer; (0, 0) for one that none uses."""
        found: dict[int, tuple[int, int]] = {}
        for position, call in enumerate(self.calls):
            for number in call.buffers:
                found[number] = (found.get(number, (position, 0))[0], position)
        return [found.get(n, (0, 0)) for n in range(len(self.buffers))]

    def words(self) -> bytes:
        """The plan as little-endian 64-bit words, its bodies behind it.

        ShapeError where a number that its sizes are made of needs more.
        """
        found = self._words(self.scope.guards.values() if self.scope else (), self.kernels)
        try:
            return struct.pack(f"<{len(found)}q", *found)
        except struct.error:
            largest = max(found, key=abs)
            raise ShapeError(f"sizes are computed with {largest}, beyond 64 bits") from None

    def _words(self, asked: Iterable[Guard], kernels: int) -> list[int]:
        """`asked`: what all its bodies ask of sizes too; `kernels`: of the whole."""
        guards = [(RELATIONS[g.relation], self.expr(g.expr)) for g in asked]
        body: list[int] = [w for e in self.exprs for w in e]
        body += [w for g in guards for w in g]
        for b, (first, last) in zip(self.buffers, self.lifetimes(), strict=True):
            body += [b.kind, b.number, b.bytes, first, last, b.alias]
        for c in self.calls:
            body += [c.kernel, c.tasks, c.cost, c.scratch, c.flags]
            body += [len(c.buffers), len(c.sizes), *c.buffers, *c.sizes]
        counts = [
            len(self.scope.names) if self.scope else 0,
            *(len(self.exprs), len(guards), len(self.buffers), len(self.calls)),
            *(self._count(INPUT), self._count(OUTPUT), self._count(CONSTANT), kernels),
            *(len(self.calls) if self.commit < 0 else self.commit, len(self.bodies)),
        ]
        for inner in self.bodies:
            body += inner._words((), kernels)
        return [MAGIC, VERSION, HEADER_WORDS + len(body), *counts, 0, 0, *body]

    def _count(self, kind: int) -> int:
        return max((b.number for b in self.buffers if b.kind == kind), default=-1) + 1

    def _atom(self, atom: tuple) -> int:
        if atom[0] == "symbol":
            return self._node(1, atom[1], 0)
        return self._node(OPCODES[atom[0]], self.expr(atom[1]), self.expr(atom[2]))

    def _node(self, opcode: int, a: int, b: int) -> int:
        key = (opcode, a, b)
        if key not in self.known:
            self.known[key] = len(self.exprs)
            self.exprs.append(key)
        return self.known[key]


class CallFacts(NamedTuple):
    """One launch at given sizes: its scalar operations, and the bytes of all its buffers."""

    operations: int
    bytes: int


def facts_of(words: bytes, symbols: Sequence[int]) -> list[CallFacts]:
    """What each launch of a plan does, from the words that `Plan.words` wrote."""
    found = struct.unpack(f"<{len(words) // 8}q", words)
    _, n_exprs, n_guards, n_buffers, n_calls = found[3:8]
    values: list[int] = []
    at = HEADER_WORDS
    for _ in range(n_exprs):
        values.append(_evaluate(found[at : at + 3], values, symbols))
        at += 3
    at += 2 * n_guards
    nbytes = [values[found[at + 6 * i + 2]] for i in range(n_buffers)]
    at += 6 * n_buffers
    facts = []
    for _ in range(n_calls):
        count, n_sizes = found[at + 5 : at + 7]
        used = set(found[at + 7 : at + 7 + count])
        facts.append(CallFacts(values[found[at + 2]], sum(nbytes[b] for b in used)))
        at += 7 + count + n_sizes
    return facts


def _evaluate(expr: Sequence[int], values: Sequence[int], symbols: Sequence[int]) -> int:
    opcode, a, b = expr
    if opcode == 0:
        return a
    if opcode == 1:
        return symbols[a]
    name = next(n for n, code in OPCODES.items() if code == opcode)
    return int(ARITHMETIC[name](values[a], values[b]))
