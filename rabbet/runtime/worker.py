"""`python -m rabbet.runtime.worker`: makes programs for the process that started it.

Reads requests (background.py) from its input, leaves programs and kernels in the disk cache, and
says so on its output. Ends with its input, or after a while without work.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from functools import lru_cache
from pathlib import Path
from typing import IO

import rabbet.ops  # noqa: F401  # graphs name their ops
from rabbet.base.cache import DiskCache
from rabbet.base.errors import RabbetError
from rabbet.codegen.store import KernelStore
from rabbet.graph import parcel
from rabbet.runtime import program, saved
from rabbet.runtime.background import Request, receive, send

IDLE_SECONDS = 60.0


def main() -> None:
    """Serve until the input ends."""
    if hasattr(os, "nice"):
        os.nice(5)  # whoever computes goes first
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    while _has_more(source):
        try:
            request, graph = receive(source)
        except EOFError:
            return
        with contextlib.suppress(RabbetError):  # met again where it is shown
            _serve(request, graph)
        send(answers, request.key)


def _has_more(source: IO[bytes]) -> bool:
    """True where the input has more, or has ended; False after a while."""
    if sys.platform == "win32":  # pipes cannot be waited for
        return True
    return bool(select.select([source], [], [], IDLE_SECONDS)[0])


def _serve(request: Request, graph: bytes) -> None:
    store = _store(request.folder)
    if saved.made_for(store.target) == request.made_for:
        program.make(request.key, lambda: parcel.unpack(graph), fuse=request.fuse, store=store)


@lru_cache(maxsize=1)
def _store(folder: str) -> KernelStore:
    target = program.host_target()
    return KernelStore(target, DiskCache(Path(folder)), program.pack_of(target))


if __name__ == "__main__":
    main()
