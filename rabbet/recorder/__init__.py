"""The recorder: handles, nodes and the tape (SEMANTICS: recording).

A Handle is what the user holds; it points to one output of a Node. A Node is one recorded op, or a leaf
with data. Each thread has a Tape: the nodes recorded since its last flush, and, built on the way, the
segment's key (structure without sizes) and its sizes. Nothing here knows what an op does: shape and dtype
rules come from a `prepare` function given from above and are memoised here.
"""

from __future__ import annotations

import itertools
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

MEMO_LIMIT = 100_000
PACKAGE = __name__.split(".")[0] + "."


class Prepared(NamedTuple):
    """What `prepare` found for one (op, operand kinds, attributes): see tensor/prepare.py."""

    dtypes: tuple[Any, ...]  # wanted dtype of each tensor operand; the 0-d Spec of a number
    specs: tuple[Any, ...]  # interned Specs of all outputs, residuals last
    code: bytes  # canonical encoding of op, static attributes, form
    sizes: tuple[int, ...]  # size attributes, flattened
    visible: int  # outputs the caller sees
    differentiable: tuple[bool, ...]  # per output
    casts: tuple[bool, ...]  # per operand: a tensor whose dtype must be converted


class Node:
    """One recorded op, or a leaf (op None): its outputs' Specs, buffers, and how many handles are alive."""

    __slots__ = (
        *("__weakref__", "attrs", "buffers", "cut", "error", "form", "handles", "inputs", "is_leaf"),
        *("leaf_number", "number", "op", "owner", "position", "prepared", "requires_grad"),
        *("sequence", "site", "specs", "tape", "leaf_epoch", "offset"),
    )

    def __init__(self) -> None:
        self.op: Any = None
        self.attrs: dict[str, Any] = {}
        self.form: tuple[int, ...] = ()
        self.inputs: tuple[tuple[Node, int], ...] = ()
        self.specs: tuple[Any, ...] = ()
        self.buffers: list[Any] = []
        self.handles: list[int] = []
        self.requires_grad = False
        self.is_leaf = False  # gradients stop here and go to `owner`
        self.owner: Any = None  # weak reference to the Handle that gets the gradient
        self.tape: Tape | None = None  # not None: pending
        self.position = -1
        self.prepared: Prepared | None = None
        self.sequence = next(_sequence)
        self.site: Any = None
        self.cut = False  # backward went through and freed the edges
        self.error: Any = None
        self.number: Any = None  # a scalar leaf's value: a Python number
        self.offset: int | None = None  # a random draw's offset leaf
        self.leaf_number = -1
        self.leaf_epoch = -1

    @property
    def pending(self) -> bool:
        """True while the node waits on a tape."""
        return self.tape is not None


class Handle:
    """A user's reference to one output of a node. `rabbet.Tensor` is its subclass."""

    __slots__ = ("__weakref__", "_grad", "_hooks", "_index", "_node")
    _node: Node
    _index: int

    def __init__(self, node: Node, index: int = 0) -> None:
        self._node = node
        self._index = index
        self._grad: Any = None
        self._hooks: Any = None
        node.handles[index] += 1

    def __del__(self) -> None:
        node = getattr(self, "_node", None)
        if node is not None:
            node.handles[self._index] -= 1

    def emit(self, op: Any, operands: Sequence[Any], attrs: dict[str, Any], form: tuple) -> Any:
        """Record an op (the protocol by which ops reach tensors)."""
        return record(op, operands, attrs, form)

    def settle(self, node: Node, index: int = 0) -> None:
        """Stand for a computed value from now on, outside any segment (the end of a replay)."""
        self._node.handles[self._index] -= 1
        self._node, self._index = node, index
        node.handles[index] += 1

    def assign(self, other: Handle) -> None:
        """Make this handle stand for the value of `other` from now on (in-place update)."""
        tape = current()
        tape.log_assignment(self)
        self._node.handles[self._index] -= 1
        self._node, self._index = other._node, other._index
        self._node.handles[self._index] += 1


