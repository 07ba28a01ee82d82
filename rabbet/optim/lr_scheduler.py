"""Learning-rate schedules: the rate as a closed form of a step counter, both 0-d tensors.

So `scheduler.step()` may be called inside a jitted function, and never compiles anything anew. The
last schedule stepped sets the rate: combine schedules with SequentialLR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.optim.optimizer import Optimizer
from rabbet.recorder import current
from rabbet.tensor import Tensor, asarray, flush, functions, no_grad, zeros

_where = functions["where"]


class LRScheduler:
    """Derive from it and write `rate(t, base)`: the learning rate at step t, from the initial one.

    `t` is a 0-d float64 tensor, so write it with tensor ops. Step 0 is set at construction.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not hasattr(optimizer, "param_groups"):
            kind, name = type(optimizer).__name__, type(self).__name__
            raise TypeError(f"{name}: schedules the rates of an optimizer, not of {kind}")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            if "initial_lr" not in group:
                group["initial_lr"] = group["lr"]
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._count = zeros((), dtype="float64")
        with no_grad():
            self._count.copy_(asarray(np.float64(last_epoch)))
        self.step()

    def rate(self, t: Tensor, base: float) -> Any:
        """The learning rate at step `t`, where the initial one is `base`."""
        raise NotImplementedError(f"{type(self).__name__} has no rate()")

    def step(self) -> None:
        """Go to the next step and set the learning rates of all groups."""
        with no_grad():
            self._count.add_(1.0)
            self._set_rates()
        if current().capture is None:
            flush()

    def _set_rates(self) -> None:
        groups = self.optimizer.param_groups
        for number, (group, base) in enumerate(zip(groups, self.base_lrs, strict=True)):
            group["lr"] = self.rate_of_group(number, self._count, base)

    def rate_of_group(self, number: int, t: Tensor, base: float) -> Any:
        """The learning rate of one group; the same formula for all unless overridden."""
        return self.rate(t, base)

    @property
    def last_epoch(self) -> int:
        """The number of the last step taken."""
        return int(self._count.item())

    def get_last_lr(self) -> list[float]:
        """The learning rates now, one per group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on: plain numbers that fit in JSON."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, with the rates of its step."""
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise RabbetError(
                f"{type(self).__name__}: the state has {len(state_dict['base_lrs'])} groups, "
                f"the optimizer {len(self.base_lrs)}"
            )
        self.base_lrs = [float(base) for base in state_dict["base_lrs"]]
        with no_grad():
            self._count.copy_(asarray(np.float64(state_dict["last_epoch"])))
            self._set_rates()


class LambdaLR(LRScheduler):
    """base * lr_lambda(t); a list has one function per group.

    The function gets a Python int, or, inside a jitted function, a 0-d tensor.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[Any], Any] | Sequence[Callable[[Any], Any]],
        last_epoch: int = -1,
    ) -> None:
        count = len(optimizer.param_groups)
        given = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(given) != count:
            raise ValueError(f"LambdaLR: {len(given)} functions for {count} groups")
        self.lr_lambdas = given
        super().__init__(optimizer, last_epoch)

    def rate_of_group(self, number: int, t: Tensor, base: float) -> Any:
        argument: Any = t if current().capture is not None else int(t.item())
        return base * self.lr_lambdas[number](argument)


class StepLR(LRScheduler):
    """Times gamma every step_size steps."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        return base * self.gamma ** (t / self.step_size).floor()


class MultiStepLR(LRScheduler):
    """Times gamma at each milestone."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        passed = (t >= asarray(np.array(self.milestones, np.float64))).astype("float64").sum()
        return base * self.gamma**passed


class ExponentialLR(LRScheduler):
    """Times gamma at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        return base * self.gamma**t


class ConstantLR(LRScheduler):
    """base * factor for the first total_iters steps, then base."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        return base * _where(t < float(self.total_iters), self.factor, 1.0 + 0.0 * t)


class LinearLR(LRScheduler):
    """From base * start_factor to base * end_factor in equal steps, then constant: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        share = t.clip(0.0, float(self.total_iters)) / max(self.total_iters, 1)
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class PolynomialLR(LRScheduler):
    """base * (1 - t / total_iters)^power, 0 after."""

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        share = t.clip(0.0, float(self.total_iters)) / self.total_iters
        return base * (1.0 - share) ** self.power


