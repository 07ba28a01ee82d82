"""Functions that a user hangs onto a tensor: called with its gradient when backward has it.

Hooks of a leaf are the handle's, and stay when it is updated in place; hooks of any other tensor
are those of the node it stood for, and work after the tensor itself is gone (as in PyTorch). Under
`rb.jit` a hook runs while the function is recorded; what it records is part of the program, and
other hooks on the leaves mean another recording.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, finalize, ref

from rabbet.base.errors import GradientError
from rabbet.recorder import Handle, Node, current

_numbers = itertools.count()


class Hook(NamedTuple):
    """A function, its number, and whether it wants the leaf after `.grad` is there."""

    number: int
    function: Callable[[Any], Any]
    is_after: bool


Hooks = tuple[Hook, ...]


class _Hooked:
    """All hooks: `leaves` tells jit whether those on leaves are still what they were."""

    def __init__(self) -> None:
        self.nodes: WeakKeyDictionary[Node, dict[int, Hooks]] = WeakKeyDictionary()
        self.leaves: frozenset[int] = frozenset()  # numbers of hooks


_hooked = _Hooked()


class RemovableHandle:
    """What registering a hook returns: `remove()` takes the hook off again; also a context."""

    def __init__(self, owner: Any, index: int, hook: Hook) -> None:
        self._owner, self._index, self._hook = ref(owner), index, hook

    def remove(self) -> None:
        """Take the hook off; nothing happens the second time."""
        owner = self._owner()
        if isinstance(owner, Handle):
            owner._hooks = tuple(h for h in owner._hooks or () if h is not self._hook)
            _forget(self._hook.number)
        elif owner is not None:
            found = _hooked.nodes.get(owner, {})
            found[self._index] = tuple(h for h in found.get(self._index, ()) if h is not self._hook)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register(tensor: Any, function: Callable[[Any], Any], *, is_after: bool) -> RemovableHandle:
    """Hang a function onto a tensor; GradientError for one without gradients."""
    name = "register_post_accumulate_grad_hook" if is_after else "register_hook"
    if not callable(function):
        raise TypeError(f"{name}: takes a function, not {type(function).__name__}")
    if not tensor.requires_grad:
        raise GradientError(f"{name}: this tensor does not require gradients")
    if is_after and not tensor.is_leaf:
        raise GradientError(f"{name}: only a leaf keeps a gradient; use register_hook")
    hook = Hook(next(_numbers), function, is_after)
    node, index = tensor._node, tensor._index
    if node.is_leaf:
        tensor._hooks = (*(tensor._hooks or ()), hook)
        _hooked.leaves |= {hook.number}
        finalize(tensor, _forget, hook.number)
        return RemovableHandle(tensor, 0, hook)
    found = _hooked.nodes.setdefault(node, {})
    found[index] = (*found.get(index, ()), hook)
    return RemovableHandle(node, index, hook)


def _forget(number: int) -> None:
    _hooked.leaves -= {number}


def are_there() -> bool:
    """Whether backward must look for hooks; told to a jit capture in progress."""
    capture = current().capture
    if capture is not None:
        capture.guard(_hooked, "leaves", _hooked.leaves)
    return bool(_hooked.nodes or _hooked.leaves)


def passed(node: Node, index: int, g: Any) -> Any:
    """The gradient of an output after the hooks of whoever stands for it."""
    if not _hooked.nodes and not _hooked.leaves:
        return g
    hooks = _of(node, index)
    for hook in hooks:
        if not hook.is_after:
            g = _replaced(g, hook.function(g))
    return g


def run_after(leaf: Any) -> None:
    """A leaf's `.grad` was added to."""
    for hook in leaf._hooks or ():
        if hook.is_after:
            hook.function(leaf)


def _of(node: Node, index: int) -> Hooks:
    if not node.is_leaf:
        return _hooked.nodes.get(node, {}).get(index, ())
    owner = node.owner() if node.owner is not None else None
    return () if owner is None else owner._hooks or ()


def _replaced(g: Any, made: Any) -> Any:
    if made is None:
        return g
    if not isinstance(made, Handle):
        raise GradientError(f"hook: returned a {type(made).__name__}; a tensor or None is needed")
    spec, new = g._node.specs[g._index], made._node.specs[made._index]
    if spec.shape != new.shape or spec.dtype is not new.dtype:
        raise GradientError(f"hook: returned {new} for a gradient of {spec}")
    return made
