"""RMSprop and Adagrad: steps divided by the size that gradients have had."""

from __future__ import annotations

from typing import Any

from rabbet.optim.group import ParamGroup
from rabbet.optim.optimizer import Item, Optimizer
from rabbet.tensor import Tensor, no_grad


class RMSprop(Optimizer):
    """p -= lr * g / (sqrt(v) + eps), v a running mean of g^2 (of its variance if `centered`)."""

    rates = ("lr", "momentum", "weight_decay")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        if not 0 <= alpha:
            raise ValueError(f"RMSprop: alpha={alpha} must be 0 or more")
        defaults = dict(
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )
        super().__init__(params, defaults)

    def slots_of(self, group: ParamGroup) -> tuple[str, ...]:
        momentum = ("momentum_buffer",) if group.uses("momentum") else ()
        return ("square_avg", *momentum, *(("grad_avg",) if group["centered"] else ()))

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        alpha = group["alpha"]
        for _, p, g, state in items:
            g = group.decayed(p, g)
            square = state["square_avg"].mul_(alpha).add_(g * g * (1 - alpha))
            if group["centered"]:
                mean = state["grad_avg"]
                mean.add_((g - mean) * (1 - alpha))
                square = square - mean * mean
            g = g / (square.sqrt() + group["eps"])
            if group.uses("momentum"):
                g = state["momentum_buffer"].mul_(group.rate("momentum", p.dtype)).add_(g)
            p.sub_(g * group.rate("lr", p.dtype))


class Adagrad(Optimizer):
    """p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum of g^2) + eps)."""

    rates = ("lr", "weight_decay")
    slots = ("sum",)
    counts_steps = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = dict(
            lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps, maximize=maximize
        )
        super().__init__(params, defaults)
        with no_grad():
            for state in self.state.values():
                state["sum"].add_(initial_accumulator_value)

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        for position, p, g, state in items:
            g = group.decayed(p, g)
            earlier = group.steps_of(position) - 1.0
            size = group.rate("lr") / (1.0 + earlier * group["lr_decay"])
            total = state["sum"].add_(g * g)
            p.sub_(g / (total.sqrt() + group["eps"]) * size.astype(p.dtype))
