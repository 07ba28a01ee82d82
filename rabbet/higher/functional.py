"""Functions of functions: grad, value_and_grad."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rabbet.base import tree
from rabbet.base.errors import GradientError
from rabbet.engine import backward
from rabbet.graph.value import lookup
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
    trees of tensors; gradients have the same form. An argument may be a Module: its gradient is a
    Module with gradients for parameters, and zeros for buffers and frozen parameters. It nests:
    `grad(grad(f))` is the second derivative.

    >>> f = rb.value_and_grad(lambda w: (w * w).sum())
    >>> value, g = f(rb.tensor([1.0, 2.0]))
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        nested = inside_transform.depth() > 0
        changed = list(args)
        inputs: list[Tensor] = []
        primals: list[Primal] = []
        for number in numbers:
            one = Primal(args[number])
            inputs += one.inputs
            primals.append(one)
            changed[number] = one.fresh
        with inside_transform(), enable_grad():
            result = function(*changed, **kwargs)
        value, aux = result if has_aux else (result, None)
        if not isinstance(value, Tensor) or value.shape != ():
            given = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
            raise GradientError(f"grad: the function must return a 0-d tensor, not {given}")
        others = [a for n, a in enumerate(args) if n not in numbers]
        keep = nested or any(p.carries for p in primals) or _carries(others)
        if value.requires_grad:
            found = backward.gradients(
                [value], [None], inputs, create_graph=keep, retain_graph=keep
            )
        else:
            found = [None] * len(inputs)
        trees = trees_of(primals, found)
        gradient = trees[0] if isinstance(argnums, int) else tuple(trees)
        if not keep:
            value = value.detach()
        return ((value, aux) if has_aux else value), gradient

    return wrapped


def grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a function with a 0-d result, as a function of the same arguments.

    For a tree of tensors it is a tree of the same form; for a Module a Module with gradients for
    parameters, and zeros for buffers and frozen parameters.

    >>> rb.grad(lambda x: (x ** 3).sum())(rb.tensor([2.0]))
    tensor([12.])
    """
    both = value_and_grad(function, argnums, has_aux)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def _carries(args: list[Any]) -> bool:
    leaves = tree.flatten(args, registered=False)[0]
    return any(isinstance(a, Tensor) and a.requires_grad for a in leaves)


class Primal:
    """A differentiated argument: `fresh` is what the function gets for it, `inputs` are its leaves
    that have a derivative; `carries` where gradients may flow through the result to the argument.

    They never flow to a module's own parameters, all of which want gradients at all times: what a
    transform makes of them outside of any other is a value.
    """

    def __init__(self, primal: Any) -> None:
        leaves, self.structure = tree.flatten(primal)
        self.held = tree.held_leaves(self.structure)
        if not inside_transform.depth() and tree.registered_parts(primal):
            leaves = [_cut(x) for x in leaves]
        self.carries = any(isinstance(x, Tensor) and x.requires_grad for x in leaves)
        self.leaves = [
            x if h else differentiable_input(x) for h, x in zip(self.held, leaves, strict=True)
        ]
        self.inputs = self.chosen(self.leaves)
        self.fresh = tree.unflatten(self.structure, self.leaves)

    def chosen(self, leaves: Sequence[Any]) -> list[Any]:
        """What belongs to `inputs`, of something for every leaf."""
        return [x for x, h in zip(leaves, self.held, strict=True) if not h]

    def tree(self, found: Iterator[Any]) -> Any:
        """A tree of the argument's form: what was found for each input, zeros for all the rest."""
        given = [None if h else next(found) for h in self.held]
        filled = [
            lookup("zeros_like")(x) if g is None else g
            for g, x in zip(given, self.leaves, strict=True)
        ]
        return tree.unflatten(self.structure, filled)


def _cut(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) and x.is_leaf and x.requires_grad else x


def trees_of(primals: Sequence[Primal], found: Sequence[Any]) -> list[Any]:
    """What was found for all inputs, in the forms of the arguments."""
    rest = iter(found)
    return [p.tree(rest) for p in primals]


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
