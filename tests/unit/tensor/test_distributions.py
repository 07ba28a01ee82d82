"""Draws: the right distribution, the same numbers for the same seed, in jit as outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

import rabbet as rb

COUNT = 20_000


@pytest.mark.parametrize(
    ("sample", "law"),
    [
        (lambda g: rb.exponential(COUNT, 2.0, generator=g), stats.expon(scale=0.5)),
        (lambda g: rb.truncated_normal(COUNT, generator=g), stats.truncnorm(-2, 2)),
        (
            lambda g: rb.truncated_normal(COUNT, 0.5, 3.0, dtype=rb.float64, generator=g),
            stats.truncnorm(0.5, 3),
        ),
    ],
)
def test_laws(sample: Callable[[rb.Generator], rb.Tensor], law: stats.rv_continuous) -> None:
    found = sample(rb.Generator(5)).numpy()
    assert stats.kstest(found, law.cdf).pvalue > 1e-3
    np.testing.assert_array_equal(found, sample(rb.Generator(5)).numpy())


def frequencies(numbers: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(numbers.reshape(-1), minlength=classes) / numbers.size


def test_classes() -> None:
    p = np.array([0.1, 0.0, 0.6, 0.3], np.float32)
    g = rb.Generator(1)
    logits = rb.log(rb.asarray(p)) + rb.zeros((COUNT, 1))
    drawn = rb.categorical(logits, generator=g).numpy()
    np.testing.assert_allclose(frequencies(drawn, 4), p, atol=0.015)
    drawn = rb.multinomial(rb.asarray(p), COUNT, replacement=True, generator=g).numpy()
    np.testing.assert_allclose(frequencies(drawn, 4), p, atol=0.015)
    pairs = rb.multinomial(rb.asarray(p) + rb.zeros((COUNT, 1)), 2, generator=g).numpy()
    assert (pairs[:, 0] != pairs[:, 1]).all() and not (pairs == 1).any()
    np.testing.assert_allclose(frequencies(pairs[:, 0], 4), p, atol=0.015)
    coins = rb.bernoulli(rb.full((COUNT,), 0.3), generator=g).numpy()
    assert abs(coins.mean() - 0.3) < 0.015
    with pytest.raises(rb.ShapeError, match="distinct"):
        rb.multinomial(rb.asarray(p), 5)


def test_orders() -> None:
    g = rb.Generator(3)
    rows = np.stack([rb.randperm(4, generator=g).numpy() for _ in range(600)])
    assert (np.sort(rows, 1) == np.arange(4)).all()
    counts = np.unique(rows @ [64, 16, 4, 1], return_counts=True)[1]
    assert counts.size == 24 and stats.chisquare(counts).pvalue > 1e-3
    x = rb.arange(12).reshape(3, 4)
    y = rb.permutation(x, axis=1, generator=g)
    assert sorted(y[0].tolist()) == [0, 1, 2, 3] and (y - y[:1] == x - x[:1])[:, 0].all()
    assert rb.randperm(0).shape == (0,)


def test_replays_draw_on() -> None:
    @rb.jit
    def shuffled(x: rb.Tensor) -> rb.Tensor:
        return rb.permutation(x)

    x = rb.arange(50)
    rb.manual_seed(7)
    replayed = [shuffled(x).tolist() for _ in range(4)]
    rb.manual_seed(7)
    plain = [rb.permutation(x).tolist() for _ in range(4)]
    assert replayed == plain and plain[0] != plain[1]
