"""Recipes: what an op's gradient rule records, found once by running it over opaque Values.

`backward()` then follows the recipe without asking the rule again. A rule sees nothing but op,
attributes and Specs (that is what lets it run over Values), so these are all that a recipe depends
on; the key is written down in recorder/native/recipe.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base.spec import Spec, intern
from rabbet.graph.op import Op
from rabbet.graph.value import Builder, Call, Value, registry, topological
from rabbet.recorder import Handle, Node, Recipe, leaf_node, prepared
from rabbet.transform.gradient import call_rule

ARRIVED, OUTPUT, INPUT, MADE, NUMBER = range(5)  # as in recorder/native/recipe.h
Ingredient = tuple[int, Any, Any]


def learn(node: Node, arrived: Sequence[Spec | None]) -> Recipe | None:
    """The recipe of a node's rule for gradients of these Specs, without the parts that no gradient
    needs; None where the rule must see tensors, or the op was made for one call.
    """
    op: Op = node.op
    if op.is_opaque or op.name not in registry or registry[op.name] is not op:
        return None
    builder = Builder()
    known: dict[Value, Ingredient] = {}

    def stand_in(kind: int, number: int, spec: Spec | None) -> Value | None:
        if spec is None:
            return None
        value = builder.input(spec)
        known[value] = (kind, number, 0)
        return value

    sources = [source for source, _ in node.inputs]
    gs = [stand_in(ARRIVED, i, s) for i, s in enumerate(arrived)]
    ys = [stand_in(OUTPUT, i, s) for i, s in enumerate(node.specs)]
    xs = [stand_in(INPUT, i, s.specs[at]) for i, (s, at) in enumerate(node.inputs)]
    needs = [s.requires_grad for s in sources]
    grads = call_rule(op, gs, ys, xs, node.attrs, node.form, needs)
    wanted = [g if need else None for g, need in zip(grads, needs, strict=True)]
    steps: list[tuple[Any, ...]] = []
    results = {g for g in wanted if g is not None}
    # In the operands' order: a set's differs from process to process, and with it a program's key.
    for call in topological(g.call for g in wanted if g is not None):
        if call.outputs[0] in known or _is_number(call) and results.isdisjoint(call.outputs):
            continue
        if _is_same(call) and call.inputs[0] in known:
            known[call.outputs[0]] = known[call.inputs[0]]
            continue
        steps.append(_step(call, known))
        for i, value in enumerate(call.outputs):
            known[value] = (MADE, len(steps) - 1, i)
    return Recipe(tuple(steps), tuple(None if g is None else known[g] for g in wanted))


def _is_number(call: Call) -> bool:
    return call.op.name == "constant"


def _is_same(call: Call) -> bool:
    """True where the result is the operand: a rule written for all dtypes and shapes needed no
    conversion here.
    """
    same = ("cast", "expand", "reshape")
    return call.op.name in same and call.outputs[0].spec == call.inputs[0].spec


def _step(call: Call, known: dict[Value, Ingredient]) -> tuple[Any, ...]:
    """(op, prepared, attrs, form, operands) of one Call."""
    operands: list[Ingredient] = []
    for value in call.inputs:
        if value in known:
            operands.append(known[value])
        else:
            spec = intern((), value.dtype)
            operands.append((NUMBER, value.call.attrs["value"], (spec,)))
    kinds = tuple(_placeholder(value.spec) for value in call.inputs)
    found = prepared(call.op, kinds, call.attrs, call.form)
    return (call.op, found, call.attrs, call.form, tuple(operands))


def _placeholder(spec: Spec) -> Handle:
    """Something of this Spec; it has no value."""
    return Handle(leaf_node(intern(spec.shape, spec.dtype, spec.device), None))
