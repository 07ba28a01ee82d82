"""ControlProgram: one call of a control op (ops/control.py), which runs programs by values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rabbet.graph.value import Call, Graph, sites_of
from rabbet.runtime.errors import IndexFailure


class ControlProgram:
    """Runs the op's own `lower` with a program for each of its graphs."""

    def __init__(self, call: Call, programs: Sequence[tuple[Graph, Any]]) -> None:
        self.call = call
        self.programs = {id(graph): program for graph, program in programs}
        self.ops = [[call.op.name], *(ops for _, program in programs for ops in program.ops)]
        self.sites = [sites_of([call])] * len(self.ops)

    def accepts(self, symbols: tuple[int, ...]) -> bool:
        """True where all its programs may run."""
        return all(p.accepts(symbols) for p in self.programs.values())

    def run(self, symbols: tuple[int, ...], inputs: Sequence[Any]) -> list[Any]:
        """The outputs; raises IndexFailure with the position of this call."""
        named = self.call.op.arguments(inputs, self.call.attrs, self.call.form)
        arguments = [named[p.name] for p in self.call.op.parameters]

        def run(graph: Graph, values: list[Any]) -> list[Any]:
            made: list[Any] = self.programs[id(graph)].run(symbols, values)
            return made

        try:
            found: list[Any] = self.call.op.lower(run, _holds, *arguments)
        except IndexFailure as failure:
            raise IndexFailure(
                next(iter(self.sites[0]), -1), failure.element, failure.value, failure.extent
            ) from None
        return found


def _holds(buffer: Any) -> bool:
    """The truth of a 0-d bool."""
    return bool(np.frombuffer(buffer, np.uint8, 1)[0])
