"""From a segment's key to a program: families, patterns of sizes, masks of what is alive, tiers.

A *family* is all segments of one structure. Its entries are programs for a pattern of sizes and a
set of kept outputs; one whose set covers what is alive now may run (SEMANTICS 5). A family seen for
the first time runs op by op (singly.py); from the second sight on it is compiled whole (9).
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from weakref import WeakSet

from rabbet import recorder
from rabbet.base.config import config
from rabbet.base.errors import NumberRangeError, RabbetError
from rabbet.base.sizes import SizeScope
from rabbet.base.spec import Spec
from rabbet.engine.residuals import residuals_of
from rabbet.engine.segment import (
    Compared,
    Output,
    Pattern,
    find_pattern,
    general_pattern,
    graph_of,
)
from rabbet.engine.singly import OneByOne, Single, single_of
from rabbet.graph import parcel
from rabbet.graph.value import Graph
from rabbet.graph.value import lookup as lookup
from rabbet.recorder import Node, Segment, current, note_run, remember, runs
from rabbet.runtime import buffers
from rabbet.runtime.background import Coming
from rabbet.runtime.errors import NativeIndexFailure

MASKS_BEFORE_UNION = 4
ENTRIES_KEPT = 64
FAMILIES_KEPT = 4096
KEY_BYTES_KEPT = 1 << 25
SIGHTINGS_KEPT = 4
# A program of many ops is asked for, and taken over, in the time of a dozen runs op by op. It is
# worth that where its structure came again among the last RECENT that had none, or so OFTEN.
RECENT = 16
OFTEN = 16
LARGE_BYTES = 1 << 22  # of one op: worth a program that was planned for such sizes
EARLY_BYTES = 1 << 25  # op by op all values lie in memory: larger segments wait for their program


@dataclass(eq=False)
class Entry:
    """One program of a family."""

    keep: tuple[Output, ...]
    pattern: Pattern | Compared  # the latter: of a program that came with the package
    program: Any  # rabbet.runtime.program.Program
    fused: bool
    coming: Coming | None = None  # the program that this one runs in place of
    is_large: bool = False  # one op, planned for many bytes
    matches: dict[tuple[int, ...], tuple[int, ...] | None] = field(default_factory=dict)

    def match(self, sizes: tuple[int, ...]) -> tuple[int, ...] | None:
        """Symbol values for these sizes, remembered."""
        if sizes in self.matches:
            return self.matches[sizes]
        symbols = self.pattern.match(sizes)
        if symbols is not None:
            if len(self.matches) > 1000:
                self.matches.clear()
            symbols = self.matches[sizes] = symbols if self.program.accepts(symbols) else None
        return symbols


@dataclass(eq=False)
class Family:
    """All programs of one segment structure."""

    entries: list[Entry] = field(default_factory=list)
    sightings: list[tuple[int, ...]] = field(default_factory=list)
    masks: list[frozenset[Output]] = field(default_factory=list)
    needs: dict[tuple[Output, ...], frozenset[Output]] = field(default_factory=dict)
    asked: list[tuple[tuple[Output, ...], Pattern]] = field(default_factory=list)  # of background
    early: list[Entry] = field(default_factory=list)  # op by op, while a program is coming
    ready: list[tuple[Compared, Any]] | None = None  # programs of one op that came with the package
    sights: int = 0
    seen: int = 0  # when it was seen last (see `_Families.without`)


@dataclass(eq=False)
class Found:
    """The program of a segment: an entry at the values of its symbols, and how it was found."""

    entry: Entry
    symbols: tuple[int, ...]
    how: str
    inputs: list[Any] | None = None  # of a program whose stages run on the host: for explain()

    def run(self, inputs: list[Any]) -> list[Any]:
        """The outputs in fresh buffers."""
        return self.entry.program.run(self.symbols, inputs)

    @property
    def bound(self) -> Any:
        """The native program, or None for one that is run by Python."""
        program = self.entry.program
        return program.bind(self.symbols) if hasattr(program, "native") else None


@dataclass(eq=False)
class LastRun:
    """What `rb.explain()` tells of: the last segment run on any tape."""

    segment_ops: list[tuple[str, Any]]
    found: Found

    @property
    def entry(self) -> Entry:
        """The entry that was run."""
        return self.found.entry


class _Statistics(dict[str, int]):
    """Counts since the start; segments are counted where they are run."""

    def __getitem__(self, name: str) -> int:
        return runs() if name == "segments_run" else super().__getitem__(name)


class _Families(OrderedDict[bytes, Family]):
    key_bytes = 0  # of all keys: structures that never repeat are long
    without = 0  # how many segments there were that had no fused program

    def clear(self) -> None:
        """Forget all programs, those of single ops too."""
        super().clear()
        self.key_bytes = 0
        recorder.forget_singles()


families = _Families()  # the last one is the most recently used
statistics = _Statistics(programs_compiled=0, segments_run=0)
jitted: WeakSet[Any] = WeakSet()  # for explain: which functions cannot be replayed
observers: list[Callable[[Segment, Entry, tuple[int, ...]], None]] = []


def run(segment: Segment, live: tuple[Output, ...]) -> None:
    """Compute a segment into its nodes: the outputs alive, and what their gradients will need."""
    family, found = find(segment, live)
    entry, bound = found.entry, found.bound
    if bound is not None:
        _run_native(segment, found, bound)
        if entry.fused:
            remember(segment, family, Found(entry, found.symbols, "found"), bound, entry.keep)
    else:
        inputs = segment.leaf_buffers()
        _keep(segment, entry.keep, found.run(inputs))
        if not isinstance(entry.program, OneByOne):
            found.inputs = inputs
    _note(segment, found)


def run_timed(segment: Segment, live: tuple[Output, ...]) -> tuple[Found, list[int]]:
    """As `run`, with the program that was run and the nanoseconds of each of its kernels."""
    found = find(segment, live)[1]
    inputs = segment.leaf_buffers()
    times: list[int] = []
    _keep(segment, found.entry.keep, found.entry.program.run_timed(found.symbols, inputs, times))
    _note(segment, found)
    return found, times


def _keep(segment: Segment, places: Sequence[Output], outputs: Sequence[Any]) -> None:
    for (position, index), buffer in zip(places, outputs, strict=True):
        segment.nodes[position].buffers[index] = buffer
    segment.computed()


def _note(segment: Segment, found: Found) -> None:
    note_run(segment, found)
    for observer in observers:
        observer(segment, found.entry, found.symbols)


def _run_native(segment: Segment, found: Found, bound: Any) -> None:
    try:
        segment.execute(found, bound, found.entry.keep)
    except BaseException as failure:
        raise failure_of(found, failure) from None


def failure_of(found: Found, failure: BaseException) -> BaseException:
    """What went wrong in a native program, in terms of its segment's ops."""
    if isinstance(failure, NativeIndexFailure):
        return found.entry.program.explain_failure(failure)
    return failure


