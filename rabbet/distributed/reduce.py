"""Reductions whose bits depend on the ranks' values and order only, and are equal on all ranks.

Each rank owns a part of the array: it gets that part from everyone, reduces in the order of ranks,
and hands the result to everyone. What travels is twice the array, as in the best known schemes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.distributed.transport import Transport

PIECE_BYTES = 1 << 25  # of what is exchanged at a time: bounds memory, and MPI's counts

COMBINE: dict[str, Callable[..., np.ndarray]] = {
    "sum": np.add,
    "mean": np.add,
    "max": np.maximum,
    "min": np.minimum,
}


def reduce_array(transport: Transport, array: np.ndarray, op: str) -> np.ndarray:
    """`array` reduced over all ranks: a new array of its shape and dtype.

    float16 and bfloat16 are summed in float32 and rounded once.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    step = max(1, PIECE_BYTES // flat.itemsize)
    made = [
        _reduce_piece(transport, flat[start : start + step], op)
        for start in range(0, flat.size, step)
    ]
    whole = np.concatenate(made) if made else flat.copy()
    return whole.reshape(array.shape)


def _reduce_piece(transport: Transport, flat: np.ndarray, op: str) -> np.ndarray:
    lengths = split_evenly(flat.size, transport.size)
    ends = np.cumsum(lengths)
    parts = [flat[end - n : end] for n, end in zip(lengths, ends, strict=True)]
    received = transport.exchange(parts)
    return transport.gather_parts(combine(received, op), lengths)


def combine(parts: list[np.ndarray], op: str) -> np.ndarray:
    """Arrays of one dtype combined in order: ((p0 + p1) + p2) + ..., a mean divided at the end."""
    dtype = parts[0].dtype
    wide = np.dtype(np.float32) if dtype.kind in "fV" and dtype.itemsize == 2 else dtype
    total = parts[0].astype(wide)
    with np.errstate(all="ignore"):  # infinities and NaN are values here
        for part in parts[1:]:
            COMBINE[op](total, part.astype(wide, copy=False), out=total)
        if op == "mean":
            total /= wide.type(len(parts))
        return total.astype(dtype, copy=False)


def split_evenly(count: int, parts: int) -> list[int]:
    """Sizes of `parts` pieces of `count` items; the first ones are larger by one where needed.

    >>> split_evenly(8, 3)
    [3, 3, 2]
    """
    each, rest = divmod(count, parts)
    return [each + (i < rest) for i in range(parts)]


def check_same(transport: Transport, what: str, value: Hashable) -> None:
    """RabbetError, on all ranks alike, unless all ranks have the same value.

    Without it a difference would end in waiting for ever, or in somebody else's bytes.
    """
    found = transport.gather_values(value)
    for rank, other in enumerate(found):
        if other != found[0]:
            raise RabbetError(f"{what}: rank 0 has {found[0]}, rank {rank} has {other}")
