"""The order of a plan's launches, and which buffers share memory.

Takes the launches as they were lowered (each after those it depends on) and what is known of each;
returns an order in which little is alive at once, the values that take over the memory of an
operand they are the last to read (`alias`), and the outputs that may be written over inputs
(`donated`).

A donated output is written when nothing can fail any more: every launch that can fail comes
before. Where it costs no memory, donated outputs and what follows from them come last, so that a
program can be interrupted for as long as possible. Whether memory is given up is decided at each
run, by the caller.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rabbet.runtime.plan import ARENA, INPUT, OUTPUT, PlanBuffer

LEAST_DONATED = 4096  # bytes; less is not worth an order
SMALL = 65536  # bytes; less is not worth giving up the possibility to interrupt
SLACK = 1.02  # an order that can be interrupted longer may cost this much more memory


@dataclass(eq=False)
class Launch:
    """What the order depends on: buffer numbers, and pairs (read, written) that may be one."""

    reads: list[int]
    writes: list[int]
    pairs: list[tuple[int, int]]
    can_fail: bool
    position: int  # of its first op in the segment; -1: none
    after: list[int]  # launches that must have come before, beside those whose results it reads


@dataclass(eq=False)
class Arrangement:
    """`order`: old numbers of the launches; `commit`: the first that writes over an input."""

    order: list[int] = field(default_factory=list)
    alias: dict[int, int] = field(default_factory=dict)  # buffer -> the one whose memory it takes
    donated: dict[int, int] = field(default_factory=dict)  # output buffer -> input buffer
    commit: int = 0


def arrange(
    launches: Sequence[Launch], buffers: Sequence[PlanBuffer], hints: Sequence[int]
) -> Arrangement:
    """Order launches and share memory; `hints` are the bytes of each buffer, as last seen."""
    graph = _Dependences(launches)
    donated = _donations(graph, launches, buffers, hints)
    writers = {graph.writers[o][0] for o in donated}
    orders = [
        order
        for last in _last_ones(graph, launches, buffers, hints, writers)
        for order in _orders(graph, launches, buffers, hints, last)
    ]
    peaks = [_peak(order, launches, buffers, hints) for order in orders]
    best = next(o for o, p in zip(orders, peaks, strict=True) if p <= SLACK * min(peaks))
    return Arrangement(
        order=best,
        alias=_aliases(best, launches, buffers, donated),
        donated=donated,
        commit=next((place for place, n in enumerate(best) if n in writers), len(best)),
    )


class _Dependences:
    """Which launches must come before which: through memory written, read, and written again."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.after: list[set[int]] = [set() for _ in launches]
        self.readers: dict[int, list[int]] = {}
        self.writers: dict[int, list[int]] = {}
        waiting: dict[int, list[int]] = {}  # readers since the last write
        for n, launch in enumerate(launches):
            for before in launch.after:
                self.edge(before, n)
            for b in launch.reads:
                for writer in self.writers.get(b, ())[-1:]:
                    self.edge(writer, n)
                self.readers.setdefault(b, []).append(n)
                waiting.setdefault(b, []).append(n)
            for b in launch.writes:
                for before in (*self.writers.get(b, ())[-1:], *waiting.pop(b, ())):
                    self.edge(before, n)
                self.writers.setdefault(b, []).append(n)

    def edge(self, before: int, n: int) -> None:
        """`n` runs after `before`."""
        if before != n:
            self.after[before].add(n)

    def reachable(self, roots: Iterable[int]) -> set[int]:
        """The roots and everything that must come after one of them."""
        found: set[int] = set()
        stack = list(roots)
        while stack:
            n = stack.pop()
            if n not in found:
                found.add(n)
                stack += self.after[n]
        return found

    def missing(self) -> list[int]:
        """How many launches each one waits for."""
        counts = [0] * len(self.after)
        for following in self.after:
            for n in following:
                counts[n] += 1
        return counts

    def order(self, key: Callable[[int], tuple]) -> list[int]:
        """The launch with the smallest key among those that may run, one after the other."""
        missing = self.missing()
        ready = [(key(n), n) for n, count in enumerate(missing) if count == 0]
        heapq.heapify(ready)
        found = []
        while ready:
            _, n = heapq.heappop(ready)
            found.append(n)
            for m in self.after[n]:
                missing[m] -= 1
                if missing[m] == 0:
                    heapq.heappush(ready, (key(m), m))
        return found


def _donations(
    graph: _Dependences,
    launches: Sequence[Launch],
    buffers: Sequence[PlanBuffer],
    hints: Sequence[int],
) -> dict[int, int]:
    """Outputs that may take an input's memory; their writers are put, in `graph`, after the input's
    other readers and after all that can fail.
    """
    donated: dict[int, int] = {}
    taken: set[int] = set()
    failing = [n for n, launch in enumerate(launches) if launch.can_fail]
    for n, launch in enumerate(launches):
        for i, o in reversed(
            launch.pairs
        ):  # updates were recorded last: a parameter stays in place
            if not _fits(buffers, i, o, INPUT, OUTPUT) or i in taken or o in donated:
                continue
            if graph.writers[o][0] != n or hints[o] < LEAST_DONATED:
                continue
            following = graph.reachable([n])
            before = [m for m in (*graph.readers[i], *failing) if m != n]
            if following.intersection(before) or launch.can_fail:
                continue
            for m in before:
                graph.edge(m, n)
            donated[o] = i
            taken.add(i)
    return donated


