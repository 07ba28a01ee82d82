"""Writing a program file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rabbet.base.dtypes import DType
from rabbet.base.files import write_whole
from rabbet.export import layout
from rabbet.export.encoding import decode, encode, version_of
from rabbet.export.graph import check
from rabbet.export.portable import Entry, Portable, Weight
from rabbet.runtime import buffers

PRODUCER = "rabbet 0.1"


@dataclass(frozen=True)
class WeightData:
    """A weight's name, role, and the node output that holds it."""

    name: str
    role: str
    node: Any
    index: int

    @property
    def dtype(self) -> DType:
        """Its element type."""
        found: DType = self.node.specs[self.index].dtype
        return found

    def array(self) -> np.ndarray:
        """Its elements."""
        spec = self.node.specs[self.index]
        return buffers.to_numpy(self.node.buffers[self.index], spec.shape, spec.dtype)


def write_program(path: Path, entries: Sequence[Entry], weights: Sequence[WeightData]) -> Path:
    """Write a program file whole, after checking it as a reader would; its path.

    Raises FormatError where it breaks a limit of the format, OSError where it cannot be written.
    """
    arrays = [w.array() for w in weights]
    offsets, total = layout.pack_weights([a.nbytes for a in arrays])
    parts: list[bytes | memoryview] = []
    end = 0
    for array, offset in zip(arrays, offsets, strict=True):
        parts += [bytes(offset - end), _bytes_of(array)]
        end = offset + array.nbytes
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    program = Portable(
        [
            Weight(w.name, w.role, w.dtype, tuple(a.shape), offset, a.nbytes)
            for w, a, offset in zip(weights, arrays, offsets, strict=True)
        ],
        list(entries),
        PRODUCER,
        digest.hexdigest(),
    )
    version = version_of(program)
    graph = encode(program, version)
    header = layout.make_header(graph, total, version)
    check(decode(graph, version), total)
    padding = bytes(layout.aligned(len(header) + len(graph)) - len(header) - len(graph))
    write_whole(path, [header, graph, padding, *parts])
    return path


def _bytes_of(array: np.ndarray) -> memoryview:
    # As bytes, because extension dtypes such as bfloat16 have no code in the buffer protocol.
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(flat)  # type: ignore[arg-type]  # NumPy's stubs say so for Python 3.12 only
