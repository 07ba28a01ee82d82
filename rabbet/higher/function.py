"""Function: a function with a backward pass of its own, written as a class (PyTorch's way).

`custom_vjp` is the same as a decorator.
"""

from __future__ import annotations

import copy
from typing import Any

from rabbet.base.errors import GradientError
from rabbet.graph.op import Op
from rabbet.higher.custom import Custom, op_of_one_call
from rabbet.tensor.modes import no_grad
from rabbet.tensor.tensor import Tensor


class Context:
    """What `forward` leaves for `backward`: tensors it saves, and attributes."""

    saved_tensors: tuple[Any, ...] = ()
    needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors; they are `saved_tensors` in `backward`."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Nothing to do: what has no gradient gets zeros."""

    def set_materialize_grads(self, value: bool) -> None:
        """Gradients of unused results are always zeros; GradientError for the wish for None."""
        if not value:
            raise GradientError("autograd.Function: gradients that are missing are zeros, not None")

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Tensors are values: GradientError."""
        raise GradientError("autograd.Function: forward cannot write into its arguments; return")


class Function:
    """The base of functions that bring their own gradient: `forward(ctx, ...)`, `backward(ctx, g)`.

    Or `forward(...)` and `setup_context(ctx, inputs, output)`. Call it by `apply`.

    >>> class Clipped(rb.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x.clone()
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return rb.clip(g, -1.0, 1.0)
    >>> rb.grad(lambda x: (5 * Clipped.apply(x)).sum())(rb.ones(2))
    tensor([1., 1.])
    """

    forward: Any
    backward: Any
    setup_context: Any = None

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The result of `forward`, with `backward` as its gradient."""
        return _Applied(cls)(*args)


class _Applied(Custom):
    kind = "autograd.Function"

    def __init__(self, owner: type[Function]) -> None:
        self.owner = owner

    def _need(self, name: str) -> None:
        if not hasattr(self.owner, name):
            raise GradientError(f"{self.owner.__name__}: a static method {name} is needed")

    def __call__(self, *args: Any) -> Any:
        self._need("forward")
        context = Context()
        context.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        with no_grad():
            out = self._forward(context, args)
        if not self._is_needed(args):
            return out
        self._need("backward")
        kept, context.saved_tensors = context.saved_tensors, ()
        is_single = not isinstance(out, tuple)

        def pull(saved: Any, g: Any) -> tuple[Any, ...]:
            given = copy.copy(context)
            given.saved_tensors = tuple(saved)
            found = self.owner.backward(given, *((g,) if is_single else g))
            return found if isinstance(found, tuple) else (found,)

        return self._attach(out, kept, args, pull)

    def _forward(self, context: Context, args: tuple[Any, ...]) -> Any:
        if self.owner.setup_context is None:
            return self.owner.forward(context, *args)
        out = self.owner.forward(*args)
        self.owner.setup_context(context, args, out)
        return out

    def _op(self, rule: Any) -> Op:
        return op_of_one_call(rule)  # as the context is
