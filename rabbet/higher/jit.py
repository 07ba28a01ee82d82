"""@rb.jit: record a function once, then replay its segments without running its Python.

While recording, the function runs as always; a Capture notes which outside tensors its segments
read, which handles were reassigned, which draws were made, which flags were looked at, and the
outcome of every `bool()` of a tensor. The record is a tree: segments, then a decision with a branch
per outcome seen. A replay walks it; nothing is committed before its end, so an unseen outcome
simply records anew.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rabbet.base import tree
from rabbet.base.errors import RabbetError
from rabbet.base.interrupt import Interrupts
from rabbet.base.spec import Spec
from rabbet.base.tree import Structure
from rabbet.engine import programs
from rabbet.engine.flush import explained, flush, index_error, value_of
from rabbet.engine.kept import graph_to_keep, keeping
from rabbet.engine.traces import Branch, Final, Source, Stage, Target, merge, native
from rabbet.recorder import Handle, Node, Segment, Tape, arguments_key, current, leaf_node
from rabbet.runtime import buffers
from rabbet.runtime.background import Coming
from rabbet.runtime.errors import IndexFailure, NativeIndexFailure
from rabbet.tensor.tensor import Tensor, from_numpy

TRACES_KEPT = 64


@dataclass(eq=False)
class Trace:
    """All that was recorded for one kind of arguments."""

    root: Branch
    guards: list[tuple[Any, str, Any]]
    handles: list[tuple[Handle, Any, bool]]  # captured handles with the Spec and requires_grad seen
    grads: list[tuple[Target, bool]]  # whose gradient was looked at, and whether there was none
    coming: list[Coming]  # programs in whose place stages run op by op

    @property
    def is_stale(self) -> bool:
        """True where a program has come since: recorded again, the function uses it."""
        return any(not coming.is_awaited for coming in self.coming)

    def holds(self, arguments: list[Tensor]) -> bool:
        """True where flags and captured tensors are as they were while recording."""
        if self.coming and self.is_stale:
            return False
        for target, missing in self.grads:
            if (_resolve(target, arguments)._grad is None) != missing:
                return False
        for reference, name, value in self.guards:
            owner = reference()
            if owner is None or getattr(owner, name) != value:
                return False
        return all(
            h._node.specs[h._index] is spec and h._node.requires_grad == grad
            for h, spec, grad in self.handles
        )


class Known:
    """What is known of arguments with one `arguments_key`: the whole key, and their Specs, which
    the short one names by address.
    """

    __slots__ = ("key", "specs", "straight")

    def __init__(self, key: Any, specs: list[Spec]) -> None:
        self.key, self.specs = key, specs
        self.straight: Straight | None = None


class Straight:
    """A trace without decisions, which one native call replays to its end."""

    __slots__ = ("final", "is_bare", "is_single", "trace")

    def __init__(self, trace: Trace, final: Final) -> None:
        self.trace, self.final = trace, final
        self.is_bare = not (trace.guards or trace.handles or trace.grads or trace.coming)
        self.is_single = final.structure == tree.LEAF and final.results[0][0] is not None

    @staticmethod
    def of(trace: Trace) -> Straight | None:
        """One for a trace that was just replayed; None where it has decisions, or changes."""
        root = trace.root
        if root.final is None or not root.replay or root.kept is not None:
            return None
        return Straight(trace, root.final)

    def replayed(self, arguments: list[Tensor]) -> Any:
        """The function's result."""
        flush()
        results = _played(self.trace.root, arguments, made=[], stages=self.trace.root.stages)
        if self.is_single and isinstance(results[0], Handle):
            return results[0]
        return _handed_out(self.final, results)