class Leaf(NamedTuple):
    """One outside operand of a segment."""

    node: Node
    index: int


class Segment(NamedTuple):
    """What a flush takes from the tape."""

    nodes: list[Node]
    leaves: list[Leaf]
    key: bytes
    sizes: tuple[int, ...]
    assignments: list[tuple[Any, Node, int]]


class Tape:
    """The pending nodes of one thread."""

    def __init__(self) -> None:
        self.grad_enabled = True
        self.capture: Any = None  # a jit capture in progress
        self.epoch = 0
        self.limit = 2000
        self.first_site: Any = None
        self.flushing = False
        self._reset()

    def _reset(self) -> None:
        self.nodes: list[Node] = []
        self.leaves: list[Leaf] = []
        self.parts: list[bytes] = []
        self.sizes: list[int] = []
        self.assignments: list[tuple[Any, Node, int]] = []
        self.pending_bytes = 0
        self.epoch = next(_epochs)

    def take(self) -> Segment:
        """The segment recorded so far; the tape starts a new one."""
        segment = Segment(
            self.nodes, self.leaves, b"".join(self.parts), tuple(self.sizes), self.assignments
        )
        self._reset()
        return segment

    def log_assignment(self, handle: Handle) -> None:
        """Remember what `handle` stood for, so that a failed segment can give it back."""
        self.assignments.append((weakref.ref(handle), handle._node, handle._index))
        if self.capture is not None:
            self.capture.assigned(handle)

    def reflag(self, node: Node) -> None:
        """A pending node became a gradient leaf: that is part of the structure."""
        self.parts.append(struct.pack("<Bi", 254, node.position))

    def leaf(self, node: Node, index: int) -> int:
        """The number of an outside operand in this segment, given at its first use."""
        if node.leaf_epoch == self.epoch and index == 0:
            return node.leaf_number
        for number, known in enumerate(self.leaves) if index else ():
            if known.node is node and known.index == index:
                return number
        number = len(self.leaves)
        if index == 0:
            node.leaf_epoch, node.leaf_number = self.epoch, number
        self.leaves.append(Leaf(node, index))
        spec = node.specs[index]
        kind = 1 if node.number is not None else 2 if node.offset is not None else 0
        grad = node.requires_grad
        self.parts.append(
            struct.pack("<BBBBB", 255, kind, spec.dtype.code, len(spec.shape), grad)
        )
        self.sizes.extend(spec.shape)
        return number

    def append(self, node: Node) -> None:
        """Put a node with inputs and specs on the tape."""
        refs = []
        for source, index in node.inputs:
            if source.tape is self:
                refs += (source.position, index)
            else:
                refs += (-1 - self.leaf(source, index), index)
        prepared = node.prepared
        assert prepared is not None
        flags = node.requires_grad + 2 * node.is_leaf
        self.parts.append(
            prepared.code + struct.pack(f"<B{len(refs)}i", flags, *refs)
        )
        self.sizes.extend(prepared.sizes)
        node.tape, node.position = self, len(self.nodes)
        self.nodes.append(node)
        self.pending_bytes += sum(s.nbytes for s in node.specs)
        if len(self.nodes) == 1:
            self.first_site = node.site


_sequence = itertools.count()
_epochs = itertools.count(1)
_local = threading.local()
_memo: dict[tuple, Prepared] = {}
_hooks: dict[str, Any] = {"prepare": None, "handle": Handle, "flush": None, "cast": None}


def configure(*, prepare: Callable[..., Prepared], handle: type, flush: Callable[[Tape], None], cast: Any, eager: bool) -> None:
    """Give the recorder what it must not know: shape rules, the Tensor type, how to run a segment."""
    _hooks.update(prepare=prepare, handle=handle, flush=flush, cast=cast, eager=eager)


def current() -> Tape:
    """This thread's tape."""
    tape = getattr(_local, "tape", None)
    if tape is None:
        tape = _local.tape = Tape()
    return tape


