"""Hooks on a module's gradients: identities around `forward` that see what flows back through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.autograd import Function
from rabbet.base import tree
from rabbet.base.errors import GradientError
from rabbet.tensor import Tensor, no_grad


class _Pass:
    """One call of a module: what flowed back to its results, and then to its arguments."""

    def __init__(self, module: Any, hook: Callable[..., Any]) -> None:
        self.module, self.hook = module, hook
        self.sent: tuple[Any, ...] = ()
        self.has_inputs = False

    def at_arguments(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        found = self.hook(self.module, grads, self.sent)
        if found is None:
            return grads
        changed = found if isinstance(found, tuple) else (found,)
        if len(changed) != len(grads):
            raise GradientError(
                f"{type(self.module).__name__}: a hook gave {len(changed)} gradients for "
                f"{len(grads)} tensors that have one"
            )
        return changed

    def at_results(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        self.sent = grads
        if not self.has_inputs:  # nothing flows on to any argument
            self.hook(self.module, (None,), grads)
        return grads


class _Watch(Function):
    @staticmethod
    def forward(context: Any, seen: Callable[..., Any], *tensors: Tensor) -> tuple[Tensor, ...]:
        context.seen = seen
        return tensors

    @staticmethod
    def backward(context: Any, *grads: Any) -> tuple[Any, ...]:
        with no_grad():
            return (None, *context.seen(grads))


def _watched(value: Any, seen: Callable[..., Any]) -> tuple[Any, bool]:
    """`value` behind an identity, and whether gradients flow through any of its tensors."""
    leaves, structure = tree.flatten(value)
    at = [i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.requires_grad]
    if not at:
        return value, False
    for i, x in zip(at, _Watch.apply(seen, *(leaves[i] for i in at)), strict=True):
        leaves[i] = x
    return tree.unflatten(structure, leaves), True


def call_watched(
    module: Any, hooks: list[Callable[..., Any]], args: tuple, kwargs: dict, call: Any
) -> Any:
    """call(*args, **kwargs) with these hooks on the gradients of arguments and results."""
    passes = [_Pass(module, hook) for hook in hooks]
    for one in passes:
        args, one.has_inputs = _watched(args, one.at_arguments)
    result = call(*args, **kwargs)
    for one in reversed(passes):
        result, _ = _watched(result, one.at_results)
    return result
