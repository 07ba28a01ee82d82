"""All gradients or parameters at once: clipping, one vector (PyTorch's `nn.utils`)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.tensor import Tensor, functions, no_grad, zeros


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float | Tensor,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients in place so that their norm, as one vector, is at most max_norm.

    Returns the norm before. Reads no value unless `error_if_nonfinite`, which raises RabbetError.

    Example:
        >>> w = nn.Parameter(rb.ones((4,)))
        >>> (w * w).sum().backward()
        >>> clip_grad_norm_([w], 1.0)
        tensor(4.)
    """
    held = _with_gradients(parameters)
    if not held:
        return zeros(())
    with no_grad():
        norm = total_norm([p.grad for p in held], norm_type)
        if error_if_nonfinite and not bool(functions["isfinite"](norm)):
            raise RabbetError(f"clip_grad_norm_: the norm of the gradients is {norm.item()}")
        scale = (max_norm / (norm + 1e-6)).clip(None, 1.0)
        for p in held:
            p.grad = p.grad * scale.astype(p.dtype)
    return norm


def total_norm(tensors: list[Any], norm_type: float = 2.0) -> Tensor:
    """The norm of tensors as one vector; inf is the largest magnitude."""
    if norm_type == math.inf:
        return functions["stack"]([abs(t).max() for t in tensors]).max()
    if norm_type == 2:
        return sum((t * t).sum() for t in tensors) ** 0.5
    powers = [(abs(t) ** norm_type).sum() for t in tensors]
    return sum(powers) ** (1.0 / norm_type)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Keep every element of every gradient between -clip_value and clip_value, in place."""
    with no_grad():
        for p in _with_gradients(parameters):
            p.grad = p.grad.clip(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters one after the other as one vector."""
    return functions["concat"]([p.reshape((-1,)) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Fill parameters in place from one vector; ShapeError where the sizes differ."""
    held = list(parameters)
    total = sum(p.numel() for p in held)
    if vec.shape != (total,):
        raise ShapeError(f"vector_to_parameters: {vec.shape} does not fit {total} numbers")
    start = 0
    with no_grad():
        for p in held:
            p.copy_(vec[start : start + p.numel()].reshape(p.shape))
            start += p.numel()


def _with_gradients(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p for p in given if p.grad is not None]