def rescue(segment: Segment, culprit: int) -> tuple[int, ...]:
    """The op at `culprit` failed: compute what does not depend on it. Returns the positions of all
    such ops; what of them is alive, or will be needed by gradients, has its value.
    """
    culprits = {culprit}
    while True:
        innocent = _without(segment, culprits)
        live = tuple(place for place in segment.live() if place[0] in innocent)
        keep = tuple(sorted({*live, *residuals_of(segment, live)}))
        inputs = segment.leaf_buffers()
        try:
            outputs = OneByOne(segment, keep, find_single).run((), inputs)
        except RabbetError as failure:
            if failure.position is None:
                return ()
            culprits.add(failure.position)
            continue
        for (position, index), buffer in zip(keep, outputs, strict=True):
            segment.nodes[position].buffers[index] = buffer
        return tuple(sorted(innocent))


def _without(segment: Segment, culprits: set[int]) -> set[int]:
    """Positions of the ops that depend on none of the culprits."""
    guilty = {id(segment.nodes[c]) for c in culprits}
    found = set()
    for position, node in enumerate(segment.nodes):
        if id(node) in guilty or any(id(n) in guilty for n, _ in node.inputs):
            guilty.add(id(node))
        else:
            found.add(position)
    return found


def last_run() -> LastRun | None:
    """The segment that was run last, on any tape; None if there was none."""
    noted = recorder.last_run()
    return None if noted is None else LastRun(*noted)


