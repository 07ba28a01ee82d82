"""Programs that stress flexibility, with their known results (examples/)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.slow


def example(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_one_gradient_step_is_enough_after_meta_learning() -> None:
    """MAML: second-order gradients under vmap under jit."""
    before, after = example("maml").train(steps=2000)
    assert after < 0.6 * before and after < 1.5


def test_an_adaptive_solver_learns_a_spiral() -> None:
    """A `while` on values, of another length at each step."""
    first, last, counts = example("neural_ode").train(steps=150)
    assert last < 0.3 * first and len(counts) >= 2


def test_a_tree_lstm_reads_expressions() -> None:
    """No two graphs are alike."""
    assert example("tree_lstm").train(trees=2000, depth=2) > 0.8
