"""Adam and AdamW: steps of a size that running moments of the gradient set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rabbet.base.dtypes import DType
from rabbet.optim.group import ParamGroup
from rabbet.optim.optimizer import Item, Optimizer
from rabbet.tensor import Tensor, functions


class Moments(Optimizer):
    """What optimizers with running moments, `betas`, have in common."""

    rates = ("lr", "weight_decay")
    counts_steps = True

    def check(self, values: Mapping[str, Any]) -> None:
        super().check(values)
        if not all(0 <= beta < 1 for beta in values["betas"]):
            raise ValueError(f"{type(self).__name__}: betas={values['betas']} must be in [0, 1)")

    def advance(self, group: ParamGroup, g: Tensor, state: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The running means of g and of g^2, with this one."""
        beta1, beta2 = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.add_((g - mean) * (1 - beta1))
        square.mul_(beta2).add_(g * g * (1 - beta2))
        return mean, square


class Adam(Moments):
    """p -= lr * m / (sqrt(v) + eps), m and v running means of g and g^2, corrected for their start.

    `weight_decay` adds weight_decay * p to the gradient; `amsgrad` uses the largest v so far.

    Example:
        >>> w = nn.Parameter(rb.ones((2,)))
        >>> opt = optim.Adam([w], lr=0.5)
        >>> w.sum().backward(); opt.step(); w.numpy().round(4).tolist()
        [0.5, 0.5]
    """

    decays_weights_apart: ClassVar[bool] = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = dict(
            lr=lr,
            betas=tuple(betas),
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
        )
        super().__init__(params, defaults)

    def slots_of(self, group: ParamGroup) -> tuple[str, ...]:
        largest = ("max_exp_avg_sq",) if group["amsgrad"] else ()
        return ("exp_avg", "exp_avg_sq", *largest)

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        scales: dict[tuple[int, DType], tuple[Tensor, Tensor]] = {}
        shares: dict[DType, Tensor] = {}
        is_apart = self.decays_weights_apart and group.uses("weight_decay")
        for item in items:
            dtype = item.parameter.dtype
            # Parameters that took part in all steps share these; others have their own.
            key = (item.position if item.position in group.late else -1, dtype)
            if key not in scales:
                scales[key] = _scales(group, item.position, dtype)
            kept = item.parameter
            if is_apart:
                if dtype not in shares:
                    shares[dtype] = group.share_kept(dtype)
                kept = kept * shares[dtype]
            self._update_one(group, item, kept, *scales[key])

    def _update_one(
        self, group: ParamGroup, item: Item, kept: Tensor, size: Tensor, root: Tensor
    ) -> None:
        p, g, state = item.parameter, item.gradient, item.state
        g = g if self.decays_weights_apart else group.decayed(p, g)
        mean, square = self.advance(group, g, state)
        if group["amsgrad"]:
            largest = state["max_exp_avg_sq"]
            largest.copy_(functions["maximum"](largest, square))
            square = largest
        p.copy_(kept - mean / (square.sqrt() / root + group["eps"]) * size)


class AdamW(Adam):
    """Adam whose weight decay acts on the parameters: p *= 1 - lr * weight_decay first."""

    decays_weights_apart = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)


def _scales(group: ParamGroup, position: int, dtype: DType) -> tuple[Tensor, Tensor]:
    """Step size and divisor of sqrt(v), both with the correction for the start at 0: 0-d."""
    beta1, beta2 = group["betas"]
    steps = group.steps_of(position)  # float64: 1 - beta^t loses all digits in float32
    size = group.rate("lr") / (1.0 - beta1**steps)
    root = (1.0 - beta2**steps).sqrt()
    return size.astype(dtype), root.astype(dtype)
