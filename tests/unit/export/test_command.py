"""The `rabbet` command: what it prints, one line for every error, exit codes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.cli import main
from rabbet.export import export


@pytest.fixture
def model_file(digits_model: Any, tmp_path: Path) -> Path:
    return export(
        digits_model, rb.zeros((1, 1, 8, 8)), tmp_path / "digits.rbt", {"x": {0: "batch"}}
    )


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    return int(stopped.value.code or 0)


def test_inspect(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "--verify", model_file) == 0
    text = capsys.readouterr().out
    for part in ("x: float32(batch, 1, 8, 8)", "698 (and 8 in buffers)", "conv2d", "batch=1"):
        assert part in text, part
    # conv2d: 256 outputs of 9 products, 2 operations each, and a bias
    assert "4.86 K" in text


def test_run(
    model_file: Path, digits_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
    np.save(tmp_path / "x.npy", x)
    assert (
        run("run", model_file, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy") == 0
    )
    assert np.load(tmp_path / "y.npy").tobytes() == digits_model(rb.asarray(x)).numpy().tobytes()
    assert run("run", model_file, "--input", f"x={tmp_path / 'x.npy'}") == 0
    assert "output float32[3, 10]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "none.rbt"], "none.rbt: No such file or directory"),
        (["inspect", "x.npy"], "x.npy: this is not a Rabbet program file"),
        (["run", "digits.rbt"], "the input x: float32(batch, 1, 8, 8) is missing"),
        (["run", "digits.rbt", "--input", "digits.rbt"], "digits.rbt: not a NumPy file"),
        (["run", "digits.rbt", "--input", "y=x.npy"], "there is no input 'y'"),
        (["run", "digits.rbt", "--input", "x.npy"], "x must have shape (batch, 1, 8, 8)"),
        (["run", "digits.rbt", "--entry", "other"], "there is no entry 'other'"),
        (["build", "digits.rbt", "--target", "abacus"], "no target 'abacus'"),
        (["build", "digits.rbt", "--cpu", "abacus"], "no target 'abacus'"),
        (["bench", "--model", "none.py"], "there is no file none.py"),
        (["bench", "--json", "none/x.json"], "none/x.json: there is no such folder"),
        (["build", "x.npy"], "x.npy: this is not a Rabbet program file"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(model_file.parent)
    monkeypatch.delenv("RABBET_DEBUG", raising=False)
    np.save("x.npy", np.zeros(3, np.float32))
    assert run(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("rabbet: ") and captured.err.count("\n") == 1
    assert message in captured.err and captured.out == ""


def test_version_and_module() -> None:
    environment = {**os.environ, "NO_COLOR": "1"}
    command = [sys.executable, "-m", "rabbet", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "rabbet 0.1.0\n"