def leaf_node(spec: Any, buffer: Any) -> Node:
    """A node that holds data from outside."""
    node = Node()
    node.specs, node.buffers, node.handles = (spec,), [buffer], [0]
    return node


def scalar_node(number: Any, spec: Any) -> Node:
    """A node that holds a Python number as a run-time argument."""
    node = leaf_node(spec, None)
    node.number = number
    return node


def offset_node(offset: int, spec: Any) -> Node:
    """A node that holds the offset of a random draw."""
    node = leaf_node(spec, None)
    node.offset = offset
    return node


def record(op: Any, operands: Sequence[Any], attrs: dict[str, Any], form: tuple) -> Any:
    """Append one op; Handles (or one Handle) of its visible outputs."""
    tape = current()
    kinds = tuple(
        o._node.specs[o._index] if isinstance(o, Handle) else type(o) for o in operands
    )
    key = (op, kinds, form, *_static(attrs))
    prepared = _memo.get(key)
    if prepared is None:
        if len(_memo) > MEMO_LIMIT:
            _memo.clear()
        prepared = _memo[key] = _hooks["prepare"](op, operands, attrs, form)
    site = _site()
    if len(tape.nodes) >= tape.limit and not tape.flushing:
        if site == tape.first_site or len(tape.nodes) >= 4 * tape.limit:
            _hooks["flush"](tape)
    inputs = []
    for operand, wanted, convert in zip(operands, prepared.dtypes, prepared.casts, strict=True):
        if isinstance(operand, Handle):
            if tape.capture is not None:
                tape.capture.touched(operand)
            if convert:
                operand = record(_hooks["cast"], (operand,), {"dtype": wanted}, ())
            inputs.append(_usable(tape, operand._node, operand._index))
        else:
            inputs.append((scalar_node(operand, wanted), 0))
    node = Node()
    node.op, node.attrs, node.form = op, attrs, form
    node.inputs, node.specs, node.prepared = tuple(inputs), prepared.specs, prepared
    node.buffers, node.handles = [None] * len(prepared.specs), [0] * len(prepared.specs)
    node.requires_grad = (
        tape.grad_enabled
        and any(prepared.differentiable)
        and any(n.requires_grad for n, _ in inputs)
    )
    node.site = site
    tape.append(node)
    handle = _hooks["handle"]
    outputs = [handle(node, i) for i in range(prepared.visible)]
    if _hooks["eager"] and not tape.flushing:
        _hooks["flush"](tape)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _usable(tape: Tape, node: Node, index: int) -> tuple[Node, int]:
    """The operand as it can enter this tape: computed, pending here, or recorded again."""
    if node.tape is tape:
        return node, index
    if node.tape is not None:
        _hooks["flush"](node.tape)
    if node.error is not None:
        raise node.error
    if node.buffers[index] is None and node.number is None and node.offset is None:
        return _again(tape, node, index)
    return node, index


def _again(tape: Tape, node: Node, index: int) -> tuple[Node, int]:
    """Record an evicted node once more, from what is left of its ancestors (no recursion)."""
    fresh: dict[int, Node] = {}
    stack = [node]
    while stack:
        top = stack[-1]
        missing = [
            n
            for n, i in top.inputs
            if n.op is not None and n.buffers[i] is None and n.tape is None and id(n) not in fresh
        ]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        if id(top) in fresh:
            continue
        copy = Node()
        copy.op, copy.attrs, copy.form = top.op, top.attrs, top.form
        copy.specs, copy.prepared, copy.site = top.specs, top.prepared, top.site
        copy.buffers, copy.handles = [None] * len(top.specs), [0] * len(top.specs)
        copy.inputs = tuple((fresh.get(id(n), n), i) for n, i in top.inputs)
        tape.append(copy)
        fresh[id(top)] = copy
    return fresh[id(node)], index


def _static(attrs: dict[str, Any]) -> tuple:
    return tuple((k, type(v), v) if not isinstance(v, tuple) else (k, repr(v)) for k, v in attrs.items())


def _site() -> tuple[Any, int] | None:
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
    return (frame.f_code, frame.f_lasti) if frame is not None else None
