"""The least time of a workload on this machine."""

from __future__ import annotations

from rabbet.base.limits import Level, fma_flops, levels, library, move_seconds
from rabbet.bench.workload import Workload

__all__ = ["Level", "fma_flops", "levels", "library", "limit_seconds", "move_seconds"]


def limit_seconds(threads: int, workload: Workload, seconds: float) -> float:
    """The least time of one call: its arithmetic on registers, or its memory moved once."""
    problem = workload.problem
    if workload.judged == "flops":
        is_bfloat16 = getattr(problem, "dtype", "") == "bfloat16"
        rate = fma_flops(threads, is_bfloat16) or fma_flops(threads)
        return float(problem.flops) / rate
    steps = workload.items  # each passes over its part of the memory
    reads, writes = problem.read_bytes // steps, problem.written_bytes // steps
    return steps * move_seconds(threads, reads, writes, seconds)
