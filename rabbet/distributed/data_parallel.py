"""data_parallel: the same model on all ranks, each with its share of a batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rabbet.base import tree
from rabbet.data import DataLoader
from rabbet.distributed.gradients import average_gradients
from rabbet.distributed.group import broadcast_array, connection
from rabbet.distributed.reduce import check_same
from rabbet.distributed.shard import samples_in_hand, shard_of
from rabbet.nn import Module
from rabbet.nn.state import LoadResult
from rabbet.optim import Optimizer
from rabbet.tensor import Tensor, asarray, enable_grad, flush, is_grad_enabled, no_grad


class DataParallel(Module):
    """A model whose gradients are averaged over all ranks before each step.

    See :func:`data_parallel`. `state_dict` has the names of the model inside, so that states of one
    process and of many are the same.
    """

    def __init__(self, module: Module, loader: DataLoader | None = None) -> None:
        super().__init__()
        self.module = module
        self._loader = loader
        self._samples = 0
        self._forwards = 0  # in training
        self._is_averaged = False  # somebody has seen to it that gradients are averaged
        if loader is not None:
            shard_of(loader).is_counted = True
        self.broadcast_state()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own; notes how many samples this rank has."""
        if self.training and is_grad_enabled():
            self._samples = _count_samples((args, kwargs))
            self._forwards += 1
            if self._forwards == 3 and not self._is_averaged and connection().size > 1:
                warnings.warn(
                    "data_parallel: three forward passes, and no gradients were averaged; "
                    "use model.wrap(optimizer), or call model.average_gradients()",
                    stacklevel=2,
                )
        return self.module(*args, **kwargs)

    def wrap(self, optimizer: Optimizer) -> Optimizer:
        """The same optimizer, whose `step` averages gradients first.

        Raises ValueError if it was wrapped before.
        """
        if isinstance(vars(optimizer).get("step"), _Step):
            raise ValueError("wrap: this optimizer averages gradients already")
        optimizer.step = _Step(self, optimizer.step)  # type: ignore[method-assign]
        return optimizer

    def average_gradients(self, samples: float | None = None) -> None:
        """Average the gradients of all ranks, weighted by samples; `wrap` does it before each step.

        Args:
            samples: how many samples this rank's loss is the mean of. Without it: what the loader
                says, or the first size of the first tensor that the last forward pass was given.
        """
        if samples is None:
            samples = self._samples if self._loader is None else samples_in_hand(self._loader)
        self._is_averaged = True
        average_gradients(self.module, samples)

    def broadcast_state(self) -> None:
        """Give every rank the parameters and buffers of rank 0.

        Buffers differ between ranks once batch norm has trained: call it before an evaluation that
        is divided among ranks.
        """
        group = connection()
        held = [*self.module.named_parameters(), *self.module.named_buffers()]
        form = tuple((name, t.shape, t.dtype.name) for name, t in held)
        check_same(group, "data_parallel", form)
        if group.size == 1:
            return
        with no_grad():
            for _, t in held:
                array = np.array(np.asarray(t), order="C")
                broadcast_array(group, array, 0)
                t.copy_(asarray(array, copy=False))
        flush()

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """The state of the model inside."""
        return self.module.state_dict(prefix=prefix, keep_vars=keep_vars)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Load a state of the model inside; all ranks must load the same."""
        return self.module.load_state_dict(state_dict, strict)


class _Step:
    """An optimizer's step that averages gradients first."""

    def __init__(self, model: DataParallel, step: Callable[[], Any]) -> None:
        self.model = model
        self.step = step

    def __call__(self, closure: Callable[[], Any] | None = None) -> Any:
        result = None
        if closure is not None:
            with enable_grad():
                result = closure()
        self.model.average_gradients()
        self.step()
        return result


def data_parallel(model: Module, loader: DataLoader | None = None) -> DataParallel:
    """The model for training on all ranks at once; they start with the parameters of rank 0.

    Each rank's loss must be the *mean* over its own samples. Before each step gradients are
    averaged with the ranks' numbers of samples as weights, so a step equals that of one process
    with all samples, up to rounding; after it all ranks have the same bits. Batch norm uses each
    rank's own statistics.

    Args:
        model: the same on all ranks but for values.
        loader: what the training loop iterates over, if it reads a :class:`Shard`: it knows how
            many samples count. Else the first size of the model's input is taken.

    Raises:
        RabbetError: on all ranks: their models differ in names, shapes or dtypes.

    Example:
        >>> rb.distributed.init()
        >>> model = rb.distributed.data_parallel(nn.Linear(64, 10))
        >>> optimizer = model.wrap(rb.optim.SGD(model.parameters(), lr=0.1))
    """
    return DataParallel(model, loader)


def _count_samples(arguments: Any) -> int:
    leaves, _ = tree.flatten(arguments)
    for leaf in leaves:
        if isinstance(leaf, Tensor | np.ndarray) and leaf.ndim:
            return int(leaf.shape[0])
    return 1
