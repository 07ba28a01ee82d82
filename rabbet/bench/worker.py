"""A framework in a process of its own, told what to do by lines of JSON.

It computes only when asked: the process that asks stops it (SIGSTOP) in between, so that threads
that spin while they wait cost the others nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from rabbet.bench import own
from rabbet.bench.frameworks.running import Builders, Running, digest
from rabbet.bench.workload import Workload
from rabbet.bench.workloads import choose

FEWEST = 3  # timings of a round
BATCH_SECONDS = 0.005  # calls that are shorter together than this are timed together
WARM_UP = 2  # calls before the first that is timed: recording, then compiling
_PR_SET_PDEATHSIG = 1


class Worker:
    """The state of a worker process: what is ready to run."""

    def __init__(self, framework: str, threads: int) -> None:
        module = f"rabbet.bench.frameworks.with_{framework}"
        start: Callable[[int], str] = resolve_name(f"{module}:start")
        self.version = start(threads)
        self.builders: Builders = resolve_name(f"{module}:BUILDERS")
        self.ready: dict[tuple[str, str], Running] = {}

    def hello(self) -> dict[str, Any]:
        """What this is."""
        return {"version": self.version, "python": sys.version.split()[0], "pid": os.getpid()}

    @staticmethod
    def _find(name: str) -> Workload:
        if name.startswith(own.PREFIX):
            return own.workload(Path(name.removeprefix(own.PREFIX)))
        (found,) = choose([name])
        return found

    def ways(self, workload: str) -> dict[str, Any]:
        """The ways this framework has for a workload."""
        found = self._find(workload)
        return {"ways": list(self.builders.get(found.problem.kind, {}))}

    def prepare(self, workload: str, way: str) -> dict[str, Any]:
        """Build and warm up: what came out; seconds of the first call, until all is compiled (the
        first calls together), and of one call after."""
        found = self._find(workload)
        running = self.builders[found.problem.kind][way](found.problem)
        begin = time.perf_counter()
        result = running.run(1)
        first = time.perf_counter() - begin
        numbers = digest(running.numbers(result))
        running.run(WARM_UP)
        ready = time.perf_counter() - begin
        begin = time.perf_counter()
        running.run(1)
        self.ready[workload, way] = running
        return {
            "digest": numbers,
            "first_seconds": first,
            "ready_seconds": ready,
            "warm_seconds": time.perf_counter() - begin,
        }

    def first(self, workload: str, way: str) -> dict[str, Any]:
        """Build and run once."""
        problem = self._find(workload).problem
        running = self.builders[problem.kind][way](problem)
        return {"digest": digest(running.numbers(running.run(1)))}

    def measure(self, workload: str, way: str, seconds: float) -> dict[str, Any]:
        """Median seconds of one call, over about so many seconds."""
        return {"seconds": median_seconds(self.ready[workload, way].run, seconds)}

    def drop(self, workload: str) -> dict[str, Any]:
        """Forget what was prepared for a workload."""
        self.ready = {key: r for key, r in self.ready.items() if key[0] != workload}
        return {}

    def memory(self) -> dict[str, Any]:
        """The most memory this process has held, in bytes."""
        return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def median_seconds(run: Callable[[int], Any], seconds: float) -> float:
    """Median time of one call: a first one for the caches, then batches of enough of them."""
    begin = time.perf_counter()
    run(1)
    calls = max(1, round(BATCH_SECONDS / max(time.perf_counter() - begin, 1e-7)))
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST or time.perf_counter() < end:
        begin = time.perf_counter()
        run(calls)
        times.append((time.perf_counter() - begin) / calls)
    return statistics.median(times)


def main(arguments: list[str]) -> None:
    """FRAMEWORK THREADS: answer commands from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what frameworks print is no answer
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks ends us
    worker: Worker | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            worker = worker or Worker(arguments[0], int(arguments[1]))
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
        print(json.dumps(answer), file=answers, flush=True)


def _die_with_parent() -> None:
    """A stopped process would outlive one that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
