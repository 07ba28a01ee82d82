"""Counting compiles, and running scripts in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rabbet as rb
from rabbet.codegen import machine
from rabbet.engine import programs
from rabbet.tensor import flush

ROOT = Path(__file__).resolve().parents[2]


class Counts:
    """What was compiled since the last look."""

    def __init__(self) -> None:
        self.look()

    def look(self) -> tuple[int, int]:
        """(kernels compiled by LLVM, programs made) since the last look."""
        now = machine.compilations, programs.statistics["programs_compiled"]
        before, self._last = getattr(self, "_last", now), now
        return now[0] - before[0], now[1] - before[1]

    @property
    def kernels(self) -> int:
        """Kernels compiled since the last look."""
        return self.look()[0]


@pytest.fixture
def counts() -> Counts:
    """A fresh count."""
    flush()
    return Counts()


@pytest.fixture
def fresh() -> Iterator[None]:
    """No program known, seeded."""
    flush()
    programs.families.clear()
    rb.manual_seed(0)
    yield


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """Run Python text in a new process with an empty kernel cache; what it printed."""

    def run(text: str, **environment: str) -> str:
        file = tmp_path / "script.py"
        file.write_text(text)
        paths = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        given = {
            **os.environ,
            "PYTHONPATH": paths,
            "RABBET_CACHE_DIR": str(tmp_path / "cache"),
            **environment,
        }
        done = subprocess.run(
            [sys.executable, str(file)], capture_output=True, text=True, env=given, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run
