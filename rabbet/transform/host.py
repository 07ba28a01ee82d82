"""A graph with host ops as stages: parts for the compiler, and the calls that run between them.

A host op (LAPACK, FFT) is a primitive that no kernel computes: its `lower` is a function of NumPy
arrays. A control op (ops/control.py) runs graphs, which have plans of their own. Takes a graph in
primitives; part k computes what needs the results of k rounds of such calls, so a graph has as few
parts as the longest chain of them allows. Moves and sources belong to whichever part reads them:
what goes from part to part is stored values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rabbet.graph.value import Builder, Call, Graph, Value
from rabbet.transform.complex import has_complex, in_reals
from rabbet.transform.decompose import PrimitiveBuilder

Key = tuple[int, int]
FREE = ("movement", "source")  # never stored for their own sake
BETWEEN = ("host", "control")  # what runs between the parts
GIVEN = (*BETWEEN, "input")  # what no part computes


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


def cut(graph: Graph) -> list[Part | Call]:
    """The stages of a graph in primitives, in order; the graph itself where no op is a host op.

    Outputs of a stage that are no outputs of the graph are inputs of later stages.
    """
    calls = graph.calls()
    if not any(c.op.kind in BETWEEN for c in calls):
        made = {(id(v.call), v.index): v for c in calls for v in c.outputs}
        return [Part(graph, graph.inputs, graph.outputs, made)]
    level = _levels(calls)
    hosts = [c for c in calls if c.op.kind in BETWEEN]
    stages: list[Part | Call] = []
    wanted = _Wanted(level)
    for v in (*graph.outputs, *(x for call in hosts for x in call.inputs)):
        wanted.add(v)
    last = max(level.values())
    parts = [wanted.part(number) for number in range(last, -1, -1)][::-1]
    for number, part in enumerate(parts):
        if part.outputs:
            stages.append(part)
        stages += [c for c in hosts if level[id(c)] == number]
    return stages


def _levels(calls: list[Call]) -> dict[int, int]:
    """For each call the number of its part; for a host call that of the part it follows."""
    level: dict[int, int] = {}
    for call in calls:
        below = (level[id(v.call)] + (v.op.kind in BETWEEN) for v in call.inputs)
        level[id(call)] = max(below, default=0)
    return level


class _Wanted:
    """What each part must hand on; asked from the last part to the first."""

    def __init__(self, level: dict[int, int]) -> None:
        self.level = level
        self.outputs: dict[int, dict[Key, Value]] = {}

    def add(self, v: Value) -> None:
        """Another stage, or the user, needs `v`: the part that makes it must store it."""
        if v.op.kind in GIVEN:
            return
        self.outputs.setdefault(self.level[id(v.call)], {})[id(v.call), v.index] = v

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
            if v.op.kind in GIVEN or not inside:
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
