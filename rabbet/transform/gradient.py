"""Reverse mode: from Values and their gradients to gradients of what they were made from.

One loop over Calls, last first. Takes and returns Values of one builder; runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.base import sizes
from rabbet.base.errors import GradientError
from rabbet.base.shapes import show
from rabbet.graph.value import Value, topological
from rabbet.ops.arithmetic import add
from rabbet.transform.rules import call_rule

Ref = tuple[int, int]


def gradient(
    outputs: Sequence[Value], output_gradients: Sequence[Value | None], wrt: Sequence[Value]
) -> list[Value | None]:
    """d sum(outputs * output_gradients) / d wrt: one for each of `wrt`, None without a path.

    An output whose gradient is None does not count. Raises GradientError where an output and its
    gradient differ in shape or dtype, or an op on the way has no gradient.
    """
    arrived: dict[Ref, Value] = {}

    def send(v: Value, g: Value) -> None:
        known = arrived.get(_ref(v))
        arrived[_ref(v)] = g if known is None else add(known, g)

    for y, g in zip(outputs, output_gradients, strict=True):
        if g is not None:
            _check(y, g)
            send(y, g)
    order = topological(y.call for y in outputs)
    needed = {id(v.call) for v in wrt}
    for call in order:
        if any(id(v.call) in needed for v in call.inputs):
            needed.add(id(call))
    for call in reversed(order):
        needs = [id(v.call) in needed and v.dtype.is_float for v in call.inputs]
        if not any(needs):
            continue
        visible = len(call.outputs) - call.op.residuals
        incoming = [arrived.get((id(call), i)) for i in range(visible)]
        found = call_rule(
            call.op, incoming, call.outputs, call.inputs, call.attrs, call.form, needs
        )
        for v, g, need in zip(call.inputs, found, needs, strict=True):
            if g is not None and need:
                send(v, g)
    return [arrived.get(_ref(v)) for v in wrt]


def _ref(v: Value) -> Ref:
    return id(v.call), v.index


def _check(y: Value, g: Value) -> None:
    same = y.ndim == g.ndim and all(
        sizes.same(d, e) or d == e for d, e in zip(y.shape, g.shape, strict=True)
    )
    if not same or y.dtype is not g.dtype:
        raise GradientError(
            f"gradient: the output is {y.dtype.name}{show(y.shape)}, its gradient "
            f"{g.dtype.name}{show(g.shape)}"
        )
