"""Groups over the same points that read one another at those points become one.

Calls are placed one after the other, so one that reads nothing any group made (the decay of an
optimizer's average, say) opens a group although what reads it stands in another. Here the reader
takes it in, or is taken in by an earlier group it reads: a map, or a contraction, whose epilogue
then has the whole update of a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from rabbet.graph.value import Call, Value
from rabbet.kernel import access
from rabbet.kernel.access import Arguments, Index
from rabbet.kernel.group import (
    COPIED,
    FUSED_CALLS,
    Group,
    awaited,
    makers,
    root_of,
    row_index,
    same_shape,
)

KINDS = ("rows", "contract")


class Groups(Protocol):
    """What is merged: groups in the order they were opened, and the home of each call."""

    groups: list[Group]
    home: dict[int, Group]
    boundaries: set[tuple[int, int]]


def merge_groups(fusion: Groups) -> bool:
    """Merge what can be; True if anything was: what is stored and needed is out of date then."""
    merged = False
    for group in list(fusion.groups):
        if not any(g is group for g in fusion.groups):
            continue  # taken in by a group before it, which read what it made
        pair = _pair(fusion, group)
        while pair is not None:
            _merge(fusion, *pair)
            merged, group = True, pair[0]
            pair = _pair(fusion, group)
    return merged


def _pair(fusion: Groups, group: Group) -> tuple[Group, Group] | None:
    """A group and one that it can take in: `group`, and one that made what `group` reads."""
    if group.kind not in KINDS:
        return None
    found = {g.number: g for call in group.calls for g in _read_groups(fusion, group, call)}
    for number in sorted(found, reverse=True):
        other = found[number]
        if other.kind not in KINDS or _is_between(fusion, other, group):
            continue
        if _takes(fusion, other, group) and _reads_at_hand(fusion, group, other, other, group):
            return other, group
        if _takes(fusion, group, other) and _reads_at_hand(fusion, group, other, group, other):
            return group, other
    return None


def _read_groups(fusion: Groups, group: Group, call: Call) -> Iterator[Group]:
    """Other groups that made something this call reads."""
    for v in call.inputs:
        yield from (g for g in makers(fusion.home, v) if g is not group)


def _is_between(fusion: Groups, maker: Group, reader: Group) -> bool:
    """Must a third group run after `maker` and before `reader`?"""
    return any(
        g is not maker and reader.needs >> g.number & 1 and g.needs >> maker.number & 1
        for g in fusion.groups
    )


def _takes(fusion: Groups, into: Group, joining: Group) -> bool:
    """Could `into` compute the calls of `joining`: a map over its points or one of its rows, or
    reductions over the same points as its own?
    """
    if joining.kind != "rows":
        return False
    if joining.reduced is not None and not _reduces_alike(into, joining):
        return False
    if any(c.op.kind in COPIED for g in (into, joining) for c in g.calls):
        return False
    fits = len(into.calls) + len(joining.calls) <= FUSED_CALLS
    return fits and _index(into, joining) is not None


def _reduces_alike(a: Group, b: Group) -> bool:
    """Do both groups reduce the same axes of the same points, as a whole?"""
    both = a.kind == b.kind == "rows" and a.reduced is not None and a.reduced == b.reduced
    return both and a.blocks is None and b.blocks is None and same_shape(a.domain, b.domain)


def _index_of(into: Group, joining: Group, call: Call) -> Index:
    """Where a call of `joining` will stand in `into`."""
    if joining.reduced is not None:
        return joining.index[id(call)]
    index = _index(into, joining)
    assert index is not None
    return index


def _index(into: Group, joining: Group) -> Index | None:
    """Where the calls of `joining` stand in `into`: at its points, or once for each row."""
    if into.blocks is not None:
        return None
    if joining.reduced is not None:
        return into.axes()
    if into.reduced is not None:
        return row_index(into, joining.domain)
    return into.axes() if same_shape(into.domain, joining.domain) else None


def _reads_at_hand(
    fusion: Groups, reader: Group, maker: Group, into: Group, joining: Group
) -> bool:
    """Does `reader` read what `maker` made only at the very point, never from memory?"""
    alike = joining.reduced is not None
    for call in reader.calls:
        here = _index_of(into, joining, call) if reader is joining else reader.index[id(call)]
        if alike and call.op.kind == "reduce":
            here = reader.axes()
        for operand in call.inputs:
            if any(maker in makers(fusion.home, v) for v in awaited(operand)):
                return False
            if maker not in makers(fusion.home, operand):
                continue
            root = root_of(operand)
            is_kept = (id(root.call), root.index) in fusion.boundaries
            if call.op.kind in ("gather", "contract") or is_kept:
                return False
            if call.op.kind == "reduce" and not alike:
                return False
            v = _followed(operand, here, call)
            if v is None or v[0].call not in maker:
                return False
            made = v[0].call
            if v[1] != (
                _index_of(into, joining, made) if maker is joining else maker.index[id(made)]
            ):
                return False
    return True


def _followed(operand: Value, here: Index, call: Call) -> tuple[Value, Index] | None:
    """What a call at `here` reads, below movement, and at which index; None if some is padding."""
    v, at = operand, here
    if call.op.kind != "reduce":  # whose operand has the points themselves
        at = access.stretched(here, operand.shape, call.specs[0].shape)
    scratch = Arguments()
    while (step := access.through(v, at, scratch)) is not None:
        v, at, valid, _ = step
        if valid is not None:
            return None
    return v, at


def _merge(fusion: Groups, into: Group, joining: Group) -> None:
    """`joining` reads `into`, or `into` reads it: then its calls come before."""
    places = {id(call): _index_of(into, joining, call) for call in joining.calls}
    if into.needs >> joining.number & 1:
        first = int(into.kind == "contract")  # whose first call is the product
        into.calls[first:first] = joining.calls
    else:
        into.calls += joining.calls
    into.index.update(places)
    fusion.home.update((id(call), into) for call in joining.calls)
    fusion.groups.remove(joining)
    gone, here = 1 << joining.number, 1 << into.number
    into.needs = (into.needs | joining.needs) & ~(gone | here)
    for g in fusion.groups:
        if g is not into and g.needs & (gone | here):
            g.needs = (g.needs | here | into.needs) & ~gone
