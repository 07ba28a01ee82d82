"""The first tier: a segment's ops one after the other, each by a small program of its own.

These programs belong to families too, one for each op and kind of operands, so a segment of a
structure never seen before costs a look-up for each op, not a compilation of it all (SEMANTICS 9).
The look-ups and the launches are native (recorder/native/singly.cpp).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rabbet.base.errors import RabbetError
from rabbet.recorder import Node, Segment, Steps
from rabbet.runtime.errors import IndexFailure, NativeIndexFailure

Output = tuple[int, int]
# A node and its wanted outputs -> (what runs it, the native program or None, the outputs it makes)
Find = Callable[[Node, list[int]], tuple[Any, Any, tuple[int, ...]]]


@dataclass(eq=False, slots=True)
class Single:
    """One node as a segment of its own (see recorder.Segment)."""

    nodes: list[Node]
    leaves: list[tuple[Node, int]]
    key: bytes
    sizes: tuple[int, ...]
    nbytes: int  # of all operands and results


@dataclass(frozen=True, eq=False)
class Step:
    """One launch: operands and results are numbered places."""

    found: Any  # what runs it
    operands: tuple[int, ...]
    results: tuple[int, ...]
    position: int


Watch = Callable[[Step, list[Any]], None]


class OneByOne:
    """A program made of single ops. Raises, when made, what compiling one of them raises.

    `places`, if given, is filled with the number of each value, by (id of its node, output).
    """

    def __init__(
        self,
        segment: Segment,
        keep: Sequence[Output],
        find: Find,
        places: dict[tuple[int, int], int] | None = None,
    ) -> None:
        self.keep = tuple(keep)
        self.plan = Steps(segment, self.keep, find)
        if places is None:
            return
        for number, leaf in enumerate(segment.leaves):
            places[id(leaf.node), leaf.index] = number
        for step in self.steps():
            for (_, index), place in zip(step.found.entry.keep, step.results, strict=True):
                places[id(segment.nodes[step.position]), index] = place

    def accepts(self, symbols: tuple[int, ...]) -> bool:
        """Always: it was made for the sizes of one segment."""
        return True

    def steps(self) -> list[Step]:
        """The launches in order."""
        return [Step(*rest) for _, *rest in self.plan.steps()]

    @property
    def input_bytes(self) -> list[int]:
        """Bytes of the outside operands."""
        return [spec.nbytes for spec in self.plan.input_specs]

    @property
    def ops(self) -> list[list[str]]:
        """The names of each step's ops."""
        return [[op.name] for op, *_ in self.plan.steps()]

    @property
    def sites(self) -> list[list[int]]:
        """The position of each step in the segment, alone in a list as for other programs."""
        return [[position] for *_, position in self.plan.steps()]

    def run(self, symbols: tuple[int, ...], inputs: list[Any]) -> list[Any]:
        """The outputs; raises IndexFailure with the position of the op that met it."""
        try:
            return self.plan.run(inputs)
        except NativeIndexFailure as failure:
            raise IndexFailure(
                self.plan.failed,
                failure.element,
                failure.value,
                failure.extent,  # type: ignore[attr-defined]
            ) from None
        except RabbetError as failure:
            failure.position = self.plan.failed
            raise

    def profile(self, inputs: Sequence[Any]) -> list[int]:
        """Nanoseconds of each op in one run."""
        times = [time.perf_counter_ns()]
        self.run_watched(inputs, lambda step, memory: times.append(time.perf_counter_ns()))
        return [end - begin for begin, end in itertools.pairwise(times)]

    def run_timed(
        self, symbols: tuple[int, ...], inputs: Sequence[Any], times: list[int]
    ) -> list[Any]:
        """The outputs; nanoseconds of each op are appended to `times`."""
        stamps = [time.perf_counter_ns()]
        memory = self.run_watched(inputs, lambda *_: stamps.append(time.perf_counter_ns()))
        times += [end - begin for begin, end in itertools.pairwise(stamps)]
        places = {
            (step.position, index): place
            for step in self.steps()
            for (_, index), place in zip(step.found.entry.keep, step.results, strict=True)
        }
        return [memory[places[output]] for output in self.keep]

    def run_watched(self, inputs: Sequence[Any], watch: Watch) -> list[Any]:
        """The values of all places; `watch(step, memory)` looks at them after each op."""
        steps = self.steps()
        count = len(inputs) + sum(len(step.results) for step in steps)
        memory = [*inputs, *[None] * (count - len(inputs))]
        for step in steps:
            try:
                made = step.found.run([memory[o] for o in step.operands])
            except RabbetError as failure:
                failure.position = step.position
                raise
            for place, buffer in zip(step.results, made, strict=True):
                memory[place] = buffer
            watch(step, memory)
        return memory


def single_of(node: Node) -> Single:
    """A node alone: its distinct operands are its leaves."""
    numbers: dict[tuple[int, int], int] = {}
    leaves: list[tuple[Node, int]] = []
    sizes: list[int] = []
    key = [b"one", node.prepared.code]
    nbytes = sum([spec.nbytes for spec in node.specs])
    for source, index in node.inputs:
        spec = source.specs[index]
        nbytes += spec.nbytes
        number = numbers.setdefault((id(source), index), len(leaves))
        if number == len(leaves):
            leaves.append((source, index))
            sizes += spec.shape
            key.append(bytes((255, spec.dtype.code, len(spec.shape))))
        else:
            key.append(b"\xfe" + number.to_bytes(4, "little"))
    return Single([node], leaves, b"".join(key), (*sizes, *node.prepared.sizes), nbytes)
