"""What a framework costs beside its speed: import, first prediction, compiling, memory, disk."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from rabbet.bench.processes import Process, WorkerError, environment_of
from rabbet.bench.table import number

FIRST = "gemm_f32_256"  # every framework has it
TRAININGS = ("gpt_train", "resnet18_train")
COMPILED = ("jit", "compile", "xla")  # the ways that compile, by preference
MEGABYTE = 1 << 20


@dataclass
class Costs:
    """Of one framework; None where it cannot do it. Bytes beside `import_bytes` are those of a
    process that trains, whole."""

    import_seconds: float
    first_seconds: float | None  # from the start of the process to its first product
    cold_seconds: float | None  # until the gpt step is compiled, without anything kept on disk
    warm_seconds: float | None  # the same in a second process
    import_bytes: int
    peak_bytes: dict[str, int]
    installed_bytes: int


def costs(framework: str, python: Path | None, threads: int, log: Any) -> Costs:
    """Measure one framework, in fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("RABBET_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
        kept = {name: f"{folder}/{name}" for name in names}

        def fresh(caches: dict[str, str]) -> Process:
            return Process(framework, python, threads, log, caches)

        cold, warm = (_compile_seconds(fresh(kept)) for _ in range(2))
        first = _first_seconds(fresh(kept)), _first_seconds(fresh(kept))
        peaks, start = {}, 0
        for workload in TRAININGS:
            start, peak = _peak(fresh(kept), workload)
            if peak is not None:
                peaks[workload] = peak
    imported = _import_seconds(framework, python)
    return Costs(imported, first[1], cold, warm, start, peaks, _installed(python))


def _import_seconds(framework: str, python: Path | None) -> float:
    """Of `import framework`, less that of an empty program: medians of three."""

    def took(text: str) -> float:
        command = [str(python or sys.executable), "-c", text]
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment_of(python, 2))
        return time.perf_counter() - begin

    text = f"import {framework}"
    took(text)
    pairs = [(took(text), took("pass")) for _ in range(3)]
    return statistics.median(a - b for a, b in pairs)


def _best_way(process: Process, workload: str, wanted: tuple[str, ...]) -> str | None:
    ways = process.ask("ways", workload=workload)["ways"]
    named = [way for way in wanted if way in ways]
    return (named or ways or [None])[0]


def _compile_seconds(process: Process) -> float | None:
    """Until the gpt step runs compiled, less the calls themselves."""
    try:
        way = _best_way(process, TRAININGS[0], COMPILED)
        if way is None:
            return None
        answer = process.ask("prepare", workload=TRAININGS[0], way=way)
        return float(max(0.0, answer["ready_seconds"] - 3 * answer["warm_seconds"]))
    except WorkerError:
        return None
    finally:
        process.end()


def _first_seconds(process: Process) -> float | None:
    begin = time.perf_counter()
    try:
        way = _best_way(process, FIRST, ("exported", "session", "request", "eager", "jit"))
        if way is None:
            return None
        process.ask("first", workload=FIRST, way=way)
        return time.perf_counter() - begin
    except WorkerError:
        return None
    finally:
        process.end()


def _peak(process: Process, workload: str) -> tuple[int, int | None]:
    """Bytes after the import, and the most while training; None where it cannot."""
    try:
        process.ask("hello")
        start = int(process.ask("memory")["peak_bytes"])
        way = _best_way(process, workload, ("jit", "fused", "eager", "xla"))
        if way is None:
            return start, None
        process.ask("prepare", workload=workload, way=way)
        return start, int(process.ask("memory")["peak_bytes"])
    except WorkerError:
        return 0, None
    finally:
        process.end()


def _installed(python: Path | None) -> int:
    """Bytes of the environment's packages, pip's own left out."""
    folder = Path(python or sys.executable).parent.parent / "lib"
    total = 0
    for root, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(("pip", "setuptools"))]
        total += sum(os.lstat(os.path.join(root, f)).st_size for f in files)
    return total


def table(found: dict[str, Costs]) -> Table:
    """A column for each framework."""
    shown = Table("what", *found, box=None, header_style="bold", padding=(0, 1))

    def row(what: str, values: list[float | None]) -> None:
        shown.add_row(what, *("" if v is None else number(v) for v in values))

    every = list(found.values())
    row("import, s", [c.import_seconds for c in every])
    row("process start to first prediction, s", [c.first_seconds for c in every])
    row("gpt step compiled, cold, s", [c.cold_seconds for c in every])
    row("gpt step compiled, warm, s", [c.warm_seconds for c in every])
    for name in TRAININGS:
        peaks = [c.peak_bytes.get(name) for c in every]
        row(f"{name}, peak MB", [p / MEGABYTE if p else None for p in peaks])
        pairs = [(p, c.import_bytes) for p, c in zip(peaks, every, strict=True)]
        row(f"{name}, less import, MB", [(p - b) / MEGABYTE if p else None for p, b in pairs])
    row("installed, MB", [c.installed_bytes / MEGABYTE for c in every])
    return shown
