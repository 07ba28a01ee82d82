"""`rabbet demo`: training, files, C and HTTP; all ways agree on every label."""

import os
import statistics
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.optional import require
from rabbet.demo import main, run
from rabbet.demo.model import train_model

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = (
    "digits.safetensors",
    "models/digits/1/digits.rbt",
    "native/libdigits.so",
    "native/digits.h",
    "native/classify",
)


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any, Any]:
    return train_model(0, epochs=1, verbose=0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, trained: tuple[Any, Any, Any]) -> None:
    """The demo's training is one epoch, done once for all tests here."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(run, "train_model", lambda seed, verbose: trained)


def nothing(images: np.ndarray, results: run.Results) -> None:
    """A stage that is left alone."""


@pytest.mark.usefixtures("quick")
def test_every_stage(tmp_path: Path) -> None:
    results = main(tmp_path, quiet=True)
    possible = {"Python", "C", "HTTP"} - set(results.left_out)
    assert set(results.labels) == possible and "Python" in possible
    for labels in results.labels.values():
        assert np.array_equal(labels, results.labels["Python"])
    assert 0.7 < results.accuracy < 1
    assert set(results.latency) == possible and min(results.latency.values()) > 0
    for file in FILES if "C" in possible else FILES[:2]:
        assert (tmp_path / file).stat().st_size > 0
    saved = rb.load(tmp_path / "digits.safetensors")
    assert saved["0.weight"].shape == (32, 1, 3, 3)


@pytest.mark.usefixtures("quick")
def test_another_label_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_wrong(images: np.ndarray, results: run.Results) -> None:
        results.labels["C"] = results.labels["Python"].copy()
        results.labels["C"][7] += 1

    monkeypatch.setattr(run, "_classify_in_c", one_wrong)
    monkeypatch.setattr(run, "_classify_over_http", nothing)
    with pytest.raises(rb.RabbetError, match=r"C and Python disagree on 1 of 359 images: \[7\]"):
        main(tmp_path, quiet=True)


@pytest.mark.usefixtures("quick")
def test_what_a_machine_lacks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    def lacks_an_extra(images: np.ndarray, results: run.Results) -> None:
        require("a_package_that_is_nowhere", "serve")

    monkeypatch.setattr(run, "_classify_over_http", lacks_an_extra)
    results = main(tmp_path)
    assert "there is no C compiler" in results.left_out["C"] and "C" not in results.labels
    shown = capsys.readouterr().out
    assert "left out: C: there is no C compiler" in shown and "accuracy" in shown
    assert 'pip install "rabbet[serve]"' in " ".join(shown.split())


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rabbet", "demo", "files"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 15/15" in done.stdout and "agree on every label" in done.stdout
    left_out = [line for line in done.stdout.splitlines() if "left out" in line]
    for file in FILES[:2] if any(": C:" in line for line in left_out) else FILES:
        assert (tmp_path / "files" / file).stat().st_size > 0
    if not any("picture" in line for line in left_out):
        assert (tmp_path / "files" / "digits.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_the_median_of_five_trainings() -> None:
    found = []
    for seed in range(5):
        _, history, _ = train_model(seed, verbose=0)
        found.append(history.history["val_accuracy"][-1])
    assert statistics.median(found) >= 0.985, found


def test_the_digits_are_in_the_package() -> None:
    assert resources.files("rabbet.data").joinpath("digits.npz").is_file()
