"""Trainer: the loop that most trainings are, in Keras's words.

A step records forward, loss, backward, metrics and update as one segment, and reads no value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import length_hint
from typing import Any

import numpy as np

from rabbet.base import tree
from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.interrupt import Interrupts
from rabbet.data import DataLoader
from rabbet.higher.jit import jit
from rabbet.library.random import default_generator
from rabbet.nn import Module
from rabbet.nn.gradients import clip_grad_norm_
from rabbet.nn.modes import modes_kept
from rabbet.optim import Optimizer
from rabbet.tensor import Tensor, asarray, flush, functions, no_grad
from rabbet.train.callbacks import Callback, History, ModelCheckpoint
from rabbet.train.logs import RunningMeans
from rabbet.train.losses import find_loss, weighted
from rabbet.train.metrics import Metric, find_metric
from rabbet.train.progress import make_progress
from rabbet.train.sources import Batch, make_dataset, make_loader, split_batch, split_off


class Trainer:
    """Trains, evaluates and applies a model.

    Args:
        model: the module to train.
        loss: a loss module, a function of (output, target), or a name in `nn.functional`.
        optimizer: over the model's parameters.
        metrics: names (see `rabbet.train.metrics`) or functions of (output, target).
        callbacks: used by every `fit`.
        clip_grad_norm: the most that the norm of all gradients may be.
        jit: record each kind of step once and replay it without its Python, which is faster for
            small models. Only right for a model whose Python does the same at every step.

    Example:
        >>> trainer = rb.Trainer(model, loss=nn.MSELoss(), optimizer=optim.SGD(model.parameters()))
        >>> history = trainer.fit(x, y, epochs=3, verbose=0)
        >>> len(history["loss"])
        3
    """

    def __init__(
        self,
        model: Module,
        loss: Any = None,
        optimizer: Optimizer | None = None,
        metrics: Iterable[Any] = (),
        callbacks: Iterable[Callback] = (),
        *,
        clip_grad_norm: float | None = None,
        jit: bool = False,
    ) -> None:
        self.model = model
        self.loss: Callable[..., Any] | None = find_loss(loss)
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer must be an Optimizer, such as rb.optim.Adam(model.parameters()), not "
                f"{optimizer!r}"
            )
        self.optimizer = optimizer
        metrics = [metrics] if isinstance(metrics, str) else metrics
        self.metrics: list[Metric] = [find_metric(metric, loss) for metric in metrics]
        self.callbacks = list(callbacks)
        self.clip_grad_norm, self.jit = clip_grad_norm, jit
        self.stop_training = False
        self.epoch = 0  # epochs done
        self._loader: DataLoader | None = None
        self._running: list[Callback] = []
        self._resume: Mapping[str, Any] | None = None

    # ---- training ------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 32,
        epochs: int = 1,
        validation_data: Any = None,
        validation_split: float = 0.0,
        callbacks: Iterable[Callback] | None = None,
        class_weight: Mapping[int, float] | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        verbose: int = 1,
        initial_epoch: int = 0,
    ) -> History:
        """Train until `epochs` epochs are done; returns the History.

        Args:
            x, y: arrays and targets, or a Dataset or DataLoader with both.
            validation_data: the same forms ((x, y) for arrays); looked at after each epoch.
            validation_split: this share of the data, its end, is for validation instead.
            class_weight: how much samples count, by class number.
            seed: of the order of samples; None draws one from the default generator.
            verbose: 0 nothing, 1 a live bar, 2 a line per epoch.

        Ctrl-C ends the training between two steps. Raises RabbetError without loss or optimizer.
        """
        if self.loss is None or self.optimizer is None:
            raise RabbetError("fit: the Trainer needs a loss and an optimizer")
        self._check_optimizer(self.optimizer)
        if validation_split:
            dataset, validation_data = split_off(make_dataset(x, y), validation_split)
            x, y = dataset, None
        loader = make_loader(x, y, batch_size, shuffle=shuffle, seed=seed)
        if not isinstance(x, DataLoader) and initial_epoch:
            loader.load_state_dict({**loader.state_dict(), "epoch": initial_epoch})
        validation = self._validation_loader(validation_data, batch_size)
        means = RunningMeans(["loss", *(metric.name for metric in self.metrics)])
        step = self._make_step(class_weight, means)
        history = History()
        self._loader, self.stop_training, self.epoch = loader, False, initial_epoch
        batches = length_hint(loader, -1)  # -1: a stream without a length
        progress = make_progress(verbose, epochs, batches if batches >= 0 else None)
        # Checkpoints last: they save what the others have done at the end of an epoch.
        given = sorted([*self.callbacks, *(callbacks or ())], key=_is_checkpoint)
        for callback in given:
            if not isinstance(callback, Callback):
                raise TypeError(f"fit: {callback!r} is no callback: derive from rb.train.Callback")
        self._running = [*given, history, *progress]
        for callback in self._running:
            callback.set_trainer(self)
        self._apply_resume()
        with Interrupts() as interrupts, modes_kept(self.model):
            try:
                self._tell("on_train_begin", {})
                for epoch in range(initial_epoch, epochs):
                    self._run_epoch(epoch, loader, validation, step, means, interrupts)
                    if self.stop_training:
                        break
            finally:
                self._tell("on_train_end", {})
        return history

    def _check_optimizer(self, optimizer: Optimizer) -> None:
        """An optimizer of another model would train nothing, and say nothing."""
        updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
        mine = [id(p) for p in self.model.parameters()]
        if mine and updated.isdisjoint(mine) and type(self).train_step is Trainer.train_step:
            raise RabbetError(
                "fit: the optimizer has no parameter of this model: make it with "
                "model.parameters() of the model that the Trainer was given"
            )

    def _run_epoch(
        self,
        epoch: int,
        loader: DataLoader,
        validation: DataLoader | None,
        step: Callable[[Any], None],
        means: RunningMeans,
        interrupts: Interrupts,
    ) -> None:
        self._tell("on_epoch_begin", epoch, {})
        self.model.train()
        means.reset()
        for number, batch in enumerate(loader):
            self._tell("on_batch_begin", number, means)
            step(batch)
            means.samples += split_batch(batch, has_target=True).samples
            self._tell("on_batch_end", number, means)
            interrupts.check()
        if not means.samples:
            raise RabbetError("fit: there are no batches to train on")
        logs = dict(means)
        if validation is not None:
            found = self._evaluate(validation)
            logs.update({f"val_{name}": value for name, value in found.items()})
        self.epoch = epoch + 1
        self._tell("on_epoch_end", epoch, logs)
        interrupts.check()

    def _make_step(
        self, class_weight: Mapping[int, float] | None, means: RunningMeans
    ) -> Callable[[Any], None]:
        assert self.loss is not None
        loss = self.loss if class_weight is None else weighted(self.loss, class_weight)

        def step(batch: Any) -> None:
            self.train_step(split_batch(batch, has_target=True), loss, means)

        return jit(step) if self.jit else step

    def train_step(self, batch: Batch, loss: Callable[..., Any], means: RunningMeans) -> None:
        """One step on one batch; override it for steps of another kind.

        It gives the loss and the metrics to `means.record`, and reads no value.
        """
        assert self.optimizer is not None
        output = self.model(*batch.inputs)
        value = loss(output, batch.target)
        self.optimizer.zero_grad()
        value.backward()
        if self.clip_grad_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        means.record(self._measure(value, output, batch.target), batch.samples)
        self.optimizer.step()

    def _measure(self, value: Any, output: Any, target: Any) -> dict[str, Tensor]:
        found = {"loss": value}
        with no_grad():
            for name, function in self.metrics:
                measured = asarray(function(_detached(output), target))
                found[name] = measured if measured.shape == () else measured.mean()
        return found

    def _validation_loader(self, data: Any, batch_size: int) -> DataLoader | None:
        if data is None:
            return None
        x, y = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
        return make_loader(x, y, batch_size)

    def _tell(self, event: str, *args: Any) -> None:
        for callback in self._running:
            getattr(callback, event)(*args)

    # ---- using the model -----------------------------------------------------------------------

    def evaluate(
        self, x: Any, y: Any = None, *, batch_size: int = 32, verbose: int = 0
    ) -> dict[str, float]:
        """Loss and metrics over the data, with the model in `eval` mode.

        Example:
            >>> sorted(trainer.evaluate(x, y))
            ['loss']
        """
        if self.loss is None:
            raise RabbetError("evaluate: the Trainer needs a loss")
        found = self._evaluate(make_loader(x, y, batch_size))
        if verbose:
            print("  ".join(f"{name} {value:.4f}" for name, value in found.items()))
        return found

    def _evaluate(self, loader: DataLoader) -> dict[str, float]:
        assert self.loss is not None
        means = RunningMeans(["loss", *(metric.name for metric in self.metrics)])
        with modes_kept(self.model), no_grad():
            self.model.eval()
            for batch in loader:
                inputs, target, samples = split_batch(batch, has_target=True)
                output = self.model(*inputs)
                means.add(self._measure(self.loss(output, target), output, target), samples)
        if not means.samples:
            raise RabbetError("evaluate: there is no data")
        return dict(means)

    def predict(self, x: Any, batch_size: int = 32) -> Any:
        """The model's outputs for all samples, put together along the first axis.

        `x` is arrays without targets, or a Dataset or DataLoader, whose targets (the last of
        several parts) are left out. A model that returns a tuple or dict gives a tuple or dict.
        """
        loader = make_loader(x, None, batch_size)
        outputs = []
        with modes_kept(self.model), no_grad():
            self.model.eval()
            for batch in loader:
                parts = len(batch) if isinstance(batch, tuple | list) else 1
                has_target = parts > 1 and not _is_plain(x)
                outputs.append(self.model(*split_batch(batch, has_target).inputs))
                flush()
        if not outputs:
            raise ShapeError("predict: there is no data")
        leaves, structure = zip(*(tree.flatten(output) for output in outputs), strict=True)
        joined = [functions["concat"](list(parts)) for parts in zip(*leaves, strict=True)]
        return tree.unflatten(structure[0], joined)

    # ---- saved states --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that going on bit for bit needs: model, optimizer, place in the data, randomness."""
        return {
            "model": self.model.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "epoch": self.epoch,
            "random": list(default_generator.get_state()),
            "loader": None if self._loader is None else self._loader.state_dict(),
            "callbacks": {
                name: state for name, c in self._named_callbacks() if (state := c.state_dict())
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state: then call `fit` again, with `initial_epoch=trainer.epoch`.

        Give `fit` the same data and options. Raises RabbetError where the state does not fit the
        model or the optimizer.
        """
        self.model.load_state_dict(state["model"])
        if self.optimizer is not None and state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = int(state["epoch"])
        default_generator.set_state(tuple(state["random"]))
        self._resume = state

    def _apply_resume(self) -> None:
        """The rest of a loaded state, which needs the loader and callbacks that `fit` has made."""
        if self._resume is None:
            return
        state, self._resume = self._resume, None
        if state["loader"] is not None and self._loader is not None:
            self._loader.load_state_dict(state["loader"])
        for name, callback in self._named_callbacks():
            if name in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][name])
        default_generator.set_state(tuple(state["random"]))

    def _named_callbacks(self) -> list[tuple[str, Callback]]:
        return [(f"{i} {type(c).__name__}", c) for i, c in enumerate(self._running)]


def _is_checkpoint(callback: Callback) -> bool:
    return isinstance(callback, ModelCheckpoint)


def _detached(output: Any) -> Any:
    return tree.map_leaves(lambda t: t.detach() if isinstance(t, Tensor) else t, output)


def _is_plain(x: Any) -> bool:
    """True for arrays, which have no targets among them."""
    return isinstance(x, Tensor | np.ndarray | tuple | list) or hasattr(x, "__array__")