class CosineAnnealingLR(LRScheduler):
    """From base down to eta_min along half a cosine of T_max steps (and up again after)."""

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        wave = (1.0 + (t * (math.pi / self.T_max)).cos()) / 2.0
        return self.eta_min + (base - self.eta_min) * wave


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half cosines from base down to eta_min: of T_0 steps, then each T_mult times as long.

    I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if T_0 < 1 or T_mult < 1:
            raise ValueError(f"{type(self).__name__}: T_0={T_0} and T_mult={T_mult} must be >= 1")
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        wave = (1.0 + (self._share(t) * math.pi).cos()) / 2.0
        return self.eta_min + (base - self.eta_min) * wave

    def _share(self, t: Tensor) -> Tensor:
        """How much of the present cosine is over."""
        if self.T_mult == 1:
            return (t % float(self.T_0)) / self.T_0
        # Cosine n begins at T_0 (m^n - 1) / (m - 1).
        more = self.T_mult - 1.0
        number = ((t * (more / self.T_0) + 1.0).log() / math.log(self.T_mult) + 1e-9).floor()
        length = self.T_mult**number * self.T_0
        return (t - (length - self.T_0) / more) / length


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr, then down to a tiny rate, along half cosines.

    Of total_steps, or epochs * steps_per_epoch steps. `anneal_strategy`: "cos" or "linear". With
    `three_phase` down as slowly as up, then on to the tiny rate. Momentum is left alone: there is
    no `cycle_momentum=True`. L. Smith and N. Topin, "Super-convergence", 2018.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = False,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        _check_cycle("OneCycleLR", cycle_momentum, anneal_strategy)
        self.max_lr, self.total_steps, self.pct_start = max_lr, total_steps, pct_start
        self.three_phase = three_phase
        self.between = _half_cosine if anneal_strategy == "cos" else _line
        self.start = max_lr / div_factor
        self.end = self.start / final_div_factor
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        top = self.pct_start * self.total_steps - 1.0
        last = self.total_steps - 1.0
        rising = self.between(self.start, self.max_lr, (t / top).clip(0.0, 1.0))
        if not self.three_phase:
            share = ((t - top) / (last - top)).clip(0.0, 1.0)
            return _where(t <= top, rising, self.between(self.max_lr, self.end, share))
        back = 2.0 * self.pct_start * self.total_steps - 2.0
        falling = self.between(self.max_lr, self.start, ((t - top) / (back - top)).clip(0.0, 1.0))
        ending = self.between(self.start, self.end, ((t - back) / (last - back)).clip(0.0, 1.0))
        return _where(t <= top, rising, _where(t <= back, falling, ending))


def _check_cycle(name: str, cycle_momentum: bool, anneal_strategy: str = "cos") -> None:
    if cycle_momentum:
        raise ValueError(f"{name}: cycle_momentum=True is not there; it changes rates alone")
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f"{name}: anneal_strategy={anneal_strategy!r} must be 'cos' or 'linear'")


def _half_cosine(start: float, end: float, share: Tensor) -> Tensor:
    return end + (start - end) / 2.0 * (1.0 + (share * math.pi).cos())


def _line(start: float, end: float, share: Tensor) -> Tensor:
    return start + (end - start) * share


class CyclicLR(LRScheduler):
    """Up from base_lr to max_lr in step_size_up steps and down again, over and over.

    `mode`: "triangular", "triangular2" (each peak half as high), "exp_range" (times gamma^t). The
    momentum is left alone: there is no `cycle_momentum=True`. L. Smith, "Cyclical learning rates",
    2017.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float,
        max_lr: float,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        cycle_momentum: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if mode not in ("triangular", "triangular2", "exp_range"):
            raise ValueError(f"CyclicLR: mode={mode!r} is not known")
        _check_cycle("CyclicLR", cycle_momentum)
        self.base_lr, self.max_lr, self.mode, self.gamma = base_lr, max_lr, mode, gamma
        self.up = step_size_up
        self.total = step_size_up + (step_size_up if step_size_down is None else step_size_down)
        super().__init__(optimizer, last_epoch)

    def rate(self, t: Tensor, base: float) -> Tensor:
        cycle = (t / self.total).floor()
        place, top = t - cycle * self.total, float(self.up)
        share = _where(place <= top, place / top, (self.total - place) / (self.total - top))
        height = (self.max_lr - self.base_lr) * share
        if self.mode == "triangular2":
            height = height * 0.5**cycle
        elif self.mode == "exp_range":
            height = height * self.gamma**t
        return self.base_lr + height


class MultiplicativeLR(LambdaLR):
    """The rate of the step before times lr_lambda(t); a list has one function per group."""

    def rate_of_group(self, number: int, t: Tensor, base: float) -> Any:
        is_first = t == 0.0
        argument: Any = t if current().capture is not None else int(t.item())
        factor = self.lr_lambdas[number](argument)
        factor = factor if isinstance(factor, Tensor) else float(factor)
        old = self.optimizer.param_groups[number].rate("lr")
        return _where(is_first, base, old * factor)


class SWALR(LRScheduler):
    """From the rate at hand to swa_lr in anneal_epochs steps, then constant: for weight averaging.

    `anneal_strategy`: "cos" or "linear".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        _check_cycle("SWALR", False, anneal_strategy)
        self.swa_lr, self.anneal_epochs = swa_lr, anneal_epochs
        self.between = _half_cosine if anneal_strategy == "cos" else _line
        self.starts = [float(group["lr"]) for group in optimizer.param_groups]
        super().__init__(optimizer, last_epoch)

    def rate_of_group(self, number: int, t: Tensor, base: float) -> Any:
        share = (t / max(self.anneal_epochs, 1)).clip(0.0, 1.0)
        return self.between(self.starts[number], self.swa_lr, share)


