"""rb.profile(): time, operations and traffic of every kernel, and what the machine can do."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from rabbet.base.errors import RabbetError
from rabbet.base.limits import Peaks, peaks
from rabbet.debug.explain import (
    facts_of,
    kernel_name,
    line_of,
    recorded_of,
    show_name,
    show_time,
)
from rabbet.engine import programs
from rabbet.engine.observer import Observer
from rabbet.recorder import Segment
from rabbet.runtime.threads import num_threads

NAME_SHOWN = 44
Output = tuple[int, int]


class Event(NamedTuple):
    """One launch of a kernel, or one compilation (no ops).

    name: `conv2d+relu`, or "compile"; ops: the primitive ones that the recorded ops became;
    start, duration: nanoseconds, from the beginning of the profile; operations: scalar ones, a
    multiply-add as two; bytes: of all its operands and results; line: of the user's code.
    """

    name: str
    ops: tuple[str, ...]
    line: str
    start: int
    duration: int
    operations: int
    bytes: int


@dataclass(frozen=True)
class Row:
    """All launches of one kernel from one line: what `table` shows."""

    name: str
    line: str
    calls: int
    nanoseconds: int
    operations: int
    bytes: int
    part_of_peak: float | None

    @property
    def gflops(self) -> float:
        """10^9 scalar operations per second."""
        return self.operations / max(self.nanoseconds, 1)

    @property
    def gbytes(self) -> float:
        """10^9 bytes of operands and results per second."""
        return self.bytes / max(self.nanoseconds, 1)


class profile(Observer):
    """Within it every kernel that runs on this thread is timed.

    Then `print(p)` or `p.table()` shows kernels with calls, time, GFLOP/s, GB/s, the share of what
    this machine can do (measured once with loops of our own, which takes some seconds), and the
    line of your code; `p.trace("trace.json")` writes a file for chrome://tracing or Perfetto;
    `p.rows()` and `p.events` are the figures. Functions under `rb.jit` run their Python, so that
    lines are known. Kernels run as always, but never write over their operands.

    >>> with rb.profile() as p:
    ...     y = (rb.ones((64, 64)) @ rb.ones((64, 64))).sum().item()
    >>> any("matmul" in row.name for row in p.rows())
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.segments = 0
        self.nanoseconds = 0  # from beginning to end, Python included
        self._begin = 0

    def __enter__(self) -> Self:
        self.observe(self._run)
        self._begin = time.perf_counter_ns() - self.nanoseconds
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self.nanoseconds = time.perf_counter_ns() - self._begin

    def _run(self, segment: Segment, live: tuple[Output, ...]) -> None:
        begin = time.perf_counter_ns()
        found, times = programs.run_timed(segment, live)
        end = time.perf_counter_ns()
        at = end - sum(times)  # looked up or compiled until about here
        self.segments += 1
        if found.how == "compiled":
            self.events.append(Event("compile", (), "", begin - self._begin, at - begin, 0, 0))
        program: Any = found.entry.program
        facts = facts_of(program, found.symbols)
        names, lines = [n.op.name for n in segment.nodes], [n.site for n in segment.nodes]
        launches = zip(program.ops, program.sites, times, facts, strict=True)
        start = at - self._begin
        for ops, sites, took, (operations, nbytes) in launches:
            name = kernel_name(recorded_of(names, sites), ops)
            line = line_of(lines, sites)
            self.events.append(Event(name, tuple(ops), line, start, took, operations, nbytes))
            start += took

    # ---- results -------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """One row for each kernel and line, the longest first; compilations are left out."""
        limits = _peaks()
        found: dict[tuple[str, str], list[Event]] = {}
        for event in self.events:
            if event.ops:
                found.setdefault((event.name, event.line), []).append(event)
        made = [_row(name, line, events, limits) for (name, line), events in found.items()]
        return sorted(made, key=lambda row: -row.nanoseconds)

    def table(self, limit: int = 30) -> str:
        """The rows as text, at most `limit` of them."""
        rows = self.rows()
        inside = sum(row.nanoseconds for row in rows)
        compiling = sum(e.duration for e in self.events if not e.ops)
        lines = [
            f"{show_time(self.nanoseconds)} in {self.segments} segments: {show_time(inside)} in "
            f"{sum(r.calls for r in rows)} kernels, {show_time(compiling)} in the compiler, "
            f"{show_time(max(self.nanoseconds - inside - compiling, 0))} in Python",
            f"{'kernel':<{NAME_SHOWN}}{'calls':>7}{'time':>11}{'share':>7}{'GFLOP/s':>9}"
            f"{'GB/s':>8}{'of peak':>9}  line",
        ]
        for row in rows[:limit]:
            name = show_name(row.name, NAME_SHOWN - 2)
            peak = "" if row.part_of_peak is None else f"{row.part_of_peak:.0%}"
            lines.append(
                f"{name:<{NAME_SHOWN}}{row.calls:>7}{show_time(row.nanoseconds):>11}"
                f"{row.nanoseconds / max(inside, 1):>7.0%}{row.gflops:>9.1f}{row.gbytes:>8.1f}"
                f"{peak:>9}  {row.line}"
            )
        if len(rows) > limit:
            lines.append(f"... and {len(rows) - limit} more")
        return "\n".join(lines)

    __str__ = table

    def __repr__(self) -> str:
        return self.table()

    def trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events in Chrome's trace format (chrome://tracing, Perfetto)."""
        shared = {"ph": "X", "pid": os.getpid(), "tid": threading.get_native_id()}
        events = [
            {
                "name": e.name,
                "cat": "kernel" if e.ops else "compiler",
                "ts": e.start / 1000,
                "dur": e.duration / 1000,
                "args": {"line": e.line, "operations": e.operations, "bytes": e.bytes},
                **shared,
            }
            for e in self.events
        ]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, file)


def _row(name: str, line: str, events: list[Event], limits: Peaks | None) -> Row:
    took = sum(e.duration for e in events)
    operations, nbytes = sum(e.operations for e in events), sum(e.bytes for e in events)
    part = None
    if limits is not None and took:
        bandwidth = limits.bandwidth(max(e.bytes for e in events))
        floor = max(operations / limits.flops, nbytes / bandwidth)
        part = floor / (took / 1e9)
    return Row(name, line, len(events), took, operations, nbytes, part)


def _peaks() -> Peaks | None:
    """None where there is no C compiler to measure with."""
    try:
        return peaks(num_threads())
    except RabbetError:
        return None
