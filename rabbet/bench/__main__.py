"""`python -m rabbet.bench`: the same as `rabbet bench`."""

from __future__ import annotations

import argparse

from rabbet.bench.command import bench

parser = argparse.ArgumentParser(prog="rabbet.bench")
parser.add_argument("--against", default="", help="peers, with commas: torch,jax")
parser.add_argument("--only", default="", help="workloads, with commas; * fits any text")
parser.add_argument("--quick", action="store_true")
parser.add_argument("--threads", type=int, default=2)

if __name__ == "__main__":
    options = parser.parse_args()
    bench(
        [name for name in options.against.split(",") if name],
        [name for name in options.only.split(",") if name],
        quick=options.quick,
        threads=options.threads,
    )
