"""rb.explain(): what the last segment was, which kernels it became, and where the time went."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.engine import programs, site
from rabbet.engine.singly import OneByOne
from rabbet.runtime import buffers
from rabbet.runtime.plan import CallFacts
from rabbet.runtime.program import cache_problems
from rabbet.runtime.staged import StagedProgram


@dataclass(frozen=True)
class KernelReport:
    """One kernel launch.

    recorded: the ops of your program that it computes, or computes a part of; ops: the primitive
    ones that these became; nanoseconds: the median; line: where the first was recorded; operations:
    scalar ones; bytes: of all operands and results.
    """

    recorded: tuple[str, ...]
    ops: tuple[str, ...]
    nanoseconds: int
    line: str
    operations: int = 0
    bytes: int = 0

    @property
    def name(self) -> str:
        """`conv2d+batch_norm_infer+relu`."""
        return kernel_name(self.recorded, self.ops)


@dataclass(frozen=True)
class Report:
    """What `rb.explain()` returns; `str` of it is the table."""

    recorded_ops: tuple[str, ...]
    kernels: tuple[KernelReport, ...]
    arena_bytes: int
    unshared_bytes: int
    how: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        total = sum(k.nanoseconds for k in self.kernels)
        saved = 1 - self.arena_bytes / self.unshared_bytes if self.unshared_bytes else 0.0
        lines = [
            f"last segment ({self.how}): {len(self.recorded_ops)} ops -> "
            f"{len(self.kernels)} kernels, {show_time(total)}, "
            f"arena {show_bytes(self.arena_bytes)} (reused {saved:.0%})"
        ]
        if self.kernels:
            lines.append(f"  {'kernel':<58}{'time':>10}{'GFLOP/s':>9}{'GB/s':>7}  line")
        for k in self.kernels:
            name = show_name(k.name, 56)
            spent = k.nanoseconds or 1
            lines.append(
                f"  {name:<58}{show_time(k.nanoseconds):>10}{k.operations / spent:>9.1f}"
                f"{k.bytes / spent:>7.1f}  {k.line}"
            )
        lines += [f"  note: {r}" for r in self.reasons]
        return "\n".join(lines)

    __repr__ = __str__


def explain(repeats: int = 5) -> Report:
    """Report on the last segment that was computed: ops, kernels after fusion, time of each,
    memory.

    Runs the program `repeats` more times on zeros to time its kernels (no tensor is touched).
    Raises RabbetError if nothing was computed yet, TypeError if `repeats` is no count.

    >>> _ = (rb.ones(4) + 1).numpy(); print(rb.explain())   # doctest: +SKIP
    """
    if not isinstance(repeats, int) or repeats < 1:
        raise TypeError(
            f"explain: repeats is how often to time, 1 or more, not {type(repeats).__name__}; "
            "it reports on what was computed last, so call the function first"
        )
    last = programs.last_run()
    if last is None:
        raise RabbetError("explain: nothing has been computed yet")
    names = tuple(name for name, _ in last.segment_ops)
    found = last.found
    program: Any = found.entry.program
    why = tuple(reasons())
    if isinstance(program, OneByOne):
        inputs = _zeros(program.input_bytes)
        times = _medians(program.profile, inputs, repeats)
        return Report(names, _kernels(last, times), 0, 0, found.how, why)
    if isinstance(program, StagedProgram):
        assert found.inputs is not None, "kept when it was run"
        times = _medians(lambda x: program.profile(found.symbols, x), found.inputs, repeats)
        return Report(names, _kernels(last, times), 0, 0, found.how, why)
    if not hasattr(program, "bind"):
        return Report(names, (), 0, 0, "reference engine")
    bound = program.bind(found.symbols)
    outputs = _zeros(bound.output_bytes)
    times = _medians(lambda x: bound.profile(x, outputs), _zeros(bound.input_bytes), repeats)
    kernels = _kernels(last, times)
    return Report(names, kernels, bound.arena_bytes, bound.unshared_bytes, found.how, why)


def _zeros(sizes: Sequence[int]) -> list[Any]:
    """Operands to time with: those of the run may be written over since. Index 0 is in range."""
    return [buffers.from_numpy(np.zeros(n, np.uint8)) for n in sizes]


def _kernels(last: programs.LastRun, times: list[int]) -> tuple[KernelReport, ...]:
    program: Any = last.entry.program
    facts = facts_of(program, last.found.symbols)
    names = [name for name, _ in last.segment_ops]
    lines = [where for _, where in last.segment_ops]
    launches = zip(program.ops, times, program.sites, facts, strict=True)
    return tuple(
        KernelReport(recorded_of(names, sites), tuple(ops), t, line_of(lines, sites), *fact)
        for ops, t, sites, fact in launches
    )


def recorded_of(names: Sequence[str], sites: Sequence[int]) -> tuple[str, ...]:
    """The names of the ops at `sites` of a segment, in the order in which they were recorded."""
    return tuple(names[n] for n in sorted(sites) if n < len(names))


def line_of(lines: Sequence[Any], sites: Sequence[int]) -> str:
    """Where the first of the ops at `sites` was recorded: `train.py:9`."""
    return site.short(lines[min(sites)]) if sites and min(sites) < len(lines) else ""


def facts_of(program: Any, symbols: tuple[int, ...]) -> Sequence[tuple[int, int]]:
    """(scalar operations, bytes) of each launch; (0, 0) for what runs on the host."""
    if isinstance(program, OneByOne):
        return [_whole(s.found.entry.program, s.found.symbols) for s in program.steps()]
    if isinstance(program, StagedProgram):
        return [_whole(s.work, symbols) for s in program.stages]
    found: list[CallFacts] = program.facts(symbols)
    return found


def _whole(program: Any, symbols: tuple[int, ...]) -> tuple[int, int]:
    facts = program.facts(symbols) if hasattr(program, "facts") else []
    return sum(f.operations for f in facts), sum(f.bytes for f in facts)


def _medians(run: Callable[[list[Any]], list[int]], inputs: list[Any], repeats: int) -> list[int]:
    runs = [run(inputs) for _ in range(repeats)]
    return [sorted(column)[len(column) // 2] for column in zip(*runs, strict=True)]


def reasons() -> list[str]:
    """Why jitted functions record at each call, where they do, and where compiled code is lost."""
    why = [f"{j.__name__} records at every call: {j.why}" for j in programs.jitted if j.why]
    return why + cache_problems()


def kernel_name(recorded: Sequence[str], ops: Sequence[str]) -> str:
    """`conv2d+relu`, and `add x3` for a run of one op; the primitive ops where none is recorded,
    and of what runs on the host, which says so.
    """
    shown = recorded if recorded and not any(" " in name for name in ops) else ops
    runs = [(name, len(list(same))) for name, same in itertools.groupby(shown)]
    return "+".join(name if count == 1 else f"{name} x{count}" for name, count in runs)


def show_name(name: str, most: int) -> str:
    """A kernel's name; of more ops than fit into `most` characters, the first and how many more."""
    parts = name.split("+")
    for count in range(len(parts), 0, -1):
        more = f"+{len(parts) - count} more" if count < len(parts) else ""
        shown = "+".join(parts[:count]) + more
        if len(shown) <= most:
            return shown
    return name[: most - 3] + "..."


def show_time(nanoseconds: float) -> str:
    """`1.23 ms`: three digits."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def show_bytes(n: float) -> str:
    """`1.23 MiB`: three digits."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:.0f} bytes"
