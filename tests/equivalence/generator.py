"""Random programs from a source of random numbers; each step is checked on graph Values.

Every decision takes one random number whatever the sizes are, so the same numbers with another
`batch` give, mostly, the same program for another batch size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import RabbetError
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, Value
from tests.equivalence.programs import Leaf, Program, Ref, Registers, Step

SIZES = (1, 2, 3, 4, 5, 8, 17, 33)
BATCH = 7
MAX_ELEMENTS = 3000
FLOATS = ("float32", "float32", "float32", "float64")
INTEGERS = ("int32", "int64", "uint8", "int8")


class Source(Protocol):
    """Where random numbers come from: random.Random, or one that hypothesis controls."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class Maker:
    """A program under construction."""

    def __init__(
        self,
        source: Source,
        *,
        batch: int = BATCH,
        empty: bool = True,
        most: int = MAX_ELEMENTS,
    ) -> None:
        self.source = source
        self.batch = batch
        self.most = most
        self.empty = empty
        self.builder = Builder()
        self.registers = Registers(())
        self.steps: list[Step] = []
        self.leaves: list[Leaf] = []
        self.retired: set[int] = set()

    # ---- decisions -----------------------------------------------------------------------------

    def below(self, n: int) -> int:
        """An integer in [0, n)."""
        return min(int(self.source.random() * n), n - 1)

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self.source.random() < p

    def pick(self, items: Any) -> Any:
        """One of the items."""
        return items[self.below(len(items))]

    def size(self) -> int:
        """An extent."""
        if self.chance(0.3):
            return self.batch
        if self.chance(0.04) and self.empty:
            return 0
        return self.pick(SIZES)

    def shape(self, rank: int) -> tuple[int, ...]:
        """A shape that is not too large."""
        shape = tuple(self.size() for _ in range(rank))
        while math.prod(shape) > MAX_ELEMENTS // 4:
            shape = tuple(min(n, 3) if n == max(shape) else n for n in shape)
        return shape

    def axis(self, x: Ref) -> int:
        """An axis of a register, now and then counted from the end."""
        n = self.value(x).ndim
        found = self.below(max(n, 1))
        return found - n if self.chance(0.3) else found

    def axes(self, x: Ref) -> Any:
        """None, one axis, or several."""
        n = self.value(x).ndim
        how = self.below(4)
        if how == 0 or n == 0:
            return None
        if how == 1:
            return n - 1
        chosen = tuple(a for a in range(n) if self.chance(0.5))
        return chosen or (n - 1,)

    # ---- registers -----------------------------------------------------------------------------

    def value(self, ref: Ref) -> Value:
        """The Value of a register."""
        return self.registers.values[ref.number]

    def shape_of(self, ref: Ref) -> tuple[int, ...]:
        """The shape of a register."""
        return self.value(ref).shape

    def leaf(self, shape: tuple[int, ...], dtype: str, kind: str | int = "normal") -> Ref:
        """A new operand from outside."""
        if math.prod(shape) > self.most:
            raise RabbetError("the leaf is too large")
        self.leaves.append(Leaf(shape, dtype, kind, len(self.leaves) + 1))
        value = self.builder.input(Spec(shape, dtype_of(dtype)))
        self.registers.leaves = iter((value,))
        return self.add(Step("leaf"))

    def add(self, step: Step) -> Ref:
        """Append a step; RabbetError where an op refuses it."""
        value = self.registers.run(step)
        if not isinstance(value, Value) or math.prod(value.shape) > self.most:
            self.registers.values.pop()
            raise RabbetError("the result is too large or no value")
        self.steps.append(step)
        if step.kind in ("put", "update"):
            self.retired.add(step.args[0].number)
        return Ref(len(self.steps) - 1)

    def call(self, op: str, *args: Any, **attrs: Any) -> Ref:
        """Append a call of an op."""
        return self.add(Step("call", op, args, tuple(attrs.items())))

    def part(self, op: str, number: int, *args: Any, **attrs: Any) -> Ref:
        """Append a call of an op with several results, of which one is kept."""
        return self.add(Step("part", op, (number, *args), tuple(attrs.items())))

    def any(self, kinds: str = "f", rank: int | None = None) -> Ref:
        """A register with a dtype of these kinds, the later the likelier; else a new leaf."""
        found = [
            Ref(n)
            for n, v in enumerate(self.registers.values)
            if v.dtype.kind in kinds and n not in self.retired and rank in (None, v.ndim)
        ]
        position = self.source.random()
        if found and self.chance(0.85):
            return found[min(int(position**0.5 * len(found)), len(found) - 1)]
        return self.fresh(kinds, rank)

    def fresh(self, kinds: str = "f", rank: int | None = None) -> Ref:
        """A new leaf of a random shape."""
        rank = self.pick((1, 2, 2, 3, 3, 0)) if rank is None else rank
        kind = self.pick(kinds)
        shape = self.shape(rank)
        if kind == "f":
            return self.leaf(shape, self.pick(FLOATS), self.pick(("normal", "normal", "ties")))
        names = {"b": ("bool",), "u": ("uint8",), "i": ("int32", "int64", "int8")}
        return self.leaf(shape, self.pick(names[kind]))

    def mate(self, x: Ref, *, kinds: str = "") -> Ref:
        """A register or new leaf that broadcasts with x and has a dtype of its kind."""
        v = self.value(x)
        kinds = kinds or v.dtype.kind
        found = [
            Ref(n)
            for n, o in enumerate(self.registers.values)
            if n not in self.retired and o.dtype.kind in kinds and broadcasts(o.shape, v.shape)
        ]
        if self.chance(0.5) and found:
            return self.pick(found)
        shape = list(v.shape)
        stretch = [self.chance(0.3) for _ in range(6)]
        shape = [1 if s else n for n, s in zip(shape, stretch, strict=False)]
        lead = self.below(3)
        if self.chance(0.3):
            shape = shape[min(lead, len(shape)) :]
        dtype = v.dtype.name if v.dtype.kind in kinds else {"b": "bool", "f": "float32"}[kinds]
        return self.leaf(tuple(shape), dtype)

    def finish(self, gradients: bool) -> Program:
        """The program: what it shows in the end, and what it differentiates."""
        alive = [n for n in range(len(self.steps)) if n not in self.retired]
        made = [n for n in alive if self.steps[n].kind != "leaf"]
        outputs = {n for n in made if self.chance(0.25)} | set(made[-1:])
        floats = [n for n in made if self.registers.values[n].dtype.kind == "f"]
        wanted = [n for n in floats if self.chance(0.4)] or floats[-1:]
        reads = frozenset(n for n in made if self.chance(0.1))
        differentiated = tuple(wanted) if gradients else ()
        return Program(
            tuple(self.steps), tuple(self.leaves), tuple(sorted(outputs)), differentiated, reads
        )


def broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """True where the two shapes fit by broadcasting."""
    pairs = zip(reversed(a), reversed(b), strict=False)
    return all(m == n or m == 1 or n == 1 for m, n in pairs)


def generate(
    source: Source,
    families: dict[str, Callable[[Maker], Ref]],
    *,
    length: int = 5,
    batch: int = BATCH,
    empty: bool = True,
    most: int = MAX_ELEMENTS,
) -> Program:
    """A program of about `length` steps besides its leaves, none of more than `most` elements."""
    maker = Maker(source, batch=batch, empty=empty, most=most)
    gradients = maker.chance(0.5)
    count = 1 + maker.below(2 * length - 1)
    names = list(families)
    maker.fresh("f")
    for _ in range(count):
        for _attempt in range(6):
            known = len(maker.steps)
            try:
                families[maker.pick(names)](maker)
            except RabbetError:
                pass  # refused: the leaves made for it stay, another step is tried
            if len(maker.steps) > known and maker.steps[-1].kind != "leaf":
                break
    return maker.finish(gradients)
