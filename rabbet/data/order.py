"""Orders that depend on a seed alone, on every machine and with every version of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def random_bits(count: int, seed: int, stream: int) -> NDArray[np.uint64]:
    """`count` random 64-bit numbers set by (seed, stream)."""
    key = np.array([seed & _MASK, stream & _MASK], dtype=np.uint64)
    return np.random.Philox(key=key).random_raw(count)


def shuffled(count: int, seed: int, stream: int = 0) -> NDArray[np.int64]:
    """The numbers 0 .. count-1 in an order set by (seed, stream).

    NumPy promises the same raw bits for ever, but not the same `permutation`; hence the sort of raw
    bits, stable so that equal ones keep their order.

    Example:
        >>> sorted(shuffled(4, seed=7).tolist())
        [0, 1, 2, 3]
    """
    return np.argsort(random_bits(count, seed, stream), kind="stable").astype(np.int64)
