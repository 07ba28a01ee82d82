"""Files that appear whole or not at all: written beside their place, synced, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

_BINARY = getattr(os, "O_BINARY", 0)
CHUNK = 1 << 24


def write_whole(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write `parts`, one after the other, as the file `path`.

    Whatever goes wrong (no space, Ctrl-C, no permission: OSError), nothing is left behind and an
    older file of that name stays as it was.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name[:100]}.{os.getpid()}.{secrets.token_hex(6)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        try:
            for part in parts:
                _write_all(handle, memoryview(part).cast("B"))
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _write_all(handle: int, data: memoryview) -> None:
    while len(data):
        written = os.write(handle, data[:CHUNK])
        data = data[written:]


def _sync_folder(folder: Path) -> None:
    """Make the rename last; where folders cannot be synced (Windows) there is nothing to do."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
