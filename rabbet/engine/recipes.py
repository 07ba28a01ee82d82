"""Recipes: what an op's gradient rule records, found once by running it over opaque Values.

`backward()` then follows the recipe without asking the rule again. A rule sees nothing but op,
attributes and Specs (that is what lets it run over Values), so these are all that a recipe depends
on; the key is written down in recorder/native/recipe.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base.spec import Spec, intern
from rabbet.engine.outline import ARRIVED, INPUT, OUTPUT, Ingredient, Outline, Step, steps_of
from rabbet.graph.op import Op
from rabbet.graph.value import Builder, Value, registry
from rabbet.recorder import Handle, Node, Recipe, leaf_node, prepared
from rabbet.transform.gradient import call_rule


def learn(node: Node, arrived: Sequence[Spec | None]) -> Recipe | None:
    """The recipe of a node's rule for gradients of these Specs, without the parts that no gradient
    needs; None where the rule must see tensors, or the op was made for one call.
    """
    if not follows_from_specs(node.op):
        return None
    parts, wanted = _asked(node, arrived)
    known: dict[Value, Ingredient] = {
        value: (kind, number, 0)
        for kind, values in zip((ARRIVED, OUTPUT, INPUT), parts, strict=True)
        for number, value in enumerate(values)
        if value is not None
    }
    steps, results = steps_of(known, wanted)
    return Recipe(tuple(_prepared(step) for step in steps), results)


def outline(node: Node, arrived: Sequence[Spec | None]) -> Outline:
    """The same as an Outline of gradients, outputs and operands, one after the other."""
    (gs, ys, xs), wanted = _asked(node, arrived)
    return Outline([*gs, *ys, *xs], wanted)


def follows_from_specs(op: Op) -> bool:
    """True where the rules of an op are known by it, its attributes and the operands' Specs."""
    return not op.is_opaque and registry.get(op.name) is op


def _asked(
    node: Node, arrived: Sequence[Spec | None]
) -> tuple[tuple[list[Value | None], ...], list[Value | None]]:
    """Stand-ins for gradients, outputs and operands, and what the rule makes of them."""
    builder = Builder()
    sources = [source for source, _ in node.inputs]
    gs = [None if s is None else builder.input(s) for s in arrived]
    ys = [builder.input(s) for s in node.specs]
    xs = [builder.input(s.specs[at]) for s, at in node.inputs]
    needs = [s.requires_grad for s in sources]
    grads = call_rule(node.op, gs, ys, xs, node.attrs, node.form, needs)
    wanted = [g if need else None for g, need in zip(grads, needs, strict=True)]
    return (gs, [*ys], [*xs]), wanted


def _prepared(step: Step) -> tuple[Any, ...]:
    """(op, prepared, attrs, form, operands) of one Call."""
    call, operands = step
    kinds = tuple(_placeholder(value.spec) for value in call.inputs)
    found = prepared(call.op, kinds, call.attrs, call.form)
    return (call.op, found, call.attrs, call.form, operands)


def _placeholder(spec: Spec) -> Handle:
    """Something of this Spec; it has no value."""
    return Handle(leaf_node(intern(spec.shape, spec.dtype, spec.device), None))
