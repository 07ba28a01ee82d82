"""Densities, moments and draws against SciPy; divergences against means of log-densities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats as st

import rabbet as rb
from rabbet import distributions as D

A = np.array([0.7, 2.0, 5.0])
B = np.array([1.5, 0.4, 3.0])
M = np.array([[2.0, 0.3], [0.3, 0.5]])


def t(x: Any) -> rb.Tensor:
    return rb.asarray(np.asarray(x, np.float64))


# name -> the distribution, SciPy's, points
REALS: dict[str, tuple[Any, Any, np.ndarray]] = {
    "normal": (D.Normal(t(A), t(B)), st.norm(A, B), A + 0.3),
    "log normal": (D.LogNormal(t(A), t(B)), st.lognorm(B, scale=np.exp(A)), A),
    "uniform": (D.Uniform(t(-A), t(B)), st.uniform(-A, A + B), np.array([0.0, -3.0, 2.0])),
    "exponential": (D.Exponential(t(A)), st.expon(scale=1 / A), np.array([0.3, 2.0, -1.0])),
    "laplace": (D.Laplace(t(A), t(B)), st.laplace(A, B), A - 0.2),
    "gamma": (D.Gamma(t(A), t(B)), st.gamma(A, scale=1 / B), B),
    "beta": (D.Beta(t(A), t(B)), st.beta(A, B), np.array([0.1, 0.5, 0.9])),
}
WHOLE: dict[str, tuple[Any, Any, np.ndarray]] = {
    "bernoulli": (D.Bernoulli(t([0.2, 0.5, 0.9])), st.bernoulli([0.2, 0.5, 0.9]), A > 1),
    "bernoulli's logits": (
        *(D.Bernoulli(logits=t(A)), st.bernoulli(1 / (1 + np.exp(-A)))),
        np.array([0, 1, 1]),
    ),
    "binomial": (D.Binomial(7, t([0.2, 0.5, 0.9])), st.binom(7, [0.2, 0.5, 0.9]), np.arange(3)),
    "poisson": (D.Poisson(t(A)), st.poisson(A), np.array([0, 3, 7])),
    "geometric": (D.Geometric(t([0.2, 0.5, 0.9])), st.geom([0.2, 0.5, 0.9], -1), np.arange(3)),
}
ALL = REALS | WHOLE


@pytest.mark.parametrize("name", ALL)
def test_densities_and_moments(name: str) -> None:
    ours, scipy, points = ALL[name]
    density = scipy.logpdf if name in REALS else scipy.logpmf
    found = ours.log_prob(t(points)).numpy()
    np.testing.assert_allclose(found, density(points), rtol=1e-10)
    np.testing.assert_allclose(ours.prob(t(points)).numpy(), np.exp(found), rtol=1e-12)
    np.testing.assert_allclose(ours.mean.numpy(), scipy.mean(), rtol=1e-12)
    np.testing.assert_allclose(ours.variance.numpy(), scipy.var(), rtol=1e-10)
    np.testing.assert_allclose(ours.stddev.numpy(), scipy.std(), rtol=1e-10)
    assert ours.batch_shape == (3,) and ours.event_shape == ()
    if name not in ("binomial", "poisson"):
        np.testing.assert_allclose(ours.entropy().numpy(), scipy.entropy(), rtol=1e-10)
        return
    with pytest.raises(rb.RabbetError, match="no closed form"):
        ours.entropy()


@pytest.mark.parametrize("name", ALL)
def test_draws_have_the_moments(name: str) -> None:
    rb.manual_seed(1)
    ours, _, _ = ALL[name]
    drawn = ours.sample(20000)
    assert drawn.shape == (20000, 3) and not drawn.requires_grad
    x, wanted = drawn.numpy(), ours.mean.numpy()
    if name == "log normal":
        x, wanted = np.log(x), A
    error = x.std(0) / np.sqrt(len(x))
    assert (np.abs(x.mean(0) - wanted) < 5 * error).all()


@pytest.mark.parametrize("name", REALS)
def test_gradients_reach_parameters_through_draws(name: str) -> None:
    kind = type(REALS[name][0])
    parameters = [rb.tensor(A, requires_grad=True), rb.tensor(B, requires_grad=True)]
    parameters = parameters[: 1 if kind is D.Exponential else 2]
    drawn = kind(*parameters).rsample((50,), generator=rb.Generator(3))
    drawn.sum().backward()
    for parameter in parameters:
        assert parameter.grad is not None
        assert np.isfinite(parameter.grad.numpy()).all() and parameter.grad.numpy().any()


def test_whole_numbers_have_no_gradient() -> None:
    with pytest.raises(rb.RabbetError, match=r"use sample\(\)"):
        D.Poisson(1.0).rsample()


def test_normal_quantiles() -> None:
    p = D.Normal(t(A), t(B))
    np.testing.assert_allclose(p.cdf(p.icdf(t([0.1, 0.5, 0.99]))).numpy(), [0.1, 0.5, 0.99])


def test_categorical() -> None:
    weights = np.array([[1.0, 3.0, 0.0], [2.0, 1.0, 1.0]])
    p, chance = D.Categorical(t(weights)), weights / 4
    np.testing.assert_allclose(p.probs.numpy(), chance)
    np.testing.assert_allclose(p.entropy().numpy(), [st.entropy(c) for c in chance])
    np.testing.assert_allclose(p.log_prob(rb.asarray([1, 0])).numpy(), np.log([0.75, 0.5]))
    assert p.log_prob(rb.asarray([[1, 0], [0, 2], [1, 1]])).shape == (3, 2)
    rb.manual_seed(0)
    drawn = p.sample((4000,)).numpy()
    assert drawn.shape == (4000, 2) and drawn.dtype == np.int64
    counts = np.array([[(drawn[:, b] == k).mean() for k in range(3)] for b in range(2)])
    np.testing.assert_allclose(counts, chance, atol=0.04)


def test_classes_have_no_mean() -> None:
    p = D.Categorical(t([1.0, 1.0]))
    for ask in (lambda: p.mean, lambda: p.variance, lambda: p.stddev):
        with pytest.raises(rb.RabbetError, match="Categorical: there is no closed form"):
            ask()


def test_policy_gradient_of_a_categorical() -> None:
    logits = rb.tensor([0.1, 0.5], requires_grad=True)
    D.Categorical(logits=logits).log_prob(rb.asarray(1)).backward()
    chance = 1 / (1 + np.exp(-0.4))
    np.testing.assert_allclose(logits.grad.numpy(), [chance - 1, 1 - chance], rtol=1e-5)


def test_dirichlet() -> None:
    p, scipy = D.Dirichlet(t(A)), st.dirichlet(A)
    x = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(p.log_prob(t(x)).numpy(), scipy.logpdf(x))
    np.testing.assert_allclose(p.entropy().numpy(), scipy.entropy())
    np.testing.assert_allclose(p.mean.numpy(), scipy.mean())
    np.testing.assert_allclose(p.variance.numpy(), scipy.var())
    drawn = p.sample((3000,))
    np.testing.assert_allclose(drawn.sum(axis=-1).numpy(), np.ones(3000))
    np.testing.assert_allclose(drawn.mean(axis=0).numpy(), scipy.mean(), atol=0.03)


def test_multivariate_normal() -> None:
    p, scipy = D.MultivariateNormal(t([1.0, -1.0]), t(M)), st.multivariate_normal([1.0, -1.0], M)
    x = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, -1.0]])
    np.testing.assert_allclose(p.log_prob(t(x)).numpy(), scipy.logpdf(x))
    np.testing.assert_allclose(p.entropy().numpy(), scipy.entropy())
    np.testing.assert_allclose(p.covariance_matrix.numpy(), M)
    np.testing.assert_allclose(p.variance.numpy(), np.diag(M))
    drawn = p.sample((8000,)).numpy()
    np.testing.assert_allclose(np.cov(drawn.T), M, atol=0.1)
    with pytest.raises(rb.ShapeError, match=r"needs a matrix"):
        D.MultivariateNormal(t(A), t(M))
    with pytest.raises(rb.ShapeError, match="give one of"):
        D.MultivariateNormal(t(A))


PAIRS: dict[str, tuple[Any, Any]] = {
    **{n: (REALS[n][0], type(REALS[n][0])(t(B), t(A))) for n in ("normal", "laplace", "gamma")},
    "log normal": (D.LogNormal(t(A), t(B)), D.LogNormal(t(B), t(A))),
    "beta": (D.Beta(t(A), t(B)), D.Beta(t(B), t(A + 1))),
    "exponential": (D.Exponential(t(A)), D.Exponential(t(B))),
    "uniform": (D.Uniform(t(A), t(A + 1)), D.Uniform(t(A - 1), t(A + 3))),
    "bernoulli": (D.Bernoulli(t([0.2, 0.5, 0.9])), D.Bernoulli(t([0.4, 0.3, 0.8]))),
    "poisson": (D.Poisson(t(A)), D.Poisson(t(B))),
    "categorical": (D.Categorical(t([1.0, 2.0, 0.0])), D.Categorical(t([2.0, 2.0, 1.0]))),
    "dirichlet": (D.Dirichlet(t(A)), D.Dirichlet(t(B))),
    "multivariate normal": (
        D.MultivariateNormal(t([1.0, 0.0]), t(M)),
        D.MultivariateNormal(t([0.0, 0.5]), t(2 * M + np.eye(2))),
    ),
    "independent": (
        D.Independent(D.Normal(t(A), t(B)), 1),
        D.Independent(D.Normal(t(B), t(A)), 1),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_divergence_is_the_mean_of_the_difference(name: str) -> None:
    p, q = PAIRS[name]
    rb.manual_seed(5)
    x = p.sample((20000,))
    difference = (p.log_prob(x) - q.log_prob(x)).numpy()
    found = D.kl_divergence(p, q).numpy()
    assert found.shape == p.batch_shape
    error = difference.std(0) / np.sqrt(len(difference))
    assert (np.abs(found - difference.mean(0)) <= 5 * error + 1e-9).all(), (
        found,
        difference.mean(0),
    )
    np.testing.assert_allclose(D.kl_divergence(p, p).numpy(), 0, atol=1e-9)


def test_divergence_of_two_families_is_refused() -> None:
    with pytest.raises(rb.RabbetError, match="Normal and Gamma"):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Gamma(1.0))


def test_independent_sums_over_its_event() -> None:
    base = D.Normal(rb.zeros(4, 3), 1.0)
    p = D.Independent(base, 1)
    assert p.batch_shape == (4,) and p.event_shape == (3,) and p.sample((2,)).shape == (2, 4, 3)
    np.testing.assert_allclose(
        p.log_prob(rb.ones(4, 3)).numpy(), base.log_prob(1.0).sum(axis=1).numpy()
    )
    with pytest.raises(rb.RabbetError, match="ndims=3"):
        D.Independent(base, 3)


def test_under_jit() -> None:
    @rb.jit
    def loss(mean: rb.Tensor, x: rb.Tensor) -> rb.Tensor:
        return -D.Normal(mean, 2.0).log_prob(x).sum()

    for _ in range(4):
        found = float(loss(rb.ones(3), rb.zeros(3)))
    assert found == pytest.approx(-st.norm(1, 2).logpdf(0) * 3, rel=1e-6)
