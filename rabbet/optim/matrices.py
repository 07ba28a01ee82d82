"""Adafactor and Muon: optimizers that see a matrix as one thing, not as its elements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.optim.group import ParamGroup
from rabbet.optim.optimizer import Item, Optimizer
from rabbet.tensor import Tensor, functions

_TINY = 1e-7  # a matrix of zeros has no direction


def _root_mean_square(x: Tensor) -> Tensor:
    return functions["sqrt"](functions["mean"](x * x))


class Adafactor(Optimizer):
    """Adam without momentum, whose squares are kept as means of rows and of columns.

    A matrix (m, n) needs m + n numbers of state. In step t the squares' share of the new gradient
    is t ** beta2_decay, steps are relative to the parameter's size (at least eps[1]), times
    min(lr, 1 / sqrt(t)), and no longer than d in the root of their mean square. N. Shazeer and
    M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.

    Example:
        >>> w = nn.Parameter(rb.ones((2, 3)))
        >>> opt = optim.Adafactor([w], lr=0.5)
        >>> w.sum().backward(); opt.step(); w.numpy().round(3).tolist()
        [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """

    slots = ("row_var", "col_var", "variance")
    rates = ("lr", "weight_decay")
    counts_steps = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = dict(
            **dict(lr=lr, beta2_decay=beta2_decay, eps=tuple(eps), d=d, weight_decay=weight_decay),
            maximize=maximize,
        )
        super().__init__(params, defaults)

    def check(self, values: Mapping[str, Any]) -> None:
        super().check({**values, "eps": 0.0})
        if values["beta2_decay"] > 0 or values["d"] < 1 or min(e or 0 for e in values["eps"]) < 0:
            raise ValueError("Adafactor: beta2_decay at most 0, d at least 1 and eps >= 0 needed")

    def slot_shape(self, slot: str, p: Tensor) -> tuple[int, ...] | None:
        if len(p.shape) < 2:
            return p.shape if slot == "variance" else None
        shapes = {"row_var": (*p.shape[:-1], 1), "col_var": (*p.shape[:-2], 1, p.shape[-1])}
        return shapes.get(slot)

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        for position, p, g, state in items:
            t = group.steps_of(position)
            share = (t ** group["beta2_decay"]).astype(p.dtype)
            rate = functions["minimum"](group.rate("lr"), 1.0 / functions["sqrt"](t))
            size = functions["maximum"](_root_mean_square(p), group["eps"][1])
            if group.uses("weight_decay"):
                decay = group.rate("lr") * group.rate("weight_decay")
                p.mul_((1.0 - decay).astype(p.dtype))
            least = group["eps"][0]
            least = float(np.finfo(p.dtype.numpy).eps) if least is None else least
            step = g * functions["rsqrt"](
                _squares(g, state, share, least).clip(least * least, None)
            )
            length = functions["maximum"](_root_mean_square(step) / group["d"], 1.0)
            p.sub_(step * (size * rate.astype(p.dtype) / length))


def _squares(g: Tensor, state: dict[str, Any], share: Tensor, least: float) -> Tensor:
    """The running mean of squares, of a matrix as the product of those of rows and columns."""
    square = g * g
    if "variance" in state:
        state["variance"].copy_(functions["lerp"](state["variance"], square, share))
        return state["variance"]
    for name, axis in (("row_var", -1), ("col_var", -2)):
        mean = functions["mean"](square, axis=axis, keepdims=True)
        state[name].copy_(functions["lerp"](state[name], mean, share))
    rows = state["row_var"]
    whole = functions["mean"](rows, axis=-2, keepdims=True).clip(least, None)
    return rows / whole * state["col_var"]


class Muon(Optimizer):
    """Steps along the orthogonal matrix nearest to the momentum: for the matrices of hidden layers.

    The nearest orthogonal matrix is found by Newton-Schulz steps, x to a x + b (x x^T) x +
    c (x x^T)^2 x, from the momentum divided by its norm. `adjust_lr_fn` scales the rate for (m, n):
    "original" by sqrt(max(1, m / n)), "match_rms_adamw" by 0.2 sqrt(max(m, n)). K. Jordan et al.,
    "Muon: an optimizer for hidden layers in neural networks", 2024. Other parameters (biases,
    embeddings) go to another optimizer. Raises ShapeError for one that is no matrix.

    Example:
        >>> w = nn.Parameter(rb.eye(2))
        >>> opt = optim.Muon([w], lr=0.1)
        >>> (w * rb.eye(2)).sum().backward(); opt.step(); bool(w[0, 0] < 0.95)
        True
    """

    slots = ("momentum_buffer",)
    rates = ("lr", "momentum", "weight_decay")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = _TINY,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        defaults = dict(
            **dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov),
            **dict(ns_coefficients=tuple(ns_coefficients), eps=eps, ns_steps=ns_steps),
            adjust_lr_fn=adjust_lr_fn,
        )
        super().__init__(params, defaults)

    def check(self, values: Mapping[str, Any]) -> None:
        super().check(values)
        if values["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"Muon: adjust_lr_fn={values['adjust_lr_fn']!r} must be None, 'original' or "
                "'match_rms_adamw'"
            )
        for p in values["params"]:
            if len(p.shape) != 2:
                raise ShapeError(
                    f"Muon: a parameter has shape {show(p.shape)}; it is for matrices, give others "
                    "to another optimizer"
                )

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        for _, p, g, state in items:
            momentum, total = group.rate("momentum", p.dtype), state["momentum_buffer"]
            total.copy_(functions["lerp"](g, total, momentum))
            along = functions["lerp"](g, total, momentum) if group["nesterov"] else total
            rate = group.rate("lr")
            if group.uses("weight_decay"):
                p.mul_((1.0 - rate * group.rate("weight_decay")).astype(p.dtype))
            m, n = p.shape
            by_size = 0.2 * max(m, n) ** 0.5
            scale = by_size if group["adjust_lr_fn"] == "match_rms_adamw" else max(1, m / n) ** 0.5
            p.sub_(_orthogonal(along, group) * (rate * scale).astype(p.dtype))


def _orthogonal(x: Tensor, group: ParamGroup) -> Tensor:
    a, b, c = group["ns_coefficients"]
    is_tall = x.shape[0] > x.shape[1]
    x = x.mT if is_tall else x
    norm = functions["sqrt"](functions["sum"](x * x))
    x = x / functions["maximum"](norm, group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.mT
        x = x * a + (gram * b + gram @ gram * c) @ x
    return x.mT if is_tall else x
