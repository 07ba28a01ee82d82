"""The random programs of tests/equivalence find compiler bugs planted on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.planted.bugs import PLANTED

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 10_000


def hunt(name: str, limit: int, cache: Path) -> str:
    """What a process with the bug prints; a crash of it counts as found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.planted.hunt", name, str(limit)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RABBET_CACHE_DIR": str(cache)},
        timeout=3000,
    )
    if done.returncode < 0:
        return f"found by a crash with signal {-done.returncode}"
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_planted_bug_is_found(name: str, tmp_path: Path) -> None:
    """Within ten thousand programs; in practice within some dozens."""
    assert hunt(name, LIMIT, tmp_path).startswith("found")


@pytest.mark.slow
def test_without_a_bug_nothing_is_found(tmp_path: Path) -> None:
    """The hunt itself does not cry wolf."""
    assert hunt("none", 60, tmp_path).startswith("not found")
