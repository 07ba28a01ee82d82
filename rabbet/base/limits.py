"""The machine's own limits: `limits.c` compiled with cc, and what it says (for `rabbet bench` and
`rb.profile`)."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rabbet.base.cache import default_directory
from rabbet.base.errors import RabbetError
from rabbet.base.files import replacing, write_whole

SOURCE = Path(__file__).with_name("limits.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread")
FMA_SECONDS = 0.02
PEAK_TRIES = 5
PEAK_BYTES = 1 << 27  # moved in one try, at least
BURST = 50  # repeats of one timing of a move, at most
BURST_BYTES = 1 << 28  # bytes of one timing of a move


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled limits.c; RabbetError where there is no C compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise RabbetError("limits: the machine's limits need a C compiler (cc, or CC=...)")
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    path = default_directory() / "bench" / f"limits-{key}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as fresh:
            subprocess.run([compiler, *FLAGS, "-o", fresh, SOURCE], check=True)
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
            raise RabbetError(f"limits: no memory for {reads + writes} bytes")
        return found

    return min(_median(functools.partial(once, kind), seconds / len(kinds)) for kind in kinds)


def _median(measure: Callable[[], float], seconds: float) -> float:
    end, found = time.perf_counter() + seconds, [measure()]
    while time.perf_counter() < end:
        found.append(measure())
    return statistics.median(found)


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


@dataclass(frozen=True)
class Peaks:
    """What this machine can do at most: FLOP/s of float32, and bandwidth by level of memory."""

    flops: float
    levels: tuple[tuple[int, float], ...]  # (bytes that fit, bytes/s); memory last

    def bandwidth(self, nbytes: int) -> float:
        """Bytes/s for a working set: those of the smallest level that holds it."""
        return next((rate for size, rate in self.levels if nbytes <= size), self.levels[-1][1])


@functools.cache
def peaks(threads: int) -> Peaks:
    """The limits of this machine, measured the first time (some seconds) and kept on disk.

    Raises RabbetError where there is no C compiler.
    """
    parts = (SOURCE.read_text(), _processor(), threads, FLAGS)
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    path = default_directory() / "bench" / f"peaks-{key}.json"
    try:
        kept = json.loads(path.read_text())
        return Peaks(float(kept["flops"]), tuple((int(n), float(r)) for n, r in kept["levels"]))
    except (OSError, ValueError, KeyError, TypeError):
        found = _measured(threads)
    with contextlib.suppress(OSError):  # measured again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [json.dumps(asdict(found)).encode()], synced=False)
    return found


def _measured(threads: int) -> Peaks:
    """The best of some tries each: other programs may be running."""
    caches = [size for _, size in cache_sizes(threads)]
    sets = [*caches, 8 * caches[-1] if caches else 1 << 29]
    flops = max(fma_flops(threads) for _ in range(PEAK_TRIES))
    return Peaks(flops, tuple((size, _bandwidth(threads, size // 2)) for size in sets))


def _bandwidth(threads: int, nbytes: int) -> float:
    """Bytes/s of a working set, read or copied."""
    nbytes = nbytes // 8192 * 8192
    repeats = max(1, PEAK_BYTES // nbytes)
    parts = [(nbytes, 0, 0), (nbytes // 2, nbytes // 2, 0), (nbytes // 2, nbytes // 2, 1)]
    tries = parts * (1 if nbytes > PEAK_BYTES else PEAK_TRIES)
    return nbytes / min(float(library().limits_move(threads, *p, repeats)) for p in tries)


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return next((v for v in text.splitlines() if v.startswith("model name")), platform.machine())
