"""Which forward values must outlive their segment so that gradients need not compute them again.

When a segment ends in mid-forward, the gradient transform is run dry for every live tensor that
requires gradients, and the forward values that the gradient ops use are kept (SEMANTICS 12).
Recipes say what those are (recorder/native/residuals.cpp); where a rule has none, the rules
themselves run over forward values as opaque inputs.
"""

from __future__ import annotations

from rabbet.engine.backward import reverse_nodes
from rabbet.engine.segment import Output
from rabbet.graph.value import Builder, Value, topological
from rabbet.recorder import Node, Segment, residuals


def residuals_of(segment: Segment, live: tuple[Output, ...]) -> frozenset[Output]:
    """The outputs of the segment that backward from its live tensors will use."""
    nodes = segment.nodes
    roots = [
        (p, i)
        for p, i in live
        if nodes[p].requires_grad
        and not nodes[p].is_leaf
        and not nodes[p].cut
        and nodes[p].prepared.differentiable[i]
    ]
    if not roots:
        return frozenset()
    found = residuals(segment, roots)
    return _by_rules(nodes, roots) if found is None else frozenset(found)


def _by_rules(nodes: list[Node], roots: list[Output]) -> frozenset[Output]:
    """What the rules use, told by running them."""
    positions = {id(n): p for p, n in enumerate(nodes)}
    builder = Builder()
    opaque: dict[tuple[int, int], Value] = {}

    def wrap(node: Node, index: int) -> Value:
        key = (id(node), index)
        if key not in opaque:
            opaque[key] = builder.input(node.specs[index])
        return opaque[key]

    seeds = [((nodes[p], i), builder.input(nodes[p].specs[i])) for p, i in roots]
    received = reverse_nodes(seeds, wrap, lambda n: id(n) in positions and not n.cut).values()
    used = {id(c) for c in topological(g.call for g in received)}
    return frozenset(
        (positions[node_id], index)
        for (node_id, index), value in opaque.items()
        if node_id in positions and id(value.call) in used
    )
