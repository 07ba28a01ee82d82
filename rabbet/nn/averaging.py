"""Averages of a model's weights over training: stochastic weight averaging and moving averages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from rabbet.nn.module import Module
from rabbet.nn.norm import BatchNorm
from rabbet.tensor import Tensor, no_grad, zeros

Average = Callable[[Tensor, Tensor, Tensor], Tensor]


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's, over calls of `update`.

    All with the same weight (P. Izmailov et al., "Averaging weights leads to wider optima", 2018),
    or by `avg_fn(average, current, count)`; `ema(decay)` is an exponential moving average. With
    `use_buffers` floating buffers are averaged too, else they are copied at each update.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> averaged = nn.AveragedModel(net, avg_fn=nn.averaging.ema(0.9))
        >>> averaged.update_parameters(net)
        >>> bool((averaged.module.weight == net.weight).all())
        True
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)
        self.avg_fn, self.use_buffers = avg_fn or _mean, use_buffers
        self.register_buffer("n_averaged", zeros((), dtype="int64"))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the model's present weights into the average; the first ones are copied."""
        with no_grad():
            count = self.n_averaged
            for own, new in zip(self.module.parameters(), model.parameters(), strict=True):
                self._update(own, new.detach(), count)
            for kept, now in zip(self.module.buffers(), model.buffers(), strict=True):
                if self.use_buffers and kept.dtype.is_float:
                    self._update(kept, now.detach(), count)
                else:
                    kept.copy_(now.detach())
            self.n_averaged.add_(1)

    def _update(self, own: Tensor, new: Tensor, count: Tensor) -> None:
        found = self.avg_fn(own.detach(), new, count.astype(own.dtype))
        own.copy_((count == 0).where(new, found))


def _mean(average: Tensor, current: Tensor, count: Tensor) -> Tensor:
    return average + (current - average) / (count + 1.0)


def ema(decay: float = 0.999) -> Average:
    """For `AveragedModel`: average * decay + current * (1 - decay).

    >>> ema(0.5)(rb.asarray(1.0), rb.asarray(3.0), rb.asarray(1.0)).item()
    2.0
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"ema: decay={decay} must be in [0, 1]")

    def average(old: Tensor, new: Tensor, count: Tensor) -> Tensor:
        return new + (old - new) * decay

    return average


def update_bn(loader: Iterable[Any], model: Module) -> None:
    """Compute the running statistics of a model's batch norms anew, over all batches of `loader`.

    A batch may be a tensor, or a tuple whose first part is the input.

    >>> net = nn.BatchNorm1d(2)
    >>> update_bn([rb.asarray([[1.0, 2.0], [3.0, 2.0]])], net)
    >>> net.running_mean.tolist()
    [2.0, 2.0]
    """
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and m.track_running_stats]
    momenta, was_training = [m.momentum for m in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    model.train()
    try:
        with no_grad():
            for batch in loader:
                model(batch[0] if isinstance(batch, tuple | list) else batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)
