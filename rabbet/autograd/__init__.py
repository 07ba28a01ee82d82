"""rb.autograd: what PyTorch keeps under that name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.autograd import functional
from rabbet.base.errors import GradientError
from rabbet.debug.anomaly import detect_anomaly, set_detect_anomaly
from rabbet.engine import backward as backward_module
from rabbet.higher.checked import gradcheck, gradgradcheck
from rabbet.higher.function import Context, Function
from rabbet.tensor.modes import enable_grad, no_grad, set_grad_enabled
from rabbet.tensor.tensor import Tensor

__all__ = [
    "Context",
    "Function",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]

Tensors = Tensor | Sequence[Tensor]


def backward(
    tensors: Tensors,
    grad_tensors: Any = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Add the gradients of several tensors, times `grad_tensors`, to the `.grad` of every leaf.

    >>> x = rb.tensor(2.0, requires_grad=True)
    >>> rb.autograd.backward([x * x, 3 * x]); x.grad
    tensor(7.)
    """
    roots = _listed(tensors)
    grads = [None] * len(roots) if grad_tensors is None else _listed(grad_tensors)
    backward_module.backward(
        roots, grads, retain_graph=retain_graph or create_graph, create_graph=create_graph
    )


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of tensors that were computed already with respect to others.

    Nothing is added to `.grad`. GradientError for an input that the outputs do not depend on,
    unless `allow_unused`: None stands for its gradient then; and for `only_inputs=False`.
    (`rb.grad` takes a function instead.)

    >>> x = rb.tensor(3.0, requires_grad=True)
    >>> rb.autograd.grad(x * x, x)
    (tensor(6.),)
    """
    if not only_inputs:
        raise GradientError("grad: only_inputs=False is not supported; use rb.autograd.backward")
    roots, wrt = _listed(outputs), _listed(inputs)
    grads = [None] * len(roots) if grad_outputs is None else _listed(grad_outputs)
    for number, x in enumerate(wrt):
        if not x.requires_grad:
            raise GradientError(f"grad: input {number} does not require gradients")
    found = backward_module.gradients(
        roots, grads, wrt, create_graph=create_graph, retain_graph=retain_graph
    )
    for number, g in enumerate(found):
        if g is None and not allow_unused:
            raise GradientError(
                f"grad: the outputs do not depend on input {number}; allow_unused=True gives None"
            )
    return tuple(found)  # type: ignore[arg-type]


def _listed(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, Tensor) or tensors is None else list(tensors)
