"""docs/tour.py shows one expression at every stage, and the last number is right."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

import rabbet as rb

ROOT = Path(__file__).resolve().parent.parent.parent
STAGES = ("recorded", "graph", "decomposed", "fused", "lowered", "machine code", "plan", "run")


@pytest.fixture(scope="module")
def stages() -> list[str]:
    """What the tour prints under each title."""
    done = subprocess.run(
        [sys.executable, "docs/tour.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    titles = re.findall(r"^== (\d)\. (.*?) =*$", done.stdout, re.MULTILINE)
    assert [int(number) for number, _ in titles] == list(range(1, 9))
    for (_, title), word in zip(titles, STAGES, strict=True):
        assert word in title
    return re.split(r"^== .*$", done.stdout, flags=re.MULTILINE)[1:]


def first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def test_what_is_shown(stages: list[str]) -> None:
    recorded, graph, decomposed, fused, lowered, code, plan, ran = stages
    assert first_words(recorded) == ["matmul", "add", "gelu", "sum"]
    assert set(first_words(graph)) == {"_input", "matmul", "add", "gelu", "sum"}
    assert {"contract", "gelu", "reduce_sum"} < set(first_words(decomposed))
    assert not {"matmul", "sum"} & set(first_words(decomposed))
    assert first_words(fused) == ["contract:", "rows:"]
    assert "for v0 < s" in lowered and "gelu(" in lowered and "64" not in lowered
    assert code.strip().startswith("rb_")
    assert re.search(r"\d+ words", plan) and "\n  reduce_sum" in plan
    assert ran.count("last segment") == 2 and "4 ops -> 2 kernels" in ran and "tour.py:" in ran


def test_the_sum_is_right(stages: list[str]) -> None:
    found = re.search(r"sum of the first row: (\S+)", stages[-1])
    assert found is not None
    rb.manual_seed(0)
    a, b, c = (rb.randn(*n).numpy().astype(np.float64) for n in ((64, 32), (32, 16), (16,)))
    z = a @ b + c
    wanted = (0.5 * z * (1 + special.erf(z / 2**0.5))).sum(axis=1)[0]
    assert float(found[1]) == pytest.approx(wanted, rel=1e-5)
