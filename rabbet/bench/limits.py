"""The machine's own limits: `limits.c` compiled with cc, and what it says."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rabbet.base.cache import default_directory
from rabbet.base.errors import RabbetError
from rabbet.bench.workload import Workload

SOURCE = Path(__file__).with_name("limits.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread")
FMA_SECONDS = 0.02
BURST = 50  # repeats of one timing of a move, at most
BURST_BYTES = 1 << 28  # bytes of one timing of a move


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled limits.c; RabbetError where there is no C compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise RabbetError("bench: the machine's limits need a C compiler (cc, or CC=...)")
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    path = default_directory() / "bench" / f"limits-{key}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, *FLAGS, "-o", fresh, SOURCE], check=True)
        fresh.replace(path)
    loaded = ctypes.CDLL(str(path))
    loaded.limits_fma.restype = loaded.limits_move.restype = ctypes.c_double
    size, long = ctypes.c_size_t, ctypes.c_long
    loaded.limits_fma.argtypes = [ctypes.c_int, ctypes.c_int, long]
    loaded.limits_move.argtypes = [ctypes.c_int, size, size, ctypes.c_int, long]
    return loaded


def fma_flops(threads: int, bfloat16: bool = False, seconds: float = FMA_SECONDS) -> float:
    """FLOP/s of multiply-adds on registers alone; 0 without an instruction for bfloat16."""
    run = library().limits_fma
    rate = float(run(threads, bfloat16, 4))
    if not rate:
        return 0.0
    each = 2 * (1 << 14) * 12 * 16 * threads  # FLOP of one repeat with the widest vectors
    return float(run(threads, bfloat16, max(4, int(seconds * rate / each))))


def move_seconds(threads: int, reads: int, writes: int, seconds: float) -> float:
    """Seconds to read and write so many bytes: the faster of plain and streaming stores."""
    repeats = max(1, min(BURST, BURST_BYTES // max(reads + writes, 1)))
    kinds = (0, 1) if writes else (0,)

    def once(streaming: int) -> float:
        found = float(library().limits_move(threads, reads, writes, streaming, repeats))
        if found < 0:
            raise RabbetError(f"bench: no memory for {reads + writes} bytes")
        return found

    return min(_median(functools.partial(once, kind), seconds / len(kinds)) for kind in kinds)


def _median(measure: Callable[[], float], seconds: float) -> float:
    end, found = time.perf_counter() + seconds, [measure()]
    while time.perf_counter() < end:
        found.append(measure())
    return statistics.median(found)


def limit_seconds(threads: int, workload: Workload, seconds: float) -> float:
    """The least time of one call: its arithmetic on registers, or its memory moved once."""
    problem = workload.problem
    if workload.judged == "flops":
        is_bfloat16 = getattr(problem, "dtype", "") == "bfloat16"
        rate = fma_flops(threads, is_bfloat16) or fma_flops(threads)
        return float(problem.flops) / rate
    steps = workload.items  # each passes over its part of the memory
    reads, writes = problem.read_bytes // steps, problem.written_bytes // steps
    return steps * move_seconds(threads, reads, writes, seconds)


@dataclass(frozen=True)
class Level:
    """Bandwidth of working sets that fit a level of the memory: GB/s read, and read and written
    by a copy with plain and with streaming stores."""

    name: str
    bytes: int
    read: float
    copy: float
    streamed: float


def levels(threads: int, seconds: float = 0.05) -> list[Level]:
    """Every level of cache (half of it filled), and memory (four times the last level)."""
    caches = cache_sizes(threads)
    sets = [(name, size // 2) for name, size in caches]
    sets.append(("memory", 4 * caches[-1][1] if caches else 1 << 28))
    return [_level(name, size // 4096 * 4096, threads, seconds) for name, size in sets]


def _level(name: str, size: int, threads: int, seconds: float) -> Level:
    repeats = max(3, int(2e9 * seconds * 20 / size))

    def rate(reads: int, writes: int, streaming: int) -> float:
        run = library().limits_move
        took = statistics.median(run(threads, reads, writes, streaming, repeats) for _ in range(3))
        return (reads + writes) / took / 1e9

    half = size // 2
    return Level(name, size, rate(size, 0, 0), rate(half, half, 0), rate(half, half, 1))


def cache_sizes(threads: int) -> list[tuple[str, int]]:
    """Name and bytes of each level of data cache that so many threads have together."""
    found: list[tuple[str, int]] = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "type").read_text().strip() == "Instruction":
            continue
        level, size = (index / "level").read_text().strip(), (index / "size").read_text().strip()
        sharing = len((index / "shared_cpu_list").read_text().strip().replace("-", ",").split(","))
        each = int(size.rstrip("K")) * 1024
        found.append((f"L{level}", each if sharing > 1 else each * threads))
    return found
