"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rabbet.optim.group import ParamGroup
from rabbet.optim.optimizer import Item, Optimizer
from rabbet.tensor import Tensor, functions


class SGD(Optimizer):
    """p -= lr * g, where g may be a running sum (momentum) and include weight_decay * p.

    With momentum: v = momentum * v + (1 - dampening) * g (v = g at first), p -= lr * v; with
    `nesterov`, p -= lr * (g + momentum * v).

    Example:
        >>> w = nn.Parameter(rb.ones((2,)))
        >>> opt = optim.SGD([w], lr=0.5)
        >>> w.sum().backward(); opt.step(); w.tolist()
        [0.5, 0.5]
    """

    rates = ("lr", "momentum", "weight_decay")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = dict(
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )
        self.counts_steps = dampening != 0
        super().__init__(params, defaults)

    def check(self, values: Mapping[str, Any]) -> None:
        super().check(values)
        if values["nesterov"] and (values["momentum"] == 0 or values["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum, and no dampening")
        if values["dampening"] != 0 and not self.counts_steps:
            raise ValueError("SGD: give dampening for all groups, not for one")

    def slots_of(self, group: ParamGroup) -> tuple[str, ...]:
        return ("momentum_buffer",) if group.uses("momentum") else ()

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        for item in items:
            p, g = item.parameter, item.gradient
            g = group.decayed(p, g)
            if group.uses("momentum"):
                g = self._with_momentum(group, item, g)
            p.sub_(g * group.rate("lr", p.dtype))

    def _with_momentum(self, group: ParamGroup, item: Item, g: Tensor) -> Tensor:
        momentum = group.rate("momentum", g.dtype)
        if "momentum_buffer" not in item.state:  # the momentum was 0 until now
            item.state["momentum_buffer"] = functions["zeros_like"](g)
        total = item.state["momentum_buffer"]
        share = g
        if group["dampening"]:
            steps = group.steps_of(item.position)
            whole = functions["ones_like"](steps)  # float64: two numbers would make float32
            factor = functions["where"](steps == 1.0, whole, 1.0 - group["dampening"])
            share = g * factor.astype(g.dtype)
        total.mul_(momentum).add_(share)
        return g + total * momentum if group["nesterov"] else total
