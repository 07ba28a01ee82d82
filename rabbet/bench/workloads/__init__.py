"""The workloads: what is computed, in numbers; each framework says how in a folder of its own."""

from __future__ import annotations

from fnmatch import fnmatch

from rabbet.bench.workload import Workload
from rabbet.bench.workloads import images, mlp, products, sequences, small

ALL: list[Workload] = [
    *products.WORKLOADS,
    *mlp.WORKLOADS,
    *images.WORKLOADS,
    *sequences.WORKLOADS,
    *small.WORKLOADS,
]


def choose(patterns: list[str]) -> list[Workload]:
    """The workloads whose names match one of the patterns (`conv*`), in their order; all of them
    without a pattern. ValueError names a pattern that fits none."""
    for pattern in patterns:
        if not any(_fits(w.name, pattern) for w in ALL):
            names = ", ".join(w.name for w in ALL)
            raise ValueError(f"no workload is called {pattern!r}; there are {names}")
    return [w for w in ALL if not patterns or any(_fits(w.name, p) for p in patterns)]


def _fits(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern)
