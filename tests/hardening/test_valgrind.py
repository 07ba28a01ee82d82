"""Compiled programs under Valgrind: no access outside a buffer, no result of memory never set."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import rabbet as rb
from rabbet import targets
from tests.hardening.replay import Case, cases_of, record, write_case, write_objects
from tests.hardening.workloads import WORKLOADS
from tests.unit.export.control_programs import everything

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "rabbet" / "runtime" / "native"
TARGET = targets.find("x86_v3")  # Valgrind does not know AVX-512
MOST_SECONDS = 500
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(TARGET not in targets.runnable(), reason="this CPU has no AVX2"),
]


def build(cases: list[Case], folder: Path) -> tuple[Path, list[Path]]:
    """The program that replays the cases, and its arguments."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler (cc)")
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
    check(record(WORKLOADS[workload], TARGET), tmp_path)


def test_control_flow(tmp_path: Path) -> None:
    """A library's plan with plans inside it, on inputs that go different ways."""
    rng = np.random.default_rng(0)
    path = rb.export(everything, (rb.ones(3),), tmp_path / "everything.rbt")
    xs = [(rng.standard_normal(3) * scale).astype(np.float32) for scale in (0.3, 1, 4, 12) * 2]
    check(cases_of(path, [[x] for x in xs], TARGET), tmp_path)


def check(cases: list[Case], folder: Path) -> None:
    """Replays the cases under Valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("there is no valgrind")
    program, files = build(cases, folder)
    options = ["--quiet", "--error-exitcode=9", "--leak-check=full", "--num-callers=20"]
    done = run([valgrind, *options, str(program), *map(str, files)])
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout == f"replayed {len(files)} programs\n"


def test_finds_what_is_planted(tmp_path: Path) -> None:
    """A program that reads four bytes past the end of an input is caught."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("there is no valgrind")
    cases = record(WORKLOADS["mlp"], TARGET)
    program, files = build(cases, tmp_path)
    case = cases[-1]
    longest = max(range(len(case.inputs)), key=lambda i: len(case.inputs[i]))
    case.inputs[longest] = case.inputs[longest][:-4]
    write_case(case, files[-1])
    done = run([valgrind, "--error-exitcode=9", str(program), str(files[-1])])
    assert done.returncode == 9 or "Invalid read" in done.stderr, done.stderr[-2000:]
