"""Reverse mode over recorded nodes: `backward()` records gradient ops on the same tape.

What is recorded on a tape goes through `recorder.pull`, which follows recipes (recipes.py). The
loop in Python (transform/gradient.py) serves nodes on no tape, inside vmap; hooks; and, with opaque
Values, the dry run that finds which forward values gradients will need (residuals.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rabbet.base import shapes
from rabbet.base.errors import DroppedValue, GradientError
from rabbet.engine import hooks, recipes, site
from rabbet.engine.outline import Memo, Outline
from rabbet.graph.value import lookup
from rabbet.recorder import Autocast, GradMode, Handle, Node, current, pull
from rabbet.transform.gradient import call_rule, call_rule_sparingly, reverse

Ref = tuple[Node, int]
Wrap = Callable[[Node, int], Any]


def reverse_nodes(
    seeds: Iterable[tuple[Ref, Any]],
    wrap: Wrap,
    within: Callable[[Node], bool],
    visited: Callable[[Node], None] = lambda node: None,
    passed: Callable[[Node, int, Any], Any] = lambda node, index, g: g,
) -> dict[Ref, Any]:
    """Send gradients from the seeds back through every node that requires gradients; what arrives
    at leaves and at nodes outside `within`.

    `wrap(node, index)` gives a forward value as rules take it; `visited(node)` is called after a
    node's rule ran; `passed(node, index, g)` may replace a gradient that has arrived.
    """
    starts = list(seeds)

    def rule(node: Node, incoming: list[Any]) -> Iterable[tuple[Ref, Any]]:
        incoming = [None if g is None else passed(node, i, g) for i, g in enumerate(incoming)]
        for source, g in zip(node.inputs, rule_of(wrap, node, incoming), strict=True):
            if g is not None and source[0].requires_grad:
                yield source, g
        visited(node)

    steps = _latest_first([node for (node, _), _ in starts], within)
    return reverse([(node, len(node.specs)) for node in steps], starts, rule)


def _latest_first(roots: Iterable[Node], within: Callable[[Node], bool]) -> list[Node]:
    """The computed nodes within, below the roots, through which gradients flow."""
    found: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in found or node.is_leaf or node.op is None or not within(node):
            continue
        found.add(node)
        stack.extend(n for n, _ in node.inputs if n.requires_grad)
    return sorted(found, key=lambda node: -node.sequence)


def rule_of(wrap: Wrap, node: Node, incoming: Sequence[Any] | None) -> list[Any]:
    """The gradients of a node's operands, recorded by its rule; GradientError for one that is cut.

    `wrap` makes a handle; `incoming` has the gradient of each output, None where there is none.
    """
    if node.cut or incoming is None:
        raise GradientError(
            f"the graph behind {node.op.name} ({site.describe(node.site)}) was freed by an "
            "earlier backward(); pass retain_graph=True there to keep it"
        )
    made = _outline_of(node, incoming)
    if made is not None:
        places = [(node, i) for i in range(len(node.specs))] + [*node.inputs]
        used = made.used[len(incoming) :]
        others = [wrap(n, i) if u else None for (n, i), u in zip(places, used, strict=True)]
        return made.record([*incoming, *others], type(next(g for g in incoming if g is not None)))
    outputs = [wrap(node, i) for i in range(len(node.specs))]
    inputs = [wrap(n, i) for n, i in node.inputs]
    needs = [n.requires_grad for n, _ in node.inputs]
    parts = (node.op, incoming, outputs, inputs, node.attrs, node.form, needs)
    try:
        return call_rule(*parts)
    except DroppedValue:  # by a part of the rule whose gradient nobody needs, it may be
        if node.op.is_opaque:
            raise
        return call_rule_sparingly(*parts)


def _outline_of(node: Node, incoming: Sequence[Any]) -> Outline | None:
    """What the node's rule records, where that is known without asking it again."""
    is_recorded = isinstance(next((g for g in incoming if g is not None), None), Handle)
    if not is_recorded or not recipes.follows_from_specs(node.op):
        return None
    arrived = [None if g is None else g._node.specs[g._index] for g in incoming]
    specs = [*arrived, *node.specs, *(n.specs[i] for n, i in node.inputs)]
    needs = tuple(n.requires_grad for n, _ in node.inputs)
    key = (node.op, node.form, needs, tuple([id(s) for s in specs]))
    found: Outline | None = _outlines.get(node.attrs, key)
    if found is None:
        found = recipes.outline(node, arrived)
        _outlines.put(node.attrs, key, found, *specs)
    return found


