"""Whole programs on disk: a plan and the keys of its kernels, so that a warm start compiles
nothing.

What is read back is only used if every kernel object is still there; anything else is a miss. The
key covers everything that can change the plan: the segment, its size pattern, what it keeps, the
target, our sources.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import rabbet.base
import rabbet.graph
import rabbet.kernel
import rabbet.ops
import rabbet.transform
from rabbet.base.target import Target
from rabbet.codegen.store import KernelStore, Wanted, generator_version
from rabbet.runtime.assembly import Compiled

PACKAGES = (rabbet.base, rabbet.graph, rabbet.kernel, rabbet.ops, rabbet.transform)


class Launchable(NamedTuple):
    """What the runtime needs of a compiled graph."""

    words: bytes
    kernels: list[Wanted]
    ops: list[list[str]]
    sites: list[list[int]]


class Pack(NamedTuple):
    """What puts one operand into panels, of the inputs of a program numbered `constants`."""

    name: str
    constants: list[int]
    program: Launchable


class Packed(NamedTuple):
    """A program that reads panels made of inputs that stay the same, and what makes them."""

    main: Launchable
    packs: list[Pack]


class Ready(NamedTuple):
    """A program of one op for sizes `dims`: numbers, or names of symbols (engine/segment.py)."""

    dims: tuple[int | str, ...]
    keep: tuple[tuple[int, int], ...]
    code: bytes  # of a family's many programs few are used

    @classmethod
    def of(
        cls, dims: tuple[int | str, ...], keep: tuple[tuple[int, int], ...], program: Launchable
    ) -> Ready:
        """With `program` as bytes."""
        return cls(dims, keep, _encode(program))

    @property
    def program(self) -> Launchable:
        """What is to be run."""
        return _decode(self.code)


@lru_cache(maxsize=1)
def compiler_version() -> str:
    """Digest of every source that has a say in a plan."""
    digest = hashlib.sha256(generator_version().encode())
    folders = [Path(folder) for package in PACKAGES for folder in package.__path__]
    for folder in (*folders, Path(__file__).parent):
        for source in sorted(folder.glob("*.py")):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def made_for(target: Target) -> str:
    """What a program depends on besides what it computes, in plain text."""
    return repr((target.name, target.cpu, target.features, compiler_version()))


def program_key(parts: tuple[Any, ...], target: Target) -> str:
    """The key of a program on disk; `parts` describe graph, sizes and outputs in plain data."""
    return hashlib.sha256(repr((parts, made_for(target))).encode()).hexdigest()


def launchable(compiled: Compiled, store: KernelStore) -> Launchable:
    """A compiled graph with its kernels by name."""
    kernels = [store.wanted(k) for k in compiled.kernels]
    return Launchable(compiled.words, kernels, compiled.ops, compiled.sites)


def save(key: str, program: Launchable, store: KernelStore) -> None:
    """Keep a program on disk."""
    store.disk.put(key, _encode(program))


def load(key: str, store: KernelStore) -> Launchable | None:
    """The program of this key, or None. Disk and pack have checked the bytes."""
    data = store.kept(key)
    return None if data is None else _decode(data)


def save_packed(key: str, packed: Packed, store: KernelStore) -> None:
    """Keep a program and what packs for it on disk."""
    programs = [_encode(p) for p in (packed.main, *(pack.program for pack in packed.packs))]
    header = {
        "packs": [[pack.name, pack.constants] for pack in packed.packs],
        "lengths": [len(data) for data in programs],
    }
    store.disk.put(key, _headed(header, b"".join(programs)))


def load_packed(key: str, store: KernelStore) -> Packed | None:
    """As `load`, for what `save_packed` kept."""
    data = store.kept(key)
    if data is None:
        return None
    header, rest = _split(data)
    programs = []
    for length in header["lengths"]:
        programs.append(_decode(rest[:length]))
        rest = rest[length:]
    named = zip(header["packs"], programs[1:], strict=True)
    return Packed(programs[0], [Pack(name, constants, made) for (name, constants), made in named])


def ready_key(family: bytes, target: Target) -> str:
    """The key of all programs of one op that a pack has: `family` is the op with its operands."""
    return program_key(("ready", family), target)


def encode_ready(programs: Sequence[Ready]) -> bytes:
    """Programs of one family as bytes."""
    found = [[ready.dims, ready.keep, len(ready.code)] for ready in programs]
    return _headed({"ready": found}, b"".join(ready.code for ready in programs))


def decode_ready(data: bytes) -> list[Ready]:
    """What `encode_ready` wrote."""
    header, rest = _split(data)
    programs = []
    for dims, keep, length in header["ready"]:
        programs.append(Ready(tuple(dims), tuple(map(tuple, keep)), rest[:length]))
        rest = rest[length:]
    return programs


def _encode(program: Launchable) -> bytes:
    header = {
        "kernels": [[w.name, w.key] for w in program.kernels],
        "ops": program.ops,
        "sites": program.sites,
    }
    return _headed(header, program.words)


def _decode(data: bytes) -> Launchable:
    header, words = _split(data)
    kernels = [Wanted(name, object_key, None) for name, object_key in header["kernels"]]
    return Launchable(words, kernels, header["ops"], header["sites"])


def _headed(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]
