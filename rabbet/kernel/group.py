"""The record of a group of calls that share a kernel, and what reading a value means for groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rabbet.base import sizes
from rabbet.base.sizes import Dim
from rabbet.expr import expr
from rabbet.graph.value import Attrs, Call, Value
from rabbet.kernel import access
from rabbet.kernel.access import ZERO, Index

ALONE = ("scatter", "sort", "attention", "recurrent")  # nothing joins their kernels
DIRECT = ("contract", "gather", *ALONE)  # operands are loads, or copied first
COPIED = ("movement", "source")  # belong to a group only where they are stored for their own sake
FUSED_CALLS = 64  # more calls in one kernel cost registers and compile time, and gain nothing


@dataclass(eq=False)
class Group:
    """Calls of one kernel over the points of `domain`; its reductions fold the axes `reduced`."""

    number: int
    kind: str  # rows, contract, scatter, sort, attention
    domain: tuple[Dim, ...]
    reduced: tuple[int, ...] | None = None
    blocks: Attrs | None = None  # the attributes of its `reduce_blocks` calls, which are the same
    calls: list[Call] = field(default_factory=list)
    index: dict[int, Index] = field(default_factory=dict)  # id(call) -> its canonical index
    needs: int = 0  # bit set of groups this one depends on, directly or not
    stored: dict[tuple[int, int], Value] = field(default_factory=dict)

    def axes(self) -> Index:
        """The canonical index of a value over the whole domain."""
        return tuple(
            ZERO if isinstance(d, int) and d == 1 else expr.var(a)
            for a, d in enumerate(self.domain)
        )

    def __contains__(self, call: Call) -> bool:
        return id(call) in self.index


def below(v: Value) -> Value:
    """What `v` is a movement of: a value that a kernel makes, or a reshape that reads memory."""
    while v.op.kind == "movement" and not access.is_alias(v):
        v = v.call.inputs[0]
    return v


def root_of(v: Value) -> Value:
    """Below movement: the value a reader loads, or that its group made."""
    found = below(v)
    return access.storage(found) if access.is_alias(found) else found


def awaited(v: Value) -> Iterator[Value]:
    """What must be known before `v` is read, though nothing of it is read (see `Op.awaits`)."""
    while v.op.kind == "movement":
        yield from v.call.inputs[len(v.call.inputs) - v.op.awaits :]
        v = v.call.inputs[0]


def awaited_memory(v: Value) -> Iterator[Value]:
    """The stored values that a reader of `v` waits for."""
    for x in awaited(v):
        root = root_of(x)
        if root.op.kind != "source":
            yield root


def makers(home: Mapping[int, Group], v: Value) -> list[Group]:
    """The groups that must have run before `v` can be loaded; `home` of a call by its id."""
    root = root_of(v)
    if id(root.call) in home:
        return [home[id(root.call)]]
    if root.op.kind in COPIED:  # computed in place, or copied first
        return [group for x in root.call.inputs for group in makers(home, x)]
    return []


def same_shape(a: tuple[Dim, ...], b: tuple[Dim, ...]) -> bool:
    return len(a) == len(b) and all(map(sizes.same, a, b))


def row_index(group: Group, shape: tuple[Dim, ...]) -> Index | None:
    """The canonical index of a value with the domain's kept axes, with or without unit axes."""
    assert group.reduced is not None
    axes = group.axes()
    kept = [a for a in range(len(axes)) if a not in group.reduced]
    if same_shape(shape, tuple(group.domain[a] for a in kept)):
        return tuple(axes[a] for a in kept)
    ones: tuple[Dim, ...] = tuple(
        1 if a in group.reduced else d for a, d in enumerate(group.domain)
    )
    if same_shape(shape, ones):
        return tuple(ZERO if a in group.reduced else i for a, i in enumerate(axes))
    return None
