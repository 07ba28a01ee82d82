"""Whether two entries compute the same at given sizes, shown by form: primitive for primitive."""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.export.graph import build
from rabbet.export.portable import Entry, Portable
from rabbet.graph.value import Call, Graph, attrs_key
from rabbet.transform.decompose import decompose


def same_computation(program: Portable, entry: Entry, other: Entry, symbols: Sequence[int]) -> bool:
    """True where both entries are the same primitives on the same inputs and weights at these
    sizes. Moves that move nothing do not count.

    Raises FormatError where one has no meaning at these sizes.
    """
    return _text(program, entry, symbols) == _text(program, other, symbols)


def _text(program: Portable, entry: Entry, symbols: Sequence[int]) -> tuple[object, ...]:
    """The primitives in order, each by op, attributes and numbered operands; then the outputs."""
    built = build(program, entry, symbols, static=True)
    primitive, _ = decompose(built.graph)
    names: dict[tuple[int, int], object] = {
        (id(v.call), 0): ("input", n) for n, v in enumerate(primitive.inputs[: len(entry.inputs)])
    }
    for v, weight in zip(primitive.inputs[len(entry.inputs) :], built.weights, strict=True):
        names[id(v.call), 0] = ("weight", weight)
    lines = [_line(names, number, call) for number, call in enumerate(_made(primitive))]
    return (*lines, *(names[id(v.call), v.index] for v in primitive.outputs))


def _made(graph: Graph) -> list[Call]:
    return [c for c in graph.calls() if c.op.kind != "input"]


def _line(names: dict[tuple[int, int], object], number: int, call: Call) -> object:
    for index in range(len(call.outputs)):
        names[id(call), index] = (number, index)
    operands = tuple(names[id(v.call), v.index] for v in call.inputs)
    return call.op.name, attrs_key(call.attrs), call.form, operands
