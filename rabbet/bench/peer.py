"""Starts a worker where Rabbet is not installed: python peer.py FRAMEWORK THREADS.

The workloads' records are read from this folder; an empty package stands for `rabbet`, so that
nothing of it is imported, nor counted.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    sys.path = [path for path in sys.path if Path(path).resolve() != folder]
    package = types.ModuleType("rabbet")
    package.__path__ = [str(folder.parent)]
    sys.modules["rabbet"] = package
    from rabbet.bench.worker import main

    main(sys.argv[1:])
