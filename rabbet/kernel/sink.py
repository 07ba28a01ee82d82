"""Cheap calls move to the only group that reads them, where that saves memory traffic.

A call joins the group that made one of its operands, though it may be a single later group that
reads it: the difference of an image and its mean, say, which a batch norm's gradient takes again.
Written there and read here it costs two passes over memory; where what it is made of lies in
memory anyway, the reader computes it and reads that instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from rabbet.base.sizes import hint
from rabbet.expr import expr
from rabbet.expr.expr import topological
from rabbet.expr.scalars import PRIMITIVE
from rabbet.graph.value import Call, Graph, Value
from rabbet.kernel import access
from rabbet.kernel.access import Arguments, Index
from rabbet.kernel.group import COPIED, FUSED_CALLS, Group, root_of, same_shape

# True if an operand of a call at an index is at hand in a group, or can be read from memory by then
Reachable = Callable[[Group, Call, Value, Index], bool]


class Groups(Protocol):
    """The groups, and the home of each call; `boundaries` and `copied` must be stored."""

    home: dict[int, Group]
    boundaries: set[tuple[int, int]]
    copied: set[tuple[int, int]]

    def order(self) -> list[Group]:
        """Each after those it depends on."""


def sink_calls(fusion: Groups, graph: Graph, reachable: Reachable) -> bool:
    """Move what should be; True if anything was: what is stored and needed is out of date then."""
    kept = {(id(v.call), v.index) for v in map(access.storage, graph.outputs)}
    kept |= fusion.boundaries | fusion.copied
    groups = fusion.order()
    readers = _readers(groups)
    moved = False
    for group in reversed(groups):
        for call in list(reversed(group.calls)):
            if not _is_cheap(call) or (id(call), 0) in kept:
                continue
            into = _only_reader(fusion, group, call, readers.get(id(call), []))
            if into is None or not all(reachable(into, call, x, into.axes()) for x in call.inputs):
                continue
            if _read_instead(group, into, call) < 2 * hint(call.specs[0].nbytes):
                _move(fusion, group, into, call)
                moved = True
    return moved


def _readers(groups: Iterable[Group]) -> dict[int, list[Call]]:
    """The calls that read a call, by its id; movement is looked through."""
    found: dict[int, list[Call]] = {}
    for group in groups:
        for call in group.calls:
            for root in _roots(call):
                found.setdefault(id(root.call), []).append(call)
    return found


def _roots(call: Call) -> Iterator[Value]:
    """What a call reads, below movement; operands of sources too."""
    stack = list(call.inputs)
    while stack:
        v = stack.pop()
        root = root_of(v)
        yield root
        if root.op.kind in COPIED:
            stack += root.call.inputs
        while v.op.kind == "movement":  # what is only waited for counts as read
            stack += v.call.inputs[1:]
            v = v.call.inputs[0]


def _is_cheap(call: Call) -> bool:
    """An elementwise call of basic operations alone."""
    if call.op.kind != "elementwise" or len(call.outputs) != 1:
        return False
    index = expr.var(0)
    operands = [expr.load(n, v.dtype, index) for n, v in enumerate(call.inputs)]
    value = call.op.lower(*operands, **call.attrs)
    leaves = ("load", "const", "var")
    return all(e.op in leaves or e.op in PRIMITIVE for e in topological([value]))


def _only_reader(fusion: Groups, group: Group, call: Call, readers: list[Call]) -> Group | None:
    """The only group that reads `call`, a value of the whole domain, if it does at these points."""
    found = {fusion.home[id(r)].number: fusion.home[id(r)] for r in readers}
    if len(found) != 1 or group.index[id(call)] != group.axes():
        return None
    (into,) = found.values()
    if into is group or into.kind != "rows" or len(into.calls) >= FUSED_CALLS:
        return None
    if not same_shape(into.domain, group.domain):
        return None
    for reader in readers:
        if reader.op.kind not in ("elementwise", "reduce"):
            return None
        for operand in reader.inputs:
            if any(r.call is call for r in _all_roots(operand)):
                if not _reads_there(into, reader, operand, call):
                    return None
    return into


def _all_roots(operand: Value) -> list[Value]:
    root = root_of(operand)
    below = root.call.inputs if root.op.kind in COPIED else ()
    return [root, *(r for v in below for r in _all_roots(v))]


def _reads_there(into: Group, reader: Call, operand: Value, call: Call) -> bool:
    """Is the operand `call` at the very point, or at the point of its row?"""
    if reader.op.kind == "reduce":
        at = into.axes()
    else:
        at = access.stretched(into.index[id(reader)], operand.shape, reader.specs[0].shape)
    v, scratch = operand, Arguments()
    while (step := access.through(v, at, scratch)) is not None:
        v, at, valid, _ = step
        if valid is not None:
            return False
    return v.call is call and at == into.axes()


def _read_instead(group: Group, into: Group, call: Call) -> int:
    """Bytes that are read and written anew if `into` computes `call`."""
    known = {(id(r.call), r.index) for c in into.calls for r in _roots(c)}
    total = 0
    for root in {(id(r.call), r.index): r for r in _roots(call)}.values():
        if root.op.kind in COPIED:
            continue
        key = id(root.call), root.index
        nbytes = hint(root.spec.nbytes)
        if key not in known:
            total += nbytes
        if root.call in group and key not in group.stored:
            total += nbytes
    return total


def _move(fusion: Groups, group: Group, into: Group, call: Call) -> None:
    group.calls.remove(call)
    del group.index[id(call)]
    group.stored.pop((id(call), 0), None)
    for root in _roots(call):
        if root.call in group:
            group.stored[id(root.call), root.index] = root
    into.calls.insert(0, call)
    into.index[id(call)] = into.axes()
    fusion.home[id(call)] = into
