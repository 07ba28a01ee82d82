"""From a segment's key to a program: families, patterns of sizes, masks of what is alive, tiers.

A *family* is all segments of one structure. Its entries are programs for a pattern of sizes and a
set of kept outputs; one whose set covers what is alive now may run (SEMANTICS 5). A family seen for
the first time runs op by op (singly.py); from the second sight on it is compiled whole (9).
"""

from __future__ import annotations

import importlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from weakref import WeakSet

from rabbet.base.config import config
from rabbet.base.errors import RabbetError
from rabbet.graph.value import lookup as lookup
from rabbet.recorder import Node, Segment, current
from rabbet.runtime import buffers
from rabbet.tensor.residuals import residuals_of
from rabbet.tensor.segment import Output, Pattern, find_pattern, graph_of
from rabbet.tensor.singly import OneByOne, Single

MASKS_BEFORE_UNION = 4
ENTRIES_KEPT = 64
FAMILIES_KEPT = 4096
SIGHTINGS_KEPT = 4


@dataclass(eq=False)
class Entry:
    """One program of a family."""

    keep: tuple[Output, ...]
    pattern: Pattern
    program: Any  # rabbet.runtime.program.Program
    fused: bool
    matches: dict[tuple[int, ...], tuple[int, ...] | None] = field(default_factory=dict)

    def match(self, sizes: tuple[int, ...]) -> tuple[int, ...] | None:
        """Symbol values for these sizes, remembered."""
        if sizes not in self.matches:
            if len(self.matches) > 1000:
                self.matches.clear()
            symbols = self.pattern.match(sizes)
            fits = symbols is not None and self.program.accepts(symbols)
            self.matches[sizes] = symbols if fits else None
        return self.matches[sizes]


@dataclass(eq=False)
class Family:
    """All programs of one segment structure."""

    entries: list[Entry] = field(default_factory=list)
    sightings: list[tuple[int, ...]] = field(default_factory=list)
    masks: list[frozenset[Output]] = field(default_factory=list)
    needs: dict[tuple[Output, ...], frozenset[Output]] = field(default_factory=dict)
    sights: int = 0


@dataclass(eq=False)
class LastRun:
    """What `rb.explain()` tells of: the last segment run on any tape."""

    segment_ops: list[tuple[str, Any]]
    entry: Entry
    symbols: tuple[int, ...]
    inputs: list[Any]
    seconds: float
    compiled: str


families: OrderedDict[bytes, Family] = OrderedDict()  # the last one is the most recently used
statistics = {"programs_compiled": 0, "segments_run": 0, "segments_found": 0}
last_run: LastRun | None = None
jitted: WeakSet[Any] = WeakSet()  # for explain: which functions cannot be replayed
observers: list[Callable[[Segment, Entry, tuple[int, ...]], None]] = []


def run(segment: Segment, live: tuple[Output, ...]) -> tuple[tuple[Output, ...], list[Any]]:
    """Compute a segment: the outputs kept (those alive and what their gradients will need), their
    buffers.
    """
    global last_run
    entry, symbols, how = find(segment, live)
    inputs = [leaf_buffer(leaf.node, leaf.index) for leaf in segment.leaves]
    begin = time.perf_counter()
    outputs = entry.program.run(symbols, inputs)
    seconds = time.perf_counter() - begin
    statistics["segments_run"] += 1
    last_run = LastRun(
        [(n.op.name, n.site) for n in segment.nodes], entry, symbols, inputs, seconds, how
    )
    for observer in observers:
        observer(segment, entry, symbols)
    return entry.keep, outputs


def find(segment: Segment, live: tuple[Output, ...]) -> tuple[Entry, tuple[int, ...], str]:
    """The entry that computes `segment`, compiled if there is none."""
    family = _family(segment.key)
    if live not in family.needs:
        family.needs[live] = frozenset(live) | residuals_of(segment, live)
    needed = family.needs[live]
    family.sights += 1
    want_fused = config.fuse and (family.sights > 1 or current().capture is not None)
    found = _known(family, segment.sizes, needed, want_fused)
    if found is not None:
        statistics["segments_found"] += 1
        return *found, "found"
    found = _compile(segment, family, needed, want_fused)
    return *found, "compiled" if want_fused else "first sight"


