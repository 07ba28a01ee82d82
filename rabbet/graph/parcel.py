"""A graph and its sizes as bytes, for another process of the same installation.

The calls lie in a flat list, operands first, so a graph of any depth fits; ops travel by name. What
is made here is read by a process of our own alone: files have a format that trusts nobody.
"""

from __future__ import annotations

import pickle
from typing import Any

from rabbet.base.sizes import SizeScope
from rabbet.graph import value
from rabbet.graph.value import Builder, Graph, Value, registry, topological


def pack(graph: Graph, scope: SizeScope | None) -> bytes | None:
    """The bytes; None where a call's op is known to this process alone, or holds graphs."""
    calls = topological(v.call for v in (*graph.inputs, *graph.outputs))
    if any(c.op is not value.INPUT and registry.get(c.op.name) is not c.op for c in calls):
        return None
    if any(c.graphs() for c in calls):
        return None
    numbers = {id(c): i for i, c in enumerate(calls)}

    def places(values: Any) -> list[tuple[int, int]]:
        return [(numbers[id(v.call)], v.index) for v in values]

    flat = [
        (
            None if c.op is value.INPUT else c.op.name,
            *(places(c.inputs), c.attrs, c.form, c.specs, c.site),
        )
        for c in calls
    ]
    return pickle.dumps((flat, places(graph.inputs), places(graph.outputs), scope))


def unpack(data: bytes) -> tuple[Graph, SizeScope | None]:
    """The graph and the scope of its sizes."""
    flat, inputs, outputs, scope = pickle.loads(data)
    builder = Builder()
    made: list[tuple[Value, ...]] = []
    for name, places, attrs, form, specs, site in flat:
        op = value.INPUT if name is None else registry[name]
        operands = tuple(made[call][index] for call, index in places)
        made.append(builder.call(op, operands, attrs, form, specs, site))

    def values(places: list[tuple[int, int]]) -> list[Value]:
        return [made[call][index] for call, index in places]

    return Graph(values(inputs), values(outputs)), scope
