"""rb.func: the functions of functions under the names that PyTorch keeps them under."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.higher.functional import grad as grad
from rabbet.higher.functional import value_and_grad
from rabbet.higher.transforms import hessian as hessian
from rabbet.higher.transforms import jacfwd as jacfwd
from rabbet.higher.transforms import jacrev as jacrev
from rabbet.higher.transforms import jvp as jvp
from rabbet.higher.transforms import vjp as vjp
from rabbet.higher.vmap import vmap as vmap_axes
from rabbet.nn.stateless import functional_call as functional_call
from rabbet.nn.stateless import stack_module_state as stack_module_state

__all__ = [
    *("functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp"),
    *("stack_module_state", "vjp", "vmap"),
]


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "different",
) -> Callable[..., Any]:
    """`rb.vmap`, whose axes PyTorch calls dims.

    >>> rb.func.vmap(rb.vecdot, in_dims=(1, 1))(rb.ones((3, 2)), rb.ones((3, 2)))
    tensor([3., 3.])
    """
    return vmap_axes(func, in_dims, out_dims, randomness)


def grad_and_value(
    func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """`rb.value_and_grad` with the gradient first.

    >>> rb.func.grad_and_value(lambda x: x * x)(rb.tensor(3.0))
    (tensor(6.), tensor(9.))
    """
    both = value_and_grad(func, argnums, has_aux=has_aux)

    def turned(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, gradient = both(*args, **kwargs)
        return gradient, value

    return turned
