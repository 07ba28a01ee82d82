"""rb.explain(): what the last segment was, which kernels it became, and where the time went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rabbet.base.errors import RabbetError
from rabbet.runtime import buffers
from rabbet.runtime.staged import StagedProgram
from rabbet.tensor import programs, site
from rabbet.tensor.singly import OneByOne


@dataclass(frozen=True)
class KernelReport:
    """One kernel launch: its primitive ops, its median time, the line of its first op."""

    ops: tuple[str, ...]
    nanoseconds: int
    line: str


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
        total = sum(k.nanoseconds for k in self.kernels) / 1000
        saved = 1 - self.arena_bytes / self.unshared_bytes if self.unshared_bytes else 0.0
        lines = [
            f"last segment ({self.how}): {len(self.recorded_ops)} ops -> "
            f"{len(self.kernels)} kernels, {total:.0f} us, "
            f"arena {_bytes(self.arena_bytes)} (reused {saved:.0%})"
        ]
        if self.kernels:
            lines.append(f"  {'kernel':<58}{'time':>10}  line")
        for k in self.kernels:
            name = "+".join(k.ops)
            shown = name if len(name) <= 56 else name[:53] + "..."
            lines.append(f"  {shown:<58}{k.nanoseconds / 1000:>7.1f} us  {k.line}")
        lines += [f"  note: {r}" for r in self.reasons]
        return "\n".join(lines)

    __repr__ = __str__


def explain(repeats: int = 5) -> Report:
    """Report on the last segment that was computed: ops, kernels after fusion, time of each,
    memory.

    Runs the program `repeats` more times on scratch outputs to time its kernels (results are not
    touched). Raises RabbetError if nothing was computed yet.

    >>> _ = (rb.ones(4) + 1).numpy(); print(rb.explain())   # doctest: +SKIP
    """
    last = programs.last_run
    if last is None:
        raise RabbetError("explain: nothing has been computed yet")
    names = tuple(name for name, _ in last.segment_ops)
    program: Any = last.entry.program
    if isinstance(program, OneByOne):
        return Report(
            names,
            _kernels(last, _medians(program.profile, last.inputs, repeats)),
            0,
            0,
            last.compiled,
            tuple(reasons()),
        )
    if isinstance(program, StagedProgram):
        times = _medians(lambda given: program.profile(last.symbols, given), last.inputs, repeats)
        return Report(names, _kernels(last, times), 0, 0, last.compiled, tuple(reasons()))
    if not hasattr(program, "bind"):
        return Report(names, (), 0, 0, "reference engine")
    bound = program.bind(last.symbols)
    outputs = [buffers.Buffer(n) for n in bound.output_bytes]
    times = _medians(lambda inputs: bound.profile(inputs, outputs), last.inputs, repeats)
    kernels = _kernels(last, times)
    return Report(
        names, kernels, bound.arena_bytes, bound.unshared_bytes, last.compiled, tuple(reasons())
    )


def _kernels(last: programs.LastRun, times: list[int]) -> tuple[KernelReport, ...]:
    program: Any = last.entry.program
    return tuple(
        KernelReport(tuple(ops), t, _line(last.segment_ops, position))
        for ops, t, position in zip(program.ops, times, program.positions, strict=True)
    )


def _medians(run: Callable[[list[Any]], list[int]], inputs: list[Any], repeats: int) -> list[int]:
    runs = [run(inputs) for _ in range(max(1, repeats))]
    return [sorted(column)[len(column) // 2] for column in zip(*runs, strict=True)]


def reasons() -> list[str]:
    """Why jitted functions record at each call, where they do."""
    return [f"{j.__name__} records at every call: {j.why}" for j in programs.jitted if j.why]


def _line(ops: list[tuple[str, Any]], position: int) -> str:
    return site.short(ops[position][1]) if 0 <= position < len(ops) else ""


def _bytes(n: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.1f} {unit}" if unit != "B" else f"{n} B"
        n /= 1024  # type: ignore[assignment]
    return f"{n:.1f} GiB"
