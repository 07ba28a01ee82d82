"""Rotary embedding: scores depend on distances alone, decoding sees what training saw."""

from __future__ import annotations

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn


@pytest.mark.parametrize("interleaved", [False, True])
def test_scores_depend_on_the_distance_alone(interleaved: bool) -> None:
    turn = nn.RotaryEmbedding(8, 64, interleaved=interleaved, dtype="float64")
    rng = np.random.default_rng(0)
    query, key = (rb.asarray(np.tile(rng.normal(size=8), (40, 1))) for _ in range(2))
    scores = np.asarray(turn(query) @ turn(key).mT)
    for distance in (-7, 0, 3):
        line = np.diagonal(scores, distance)
        np.testing.assert_allclose(line, line[0], rtol=1e-12)
    assert abs(scores[0, 0] - scores[0, 9]) > 1e-3


def test_neighbouring_pairs_are_complex_numbers() -> None:
    x = np.random.default_rng(1).normal(size=(2, 5, 6))
    found = nn.RotaryEmbedding(6, interleaved=True, dtype="float64")(rb.asarray(x))
    angle = np.arange(5)[:, None] / 10000.0 ** (np.arange(0, 6, 2) / 6)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
    np.testing.assert_allclose(np.asarray(found)[..., 0::2], turned.real, atol=1e-12)
    np.testing.assert_allclose(np.asarray(found)[..., 1::2], turned.imag, atol=1e-12)


def test_one_token_at_its_position() -> None:
    turn = nn.RotaryEmbedding(4)
    x = rb.randn(2, 9, 4)
    alone = turn(x[:, 6:7], rb.asarray([6]))
    np.testing.assert_array_equal(np.asarray(alone), np.asarray(turn(x)[:, 6:7]))
    assert not turn.state_dict()


def test_what_does_not_fit() -> None:
    with pytest.raises(rb.NumberRangeError, match="dim is 3"):
        nn.RotaryEmbedding(3)
    with pytest.raises(rb.ShapeError, match="more than 4 positions"):
        nn.RotaryEmbedding(2, 4)(rb.zeros(5, 2))
    with pytest.raises(rb.ShapeError, match="must be"):
        nn.RotaryEmbedding(2)(rb.zeros(5, 4))
    with pytest.raises(rb.ShapeError, match="an angle of its own"):
        rb.rotary_embedding(rb.zeros(5, 4), rb.zeros(5, 3), rb.zeros(5, 3))
