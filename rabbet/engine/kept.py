"""What a jitted function packs once: large captured tensors that stay the same between its calls.

Products of matrices read their operands in panels. Where an operand is a captured tensor that the
function does not assign, and that was the same at two calls in a row, its panels are made once and
given to the program from then on, until the tensor gets another value. Panels are copies: they
cost as much memory as the tensors they were made of.
"""

from __future__ import annotations

import weakref
from collections.abc import Container
from dataclasses import replace
from typing import Any

from rabbet.engine import programs
from rabbet.engine.flush import value_of
from rabbet.engine.segment import graph_of
from rabbet.engine.traces import Branch, Source, Stage
from rabbet.recorder import Handle

LEAST = 1 << 17  # elements of a tensor whose panels are worth being kept


def graph_to_keep(
    segment: Any, entry: Any, inputs: list[Source], assigned: Container[int]
) -> tuple[Any, Any] | None:
    """The graph of a recorded segment and its scope, if one of its `inputs` is worth keeping."""
    if not entry.fused or not hasattr(entry.program, "native"):
        return None
    if not any(
        _is_large(leaf.node.specs[leaf.index]) and _stays(source, assigned)
        for leaf, source in zip(segment.leaves, inputs, strict=True)
    ):
        return None
    return graph_of(segment, entry.pattern.dims, entry.keep), entry.pattern.scope


def _stays(source: Source, assigned: Container[int]) -> bool:
    """True where a call leaves a value from outside as it is; `assigned` are ids of handles."""
    return source[0] == "constant" or source[0] == "handle" and id(source[1]) not in assigned


def _is_large(spec: Any) -> bool:
    elements = spec.elements
    return isinstance(elements, int) and elements >= LEAST


class Keeping:
    """The stages of one branch with and without kept panels, and which of them are in use."""

    def __init__(self, stages: list[Stage], assigned: set[int]) -> None:
        self.plain = self.stages = stages
        self.constants = [_constants(stage, assigned) for stage in stages]
        found = [stage.inputs[n] for s, stage in enumerate(stages) for n in self.constants[s]]
        self.handles: list[Handle] = [s[1] for s in found if s[0] == "handle"]
        self.nodes: list[Any] = [None] * len(self.handles)
        self.programs: list[Any] | None = None  # of each stage, with what packs for it

    @property
    def is_useless(self) -> bool:
        """True where nothing can be kept."""
        return not any(self.constants)

    def look(self) -> bool:
        """Choose the stages for the next run; True if they are others than before."""
        same = all(n is not None and n() is h._node for n, h in self._pairs())
        if not same:
            self.nodes = [weakref.ref(h._node) for h in self.handles]
            changed = self.stages is not self.plain
            self.stages = self.plain
            return changed
        if self.stages is not self.plain or self.is_useless:
            return False
        self.stages = self._packed()
        return not self.is_useless

    def _pairs(self) -> Any:
        return zip(self.nodes, self.handles, strict=True)

    def _packed(self) -> list[Stage]:
        if self.programs is None:
            self.programs = [self._compiled(s) for s in range(len(self.plain))]
            for stage in self.plain:
                stage.graph = None
        stages = []
        for stage, numbers, found in zip(self.plain, self.constants, self.programs, strict=True):
            if found is None:
                stages.append(stage)
                continue
            main, packs = found
            constants = {n: _buffer(stage.inputs[n]) for n in numbers}
            panels = [pack.panels(stage.symbols, constants) for pack in packs]
            inputs = [*stage.inputs, *(("constant", p) for p in panels)]
            stages.append(replace(stage, program=main, inputs=inputs))
        return stages

    def _compiled(self, number: int) -> Any:
        stage, numbers = self.plain[number], self.constants[number]
        found = None
        if numbers and stage.graph is not None:
            graph, scope = stage.graph
            found = programs.compiler().compile_kept(graph, scope, numbers)
        if found is None:
            self.constants[number] = []
        return found


def _constants(stage: Stage, assigned: set[int]) -> list[int]:
    """Numbers of a stage's inputs that are large and stay what they are during a call."""
    if stage.graph is None:
        return []
    return [
        n
        for n, (source, v) in enumerate(zip(stage.inputs, stage.graph[0].inputs, strict=True))
        if _is_large(v.spec) and _stays(source, assigned) and not _buffer(source).foreign
    ]


def _buffer(source: Any) -> Any:
    return source[1] if source[0] == "constant" else value_of(source[1])


def keeping(branch: Branch) -> Keeping | None:
    """What a branch may keep: nothing that the function itself assigns."""
    if branch.final is None:
        return None
    assigned = {id(t) for t, _, _, _ in branch.final.assigned}
    found = Keeping(branch.stages, assigned)
    return None if found.is_useless else found
