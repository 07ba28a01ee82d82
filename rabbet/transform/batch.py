"""Batching: from an op on one example to the same op on many at once, for `vmap`.

A batched operand has one leading axis more than the op's own words say. The rule of a kind of op
says what becomes of it; a primitive whose attributes name axes has a rule in its declaration
(`@op.batching`), and a composite follows from its body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rabbet.base.errors import RabbetError
from rabbet.base.spec import Spec
from rabbet.graph.op import Op
from rabbet.graph.value import Attrs, Builder, lookup, topological
from rabbet.ops.index_maps import aligned

PLAIN, BATCHED, DRAWN = range(3)  # DRAWN: the offset of a draw that each example makes for itself
Operand = Any  # a Value or Tensor


def batch_call(
    op: Op,
    size: int,
    operands: Sequence[Operand],
    states: Sequence[int],
    attrs: Attrs,
    form: tuple[int, ...],
) -> tuple[list[Operand], int]:
    """All outputs (residuals last) of `op` for `size` examples, and their state.

    `operands` have their final dtypes; those whose state is BATCHED have the examples along axis 0.
    """
    if op.batch is not None and (BATCHED in states or op.kind == "source" and any(states)):
        flags = [s != PLAIN for s in states]
        found = op.batch(size, flags, *op.arrange(operands, form), **attrs)
        if found is not NotImplemented:
            return _outputs(found), BATCHED
    if op.body is not None:
        return _through_body(op, size, operands, states, attrs, form)
    if BATCHED not in states:
        return _emitted(op, operands, attrs, form), max(states, default=PLAIN)
    flags = [s == BATCHED for s in states]
    rule = _KINDS.get(op.kind)
    if rule is None:
        raise RabbetError(f"vmap: the op {op.name} has no batching rule")
    given, changed = rule(size, flags, operands, attrs)
    return _emitted(op, given, changed, form), BATCHED


def _outputs(found: Any) -> list[Operand]:
    return list(found) if isinstance(found, tuple | list) else [found]


def _emitted(
    op: Op, operands: Sequence[Operand], attrs: Attrs, form: tuple[int, ...]
) -> list[Operand]:
    """All outputs of the op on these operands, its residuals included."""
    found = _outputs(operands[0].emit(op, tuple(operands), attrs, form))
    hidden = range(len(found), len(found) + op.residuals)
    return [*found, *(found[0].sibling(i) for i in hidden)]


def _through_body(
    op: Op,
    size: int,
    operands: Sequence[Operand],
    states: Sequence[int],
    attrs: Attrs,
    form: tuple[int, ...],
) -> tuple[list[Operand], int]:
    builder = Builder()
    xs = [builder.input(_one(x, s)) for x, s in zip(operands, states, strict=True)]
    outputs = op.expand(builder, xs, attrs, form)
    made: dict[tuple[int, int], tuple[Operand, int]] = {
        (id(v.call), v.index): pair
        for v, pair in zip(xs, zip(operands, states, strict=True), strict=True)
    }
    home = operands[0]
    for call in topological(v.call for v in outputs):
        if (id(call), 0) in made:
            continue
        given = [made[id(v.call), v.index] for v in call.inputs]
        if not given:
            found, state = _outputs(home.emit(call.op, (), call.attrs, call.form)), PLAIN
        else:
            xs_given, states_given = [x for x, _ in given], [s for _, s in given]
            found, state = batch_call(call.op, size, xs_given, states_given, call.attrs, call.form)
        for index, x in enumerate(found):
            made[id(call), index] = (x, state)
    pairs = [made[id(v.call), v.index] for v in outputs]
    if all(state == PLAIN for _, state in pairs):
        return [x for x, _ in pairs], PLAIN
    return [x if s == BATCHED else repeated(x, size) for x, s in pairs], BATCHED


def _one(x: Operand, state: int) -> Spec:
    """The Spec of one example."""
    return Spec(x.shape[1:], x.dtype, x.device) if state == BATCHED else x.spec


def repeated(x: Operand, size: int) -> Operand:
    """The same for every example: (...) -> (size, ...)."""
    stretched: Operand = lookup("expand")(x, shape=(size, *x.shape))
    return stretched


# ---- rules of kinds ------------------------------------------------------------------------------

# (size, flags, operands, attributes) -> operands and attributes of the same op for all examples
Rule = Callable[[int, list[bool], Sequence[Operand], Attrs], tuple[Sequence[Operand], Attrs]]


def _elementwise(
    size: int, flags: list[bool], operands: Sequence[Operand], attrs: Attrs
) -> tuple[Sequence[Operand], Attrs]:
    ndim = max(x.ndim - f for x, f in zip(operands, flags, strict=True))
    return [aligned(x, f, ndim) for x, f in zip(operands, flags, strict=True)], attrs


def _reduce(
    size: int, flags: list[bool], operands: Sequence[Operand], attrs: Attrs
) -> tuple[Sequence[Operand], Attrs]:
    return operands, {**attrs, "axis": tuple(a + 1 for a in attrs["axis"])}


def _contract(
    size: int, flags: list[bool], operands: Sequence[Operand], attrs: Attrs
) -> tuple[Sequence[Operand], Attrs]:
    names = ("a_axes", "b_axes", "out_axes")
    label = 1 + max((x for name in names for x in attrs[name]), default=-1)
    pairs = zip(names, (*flags, True), strict=True)
    return operands, {**attrs, **{n: (label, *attrs[n]) for n, flag in pairs if flag}}


def _stacked(
    size: int, flags: list[bool], operands: Sequence[Operand], attrs: Attrs
) -> tuple[Sequence[Operand], Attrs]:
    """Ops on the last axes of stacks: one more leading axis is a taller stack."""
    tall = [x if f else repeated(x, size) for x, f in zip(operands, flags, strict=True)]
    axis = attrs.get("axis")
    if isinstance(axis, int):
        attrs = {**attrs, "axis": axis % (tall[0].ndim - 1) + 1}
    return tall, attrs


_KINDS: dict[str, Rule] = {
    "elementwise": _elementwise,
    "complex": _elementwise,
    "reduce": _reduce,
    "contract": _contract,
    "sort": _stacked,
    "host": _stacked,
}
