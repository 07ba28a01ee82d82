"""What is recorded inside `cond` and `while_loop` while a call is recorded for export.

The functions of a branch or loop run once each, one after the other on the same tape. A region is a
range of the tape; afterwards `Split` takes the ranges out and makes them the closed bodies of one
control op: what a body uses from outside becomes an operand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rabbet.base import tree
from rabbet.base.dtypes import promote, weak
from rabbet.base.errors import ExportError
from rabbet.base.spec import Spec
from rabbet.engine import site
from rabbet.export.merge import NUMBERS, Change, Undefined, as_tensor, filler, same_value
from rabbet.export.merge import merge as merge_leaves
from rabbet.graph.op import Op, make_op
from rabbet.graph.value import Value, lookup
from rabbet.recorder import Handle, Node, current, leaf_node, record
from rabbet.tensor import Tensor

Key = tuple[Any, int]  # a Node from outside or a Recorded, and which of its outputs


@dataclass(eq=False)
class Recorded:
    """One op of a recording: what is left of its node once the segment has been given up.

    The first `conditions` inputs of a control op are its own, all others go into its bodies.
    """

    op: Op
    attrs: dict[str, Any]
    form: tuple[int, ...]
    inputs: tuple[Key, ...]
    specs: tuple[Spec, ...]
    site: Any
    layer: str
    bodies: tuple[Inner, ...] = ()
    conditions: int = 0


@dataclass(eq=False)
class Inner:
    """The graph of a body: `ops` use its inputs, each other, and numbers."""

    inputs: list[Key]
    ops: list[Recorded]
    results: list[Key]


@dataclass(eq=False)
class Region:
    """A range of the tape that is the inside of a control op, and what comes out of it."""

    start: int
    stop: int
    results: list[Tensor]


@dataclass(eq=False)
class Held:
    """What the placeholder of a control op stands for."""

    name: str
    regions: list[Region]
    parameters: list[Tensor]


class Unvalued:
    """Stands where the buffer of an input would be: whoever looks at the value is refused."""

    def __init__(self, refuse: Callable[[], Any]) -> None:
        self.refuse = refuse

    @property
    def nbytes(self) -> Any:
        """Asked by whoever wants to read."""
        return self.refuse()


def _no_value() -> Any:
    raise ExportError("export: a value inside a loop was needed while recording")


class Regions:
    """The control ops of one recording."""

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}
        self.ops: list[Op] = []  # keeps the placeholders alive: their ids are keys
        self.dropped: list[tuple[int, int]] = []
        self.same: dict[Key, Key] = {}  # parameters that never change -> what they are
        self.own: list[tuple[int, set[int]]] = []
        self.private: list[Handle] = []  # handles of a region: what happens to them stays there

    # ---- recording a region --------------------------------------------------------------------

    def assigned(self, handle: Handle) -> None:
        """A handle gets another value: inside a region only one that was made there may."""
        if not self.own:
            return
        first, known = self.own[-1]
        if handle._node.sequence < first and id(handle) not in known:
            raise ExportError(
                "export: an update in place, under a condition on a tensor's value, of a tensor "
                "that was made before; give the new value a name instead"
                f"\n  at {site.describe(site.user_site())}"
            )

    @contextmanager
    def inside(self, state: Sequence[Any]) -> Iterator[Region]:
        """Record a region; `state` are handles that may be updated in place there."""
        tape = current()
        region = Region(tape.count, tape.count, [])
        self.own.append((Node().sequence, {id(x) for x in state}))
        self.private += [x for x in state if isinstance(x, Handle)]
        try:
            yield region
        finally:
            self.own.pop()
            region.stop = tape.count

    def drop(self, *regions: Region) -> None:
        """Forget what was recorded in these regions."""
        self.dropped += [(r.start, r.stop) for r in regions]

    def control(
        self, name: str, operands: Sequence[Tensor], held: Held, specs: Sequence[Spec]
    ) -> list[Tensor]:
        """Record the placeholder of a control op; its results."""
        op = make_op(
            _placeholder,
            name=name,
            kind="control",
            infer=lambda operands: tuple(specs),
            reference=None,
            public=False,
            differentiable=False,
        )
        self.ops.append(op)
        self.held[id(op)] = held
        made = record(op, list(operands), {}, (2 + len(operands),))
        return list(made) if isinstance(made, tuple) else [made]

    # ---- the explicit forms --------------------------------------------------------------------

    def cond(
        self,
        pred: Tensor,
        true_fn: Callable[..., Any],
        false_fn: Callable[..., Any],
        operands: Sequence[Any],
    ) -> Any:
        """rb.cond while recording."""
        pred = truth(pred)
        with self.inside(()) as first:
            if_true, form = tree.flatten(true_fn(*operands), registered=False)
        with self.inside(()) as second:
            if_false, other = tree.flatten(false_fn(*operands), registered=False)
        if form != other:
            raise ExportError(
                "export: cond: the branches give results of different forms"
                f"\n  at {site.describe(site.user_site())}"
            )
        count = len(if_true)
        names = ["the result" if count == 1 else f"result {i}" for i in range(count)]
        return tree.unflatten(form, self.choose(pred, first, second, if_true, if_false, names))

    def while_loop(
        self, cond_fn: Callable[[Any], Any], body_fn: Callable[[Any], Any], init: Any
    ) -> Any:
        """rb.while_loop while recording."""
        leaves, structure = tree.flatten(init, registered=False)
        state = [list(leaves)]

        def body() -> None:
            made = body_fn(tree.unflatten(structure, state[0]))
            found, form = tree.flatten(made, registered=False)
            if form != structure:
                raise ExportError("export: while_loop: the body gives a result of another form")
            state[0] = found

        self.iterate(
            lambda: cond_fn(tree.unflatten(structure, state[0])),
            body,
            leaves,
            lambda: state[0],
            lambda values: state.__setitem__(0, list(values)),
            [f"value {i}" for i in range(len(leaves))],
            frozenset(),
        )
        return tree.unflatten(structure, state[0])

    # ---- the two control ops -------------------------------------------------------------------

    def choose(
        self,
        pred: Tensor,
        first: Region,
        second: Region,
        if_true: Sequence[Any],
        if_false: Sequence[Any],
        names: Sequence[str],
        fills: bool = False,
    ) -> list[Any]:
        """A `cond` of two regions that give leaves; the leaves afterwards."""
        changes: list[Change] = []
        after: list[Any] = []
        for name, a, b in zip(names, if_true, if_false, strict=True):
            change = merge_leaves(name, a, b, fills)
            changes += [change] if isinstance(change, Change) else []
            after.append(change)
        if changes:
            first.results = [c.true for c in changes]
            second.results = [c.false for c in changes]
            specs = [c.true.spec for c in changes]
            made = iter(self.control("cond", [pred], Held("cond", [first, second], []), specs))
            after = [next(made) if isinstance(x, Change) else x for x in after]
        else:
            self.drop(first, second)
        return after

    def iterate(
        self,
        test: Callable[[], Any],
        body: Callable[[], None],
        before: Sequence[Any],
        get: Callable[[], Sequence[Any]],
        put: Callable[[Sequence[Any]], None],
        names: Sequence[str],
        fills: frozenset[str],
    ) -> None:
        """A `while_loop` over leaves, `before` at first; `get` gives and `put` takes them.

        The body is recorded with every tensor as a parameter. Where it turns a number into another
        one, the number becomes a parameter too, and the body is recorded again.
        """
        start = list(before)
        for _ in range(2 * len(before) + 2):
            params = [_parameter(x) if isinstance(x, Tensor) else x for x in start]
            given = [Tensor(p._node, p._index) if isinstance(p, Tensor) else p for p in params]
            put(given)  # handles of their own: they may be updated in place
            with self.inside(given) as tested:
                going = test()
                tested.results = [truth(as_tensor(going))]
            with self.inside(given) as done:
                body()
                ended = [_fitted(e, p) for e, p in zip(get(), params, strict=True)]
            again = [
                _widened(name, a, p, e, name in fills)
                for name, a, p, e in zip(names, start, params, ended, strict=True)
            ]
            if all(same_value(a, b) for a, b in zip(start, again, strict=True)):
                put(self._looped(start, params, ended, names, tested, done))
                return
            start = again
            self.drop(tested, done)
        raise ExportError("export: while: the values in the loop never settle on one dtype")

    def _looped(
        self,
        start: Sequence[Any],
        params: Sequence[Any],
        ended: Sequence[Any],
        names: Sequence[str],
        tested: Region,
        done: Region,
    ) -> list[Any]:
        """Record the op; the values after the loop."""
        after = list(start)
        moving = []
        for i, (name, a, p, e) in enumerate(zip(names, start, params, ended, strict=True)):
            if isinstance(a, Undefined):
                after[i] = Undefined(name, "it is first assigned inside a `while` over tensors")
            elif not isinstance(a, Tensor):
                continue
            elif same_value(p, e):
                self.same[p._node, p._index] = (a._node, a._index)
            else:
                done.results.append(e)
                moving.append(i)
        if not moving:
            raise ExportError(
                "export: a `while` over tensors in which no variable changes would never end"
                f"\n  at {site.describe(site.user_site())}"
            )
        held = Held("while_loop", [tested, done], [params[i] for i in moving])
        specs = [params[i].spec for i in moving]
        made = self.control("while_loop", [start[i] for i in moving], held, specs)
        for i, x in zip(moving, made, strict=True):
            after[i] = x
        return after


def _placeholder(operands: Sequence[Value]) -> Any:
    """Stands for a control op until its bodies are known."""


def _parameter(x: Tensor) -> Tensor:
    return Tensor(leaf_node(x.spec, Unvalued(_no_value)))


def _fitted(after: Any, param: Any) -> Any:
    """What a run of a loop gives, in the dtype of its parameter where that holds it."""
    if not isinstance(param, Tensor):
        return after
    if isinstance(after, Tensor):
        fits = promote(after.dtype, param.dtype) is param.dtype
    else:
        fits = isinstance(after, NUMBERS) and weak(after, param.dtype) is param.dtype
    return as_tensor(after, param) if fits else after


def _widened(name: str, before: Any, param: Any, after: Any, fills: bool) -> Any:
    """What a leaf must be at the start of a loop, given how one run changes it."""
    if same_value(param, after) or isinstance(after, Undefined):
        return before
    if isinstance(before, Undefined):
        if not fills:
            return before
        like = as_tensor(after)
        return filler(like) if isinstance(like, Tensor) else before
    if isinstance(before, Tensor):
        new = merge_leaves(name, param, after, False, "while")
        if isinstance(new, Change) and new.true.spec is not param.spec:
            return as_tensor(before, new.true)
        return before
    change = merge_leaves(name, before, after, False, "while")
    return change.true if isinstance(change, Change) else before


def truth(x: Any) -> Tensor:
    """The truth of one element, as a 0-d bool."""
    if x.size != 1:
        raise ExportError(
            f"export: the truth of {x.size} elements is ambiguous; use .any() or .all()"
            f"\n  at {site.describe(site.user_site())}"
        )
    flat = x if x.shape == () else lookup("reshape")(x, ())
    known: Tensor = flat if flat.dtype.kind == "b" else lookup("not_equal")(flat, 0)
    return known


# ---- afterwards ----------------------------------------------------------------------------------


class Split:
    """Takes the nodes of a tape apart: those outside all regions, and the bodies."""

    def __init__(self, nodes: Sequence[Node], regions: Regions, layers: Sequence[str]) -> None:
        self.nodes = nodes
        self.regions = regions
        self.layers = layers
        self.copies: dict[int, Recorded] = {}
        self.skips: dict[int, list[int]] = {}
        ranges = [(r.start, r.stop) for h in regions.held.values() for r in h.regions]
        for start, stop in (*ranges, *regions.dropped):
            self.skips.setdefault(start, []).append(stop)

    def key(self, node: Node, index: int) -> Key:
        """A node's output as others refer to it."""
        while (node, index) in self.regions.same:
            node, index = self.regions.same[node, index]
        return self.copies.get(id(node), node), index

    def gather(self, start: int, stop: int) -> list[Recorded]:
        """The ops of a range without what lies in regions inside it."""
        found: list[Recorded] = []
        place = start
        while place < stop:
            inside = [
                s
                for s in self.skips.get(place, ())
                if place < s <= stop and (place, s) != (start, stop)
            ]
            if inside:
                place = max(inside)
                continue
            node = self.nodes[place]
            held = self.regions.held.get(id(node.op))
            copy = self._control(place, held) if held is not None else self._plain(place)
            self.copies[id(node)] = copy
            found.append(copy)
            place += 1
        return found

    def _plain(self, place: int) -> Recorded:
        n = self.nodes[place]
        inputs = tuple(self.key(source, i) for source, i in n.inputs)
        layer = self.layers[place]
        return Recorded(n.op, dict(n.attrs), n.form, inputs, n.specs, n.site, layer)

    def _control(self, place: int, held: Held) -> Recorded:
        n = self.nodes[place]
        own = [self.key(source, i) for source, i in n.inputs]
        params = [(p._node, p._index) for p in held.parameters]
        inner = []
        for region in held.regions:
            ops = self.gather(region.start, region.stop)
            results = [self.key(t._node, t._index) for t in region.results]
            inner.append(Inner([], ops, results))
        captured = list(dict.fromkeys(k for body in inner for k in _free(body, params)))
        for body in inner:
            body.inputs = [*params, *captured]
        conditions = 0 if params else 1
        counts = (len(params), len(captured)) if params else (len(captured),)
        form = (*(1,) * conditions, *(2 + count for count in counts))
        inputs = (*own, *captured)
        layer = self.layers[place]
        op = lookup(held.name)
        return Recorded(op, {}, form, inputs, n.specs, n.site, layer, tuple(inner), conditions)


def _free(body: Inner, params: Sequence[Key]) -> Iterator[Key]:
    """What a body uses and does not have; numbers stay where they are."""
    own = {id(op) for op in body.ops}
    for key in (*(k for op in body.ops for k in op.inputs), *body.results):
        source = key[0]
        is_number = isinstance(source, Node) and source.number is not None
        if id(source) not in own and key not in params and not is_number:
            yield key
