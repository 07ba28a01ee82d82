"""What `rabbet bench` does."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

from rich.console import Console

from rabbet.base.errors import RabbetError
from rabbet.bench import limits, own
from rabbet.bench.environments import install as install_peer
from rabbet.bench.environments import missing, python_of
from rabbet.bench.measure import OURS, measure
from rabbet.bench.processes import Process
from rabbet.bench.report import Machine, as_json, as_markdown, cpu_name, draw
from rabbet.bench.system import costs
from rabbet.bench.system import table as costs_table
from rabbet.bench.table import remarks, table
from rabbet.bench.workloads import choose

ROUNDS, SECONDS = 5, 0.4
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.1


def bench(
    against: list[str],
    only: list[str],
    *,
    model: Path | None = None,
    system: bool = False,
    quick: bool = False,
    install: bool = False,
    threads: int = 2,
    json_file: Path | None = None,
    markdown: Path | None = None,
    picture: Path | None = None,
) -> None:
    """Measure the workloads named by `only` (patterns; none: all), print the table, write files.

    `model`: instead of workloads, the user's module in that file (see `rabbet.bench.own`);
    `system`: instead, time of import and compiling, memory and size on disk;
    `install`: first make the environments of peers that have none.

    Raises RabbetError for a workload, peer, model or folder that does not exist, MissingExtra for
    a picture without matplotlib; and at the end, when everything is printed and written,
    RabbetError for workloads that failed, in any way of Rabbet's or in all of a peer's.
    """
    console, progress = Console(), Console(stderr=True)
    for file in (json_file, markdown, picture):
        if file is not None and not file.parent.is_dir():
            raise RabbetError(f"bench: {file}: there is no such folder")
    try:
        workloads = [own.workload(model)] if model else choose(only)
    except ValueError as error:
        raise RabbetError(f"bench: {error}") from None
    for name in missing(against) if install else []:
        progress.print(f"installing {name}")
        install_peer(name)
    pythons = {OURS: None, **{name: python_of(name) for name in against}}
    if system:
        with open(os.environ.get("RABBET_BENCH_LOG", os.devnull), "a") as log:
            found = {n: costs(n, python, threads, log) for n, python in pythons.items()}
        console.print(costs_table(found))
        return
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    limit = functools.partial(limits.limit_seconds, threads)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(os.environ.get("RABBET_BENCH_LOG", os.devnull), "a"))
        processes: dict[str, Process] = {}
        status = stack.enter_context(progress.status("starting"))
        for name, python in pythons.items():
            processes[name] = Process(name, python, threads, log)
            stack.callback(processes[name].end)
        versions = {name: p.ask("hello")["version"] for name, p in processes.items()}
        results = list(measure(workloads, processes, rounds, seconds, limit, status.update))
        machine = _machine(threads, versions) if json_file or markdown else None
    names = list(pythons)
    console.print(table(results, names))
    for line in remarks(results):
        console.print(line, style="dim", markup=False, highlight=False)
    if machine and json_file:
        json_file.write_text(as_json(results, machine), encoding="utf-8")
    if machine and markdown:
        markdown.write_text(as_markdown(results, machine, names), encoding="utf-8")
    if picture:
        draw(results, picture)
    failures = [where for result in results for where in result.failures()]
    if failures:
        raise RabbetError(f"bench: failed: {'; '.join(failures)} (their errors are in the remarks)")


def _machine(threads: int, versions: dict[str, str]) -> Machine:
    return Machine(
        cpu_name(),
        threads,
        versions,
        limits.fma_flops(threads) / 1e9,
        limits.fma_flops(threads, bfloat16=True) / 1e9,
        limits.levels(threads),
    )
