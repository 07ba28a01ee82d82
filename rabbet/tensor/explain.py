"""rb.explain(): what the last segment was, which kernels it became, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.runtime import buffers
from rabbet.runtime.plan import CallFacts
from rabbet.runtime.staged import StagedProgram
from rabbet.tensor import programs, site
from rabbet.tensor.singly import OneByOne


@dataclass(frozen=True)
class KernelReport:
    """One kernel launch: its primitive ops, its median time, the line of the recorded op that it
    begins with, its scalar operations, the bytes of all its operands and results, and that op.
    """

    ops: tuple[str, ...]
    nanoseconds: int
    line: str
    operations: int = 0
    bytes: int = 0
    recorded: str = ""


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
            f"arena {_bytes(self.arena_bytes)} (reused {saved:.0%})"
        ]
        if self.kernels:
            lines.append(f"  {'kernel':<58}{'time':>10}{'GFLOP/s':>9}{'GB/s':>7}  from")
        for k in self.kernels:
            name = show_name(k.ops, 56)
            spent = k.nanoseconds or 1
            lines.append(
                f"  {name:<58}{show_time(k.nanoseconds):>10}{k.operations / spent:>9.1f}"
                f"{k.bytes / spent:>7.1f}  {k.recorded} {k.line}"
            )
        lines += [f"  note: {r}" for r in self.reasons]
        return "\n".join(lines)

    __repr__ = __str__


def explain(repeats: int = 5) -> Report:
    """Report on the last segment that was computed: ops, kernels after fusion, time of each,
    memory.

    Runs the program `repeats` more times on zeros to time its kernels (no tensor is touched).
    Raises RabbetError if nothing was computed yet.

    >>> _ = (rb.ones(4) + 1).numpy(); print(rb.explain())   # doctest: +SKIP
    """
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
    launches = zip(program.ops, times, program.positions, facts, strict=True)
    return tuple(
        KernelReport(tuple(ops), t, _line(last.segment_ops, at), *fact, _name(last.segment_ops, at))
        for ops, t, at, fact in launches
    )


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
    runs = [run(inputs) for _ in range(max(1, repeats))]
    return [sorted(column)[len(column) // 2] for column in zip(*runs, strict=True)]


def reasons() -> list[str]:
    """Why jitted functions record at each call, where they do."""
    return [f"{j.__name__} records at every call: {j.why}" for j in programs.jitted if j.why]


def _name(ops: list[tuple[str, Any]], position: int) -> str:
    return ops[position][0] if 0 <= position < len(ops) else ""


def _line(ops: list[tuple[str, Any]], position: int) -> str:
    return site.short(ops[position][1]) if 0 <= position < len(ops) else ""


def show_name(ops: Sequence[str], most: int) -> str:
    """`conv2d+relu`; of more ops than fit into `most` characters, the first and how many more."""
    for count in range(len(ops), 0, -1):
        more = f"+{len(ops) - count} more" if count < len(ops) else ""
        name = "+".join(ops[:count]) + more
        if len(name) <= most:
            return name
    return ops[0][: most - 3] + "..." if ops else ""


def show_time(nanoseconds: float) -> str:
    """`1.23 ms`: three digits."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def _bytes(n: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.1f} {unit}" if unit != "B" else f"{n} B"
        n /= 1024  # type: ignore[assignment]
    return f"{n:.1f} GiB"
