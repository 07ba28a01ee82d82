"""Trees of containers: dicts, lists, tuples, named tuples and dataclasses with anything at the
leaves, and what is registered: `nn.Module`, with its parameters and buffers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

__all__ = ["Structure", "flatten", "map_leaves", "unflatten"]


@dataclasses.dataclass(frozen=True)
class Structure:
    """The containers of a tree without its leaves; equal for trees of the same form."""

    kind: Any  # a container type, or None for a leaf
    keys: tuple[Any, ...] = ()  # of a registered type: its frame
    children: tuple[Structure, ...] = ()
    held: bool = dataclasses.field(default=False, compare=False)  # a leaf without a derivative


LEAF = Structure(None)
HELD = Structure(None, held=True)


class Registered(NamedTuple):
    """How a type of container is taken apart: `take` gives its leaves, which of them have no
    derivative, and a frame with all the rest; `make` puts them together, as another object;
    `parts` are the objects that `make` made.
    """

    take: Callable[[Any], tuple[list[Any], list[bool], Hashable]]
    make: Callable[[Any, list[Any]], Any]
    parts: Callable[[Any], list[Any]]


_registered: dict[type, Registered] = {}


def register(kind: type, how: Registered) -> None:
    """Make a type, and all types derived from it, a container."""
    _registered[kind] = how


def is_registered(value: Any) -> bool:
    """True for a container of a registered type."""
    return isinstance(value, tuple(_registered))


def flatten(tree: Any, *, registered: bool = True) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure that `unflatten` puts them back into.

    A module's leaves are its parameters and buffers, each once; with `registered=False` a module
    is a leaf itself.

    >>> rb.tree.flatten({"a": 1, "b": (2, 3)})[0]
    [1, 2, 3]
    """
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves, registered)


def _flatten(tree: Any, leaves: list[Any], registered: bool) -> Structure:
    if isinstance(tree, dict):
        keys = tuple(tree)
        inside = tuple(_flatten(tree[k], leaves, registered) for k in keys)
        return Structure(type(tree), keys, inside)
    if isinstance(tree, list | tuple):
        return Structure(type(tree), (), tuple(_flatten(t, leaves, registered) for t in tree))
    for kind, how in _registered.items() if registered else ():
        if isinstance(tree, kind):
            found, held, frame = how.take(tree)
            leaves += found
            return Structure(kind, (frame,), tuple(HELD if h else LEAF for h in held))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, (type, *_registered)):
        keys = tuple(f.name for f in dataclasses.fields(tree))
        inside = tuple(_flatten(getattr(tree, k), leaves, registered) for k in keys)
        return Structure(type(tree), keys, inside)
    leaves.append(tree)
    return LEAF


def unflatten(structure: Structure, leaves: list[Any]) -> Any:
    """The tree of this structure with these leaves.

    >>> leaves, structure = rb.tree.flatten({"a": 1, "b": (2, 3)})
    >>> rb.tree.unflatten(structure, [x * 10 for x in leaves])
    {'a': 10, 'b': (20, 30)}
    """
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure.kind is None:
        return next(leaves)
    children = [_unflatten(c, leaves) for c in structure.children]
    if structure.kind in _registered:
        return _registered[structure.kind].make(structure.keys[0], children)
    if structure.keys or issubclass(structure.kind, dict):
        named = dict(zip(structure.keys, children, strict=True))
        return named if issubclass(structure.kind, dict) else structure.kind(**named)
    if hasattr(structure.kind, "_fields"):
        return structure.kind(*children)
    return structure.kind(children)


def map_leaves(
    function: Callable[..., Any], tree: Any, *others: Any, registered: bool = True
) -> Any:
    """The tree with every leaf replaced by function(leaf, and those of `others` there).

    Raises ValueError where the trees have different forms. `registered` is that of `flatten`.

    >>> rb.tree.map_leaves(lambda p, g: p - 0.5 * g, {"w": 3.0}, {"w": 2.0})
    {'w': 2.0}
    """
    leaves, structure = flatten(tree, registered=registered)
    columns = [leaves]
    for number, other in enumerate(others):
        column, form = flatten(other, registered=registered)
        if form != structure:
            raise ValueError(f"map_leaves: tree {number + 2} has another form than the first")
        columns.append(column)
    return unflatten(structure, [function(*row) for row in zip(*columns, strict=True)])


def held_leaves(structure: Structure) -> list[bool]:
    """For each leaf whether it has no derivative (a module's buffer, a frozen parameter)."""
    if structure.kind is None:
        return [structure.held]
    return [h for child in structure.children for h in held_leaves(child)]


def registered_parts(tree: Any) -> list[Any]:
    """The objects of registered types in a tree, those inside them included."""
    if isinstance(tree, dict):
        return [p for v in tree.values() for p in registered_parts(v)]
    if isinstance(tree, list | tuple):
        return [p for v in tree for p in registered_parts(v)]
    for kind, how in _registered.items():
        if isinstance(tree, kind):
            return how.parts(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [
            p for f in dataclasses.fields(tree) for p in registered_parts(getattr(tree, f.name))
        ]
    return []
