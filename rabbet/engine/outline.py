"""Outlines: the ops that a rule records, found by running it over opaque Values once.

Rules see nothing but op, attributes and Specs, so what they record follows from these. An outline
is recorded again op by op, wherever its operands live (on a tape, or inside vmap); a recipe
(recipes.py) is one that the recorder follows by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rabbet.base.spec import Spec, intern
from rabbet.graph.value import Attrs, Call, Value, attrs_key, topological
from rabbet.recorder import record, scalar_node

ARRIVED, OUTPUT, INPUT, MADE, NUMBER = range(5)  # as in recorder/native/recipe.h
Ingredient = tuple[int, Any, Any]
Step = tuple[Call, tuple[Ingredient, ...]]
KEPT = 8192


def steps_of(
    known: dict[Value, Ingredient], wanted: Sequence[Value | None]
) -> tuple[list[Step], tuple[Ingredient | None, ...]]:
    """The Calls behind `wanted` in order, and where these are found; `known` is what was given."""
    steps: list[Step] = []
    results = {v for v in wanted if v is not None}
    # In the operands' order: a set's differs from process to process, and with it a program's key.
    for call in topological(v.call for v in wanted if v is not None):
        if call.outputs[0] in known or _is_number(call) and results.isdisjoint(call.outputs):
            continue
        if _is_same(call) and call.inputs[0] in known:
            known[call.outputs[0]] = known[call.inputs[0]]
            continue
        steps.append((call, tuple(_ingredient(v, known) for v in call.inputs)))
        for i, value in enumerate(call.outputs):
            known[value] = (MADE, len(steps) - 1, i)
    return steps, tuple(None if v is None else known[v] for v in wanted)


def _ingredient(value: Value, known: Mapping[Value, Ingredient]) -> Ingredient:
    if value in known:
        return known[value]
    return NUMBER, value.call.attrs["value"], (intern((), value.dtype),)


def _is_number(call: Call) -> bool:
    return call.op.name == "constant"


def _is_same(call: Call) -> bool:
    """True where the result is the operand: a rule written for all dtypes and shapes needed no
    conversion here.
    """
    same = ("cast", "expand", "reshape")
    return call.op.name in same and call.outputs[0].spec == call.inputs[0].spec


class Outline:
    """What a rule gives for operands like `given`; those that are not `used` may be None."""

    def __init__(self, given: Sequence[Value | None], wanted: Sequence[Value | None]) -> None:
        known = {v: (INPUT, i, 0) for i, v in enumerate(given) if v is not None}
        steps, results = steps_of(known, wanted)
        self.count = len(given)
        starts: list[int] = []  # the place of each step's first result
        end = len(given)
        for call, _ in steps:
            starts.append(end)
            end += len(call.outputs)
        self.numbers: list[tuple[int, Any, Spec]] = []  # place, number, Spec
        used: set[int] = set()

        def place(ingredient: Ingredient) -> int:
            kind, first, second = ingredient
            if kind == MADE:
                return starts[first] + int(second)
            if kind == INPUT:
                used.add(first)
                return int(first)
            self.numbers.append((end + len(self.numbers), first, second[0]))
            return self.numbers[-1][0]

        self.steps = [
            (call.op, tuple(place(o) for o in operands), call.attrs, call.form, _hidden(call))
            for call, operands in steps
        ]
        self.results = [None if r is None else place(r) for r in results]
        self.used = [i in used for i in range(len(given))]

    def record(self, given: Sequence[Any], handle: type) -> list[Any]:
        """The results for these operands, recorded; `handle` makes a Handle of a node."""
        memory = list(given)
        if self.numbers:
            end, first = len(given), self.numbers[0][0]
            numbers = [handle(scalar_node(number, spec), 0) for _, number, spec in self.numbers]
            memory += [None] * (first - end) + numbers
        at = len(given)
        for op, operands, attrs, form, hidden in self.steps:
            made = record(op, [memory[o] for o in operands], attrs, form)
            made = list(made) if isinstance(made, tuple) else [made]
            made += [made[0].sibling(i) for i in hidden]
            memory[at : at + len(made)] = made
            at += len(made)
        return [None if r is None else memory[r] for r in self.results]


def _hidden(call: Call) -> range:
    return range(len(call.outputs) - call.op.residuals, len(call.outputs))


@dataclass(frozen=True, eq=False, slots=True)
class _Kept:
    """What a key stands for; its objects live as long, so that their ids are not used again."""

    found: Any
    alive: tuple[Any, ...]


class Memo:
    """What was found for a rule, by its attributes and whatever else it depends on.

    Attributes are known by their id first: mostly they are the same dict, and else their bits tell.
    """

    def __init__(self) -> None:
        self.by_id: dict[tuple[Any, ...], _Kept] = {}
        self.by_bits: dict[tuple[Any, ...], _Kept] = {}

    def get(self, attrs: Attrs, key: tuple[Any, ...]) -> Any:
        """What is kept, or None; objects in `key` whose ids are in it must be `alive` (see put)."""
        kept = self.by_id.get((id(attrs), key))
        if kept is not None:
            return kept.found
        kept = self.by_bits.get((attrs_key(attrs), key))
        if kept is None:
            return None
        self._keep(attrs, key, _Kept(kept.found, (attrs, *kept.alive)))
        return kept.found

    def put(self, attrs: Attrs, key: tuple[Any, ...], found: Any, *alive: Any) -> None:
        """Keep what was found, and the objects whose ids are in `key`."""
        kept = _Kept(found, (attrs, *alive))
        self._keep(attrs, key, kept)
        self.by_bits[attrs_key(attrs), key] = kept

    def _keep(self, attrs: Attrs, key: tuple[Any, ...], kept: _Kept) -> None:
        if len(self.by_id) >= KEPT or len(self.by_bits) >= KEPT:
            self.by_id.clear()
            self.by_bits.clear()
        self.by_id[id(attrs), key] = kept
