"""`python -m rabbet.pack [--target NAME ...] [--folder PATH] [--if-needed]`: make packs.

Targets need not run on this machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import rabbet.base
from rabbet import targets
from rabbet.pack.make import is_complete, make
from rabbet.pack.workloads import wanted


def main() -> None:
    """Make the pack of each target."""
    parser = argparse.ArgumentParser(prog="python -m rabbet.pack", description=__doc__)
    parser.add_argument("--target", action="append", help="default: this machine's")
    parser.add_argument(
        "--folder", type=Path, default=Path(rabbet.base.__file__).parents[1] / "packs"
    )
    parser.add_argument(
        "--if-needed", action="store_true", help="only those that are missing or of other sources"
    )
    options = parser.parse_args()
    chosen = [targets.find(name) for name in options.target or ()] or [targets.host()]
    if options.if_needed:
        chosen = [t for t in chosen if not is_complete(t, options.folder)]
        if not chosen:
            return
    begin = time.perf_counter()
    for path, entries in make(chosen, options.folder, wanted()):
        size, spent = path.stat().st_size / 1e6, time.perf_counter() - begin
        print(f"{path.name}: {entries} kernels, {size:.1f} MB ({spent:.0f} s)")


if __name__ == "__main__":
    main()
