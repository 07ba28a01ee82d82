"""Draws: the right distribution, the same numbers for the same seed, in jit as outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

import rabbet as rb
from rabbet.graph.value import lookup

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
        (lambda g: rb.gamma(0.3, 2.0, COUNT, generator=g), stats.gamma(0.3, scale=0.5)),
        (lambda g: rb.gamma(1.0, size=COUNT, generator=g), stats.gamma(1.0)),
        (
            lambda g: rb.gamma(rb.asarray(40.0, dtype="float64"), size=COUNT, generator=g),
            stats.gamma(40.0),
        ),
        (lambda g: rb.beta(0.5, 2.0, COUNT, generator=g), stats.beta(0.5, 2.0)),
        (
            lambda g: rb.dirichlet(rb.asarray([1.0, 2.0]), COUNT, generator=g)[:, 0],
            stats.beta(1, 2),
        ),
        (lambda g: rb.normal(3.0, 2.0, COUNT, generator=g), stats.norm(3, 2)),
        (lambda g: rb.uniform(-1.0, 2.0, COUNT, generator=g), stats.uniform(-1, 3)),
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


@pytest.mark.parametrize("rate", [0.2, 4.0, 9.99, 10.0, 35.0, 2e4])
def test_counts(rate: float) -> None:
    found = rb.poisson(rb.asarray(rate, dtype="float64"), COUNT, generator=rb.Generator(8)).numpy()
    law = stats.poisson(rate)
    edges = np.unique(law.ppf(np.linspace(0.05, 0.95, 10)))
    drawn = np.bincount(np.searchsorted(edges, found), minlength=edges.size + 1)
    wanted = np.diff(np.concatenate([[0], law.cdf(edges), [1]])) * COUNT
    assert stats.chisquare(drawn, wanted * drawn.sum() / wanted.sum()).pvalue > 1e-3
    assert (found == np.floor(found)).all()


def test_counts_of_trials_and_edges() -> None:
    g = rb.Generator(2)
    found = rb.binomial(12, rb.full((COUNT,), 0.25), generator=g).numpy()
    wanted = stats.binom(12, 0.25).pmf(np.arange(8)) * COUNT
    drawn = np.bincount(found.astype(int), minlength=13)[:8]
    assert stats.chisquare(drawn, wanted * drawn.sum() / wanted.sum()).pvalue > 1e-3
    assert np.isnan(rb.poisson(-1.0).item()) and rb.poisson(0.0).item() == 0
    assert rb.gamma(rb.ones((0, 3))).shape == (0, 3)
    with pytest.raises(rb.ShapeError, match="do not fit in size"):
        rb.gamma(rb.ones(3), size=1)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: rb.gamma(x),
        lambda x: rb.poisson(10.0 * x),
        lambda x: rb.dirichlet(x),
        lambda x: rb.beta(x, 2.0),
    ],
    ids=["gamma", "poisson", "dirichlet", "beta"],
)
def test_draws_under_jit_have_the_same_bits(draw: Callable[[rb.Tensor], rb.Tensor]) -> None:
    x = rb.asarray(np.linspace(0.2, 3.0, 50, dtype=np.float32))
    fast = rb.jit(draw)
    rb.manual_seed(3)
    plain = [draw(x).numpy() for _ in range(3)]
    rb.manual_seed(3)
    replayed = [fast(x).numpy() for _ in range(3)]
    for a, b in zip(plain, replayed, strict=True):
        assert a.tobytes() == b.tobytes()
    assert not np.array_equal(plain[0], plain[1])


def test_vmap_draws_anew_for_every_example() -> None:
    found = rb.vmap(lambda a: rb.gamma(a))(rb.ones((4, 3))).numpy()
    assert np.unique(found).size == 12


def test_gradients_reach_scales() -> None:
    rate = rb.tensor([2.0, 4.0], requires_grad=True)
    y = rb.gamma(3.0, rate, generator=rb.Generator(1))
    y.sum().backward()
    np.testing.assert_allclose(rate.grad.numpy(), -(y / rate).detach().numpy(), 1e-6)


@pytest.mark.parametrize("a", [0.02, 0.4, 1.0, 3.5, 40.0, 2e3])
def test_gamma_numbers_move_along_their_quantiles(a: float) -> None:
    """The gradient by the concentration is the slope of SciPy's quantile function."""
    x = rb.asarray(np.full(40, a), dtype="float64").requires_grad_()
    z = rb.gamma(x, generator=rb.Generator(4))
    z.sum().backward()
    quantiles, step = stats.gamma(a).cdf(z.numpy()), 1e-4 * a
    points = [stats.gamma(a + k * step).ppf(quantiles) for k in (-2, -1, 1, 2)]
    wanted = (points[0] - 8 * points[1] + 8 * points[2] - points[3]) / (12 * step)
    known = (quantiles > 1e-300) & (quantiles < 1 - 1e-4)
    assert known.sum() > 10 and x.grad is not None
    np.testing.assert_allclose(x.grad.numpy()[known], wanted[known], 2e-6, 1e-300)


