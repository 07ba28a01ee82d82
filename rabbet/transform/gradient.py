"""Reverse mode: the loop, what it does to a graph, and the gradient rule of one op.

The loop serves graphs (`gradient`) and recorded nodes (engine/backward.py) alike; what is recorded
on a tape has the same loop in C++ (recorder/native/pull.cpp). A rule is called on Values or on
Tensors, however the op gives its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rabbet.base import sizes
from rabbet.base.errors import GradientError
from rabbet.graph.op import Op
from rabbet.graph.value import Attrs, Builder, Call, Value, lookup, topological

Port = tuple[Any, int]  # a step, and the number of one of its outputs


def reverse(
    steps: Iterable[tuple[Any, int]],
    seeds: Iterable[tuple[Port, Any]],
    rule: Callable[[Any, list[Any]], Iterable[tuple[Port, Any]]],
) -> dict[Port, Any]:
    """Send gradients from the seeds back through `steps`; what arrived at anything else.

    Steps are (step, number of outputs), latest first: what a step went into comes before it, so its
    gradients are complete when `rule(step, gradients)` is asked for those of what it was made from.
    A gradient that did not come is None; a step that got none is passed over.
    """
    arrived: dict[Port, Any] = {}

    def send(port: Port, g: Any) -> None:
        arrived[port] = arrived[port] + g if port in arrived else g

    for port, g in seeds:
        send(port, g)
    for step, outputs in steps:
        incoming = [arrived.pop((step, i), None) for i in range(outputs)]
        if any(g is not None for g in incoming):
            for port, g in rule(step, incoming):
                send(port, g)
    return arrived


def gradient(
    outputs: Sequence[Value], grads: Sequence[Value | None], wrt: Sequence[Value]
) -> list[Value | None]:
    """d sum(outputs * grads) / d wrt as Values of the same builder; None where there is no path.

    An output whose gradient is None does not count; the others have the output's shape.
    """
    pairs = [(y, g) for y, g in zip(outputs, grads, strict=True) if g is not None]
    for y, g in pairs:
        if g.ndim != y.ndim or not all(map(sizes.equal, g.shape, y.shape)):
            raise GradientError(f"gradient: {g.spec} was given for an output {y.spec}")
    order = topological(y.call for y in outputs)
    wanted = {x.call for x in wrt}
    needed = set(wanted)
    for call in order:
        if any(v.call in needed for v in call.inputs):
            needed.add(call)
    found: dict[Port, Any] = {}

    def rule(call: Call, gs: list[Any]) -> Iterable[tuple[Port, Any]]:
        if call in wanted:
            found.update(((call, i), g) for i, g in enumerate(gs) if g is not None)
        needs = [v.call in needed and v.dtype.is_inexact for v in call.inputs]
        if not any(needs):
            return
        made = call_rule(call.op, gs, call.outputs, call.inputs, call.attrs, call.form, needs)
        for v, g, need in zip(call.inputs, made, needs, strict=True):
            if g is not None and need:
                yield (v.call, v.index), g

    steps = [(call, len(call.outputs)) for call in reversed(order) if call in needed]
    reverse(steps, [((y.call, y.index), g) for y, g in pairs if y.call in needed], rule)
    return [found.get((x.call, x.index)) for x in wrt]


def call_rule(
    op: Op,
    g: Sequence[Any],
    outputs: Sequence[Any],
    inputs: Sequence[Any],
    attrs: Attrs,
    form: tuple[int, ...],
    needs: Sequence[bool],
) -> list[Any]:
    """Gradients of the flat inputs (None: none), given gradients `g` of all outputs (None: none).

    Rules know the visible outputs; where a gradient arrives at a residual (gradients of gradients),
    or a rule gives NotImplemented, the body is differentiated.
    """
    if all(x is None for x in g) or not op.differentiable:
        return [None] * len(inputs)
    visible = len(g) - op.residuals
    if op.grad is None or any(x is not None for x in g[visible:]):
        return _through_body(op, g, inputs, attrs, form, needs)
    gradient = g[0] if visible == 1 else tuple(g[:visible])
    forward = outputs[0] if len(outputs) == 1 else tuple(outputs)
    # The gradient of a complex number is dL/dRe + i dL/dIm, so that of a holomorphic f is
    # g * conj(f'): the rule for real numbers between two conjugations.
    turn = not op.wirtinger and any(_is_complex(x) for x in (*g, *inputs))
    if turn:
        gradient = _conjugated(gradient)
    found = op.grad(gradient, forward, *op.arrange(inputs, form), **attrs)
    if found is NotImplemented:
        return _through_body(op, g, inputs, attrs, form, needs)
    if not isinstance(found, tuple | list):
        found = (found,)
    flat = op.flatten(found, form)
    if turn:
        flat = [_conjugated(f) for f in flat]
    if len(flat) != len(inputs):
        raise GradientError(
            f"{op.name}: its gradient rule gave {len(flat)} gradients for {len(inputs)} operands"
        )
    if op.kind in ("elementwise", "complex"):
        flat = [
            f if f is None or f.shape == x.shape else sum_to(f, x.shape)
            for f, x in zip(flat, inputs, strict=True)
        ]
    return flat


def call_rule_sparingly(
    op: Op,
    g: Sequence[Any],
    outputs: Sequence[Any],
    inputs: Sequence[Any],
    attrs: Attrs,
    form: tuple[int, ...],
    needs: Sequence[bool],
) -> list[Any]:
    """As `call_rule`, touching nothing but what the gradients in `needs` are made of."""
    builder = Builder()

    def stand_in(x: Any) -> Value | None:
        return None if x is None else builder.input(x.spec)

    gs, ys, xs = ([stand_in(x) for x in part] for part in (g, outputs, inputs))
    found = call_rule(op, gs, ys, xs, attrs, form, needs)
    wanted = [v if need else None for v, need in zip(found, needs, strict=True)]
    pairs = zip((*gs, *ys, *xs), (*g, *outputs, *inputs), strict=True)
    home = next(x for x in g if x is not None)
    return replay(wanted, {v: x for v, x in pairs if v is not None}, home)


def _is_complex(x: Any) -> bool:
    return x is not None and x.dtype.kind == "c"


def _conjugated(g: Any) -> Any:
    if isinstance(g, tuple):
        return tuple(_conjugated(x) for x in g)
    return lookup("conj")(g) if _is_complex(g) else g


def sum_to(g: Any, shape: tuple[Any, ...]) -> Any:
    """`g` summed over the axes along which an operand of `shape` was stretched."""
    lead = g.ndim - len(shape)
    axes = [a for a in range(g.ndim) if a < lead or shape[a - lead] == 1 and g.shape[a] != 1]
    summed = lookup("reduce_sum")(g, axis=tuple(axes), keepdims=True)
    return lookup("reshape")(summed, shape=shape)


def _through_body(
    op: Op,
    g: Sequence[Any],
    inputs: Sequence[Any],
    attrs: Attrs,
    form: tuple[int, ...],
    needs: Sequence[bool],
) -> list[Any]:
    """The gradient of a composite without a rule: that of its decomposition."""
    if op.body is None:
        raise GradientError(f"{op.name} has no gradient")
    builder = Builder()
    xs = [builder.input(x.spec) for x in inputs]
    outputs = op.expand(builder, xs, attrs, form)[: len(g)]
    used = [(y, grad) for y, grad in zip(outputs, g, strict=True) if grad is not None]
    gs = [builder.input(y.spec) for y, _ in used]
    wrt = [x for x, need in zip(xs, needs, strict=True) if need]
    grads = gradient([y for y, _ in used], gs, wrt)
    bindings = dict(zip(xs, inputs, strict=True)) | dict(zip(gs, (h for _, h in used), strict=True))
    home = next(h for _, h in used)
    made = iter(replay(grads, bindings, home))
    return [next(made) if need else None for need in needs]


def replay(values: Sequence[Value | None], bindings: dict[Value, Any], home: Any) -> list[Any]:
    """Emit the Calls behind `values` where `home` lives; `bindings` says what the graph inputs are.

    Only visible outputs come back from emit; a rule that was given a residual reads it from the
    body.
    """
    made: dict[tuple[int, int], Any] = {(id(v.call), v.index): h for v, h in bindings.items()}
    for call in topological(v.call for v in values if v is not None):
        if (id(call), 0) in made:
            continue
        operands = [made[id(v.call), v.index] for v in call.inputs]
        out = home.emit(call.op, operands, call.attrs, call.form)
        for i, h in enumerate(out if isinstance(out, tuple) else (out,)):
            made[id(call), i] = h
        if call.op.residuals:
            for i in range(len(call.outputs) - call.op.residuals, len(call.outputs)):
                made[id(call), i] = made[id(call), 0].sibling(i)
    return [None if v is None else made[id(v.call), v.index] for v in values]
