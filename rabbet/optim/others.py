"""Rprop and ASGD: steps by the signs of gradients, and averages of points."""

from __future__ import annotations

from typing import Any

from rabbet.optim.group import ParamGroup
from rabbet.optim.optimizer import Item, Optimizer
from rabbet.tensor import Tensor, functions, no_grad

_where = functions["where"]


class Rprop(Optimizer):
    """Each element has a step size of its own, which grows while its gradient keeps its sign.

    Sizes are multiplied by `etas[1]` where the sign is kept, by `etas[0]` where it changed (the
    element then stands still once), within `step_sizes`. M. Riedmiller and H. Braun, 1993.

    Example:
        >>> w = nn.Parameter(rb.ones((2,)))
        >>> opt = optim.Rprop([w], lr=0.5)
        >>> w.sum().backward(); opt.step(); w.tolist()
        [0.5, 0.5]
    """

    slots = ("prev", "step_size")

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
    ) -> None:
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"Rprop: etas={etas} must be below and above 1")
        defaults = dict(lr=lr, etas=tuple(etas), step_sizes=tuple(step_sizes), maximize=maximize)
        super().__init__(params, defaults)
        with no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["step_size"].add_(group.rate("lr", p.dtype))

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        (fewer, more), (least, most) = group["etas"], group["step_sizes"]
        for _, p, g, state in items:
            side = functions["sign"](g * state["prev"])
            size = state["step_size"]
            smaller = _where(side < 0, size * fewer, size)
            size.copy_(_where(side > 0, size * more, smaller).clip(least, most))
            g = _where(side < 0, 0.0, g)
            p.sub_(functions["sign"](g) * size)
            state["prev"].copy_(g)


class ASGD(Optimizer):
    """Gradient descent with a falling rate, and the average of all points from step t0 on in "ax".

    B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

    Example:
        >>> w = nn.Parameter(rb.ones((2,)))
        >>> opt = optim.ASGD([w], lr=0.5)
        >>> w.sum().backward(); opt.step(); w.numpy().round(3).tolist()
        [0.5, 0.5]
    """

    rates = ("lr", "weight_decay")
    slots = ("ax",)
    counts_steps = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = dict(
            **dict(lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay),
            maximize=maximize,
        )
        super().__init__(params, defaults)

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        lambd = group["lambd"]
        for position, p, g, state in items:
            g = group.decayed(p, g)
            t, lr = group.steps_of(position), group.rate("lr")
            # The rate of this step was set at the end of the one before.
            size = lr / (1.0 + lambd * lr * (t - 1.0)) ** group["alpha"]
            p.copy_(p * (1.0 - lambd * size).astype(p.dtype) - g * size.astype(p.dtype))
            share = 1.0 / (t - 1.0 - group["t0"]).clip(1.0, None)
            average = state["ax"]
            average.copy_(average + (p - average) * share.astype(p.dtype))
