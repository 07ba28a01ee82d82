"""The live bar of a training, and plain lines where there is no terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from rabbet.train.callbacks import Callback, Logs
from rabbet.train.logs import show_logs

REFRESH_SECONDS = 0.1  # values are read only then


class Lines(Callback):
    """One line per epoch: loss, metrics, samples per second, time."""

    def __init__(self, epochs: int, console: Console) -> None:
        self.epochs, self.console = epochs, console
        self._began = self._trained = 0.0
        self._samples = 0  # trained on in this epoch

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        self._began = self._trained = time.perf_counter()

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        self._trained = time.perf_counter()
        self._samples = getattr(logs, "samples", 0)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        seconds = time.perf_counter() - self._began
        self.console.print(
            f"epoch {epoch + 1}/{self.epochs}  {show_logs(logs)}  {self.rate()}  {seconds:.1f} s",
            highlight=False,
            soft_wrap=True,
        )

    def rate(self) -> str:
        """How fast the epoch's training went so far, validation left out."""
        return f"{self._samples / max(self._trained - self._began, 1e-9):,.0f} samples/s"


class Bar(Lines):
    """A bar that moves while an epoch runs, and a line when it is over; `batches` is the number in
    an epoch, None where it is not known.
    """

    def __init__(self, epochs: int, batches: int | None, console: Console) -> None:
        super().__init__(epochs, console)
        self.batches = batches
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._shown = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        super().on_epoch_begin(epoch, logs)
        self._progress = Progress(
            TextColumn("{task.description}", table_column=_fixed()),
            BarColumn(bar_width=16, table_column=_fixed(16)),
            MofNCompleteColumn(table_column=_fixed()),
            TextColumn("{task.fields[rate]}", table_column=_fixed()),
            TimeRemainingColumn(compact=True, table_column=_fixed()),
            # The one that wraps where the terminal is narrow.
            TextColumn("{task.fields[logs]}", table_column=Column()),
            console=self.console,
            auto_refresh=False,  # a thread of its own would read tensors of this one
            transient=True,
        )
        description = f"epoch {epoch + 1}/{self.epochs}"
        self._task = self._progress.add_task(description, total=self.batches, logs="", rate="")
        self._progress.start()
        self._shown = time.perf_counter()

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        super().on_batch_end(batch, logs)
        now = self._trained
        if self._progress is None or now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        done, rate = batch + 1, self.rate()
        self._progress.update(self._task, completed=done, logs=show_logs(logs), rate=rate)
        self._progress.refresh()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._stop()
        super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: Logs) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _fixed(least: int | None = None) -> Column:
    return Column(no_wrap=True, min_width=least)


def make_progress(verbose: int, epochs: int, batches: int | None) -> list[Callback]:
    """Nothing (verbose 0), a live bar (1), or lines (2, or 1 where there is no terminal)."""
    if verbose == 0:
        return []
    console = Console()
    if verbose == 1 and (console.is_terminal or console.is_jupyter):
        return [Bar(epochs, batches, console)]
    return [Lines(epochs, console)]
