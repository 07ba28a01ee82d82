"""Files that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

BINARY = getattr(os, "O_BINARY", 0)
_CHUNK = 1 << 24  # Ctrl-C is seen between two of them


@contextlib.contextmanager
def replacing(path: Path, *, synced: bool = False) -> Iterator[Path]:
    """A name for a new file, which takes the place of `path` when the block ends.

    Whatever goes wrong (no space, Ctrl-C, no permission: OSError), nothing is left behind and an
    older file of that name stays as it was. `synced`: the new one outlasts a power failure, too.

    >>> from rabbet.base.files import replacing
    >>> with replacing(Path("a.txt")) as temporary:
    ...     _ = temporary.write_text("all of it")
    >>> Path("a.txt").read_text()
    'all of it'
    """
    if not path.parent.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    temporary = path.parent / f".{path.name[:100]}.{os.getpid()}.{secrets.token_hex(8)}"
    try:
        yield temporary
        if synced:
            _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if synced:
        with contextlib.suppress(OSError):  # where folders cannot be synced there is no need to
            _sync(path.parent)


def write_whole(
    path: Path, parts: Iterable[bytes | memoryview], *, mode: int = 0o666, synced: bool = True
) -> None:
    """Write `parts`, one after the other, as the file `path` (see `replacing`)."""
    with replacing(Path(path), synced=synced) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, mode)
        try:
            for part in parts:
                _write_all(handle, memoryview(part).cast("B"))
        finally:
            os.close(handle)


def _write_all(handle: int, data: memoryview) -> None:
    while len(data):
        written = os.write(handle, data[:_CHUNK])
        data = data[written:]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