def find_single(single: Single, needed: frozenset[Output]) -> tuple[Entry, tuple[int, ...]]:
    """The entry that computes one op by itself, compiled if there is none."""
    family = _family(single.key)
    found = _known(family, single.sizes, needed, False)
    return found if found is not None else _compile(single, family, needed, False)


def _family(key: bytes) -> Family:
    family = families.get(key)
    if family is None:
        if len(families) >= FAMILIES_KEPT:
            families.popitem(last=False)
        family = families[key] = Family()
    else:
        families.move_to_end(key)
    return family


def _known(
    family: Family, sizes: tuple[int, ...], needed: frozenset[Output], want_fused: bool
) -> tuple[Entry, tuple[int, ...]] | None:
    for entry in family.entries:
        if want_fused and not entry.fused:
            continue
        if needed <= frozenset(entry.keep):
            symbols = entry.match(sizes)
            if symbols is not None:
                return entry, symbols
    return None


def _compile(
    segment: Segment | Single, family: Family, needed: frozenset[Output], fused: bool
) -> tuple[Entry, tuple[int, ...]]:
    if needed not in family.masks:
        family.masks.append(needed)
    if len(family.masks) >= MASKS_BEFORE_UNION:
        needed = frozenset().union(*family.masks)
        family.masks = [needed]
    if segment.sizes not in family.sightings:
        family.sightings = [*family.sightings, segment.sizes][-SIGHTINGS_KEPT:]
    else:  # the last sighting gives the hints
        family.sightings.remove(segment.sizes)
        family.sightings.append(segment.sizes)
    keep = tuple(sorted(needed))
    pattern = Pattern(list(segment.sizes))
    program: Any
    if fused or isinstance(segment, Single):
        pattern, program = _whole(segment, family, keep, fused)
    else:
        program = OneByOne(segment, keep, find_single)
    statistics["programs_compiled"] += 1
    entry = Entry(keep, pattern, program, fused)
    family.entries.insert(0, entry)
    del family.entries[ENTRIES_KEPT:]
    symbols = entry.match(segment.sizes)
    assert symbols is not None, "a new pattern must fit the sizes it was made from"
    return entry, symbols


def _whole(
    segment: Segment | Single, family: Family, keep: tuple[Output, ...], fused: bool
) -> tuple[Pattern, Any]:
    """One program for all of the segment, with the sizes that were seen to change as symbols."""

    def make(pattern: Pattern) -> Any:
        return compiler().find_or_compile(
            (segment.key, pattern.describe(), keep),
            lambda: (graph_of(segment, pattern.dims, keep)[0], pattern.scope),
            fuse=fused,
        )

    interpreted = config.engine == "reference"  # gains nothing from symbols
    pattern = find_pattern([segment.sizes] if interpreted else family.sightings)
    try:
        return pattern, make(pattern)
    except RabbetError:
        if pattern.scope is None or 0 not in segment.sizes:
            raise
    # Nothing can be said of a symbol that happens to be 0 now (the maximum of no elements, say).
    pattern = Pattern(list(segment.sizes))
    return pattern, make(pattern)


@lru_cache(maxsize=1)
def compiler() -> Any:
    """The compiler, imported when something is computed: `import rabbet` must not wait for LLVM."""
    return importlib.import_module("rabbet.runtime.program")


def leaf_buffer(node: Node, index: int) -> Any:
    """The buffer of an outside operand; numbers and random offsets become 0-d buffers."""
    if node.number is not None:
        return buffers.scalar(node.number, node.specs[0].dtype)
    if node.offset is not None:
        return buffers.scalar(node.offset, node.specs[0].dtype)
    return node.buffers[index]
