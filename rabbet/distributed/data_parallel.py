"""data_parallel: the same model on all ranks, each with its share of a batch."""

from __future__ import annotations

from collections.abc import Mapping
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
from rabbet.optim.optimizer import before_update
from rabbet.tensor import Tensor, asarray, flush, is_grad_enabled, no_grad


class DataParallel(Module):
    """A model whose gradients are averaged over all ranks before each step of any optimizer.

    See :func:`data_parallel`. `state_dict` has the names of the model inside, so that states of one
    process and of many are the same.
    """

    def __init__(self, module: Module, loader: DataLoader | None = None) -> None:
        super().__init__()
        self.module = module
        self._loader = loader
        self._samples = 1  # until a forward pass tells: ranks count alike
        self._is_averaged = False  # by hand, for the step to come
        if loader is not None:
            shard_of(loader).is_counted = True
        self.broadcast_state()
        before_update[self] = DataParallel._average_for_step

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own; notes how many samples this rank has."""
        if self.training and is_grad_enabled():
            self._samples = _count_samples((args, kwargs))
        return self.module(*args, **kwargs)

    def average_gradients(self, samples: float | None = None) -> None:
        """Average the gradients of all ranks, weighted by samples.

        Each step of an optimizer does it; call it to see them before (to clip them, say): the next
        step then takes them as they are.

        Args:
            samples: how many samples this rank's loss is the mean of. Without it: what the loader
                says, or the first size of the first tensor that the last forward pass was given.
        """
        average_gradients(self.module, self._samples_here() if samples is None else samples)
        self._is_averaged = True

    def _average_for_step(self, parameters: list[Tensor]) -> None:
        stepped = {id(p) for p in parameters}
        own = [p for p in self.module.parameters() if id(p) in stepped]
        if own and not self._is_averaged:
            average_gradients(own, self._samples_here())
        if own:
            self._is_averaged = False

    def _samples_here(self) -> int:
        return self._samples if self._loader is None else samples_in_hand(self._loader)

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
                array = np.array(t.numpy(), order="C")
                broadcast_array(group, array, 0)
                t.copy_(asarray(array, copy=False))
        flush()

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """The state of the model inside."""
        return self.module.state_dict(prefix=prefix, keep_vars=keep_vars)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Load a state of the model inside; all ranks must load the same."""
        return self.module.load_state_dict(state_dict, strict)


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
        >>> optimizer = rb.optim.SGD(model.parameters(), lr=0.1)
    """
    return DataParallel(model, loader)


def _count_samples(arguments: Any) -> int:
    leaves, _ = tree.flatten(arguments)
    for leaf in leaves:
        if isinstance(leaf, Tensor | np.ndarray) and leaf.ndim:
            return int(leaf.shape[0])
    return 1
