"""Adadelta, Adamax, NAdam, RAdam and LAMB: steps that running moments of the gradient set."""

from __future__ import annotations

from typing import Any

from rabbet.base.dtypes import float64
from rabbet.optim.adam import Moments
from rabbet.optim.group import ParamGroup
from rabbet.optim.optimizer import Item, Optimizer
from rabbet.tensor import Tensor, functions, no_grad

_where, _maximum = functions["where"], functions["maximum"]


class Adadelta(Optimizer):
    """p -= lr * g * sqrt(d + eps) / sqrt(v + eps), d and v running means of step^2 and g^2.

    M. Zeiler, "ADADELTA: an adaptive learning rate method", 2012.

    Example:
        >>> w = nn.Parameter(rb.ones((2,)))
        >>> opt = optim.Adadelta([w])
        >>> w.sum().backward(); opt.step(); bool((abs(w - 0.9968) < 1e-4).all())
        True
    """

    rates = ("lr", "weight_decay")
    slots = ("square_avg", "acc_delta")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        if not 0 <= rho <= 1:
            raise ValueError(f"Adadelta: rho={rho} must be in [0, 1]")
        defaults = dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)
        super().__init__(params, defaults)

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        rho, eps = group["rho"], group["eps"]
        for _, p, g, state in items:
            g = group.decayed(p, g)
            square = state["square_avg"].mul_(rho).add_(g * g * (1 - rho))
            moved = state["acc_delta"]
            step = g * ((moved + eps).sqrt() / (square + eps).sqrt())
            moved.mul_(rho).add_(step * step * (1 - rho))
            p.sub_(step * group.rate("lr", p.dtype))


class Adamax(Moments):
    """p -= lr / (1 - beta1^t) * m / u, u the largest |g| so far, fading by beta2.

    Adam with the infinity norm (D. Kingma and J. Ba, 2015, section 7).

    Example:
        >>> w = nn.Parameter(rb.ones((2,)))
        >>> opt = optim.Adamax([w], lr=0.5)
        >>> w.sum().backward(); opt.step(); w.numpy().round(4).tolist()
        [0.5, 0.5]
    """

    slots = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = dict(
            lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, maximize=maximize
        )
        super().__init__(params, defaults)

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        beta1, beta2 = group["betas"]
        for position, p, g, state in items:
            g = group.decayed(p, g)
            mean, largest = state["exp_avg"], state["exp_inf"]
            mean.add_((g - mean) * (1 - beta1))
            largest.copy_(_maximum(largest * beta2, abs(g) + group["eps"]))
            size = group.rate("lr") / (1.0 - beta1 ** group.steps_of(position))
            p.sub_(mean / largest * size.astype(p.dtype))


class NAdam(Moments):
    """Adam with Nesterov's momentum, whose weight grows by `momentum_decay`.

    T. Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Example:
        >>> w = nn.Parameter(rb.ones((2,)))
        >>> opt = optim.NAdam([w], lr=0.5)
        >>> w.sum().backward(); opt.step(); bool((w < 0.6).all())
        True
    """

    slots = ("exp_avg", "exp_avg_sq", "mu_product")
    scalars = frozenset({"mu_product"})

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = dict(
            lr=lr,
            betas=tuple(betas),
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )
        super().__init__(params, defaults)
        with no_grad():
            for state in self.state.values():
                state["mu_product"].add_(1.0)

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        beta1, beta2 = group["betas"]
        for position, p, g, state in items:
            t, lr = group.steps_of(position), group.rate("lr")
            here, next_ = (
                beta1 * (1.0 - 0.5 * 0.96 ** ((t + k) * group["momentum_decay"])) for k in (0, 1)
            )
            kept, g = _decayed(group, p, g)
            product = state["mu_product"].mul_(here.astype(p.dtype))
            mean, square = self.advance(group, g, state)
            root = (square / (1.0 - beta2**t).astype(p.dtype)).sqrt() + group["eps"]
            new = g / root * (lr * (1.0 - here)).astype(p.dtype) / (1.0 - product)
            ahead = next_.astype(p.dtype)
            old = mean / root * (lr * next_).astype(p.dtype) / (1.0 - product * ahead)
            p.copy_(kept - new - old)


def _decayed(group: ParamGroup, p: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """What is left of the parameter, and the gradient, after weight decay of either kind."""
    is_apart = group["decoupled_weight_decay"]
    return (group.shrunk(p), g) if is_apart else (p, group.decayed(p, g))


class RAdam(Moments):
    """Adam that begins as plain momentum, until the variance of its step size is finite.

    L. Liu et al., "On the variance of the adaptive learning rate and beyond", 2020.

    Example:
        >>> w = nn.Parameter(rb.ones((2,)))
        >>> opt = optim.RAdam([w], lr=0.5)
        >>> w.sum().backward(); opt.step(); w.numpy().round(4).tolist()
        [0.5, 0.5]
    """

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = dict(
            lr=lr,
            betas=tuple(betas),
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )
        super().__init__(params, defaults)

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        beta1, beta2 = group["betas"]
        longest = 2.0 / (1.0 - beta2) - 1.0
        for position, p, g, state in items:
            t = group.steps_of(position)
            kept, g = _decayed(group, p, g)
            mean, square = self.advance(group, g, state)
            left = beta2**t
            length = longest - 2.0 * t * left / (1.0 - left)
            known = length > 5.0
            safe = _where(known, length, 6.0)
            share = (safe - 4.0) * (safe - 2.0) * longest
            share = share / ((longest - 4.0) * (longest - 2.0) * safe)
            scale = (share * (1.0 - left)).sqrt().astype(p.dtype)
            steep = _where(known, scale / (square.sqrt() + group["eps"]), 1.0)
            size = group.rate("lr") / (1.0 - beta1**t)
            p.copy_(kept - mean * steep * size.astype(p.dtype))


class LAMB(Moments):
    """Adam whose step for each tensor is as long as the tensor times lr: for large batches.

    p -= lr * |p| / |u| * u with u = m / (sqrt(v) + eps) + weight_decay * p; the ratio is 1 where
    either norm is 0. Y. You et al., "Large batch optimization for deep learning", 2020.

    Example:
        >>> w = nn.Parameter(rb.ones((2,)))
        >>> opt = optim.LAMB([w], lr=0.5)
        >>> w.sum().backward(); opt.step(); w.numpy().round(4).tolist()
        [0.5, 0.5]
    """

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = dict(
            lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, maximize=maximize
        )
        super().__init__(params, defaults)

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        beta1, beta2 = group["betas"]
        for position, p, g, state in items:
            t = group.steps_of(position)
            mean, square = self.advance(group, g, state)
            root = (square / (1.0 - beta2**t).astype(p.dtype)).sqrt() + group["eps"]
            step = group.decayed(p, mean / (1.0 - beta1**t).astype(p.dtype) / root)
            ours, its = ((x * x).sum().sqrt() for x in (p, step))
            fits = (ours > 0.0) & (its > 0.0)
            ratio = _where(fits, ours / _where(fits, its, 1.0), 1.0)
            p.sub_(step * (ratio.astype(float64) * group.rate("lr")).astype(p.dtype))