class Capture:
    """Notes of one recording (see the module's text); the recorder and Tensor report to it."""

    def __init__(self, arguments: list[Tensor]) -> None:
        self.first = Node().sequence
        self.own: dict[int, Any] = {}
        self.arguments = {(a._node, a._index): i for i, a in enumerate(arguments)}
        self.numbers = {id(a): i for i, a in enumerate(arguments)}
        self.grad_before: dict[int, tuple[Target, bool]] = {}
        self.sources: dict[tuple[Node, int], Source] = {}
        self.reassigned: dict[int, Handle] = {}
        self.grad_slots: dict[int, Handle] = {}
        self.grad_owner: dict[int, Target] = {}
        self.bases: dict[int, tuple[Any, int]] = {}
        self.guards: list[tuple[Any, str, Any]] = []
        self.path: list[tuple[str, Any, Any]] = []
        self.opaque = ""
        self.stages = 0
        self.coming: list[Coming] = []
        self.before: dict[int, tuple[Handle, Any, bool]] = {}

    # ---- reports -------------------------------------------------------------------------------

    def touched(self, handle: Handle) -> None:
        """An op uses `handle`."""
        key = (handle._node, handle._index)
        node = handle._node
        if (
            key in self.sources
            or node.tape is not None
            or node.op is not None
            and node.sequence > self.first
        ):
            return
        if key in self.arguments:
            self.sources[key] = ("argument", self.arguments[key])
        elif node.sequence > self.first:
            if node.number is None and node.offset is None:
                self.sources[key] = ("constant", node.buffers[handle._index])
        elif id(handle) in self.grad_owner:
            self.sources[key] = ("grad", self.grad_owner[id(handle)])
        else:
            self._see(handle)
            self.sources[key] = ("handle", handle)

    def _see(self, handle: Handle) -> None:
        node = handle._node
        self.before.setdefault(id(handle), (handle, node.specs[handle._index], node.requires_grad))

    def assigned(self, handle: Handle) -> None:
        """`handle` is about to stand for another value."""
        if handle._node.sequence < self.first and id(handle) not in self.reassigned:
            if id(handle) not in self.numbers:
                self._see(handle)
            self.touched(handle)
            self.reassigned[id(handle)] = handle

    def grad_assigned(self, handle: Handle) -> None:
        """The gradient slot of `handle` changes."""
        self.grad_slots[id(handle)] = handle

    def grad_read(self, handle: Handle) -> None:
        """The gradient of `handle` is taken in hand."""
        if id(handle) not in self.grad_slots:
            self.grad_before[id(handle)] = (self._target(handle), handle._grad is None)
        if handle._grad is not None:
            self.grad_owner[id(handle._grad)] = self._target(handle)

    def _target(self, handle: Handle) -> Target:
        return self.numbers.get(id(handle), handle)

    def drawn(self, generator: Any, offset: int) -> None:
        """A random range was reserved."""
        self.bases.setdefault(id(generator), (generator, offset))

    def guard(self, owner: Any, name: str, value: Any) -> None:
        """A flag was looked at: a replay is only right while it keeps this value."""
        if id(owner) not in self.own:
            self.guards.append((weakref.ref(owner), name, value))

    def made_modules(self, modules: list[Any]) -> None:
        """Copies made for this call: their flags follow from its arguments and its code."""
        self.own.update((id(m), m) for m in modules)

    def opaque_read(self, what: str, handle: Handle) -> None:
        """A value left for Python: this function must run its Python at every call."""
        self.opaque = self.opaque or f"it reads a value ({what})"

    def decide(self, handle: Tensor) -> bool:
        """bool(tensor): a checked decision."""
        self.touched(handle)
        outcome = bool(handle._array().reshape(()))
        self.path.append(("decide", self._source(handle._node, handle._index), outcome))
        return outcome

    def stage(self, segment: Segment, entry: Any, symbols: tuple[int, ...]) -> None:
        """A segment was run."""
        inputs = [self._source(leaf.node, leaf.index) for leaf in segment.leaves]
        ops = [(n.op.name, n.site) for n in segment.nodes]
        graph = graph_to_keep(segment, entry, inputs, self.reassigned)
        self.coming += [entry.coming] if entry.coming else []
        self.path.append(("stage", Stage(entry.program, symbols, inputs, ops, graph), None))
        for output, (position, index) in enumerate(entry.keep):
            self.sources[segment.nodes[position], index] = ("made", self.stages, output)
        self.stages += 1

    # ---- the end -------------------------------------------------------------------------------

    def finish(self, result: Any) -> Final | None:
        """What to redo at the end of a replay; None (and `opaque` says why) where it cannot be."""
        leaves, structure = tree.flatten(result)
        results: list[tuple[Any, Any]] = []
        for leaf in leaves:
            if isinstance(leaf, Handle):
                node = leaf._node
                if node.requires_grad and not node.is_leaf and not node.cut:
                    self.opaque = self.opaque or "its result carries gradients"
                results.append((self._source(node, leaf._index), leaf))
            else:
                results.append((None, leaf))
        final = Final(
            structure,
            results,
            [
                (self._target(h), self._source(h._node, h._index), h._node.is_leaf, _spec(h))
                for h in self.reassigned.values()
            ],
            [
                (self._target(h), None if g is None else self._source(g._node, g._index), _spec(h))
                for h in self.grad_slots.values()
                for g in (h._grad,)
            ],
            [(g, g.offset - base) for g, base in self.bases.values()],
        )
        return None if self.opaque else final

    def _source(self, node: Node, index: int) -> Source:
        if node.number is not None:
            return ("constant", buffers.scalar(node.number, node.specs[0].dtype))
        if node.offset is not None:
            generator = node.owner
            base = self.bases[id(generator)][1]
            return ("offset", generator, node.offset - base, node.specs[0].dtype)
        found = self.sources.get((node, index))
        if found is None:
            if (node, index) in self.arguments:
                return ("argument", self.arguments[node, index])
            if node.sequence > self.first and node.op is None:
                return ("constant", node.buffers[index])
            self.opaque = self.opaque or "it uses a tensor that no variable holds any more"
            return ("constant", node.buffers[index])
        return found


