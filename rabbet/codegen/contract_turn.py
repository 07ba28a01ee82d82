"""Transposing a square block of vectors in registers.

Takes W vectors of W lanes, gives the W vectors of the transposed block. The shuffles are those that
machines have: interleave neighbours inside 128 bits, then exchange blocks of 128 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.codegen.ir import Function, Value

Lanes = tuple[tuple[int, int], ...]  # of a vector: (row, column) each lane came from


def transpose(fn: Function, rows: Sequence[Value], bits: int) -> list[Value]:
    """Row i of the result holds lane i of every given row (lanes of `bits`)."""
    count = len(rows)
    values = list(rows)
    for pairs, low, high in _stages(count, 128 // bits):
        moved = list(values)
        for i, j in pairs:
            moved[i] = fn.shuffle(values[i], values[j], low)
            moved[j] = fn.shuffle(values[i], values[j], high)
        values = moved
    order = _order(count, 128 // bits)
    return [values[i] for i in order]


Stage = tuple[tuple[tuple[int, int], ...], tuple[int, ...], tuple[int, ...]]


def _stages(count: int, block: int) -> list[Stage]:
    """(pairs of vectors, lanes of the first result, lanes of the second) for each stage."""
    stages: list[Stage] = []
    distance = 1
    while distance < count:
        pairs = tuple((i, i + distance) for i in range(count) if not i & distance)
        if distance < block:
            low, high = _interleave(count, block, distance)
        else:
            low, high = _exchange(count, block)
        stages.append((pairs, low, high))
        distance *= 2
    return stages


def _interleave(count: int, block: int, unit: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Groups of `unit` lanes of two vectors alternate, from the low and high half of each block."""
    low: list[int] = []
    high: list[int] = []
    for begin in range(0, count, block):
        for part, base in ((low, begin), (high, begin + block // 2)):
            for group in range(base, base + block // 2, unit):
                for source in (0, count):
                    part.extend(source + group + u for u in range(unit))
    return tuple(low), tuple(high)


def _exchange(count: int, block: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Even blocks of both vectors, odd blocks of both."""
    blocks = count // block
    low: list[int] = []
    high: list[int] = []
    for part, odd in ((low, 0), (high, 1)):
        for source in (0, count):
            for number in range(odd, blocks, 2):
                begin = source + number * block
                part.extend(range(begin, begin + block))
    return tuple(low), tuple(high)


def _order(count: int, block: int) -> list[int]:
    """Which vector ends up as which row: follow every lane through the stages."""
    tracked: list[Lanes] = [tuple((i, lane) for lane in range(count)) for i in range(count)]
    for pairs, low, high in _stages(count, block):
        moved = list(tracked)
        for i, j in pairs:
            both = tracked[i] + tracked[j]
            moved[i] = tuple(both[p] for p in low)
            moved[j] = tuple(both[p] for p in high)
        tracked = moved
    wanted = [tuple((row, lane) for row in range(count)) for lane in range(count)]
    return [tracked.index(w) for w in wanted]
