"""Memory that is not there is a MemoryError, in native code too, and the process goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import re
import resource
import rabbet as rb
from rabbet.recorder import record

x = rb.ones((2,))
x.numpy()
text = "a" * 2**28  # a key would hold it
used = int(re.search(r"VmSize: *(\\d+)", open("/proc/self/status").read().replace("\\t", " "))[1])
resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + 2**27,) * 2)
try:
    record(rb.negative.op, (x,), {"text": text}, ())
except MemoryError:
    print(rb.sum(x + 1).item())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_recorder_raises_memory_error() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RABBET_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "4.0\n"), done.stderr
