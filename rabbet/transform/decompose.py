"""Composites become primitives: a composite's body is run over the Values of a new graph.

Bodies call ops, which come back to the builder, so nested composites vanish on the way and equal
calls meet in the builder's table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base import sizes
from rabbet.base.dtypes import DType, float32
from rabbet.base.errors import RabbetError
from rabbet.base.sizes import Dim
from rabbet.expr import expr
from rabbet.graph.op import Op
from rabbet.graph.value import Attrs, Builder, Graph, Value, lookup
from rabbet.ops.index_maps import reshape
from rabbet.ops.order import BLOCKED, Blocks, blocks_of, reduce_blocks
from rabbet.transform.complex import in_parts

GIVEN = ("host", "control", "input")  # hold complex numbers as they lie in memory
MOVES = ("source", "movement", "gather")


class PrimitiveBuilder(Builder):
    """A Builder in which every op arrives decomposed, and moves that move nothing disappear."""

    def apply(self, op: Op, operands: Sequence[Any], attrs: Attrs, form: tuple[int, ...]) -> Any:
        """As Builder.apply; composites leave only their primitives behind."""
        outputs = self.expand_all(op, self._operands(op, operands), attrs, form)
        visible = len(outputs) - op.residuals
        return outputs[0] if visible == 1 else outputs[:visible]

    def expand_all(
        self, op: Op, values: tuple[Value, ...], attrs: Attrs, form: tuple[int, ...]
    ) -> tuple[Value, ...]:
        """All outputs of one op, residuals included, as primitives."""
        if any(v.dtype.is_half for v in values) and not op.holds_halves:
            return self._in_float32(op, values, attrs, form)
        return self._expand(op, values, attrs, form)

    def _in_float32(
        self, op: Op, values: tuple[Value, ...], attrs: Attrs, form: tuple[int, ...]
    ) -> tuple[Value, ...]:
        """An op on float16 or bfloat16: computed in float32, its results rounded once.

        What only moves elements moves them as they are.
        """
        if op.kind in MOVES:
            return self._expand(op, values, attrs, form)
        specs = op.infer_specs([v.spec for v in values], attrs, form)
        wide = tuple(self._cast(v, float32) if v.dtype.is_half else v for v in values)
        found = self._expand(op, wide, attrs, form)
        return tuple(
            self._cast(v, s.dtype) if s.dtype.is_half else v
            for v, s in zip(found, specs, strict=True)
        )

    def _cast(self, v: Value, dtype: DType) -> Value:
        made: Value = self.apply(lookup("cast"), (v,), {"dtype": dtype}, ())
        return made

    def _expand(
        self, op: Op, values: tuple[Value, ...], attrs: Attrs, form: tuple[int, ...]
    ) -> tuple[Value, ...]:
        if op.kind == "composite":
            return op.expand(self, values, attrs, form)
        if op.name == "reshape" and values[0].op.awaits:  # a reshape may be one of memory
            held = values[0].call
            moved = self.expand_all(op, held.inputs[:1], attrs, form)
            return self.expand_all(held.op, (*moved, *held.inputs[1:]), held.attrs, held.form)
        if op.name == "permute" and values[0].op is op:
            below, order = values[0].call, values[0].call.attrs["axes"]
            return self.expand_all(op, below.inputs, {"axes": _both(order, attrs["axes"])}, form)
        specs = op.infer_specs([v.spec for v in values], attrs, form)
        moves = op.kind == "movement" and not op.awaits
        if moves and _is_identity(values[0], specs[0].shape, attrs):
            return (values[0],)
        given = (*(v.spec for v in values), *specs)
        if op.kind == "complex" or op.kind not in GIVEN and any(s.dtype.kind == "c" for s in given):
            return in_parts(self, op, values, attrs, form, specs)
        if op.kind == "elementwise" and len(values) == 1 and _changes_nothing(op, values[0], attrs):
            return (values[0],)
        if op.kind == "reduce" and attrs["axis"] == () and specs[0].dtype is values[0].dtype:
            return (values[0],)
        if op.kind == "reduce" and op.lower in BLOCKED:
            blocks = blocks_of(values[0].shape, attrs["axis"])
            if blocks is not None:
                return (self._in_blocks(op, values[0], attrs, blocks, specs[0].shape),)
        return self.call(op, values, attrs, form, specs)

    def _in_blocks(
        self, op: Op, x: Value, attrs: Attrs, blocks: Blocks, shape: tuple[Dim, ...]
    ) -> Value:
        """A long reduction: that of its blocks, then that of their results."""
        part = reduce_blocks(x, blocks.axes, blocks.blocked, blocks.size, op.lower)
        left = [a for a in range(x.ndim) if a not in blocks.axes]
        again = tuple(1 + left.index(a) for a in attrs["axis"] if a not in blocks.axes)
        whole: Value = op(part, axis=(0, *again), keepdims=False)
        return reshape(whole, shape) if attrs["keepdims"] else whole


def decompose(graph: Graph) -> tuple[Graph, list[tuple[Value, ...]]]:
    """The graph in primitives, and the primitive values of every call of the old graph, in order.

    An error carries `position`, the site of the call it happened in.
    """
    builder = PrimitiveBuilder()
    made: dict[tuple[int, int], Value] = {}
    stages: list[tuple[Value, ...]] = []
    new = Graph()
    for v in graph.inputs:
        made[id(v.call), 0] = builder.input(v.spec)
        new.inputs.append(made[id(v.call), 0])
    for call in graph.calls():
        if call.op.kind == "input":
            continue
        builder.site = call.site
        values = tuple(made[id(v.call), v.index] for v in call.inputs)
        try:
            outputs = builder.expand_all(call.op, values, call.attrs, call.form)
        except RabbetError as error:
            error.position = call.site
            raise
        for i, v in enumerate(outputs):
            made[id(call), i] = v
        stages.append(outputs)
    new.outputs = [made[id(v.call), v.index] for v in graph.outputs]
    return new, stages


def _changes_nothing(op: Op, x: Value, attrs: Attrs) -> bool:
    """True for a cast to the dtype at hand and its like: the op's expression is its operand."""
    leaf = expr.acc(0, x.dtype)
    return op.lower(leaf, **attrs) is leaf


def _both(first: tuple[int, ...], then: tuple[int, ...]) -> tuple[int, ...]:
    """Two permutations as one, axes counted from 0."""
    return tuple(first[a] % len(first) for a in then)


def _is_identity(x: Value, shape: tuple[Any, ...], attrs: Attrs) -> bool:
    """True for a reshape, expand, slice, pad or permute that gives x itself."""
    if len(shape) != x.ndim or not all(map(sizes.same, shape, x.shape)):
        return False
    if "axes" in attrs and "window" not in attrs:
        return attrs["axes"] == tuple(range(x.ndim))
    if "step" in attrs:
        return all(s == 1 for s in attrs["step"])
    return True
