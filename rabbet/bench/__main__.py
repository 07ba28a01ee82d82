"""`python -m rabbet.bench`: the same as `rabbet bench`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rabbet.base.errors import RabbetError
from rabbet.bench.command import bench


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


parser = argparse.ArgumentParser(prog="rabbet.bench")
parser.add_argument("--against", type=_names, default=[], help="peers, with commas: torch,jax")
parser.add_argument("--only", type=_names, default=[], help="workloads, with commas; * is any text")
parser.add_argument("--model", type=Path, help="a file of one's own: see rabbet/bench/own.py")
parser.add_argument("--system", action="store_true", help="import, memory, compiling, disk")
parser.add_argument("--quick", action="store_true")
parser.add_argument("--install", action="store_true", help="make missing peers' environments")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--json", type=Path, dest="json_file")
parser.add_argument("--markdown", type=Path)
parser.add_argument("--picture", type=Path)

if __name__ == "__main__":
    options = vars(parser.parse_args())
    try:
        bench(options.pop("against"), options.pop("only"), **options)
    except RabbetError as error:
        sys.exit(f"rabbet: {error.said}")
