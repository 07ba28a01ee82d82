"""Loops whose size is a symbol that a guard says to be 1."""

from __future__ import annotations

import numpy as np

import rabbet as rb


def test_a_product_of_sizes_none_and_one() -> None:
    """The second size makes the axis a symbol, and its only index is a constant then."""
    for n in (0, 0, 1, 1, 2, 1):
        x = rb.asarray(np.full((n, n), 2, np.complex64))
        turned = rb.conj(x).mT
        found = turned @ rb.conj(turned).mT
        np.testing.assert_array_equal(found.numpy(), np.full((n, n), 4 * n, np.complex64))
