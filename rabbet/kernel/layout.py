"""In which order the axes of intermediate values lie in memory: a graph to a graph.

Kernels store a value row-major in the order of its axes, and read any permutation of it. So an
order is chosen by computing the value permuted: a contraction with the labels of its result in
another order, an elementwise call on permuted operands. Readers see it through a permutation back,
which index arithmetic follows. No sum changes its order: only axes of results move.

Two reasons move axes: an output of the graph is the value permuted, or the value is made by
convolutions, and channels last save more than other readers lose (`_gains`). Inputs and outputs of
the graph lie as they did.
"""

from __future__ import annotations

from rabbet.base.sizes import Dim, hint
from rabbet.graph.value import Call, Graph, Value, lookup
from rabbet.kernel import access
from rabbet.kernel.group import same_shape
from rabbet.transform.decompose import PrimitiveBuilder

Order = tuple[int, ...]  # axis i in memory is axis order[i] of the value
MOVED = ("contract", "elementwise")
WINDOWS = ("pad", "window", "slice", "reshape")  # show axes in their order
LAST = (0, 2, 3, 1)  # channels last
FEWEST_FILTERS = 32  # fewer leave lanes empty
# Cycles for an element, as measured: to turn sums in registers (22 for 16), to read it alone.
TURNED, ALONE = 1.4, 4.0


def laid_out(graph: Graph) -> Graph:
    """The same graph with chosen orders; itself where all stay as they are."""
    calls = graph.calls()
    if not any(c.op.kind == "contract" for c in calls):
        return graph
    orders = _chosen(graph, calls)
    return _Rewriting(graph, orders).run(calls) if orders else graph


class _Classes:
    """Results of contractions and elementwise calls that must lie alike: those of one shape that
    are computed from each other at one point, and what is computed from windows of an image (a
    maximum over them, say) like the image. A class is known by its first call's id.
    """

    def __init__(self, calls: list[Call]) -> None:
        self.above: dict[int, int] = {}
        self.members: dict[int, list[Call]] = {}
        for call in calls:
            if call.op.kind not in MOVED or len(call.outputs) != 1:
                continue
            self.above[id(call)] = id(call)
            self.members[id(call)] = [call]
            for x in call.inputs if call.op.kind == "elementwise" else ():
                image = _image(x)
                if id(image.call) in self.above and same_shape(x.shape, call.specs[0].shape):
                    self._join(id(image.call), id(call))

    def _join(self, a: int, b: int) -> None:
        a, b = self.of(a), self.of(b)
        if a != b:
            self.above[b] = a
            self.members[a] += self.members.pop(b)

    def of(self, call: int) -> int:
        """The class of a call by its id, -1 where it has none."""
        if call not in self.above:
            return -1
        while self.above[call] != call:
            call = self.above[call]
        return call


def _chosen(graph: Graph, calls: list[Call]) -> dict[int, Order]:
    """The order of each class that is to lie in another one, by call."""
    classes = _Classes(calls)
    chosen: dict[int, Order] = {c: LAST for c, gain in _gains(classes, calls).items() if gain > 0}
    chosen |= _of_outputs(graph, classes)
    fixed = {classes.of(id(access.storage(v).call)) for v in graph.outputs}
    return {
        id(call): order
        for c, order in chosen.items()
        if c not in fixed
        for call in classes.members[c]
    }


def _of_outputs(graph: Graph, classes: _Classes) -> dict[int, Order]:
    """Classes with a contraction that are stored permuted, as outputs of the graph: so they need
    no other memory.
    """
    found: dict[int, set[Order]] = {}
    for v in graph.outputs:
        base = access.storage(v)
        if base.op.name == "permute":
            axes = base.call.attrs["axes"]
            order = tuple(a % len(axes) for a in axes)
            found.setdefault(classes.of(id(base.call.inputs[0].call)), set()).add(order)
    return {
        c: next(iter(orders))
        for c, orders in found.items()
        if c >= 0 and len(orders) == 1 and any(m.op.kind == "contract" for m in classes.members[c])
    }


def _gains(classes: _Classes, calls: list[Call]) -> dict[int, float]:
    """About how many cycles it saves that a class lies with its channels last, by class.

    A convolution has its filters in the lanes of a tile, so each element is spared being turned;
    kernels that are no contractions read each element alone. Contractions gain or lose nothing by
    the order of what they read, but for sums over images, and groups, which want lines.
    """
    gains: dict[int, float] = {}
    for call in calls:
        here = classes.of(id(call))
        if here >= 0 and _is_convolution(call):
            size = hint(call.specs[0].elements)
            gains[here] = gains.get(here, 0) + TURNED * size
    for call in calls:
        if call.op.kind == "movement" and not _is_memory(call):
            continue
        for x in call.inputs:
            c = classes.of(id(_below(x).call))
            if c in gains and c != classes.of(id(call)) and not _reads_any_order(call, x):
                gains[c] -= ALONE * hint(x.spec.elements)
    return gains


