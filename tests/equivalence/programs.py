"""Random programs: what they are made of, and how they run on Tensors or on graph Values.

A Program is a list of Steps over registers. It is generated on Values (which know shapes and
dtypes) and run on Tensors, so that one program can be tried in every way there is to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

import rabbet as rb
from rabbet.base.dtypes import dtype_of
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, Value, lookup
from rabbet.ops import subscripts


class Ref(NamedTuple):
    """The register of this number, as an operand."""

    number: int


@dataclass(frozen=True)
class Leaf:
    """An operand from outside: its shape and dtype, and how to draw its elements.

    kind: "normal", "positive", "ties" (few distinct values), or an exclusive bound for integers.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str | int = "normal"
    seed: int = 0

    @property
    def is_float(self) -> bool:
        """True where the leaf can require gradients."""
        return self.dtype.startswith("float")


@dataclass(frozen=True)
class Step:
    """One instruction. Its result is the next register.

    kind: "leaf" (the next leaf), "call" (op over args), "part" (the result numbered by the first of
    args of a call with several), "get" (x[key]), "put" (x[key] = value), "update" (x op= y),
    "branch" (if any(c > 0): first else second), "random" (rb.rand).
    """

    kind: str
    op: str = ""
    args: tuple[Any, ...] = ()
    attrs: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Program:
    """Steps, their leaves, the registers looked at in the end, and those differentiated."""

    steps: tuple[Step, ...]
    leaves: tuple[Leaf, ...]
    outputs: tuple[int, ...]
    differentiated: tuple[int, ...] = ()
    reads: frozenset[int] = field(default=frozenset())  # steps after which a value is read

    def show(self) -> str:
        """The program as text, a line for each step."""
        lines, leaves = [], iter(self.leaves)
        for number, step in enumerate(self.steps):
            what = next(leaves) if step.kind == "leaf" else f"{step.op} {step.args} {step.attrs}"
            lines.append(f"r{number} = {step.kind} {what}")
        return "\n".join([*lines, f"outputs {self.outputs} differentiated {self.differentiated}"])


def array_of(leaf: Leaf) -> np.ndarray:
    """The elements of a leaf: the same for the same leaf."""
    random = np.random.default_rng(leaf.seed)
    if leaf.dtype == "bool":
        return random.integers(0, 2, leaf.shape).astype(bool)
    if isinstance(leaf.kind, int):
        return random.integers(0, leaf.kind, leaf.shape).astype(leaf.dtype)
    if not leaf.is_float:
        low = 0 if leaf.dtype.startswith("u") else -5
        return random.integers(low, 6, leaf.shape).astype(leaf.dtype)
    if leaf.kind == "positive":
        return random.uniform(0.5, 2.0, leaf.shape).astype(leaf.dtype)
    found = random.normal(size=leaf.shape)
    return (np.round(found * 2) / 2 if leaf.kind == "ties" else found).astype(leaf.dtype)


def perturbed(leaf: Leaf, seed: int) -> np.ndarray:
    """The elements of a leaf moved by a few units in the last place."""
    found = array_of(leaf)
    if not leaf.is_float:
        return found
    unit = 4 * np.finfo(leaf.dtype).eps
    noise = np.random.default_rng(seed).uniform(-unit, unit, leaf.shape)
    return (found * (1 + noise) + noise * unit).astype(leaf.dtype)


class Registers:
    """Runs steps one by one. `decisions` records branches, or forces them where given."""

    def __init__(self, leaves: Sequence[Any], decisions: list[bool] | None = None) -> None:
        self.leaves = iter(leaves)
        self.values: list[Any] = []
        self.forced = None if decisions is None else iter(decisions)
        self.decisions: list[bool] = []

    def run(self, step: Step) -> Any:
        """Execute one step; its result goes to the next register."""
        args = [self.operand(a) for a in step.args]
        result = getattr(self, f"_{step.kind}")(step, args)
        self.values.append(result)
        return result

    def operand(self, argument: Any) -> Any:
        """References as what they stand for, also inside keys and lists."""
        if isinstance(argument, Ref):
            return self.values[argument.number]
        if isinstance(argument, tuple) and type(argument) is tuple:
            return tuple(self.operand(a) for a in argument)
        return [self.operand(a) for a in argument] if isinstance(argument, list) else argument

    def _leaf(self, step: Step, args: list[Any]) -> Any:
        return next(self.leaves)

    def _call(self, step: Step, args: list[Any]) -> Any:
        return lookup(step.op)(*args, **dict(step.attrs))

    def _part(self, step: Step, args: list[Any]) -> Any:
        return lookup(step.op)(*args[1:], **dict(step.attrs))[args[0]]

    def _get(self, step: Step, args: list[Any]) -> Any:
        x, key = args
        return subscripts.getitem(x, key) if isinstance(x, Value) else x[key]

    def _put(self, step: Step, args: list[Any]) -> Any:
        x, key, value = args
        if isinstance(x, Value):
            return subscripts.setitem(x, key, value)
        x[key] = value
        return x

    def _update(self, step: Step, args: list[Any]) -> Any:
        x, y = args
        if isinstance(x, Value):
            return lookup(step.op)(x, y)
        return getattr(x, IN_PLACE[step.op])(y)

    def _branch(self, step: Step, args: list[Any]) -> Any:
        condition, first, second = args
        if isinstance(condition, Value):
            return lookup("negative")(first)
        if self.forced is not None:
            outcome = next(self.forced)
        else:
            outcome = True if (condition > 0).any() else False
        self.decisions.append(outcome)
        return -first if outcome else second * 2

    def _random(self, step: Step, args: list[Any]) -> Any:
        shape = dict(step.attrs)["shape"]
        home = next((v for v in self.values if isinstance(v, Value)), None)
        if home is not None:
            return home.call.builder.input(Spec(shape, rb.float32))
        return rb.rand(*shape)