def find(segment: Segment, live: tuple[Output, ...]) -> tuple[Family, Found]:
    """The family of `segment` and the program that computes it, compiled if there is none."""
    family = _family(segment.key)
    if live not in family.needs:
        family.needs[live] = frozenset(live) | residuals_of(segment, live)
    needed = family.needs[live]
    want_fused = config.fuse and _comes_again(family)
    found = _known(family, segment.sizes, needed, want_fused)
    if found is not None:
        return family, Found(*found, "found")
    found = _early(family, segment.sizes, needed) if want_fused else None
    entry, symbols = found or _compile(segment, family, needed, want_fused)
    how = "first sight" if not want_fused else "compiled"
    return family, Found(entry, symbols, "being compiled" if entry.coming else how)


def _comes_again(family: Family) -> bool:
    """Whether a structure that is seen now is worth a program of its own; the sight is noted."""
    family.sights += 1
    families.without += 1
    before, family.seen = family.seen, families.without
    return (
        current().capture is not None
        or 1 < family.sights
        and (
            family.sights >= OFTEN
            or family.seen - before <= RECENT
            or bool(family.entries or family.asked)
            or not compiler().is_wanted()
        )
    )


def find_single(node: Node, wanted: list[int]) -> tuple[Found, Any, tuple[int, ...]]:
    """What computes one op by itself, compiled if nothing does: see singly.Find."""
    single, needed = single_of(node), frozenset((0, i) for i in wanted)
    family = _family(single.key)
    try:
        known = _known(family, single.sizes, needed, False, is_large=_is_large(single))
        known = known or _ready(single, family, needed)
        found = Found(*(known or _compile(single, family, needed, False)), "found")
    except RabbetError as error:
        error.position = node.position
        raise
    return found, found.bound, tuple(i for _, i in found.entry.keep)


def _family(key: bytes) -> Family:
    family = families.get(key)
    if family is None:
        families.key_bytes += len(key)
        while len(families) >= FAMILIES_KEPT or families and families.key_bytes > KEY_BYTES_KEPT:
            oldest, _ = families.popitem(last=False)
            families.key_bytes -= len(oldest)
        family = families[key] = Family()
    else:
        families.move_to_end(key)
    return family


def _known(
    family: Family,
    sizes: tuple[int, ...],
    needed: frozenset[Output],
    want_fused: bool,
    *,
    is_large: bool = False,
) -> tuple[Entry, tuple[int, ...]] | None:
    for entry in family.entries:
        if want_fused and not entry.fused or entry.is_large != is_large:
            continue
        if needed <= frozenset(entry.keep):
            symbols = entry.match(sizes)
            if symbols is not None:
                return entry, symbols
    return None


def _early(
    family: Family, sizes: tuple[int, ...], needed: frozenset[Output]
) -> tuple[Entry, tuple[int, ...]] | None:
    """What runs op by op as long as its program is being compiled."""
    for entry in family.early:
        symbols = entry.match(sizes)
        if symbols is not None and needed <= frozenset(entry.keep):
            if entry.coming is not None and entry.coming.is_awaited:
                return entry, symbols
            family.early.remove(entry)
            return None
    return None


def _ready(
    single: Single, family: Family, needed: frozenset[Output]
) -> tuple[Entry, tuple[int, ...]] | None:
    """The program of an op on few bytes that came with the package, if one fits."""
    if _is_large(single):
        return None
    if family.ready is None:
        found = compiler().ready_programs(single.key)
        family.ready = [(Compared.of(ready.dims), ready) for ready in found]
    for pattern, ready in family.ready:
        symbols = pattern.match(single.sizes)
        if symbols is None or not needed <= frozenset(ready.keep):
            continue
        program = compiler().loaded(ready.program)
        if program is not None and program.accepts(symbols):
            entry = Entry(ready.keep, pattern, program, False)
            family.entries.insert(0, entry)
            return entry, symbols
    return None


def _is_large(single: Single) -> bool:
    return single.nbytes >= LARGE_BYTES


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
    program: Any = None
    coming: Coming | None = None
    if isinstance(segment, Single):
        pattern, program = _whole(segment, family, keep, fused)
    elif fused:
        keep, pattern, program = _fused(segment, family, keep, needed)
        if isinstance(program, Coming):
            coming, program, fused = program, None, False
    if program is None:
        assert isinstance(segment, Segment)
        pattern, program = Pattern(list(segment.sizes)), OneByOne(segment, keep, find_single)
    statistics["programs_compiled"] += 1
    is_large = isinstance(segment, Single) and _is_large(segment)
    entry = Entry(keep, pattern, program, fused, coming, is_large)
    if coming is not None:
        family.early = [entry, *family.early][:SIGHTINGS_KEPT]
    elif fused or isinstance(segment, Single) or not config.fuse:  # else it is never used again
        family.entries.insert(0, entry)
        del family.entries[ENTRIES_KEPT:]
    symbols = entry.match(segment.sizes)
    assert symbols is not None, "a new pattern must fit the sizes it was made from"
    return entry, symbols


