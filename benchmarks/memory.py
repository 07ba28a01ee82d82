"""The most memory that training takes, beside PyTorch's, each in a process of its own.

    python benchmarks/memory.py [--only gpt_train] [--threads 2]

Megabytes: what a process peaks at over what it held after its import, and the ratio. The peers'
environments are those of `rabbet bench` (RABBET_BENCH_PEERS).
"""

from __future__ import annotations

import argparse
import sys

from rabbet.bench.environments import python_of
from rabbet.bench.processes import Process

WORKLOADS = ("gpt_train", "resnet18_train")
WAYS = {"rabbet": "jit", "torch": "eager"}
CALLS = 3  # until every program is compiled and its memory has been held once
MEGABYTE = 1 << 20


def peak_bytes(framework: str, workload: str, threads: int) -> int:
    """The peak of a fresh process that trains, less what it held after its import."""
    python = None if framework == "rabbet" else python_of(framework)
    process = Process(framework, python, threads, sys.stderr)
    try:
        process.ask("hello")
        start = int(process.ask("memory")["peak_bytes"])
        process.ask("prepare", workload=workload, way=WAYS[framework])
        for _ in range(CALLS):
            process.ask("measure", workload=workload, way=WAYS[framework], seconds=0.01)
        return int(process.ask("memory")["peak_bytes"]) - start
    finally:
        process.end()


def main() -> None:
    """One line a workload."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=WORKLOADS)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    for workload in [given.only] if given.only else WORKLOADS:
        ours, theirs = (peak_bytes(f, workload, given.threads) / MEGABYTE for f in WAYS)
        print(f"{workload:16} rabbet {ours:5.0f}  torch {theirs:5.0f}  ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
