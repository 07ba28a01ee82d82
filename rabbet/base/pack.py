"""A pack: byte strings by key in one read-only file, ready when the package is installed.

The file is a header, an index sorted by key, and the payloads, deflated. The index has a checksum,
checked when the file is opened, and one for each payload, checked when it is read. Any number of
processes map the same file; it is written whole and never changed. A file that is damaged, or not a
pack, is as good as none, and a warning says so.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import warnings
import zlib
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path

from rabbet.base.errors import InternalError
from rabbet.base.files import write_whole

MAGIC = b"RABBETP1"
_HEADER = struct.Struct("<8sQ32s")  # MAGIC, number of entries, SHA-256 of the index
_ENTRY = struct.Struct("<32sQQ32s")  # key, where its payload begins and its bytes, their SHA-256


class Pack:
    """The entries of one file; a key that is not there gives None.

    >>> Pack(Path("x86_v3.pack")).get("00" * 32)   # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        """Open `path`; without such a file the pack is empty, with a bad one there is a warning."""
        self.path = path
        self._data: mmap.mmap | bytes = b""
        self._keys: list[bytes] = []
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._keys = self._index()
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:  # ValueError: mmap of an empty file, or a bad index
            self._refuse(str(error))

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._keys)

    def get(self, key: str) -> bytes | None:
        """The bytes under a hexadecimal key; None if there are none, or if they are damaged."""
        wanted = bytes.fromhex(key)
        at = bisect_left(self._keys, wanted)
        if at == len(self._keys) or self._keys[at] != wanted:
            return None
        _, start, size, digest = _ENTRY.unpack_from(self._data, _HEADER.size + at * _ENTRY.size)
        payload = bytes(self._data[start : start + size])
        if hashlib.sha256(payload).digest() != digest:
            self._refuse("an entry does not have its checksum")
            return None
        return zlib.decompress(payload)

    def _index(self) -> list[bytes]:
        """The keys in order; ValueError where this is not a whole pack."""
        data = self._data
        if len(data) < _HEADER.size:
            raise ValueError("it is too short")
        magic, count, digest = _HEADER.unpack_from(data, 0)
        end = _HEADER.size + count * _ENTRY.size
        if magic != MAGIC or end > len(data):
            raise ValueError("it is not a pack of this version")
        index = data[_HEADER.size : end]
        if hashlib.sha256(index).digest() != digest:
            raise ValueError("its index does not have its checksum")
        return [index[i : i + 32] for i in range(0, len(index), _ENTRY.size)]

    def _refuse(self, why: str) -> None:
        self._keys = []
        warnings.warn(
            f"{self.path} is not used: {why}; kernels are compiled instead. Install rabbet again, "
            "or delete the file",
            RuntimeWarning,
            stacklevel=2,
        )


def write_pack(path: Path, entries: Mapping[str, bytes]) -> None:
    """Write `entries`, payloads by SHA-256 keys in hexadecimal, whole, in place of `path`."""
    keys = sorted(entries)
    if any(len(key) != 64 for key in keys):
        raise InternalError("keys of a pack are SHA-256 digests in hexadecimal")
    at = _HEADER.size + len(keys) * _ENTRY.size
    packed = [zlib.compress(entries[key], 9) for key in keys]
    index = b""
    for key, payload in zip(keys, packed, strict=True):
        digest = hashlib.sha256(payload).digest()
        index += _ENTRY.pack(bytes.fromhex(key), at, len(payload), digest)
        at += len(payload)
    header = _HEADER.pack(MAGIC, len(keys), hashlib.sha256(index).digest())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, [header, index, *packed], synced=False)
