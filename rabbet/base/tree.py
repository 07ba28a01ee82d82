"""Trees of containers: dicts, lists, tuples, named tuples and dataclasses with anything at the
leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Structure:
    """The containers of a tree without its leaves; equal for trees of the same form."""

    kind: Any  # a container type, or None for a leaf
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()


LEAF = Structure(None)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure that `unflatten` puts them back into."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    if isinstance(tree, dict):
        keys = tuple(tree)
        return Structure(type(tree), keys, tuple(_flatten(tree[k], leaves) for k in keys))
    if isinstance(tree, list | tuple):
        return Structure(type(tree), (), tuple(_flatten(t, leaves) for t in tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        keys = tuple(f.name for f in dataclasses.fields(tree))
        return Structure(type(tree), keys, tuple(_flatten(getattr(tree, k), leaves) for k in keys))
    leaves.append(tree)
    return LEAF


def unflatten(structure: Structure, leaves: list[Any]) -> Any:
    """The tree of this structure with these leaves."""
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure.kind is None:
        return next(leaves)
    children = [_unflatten(c, leaves) for c in structure.children]
    if structure.keys or issubclass(structure.kind, dict):
        named = dict(zip(structure.keys, children, strict=True))
        return named if issubclass(structure.kind, dict) else structure.kind(**named)
    if hasattr(structure.kind, "_fields"):
        return structure.kind(*children)
    return structure.kind(children)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with every leaf replaced by function(leaf)."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])
