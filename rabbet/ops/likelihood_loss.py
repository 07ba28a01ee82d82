"""Losses of counts and of normal numbers, with PyTorch's names, argument order and reductions."""

from __future__ import annotations

import math

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import maximum
from rabbet.ops.checks import agree, need_float, need_same_dtype, need_shape, wide
from rabbet.ops.compare import where
from rabbet.ops.float_functions import exp, log
from rabbet.ops.index_maps import reshape
from rabbet.ops.loss_reduction import reduce_array, reduce_loss
from rabbet.ops.margin_loss import in_dtype

# ---- likelihoods ---------------------------------------------------------------------------------


def _poisson_array(
    x: np.ndarray, t: np.ndarray, log_input: bool, full: bool, eps: float, reduction: str
) -> np.ndarray:
    x, t = wide(x), wide(t)
    loss = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    if full:
        some = np.where(t > 1, t, 1)
        more = some * np.log(some) - some + 0.5 * np.log(2 * np.pi * some)
        loss = loss + np.where(t > 1, more, 0)
    return reduce_array(loss, reduction)


@op(
    "composite",
    method=None,
    public=False,
    reference=_poisson_array,
    samples=lambda: [
        Sample(
            (Draw(s, 0.5, 2), Draw(s, 0.5, 4, avoid=(1.0,))),
            {"log_input": log, "full": f, "eps": 1e-8, "reduction": r},
        )
        for s, log, f, r in (
            *(
                ((3, 4), True, False, "mean"),
                ((5,), False, True, "sum"),
                ((2,), True, True, "none"),
            ),
        )
    ],
    autocast="wide",
)
def poisson_nll_loss(
    input: Value,
    target: Value,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Value:
    """exp(input) - target * input, or input - target * log(input + eps) without `log_input`.

    `full` adds Stirling's approximation of log(target!) where target > 1.
    """
    count = in_dtype("poisson_nll_loss", target, input)
    if log_input:
        loss = exp(input) - count * input
    else:
        loss = input - count * log(input + eps)
    if full:
        many = count > 1.0
        some = where(many, count, 1.0)
        more = some * log(some) - some + 0.5 * log(2.0 * math.pi * some)
        loss = loss + where(many, more, 0.0)
    return reduce_loss("poisson_nll_loss", loss, reduction)


def _gaussian_array(
    x: np.ndarray, t: np.ndarray, var: np.ndarray, full: bool, eps: float, reduction: str
) -> np.ndarray:
    spread = var if var.ndim == x.ndim or var.ndim == 0 else var[..., None]
    spread = np.maximum(wide(spread), eps)
    loss = 0.5 * (np.log(spread) + (wide(x) - t) ** 2 / spread)
    return reduce_array(loss + (0.5 * np.log(2 * np.pi) if full else 0), reduction)


@op(
    "composite",
    method=None,
    public=False,
    reference=_gaussian_array,
    samples=lambda: [
        Sample((Draw(s), Draw(s), Draw(v, 0.5, 2)), {"full": f, "eps": 1e-6, "reduction": r})
        for s, v, f, r in (
            *(((3, 4), (3, 4), False, "mean"), ((3, 4), (3,), True, "none")),
            ((2, 3), (2, 1), False, "sum"),
        )
    ],
    autocast="wide",
)
def gaussian_nll_loss(
    input: Value,
    target: Value,
    var: Value,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Value:
    """Half of log(var) + (input - target)^2 / var, with var at least `eps`.

    var has the shape of input, that without the last axis, or 1 as its last size. `full` adds half
    of log(2 pi).
    """
    name = "gaussian_nll_loss"
    need_float(name, "input", input.dtype)
    need_same_dtype(name, input=input, target=target, var=var)
    need_shape(name, "target", target, input.shape)
    if var.ndim == input.ndim - 1 and all(map(agree, var.shape, input.shape)):
        var = reshape(var, (*var.shape, 1))
    if var.ndim and (
        var.ndim != input.ndim
        or not all(map(agree, var.shape, input.shape))
        and var.shape != (*input.shape[:-1], 1)
    ):
        raise ShapeError(f"{name}: var {show(var.shape)} does not fit input {show(input.shape)}")
    spread = maximum(var, eps)
    loss = 0.5 * (log(spread) + (input - target) ** 2 / spread)
    return reduce_loss(name, loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)
