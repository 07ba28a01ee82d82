"""Callbacks: what happens around epochs and batches of a training."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from rabbet.data.files import save
from rabbet.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from rabbet.train.logs import format_number

Logs = Mapping[str, float]


class Callback:
    """Derive from it and write the methods you need; `self.trainer` and `self.model` are set.

    `logs` maps names ("loss", "val_loss", metrics) to numbers. Those of `on_batch_end` are running
    means: looking at one computes it, so look rarely.
    """

    trainer: Any = None
    model: Any = None

    def set_trainer(self, trainer: Any) -> None:
        """Called before the training begins."""
        self.trainer, self.model = trainer, trainer.model

    def on_train_begin(self, logs: Logs) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs) -> None:
        """After the last epoch, also when training ends early or by an error."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Before an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """After an epoch and its validation; what is added to `logs` is in the history."""

    def on_batch_begin(self, batch: int, logs: Logs) -> None:
        """Before a step; batches count from 0 in each epoch."""

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """After a step."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept."""


class History(Callback):
    """What `fit` returns: `history["loss"]` is a list with one number per epoch."""

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __repr__(self) -> str:
        return f"History(epochs={len(self.epoch)}, {', '.join(self.history)})"


class _Monitor(Callback):
    """A callback that compares one number of the logs from epoch to epoch."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{type(self).__name__}: mode={mode!r} must be 'auto', 'min' or 'max'")
        if mode == "auto":
            mode = "max" if monitor.endswith(("accuracy", "acc")) else "min"
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.best = math.inf if mode == "min" else -math.inf

    def value(self, logs: Logs) -> float:
        """The monitored number; ValueError where there is none."""
        if self.monitor not in logs:
            raise ValueError(
                f"{type(self).__name__}: there is no {self.monitor!r} to monitor; "
                f"there are {', '.join(logs)}"
            )
        return logs[self.monitor]

    def is_better(self, value: float) -> bool:
        """True where `value` beats the best so far by more than min_delta."""
        if self.mode == "min":
            return value < self.best - self.min_delta
        return value > self.best + self.min_delta


class EarlyStopping(_Monitor):
    """Stops when a number has not improved for `patience` epochs (0 and 1: at the first).

    Args:
        monitor: a name in the logs. mode: "min", "max" or "auto" (by the name).
        min_delta: less of a change is no improvement.
        baseline: what must be beaten from the start.
        restore_best_weights: give the model the values of its best epoch at the end.
        start_from_epoch: epochs before it do not count.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.start_from_epoch = patience, start_from_epoch
        self.restore_best_weights = restore_best_weights
        if baseline is not None:
            self.best = baseline
        self.waited = 0
        self.stopped_epoch: int | None = None
        self._best_weights: Any = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if epoch < self.start_from_epoch:
            return
        value = self.value(logs)
        if self.is_better(value):
            self.best, self.waited = value, 0
            if self.restore_best_weights:
                self._best_weights = self.model.state_dict()
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.stopped_epoch = epoch
            self.trainer.stop_training = True

    def on_train_end(self, logs: Logs) -> None:
        if self._best_weights is not None:
            self.model.load_state_dict(self._best_weights)
            self._best_weights = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class ModelCheckpoint(_Monitor):
    """Saves after epochs (or every `save_freq` batches); each file is written whole or not at all.

    Args:
        filepath: may name numbers: "digits-{epoch:02d}-{val_loss:.3f}.safetensors" (epochs from 1).
        save_best_only: only when the monitored number is better than ever.
        save_weights_only: the model's `state_dict` alone; else all that `Trainer.load_state_dict`
            needs to go on bit for bit.
        save_freq: "epoch", or a number of batches.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
    ) -> None:
        super().__init__(monitor, mode)
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(
                f"ModelCheckpoint: save_freq={save_freq!r} must be 'epoch' or a number"
            )
        self.filepath, self.save_freq = os.fspath(filepath), save_freq
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self._batches = 0
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        self._epoch = epoch

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        if isinstance(self.save_freq, int):
            self._batches += 1
            if self._batches % self.save_freq == 0:
                self._save(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if self.save_freq == "epoch":
            self._save(logs)

    def _save(self, logs: Logs) -> None:
        if self.save_best_only:
            value = self.value(logs)
            if not self.is_better(value):
                return
            self.best = value
        path = Path(self.filepath.format(epoch=self._epoch + 1, **logs))
        path.parent.mkdir(parents=True, exist_ok=True)
        source = self.model if self.save_weights_only else self.trainer
        save(source.state_dict(), path)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "batches": self._batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self._batches = state["best"], state["batches"]


class CSVLogger(Callback):
    """Writes the numbers of every epoch to a CSV file, each row as soon as it is known."""

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        self.filename, self.separator, self.append = os.fspath(filename), separator, append
        self._file: IO[str] | None = None
        self._names: list[str] | None = None

    def on_train_begin(self, logs: Logs) -> None:
        has_rows = self.append and os.path.exists(self.filename) and os.path.getsize(self.filename)
        if has_rows:
            with open(self.filename, newline="", encoding="utf-8") as file:
                self._names = next(csv.reader(file, delimiter=self.separator))[1:]
        mode = "a" if self.append else "w"
        self._file = open(self.filename, mode, newline="", encoding="utf-8")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        assert self._file is not None
        writer = csv.writer(self._file, delimiter=self.separator)
        if self._names is None:
            self._names = list(logs)
            writer.writerow(["epoch", *self._names])
        writer.writerow([epoch, *(logs.get(name, "") for name in self._names)])
        self._file.flush()

    def on_train_end(self, logs: Logs) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class LearningRateScheduler(Callback):
    """Sets the learning rate per epoch: by a function, or by a schedule of `optim.lr_scheduler`.

    A function gets (epoch, rate) and is called before each epoch; a schedule steps after each
    epoch, or after each batch with `every="batch"`. ReduceLROnPlateau looks at `monitor`.
    """

    def __init__(
        self,
        schedule: Callable[[int, float], float] | LRScheduler | ReduceLROnPlateau,
        verbose: int = 0,
        every: str = "epoch",
        monitor: str = "val_loss",
    ) -> None:
        if every not in ("epoch", "batch"):
            raise ValueError(f"LearningRateScheduler: every={every!r} must be 'epoch' or 'batch'")
        self.schedule, self.verbose, self.every, self.monitor = schedule, verbose, every, monitor

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        groups = self.trainer.optimizer.param_groups
        if not isinstance(self.schedule, LRScheduler | ReduceLROnPlateau):
            for group in groups:
                group["lr"] = self.schedule(epoch, float(group["lr"]))
        if self.verbose:
            print(f"epoch {epoch + 1}: learning rate {format_number(float(groups[0]['lr']))}")

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        if self.every == "batch" and isinstance(self.schedule, LRScheduler):
            self.schedule.step()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs["learning_rate"] = float(self.trainer.optimizer.param_groups[0]["lr"])
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(logs[self.monitor])
        elif isinstance(self.schedule, LRScheduler) and self.every == "epoch":
            self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        if isinstance(self.schedule, LRScheduler | ReduceLROnPlateau):
            return self.schedule.state_dict()
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if isinstance(self.schedule, LRScheduler | ReduceLROnPlateau):
            self.schedule.load_state_dict(dict(state))


class TerminateOnNaN(Callback):
    """Stops after an epoch whose loss is not finite."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not math.isfinite(logs["loss"]):
            self.trainer.stop_training = True
