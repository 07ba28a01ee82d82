"""Philox4x32-10: random bits as a pure function of a key and a counter.

J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
Any split of the work gives the same numbers: element i depends on nothing but key, offset and i.
"""

from __future__ import annotations

from typing import TypeAlias

from rabbet.base.dtypes import int64, uint32, uint64
from rabbet.base.errors import InternalError
from rabbet.expr.expr import Expr, call, cast, const, select

Words: TypeAlias = tuple[Expr, Expr, Expr, Expr]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def philox(counter: Words, key: tuple[Expr, Expr]) -> Words:
    """The four words of one block; all uint32."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    first, second = (const(m, uint32) for m in MULTIPLIERS)
    for _ in range(ROUNDS):
        high0, low0 = call("mulhi", c0, first), c0 * first
        high1, low1 = call("mulhi", c2, second), c2 * second
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + WEYL[0], k1 + WEYL[1]
    return c0, c1, c2, c3


def random_words(key: Expr, offset: Expr, index: Expr) -> Words:
    """The four words of block `offset + (index >> 2)`; key and offset uint64, index int64."""
    if (key.dtype, offset.dtype, index.dtype) != (uint64, uint64, int64):
        raise InternalError("scalar random_words: key, offset, index are not uint64, uint64, int64")
    block = offset + cast(index >> 2, uint64)
    zero = const(0, uint32)
    return philox((*halves(block), zero, zero), halves(key))


def random_bits(key: Expr, offset: Expr, index: Expr) -> Expr:
    """Element `index` of the stream of `key` that begins at block `offset`, as uint32.

    Word `index & 3` of block `offset + (index >> 2)`; the upper half of the counter is 0.
    """
    return choose(random_words(key, offset, index), index & 3)


def choose(words: Words, number: Expr) -> Expr:
    """words[number] for an int64 number 0 to 3."""
    upper = number >= 2
    even = select(upper, words[2], words[0])
    odd = select(upper, words[3], words[1])
    return select((number & 1).equals(0), even, odd)


def halves(x: Expr) -> tuple[Expr, Expr]:
    """The lower and the upper 32 bits of a uint64."""
    return cast(x & 0xFFFFFFFF, uint32), cast(x >> 32, uint32)