def _fused(
    segment: Segment, family: Family, keep: tuple[Output, ...], needed: frozenset[Output]
) -> tuple[tuple[Output, ...], Pattern, Any]:
    """What is kept, the pattern, and the program for all of the segment, or that it is coming. What
    was asked for comes first: sizes that change meanwhile ask for nothing new.
    """
    for asked in [*family.asked]:
        symbols = asked[1].match(segment.sizes)
        if symbols is None or not needed <= frozenset(asked[0]):
            continue
        family.asked.remove(asked)  # first: an error must not meet it again
        try:
            program = _made(segment, asked[1], asked[0], True)
        except RabbetError:
            if not _may_hide_a_zero(segment, asked[1]):
                raise
            continue
        if isinstance(program, Coming):
            family.asked.insert(0, asked)
            return *asked, program
        if program.accepts(symbols):
            return *asked, program
    pattern, program = _whole(segment, family, keep, True)
    if isinstance(program, Coming):
        family.asked = [*family.asked, (keep, pattern)][-SIGHTINGS_KEPT:]
    return keep, pattern, program


def _whole(
    segment: Segment | Single, family: Family, keep: tuple[Output, ...], fused: bool
) -> tuple[Pattern, Any]:
    """One program for all of the segment, with the sizes that were seen to change as symbols."""
    interpreted = config.engine == "reference"  # gains nothing from symbols
    if isinstance(segment, Single) and not _is_large(segment):
        pattern = general_pattern(segment)
    else:
        pattern = find_pattern([segment.sizes] if interpreted else family.sightings)
    try:
        return pattern, _made(segment, pattern, keep, fused)
    except RabbetError:
        if not _may_hide_a_zero(segment, pattern):
            raise
    pattern = Pattern(list(segment.sizes))
    return pattern, _made(segment, pattern, keep, fused)


def _may_hide_a_zero(segment: Segment | Single, pattern: Pattern) -> bool:
    """Nothing can be said of a symbol that happens to be 0 now (the maximum of no elements, say):
    then the sizes themselves are to be tried.
    """
    return pattern.scope is not None and 0 in segment.sizes


def _made(
    segment: Segment | Single, pattern: Pattern, keep: tuple[Output, ...], fused: bool
) -> Any:
    """The program of a segment for a pattern, or that it is coming."""
    parts = (segment.key, pattern.describe(), keep)

    def graph() -> tuple[Graph, SizeScope | None]:
        return graph_of(segment, pattern.dims, keep), pattern.scope

    if not fused or isinstance(segment, Single) or not _is_small(segment):
        return compiler().find_or_compile(parts, graph, fuse=fused)
    return compiler().find_or_ask(
        parts,
        graph,
        lambda: parcel.pack(parcel.write(segment.nodes), pattern.dims, keep, pattern.scope),
        fuse=fused,
    )


def _is_small(segment: Segment) -> bool:
    return sum(spec.nbytes for node in segment.nodes for spec in node.specs) <= EARLY_BYTES


@lru_cache(maxsize=1)
def compiler() -> Any:
    """The compiler, imported when something is computed: `import rabbet` must not wait for LLVM."""
    return importlib.import_module("rabbet.runtime.program")


def leaf_buffer(node: Node, index: int) -> Any:
    """The buffer of an outside operand; numbers and random offsets become 0-d buffers."""
    if node.number is not None:
        return scalar_buffer(node.number, node.specs[0])
    if node.offset is not None:
        return scalar_buffer(node.offset, node.specs[0])
    return node.buffers[index]


def scalar_buffer(number: Any, spec: Spec) -> Any:
    """A number as a 0-d buffer of the dtype of `spec`; NumberRangeError where that has none."""
    try:
        return buffers.scalar(number, spec.dtype)
    except OverflowError:
        bits = number.bit_length()
        shown = number if bits <= 128 else f"an integer of {bits} bits"
        raise NumberRangeError(f"{shown} lies outside the range of {spec.dtype.name}") from None
