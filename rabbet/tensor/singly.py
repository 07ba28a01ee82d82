"""The first tier: a segment's ops one after the other, each by a small program of its own.

These programs belong to families too, one for each op and kind of operands, so a segment of a
structure never seen before costs a look-up for each op, not a compilation of it all (SEMANTICS 9).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rabbet.base.errors import RabbetError
from rabbet.recorder import Node
from rabbet.runtime.errors import IndexFailure

Output = tuple[int, int]
Find = Callable[["Single", frozenset[Output]], tuple[Any, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Single:
    """One node as a segment of its own (see recorder.Segment)."""

    nodes: list[Node]
    leaves: list[tuple[Node, int]]
    key: bytes
    sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """One launch: operands and results are numbered places."""

    program: Any
    symbols: tuple[int, ...]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    dead: tuple[int, ...]  # places nobody needs afterwards
    position: int
    name: str


Watch = Callable[[Step, list[Any]], None]


class OneByOne:
    """A program made of single ops. Raises, when made, what compiling one of them raises.

    `places`, if given, is filled with the number of each value, by (id of its node, output).
    """

    def __init__(
        self,
        segment: Any,
        keep: Sequence[Output],
        find: Find,
        places: dict[tuple[int, int], int] | None = None,
    ) -> None:
        places = {} if places is None else places
        for leaf in segment.leaves:
            places[id(leaf.node), leaf.index] = len(places)
        self.inputs = len(places)
        self.input_bytes = [leaf.node.specs[leaf.index].nbytes for leaf in segment.leaves]
        used = _used_outputs(segment, keep)
        steps = []
        for position, node in enumerate(segment.nodes):
            if not used[position]:
                continue
            single = _single(node)
            wanted = frozenset((0, i) for i in used[position])
            try:
                entry, symbols = find(single, wanted)
            except RabbetError as error:
                error.position = position  # type: ignore[attr-defined]
                raise
            operands = tuple(places[id(n), i] for n, i in single.leaves)
            results = []
            for _, i in entry.keep:
                places[id(node), i] = len(places)
                results.append(places[id(node), i])
            name = node.op.name
            steps.append(Step(entry.program, symbols, operands, tuple(results), (), position, name))
        self.count = len(places)
        self.outputs = [places[id(segment.nodes[p]), i] for p, i in keep]
        self.steps = _with_deaths(steps, {*self.outputs, *range(self.inputs)})
        self.ops = [[s.name] for s in self.steps]
        self.positions = [s.position for s in self.steps]

    def accepts(self, symbols: tuple[int, ...]) -> bool:
        """Always: it was made for the sizes of one segment."""
        return True

    def profile(self, inputs: Sequence[Any]) -> list[int]:
        """Nanoseconds of each op in one run."""
        times: list[int] = []
        self._run(inputs, times)
        return times

    def run(self, symbols: tuple[int, ...], inputs: Sequence[Any]) -> list[Any]:
        """The outputs; raises IndexFailure with the position of the op that met it."""
        return self._run(inputs, [])

    def run_watched(self, inputs: Sequence[Any], watch: Watch) -> list[Any]:
        """The outputs; `watch(step, memory)` looks at the values after each op. All are kept."""
        return self._run(inputs, [], watch)

    def _run(
        self, inputs: Sequence[Any], times: list[int], watch: Watch | None = None
    ) -> list[Any]:
        memory = [*inputs, *[None] * (self.count - self.inputs)]
        for step in self.steps:
            begin = time.perf_counter_ns()
            try:
                made = step.program.run(step.symbols, [memory[o] for o in step.operands])
            except IndexFailure as failure:
                failure.position = step.position
                raise
            times.append(time.perf_counter_ns() - begin)
            for place, buffer in zip(step.results, made, strict=True):
                memory[place] = buffer
            if watch is not None:
                watch(step, memory)
                continue
            for place in step.dead:
                memory[place] = None
        return [memory[o] for o in self.outputs]


def _used_outputs(segment: Any, keep: Sequence[Output]) -> list[set[int]]:
    """For each node the outputs that are kept or that a used node reads."""
    positions = {id(n): p for p, n in enumerate(segment.nodes)}
    used: list[set[int]] = [set() for _ in segment.nodes]
    for p, i in keep:
        used[p].add(i)
    for p in range(len(segment.nodes) - 1, -1, -1):
        for node, index in segment.nodes[p].inputs if used[p] else ():
            if id(node) in positions:
                used[positions[id(node)]].add(index)
    return used


def _single(node: Node) -> Single:
    numbers: dict[tuple[int, int], int] = {}
    leaves: list[tuple[Node, int]] = []
    sizes: list[int] = []
    key = [b"one", node.prepared.code]
    for source, index in node.inputs:
        number = numbers.setdefault((id(source), index), len(leaves))
        if number == len(leaves):
            spec = source.specs[index]
            leaves.append((source, index))
            sizes += spec.shape
            key.append(bytes((255, spec.dtype.code, len(spec.shape))))
        else:
            key.append(b"\xfe" + number.to_bytes(4, "little"))
    return Single([node], leaves, b"".join(key), (*sizes, *node.prepared.sizes))


def _with_deaths(steps: list[Step], kept: set[int]) -> list[Step]:
    last: dict[int, int] = {}
    for number, step in enumerate(steps):
        for place in (*step.operands, *step.results):
            last[place] = number
    dead: list[list[int]] = [[] for _ in steps]
    for place, number in last.items():
        if place not in kept:
            dead[number].append(place)
    return [replace(s, dead=tuple(d)) for s, d in zip(steps, dead, strict=True)]