def test_gradients_of_expectations() -> None:
    """d E[f(z)] / d concentration by draws, against the known one; in float32, and under jit."""

    @rb.jit
    def slope(a: rb.Tensor) -> rb.Tensor:
        def mean_of(t: rb.Tensor) -> rb.Tensor:
            p = rb.dirichlet(rb.expand(t, (COUNT, 3)))
            return (p * p).sum(axis=-1).mean()

        return rb.grad(mean_of)(a)

    def exact(t: np.ndarray) -> float:
        total = t.sum()
        return float((t * (t + 1)).sum() / (total * (total + 1)))

    rb.manual_seed(0)
    a = np.array([0.7, 1.5, 3.0])
    wanted = [(exact(a + e) - exact(a - e)) / 2e-6 for e in np.eye(3) * 1e-6]
    for _ in range(2):
        np.testing.assert_allclose(slope(rb.asarray(a, dtype="float32")).numpy(), wanted, atol=6e-3)
    x = rb.asarray(0.6).requires_grad_()
    rb.beta(x, 2.0, COUNT).mean().backward()
    assert x.grad is not None and abs(x.grad.item() - 2.0 / 2.6**2) < 0.02


def test_gamma_gradients_under_transforms() -> None:
    a = rb.asarray([0.5, 2.0, 7.0], dtype="float64")

    def draw(t: rb.Tensor) -> rb.Tensor:
        return rb.gamma(t, generator=rb.Generator(1))

    many = rb.grad(lambda t: draw(t).sum())(a)
    _, along = rb.jvp(draw, (a,), (rb.ones(3, dtype="float64"),))
    np.testing.assert_allclose(along.numpy(), many.numpy(), 1e-12)
    rows = rb.vmap(lambda t: rb.grad(lambda s: draw(s).sum())(t))(rb.stack([a, a]))
    assert rows.shape == (2, 3) and np.isfinite(rows.numpy()).all() and (rows.numpy() > 0).all()
    second = rb.grad(lambda t: rb.grad(lambda s: draw(s).sum())(t).sum())(a).numpy()
    z = draw(a).numpy()
    q = stats.gamma(a.numpy()).cdf(z)
    points = [stats.gamma(a.numpy() + k * 1e-3).ppf(q) for k in (-1, 0, 1)]
    np.testing.assert_allclose(second, (points[0] - 2 * points[1] + points[2]) / 1e-6, 1e-4, 1e-5)
    assert rb.gamma(rb.asarray(1e-4).requires_grad_()).item() >= 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_drawn(dtype: str) -> None:
    rb.manual_seed(0)
    x = rb.rand(20000, dtype=dtype)
    assert x.dtype.name == dtype and float(x.max()) < 1 and float(x.min()) == 0
    assert abs(float(x.float().mean()) - 0.5) < 0.01
    assert abs(float(rb.randn(20000, dtype=dtype).float().std()) - 1) < 0.02
    with pytest.raises(rb.DTypeError, match="floating"):
        rb.rand(3, dtype="int32")


def test_the_slope_of_gamma_numbers_in_single_precision(rng: np.random.Generator) -> None:
    """Fewer nodes than in double precision, and no more than an ulp away from it."""
    a = np.exp(rng.uniform(-3, 8, 5000)).astype(np.float32)
    level = np.log(np.maximum(rng.gamma(a), 1e-30)).astype(np.float32)
    slope = lookup("gamma_slope")
    found = slope(rb.asarray(a), rb.asarray(level)).numpy()
    wanted = slope(*(rb.asarray(v.astype(np.float64)) for v in (a, level))).numpy()
    assert (np.abs(found - wanted) <= np.spacing(np.abs(wanted).astype(np.float32))).all()
