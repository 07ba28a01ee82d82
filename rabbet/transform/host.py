"""A graph with host ops as stages: parts for the compiler, and the calls that run between them.

A host op (LAPACK, FFT) is a primitive that no kernel computes: its `lower` is a function of NumPy
arrays. A control op (ops/control.py) runs graphs, which have plans of their own; a plan that holds
such calls is cut at them in the same way. Takes a graph in primitives; part k computes what needs
the results of k rounds of calls between parts, so a graph has as few parts as the longest chain of
them allows. Moves and sources belong to whichever part reads them:
what goes from part to part is stored values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from rabbet.graph.value import Builder, Call, Graph, Value
from rabbet.transform.complex import has_complex, in_reals
from rabbet.transform.decompose import PrimitiveBuilder

Key = tuple[int, int]
FREE = ("movement", "source")  # never stored for their own sake
Between: TypeAlias = Callable[[Call], bool]  # whether a call runs between the parts


@dataclass(eq=False)
class Part:
    """What one plan computes: `inputs` and `outputs` are values of the whole graph, `graph` the
    same over inputs of its own.
    """

    graph: Graph
    inputs: list[Value]
    outputs: list[Value]
    made: dict[Key, Value] = field(default_factory=dict)  # of the whole graph -> of this part

    def boundaries(self, kept: set[Key]) -> list[Value]:
        """The values of this part that stand for the whole graph's values `kept`."""
        return [v for key, v in self.made.items() if key in kept]

    def in_reals(self) -> Part:
        """The same part with complex numbers as pairs of real ones in memory."""
        calls = self.graph.calls()
        if not has_complex([v for c in calls for v in c.outputs]):
            return self
        graph, made = in_reals(self.graph, PrimitiveBuilder())
        keys = {k: (id(v.call), v.index) for k, v in self.made.items()}
        found = {k: made[key] for k, key in keys.items() if key in made}
        return Part(graph, self.inputs, self.outputs, found)


def cut(graph: Graph, between: Between) -> list[Part | Call]:
    """The stages of a graph in primitives, in order; the graph itself where no call is `between`.

    Outputs of a stage that are no outputs of the graph are inputs of later stages.
    """
    calls = graph.calls()
    apart = {id(c) for c in calls if between(c)}
    if not apart:
        made = {(id(v.call), v.index): v for c in calls for v in c.outputs}
        return [Part(graph, graph.inputs, graph.outputs, made)]
    level = _levels(calls, apart)
    hosts = [c for c in calls if id(c) in apart]
    stages: list[Part | Call] = []
    wanted = _Wanted(level, apart)
    for v in (*graph.outputs, *(x for call in hosts for x in call.inputs)):
        wanted.add(v)
    last = max(level.values())
    parts = [wanted.part(number) for number in range(last, -1, -1)][::-1]
    for number, part in enumerate(parts):
        if part.outputs:
            stages.append(part)
        stages += [c for c in hosts if level[id(c)] == number]
    return stages


def _levels(calls: list[Call], apart: set[int]) -> dict[int, int]:
    """For each call the number of its part; for one between them that of the part it follows."""
    level: dict[int, int] = {}
    for call in calls:
        below = (level[id(v.call)] + (id(v.call) in apart) for v in call.inputs)
        level[id(call)] = max(below, default=0)
    return level


class _Wanted:
    """What each part must hand on; asked from the last part to the first."""

    def __init__(self, level: dict[int, int], apart: set[int]) -> None:
        self.level = level
        self.apart = apart
        self.outputs: dict[int, dict[Key, Value]] = {}

    def add(self, v: Value) -> None:
        """Another stage, or the user, needs `v`: the part that makes it must store it."""
        if self._is_given(v):
            return
        self.outputs.setdefault(self.level[id(v.call)], {})[id(v.call), v.index] = v

    def _is_given(self, v: Value) -> bool:
        """True for what no part computes."""
        return v.op.kind == "input" or id(v.call) in self.apart

    def part(self, number: int) -> Part:
        """Part `number`, and what it needs of earlier ones noted."""
        part = Part(Graph(), [], list(self.outputs.get(number, {}).values()))
        builder = Builder()
        builder.site = -1
        for root in part.outputs:
            self._fill(root, number, part, builder)
        part.graph.outputs = [part.made[id(v.call), v.index] for v in part.outputs]
        return part

    def _fill(self, root: Value, number: int, part: Part, builder: Builder) -> None:
        stack = [(root, False)]
        while stack:
            v, ready = stack.pop()
            key = (id(v.call), v.index)
            if key in part.made:
                continue
            inside = v.op.kind in FREE or self.level[id(v.call)] == number
            if self._is_given(v) or not inside:
                self.add(v)
                part.made[key] = builder.input(v.spec)
                part.graph.inputs.append(part.made[key])
                part.inputs.append(v)
            elif ready:
                inputs = tuple(part.made[id(x.call), x.index] for x in v.call.inputs)
                c = v.call
                made = builder.call(c.op, inputs, c.attrs, c.form, c.specs, site=c.site)
                for i, value in enumerate(made):
                    part.made[id(c), i] = value
            else:
                stack.append((v, True))
                stack.extend((x, False) for x in reversed(v.call.inputs))
