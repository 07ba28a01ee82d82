"""`python -m rabbet.pack [--target NAME ...] [--folder PATH]`: make packs of ready kernels.

Targets need not run on this machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import rabbet.base
from rabbet import targets
from rabbet.pack.make import make
from rabbet.pack.workloads import wanted


def main() -> None:
    """Make the pack of each target."""
    parser = argparse.ArgumentParser(prog="python -m rabbet.pack", description=__doc__)
    parser.add_argument("--target", action="append", help="default: this machine's")
    parser.add_argument(
        "--folder", type=Path, default=Path(rabbet.base.__file__).parents[1] / "packs"
    )
    options = parser.parse_args()
    chosen = [targets.find(name) for name in options.target or ()]
    begin = time.perf_counter()
    for path, entries in make(chosen or [targets.host()], options.folder, wanted()):
        size, spent = path.stat().st_size / 1e6, time.perf_counter() - begin
        print(f"{path.name}: {entries} kernels, {size:.1f} MB ({spent:.0f} s)")


if __name__ == "__main__":
    main()
