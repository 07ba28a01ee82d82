"""rb.draw(): the recorded graph behind a tensor, or of a function, as an SVG picture.

Layers by the longest way from the inputs, then each layer in the order of the means of its
operands (K. Sugiyama et al., Methods for visual understanding of hierarchical systems, 1981).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rabbet.base import tree
from rabbet.base.errors import RabbetError
from rabbet.engine import site
from rabbet.engine.flush import flush
from rabbet.recorder import Node
from rabbet.tensor.tensor import Tensor

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 168, 46, 24, 44, 16
FILLS = {"input": "#e8f0fe", "leaf": "#fef3d8", "op": "#ffffff", "result": "#e3f5e6"}
SWEEPS = 4


@dataclass(frozen=True)
class Drawing:
    """A picture: `svg` is its text; notebooks show it, `save` writes it."""

    svg: str
    nodes: int

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the SVG file."""
        Path(path).write_text(self.svg, encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Drawing({self.nodes} nodes, {len(self.svg)} characters of SVG)"


def draw(what: Tensor | Callable[..., Any], *args: Any, **kwargs: Any) -> Drawing:
    """The graph of what is recorded behind a tensor, or of function(*args), as an SVG picture.

    Inputs are blue, leaves that require gradients yellow, results green; an op has its name, its
    result's shape and dtype, and its line. What was computed before and keeps no history is an
    input. Raises RabbetError where a function returns no tensor.

    >>> rb.draw(lambda x: rb.tanh(x) + 1, rb.ones(3))
    Drawing(4 nodes, ... characters of SVG)
    """
    if isinstance(what, Tensor):
        results: list[Any] = [what]
    else:
        flush()
        results = [t for t in tree.flatten(what(*args, **kwargs))[0] if isinstance(t, Tensor)]
    if not results:
        raise RabbetError("draw: the function returned no tensor")
    roots = [t._node for t in results]
    nodes = _ancestors(roots)
    layers = _layers(nodes)
    return Drawing(_svg(layers, {id(n) for n in roots}), len(nodes))


def _ancestors(roots: Sequence[Node]) -> list[Node]:
    """Every node once, operands first."""
    found: dict[int, Node] = {}
    done: list[Node] = []
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, is_ready = stack.pop()
        if is_ready:
            done.append(node)
        elif id(node) not in found:
            found[id(node)] = node
            stack.append((node, True))
            stack += [(source, False) for source, _ in reversed(node.inputs)]
    return done


def _layers(nodes: Sequence[Node]) -> list[list[Node]]:
    depth: dict[int, int] = {}
    for node in nodes:
        depth[id(node)] = 1 + max((depth[id(n)] for n, _ in node.inputs), default=-1)
    readers: dict[int, list[int]] = {}
    for node in nodes:
        for source, _ in node.inputs:
            readers.setdefault(id(source), []).append(depth[id(node)])
    for node in nodes:  # an input stands right above its first reader
        if not node.inputs and id(node) in readers:
            depth[id(node)] = min(readers[id(node)]) - 1
    layers: list[list[Node]] = [[] for _ in range(1 + max(depth.values()))]
    for node in nodes:
        layers[depth[id(node)]].append(node)
    for _ in range(SWEEPS):
        place = {id(n): i for layer in layers for i, n in enumerate(layer)}
        for layer in layers:
            means = {id(n): _mean([place[id(s)] for s, _ in n.inputs], place[id(n)]) for n in layer}
            layer.sort(key=lambda n: means[id(n)])
            place.update({id(n): i for i, n in enumerate(layer)})
    return layers


def _mean(places: Sequence[int], own: int) -> float:
    return sum(places) / len(places) if places else own


def _svg(layers: Sequence[Sequence[Node]], roots: set[int]) -> str:
    widest = max(map(len, layers))
    width = widest * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN
    height = len(layers) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    spots: dict[int, tuple[float, float]] = {}
    for row, layer in enumerate(layers):
        left = (width - len(layer) * (WIDTH + GAP_X) + GAP_X) / 2
        for column, node in enumerate(layer):
            spots[id(node)] = (left + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
    ]
    every = [node for layer in layers for node in layer]
    parts += [_edge(spots[id(s)], spots[id(n)]) for n in every for s, _ in n.inputs]
    parts += [_box(node, spots[id(node)], id(node) in roots) for node in every]
    return "\n".join([*parts, "</svg>"])


def _edge(above: tuple[float, float], below: tuple[float, float]) -> str:
    x0, y0, x1, y1 = above[0] + WIDTH / 2, above[1] + HEIGHT, below[0] + WIDTH / 2, below[1]
    bend = max((y1 - y0) / 2, GAP_Y / 2)
    way = f"M{x0:.0f} {y0:.0f} C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1:.0f}"
    return f'<path d="{way}" fill="none" stroke="#667"/>'


def _box(node: Node, spot: tuple[float, float], is_result: bool) -> str:
    kind = "leaf" if node.is_leaf else "input" if node.op is None else "op"
    fill = FILLS["result" if is_result and kind == "op" else kind]
    name = kind if node.op is None else node.op.name
    if node.number is not None:
        name = repr(node.number)
    x, y = spot
    middle = x + WIDTH / 2
    texts = [(name, "bold"), (str(node.specs[0]), "normal"), (site.short(node.site), "normal")]
    shown = [
        f'<text x="{middle:.0f}" y="{y + 15 + 13 * i:.0f}" text-anchor="middle" '
        f'font-weight="{weight}">{escape(text)}</text>'
        for i, (text, weight) in enumerate(texts)
        if text
    ]
    box = f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="6"'
    return f'{box} fill="{fill}" stroke="#445"/>' + "".join(shown)
