"""Whole programs on disk: a plan and the keys of its kernels, so that a warm start compiles
nothing.

What is read back is only used if every kernel object is still there; anything else is a miss. The
key covers everything that can change the plan: the segment, its size pattern, what it keeps, the
target, our sources.
"""

from __future__ import annotations

import hashlib
import json
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
    positions: list[int]


@lru_cache(maxsize=1)
def compiler_version() -> str:
    """Digest of every source that has a say in a plan."""
    digest = hashlib.sha256(generator_version().encode())
    folders = [Path(folder) for package in PACKAGES for folder in package.__path__]
    for folder in (*folders, Path(__file__).parent):
        for source in sorted(folder.glob("*.py")):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def program_key(parts: tuple[Any, ...], target: Target) -> str:
    """The key of a program on disk; `parts` describe graph, sizes and outputs in plain data."""
    text = repr((parts, target.name, target.cpu, target.features, compiler_version()))
    return hashlib.sha256(text.encode()).hexdigest()


def launchable(compiled: Compiled, store: KernelStore) -> Launchable:
    """A compiled graph with its kernels by name."""
    kernels = [store.wanted(k) for k in compiled.kernels]
    return Launchable(compiled.words, kernels, compiled.ops, compiled.positions)


def save(key: str, program: Launchable, store: KernelStore) -> None:
    """Keep a program on disk."""
    header = {
        "kernels": [[w.name, w.key] for w in program.kernels],
        "ops": program.ops,
        "positions": program.positions,
    }
    text = json.dumps(header).encode()
    store.disk.put(key, len(text).to_bytes(8, "little") + text + program.words)


def load(key: str, store: KernelStore) -> Launchable | None:
    """The program of this key, or None. Disk and pack have checked the bytes."""
    data = store.kept(key)
    if data is None:
        return None
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    kernels = [Wanted(name, object_key, None) for name, object_key in header["kernels"]]
    return Launchable(data[end:], kernels, header["ops"], header["positions"])
