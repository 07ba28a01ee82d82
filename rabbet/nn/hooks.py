"""Functions that a user hangs onto a module, kept in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

_numbers = itertools.count()


class Hook(NamedTuple):
    """A hook and whether it wants keyword arguments too."""

    function: Callable[..., Any]
    with_kwargs: bool


class RemovableHandle:
    """What registering a hook returns: `remove()` takes the hook off again; also a context."""

    def __init__(self, hooks: dict[int, Hook], hook: Hook, prepend: bool) -> None:
        self._hooks = hooks
        self.id = next(_numbers)
        others = list(hooks.items()) if prepend else []
        if prepend:
            hooks.clear()
        hooks[self.id] = hook
        hooks.update(others)

    def remove(self) -> None:
        """Take the hook off; a second call does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def run_before(
    module: Any, hooks: dict[int, Hook], args: tuple, kwargs: dict
) -> tuple[tuple, dict]:
    """What the hooks before `forward` make of the arguments."""
    for hook in list(hooks.values()):
        if hook.with_kwargs:
            changed = hook.function(module, args, kwargs)
            if changed is not None:
                args, kwargs = changed
            continue
        changed = hook.function(module, args)
        if changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    return args, kwargs


def run_after(module: Any, hooks: dict[int, Hook], args: tuple, kwargs: dict, result: Any) -> Any:
    """What the hooks after `forward` make of its result."""
    for hook in list(hooks.values()):
        inputs = (args, kwargs) if hook.with_kwargs else (args,)
        changed = hook.function(module, *inputs, result)
        if changed is not None:
            result = changed
    return result
