"""Region: the ops that a piece of user code recorded, as plain data that can be recorded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rabbet.graph.op import Op
from rabbet.graph.value import Attrs
from rabbet.recorder import Node

Key = tuple[Node, int]


@dataclass(frozen=True, eq=False)
class Step:
    """One op; operands are numbered places: those of the region's inputs come first, then the
    outputs of the steps, hidden ones too, in order.
    """

    op: Op
    attrs: Attrs
    form: tuple[int, ...]
    operands: tuple[int, ...]
    outputs: int


@dataclass(frozen=True, eq=False)
class Region:
    """Steps in the order of their recording. Every operand is an input or the output of an earlier
    step.
    """

    inputs: int
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    @property
    def is_opaque(self) -> bool:
        """True where some gradient rule is Python that must see tensors."""
        return any(s.op.is_opaque for s in self.steps)

    def replay(self, inputs: Sequence[Any], home: Any) -> list[Any]:
        """The outputs for other inputs, Values or Tensors alike, recorded where `home` lives."""
        places = list(inputs)
        for step in self.steps:
            found = home.emit(step.op, [places[o] for o in step.operands], step.attrs, step.form)
            made = list(found) if isinstance(found, tuple) else [found]
            made += [made[0].sibling(i) for i in range(len(made), step.outputs)]
            places += made
        return [places[o] for o in self.outputs]


def region_of(outputs: Sequence[Key], since: int) -> tuple[Region, list[Key]] | None:
    """What the nodes recorded after number `since` compute, and the outside values it takes.

    None where a node has already forgotten its operands and its value: it was computed while the
    region was recorded, and nobody has it any more.
    """
    nodes = _inside(outputs, since)
    if nodes is None:
        return None
    given: dict[tuple[int, int], int] = {}
    outside: list[Key] = []
    known = {id(n) for n in nodes}
    for source, index in (*(k for n in nodes for k in n.inputs), *outputs):
        if id(source) not in known and (id(source), index) not in given:
            given[id(source), index] = len(outside)
            outside.append((source, index))
    places, steps, count = dict(given), [], len(outside)
    for n in nodes:
        operands = tuple(places[id(source), index] for source, index in n.inputs)
        steps.append(Step(n.op, n.attrs, n.form, operands, len(n.specs)))
        for index in range(len(n.specs)):
            places[id(n), index] = count + index
        count += len(n.specs)
    results = tuple(places[id(n), index] for n, index in outputs)
    return Region(len(outside), tuple(steps), results), outside


def _inside(outputs: Sequence[Key], since: int) -> list[Node] | None:
    """The nodes recorded after `since` below `outputs`, in the order of their recording."""
    found: dict[int, Node] = {}
    stack = list(outputs)
    while stack:
        n, index = stack.pop()
        if id(n) in found or n.op is None or n.sequence <= since:
            continue
        if n.op.operands and not n.inputs:  # computed, and its operands forgotten
            if n.buffers[index] is None:
                return None
            continue
        found[id(n)] = n
        stack += n.inputs
    return sorted(found.values(), key=lambda n: n.sequence)
