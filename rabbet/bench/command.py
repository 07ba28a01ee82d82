"""What `rabbet bench` does."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rabbet.base.errors import RabbetError
from rabbet.bench import limits, own
from rabbet.bench.environments import install as install_peer
from rabbet.bench.environments import missing, python_of
from rabbet.bench.measure import OURS, Result, Say, measure
from rabbet.bench.processes import Process
from rabbet.bench.report import Machine, as_json, as_markdown, cpu_name, draw
from rabbet.bench.system import costs
from rabbet.bench.system import table as costs_table
from rabbet.bench.table import remarks, table
from rabbet.bench.workload import Workload
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
    files = Files(json_file, markdown, picture)
    files.check()
    try:
        workloads = [own.workload(model)] if model else choose(only)
    except ValueError as error:
        raise RabbetError(f"bench: {error}") from None
    progress = Console(stderr=True)
    for name in missing(against) if install else []:
        progress.print(f"installing {name}")
        install_peer(name)
    pythons = {OURS: None, **{name: python_of(name) for name in against}}
    with open(os.environ.get("RABBET_BENCH_LOG", os.devnull), "a") as log:
        if system:
            found = {n: costs(n, python, threads, log) for n, python in pythons.items()}
            Console().print(costs_table(found))
            return
        with progress.status("starting") as status:
            results, versions = _measured(workloads, pythons, threads, quick, log, status.update)
    _show(results, list(pythons))
    files.write(results, list(pythons), threads, versions)
    failures = [where for result in results for where in result.failures()]
    if failures:
        raise RabbetError(f"bench: failed: {'; '.join(failures)} (their errors are in the remarks)")


@dataclass(frozen=True)
class Files:
    """What is written beside the table on the terminal."""

    json: Path | None
    markdown: Path | None
    picture: Path | None

    def check(self) -> None:
        """RabbetError now, not after minutes, where a file has no folder to lie in."""
        for file in (self.json, self.markdown, self.picture):
            if file is not None and not file.parent.is_dir():
                raise RabbetError(f"bench: {file}: there is no such folder")

    def write(
        self, results: list[Result], names: list[str], threads: int, versions: dict[str, str]
    ) -> None:
        """Write those that were asked for."""
        machine = _machine(threads, versions) if self.json or self.markdown else None
        if machine and self.json:
            self.json.write_text(as_json(results, machine), encoding="utf-8")
        if machine and self.markdown:
            self.markdown.write_text(as_markdown(results, machine, names), encoding="utf-8")
        if self.picture:
            draw(results, self.picture)


def _measured(
    workloads: list[Workload],
    pythons: dict[str, Path | None],
    threads: int,
    quick: bool,
    log: Any,
    say: Say,
) -> tuple[list[Result], dict[str, str]]:
    """The results, and the versions of the frameworks, each in a process of its own."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    limit = functools.partial(limits.limit_seconds, threads)
    with contextlib.ExitStack() as stack:
        processes: dict[str, Process] = {}
        for name, python in pythons.items():
            processes[name] = Process(name, python, threads, log)
            stack.callback(processes[name].end)
        versions = {name: p.ask("hello")["version"] for name, p in processes.items()}
        return list(measure(workloads, processes, rounds, seconds, limit, say)), versions


def _show(results: list[Result], names: list[str]) -> None:
    console = Console()
    console.print(table(results, names))
    for line in remarks(results):
        console.print(line, style="dim", markup=False, highlight=False)


def _machine(threads: int, versions: dict[str, str]) -> Machine:
    return Machine(
        cpu_name(),
        threads,
        versions,
        limits.fma_flops(threads) / 1e9,
        limits.fma_flops(threads, bfloat16=True) / 1e9,
        limits.levels(threads),
    )
