"""The layout of a program file, for writer and reader (docs/format.md explains it).

0    8  magic                      48   8  weights: bytes
8    4  version                    56   8  file: bytes
12   4  header: bytes              64  32  SHA-256 of the graph text
16   8  graph: offset              96  32  SHA-256 of bytes 0 to 96
24   8  graph: bytes
32   8  (zero)
40   8  weights: offset
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

from rabbet.base.errors import FormatError

MAGIC = b"\x89RBT\r\n\x1a\n"  # a transfer that changes line ends or strips bit 7 breaks it
VERSIONS = (1, 2, 3)  # 2: calls may hold bodies; 3: literals may be complex
HEADER_BYTES = 128
ALIGNMENT = 64

MAX_GRAPH_BYTES = 1 << 28
MAX_CALLS = 100_000
MAX_WEIGHTS = 100_000
MAX_PORTS = 4096
MAX_ENTRIES = 64
MAX_SYMBOLS = 64
MAX_RANK = 16
MAX_OPERANDS = 4096
MAX_NAME = 512
MAX_ELEMENTS = 1 << 48  # of one tensor
MAX_DEPTH = 64  # of lists within lists in the graph text
MAX_NESTING = 16  # of bodies within bodies

_FIELDS = struct.Struct("<8sIIQQQQQQ32s")


class Header(NamedTuple):
    """Where graph and weights lie in the file."""

    version: int
    graph_bytes: int
    weights_offset: int
    weights_bytes: int
    file_bytes: int
    graph_digest: bytes


def aligned(offset: int) -> int:
    """The next multiple of the alignment."""
    return (offset + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def pack_weights(sizes: Sequence[int]) -> tuple[list[int], int]:
    """The offset of each weight and the bytes of all: one after the other, each aligned."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(aligned(end))
        end = offsets[-1] + size
    return offsets, end


def make_header(graph: bytes, weights_bytes: int, version: int) -> bytes:
    """The header of a file with this graph text."""
    offset = aligned(HEADER_BYTES + len(graph))
    fields = _FIELDS.pack(
        *(MAGIC, version, HEADER_BYTES, HEADER_BYTES, len(graph), 0),
        *(offset, weights_bytes, offset + weights_bytes, hashlib.sha256(graph).digest()),
    )
    return fields + hashlib.sha256(fields).digest()


def read_header(data: bytes, actual_bytes: int) -> Header:
    """Check the start of a file of `actual_bytes`; FormatError names the first rule broken."""
    if data[: len(MAGIC)] != MAGIC:
        raise FormatError("this is not a Rabbet program file (its first 8 bytes say so)")
    if len(data) < HEADER_BYTES:
        raise FormatError(f"the file ends inside its header ({len(data)} of {HEADER_BYTES} bytes)")
    _, version, header_bytes, graph_offset, graph_bytes, zero, *rest = _FIELDS.unpack_from(data)
    if version not in VERSIONS:
        known = ", ".join(map(str, VERSIONS))
        raise FormatError(f"the file has version {version}; this Rabbet reads versions {known}")
    if hashlib.sha256(data[: _FIELDS.size]).digest() != data[_FIELDS.size : HEADER_BYTES]:
        raise FormatError("the header is damaged (its SHA-256 does not match)")
    weights_offset, weights_bytes, file_bytes, digest = rest
    header = Header(version, graph_bytes, weights_offset, weights_bytes, file_bytes, digest)
    if header_bytes != HEADER_BYTES or graph_offset != HEADER_BYTES or zero != 0:
        raise FormatError("the header's fixed fields do not have their values")
    if graph_bytes > MAX_GRAPH_BYTES:
        raise FormatError(f"the graph has {graph_bytes} bytes; at most {MAX_GRAPH_BYTES} are read")
    if weights_offset != aligned(HEADER_BYTES + graph_bytes):
        raise FormatError(f"the weights start at {weights_offset}, not right after the graph")
    if file_bytes != weights_offset + weights_bytes:
        raise FormatError("the header's sizes do not add up")
    if actual_bytes != file_bytes:
        raise FormatError(f"the file has {actual_bytes} bytes, its header says {file_bytes}")
    return header
