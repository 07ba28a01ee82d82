"""Compiled programs under Valgrind: no access outside a buffer, no result of memory never set."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rabbet import targets
from tests.hardening.replay import record, write_case, write_objects
from tests.hardening.workloads import WORKLOADS

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "rabbet" / "runtime" / "native"
TARGET = targets.find("x86_v3")  # Valgrind does not know AVX-512
MOST_SECONDS = 500
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(TARGET not in targets.runnable(), reason="this CPU has no AVX2"),
]


def build(workload: str, folder: Path) -> tuple[Path, list[Path]]:
    """The program that replays a workload, and its arguments."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler (cc)")
    cases = record(WORKLOADS[workload], TARGET)
    assert cases
    files = [folder / f"case{i}" for i in range(len(cases))]
    for case, file in zip(cases, files, strict=True):
        write_case(case, file)
    parts = [*write_objects(cases, TARGET, folder), HERE / "replay.c", *sorted(NATIVE.glob("*.c"))]
    command = [compiler, *FLAGS, f"-I{NATIVE}", *map(str, parts), "-o", str(folder / "replay")]
    subprocess.run([*command, "-pthread"], check=True)
    return folder / "replay", files


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run to the end; its output as text."""
    return subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_workload(workload: str, tmp_path: Path) -> None:
    """Every segment of the workload, in C, gives Python's bytes; Valgrind finds nothing."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("there is no valgrind")
    program, files = build(workload, tmp_path)
    check = [valgrind, "--quiet", "--error-exitcode=9", "--leak-check=full", "--num-callers=20"]
    done = run([*check, str(program), *map(str, files)])
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout == f"replayed {len(files)} programs\n"


def test_finds_what_is_planted(tmp_path: Path) -> None:
    """A program that reads four bytes past the end of an input is caught."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("there is no valgrind")
    program, files = build("mlp", tmp_path)
    case = record(WORKLOADS["mlp"], TARGET)[-1]
    longest = max(range(len(case.inputs)), key=lambda i: len(case.inputs[i]))
    case.inputs[longest] = case.inputs[longest][:-4]
    write_case(case, files[-1])
    done = run([valgrind, "--error-exitcode=9", str(program), str(files[-1])])
    assert done.returncode == 9 or "Invalid read" in done.stderr, done.stderr[-2000:]
