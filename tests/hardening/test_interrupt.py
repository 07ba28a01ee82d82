"""Ctrl-C in a long kernel: it stops soon, nothing is half done, and the process goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MOST_SECONDS = 0.3  # the runtime asks every 50 ms; the rest is for a crowded machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal here"),
]


@pytest.mark.parametrize(
    ("work", "after"),
    [
        *(("matmul", 0.7), ("elementwise", 0.7), ("convolution", 0.7)),
        *(("train", 0.01), ("train", 1.2), ("jit", 0.1), ("jit", 0.8)),
    ],
)
def test_interrupt(work: str, after: float) -> None:
    """SIGINT comes `after` seconds into the work, or that part of the time it should take."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, str(HERE / "interrupted.py"), work],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert child.stdout is not None
        said, *seconds = child.stdout.readline().split()
        assert said == "running", child.communicate()[1][-3000:]
        time.sleep(after * (float(seconds[0]) or 1.0))
        pressed = time.monotonic()  # one clock for all processes of a machine
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=120)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0, errors[-3000:]
    found = json.loads(output)
    untouched, stopped = found.pop("as before", True), found.pop("stopped")
    # Once parameters are written over, the step goes on to its end.
    assert stopped - pressed < MOST_SECONDS or not untouched
    assert untouched or (work, after) != ("jit", 0.1), "so early nothing can have been updated"
    assert all(found.values()), found
