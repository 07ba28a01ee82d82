"""The results as JSON, as a Markdown page and as a picture."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rabbet.base.optional import require
from rabbet.bench.limits import Level
from rabbet.bench.measure import OURS, Result
from rabbet.bench.table import number, remarks
from rabbet.bench.workload import Workload


@dataclass(frozen=True)
class Machine:
    """What was measured on: names, and the limits that the figures are compared with."""

    cpu: str
    threads: int
    versions: dict[str, str]
    fma_gflops: float
    bfloat16_gflops: float  # 0 where the CPU has no instruction
    levels: list[Level]


def cpu_name() -> str:
    """The processor's name and the number of processors."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} processors"


def as_json(results: list[Result], machine: Machine) -> str:
    """Everything: each way of each framework, each round."""
    found = [
        {
            "workload": r.workload.name,
            "unit": r.workload.unit,
            "flops": r.workload.problem.flops,
            "bytes": r.workload.bytes,
            "best_peer": r.best_peer,
            "ratio": r.ratio(OURS, r.best_peer) if r.best_peer and OURS in r.outcomes else None,
            "share": r.share(OURS) if OURS in r.outcomes else None,
            "limit_seconds": r.limit,
            "frameworks": {f: asdict(o) for f, o in r.outcomes.items()},
        }
        for r in results
    ]
    return json.dumps({"machine": asdict(machine), "results": found}, indent=1)


def as_markdown(results: list[Result], machine: Machine, frameworks: list[str]) -> str:
    """The page: the machine, one line for each workload, errors."""
    versions = ", ".join(f"{name} {v}" for name, v in machine.versions.items())
    lines = [
        "# Benchmarks",
        "",
        f"{machine.cpu}; {machine.threads} threads; {versions}. Medians of rounds in which the "
        "frameworks take turns; *ratio*: how many times faster Rabbet is than the best peer "
        "(bold); *share*: the part of the machine's limit that Rabbet reaches.",
        "",
        *_limits(machine),
        "",
        "| workload | unit | " + " | ".join(frameworks) + " | ratio | limit | share |",
        "|---|---|" + "---:|" * (len(frameworks) + 3),
        *(_row(r, frameworks) for r in results),
        "",
        *(f"- {line}" for line in remarks(results)),
    ]
    return "\n".join(lines) + "\n"


def _limits(machine: Machine) -> list[str]:
    levels = [
        f"| {v.name} ({v.bytes >> 10} KiB) | {v.read:.0f} | {v.copy:.0f} | {v.streamed:.0f} |"
        for v in machine.levels
    ]
    return [
        f"Multiply-adds on registers: {machine.fma_gflops:.0f} GFLOP/s float32, "
        f"{machine.bfloat16_gflops:.0f} bfloat16.",
        "",
        "| memory | read GB/s | copy, read + write | copy, streaming stores |",
        "|---|---:|---:|---:|",
        *levels,
    ]


def _row(result: Result, frameworks: list[str]) -> str:
    workload, peer = result.workload, result.best_peer
    cells = [workload.name, workload.unit]
    for framework in frameworks:
        best = result.outcomes[framework].best
        text = number(workload.figure(best.seconds)) if best else ""
        cells.append(f"**{text}**" if framework == peer else text)
    ratio = result.ratio(OURS, peer) if peer and OURS in result.outcomes else None
    share = result.share(OURS) if OURS in result.outcomes else None
    limit = sorted(result.limit)[len(result.limit) // 2] if result.limit else None
    cells.append(f"{ratio:.2f}" if ratio else "")
    cells.append(number(workload.figure(limit)) if limit else "")
    cells.append(f"{share:.0%}" if share else "")
    return "| " + " | ".join(cells) + " |"


def cost_table(workloads: list[Workload]) -> str:
    """The cost model of every workload as a Markdown table: FLOPs and bytes of one call."""
    lines = ["| workload | what | GFLOP | MB at least |", "|---|---|---:|---:|"]
    for w in workloads:
        gflop, megabytes = w.problem.flops / 1e9, w.bytes / 1e6
        lines.append(f"| {w.name} | {w.about} | {gflop:.3g} | {megabytes:.3g} |")
    return "\n".join(lines) + "\n"


def draw(results: list[Result], path: Path) -> None:
    """A picture: how many times faster than the best peer, a bar for each workload.

    Raises MissingExtra without matplotlib.
    """
    pyplot: Any = require("matplotlib.pyplot", "plot")
    pairs = [(r, r.ratio(OURS, r.best_peer)) for r in results if r.best_peer and OURS in r.outcomes]
    found = [(r, ratio) for r, ratio in pairs if ratio][::-1]
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.27 * len(found)), layout="constrained")
    names = [f"{r.workload.name}  (best peer: {r.best_peer})" for r, _ in found]
    ratios = [ratio for _, ratio in found]
    colors = ["#2a7f62" if ratio >= 1 else "#b5533c" for ratio in ratios]
    bars = axes.barh(names, ratios, color=colors)
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("times as fast as the fastest peer")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
