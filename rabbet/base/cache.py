"""A store of byte strings on disk, addressed by key, that several processes may use at once.

Entries are written whole (temporary file, rename) and read with a checksum, so that what a crash
tore is a miss; the least recently used ones are dropped when there are too many. The directory
belongs to the user alone; where there is no such directory the store is empty and stays so, and
`problem` says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import time
from pathlib import Path

from rabbet.base.errors import InternalError
from rabbet.base.files import BINARY, write_whole

MAGIC = b"RABBETC1"
DEFAULT_LIMIT = 1 << 30  # bytes of all entries together
_KEY = re.compile(r"[0-9a-f]{16,128}\Z")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDERS = 256  # entries lie in folders by the first two digits of their key
_MANY = 64  # entries of a folder: so many are spread well enough to stand for all
_FRESH_SECONDS = 600.0  # an entry read this recently is not marked as used again
_ABANDONED_SECONDS = 3600.0  # a temporary file this old belongs to nobody


def default_directory() -> Path:
    """$RABBET_CACHE_DIR, or ~/.cache/rabbet."""
    chosen = os.environ.get("RABBET_CACHE_DIR")
    return Path(chosen) if chosen else Path("~/.cache/rabbet").expanduser()


class DiskCache:
    """Byte strings by hexadecimal key.

    >>> cache = DiskCache()
    >>> cache.put("00" * 32, b"data")
    >>> cache.get("00" * 32)
    b'data'
    """

    def __init__(self, directory: Path | None = None, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self.problem = ""
        try:
            self.directory = directory or default_directory()
            self._claim()
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
            self.problem = f"compiled code is kept in memory only: {error}"

    def get(self, key: str) -> bytes | None:
        """The bytes stored under a key; None if there are none, or if they are damaged."""
        if self.problem:
            return None
        path = self._path(key)
        try:
            handle = os.open(path, os.O_RDONLY | _NO_FOLLOW | BINARY)
        except OSError:
            return None
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode) or not _is_private(facts):
                return None
            data = file.read()
        payload = data[len(MAGIC) + 32 :]
        if data[: len(MAGIC) + 32] != MAGIC + hashlib.sha256(payload).digest():
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        if time.time() - facts.st_mtime > _FRESH_SECONDS:
            with contextlib.suppress(OSError):
                os.utime(path)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store bytes under a key; if the disk refuses, the store is closed and `problem` set."""
        if self.problem:
            return
        path = self._path(key)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            head = MAGIC + hashlib.sha256(payload).digest()
            write_whole(path, [head, payload], mode=0o600, synced=False)
            self._count(path.parent, len(payload))
        except OSError as error:
            self.problem = f"compiled code is kept in memory only: {error}"

    def _path(self, key: str) -> Path:
        if not _KEY.match(key):
            raise InternalError(f"cache key {key!r} is not hexadecimal")
        return self.directory / key[:2] / key

    def _claim(self) -> None:
        """Make the directory, and make sure that nobody else can write to it."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = os.lstat(self.directory)
        if not stat.S_ISDIR(facts.st_mode):
            raise OSError(f"{self.directory} is not a directory")
        if not _is_private(facts):
            raise OSError(f"{self.directory} can be written by other users")
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise OSError(f"{self.directory} is not writable")

    def _count(self, folder: Path, written: int) -> None:
        """Now and then: drop the least recently used entries where there are too many.

        Keys are spread evenly, so one folder tells how much there is: the one just written to, and
        so often (by chance) that each is looked at about once while all grow by 1/16. Walking all
        of a full cache takes seconds, so a folder of many entries keeps to its own share. Few can
        be few large ones; then there are few everywhere, and all are looked at.
        """
        if secrets.randbelow(self.limit) >= written * 16 * _FOLDERS:
            return
        share, entries = self.limit // _FOLDERS, _entries(folder)
        if _bytes(entries) > share and len(entries) < _MANY:
            share, entries = self.limit, [e for f in self.directory.glob("??") for e in _entries(f)]
        total = _bytes(entries)
        if total <= share:
            return
        for _, size, path in sorted(entries)[:-1]:
            if total <= share * 3 // 4:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


def _bytes(entries: list[tuple[float, int, str]]) -> int:
    return sum(size for _, size, _ in entries)


def _entries(folder: Path) -> list[tuple[float, int, str]]:
    """(last use, bytes, path) of each entry; temporary files that nobody wants are removed."""
    found: list[tuple[float, int, str]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as files:
        for file in files:
            with contextlib.suppress(OSError):
                facts = file.stat(follow_symlinks=False)
                found.append((facts.st_mtime, facts.st_size, file.path))
                is_temporary = file.name.startswith(".")
                if is_temporary and time.time() - facts.st_mtime > _ABANDONED_SECONDS:
                    os.unlink(file.path)
    return found


def _is_private(facts: os.stat_result) -> bool:
    """Owned by this user and not writable by others (where the system knows users)."""
    if not hasattr(os, "geteuid"):
        return True
    return facts.st_uid == os.geteuid() and not facts.st_mode & 0o022
