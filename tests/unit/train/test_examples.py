"""The examples run and keep what they promise."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_digits_are_learned() -> None:
    assert load_example("digits").main(epochs=8) > 0.93


@pytest.mark.slow
def test_plain_and_jitted_loops_agree() -> None:
    losses, accuracy = load_example("digits_loop").main(epochs=3)
    assert losses[2] < losses[0] / 2 and accuracy > 0.85


@pytest.mark.slow
def test_a_resumed_training_is_the_same() -> None:
    assert load_example("resume").main(epochs=2)
