"""Activations for `functional` that a few ops make up, and the random ones."""

from __future__ import annotations

import math

from rabbet.base.errors import RabbetError
from rabbet.library.random import default_generator, rand
from rabbet.tensor import Tensor, functions, ones


def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """input where positive, alpha (exp(input / alpha) - 1) elsewhere (J. Barron, 2017)."""
    if alpha == 0:
        raise RabbetError("celu: alpha must not be 0")
    low = functions["clip"](input, None, 0.0)
    return functions["where"](input > 0, input, alpha * functions["expm1"](low / alpha))


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input where its size is more than `lambd`, 0 elsewhere."""
    return functions["where"](abs(input) <= lambd, 0.0, input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input moved towards 0 by `lambd`, and no further."""
    if lambd < 0:
        raise RabbetError(f"softshrink: lambd={lambd} is negative")
    where = functions["where"]
    return where(input > lambd, input - lambd, where(input < -lambd, input + lambd, input * 0.0))


def tanhshrink(input: Tensor) -> Tensor:
    """input - tanh(input), with all its digits near 0."""
    shrunk: Tensor = functions["tanhshrink"](input)
    return shrunk


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """input where it is more than `threshold`, `value` elsewhere."""
    return functions["where"](input <= threshold, value, input)


def softmin(input: Tensor, dim: int = -1) -> Tensor:
    """softmax(-input) along an axis."""
    return functions["softmax"](-input, dim)


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False
) -> Tensor:
    """input where positive, else times a number from [lower, upper), random while training."""
    if lower > upper:
        raise RabbetError(f"rrelu: lower={lower} is more than upper={upper}")
    slope: Tensor | float = (lower + upper) / 2
    if training:
        draw = rand(input.shape).astype(input.dtype)
        slope = draw * (upper - lower) + lower
    return functions["where"](input >= 0, input, input * slope)


def gumbel_softmax(
    logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A sample of softmax(logits), relaxed by the temperature `tau` (E. Jang et al., 2017).

    With `hard` a row with a single one, whose gradient is that of the relaxed sample. `eps` is
    there for PyTorch's sake and changes nothing.
    """
    log = functions["log"]
    uniform = functions["clip"](rand(logits.shape), 2.0**-25, None)  # never log(0)
    noise = -log(-log(uniform))
    soft = functions["softmax"]((logits + noise.astype(logits.dtype)) / tau, dim)
    if not hard:
        return soft
    best = functions["argmax"](soft, dim, keepdims=True)
    zeros = functions["zeros_like"](soft)
    one = functions["ones_like"](best).astype(soft.dtype)
    chosen = functions["put_along_axis"](zeros, best, one, dim)
    return chosen - soft.detach() + soft


SELU_LOW = -1.7580993408473766  # - scale * alpha: what selu gives for minus infinity


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False) -> Tensor:
    """Dropout for selu nets: mean and variance stay (G. Klambauer et al., 2017)."""
    return _alpha_dropout("alpha_dropout", input, p, training, input.shape)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels of (N, C, ...)."""
    shape = input.shape[:2] + (1,) * (input.ndim - 2)
    return _alpha_dropout("feature_alpha_dropout", input, p, training, shape)


def _alpha_dropout(
    name: str, input: Tensor, p: float, training: bool, shape: tuple[int, ...]
) -> Tensor:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p={p} is not a probability")
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0.0
    every = ones(shape, dtype=input.dtype)
    key, offset = default_generator.reserve(every.numel())
    kept = functions["dropout"](every, float(p), key, offset) > 0
    scale = 1 / math.sqrt((1 - p) * (1 + p * SELU_LOW**2))
    shift = -scale * p * SELU_LOW
    return functions["where"](kept, input, SELU_LOW) * scale + shift
