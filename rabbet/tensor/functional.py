"""Functions of functions: grad, value_and_grad."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rabbet.base import tree
from rabbet.base.errors import GradientError
from rabbet.graph.value import lookup
from rabbet.tensor import backward
from rabbet.tensor.modes import enable_grad
from rabbet.tensor.tensor import Tensor, make_leaf


class _Depth(threading.local):
    """How many transforms this thread is inside: their gradients may be differentiated again."""

    value = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.value += 1
        try:
            yield
        finally:
            self.value -= 1

    def depth(self) -> int:
        """The number of transforms around."""
        return self.value


inside_transform = _Depth()


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns (value, gradients with respect to the arguments `argnums`).

    The function must return a 0-d floating tensor (or (that, aux) with `has_aux`). Arguments may be
    trees of tensors; gradients have the same form. It nests: `grad(grad(f))` is the second
    derivative.

    >>> f = rb.value_and_grad(lambda w: (w * w).sum())
    >>> value, g = f(rb.tensor([1.0, 2.0]))
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        nested = inside_transform.depth() > 0
        changed = list(args)
        inputs: list[Tensor] = []
        structures = []
        for number in numbers:
            leaves, structure = tree.flatten(args[number])
            fresh = [differentiable_input(x) for x in leaves]
            inputs += fresh
            structures.append((structure, len(fresh)))
            changed[number] = tree.unflatten(structure, fresh)
        with inside_transform(), enable_grad():
            result = function(*changed, **kwargs)
        value, aux = result if has_aux else (result, None)
        if not isinstance(value, Tensor) or value.shape != ():
            given = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
            raise GradientError(f"grad: the function must return a 0-d tensor, not {given}")
        keep = nested or any(isinstance(a, Tensor) and a.requires_grad for a in _leaves(args))
        if value.requires_grad:
            found = backward.gradients(
                [value], [None], inputs, create_graph=keep, retain_graph=keep
            )
        else:
            found = [None] * len(inputs)
        grads = [
            g if g is not None else lookup("zeros_like")(x)
            for g, x in zip(found, inputs, strict=True)
        ]
        trees, start = [], 0
        for structure, count in structures:
            trees.append(tree.unflatten(structure, grads[start : start + count]))
            start += count
        gradient = trees[0] if isinstance(argnums, int) else tuple(trees)
        if not keep:
            value = value.detach()
        return ((value, aux) if has_aux else value), gradient

    return wrapped


def grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a function with a 0-d result, as a function of the same arguments.

    >>> rb.grad(lambda x: (x ** 3).sum())(rb.tensor([2.0]))
    tensor([12.])
    """
    both = value_and_grad(function, argnums, has_aux)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def _leaves(args: Any) -> list[Any]:
    return tree.flatten(list(args))[0]


def differentiable_input(x: Any) -> Tensor:
    """A tensor of the same value whose gradient can be asked for; GradientError for others."""
    if not isinstance(x, Tensor) or x.dtype.kind not in "fc":
        raise GradientError(f"grad: differentiated arguments must be floating tensors, not {x!r}")
    if x.requires_grad:
        with enable_grad():
            return lookup("positive")(x)
    fresh = lookup("detach")(x)
    make_leaf(fresh)
    return fresh


def linear_probe(like: Tensor) -> Tensor:
    """A leaf where a result is linear: what is asked is its gradient, so its value is no matter."""
    with enable_grad():
        probe: Tensor = lookup("zeros_like")(like).detach()
        make_leaf(probe)
    return probe