IN_PLACE = {"add": "__iadd__", "subtract": "__isub__", "multiply": "__imul__"}


def last_uses(program: Program) -> dict[int, list[int]]:
    """For each step the registers that nobody needs after it."""
    last: dict[int, int] = {}
    for number, step in enumerate(program.steps):
        last[number] = number
        for used in references(step.args):
            last[used] = number
    kept = {*program.outputs, *program.differentiated}
    dying: dict[int, list[int]] = {}
    for register, at in last.items():
        if register not in kept:
            dying.setdefault(at, []).append(register)
    return dying


def references(argument: Any) -> list[int]:
    """Every register named somewhere in an argument."""
    if isinstance(argument, Ref):
        return [argument.number]
    if isinstance(argument, tuple | list):
        return [n for a in argument for n in references(a)]
    return []


# ---- smaller programs that still fail ---------------------------------------------------------


def shrunk(program: Program, fails: Any, rounds: int = 200) -> Program:
    """A smaller program that `fails` too: outputs dropped, steps turned into leaves."""
    changed = True
    while changed and rounds > 0:
        changed = False
        for candidate in _smaller(program):
            rounds -= 1
            if rounds <= 0:
                break
            if fails(candidate):
                program, changed = candidate, True
                break
    return program


def _smaller(program: Program) -> Any:
    for kept in program.outputs:
        if len(program.outputs) > 1:
            yield _pruned(replace(program, outputs=(kept,)))
    for kept in program.differentiated:
        rest = tuple(d for d in program.differentiated if d != kept)
        yield _pruned(replace(program, differentiated=rest))
    if program.reads:
        yield replace(program, reads=frozenset())
    specs = specs_of(program)
    for number in range(len(program.steps) - 1, -1, -1):
        if program.steps[number].kind == "leaf":
            continue
        spec = specs[number]
        leaf = Leaf(spec.shape, spec.dtype.name, "normal", number)
        yield _pruned(_as_leaf(program, number, leaf))
        for used in references(program.steps[number].args):
            if specs[used] == spec:
                yield _pruned(_renamed(program, number, used))


def specs_of(program: Program) -> list[Spec]:
    """Shape and dtype of every register."""
    from_builder = _on_values(program)
    return [v.spec for v in from_builder.values]


def _on_values(program: Program) -> Registers:
    builder = Builder()
    leaves = [builder.input(Spec(x.shape, dtype_of(x.dtype))) for x in program.leaves]
    registers = Registers(leaves)
    for step in program.steps:
        registers.run(step)
    return registers


def _as_leaf(program: Program, number: int, leaf: Leaf) -> Program:
    before = sum(s.kind == "leaf" for s in program.steps[:number])
    steps = list(program.steps)
    steps[number] = Step("leaf")
    leaves = (*program.leaves[:before], leaf, *program.leaves[before:])
    return replace(program, steps=tuple(steps), leaves=leaves)


def _renamed(program: Program, number: int, by: int) -> Program:
    change = {number: by}
    steps = tuple(replace(s, args=_change(s.args, change)) for s in program.steps)
    return replace(
        program,
        steps=steps,
        outputs=tuple(change.get(o, o) for o in program.outputs),
        differentiated=tuple(change.get(o, o) for o in program.differentiated),
    )


def _pruned(program: Program) -> Program:
    """The program without the steps that nothing depends on."""
    needed = {*program.outputs, *program.differentiated}
    for number in range(len(program.steps) - 1, -1, -1):
        if number in needed:
            needed.update(references(program.steps[number].args))
    kept = [n for n in range(len(program.steps)) if n in needed]
    place = {old: new for new, old in enumerate(kept)}
    leaf_numbers = [n for n, s in enumerate(program.steps) if s.kind == "leaf"]
    return Program(
        tuple(replace(program.steps[n], args=_change(program.steps[n].args, place)) for n in kept),
        tuple(x for n, x in zip(leaf_numbers, program.leaves, strict=True) if n in needed),
        tuple(place[o] for o in program.outputs),
        tuple(place[o] for o in program.differentiated),
        frozenset(place[r] for r in program.reads if r in place),
    )


def _change(argument: Any, place: dict[int, int]) -> Any:
    if isinstance(argument, Ref):
        return Ref(place.get(argument.number, argument.number))
    if type(argument) is tuple:
        return tuple(_change(a, place) for a in argument)
    return [_change(a, place) for a in argument] if isinstance(argument, list) else argument
