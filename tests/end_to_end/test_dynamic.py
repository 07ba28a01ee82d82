"""A dynamic model trains with the same bits in every mode, and near the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(__file__).with_name("dynamic_model.py")
STEPS = 200


@cache
def run(steps: int, dtype: str = "float32", how: str = "plain", again: int = 0, **more: str) -> str:
    """What a process of its own prints for this many steps; `again` tells runs apart."""
    paths = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    done = subprocess.run(
        [sys.executable, str(MODEL), str(steps), dtype, how],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **more},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def losses(printed: str) -> list[float]:
    """The losses of a run."""
    return [float.fromhex(line) for line in printed.splitlines()[:-2]]


def test_the_control_flow_is_exercised() -> None:
    """Both branches, three depths and more, a line printed at each step; and it learns."""
    printed = run(STEPS)
    words = printed.splitlines()[-2].split()
    depths = words[1 : words.index("branches")]
    assert len(depths) >= 3 and words[-1] == "2"
    assert printed.splitlines()[-1] == f"lines {STEPS}"
    found = losses(printed)
    assert len(found) == STEPS
    assert sum(found[-20:]) < sum(found[:20])


MODES = {
    "a second run": {"again": 1},
    "eager": {"RABBET_DEBUG": "eager"},
    "jit": {"how": "jit"},
    "one thread": {"RABBET_NUM_THREADS": "1"},
    "two threads": {"RABBET_NUM_THREADS": "2"},
}


@pytest.mark.parametrize("mode", MODES)
def test_same_bits(mode: str) -> None:
    """Every loss of 200 steps, bit for bit, and everything printed."""
    assert run(STEPS, **MODES[mode]) == run(STEPS)  # type: ignore[arg-type]


def test_near_the_reference() -> None:
    """Twenty float64 steps within 1e-4 of the NumPy reference."""
    compiled = losses(run(20, "float64"))
    reference = losses(run(20, "float64", RABBET_ENGINE="reference"))
    assert compiled == pytest.approx(reference, rel=1e-4)
    assert len(compiled) == 20