def _fits(buffers: Sequence[PlanBuffer], i: int, o: int, *kinds: int) -> bool:
    source, target = buffers[i], buffers[o]
    return (source.kind, target.kind) == kinds and source.bytes == target.bytes


def _last_ones(
    graph: _Dependences,
    launches: Sequence[Launch],
    buffers: Sequence[PlanBuffer],
    hints: Sequence[int],
    writers: set[int],
) -> list[set[int]]:
    """What to run last: all that write over inputs, or only what nothing large waits for."""
    late = graph.reachable(writers)

    def waiting(n: int) -> int:
        found = {b for m in graph.reachable([n]) for b in launches[m].reads}
        return sum(hints[b] for b in found if buffers[b].kind == ARENA)

    small = graph.reachable(n for n in writers if waiting(n) <= SMALL)
    return [late, small] if len(small) < len(late) else [late]


def _orders(
    graph: _Dependences,
    launches: Sequence[Launch],
    buffers: Sequence[PlanBuffer],
    hints: Sequence[int],
    last: set[int],
) -> Iterator[list[int]]:
    """The orders worth trying when `last` runs last."""
    yield graph.order(lambda n: (n in last, n))
    yield graph.order(lambda n: (n in last, launches[n].position, n))
    yield _frugal(graph, launches, buffers, hints, last)


def _frugal(
    graph: _Dependences,
    launches: Sequence[Launch],
    buffers: Sequence[PlanBuffer],
    hints: Sequence[int],
    late: set[int],
) -> list[int]:
    """Always the launch after which the least is alive (of equal ones the earliest)."""
    readers = {b: set(found) for b, found in graph.readers.items() if buffers[b].kind == ARENA}
    made: set[int] = set()
    missing = graph.missing()
    ready = {n for n, count in enumerate(missing) if count == 0}
    found = []

    def growth(n: int) -> tuple[bool, int, int]:
        launch = launches[n]
        freed = sum(hints[b] for b in {*launch.reads} if readers.get(b) == {n})
        new = sum(hints[b] for b in {*launch.writes} - made if buffers[b].kind == ARENA)
        return n in late, new - freed, n

    # What a launch adds only ever falls, so the last entry of a launch comes out before its others.
    queue = [growth(n) for n in ready]
    heapq.heapify(queue)
    while queue:
        n = heapq.heappop(queue)[-1]
        if n not in ready:
            continue
        ready.remove(n)
        found.append(n)
        fallen: set[int] = set()  # launches that add less from now on
        for b in {*launches[n].writes} - made:
            fallen.update(graph.writers[b])
        made.update(launches[n].writes)
        for b in launches[n].reads:
            left = readers.get(b, set())
            left.discard(n)
            if len(left) == 1:
                fallen |= left
        fallen &= ready
        for m in graph.after[n]:
            missing[m] -= 1
            if missing[m] == 0:
                ready.add(m)
                fallen.add(m)
        for m in fallen:
            heapq.heappush(queue, growth(m))
    return found


def _lifetimes(
    order: Sequence[int], launches: Sequence[Launch]
) -> tuple[dict[int, int], dict[int, int]]:
    """First and last place in the order that uses each buffer."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for place, n in enumerate(order):
        for b in (*launches[n].reads, *launches[n].writes):
            first.setdefault(b, place)
            last[b] = place
    return first, last


def _peak(
    order: Sequence[int],
    launches: Sequence[Launch],
    buffers: Sequence[PlanBuffer],
    hints: Sequence[int],
) -> int:
    """The most bytes of the arena alive at once, without what sharing saves."""
    first, last = _lifetimes(order, launches)
    change = [0] * (len(order) + 1)
    for b in first:
        if buffers[b].kind == ARENA:
            change[first[b]] += hints[b]
            change[last[b] + 1] -= hints[b]
    peak = alive = 0
    for step in change:
        alive += step
        peak = max(peak, alive)
    return peak


def _aliases(
    order: Sequence[int],
    launches: Sequence[Launch],
    buffers: Sequence[PlanBuffer],
    donated: dict[int, int],
) -> dict[int, int]:
    """Values of the arena, and outputs that are fresh, in the memory of an operand that ends there.

    Before → after: `y` (made here) and `x` (last read here), both alive → `y` in the memory of `x`.
    An arena value whose last reader makes an output lies in that output from the beginning.
    """
    first, last = _lifetimes(order, launches)
    alias: dict[int, int] = {}
    taken: set[int] = set()
    for place, n in enumerate(order):
        for i, o in launches[n].pairs:
            if o in alias or i in taken or first[o] != place or last[i] != place:
                continue
            if o in donated or not (
                _fits(buffers, i, o, ARENA, ARENA) or _fits(buffers, i, o, ARENA, OUTPUT)
            ):
                continue
            alias[o] = i
            taken.add(i)
    return alias
