"""Philox against the published vectors, and the layout of the stream."""

from __future__ import annotations

import numpy as np
import pytest

from rabbet.base.dtypes import uint32, uint64
from rabbet.expr import scalars
from rabbet.expr.expr import Expr, const, load, var
from rabbet.expr.interpret import evaluate
from rabbet.expr.meaning import Array
from rabbet.expr.philox import philox, random_bits

FULL = 0xFFFFFFFF

# kat_vectors of Random123: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL,) * 4, (FULL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def no_leaf(e: Expr) -> Array:
    raise AssertionError(e)


def words(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    c0, c1, c2, c3 = (const(v, uint32) for v in counter)
    k0, k1 = (const(v, uint32) for v in key)
    return tuple(int(v) for v in evaluate(philox((c0, c1, c2, c3), (k0, k1)), no_leaf))


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: tuple, key: tuple, expected: tuple) -> None:
    assert words(counter, key) == expected


def stream(key: int, offset: int, index: Array) -> Array:
    root = scalars.expand_all(random_bits(load(0, uint64, var(0)), load(1, uint64, var(0)), var(0)))
    arguments = np.array([key, offset], np.uint64)

    def leaf(e: Expr) -> Array:
        return index if e.op == "var" else arguments[e.value[0]]

    return evaluate([root], leaf)[0]


def test_stream_is_words_of_consecutive_blocks() -> None:
    key, offset = 0x0123456789ABCDEF, 2**32 - 2  # the block number carries into the second word
    got = stream(key, offset, np.arange(16))
    halves = (key & FULL, key >> 32)
    blocks = [words(((offset + b) & FULL, (offset + b) >> 32, 0, 0), halves) for b in range(4)]
    assert got.tolist() == [w for block in blocks for w in block]


def test_offset_shifts_the_stream_by_blocks() -> None:
    index = np.arange(40)
    assert np.array_equal(stream(9, 3, index), stream(9, 0, index + 12))
