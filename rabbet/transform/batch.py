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
from rabbet.ops.moves import aligned

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
        return _outputs(op.batch(size, flags, *op.arrange(operands, form), **attrs)), BATCHED
    if op.body is not None:
        return _through_body(op, size, operands, states, attrs, form)
    if BATCHED not in states:
        return _plain(op, operands, attrs, form), max(states, default=PLAIN)
    flags = [s == BATCHED for s in states]
    rule = _KINDS.get(op.kind)
    if rule is None:
        raise RabbetError(f"vmap: the op {op.name} has no batching rule")
    return _outputs(rule(op, size, flags, operands, attrs, form)), BATCHED


def _outputs(found: Any) -> list[Operand]:
    return list(found) if isinstance(found, tuple | list) else [found]


def _plain(
    op: Op, operands: Sequence[Operand], attrs: Attrs, form: tuple[int, ...]
) -> list[Operand]:
    """The op as it is, its residuals included."""
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


def leading(x: Operand, flag: bool, size: int) -> Operand:
    """`x` with the axis of examples, whether it had one or not."""
    return x if flag else repeated(x, size)


# ---- rules of kinds ------------------------------------------------------------------------------

Rule = Callable[[Op, int, list[bool], Sequence[Operand], Attrs, tuple[int, ...]], Any]


def _elementwise(
    op: Op,
    size: int,
    flags: list[bool],
    operands: Sequence[Operand],
    attrs: Attrs,
    form: tuple[int, ...],
) -> Any:
    ndim = max(x.ndim - f for x, f in zip(operands, flags, strict=True))
    level = tuple(aligned(x, f, ndim) for x, f in zip(operands, flags, strict=True))
    return level[0].emit(op, level, attrs, form)


def _reduce(
    op: Op,
    size: int,
    flags: list[bool],
    operands: Sequence[Operand],
    attrs: Attrs,
    form: tuple[int, ...],
) -> Any:
    axes = tuple(a + 1 for a in attrs["axis"])
    return operands[0].emit(op, tuple(operands), {**attrs, "axis": axes}, form)


def _contract(
    op: Op,
    size: int,
    flags: list[bool],
    operands: Sequence[Operand],
    attrs: Attrs,
    form: tuple[int, ...],
) -> Any:
    names = ("a_axes", "b_axes", "out_axes")
    label = 1 + max((x for name in names for x in attrs[name]), default=-1)
    changed = dict(attrs)
    for name, flag in zip(names, (*flags, True), strict=True):
        if flag:
            changed[name] = (label, *attrs[name])
    return operands[0].emit(op, tuple(operands), changed, form)


def _stacked(
    op: Op,
    size: int,
    flags: list[bool],
    operands: Sequence[Operand],
    attrs: Attrs,
    form: tuple[int, ...],
) -> Any:
    """Ops on the last axes of stacks: one more leading axis is a taller stack."""
    tall = tuple(leading(x, f, size) for x, f in zip(operands, flags, strict=True))
    axis = attrs.get("axis")
    if isinstance(axis, int):
        attrs = {**attrs, "axis": axis % (tall[0].ndim - 1) + 1}
    return tall[0].emit(op, tall, attrs, form)


_KINDS: dict[str, Rule] = {
    "elementwise": _elementwise,
    "complex": _elementwise,
    "reduce": _reduce,
    "contract": _contract,
    "sort": _stacked,
    "host": _stacked,
}