def _is_memory(call: Call) -> bool:
    """Does a movement read memory as it lies: a reshape of a value?"""
    return access.is_alias(call.outputs[0])


def _below(v: Value) -> Value:
    """What a value is a movement of."""
    while v.op.kind == "movement" and not access.is_alias(v):
        v = v.call.inputs[0]
    return v


def _image(v: Value) -> Value:
    """The image of whose lines and columns a value is one element for each window; itself if it is
    no such value.
    """
    below = v
    while below.op.name in WINDOWS and same_shape(below.shape[:2], v.shape[:2]):
        below = below.call.inputs[0]
    is_image = v.ndim == below.ndim == len(LAST) and same_shape(below.shape[:2], v.shape[:2])
    return below if is_image else v


def _is_convolution(call: Call) -> bool:
    """Is axis 1 of the result that of one operand's many filters, all others the other one's?"""
    if call.op.kind != "contract" or len(call.attrs["out_axes"]) != len(LAST):
        return False
    filters = call.attrs["out_axes"][1]
    sides = set(call.attrs["a_axes"]), set(call.attrs["b_axes"])
    of_filters, of_image = sides if filters in sides[0] else sides[::-1]
    others = set(call.attrs["out_axes"]) - {filters}
    is_apart = filters not in of_image and others <= of_image and not others & of_filters
    return is_apart and hint(call.specs[0].shape[1]) >= FEWEST_FILTERS


def _reads_any_order(call: Call, operand: Value) -> bool:
    """Is the call a contraction that sums over the operand's channels, and not over images?"""
    if call.op.kind != "contract":
        return False
    a_axes, b_axes, out = (call.attrs[name] for name in ("a_axes", "b_axes", "out_axes"))
    labels = a_axes if call.inputs[0] is operand else b_axes
    groups = set(a_axes) & set(b_axes) & set(out)
    return labels[0] in out and not groups


class _Rewriting:
    """One graph being made anew, some of its calls permuted."""

    def __init__(self, graph: Graph, orders: dict[int, Order]) -> None:
        self.graph, self.orders = graph, orders
        self.builder = PrimitiveBuilder()
        self.made: dict[tuple[int, int], Value] = {}

    def run(self, calls: list[Call]) -> Graph:
        """The new graph, of `calls`."""
        builder, new = self.builder, Graph()
        for v in self.graph.inputs:
            self.made[id(v.call), 0] = builder.input(v.spec)
            new.inputs.append(self.made[id(v.call), 0])
        for call in calls:
            if call.op.kind == "input":
                continue
            builder.site = call.site
            for i, v in enumerate(self._call(call)):
                self.made[id(call), i] = v
        new.outputs = [self._new(v) for v in self.graph.outputs]
        return new

    def _new(self, v: Value) -> Value:
        return self.made[id(v.call), v.index]

    def _call(self, call: Call) -> tuple[Value, ...]:
        inputs = tuple(self._new(v) for v in call.inputs)
        order = self.orders.get(id(call))
        if order is None:
            if call.op.name == "permute":
                return self.builder.expand_all(call.op, inputs, call.attrs, call.form)
            return self.builder.call(call.op, inputs, call.attrs, call.form, call.specs)
        attrs = call.attrs
        if call.op.kind == "contract":
            labels = attrs["out_axes"]
            attrs = {**attrs, "out_axes": tuple(labels[a] for a in order)}
        else:
            shape = call.specs[0].shape
            inputs = tuple(self._operand(x, shape, order) for x in inputs)
        (made,) = self.builder.expand_all(call.op, inputs, attrs, call.form)
        back = tuple(order.index(a) for a in range(len(order)))
        return (self._permuted(made, back),)

    def _operand(self, x: Value, shape: tuple[Dim, ...], order: Order) -> Value:
        """An operand of an elementwise call whose result of `shape` is made in `order`."""
        if not x.shape:
            return x
        if x.ndim < len(shape):
            wide = (*(1,) * (len(shape) - x.ndim), *x.shape)
            x = self.builder.apply(lookup("reshape"), (x,), {"shape": wide}, ())
        return self._permuted(x, order)

    def _permuted(self, x: Value, order: Order) -> Value:
        made: Value = self.builder.apply(lookup("permute"), (x,), {"axes": order}, ())
        return made
