"""Code that many kernels share, beside the code of one kernel: as text, and as bytes.

A kernel's text may be followed by parts: modules of their own whose functions the kernel calls, of
which the text says all there is to say, so that their names end with its digest. Each is compiled
once for all kernels. A kernel's object bytes then are a bundle: its own object and its parts'.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rabbet.base.errors import InternalError

_PART = "\n; part "  # begins a part in text: its functions' names follow, then its module
_MAGIC = b"RABBETO1"
_COUNT, _SIZES = struct.Struct("<I"), struct.Struct("<IQ")  # of a part's names and its object
_DIGITS = 16


class PartText(NamedTuple):
    """A part: its functions' names in its text, the names that everybody knows them by, its text
    with these.
    """

    plain: tuple[str, ...]
    names: tuple[str, ...]
    text: str


class Part(NamedTuple):
    """A compiled part: the names of its functions, and its object."""

    names: tuple[str, ...]
    code: bytes


def named(text: str, functions: Sequence[str]) -> PartText:
    """A module that defines `functions`, with names that nothing else has."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    names = tuple(f"rb_{name}_{digest}" for name in functions)
    return PartText(tuple(functions), names, renamed(text, functions, names))


def renamed(text: str, functions: Sequence[str], names: Sequence[str]) -> str:
    """The text with calls and definitions of `functions` under other names."""
    for old, new in zip(functions, names, strict=True):
        text = text.replace(f"@{old}(", f"@{new}(")
    return text


def joined_text(own: str, parts: Iterable[PartText]) -> str:
    """A kernel's text, with its parts behind."""
    return "".join([own, *(f"{_PART}{' '.join(p.names)}\n{p.text}" for p in parts)])


def split_text(text: str) -> tuple[str, list[tuple[tuple[str, ...], str]]]:
    """A kernel's own text, and names and text of each of its parts."""
    own, *parts = text.split(_PART)
    found = []
    for part in parts:
        names, _, module = part.partition("\n")
        found.append((tuple(names.split()), module))
    return own, found


def joined(own: bytes, parts: Sequence[Part]) -> bytes:
    """The bytes of a kernel: its object as it is if it has no parts."""
    if not parts:
        return own
    found = [_MAGIC, _COUNT.pack(len(parts) + 1)]
    for names, code in (Part((), own), *parts):
        known = " ".join(names).encode()
        found += [_SIZES.pack(len(known), len(code)), known, code]
    return b"".join(found)


def split(code: bytes) -> tuple[bytes, list[Part]]:
    """A kernel's own object, and its parts.

    Raises InternalError if the bytes are not those of a bundle.
    """
    if not code.startswith(_MAGIC):
        return code, []
    found: list[Part] = []
    try:
        (count,) = _COUNT.unpack_from(code, len(_MAGIC))
        at = len(_MAGIC) + _COUNT.size
        for _ in range(max(count, 1)):  # its own, at least
            known, size = _SIZES.unpack_from(code, at)
            at += _SIZES.size
            names = code[at : at + known].decode().split()
            found.append(Part(tuple(names), code[at + known : at + known + size]))
            at += known + size
    except (struct.error, UnicodeDecodeError):
        at = len(code) + 1
    if at != len(code):
        raise InternalError("a kernel's bytes do not end where its parts do")
    return found[0].code, found[1:]


def object_files(kernels: Mapping[str, bytes]) -> dict[str, bytes]:
    """Kernels' bytes as object files, by name: each kernel's own and each part once."""
    files: dict[str, bytes] = {}
    for name, code in kernels.items():
        files[f"{name}.o"], parts = split(code)
        files |= {f"{part.names[0]}.o": part.code for part in parts}
    return files