class Jitted:
    """A function under `rb.jit`; `.stats` counts recordings and replays, `.why` says what forces
    recording.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__name__ = type(function).__name__  # a module, or another object that can be called
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.traces: dict[Any, list[Trace]] = {}
        self.quick: dict[bytes, Known] = {}
        self.stats = {"recorded": 0, "replayed": 0}
        self.why = ""
        programs.jitted.add(self)

    def __getattr__(self, name: str) -> Any:
        """What the function has: `rb.jit(model).parameters()` is `model.parameters()`."""
        if name == "function" or name.startswith("__"):  # not yet made; asked by copy and pickle
            raise AttributeError(name)
        return getattr(self.function, name)

    def __repr__(self) -> str:
        return f"rb.jit({self.function!r})"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        return functools.partial(self, Own(instance) if tree.is_registered(instance) else instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        quick = None if kwargs else arguments_key(args)
        known = self.quick.get(quick) if quick is not None else None
        straight = None if known is None else known.straight
        if straight is not None and (straight.is_bare or straight.trace.holds(list(args))):
            result = straight.replayed(list(args))
            self.stats["replayed"] += 1
            return result
        tape = current()
        if (
            tape.capture is not None
            or tape.interpreter is not None
            or tape.runner is not None
            or self.why
        ):
            return self.function(*_plain(args), **kwargs)
        if known is not None:
            tensors = list(args)
            for trace in self.traces.get(known.key, ()):
                if trace.holds(tensors):
                    done, result = _replay(trace, tensors)
                    if done:
                        known.straight = Straight.of(trace)
                        self.stats["replayed"] += 1
                        return result
                    break
        leaves, structure = tree.flatten((args, kwargs))
        leaves = [from_numpy(x) if isinstance(x, np.ndarray) else x for x in leaves]
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        key = _key(structure, leaves, tape)
        if key is None:
            return self.function(*_plain(args), **kwargs)
        if quick is not None:
            if len(self.quick) >= TRACES_KEPT:
                self.quick.clear()
            self.quick[quick] = Known(key, [t.spec for t in tensors])
        for trace in self.traces.get(key, ()):
            if trace.holds(tensors):
                done, result = _replay(trace, tensors)
                if done:
                    self.stats["replayed"] += 1
                    return result
                return self._record(key, trace, structure, leaves, tensors)
        return self._record(key, None, structure, leaves, tensors)

    def _record(
        self,
        key: Any,
        trace: Trace | None,
        structure: Structure,
        leaves: list[Any],
        tensors: list[Tensor],
    ) -> Any:
        flush()
        places = {id(t): _stand_in(t) for t in tensors}
        tape = current()
        given = [places[id(x)][0] if isinstance(x, Tensor) else x for x in leaves]
        args, kwargs = tree.unflatten(structure, given)
        capture = Capture([places[id(t)][0] for t in tensors])
        capture.made_modules(tree.registered_parts((args, kwargs)))
        try:
            tape.capture = capture
            result = self.function(*_plain(args), **kwargs)
            flush()
        finally:
            tape.capture = None
            for t in tensors:
                _hand_back(t, *places[id(t)])
        final = capture.finish(result)
        self.stats["recorded"] += 1
        if final is None:
            self.why = capture.opaque
            self.quick.clear()
            return result
        with Interrupts():  # half a trace must not be replayed
            self._remember(key, trace, capture, final)
        return result

    def _remember(self, key: Any, trace: Trace | None, capture: Capture, final: Final) -> None:
        for known in self.quick.values():  # traces may go
            known.straight = None
        if trace is None:
            handles = list(capture.before.values())
            grads = list(capture.grad_before.values())
            trace = Trace(Branch(), capture.guards, handles, grads, capture.coming)
            if len(self.traces) >= TRACES_KEPT:
                self.traces.pop(next(iter(self.traces)))
            others = [t for t in self.traces.get(key, ()) if not t.is_stale]
            self.traces[key] = [trace, *others[:7]]
        else:
            same = {id(h) for h, _, _ in trace.handles}
            trace.handles += [t for t in capture.before.values() if id(t[0]) not in same]
            trace.guards += capture.guards
            trace.grads += capture.grad_before.values()
            trace.coming += capture.coming
        merge(trace.root, capture.path, final)


def jit(function: Callable[..., Any]) -> Jitted:
    """Record `function` once per kind of arguments, then replay it without its Python.

    Tensors it reads from outside (parameters, optimizer state) are inputs; those it updates are
    outputs. A Module among the arguments or results is a tree of tensors like a dict: the function
    gets a copy with the same tensors. `if` on a tensor is a checked decision; `item()`, `numpy()`
    and `print` make it record at each call. `rb.jit(model)` has the model's methods and attributes.

    >>> @rb.jit
    ... def f(x):
    ...     return x * 2 + 1
    """
    if not callable(function):
        raise TypeError(f"jit: takes a function, not {type(function).__name__}")
    return Jitted(function)


class Own:
    """The module whose method is called: known by identity, its tensors are no arguments."""

    __slots__ = ("module",)

    def __init__(self, module: Any) -> None:
        self.module = module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and self.module is other.module

    def __hash__(self) -> int:
        return id(self.module)


def _plain(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].module, *args[1:]) if args and type(args[0]) is Own else args


def _key(structure: Structure, leaves: list[Any], tape: Tape) -> Any:
    parts: list[Any] = [structure, tape.grad_enabled, tape.narrow]
    first: dict[int, int] = {}
    for number, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            same = first.setdefault(id(leaf), number)  # f(x, x) is another function than f(x, y)
            parts.append((leaf.spec, leaf.requires_grad, same))
        elif isinstance(leaf, float | complex):
            parts.append((type(leaf), np.array(leaf).tobytes()))
        else:
            try:
                hash(leaf)
            except TypeError:
                return None
            parts.append((type(leaf), leaf))
    return tuple(parts)


def _replay(trace: Trace, arguments: list[Tensor]) -> tuple[bool, Any]:
    """(True, result), or (False, None) where a decision came out as never before."""
    flush()
    made: list[list[Any]] = []
    bases: dict[int, int] = {}

    def buffer(source: Source) -> Any:
        match source[0]:
            case "made":
                return made[source[1]][source[2]]
            case "argument":
                return value_of(arguments[source[1]])
            case "handle":
                return value_of(source[1])
            case "grad":
                return value_of(_resolve(source[1], arguments)._grad)
            case "constant":
                return source[1]
        _, generator, relative, dtype = source
        base = bases.setdefault(id(generator), generator.offset)
        return buffers.scalar(base + relative, dtype)

    branch = trace.root
    stages: list[Stage] = []
    while True:
        if branch.replay is None:
            branch.replay = native(branch)
            branch.kept = keeping(branch) if branch.replay else None
        if branch.kept is not None:
            with Interrupts():  # stages and replay change together
                if branch.kept.look():
                    branch.stages = branch.kept.stages
                    branch.replay = native(branch)
        stages += branch.stages
        if branch.replay:
            results = _played(branch, arguments, made, stages)
            if branch.final is not None:
                return True, _handed_out(branch.final, results)
        for stage in () if branch.replay else branch.stages:
            inputs = [buffer(s) for s in stage.inputs]
            try:
                made.append(stage.program.run(stage.symbols, inputs))
            except (IndexFailure, RabbetError) as failure:
                raise explained(failure, stage.ops) from None
        if branch.final is not None:
            return True, _commit(branch.final, buffer, arguments)
        assert branch.decision is not None
        outcome = bool(np.frombuffer(buffer(branch.decision), np.uint8).any())
        if outcome not in branch.after:
            return False, None
        branch = branch.after[outcome]


def _played(
    branch: Branch, arguments: list[Tensor], made: list[list[Any]], stages: list[Stage]
) -> Any:
    """What the native replay of a branch gives; the last of `stages` are its own."""
    try:
        return branch.replay.play(arguments, made)
    except NativeIndexFailure as failure:
        stage = stages[len(made) - 1]
        raise index_error(stage.program.explain_failure(failure), stage.ops) from None


def _handed_out(final: Final, results: list[Any]) -> Any:
    """The results in the form the function returns them."""
    pairs = zip(final.results, results, strict=True)
    found = [
        v if s is None else made if isinstance(made, Handle) else _result(v, made)
        for (s, v), made in pairs
    ]
    return tree.unflatten(final.structure, found)


def _commit(final: Final, buffer: Callable[[Source], Any], arguments: list[Tensor]) -> Any:
    """Give every handle its new value, all at once."""
    assigned = [(_resolve(t, arguments), buffer(s), leaf) for t, s, leaf, _ in final.assigned]
    grads = [(_resolve(t, arguments), None if s is None else buffer(s)) for t, s, _ in final.grads]
    results = [v if s is None else _result(v, buffer(s)) for s, v in final.results]
    with Interrupts():
        for handle, value, leaf in assigned:
            node = leaf_node(handle._node.specs[handle._index], value)
            if leaf:
                node.is_leaf = node.requires_grad = True
                node.owner = weakref.ref(handle)
            handle.settle(node)
        for handle, value in grads:
            spec = handle._node.specs[handle._index]
            handle._grad = None if value is None else Tensor(leaf_node(spec, value))
        for generator, moved in final.draws:
            generator.offset += moved
    return tree.unflatten(final.structure, results)


def _spec(handle: Handle) -> Spec:
    return handle._node.specs[handle._index]


def _resolve(target: Target, arguments: list[Tensor]) -> Handle:
    return arguments[target] if isinstance(target, int) else target


def _stand_in(t: Tensor) -> tuple[Tensor, Node]:
    """What the function gets for an argument: a tensor and node of its own, so that the argument is
    told apart from the same tensor captured. One that collects gradients stands for itself.
    """
    value = value_of(t)
    if t._node.requires_grad:
        return t, t._node
    node = leaf_node(t.spec, value)
    made = type(t).__new__(type(t))  # a frozen parameter is one inside too
    Tensor.__init__(made, node)
    return made, node


def _hand_back(t: Tensor, stand_in: Tensor, before: Node) -> None:
    """An argument that was updated in place keeps its new value."""
    if stand_in is not t and stand_in._node is not before:
        t.settle(stand_in._node, stand_in._index)


def _result(recorded: Handle, value: Any) -> Tensor:
    old = recorded._node
    node = leaf_node(old.specs[recorded._index], value)
    if old.requires_grad and old.cut:
        node.op, node.prepared, node.site = old.op, old.prepared, old.site
        node.specs, node.requires_grad, node.cut = old.specs, True, True
        node.buffers = [None] * len(old.specs)
        node.handles = [0] * len(old.specs)
        node.buffers[recorded._index] = value
        return Tensor(node, recorded._index)
    return Tensor(node)


def report_stage(segment: Segment, entry: Any, symbols: tuple[int, ...]) -> None:
    """Tell a capture in progress on this thread that a segment was run."""
    capture = current().capture
    if capture is not None:
        capture.stage(segment, entry, symbols)


programs.observers.append(report_stage)