_outlines = Memo()


def backward(
    roots: Sequence[Handle],
    grads: Sequence[Handle | None],
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Accumulate d sum(roots * grads) / d leaf into every leaf's `.grad`."""
    found = _pull(roots, grads, None, retain_graph, create_graph)
    with GradMode(create_graph):
        for node, _, g in found:
            owner = node.owner() if node.owner is not None else None
            if owner is not None:
                g = hooks.passed(node, 0, g)
                old = owner.grad
                owner.set_grad(g if old is None else old + g)
                hooks.run_after(owner)


def gradients(
    roots: Sequence[Handle],
    grads: Sequence[Handle | None],
    wrt: Sequence[Handle],
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> list[Handle | None]:
    """d sum(roots * grads) / d wrt without touching `.grad`; None where there is no path."""
    keep = create_graph if retain_graph is None else retain_graph
    ends = _pull(roots, grads, wrt, keep, create_graph)
    found = {(node, index): hooks.passed(node, index, g) for node, index, g in ends}
    return [found.get((h._node, h._index)) for h in wrt]


def _pull(
    roots: Sequence[Handle],
    grads: Sequence[Handle | None],
    wrt: Sequence[Handle] | None,
    retain_graph: bool,
    create_graph: bool,
) -> list[tuple[Node, int, Any]]:
    """(node, output, gradient) of the leaves, or of `wrt`, that gradients reach."""
    # Rules see dtypes as they were recorded; what autocast did there is among the casts.
    with GradMode(create_graph), Autocast(None):
        seeds = tuple(
            _seed(r) if g is None else _checked(r, g) for r, g in zip(roots, grads, strict=True)
        )
        wanted = None if wrt is None else tuple(wrt)
        tape = current()
        watch = [w] if (w := getattr(tape.runner, "ruled", None)) is not None else []
        if tape.interpreter is None and not watch and not hooks.are_there():
            return pull(tuple(roots), seeds, wanted, create_graph, retain_graph)
        return _pull_in_python(roots, seeds, wanted, retain_graph, *watch)


def _pull_in_python(
    roots: Sequence[Handle],
    seeds: Sequence[Handle],
    wrt: Sequence[Handle] | None,
    retain_graph: bool,
    ruled: Callable[[Node | None], None] = lambda node: None,
) -> list[tuple[Node, int, Any]]:
    """As `recorder.pull`, for nodes that an interpreter takes instead of the tape, and for hooks.

    `ruled(node)` is told when a node's rule has run, and None at the beginning.
    """
    wanted = {(h._node, h._index) for h in wrt or ()}
    ends = {node for node, _ in wanted}
    visited: list[Node] = []

    def visit(node: Node) -> None:
        ruled(node)
        visited.append(node)

    starts = [((r._node, r._index), g) for r, g in zip(roots, seeds, strict=True)]
    ruled(None)
    found = reverse_nodes(starts, type(roots[0]), lambda n: n not in ends, visit, hooks.passed)
    if not retain_graph:
        for node in visited:
            node.cut = True
            if node.tape is None:
                node.inputs = ()
    return [
        (*end, g) for end, g in found.items() if end in wanted or wrt is None and end[0].is_leaf
    ]


def _seed(root: Handle) -> Any:
    spec = root._node.specs[root._index]
    if not root._node.requires_grad:
        raise GradientError(
            "backward: this tensor does not depend on anything that requires gradients "
            "(created under no_grad, detached, or no leaf has requires_grad=True)"
        )
    if spec.shape != ():
        raise GradientError(
            f"backward: a tensor of shape {shapes.show(spec.shape)} needs an explicit gradient of "
            "its shape; only a scalar has the implicit gradient 1"
        )
    if spec.dtype.kind == "c":
        raise GradientError(
            "backward: a complex number has no gradient without a direction; take real(), imag() "
            "or abs(), or give the gradient"
        )
    return lookup("ones_like")(root)


def _checked(root: Handle, g: Handle) -> Handle:
    spec, given = root._node.specs[root._index], g._node.specs[g._index]
    if spec.shape != given.shape or spec.dtype is not given.dtype:
        raise GradientError(f"backward: the gradient given is {given}, the tensor is {spec}")
    if not root._node.requires_grad:
        raise GradientError("backward: this tensor does not require gradients")
    return g
