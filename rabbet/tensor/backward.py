"""Reverse mode over recorded nodes: `backward()` records gradient ops on the same tape.

One loop serves two uses. With handles it records; with opaque Values it is the dry run that finds
which forward values gradients will need (residuals.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rabbet.base import shapes
from rabbet.base.errors import DroppedValue, GradientError
from rabbet.graph.value import lookup
from rabbet.recorder import Handle, Node, current
from rabbet.tensor import site
from rabbet.transform.rules import call_rule, call_rule_sparingly

Ref = tuple[Node, int]
Wrap = Callable[[Node, int], Any]


def reverse(
    seeds: Iterable[tuple[Node, int, Any]],
    wrap: Wrap,
    done: Callable[[Node, int, Any], None],
    visited: Callable[[Node], None] = lambda node: None,
    within: Callable[[Node], bool] = lambda node: True,
) -> None:
    """Send gradients from the seeds back through every node that requires gradients.

    `wrap(node, index)` gives a forward value as rules take it; `done(node, index, g)` gets what
    arrives at leaves and at nodes outside `within`; `visited(node)` is called after a node's rule
    ran. Later nodes first, so each node's gradient is complete when its rule runs.
    """
    arrived: dict[Ref, Any] = {}
    queue: list[tuple[int, Node]] = []
    queued: set[int] = set()

    def send(node: Node, index: int, g: Any) -> None:
        if node.is_leaf or node.op is None or not within(node):
            done(node, index, g)
            return
        known = arrived.get((node, index))
        arrived[node, index] = g if known is None else known + g
        if id(node) not in queued:
            queued.add(id(node))
            heapq.heappush(queue, (-node.sequence, node))

    for node, index, g in seeds:
        send(node, index, g)
    while queue:
        _, node = heapq.heappop(queue)
        if node.cut:
            raise GradientError(
                f"the graph behind {node.op.name} ({site.describe(node.site)}) was freed by an "
                "earlier backward(); pass retain_graph=True there to keep it"
            )
        outputs = [wrap(node, i) for i in range(len(node.specs))]
        incoming = [arrived.pop((node, i), None) for i in range(len(node.specs))]
        inputs = [wrap(n, i) for n, i in node.inputs]
        needs = [n.requires_grad for n, _ in node.inputs]
        parts = (node.op, incoming, outputs, inputs, node.attrs, node.form, needs)
        try:
            grads = call_rule(*parts)
        except DroppedValue:  # by a part of the rule whose gradient nobody needs, it may be
            if node.op.is_opaque:
                raise
            grads = call_rule_sparingly(*parts)
        for (source, index), g, need in zip(node.inputs, grads, needs, strict=True):
            if g is not None and need:
                send(source, index, g)
        visited(node)


def backward(
    roots: Sequence[Handle],
    grads: Sequence[Handle | None],
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Accumulate d sum(roots * grads) / d leaf into every leaf's `.grad`."""
    sums: dict[Node, Any] = {}

    def done(node: Node, index: int, g: Any) -> None:
        if node.is_leaf:
            sums[node] = sums[node] + g if node in sums else g

    _pull(roots, grads, done, retain_graph, create_graph)
    tape = current()
    before, tape.grad_enabled = tape.grad_enabled, create_graph
    try:
        for node, g in sums.items():
            owner = node.owner() if node.owner is not None else None
            if owner is not None:
                old = owner.grad
                owner.set_grad(g if old is None else old + g)
    finally:
        tape.grad_enabled = before


def gradients(
    roots: Sequence[Handle],
    grads: Sequence[Handle | None],
    wrt: Sequence[Handle],
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> list[Handle | None]:
    """d sum(roots * grads) / d wrt without touching `.grad`; None where there is no path."""
    found: dict[Ref, Any] = {}
    wanted = {(h._node, h._index) for h in wrt}

    def done(node: Node, index: int, g: Any) -> None:
        if (node, index) in wanted:
            found[node, index] = found[node, index] + g if (node, index) in found else g

    keep = create_graph if retain_graph is None else retain_graph
    nodes = {n for n, _ in wanted}
    _pull(roots, grads, done, keep, create_graph, within=lambda n: n not in nodes)
    return [found.get((h._node, h._index)) for h in wrt]


def _pull(
    roots: Sequence[Handle],
    grads: Sequence[Handle | None],
    done: Callable[[Node, int, Any], None],
    retain_graph: bool,
    create_graph: bool,
    within: Callable[[Node], bool] = lambda node: True,
) -> None:
    tape = current()
    before, tape.grad_enabled = tape.grad_enabled, create_graph
    handle = type(roots[0])
    visited: list[Node] = []
    try:
        seeds = [
            (r._node, r._index, _seed(r) if g is None else _checked(r, g))
            for r, g in zip(roots, grads, strict=True)
        ]
        reverse(seeds, handle, done, visited.append, within)
    finally:
        tape.grad_enabled = before
    if not retain_graph:
        for node in visited:
            node.cut = True
            if node.tape is None:
                node.inputs = ()


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
