"""Trainer: learning, reading nothing in between, resuming, data in all its forms."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, optim
from rabbet.base.errors import DTypeError, RabbetError, ShapeError
from rabbet.data import ArrayDataset, DataLoader, IterableDataset
from rabbet.train import Callback, LearningRateScheduler, ModelCheckpoint, Trainer

RNG = np.random.default_rng(0)
X = RNG.standard_normal((48, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


def make_trainer(seed: int = 0, **options: Any) -> Trainer:
    rb.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
    options = {"metrics": ["accuracy"], **options}
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)


def weights(trainer: Trainer) -> bytes:
    return b"".join(t.numpy().tobytes() for t in trainer.model.state_dict().values())


def test_it_learns() -> None:
    trainer = make_trainer()
    before = trainer.evaluate(X, Y)
    history = trainer.fit(X, Y, batch_size=16, epochs=6, validation_data=(X, Y), verbose=0)
    after = trainer.evaluate(X, Y, batch_size=20)
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history.epoch == list(range(6)) and len(history["loss"]) == 6
    assert after["loss"] < before["loss"] and after["accuracy"] > 0.7
    np.testing.assert_allclose(after["loss"], history["val_loss"][-1], rtol=1e-6)
    assert trainer.model.training and trainer.epoch == 6


def test_means_are_over_samples_not_batches() -> None:
    """48 samples in batches of 20, 20 and 8."""
    trainer = make_trainer()
    trainer.model.eval()
    scores = trainer.model(rb.asarray(X)).numpy().astype(np.float64)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    found = trainer.evaluate(X, Y, batch_size=20)
    np.testing.assert_allclose(found["loss"], -logs[np.arange(48), Y].mean(), rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], (scores.argmax(1) == Y).mean(), rtol=1e-6)


@pytest.mark.parametrize("form", ["arrays", "tensors", "dataset", "loader", "inputs"])
def test_forms_of_data_give_the_same_training(form: str) -> None:
    trainer = make_trainer()
    data: dict[str, tuple[Any, ...]] = {
        "arrays": (X, Y),
        "tensors": (rb.asarray(X), rb.asarray(Y)),
        "dataset": (ArrayDataset(X, Y),),
        "loader": (DataLoader(ArrayDataset(X, Y), 16, True, seed=3),),
        "inputs": ((X,), Y),
    }
    trainer.fit(*data[form], batch_size=16, epochs=2, seed=3, verbose=0)
    other = make_trainer()
    other.fit(X, Y, batch_size=16, epochs=2, seed=3, verbose=0)
    assert weights(trainer) == weights(other)


def test_validation_split_takes_the_end() -> None:
    seen = []

    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(1, 1)

        def forward(self, x: rb.Tensor) -> rb.Tensor:
            seen.append((self.training, x.numpy().reshape(-1).tolist()))
            return self.fc(x)

    model = Noting()
    trainer = Trainer(model, "mse", optim.SGD(model.parameters(), lr=0.0))
    x = np.arange(8, dtype=np.float32)[:, None]
    history = trainer.fit(x, x, validation_split=0.25, shuffle=False, batch_size=6, verbose=0)
    assert seen == [(True, [0, 1, 2, 3, 4, 5]), (False, [6, 7])]
    assert "val_loss" in history.history
    with pytest.raises(ValueError, match="leaves nothing"):
        trainer.fit(x[:1], x[:1], validation_split=0.5, verbose=0)


def test_predict_leaves_targets_out() -> None:
    trainer = make_trainer()
    trainer.model.eval()
    expected = trainer.model(rb.asarray(X)).numpy()
    for data in (X, ArrayDataset(X, Y), DataLoader(ArrayDataset(X, Y), 7), rb.asarray(X)):
        np.testing.assert_allclose(trainer.predict(data, 20).numpy(), expected, rtol=1e-6)
    trainer.model.train()
    trainer.predict(X)
    assert trainer.model.training


def test_class_weight() -> None:
    """Weights count as in Keras: the mean over all samples of loss times weight."""
    trainer = make_trainer(metrics=[])
    trainer.model[2].p = 0.0
    logits = trainer.model(rb.asarray(X)).numpy().astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    weight = np.array([1.0, 5.0, 0.25])
    expected = (-logs[np.arange(48), Y] * weight[Y]).mean()
    options: dict[str, Any] = {"batch_size": 48, "verbose": 0}
    history = trainer.fit(X, Y, class_weight={1: 5.0, 2: 0.25}, **options)
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-5)
    with pytest.raises(ShapeError, match="class numbers"):
        trainer.fit(X, X, class_weight={0: 2.0}, **options)
    trainer.loss = lambda output, target: output.sum()
    with pytest.raises(RabbetError, match="reduction"):
        trainer.fit(X, Y, class_weight={0: 2.0}, **options)


def test_resume_is_bit_for_bit(tmp_path: Any) -> None:
    def run(trainer: Trainer, epochs: int, first: int, path: str) -> None:
        schedule = optim.lr_scheduler.ExponentialLR(trainer.optimizer, 0.8)
        trainer.fit(
            *(X, Y),
            batch_size=16,
            epochs=epochs,
            initial_epoch=first,
            callbacks=[ModelCheckpoint(tmp_path / path), LearningRateScheduler(schedule)],
            verbose=0,
        )

    whole = make_trainer()
    run(whole, 4, 0, "{epoch}")
    for stop in (2, 3):
        resumed = make_trainer(seed=99)
        resumed.load_state_dict(rb.load(tmp_path / str(stop)))
        assert resumed.epoch == stop
        run(resumed, 4, resumed.epoch, "again{epoch}")
        assert weights(resumed) == weights(whole)


def test_resume_in_the_middle_of_an_epoch(tmp_path: Any) -> None:
    def options(path: str) -> dict[str, Any]:
        keep = ModelCheckpoint(tmp_path / path, save_freq=4)
        return {"batch_size": 16, "epochs": 3, "callbacks": [keep], "verbose": 0}

    whole = make_trainer()
    whole.fit(X, Y, **options("first"))  # 3 batches an epoch: the last state is of batch 8 of 9
    resumed = make_trainer(seed=99)
    resumed.load_state_dict(rb.load(tmp_path / "first"))
    assert resumed.epoch == 2
    resumed.fit(X, Y, initial_epoch=2, **options("second"))
    assert weights(resumed) == weights(whole)


def test_a_step_reads_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer()
    options: dict[str, Any] = {"batch_size": 16, "verbose": 0}
    reads = []
    original = rb.Tensor.numpy

    def counting(self: rb.Tensor) -> np.ndarray:
        reads.append(self)
        return original(self)

    monkeypatch.setattr(rb.Tensor, "numpy", counting)
    trainer.fit(X, Y, **options)
    once = len(reads)
    reads.clear()
    trainer.fit(np.tile(X, (4, 1)), np.tile(Y, 4), **options)
    assert len(reads) == once


class Counting(Trainer):
    """Counts the steps whose Python ran."""

    steps = 0

    def train_step(self, *args: Any) -> None:
        self.steps += 1
        super().train_step(*args)


def test_jit_gives_the_same_bits_and_replays() -> None:
    found = []
    for use_jit in (False, True):
        plain = make_trainer()
        trainer = Counting(
            plain.model, plain.loss, plain.optimizer, metrics=["accuracy"], jit=use_jit
        )
        history = trainer.fit(
            X, Y, batch_size=20, epochs=3, validation_data=(X, Y), class_weight={0: 2.0}, verbose=0
        )
        found.append((weights(trainer), history.history, trainer.steps))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] == 9 and found[1][2] == 2  # one recording for each size of batch


def test_gradients_are_clipped() -> None:
    w = nn.ParameterList([rb.zeros((1,))])
    w.forward = lambda x: x * w[0]  # type: ignore[method-assign]
    trainer = Trainer(
        w, lambda out, y: 100.0 * out.sum(), optim.SGD(w.parameters(), 1.0), clip_grad_norm=0.5
    )
    one = np.ones((1, 1), np.float32)
    trainer.fit(one, one, verbose=0)
    np.testing.assert_allclose(w[0].numpy(), [-0.5], rtol=1e-5)


class Press(Callback):
    """Ctrl-C in the middle of a batch."""

    def on_batch_begin(self, batch: int, logs: Any) -> None:
        if batch == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_between_steps() -> None:
    ended = []

    class End(Callback):
        def on_train_end(self, logs: Any) -> None:
            ended.append(True)

    trainer = make_trainer(callbacks=[Press(), End()])
    steps = trainer.optimizer.param_groups[0].steps  # type: ignore[union-attr]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    assert steps.item() == 2 and ended == [True] and trainer.model.training
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    trainer.callbacks.clear()
    trainer.fit(X, Y, batch_size=16, verbose=0)
    assert steps.item() == 5


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    make_trainer().fit(X, Y, batch_size=16, epochs=2, validation_data=(X, Y))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("epoch 1/2  loss ")
    for part in ("accuracy", "val_loss", "samples/s"):
        assert part in lines[1]
    make_trainer().fit(X, Y, verbose=0)
    assert capsys.readouterr().out == ""


def test_the_bar_moves_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr("rabbet.train.progress.REFRESH_SECONDS", 0.0)
    shown: list[str] = []
    monkeypatch.setattr("sys.stdout", Recorder(shown))
    make_trainer().fit(X, Y, batch_size=16)
    text = "".join(shown)
    assert "3/3" in text and "samples/s" in text and "epoch 1/1" in text


class Samples(IterableDataset):
    """A stream that does not say how long it is."""

    def __iter__(self) -> Iterator[Any]:
        yield from zip(X, Y, strict=True)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_streams_without_a_length(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if is_terminal else "0")
    monkeypatch.setattr("rabbet.train.progress.REFRESH_SECONDS", 0.0)
    shown: list[str] = []
    monkeypatch.setattr("sys.stdout", Recorder(shown))
    trainer = make_trainer()
    trainer.fit(DataLoader(Samples(), 16))
    other = make_trainer()
    other.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    assert weights(trainer) == weights(other)
    with pytest.raises(TypeError, match="the stream Samples .* give a DataLoader of it"):
        trainer.fit(Samples())
    text = "".join(shown)
    assert "samples/s" in text and ("3/?" in text) == is_terminal


class Recorder:
    """A terminal that keeps what is written."""

    encoding = "utf-8"

    def __init__(self, shown: list[str]) -> None:
        self.shown = shown

    def write(self, text: str) -> int:
        self.shown.append(text)
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def test_mistakes_are_named() -> None:
    trainer = make_trainer()
    with pytest.raises(RabbetError, match="needs a loss and an optimizer"):
        Trainer(trainer.model).fit(X, Y)
    with pytest.raises(ValueError, match="no metric is called 'f1'"):
        make_trainer(metrics=["f1"])
    with pytest.raises(ValueError, match="no loss called 'wrong'"):
        Trainer(trainer.model, "wrong")
    with pytest.raises(ShapeError, match=r"\(inputs..., target\)"):
        trainer.fit(X, verbose=0)
    with pytest.raises(TypeError, match="leave y out"):
        trainer.fit(ArrayDataset(X, Y), Y, verbose=0)
    with pytest.raises(TypeError, match="not int"):
        trainer.fit(3, verbose=0)
    with pytest.raises(DTypeError, match="astype"):
        trainer.fit(X.astype(np.float64), Y, verbose=0)
    with pytest.raises(RabbetError, match="no batches"):
        trainer.fit(X[:0], Y[:0], verbose=0)
