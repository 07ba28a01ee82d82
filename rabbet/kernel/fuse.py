"""Which calls share a kernel.

Calls are taken in order; an elementwise call or a reduction joins the group that made one of its
operands when both run over the same points and no cycle arises. What a group makes and others need
is stored. Movement and sources belong to no group: every reader follows them by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from rabbet.base.dtypes import int64
from rabbet.base.sizes import Dim
from rabbet.expr import expr
from rabbet.graph.value import Attrs, Call, Graph, Value
from rabbet.kernel import access
from rabbet.kernel.access import ZERO, Arguments, Index
from rabbet.kernel.group import (
    ALONE,
    COPIED,
    DIRECT,
    FUSED_CALLS,
    Group,
    awaited,
    below,
    makers,
    root_of,
    row_index,
    same_shape,
)
from rabbet.kernel.merge import merge_groups
from rabbet.kernel.reading import has_runs, is_plain
from rabbet.kernel.sink import sink_calls
from rabbet.ops.order import reduce_blocks


class Fusion:
    """The groups of one graph in an order in which they can run."""

    def __init__(self, graph: Graph, boundaries: set[tuple[int, int]]) -> None:
        """`boundaries`: values (call id, index) that must be stored although only one group uses
        them.
        """
        self.groups: list[Group] = []
        self.home: dict[int, Group] = {}
        self.boundaries = boundaries
        # Operands that contract, scatter and sort read as copies, which all their readers wait for.
        self.copied = {
            (id(v.call), v.index) for call in graph.calls() for v in _read_as_copies(call)
        }
        for call in graph.calls():
            self._place(call)
        for v in graph.outputs:
            self.require(v)
        if merge_groups(self):
            self._account_again(graph)
        if sink_calls(self, graph, self._could_read):
            self.groups = [group for group in self.groups if group.calls]
            self._account_again(graph)

    def _account_again(self, graph: Graph) -> None:
        """What is stored, and what needs what, from the calls of each group."""
        for group in self.groups:
            group.stored.clear()
            group.needs = 0
        for group in list(self.groups):
            for call in group.calls:
                self._account(group, call)
        for v in graph.outputs:
            self.require(v)

    def order(self) -> list[Group]:
        """The groups, each after those it depends on; a stored-only order, stable by creation."""
        return sorted(self.groups, key=lambda g: (bin(g.needs).count("1"), g.number))

    # ---- placing -------------------------------------------------------------------------------

    def _place(self, call: Call) -> None:
        match call.op.kind:
            case "input" | "source":
                return
            case "movement":
                return
            case "elementwise":
                self._join_or_open(call, call.specs[0].shape, None)
            case "gather":
                self._require_copies(call)
                self._join_or_open(call, call.specs[0].shape, None)
            case "reduce":
                x = call.inputs[0]
                self._join_or_open(call, x.shape, call.attrs["axis"])
            case "contract":
                self._alone(call, "contract")
            case "scatter":
                self._alone(call, "scatter")
            case "attention":
                self._alone(call, "attention")
            case "recurrent":
                self._alone(call, "recurrent")
            case "sort":
                self._alone(call, "sort")
            case kind:
                raise AssertionError(f"{call.op.name} of kind {kind} is not a primitive")

    def _join_or_open(
        self, call: Call, shape: tuple[Dim, ...], reduced: tuple[int, ...] | None
    ) -> None:
        for group in self._candidates(call):
            index = self._fits(group, call, shape, reduced)
            if index is not None:
                self._add(group, call, index, reduced)
                return
        group = self._open("rows", shape, reduced)
        index = group.axes() if reduced is None else _result_index(group, call)
        self._add(group, call, index, reduced)

    def _candidates(self, call: Call) -> list[Group]:
        """Groups that made an operand, the latest first."""
        found = {
            self.home[id(v.call)].number: self.home[id(v.call)]
            for v in map(root_of, call.inputs)
            if id(v.call) in self.home
        }
        return [found[n] for n in sorted(found, reverse=True)]

    def _fits(
        self,
        group: Group,
        call: Call,
        shape: tuple[Dim, ...],
        reduced: tuple[int, ...] | None,
    ) -> Index | None:
        """The canonical index of `call` in `group`, or None where it cannot join."""
        if len(group.calls) >= FUSED_CALLS or group.kind in ALONE:
            return None
        if any(
            (id(v.call), v.index) in self.boundaries
            for v in map(root_of, call.inputs)
            if v.call in group
        ):
            return None
        full = same_shape(shape, group.domain)
        if reduced is not None:
            if group.kind != "rows" or not full or group.reduced not in (None, reduced):
                return None
            if group.reduced is not None and group.blocks != _blocks(call):
                return None
            if any(_row_level(group, c) for c in group.calls) and group.reduced is None:
                return None
            index = group.axes()
            result = _result_index(group, call)
        elif full:
            index = result = group.axes()
        else:
            by_rows = group.reduced is not None and group.blocks is None
            row = row_index(group, shape) if by_rows else None
            if row is None:
                return None
            index = result = row
        for operand in call.inputs:
            if not self._reachable(group, call, operand, index, shape):
                return None
        return result

    def _reachable(
        self, group: Group, call: Call, operand: Value, index: Index, shape: tuple[Dim, ...]
    ) -> bool:
        """True if `operand` is at hand in `group`: made there at this very point, or before the
        group.
        """
        if call.op.kind == "gather":  # read at computed places: only from memory
            return self._is_before(group, [operand, *awaited(operand)])
        if call.op.kind != "reduce":
            index = access.stretched(index, operand.shape, shape)
        if not self._is_before(group, list(awaited(operand))):
            return False
        scratch = Arguments()
        v, at = operand, index
        while (step := access.through(v, at, scratch)) is not None:
            v, at, valid, _ = step
            if valid is not None and root_of(v).call in group:
                return False
        if v.call in group:
            return at == group.index[id(v.call)]
        return self._is_before(group, [v])

    def _could_read(self, group: Group, call: Call, operand: Value, index: Index) -> bool:
        return self._reachable(group, call, operand, index, call.specs[0].shape)

    def _is_before(self, group: Group, values: list[Value]) -> bool:
        """True where all groups that make `values` can run before `group`."""
        outside = [h for v in values for h in makers(self.home, v)]
        return all(h is not group and not h.needs >> group.number & 1 for h in outside)

    # ---- bookkeeping ---------------------------------------------------------------------------

    def _open(
        self, kind: str, domain: tuple[Dim, ...], reduced: tuple[int, ...] | None = None
    ) -> Group:
        group = Group(len(self.groups), kind, domain, reduced)
        self.groups.append(group)
        return group

    def _alone(self, call: Call, kind: str) -> None:
        self._require_copies(call)
        group = self._open(kind, call.specs[0].shape)
        self._add(group, call, group.axes(), None)

    def _require_copies(self, call: Call) -> None:
        """Copies that `call` reads come before its group."""
        for operand in call.inputs:
            if (id(operand.call), operand.index) in self.copied:
                self.require(operand)

    def _add(self, group: Group, call: Call, index: Index, reduced: tuple[int, ...] | None) -> None:
        group.calls.append(call)
        group.index[id(call)] = index
        self.home[id(call)] = group
        if reduced is not None:
            group.reduced, group.blocks = reduced, _blocks(call)
        self._account(group, call)

    def _account(self, group: Group, call: Call) -> None:
        """What `group` reads and stores because of `call`."""
        for operand in call.inputs:
            self._use(group, operand, direct=call.op.kind in DIRECT)
        if call.op.kind in COPIED:
            group.stored[id(call), 0] = call.outputs[0]
        elif call.op.kind in ALONE:
            self.require(call.outputs[0])
        for v in call.outputs:
            if (id(call), v.index) in self.boundaries:
                self.require(v)

    def _depend(self, group: Group, other: Group) -> None:
        gained = (1 << other.number) | other.needs
        if gained & ~group.needs == 0:
            return
        group.needs |= gained
        for g in self.groups:
            if g.needs >> group.number & 1:
                g.needs |= gained

    def require(self, v: Value) -> None:
        """Store `v` in memory where it is made; moves and sources get a copy kernel."""
        base = access.storage(v)
        if base.op.kind == "input":
            return
        if base.op.kind in ("movement", "source"):
            if id(base.call) not in self.home:
                group = self._open("rows", base.shape)
                self._add_copy(group, base)
            return
        self.home[id(base.call)].stored[id(base.call), base.index] = base

    def _add_copy(self, group: Group, v: Value) -> None:
        self._add(group, v.call, group.axes(), None)

    def _use(self, group: Group, operand: Value, *, direct: bool) -> None:
        """`group` reads `operand`: what it loads must be stored, and by then computed."""
        if direct and (id(operand.call), operand.index) in self.copied:
            self.require(operand)
            base = access.storage(operand)
            if id(base.call) in self.home:
                self._depend(group, self.home[id(base.call)])
            return
        for v in awaited(operand):
            self._use(group, v, direct=False)
        root = root_of(operand)
        if root.op.kind == "source" and not _is_under_alias(operand):
            for x in root.call.inputs:
                self._use(group, x, direct=False)
        elif root.call not in group:
            self.require(root)
            if id(root.call) in self.home:
                self._depend(group, self.home[id(root.call)])


def _read_as_copies(call: Call) -> Iterator[Value]:
    """The operands that `call` wants to read as copies."""
    kind = call.op.kind
    if kind == "gather" and root_of(call.inputs[0]).op.kind == "source":
        yield call.inputs[0]
    elif kind == "contract" or kind in ALONE:
        for number, operand in enumerate(call.inputs):
            if not is_plain(operand) or (kind == "contract" and not has_runs(call, number)):
                yield operand


def _is_under_alias(v: Value) -> bool:
    """True where the way down passes a reshape that reads memory: even a source must lie there."""
    return access.is_alias(below(v))


def _blocks(call: Call) -> Attrs | None:
    """How the results of a reduction are those of blocks; None where they are whole."""
    if call.op is not reduce_blocks:
        return None
    return {name: value for name, value in call.attrs.items() if name != "combine"}


def block_variable(group: Group) -> int:
    """The variable that counts blocks: behind those of the domain."""
    return len(group.domain)


def _result_index(group: Group, call: Call) -> Index:
    """The canonical index of what a reduction over the domain gives."""
    index, axes = group.axes(), call.attrs["axis"]
    if call.op is reduce_blocks:
        left = tuple(i for a, i in enumerate(index) if a not in axes)
        return (expr.var(block_variable(group)), *left)
    if call.attrs["keepdims"]:
        return tuple(ZERO if a in axes else i for a, i in enumerate(index))
    return tuple(i for a, i in enumerate(index) if a not in axes)


def _row_level(group: Group, call: Call) -> bool:
    return group.index[id(call)] != group.axes()


def variable_order(group: Group) -> list[int]:
    """Domain axes as loops: kept axes first, then reduced ones."""
    reduced = group.reduced or ()
    return [a for a in range(len(group.domain)) if a not in reduced] + list(reduced)


__all__ = ["Fusion", "Group", "int64", "variable_order"]
