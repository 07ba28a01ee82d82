"""Long reductions are cut into blocks by logical shape alone (ops/order.py)."""

from __future__ import annotations

import numpy as np
import pytest

import rabbet as rb
from rabbet.ops.order import ACROSS_BLOCK, ALONG_BLOCK, Blocks, blocks_of

CASES = [
    *(((200_001,), (0,)), ((1000, 300), (0, 1)), ((3, 70_000), (1,)), ((513, 7), (0,))),
    *(((600, 5, 4), (0, 2)), ((90, 8, 40, 20), (0, 2, 3)), ((64, 3, 66_000), (0, 2))),
    *(((5000, 1), (0,)), ((1100, 600), (0,)), ((8, 700, 200), (1, 2)), ((4, 700, 9), (1,))),
]
each_case = pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)


@each_case
def test_sums_are_right_and_know_no_layout(
    shape: tuple[int, ...], axes: tuple[int, ...], rng: np.random.Generator
) -> None:
    """Small error against float64; the same bits fused with a producer, from any layout."""
    x = rng.standard_normal(shape).astype(np.float32)
    found = rb.sum(rb.asarray(x), axis=axes).numpy()
    wanted = x.astype(np.float64).sum(axes)
    assert np.abs(found - wanted).max() < 2e-6 * np.sqrt(x.size / wanted.size)
    turned = tuple(reversed(range(x.ndim)))
    back = rb.jit(lambda t: rb.sum(rb.permute_dims(t, turned) * 1.0, axis=axes, keepdims=True))
    there = rb.asarray(np.ascontiguousarray(x.transpose(turned)))
    for _ in range(2):
        np.testing.assert_array_equal(back(there).numpy().reshape(found.shape), found)
    np.testing.assert_array_equal(rb.max(rb.asarray(x), axis=axes).numpy(), x.max(axes))


def test_a_changing_size_gives_the_bits_of_a_fixed_one(rng: np.random.Generator) -> None:
    """One program with a symbol gives what programs for each size give."""
    symbolic = rb.jit(lambda t: (rb.sum(t * 2.0, axis=0), rb.sum(t * 2.0)))
    for n in (70_000, 80_001, 90_007, 100_100):
        x = rb.asarray(rng.standard_normal((n, 2)).astype(np.float32))
        for found, wanted in zip(
            symbolic(x), (rb.sum(x * 2.0, axis=0), rb.sum(x * 2.0)), strict=True
        ):
            np.testing.assert_array_equal(found.numpy(), wanted.numpy())


def test_where_blocks_begin() -> None:
    """The rule itself: short ones whole, long ones by the block, runs before what stands before."""
    assert blocks_of((2 * ALONG_BLOCK,), (0,)) is None
    assert blocks_of((2 * ALONG_BLOCK + 1,), (0,)) == Blocks((0,), 1, ALONG_BLOCK)
    assert blocks_of((2 * ACROSS_BLOCK, 7), (0,)) is None
    assert blocks_of((2 * ACROSS_BLOCK + 1, 7), (0,)) == Blocks((0,), 1, ACROSS_BLOCK)
    assert blocks_of((64, 3, 3000), (0, 2)) == Blocks((0, 2), 1, ALONG_BLOCK // 3000)
    assert blocks_of((64, 3, 70_000), (0, 2)) == Blocks((2,), 1, ALONG_BLOCK)
