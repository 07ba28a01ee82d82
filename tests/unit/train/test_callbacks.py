"""Callbacks and metrics."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, optim
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.train import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LearningRateScheduler,
    ModelCheckpoint,
    TerminateOnNaN,
    Trainer,
)
from rabbet.train.logs import RunningMeans, format_number
from rabbet.train.metrics import METRICS, find_metric

X = np.ones((4, 1), np.float32)


def make_trainer(lr: float = 0.1) -> Trainer:
    """One weight w, started at 1, loss w^2: each step makes it (1 - 2 lr) w."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    return Trainer(model, "mse_loss", optim.SGD(model.parameters(), lr=lr))


def fit(trainer: Trainer, *callbacks: Callback, epochs: int = 3) -> History:
    options: dict[str, Any] = {"batch_size": 2, "verbose": 0, "shuffle": False}
    return trainer.fit(X, X * 0, epochs=epochs, callbacks=callbacks, **options)


class Script(Callback):
    """Writes given numbers into the logs as "score"."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs["score"] = self.values[epoch]


def test_events_come_in_order() -> None:
    events: list[Any] = []

    class Noting(Callback):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                return lambda *args: events.append((name, *args[:-1]))
            return super().__getattribute__(name)

    fit(make_trainer(), Noting(), epochs=1)
    assert events == [
        ("on_train_begin",),
        ("on_epoch_begin", 0),
        *[(f"on_batch_{what}", i) for i in (0, 1) for what in ("begin", "end")],
        ("on_epoch_end", 0),
        ("on_train_end",),
    ]


def test_logs_of_batches_are_read_only_when_looked_at() -> None:
    seen = []

    class Look(Callback):
        def on_batch_end(self, batch: int, logs: Any) -> None:
            seen.append((logs["loss"], sorted(logs), logs.samples))

    fit(make_trainer(0.25), Look(), epochs=1)
    assert seen == [(1.0, ["loss"], 2), ((1 + 0.25) / 2, ["loss"], 4)]


@pytest.mark.parametrize(
    ("options", "values", "epochs"),
    [
        ({"patience": 2}, (3.0, 2.0, 2.0, 2.5, 1.0), 4),
        ({"patience": 0}, (3.0, 2.0, 2.0, 1.0, 1.0), 3),
        ({"patience": 1, "min_delta": 0.5}, (3.0, 2.0, 1.75, 1.0, 0.0), 3),
        ({"patience": 1, "mode": "max"}, (1.0, 2.0, 3.0, 3.0, 9.0), 4),
        ({"patience": 1, "baseline": 0.5}, (1.0, 0.1, 0.1, 0.1, 0.1), 1),
        ({"patience": 1, "start_from_epoch": 3}, (1.0, 2.0, 3.0, 4.0, 5.0), 5),
        ({"patience": 1}, (1.0, math.nan, 0.0, 0.0, 0.0), 2),
    ],
)
def test_early_stopping(options: dict[str, Any], values: tuple[float, ...], epochs: int) -> None:
    stopping = EarlyStopping(monitor="score", **options)
    history = fit(make_trainer(), Script(*values), stopping, epochs=5)
    assert len(history.epoch) == epochs
    assert stopping.stopped_epoch == epochs - 1


def test_early_stopping_restores_the_best_weights() -> None:
    trainer = make_trainer()
    stopping = EarlyStopping("score", patience=2, restore_best_weights=True)
    fit(trainer, Script(1.0, 5.0, 5.0, 5.0), stopping, epochs=4)
    np.testing.assert_allclose(trainer.model.weight.numpy(), [[0.8**2]], rtol=1e-6)


def test_monitoring_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="no 'val_loss' to monitor; there are loss"):
        fit(make_trainer(), EarlyStopping())
    with pytest.raises(ValueError, match="mode='most'"):
        EarlyStopping(mode="most")


def test_checkpoints_of_weights_by_name_and_best_only(tmp_path: Path) -> None:
    trainer = make_trainer()
    fit(
        trainer,
        ModelCheckpoint(tmp_path / "w-{epoch:02d}-{loss:.2f}", save_weights_only=True),
        ModelCheckpoint(tmp_path / "sub" / "best", "score", True, True),
        Script(2.0, 1.0, 3.0),
    )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:5] for name in names] == ["sub", "w-01-", "w-02-", "w-03-"]
    best = rb.load(tmp_path / "sub" / "best")["weight"].numpy()
    np.testing.assert_allclose(best, [[0.8**4]], rtol=1e-6)  # after epoch 2 of 2 steps each


def test_csv_logger(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    trainer = make_trainer(0.25)
    fit(trainer, CSVLogger(path), epochs=2)
    trainer.fit(
        X, X * 0, epochs=3, initial_epoch=2, verbose=0, callbacks=[CSVLogger(path, append=True)]
    )
    with path.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["epoch", "loss"] and [row[0] for row in rows[1:]] == ["0", "1", "2"]
    assert float(rows[1][1]) == (1 + 0.25) / 2


def test_learning_rate_by_function_and_by_schedule() -> None:
    trainer = make_trainer(1.0)
    history = fit(trainer, LearningRateScheduler(lambda epoch, rate: rate / 2))
    assert history["learning_rate"] == [0.5, 0.25, 0.125]
    trainer = make_trainer(1.0)
    assert trainer.optimizer is not None
    schedule = optim.lr_scheduler.StepLR(trainer.optimizer, 1, 0.5)
    history = fit(trainer, LearningRateScheduler(schedule))
    assert history["learning_rate"] == [1.0, 0.5, 0.25]
    history = fit(trainer, LearningRateScheduler(schedule, every="batch"), epochs=1)
    assert history["learning_rate"] == [1.0 / 32]
    plateau = optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, factor=0.5, patience=0)
    watching = LearningRateScheduler(plateau, monitor="score")
    history = fit(trainer, Script(1.0, 2.0, 3.0), watching)
    assert history["learning_rate"] == [1 / 32, 1 / 32, 1 / 64]


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    trainer = make_trainer()
    with rb.no_grad():
        trainer.model.weight.mul_(math.nan)
    assert len(fit(trainer, TerminateOnNaN()).epoch) == 1


def value(name: str, output: Any, target: Any) -> float:
    return METRICS[name](rb.asarray(np.array(output)), rb.asarray(np.array(target))).item()


def test_metrics() -> None:
    scores = np.float32([[0.1, 0.9, 0.0], [0.8, 0.3, 0.2], [0.2, 0.5, 0.4]])
    assert value("accuracy", scores, [1, 0, 2]) == pytest.approx(2 / 3)
    assert value("accuracy", scores, np.float32([[0, 1, 0], [0, 0, 1], [0, 1, 0]])) == (
        pytest.approx(2 / 3)
    )
    assert value("accuracy", np.float32([[0.2], [0.7]]), [0, 0]) == 0.5
    assert METRICS["top_k_accuracy"](rb.asarray(scores), rb.asarray([2, 2, 2]), k=2).item() == (
        pytest.approx(1 / 3)
    )
    assert value("top_k_accuracy", scores, [2, 2, 2]) == 1.0
    assert value("mse", np.float32([[1.0], [3.0]]), np.float32([0.0, 1.0])) == 2.5
    assert value("mae", np.float32([1.0, 3.0]), [2, 2]) == 1.0
    with pytest.raises(ShapeError, match="accuracy"):
        value("accuracy", scores, [1.0, 2.0])
    with pytest.raises(ShapeError, match="class numbers"):
        value("top_k_accuracy", scores, scores)
    with pytest.raises(DTypeError, match="astype"):
        value("mse", scores, scores.astype(np.float64))


def test_accuracy_of_logits_follows_the_loss() -> None:
    logits, target = rb.asarray(np.float32([[-1.0], [0.25]])), rb.asarray(np.float32([[0], [1]]))
    assert find_metric("accuracy", nn.BCEWithLogitsLoss()).function(logits, target).item() == 1.0
    assert find_metric("accuracy", nn.BCELoss()).function(logits, target).item() == 0.5


def test_metrics_of_ones_own() -> None:
    def bias(output: rb.Tensor, target: rb.Tensor) -> rb.Tensor:
        return output - target

    trainer = make_trainer(0.0)
    trainer.metrics.append(find_metric(bias, None))
    assert fit(trainer, epochs=1)["bias"] == [1.0]
    with pytest.raises(TypeError, match="not int"):
        find_metric(3, None)


def test_running_means() -> None:
    means = RunningMeans(["loss"])
    means.add({"loss": rb.tensor(1.0)}, 3)
    means.add({"loss": rb.tensor(5.0)}, 1)
    assert dict(means) == {"loss": 2.0} and means.samples == 4
    with pytest.raises(ShapeError, match="0-d"):
        means.add({"loss": rb.ones((2,))}, 1)


@pytest.mark.parametrize(
    ("number", "text"), [(0.5, "0.5000"), (0.0, "0.0000"), (1e-5, "1.000e-05"), (2e6, "2.000e+06")]
)
def test_numbers_stay_readable(number: float, text: str) -> None:
    assert format_number(number) == text