class ChainedScheduler(LRScheduler):
    """Several schedules at once: the rate is base times what each would make of 1."""

    def __init__(
        self,
        schedulers: Sequence[LRScheduler],
        optimizer: Optimizer | None = None,
        last_epoch: int = -1,
    ) -> None:
        if not schedulers:
            raise ValueError("ChainedScheduler: needs at least one schedule")
        owner = schedulers[0].optimizer if optimizer is None else optimizer
        if any(s.optimizer is not owner for s in schedulers):
            raise ValueError("ChainedScheduler: all schedules must be of the same optimizer")
        self.schedulers = list(schedulers)
        super().__init__(owner, last_epoch)

    def rate_of_group(self, number: int, t: Tensor, base: float) -> Any:
        found: Any = base
        for schedule in self.schedulers:
            rate = schedule.rate_of_group(number, t, base)
            found = found * (rate / base) if base else 0.0
        return found


class SequentialLR(LRScheduler):
    """One schedule after the other: number i from milestone i - 1 on, counted from 0 there."""

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedules need {len(schedulers) - 1} milestones, "
                f"not {len(milestones)}"
            )
        if any(s.optimizer is not optimizer for s in schedulers):
            raise ValueError("SequentialLR: all schedules must be of the same optimizer")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)

    def rate_of_group(self, number: int, t: Tensor, base: float) -> Any:
        found = self.schedulers[0].rate_of_group(number, t, base)
        for start, schedule in zip(self.milestones, self.schedulers[1:], strict=True):
            later = schedule.rate_of_group(number, t - float(start), base)
            found = _where(t >= float(start), later, found)
        return found


class ReduceLROnPlateau:
    """Times `factor` when a metric has not improved for more than `patience` steps.

    `step(metric)` takes a number or a 0-d tensor and reads no value.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: mode={mode!r} must be 'min' or 'max', "
                f"threshold_mode={threshold_mode!r} 'rel' or 'abs'"
            )
        if not factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor={factor} must be less than 1")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.min_lr, self.eps = min_lr, eps
        self._best = asarray(np.float64(math.inf if mode == "min" else -math.inf))
        self._bad = zeros((), dtype="float64")
        self._cooling = zeros((), dtype="float64")

    def step(self, metrics: Any) -> None:
        """Look at a new value of the metric."""
        with no_grad():
            self._step(asarray(metrics).detach().astype("float64"))
        if current().capture is None:
            flush()

    def _step(self, value: Tensor) -> None:
        is_better = self._improves(value)
        self._best.copy_(_where(is_better, value, self._best))
        cooling = self._cooling > 0.0
        bad = _where(is_better | cooling, 0.0, self._bad + 1.0)
        reduce = bad > float(self.patience)
        self._cooling.copy_(
            _where(reduce, float(self.cooldown), (self._cooling - 1.0).clip(0.0, None))
        )
        self._bad.copy_(_where(reduce, 0.0, bad))
        for group in self.optimizer.param_groups:
            old = group.rate("lr")
            new = (old * self.factor).clip(self.min_lr, None)
            group["lr"] = _where(reduce & (old - new > self.eps), new, old)

    def _improves(self, value: Tensor) -> Tensor:
        if self.mode == "min":
            if self.threshold_mode == "rel":
                return value < self._best * (1.0 - self.threshold)
            return value < self._best - self.threshold
        if self.threshold_mode == "rel":
            return value > self._best * (1.0 + self.threshold)
        return value > self._best + self.threshold

    def get_last_lr(self) -> list[float]:
        """The learning rates now, one per group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on: plain numbers that fit in JSON."""
        return {
            "best": self._best.item(),
            "num_bad_epochs": int(self._bad.item()),
            "cooldown_counter": int(self._cooling.item()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        names = {"best": self._best, "num_bad_epochs": self._bad, "cooldown_counter": self._cooling}
        with no_grad():
            for name, t in names.items():
                t.copy_(asarray(np.float64(state_dict[name])))
