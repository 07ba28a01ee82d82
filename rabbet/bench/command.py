"""What `rabbet bench` does."""

from __future__ import annotations

import contextlib
import functools
import os

from rich.console import Console

from rabbet.base.errors import RabbetError
from rabbet.bench.environments import python_of
from rabbet.bench.limits import limit_seconds
from rabbet.bench.measure import OURS, measure
from rabbet.bench.processes import Process
from rabbet.bench.table import remarks, table
from rabbet.bench.workloads import choose

ROUNDS, SECONDS = 5, 0.4
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.1


def bench(against: list[str], only: list[str], *, quick: bool = False, threads: int = 2) -> None:
    """Measure the workloads named by `only` (patterns; none: all) and print the table."""
    console, progress = Console(), Console(stderr=True)
    try:
        workloads = choose(only)
    except ValueError as error:
        raise RabbetError(f"bench: {error}") from None
    pythons = {OURS: None, **{name: python_of(name) for name in against}}
    limit = functools.partial(limit_seconds, threads)
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(os.environ.get("RABBET_BENCH_LOG", os.devnull), "a"))
        processes = {}
        for name, python in pythons.items():
            processes[name] = Process(name, python, threads, log)
            stack.callback(processes[name].end)
        status = stack.enter_context(progress.status("starting"))
        results = list(measure(workloads, processes, rounds, seconds, limit, status.update))
    console.print(table(results, list(pythons)))
    for line in remarks(results):
        console.print(line, style="dim", markup=False, highlight=False)
