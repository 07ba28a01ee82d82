"""The native modules under the address and undefined-behaviour sanitizers, driven from Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "tools" / "sanitize.sh"
MOST_SECONDS = 900

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the sanitizers are preloaded, as on Linux"),
]


@pytest.fixture(scope="module")
def sanitized(c_compiler: str) -> None:
    """Builds the modules, and skips where the compiler has no sanitizers."""
    command = [c_compiler, "-print-file-name=libasan.so"]
    found = subprocess.run(command, capture_output=True, text=True)
    if "/" not in found.stdout:
        pytest.skip(f"{c_compiler} has no address sanitizer")
    if not (ROOT / "CMakeLists.txt").exists() or not SCRIPT.exists():
        pytest.skip("this is no source tree")
    run("true")


def run(*command: str) -> str:
    """What the command prints, run with sanitized modules; fails on any report."""
    done = subprocess.run(
        ["bash", str(SCRIPT), *command],
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        env=os.environ | {"VENV": venv(), "RABBET_NUM_THREADS": "2"},
    )
    said = done.stdout[-4000:] + done.stderr[-6000:]
    assert done.returncode == 0, said
    assert "ERROR: AddressSanitizer" not in said and "runtime error:" not in said, said
    return done.stdout


def venv() -> str:
    """The environment of this Python, as the script wants it."""
    return os.path.relpath(sys.prefix, ROOT)


@pytest.mark.usefixtures("sanitized")
def test_modules_are_the_sanitized_ones() -> None:
    """The modules that run are those of the copy, and need the sanitizers' library."""
    lines = [
        "from rabbet.runtime import _runtime as r",
        "from rabbet.recorder import _recorder as q",
        "from rabbet.codegen import _loader as c",
        "assert all(b'__asan_init' in open(m.__file__, 'rb').read() for m in (r, q, c))",
        "print(r.__file__, q.__file__, c.__file__)",
    ]
    files = run("python", "-c", "\n".join(lines)).split()
    assert len(files) == 3
    for file in files:
        assert Path(file).relative_to(ROOT / "build").parts[0].startswith("sanitized.")


@pytest.mark.usefixtures("sanitized")
@pytest.mark.parametrize(
    "folder",
    ["tests/unit/runtime", "tests/unit/recorder", "tests/unit/codegen/test_loader.py"],
)
def test_unit_tests(folder: str) -> None:
    """The modules' own tests."""
    said = run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", folder)
    assert " passed" in said


@pytest.mark.usefixtures("sanitized")
def test_training() -> None:
    """Training, jit, errors, threads, and programs of every kind."""
    assert run("python", "-m", "tests.hardening.training").endswith("done\n")
