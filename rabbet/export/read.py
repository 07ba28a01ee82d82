"""Reading a program file: header and graph checked, weights mapped into memory and left there."""

from __future__ import annotations

import hashlib
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rabbet.base.errors import FormatError
from rabbet.export import layout
from rabbet.export.encoding import decode
from rabbet.export.graph import check
from rabbet.export.layout import Header
from rabbet.export.portable import Portable, Weight
from rabbet.runtime import buffers


def _digest_sources() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


PACKAGE_VERSION = _digest_sources()  # of what gives a file its meaning


@dataclass(eq=False)
class ProgramFile:
    """A checked file: its records, and its weights as read-only memory."""

    path: Path
    program: Portable
    header: Header
    memory: memoryview  # the weights

    def bytes_of(self, weight: Weight) -> memoryview:
        """The bytes of a weight."""
        return self.memory[weight.offset : weight.offset + weight.n_bytes]

    def array(self, weight: Weight) -> np.ndarray:
        """A weight as a read-only array over the file."""
        if weight.n_bytes == 0:
            return np.empty(weight.shape, weight.dtype.numpy)
        return np.frombuffer(self.bytes_of(weight), weight.dtype.numpy).reshape(weight.shape)

    def forget(self) -> None:
        """Tell the system that weights read so far may not be read again: they leave this process's
        memory, and come back from the file where they are.
        """
        mapping = self.memory.obj
        if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)

    def buffer(self, weight: Weight) -> Any:
        """A weight as a Buffer over the file, without a copy."""
        return buffers.from_numpy(self.array(weight), copy=weight.n_bytes == 0)


def read_program(path: str | os.PathLike[str], *, verify: bool = False) -> ProgramFile:
    """Open and check a program file; `verify` also reads all weights and compares their hash.

    Raises FormatError naming the file and what is wrong with it, OSError if it cannot be opened.
    """
    place = Path(path)
    try:
        return _read(place, verify)
    except FormatError as error:
        raise FormatError(f"{place}: {error}") from None


def _read(path: Path, verify: bool) -> ProgramFile:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = layout.read_header(file.read(layout.HEADER_BYTES), size)
        graph = file.read(header.graph_bytes)
        if hashlib.sha256(graph).digest() != header.graph_digest:
            raise FormatError("the graph is damaged (its SHA-256 does not match)")
        if any(file.read(header.weights_offset - layout.HEADER_BYTES - header.graph_bytes)):
            raise FormatError("the bytes between graph and weights are not zero")
        program = decode(graph, header.version)
        check(program, header.weights_bytes)
        memory = memoryview(b"")
        if header.weights_bytes:
            memory = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
            memory = memory[header.weights_offset :]
    if verify:
        found = hashlib.sha256(memory).hexdigest()
        if found != program.weights_sha256:
            raise FormatError("the weights are damaged (their SHA-256 does not match)")
    return ProgramFile(path, program, header, memory)
