"""Whether two entries compute the same at given sizes, shown by form: primitive for primitive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rabbet.export.graph import build
from rabbet.export.portable import Entry, Portable
from rabbet.graph import interpret
from rabbet.graph.value import Call, Graph, attrs_key
from rabbet.transform.decompose import decompose

MOST_ELEMENTS = 1 << 20  # of a constant that is worth computing here

Key = tuple[int, int]


def same_computation(
    program: Portable,
    entry: Entry,
    other: Entry,
    symbols: Sequence[int],
    constants: Mapping[int, np.ndarray],
) -> bool:
    """True where both entries are the same primitives on the same inputs and weights at these
    sizes. Moves that move nothing do not count, and what depends on no input counts by its value;
    `constants` are the values of some weights.

    Raises FormatError where one has no meaning at these sizes.
    """
    texts = [_text_of_entry(program, e, symbols, constants) for e in (entry, other)]
    return texts[0] == texts[1]


def _text_of_entry(
    program: Portable,
    entry: Entry,
    symbols: Sequence[int],
    constants: Mapping[int, np.ndarray],
) -> tuple[object, ...]:
    built = build(program, entry, symbols, static=True)
    text = _Text(built.graph)
    count = len(entry.inputs)
    for n, v in enumerate(text.graph.inputs):
        weight = built.weights[n - count] if n >= count else -1
        if weight in constants:
            text.know((id(v.call), 0), constants[weight])
        else:
            text.names[id(v.call), 0] = ("input", n) if n < count else ("weight", weight)
    return text.run()


class _Text:
    """The primitives of a graph in order, each by op, attributes and numbered operands."""

    def __init__(self, graph: Graph) -> None:
        self.graph, _ = decompose(graph)
        self.names: dict[Key, object] = {}
        self.values: dict[Key, np.ndarray] = {}
        self.lines: list[object] = []

    def run(self) -> tuple[object, ...]:
        """All lines, then the outputs."""
        for call in self.graph.calls():
            if call.op.kind != "input" and not self.fold(call):
                self.add(call)
        return (*self.lines, *(self.names[id(v.call), v.index] for v in self.graph.outputs))

    def know(self, key: Key, array: np.ndarray) -> None:
        """A value that depends on no input: it is its own name."""
        self.values[key] = array
        self.names[key] = (array.dtype.name, array.shape, array.tobytes())

    def fold(self, call: Call) -> bool:
        """Compute a call whose operands are all known."""
        keys = [(id(v.call), v.index) for v in call.inputs]
        small = all(s.elements <= MOST_ELEMENTS for s in call.specs)
        if not small or call.op.kind == "control" or any(k not in self.values for k in keys):
            return False
        for index, array in enumerate(interpret.evaluate(call, [self.values[k] for k in keys], [])):
            self.know((id(call), index), array)
        return True

    def add(self, call: Call) -> None:
        """A line for a call."""
        for index in range(len(call.outputs)):
            self.names[id(call), index] = (len(self.lines), index)
        operands = tuple(self.names[id(v.call), v.index] for v in call.inputs)
        held = {k: a for k, a in call.attrs.items() if isinstance(a, Graph)}
        plain = {k: a for k, a in call.attrs.items() if k not in held}
        inner = tuple((k, _text_of(g)) for k, g in held.items())
        self.lines.append((call.op.name, attrs_key(plain), inner, call.form, operands))


def _text_of(graph: Graph) -> tuple[object, ...]:
    """A graph inside a call."""
    text = _Text(graph)
    for n, v in enumerate(text.graph.inputs):
        text.names[id(v.call), 0] = ("input", n)
    return text.run()
