"""Heavy tails, extremes and classes against SciPy, or against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats as st

import rabbet as rb
from rabbet import distributions as D

A, B, C = np.array([0.7, 2.5, 5.0]), np.array([1.5, 0.4, 3.0]), np.array([4.5, 5.5, 6.0])
P, V = np.array([0.2, 0.5, 0.9]), np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])


def t(x: Any) -> rb.Tensor:
    return rb.asarray(np.asarray(x, np.float64))


# name -> the distribution, SciPy's, points
CASES: dict[str, tuple[Any, Any, np.ndarray]] = {
    "student": (D.StudentT(t(C), t(A), t(B)), st.t(C, A, B), A + 0.3),
    "cauchy": (D.Cauchy(t(A), t(B)), st.cauchy(A, B), B),
    "half normal": (D.HalfNormal(t(A)), st.halfnorm(scale=A), B),
    "half cauchy": (D.HalfCauchy(t(A)), st.halfcauchy(scale=A), B),
    "gumbel": (D.Gumbel(t(A), t(B)), st.gumbel_r(A, B), C),
    "chi-squared": (D.Chi2(t(C)), st.chi2(C), A),
    "inverse gamma": (D.InverseGamma(t(C), t(B)), st.invgamma(C, scale=B), A),
    "pareto": (D.Pareto(t(A), t(C)), st.pareto(C, scale=A), A + np.array([0.5, -0.1, 2.0])),
    "weibull": (D.Weibull(t(A), t(C)), st.weibull_min(C, scale=A), B),
    "fisher": (D.FisherSnedecor(t(A), t(C)), st.f(A, C), B),
    "negative binomial": (
        *(D.NegativeBinomial(t(C), t(P)), st.nbinom(C, 1 - P)),
        np.array([0.0, 3.0, 7.0]),
    ),
}
NO_CDF = ("student", "fisher", "negative binomial")


@pytest.mark.parametrize("name", CASES)
def test_densities_moments_and_draws(name: str) -> None:
    ours, scipy, points = CASES[name]
    density = scipy.logpmf if name == "negative binomial" else scipy.logpdf
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(ours.log_prob(t(points)).numpy(), density(points), rtol=1e-9)
    if name not in NO_CDF:
        np.testing.assert_allclose(ours.cdf(t(points)).numpy(), scipy.cdf(points), rtol=1e-9)
        assert bool(rb.isfinite(ours.entropy()).all())
        np.testing.assert_allclose(ours.entropy().numpy(), scipy.entropy(), rtol=1e-7)
    if "cauchy" not in name:
        np.testing.assert_allclose(ours.mean.numpy(), scipy.mean(), rtol=1e-9)
        np.testing.assert_allclose(ours.variance.numpy(), scipy.var(), rtol=1e-9)
    drawn = ours.sample((4000,), generator=rb.Generator(1))
    assert drawn.shape == (4000, 3) and bool(ours.support.check(drawn).all())
    below = (drawn.numpy() <= scipy.median()).mean(0)
    assert (np.abs(below - scipy.cdf(scipy.median())) < 0.04).all()
    wide = ours.expand((2, 3))
    assert wide.batch_shape == (2, 3) and wide.log_prob(t(points)).shape == (2, 3)
    assert ours.has_rsample == (name != "negative binomial")


def test_kumaraswamy_against_integrals() -> None:
    p, x = D.Kumaraswamy(t(A), t(C)), np.linspace(0, 1, 20002)[1:-1, None]
    density = np.exp(p.log_prob(t(x)).numpy())
    np.testing.assert_allclose(density.mean(0), 1, atol=0.02)
    np.testing.assert_allclose((density * x).mean(0), p.mean.numpy(), atol=1e-3)
    np.testing.assert_allclose(
        (density * (x - p.mean.numpy()) ** 2).mean(0), p.variance.numpy(), atol=1e-3
    )
    drawn = p.sample((4000,), generator=rb.Generator(2))
    np.testing.assert_allclose(p.cdf(drawn).mean(axis=0).numpy(), 0.5, atol=0.03)


def test_vectors_of_classes() -> None:
    p = D.OneHotCategorical(t(V))
    assert p.event_shape == (3,) and p.enumerate_support().shape == (3, 2, 3)
    np.testing.assert_allclose(p.log_prob(p.enumerate_support()).exp().numpy(), V.T)
    np.testing.assert_allclose(p.sample((4000,)).mean(axis=0).numpy(), V, atol=0.04)
    assert p.mode.tolist() == [[0, 0, 1], [0, 0, 1]]
    m, x = D.Multinomial(6, t(V)), np.array([[1.0, 2, 3], [0, 0, 6]])
    np.testing.assert_allclose(m.log_prob(t(x)).numpy(), st.multinomial(6, V).logpmf(x))
    drawn = m.sample((2000,))
    assert bool((drawn.sum(axis=-1) == 6).all())
    np.testing.assert_allclose(drawn.mean(axis=0).numpy(), m.mean.numpy(), atol=0.15)


def test_gradients_through_draws_of_classes() -> None:
    logits = rb.zeros(2, 3, requires_grad=True)
    sharp = D.OneHotCategoricalStraightThrough(logits=logits).rsample()
    assert set(sharp.detach().round().flatten().tolist()) <= {0.0, 1.0}
    (sharp * t(V).float()).sum().backward()
    assert logits.grad is not None and bool(logits.grad.any())
    relaxed = D.RelaxedOneHotCategorical(rb.tensor(0.5), logits=logits)
    x = relaxed.rsample((5,))
    np.testing.assert_allclose(x.sum(axis=-1).detach().numpy(), 1, rtol=1e-5)
    assert x.requires_grad and relaxed.log_prob(x).shape == (5, 2)


def test_relaxed_densities_integrate_to_one() -> None:
    x = t(np.linspace(0, 1, 4002)[1:-1])
    one = D.RelaxedBernoulli(t(1.5), probs=t(0.3))
    two = D.RelaxedOneHotCategorical(t(1.5), probs=t([0.3, 0.7]))
    assert one.log_prob(x).exp().mean().item() == pytest.approx(1, abs=0.01)
    both = two.log_prob(rb.stack([x, 1 - x], axis=-1)).exp()
    assert both.mean().item() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(both.numpy(), one.log_prob(x).exp().numpy(), rtol=1e-9)


def test_mixtures() -> None:
    parts = D.Normal(t([[0.0, 4.0], [1.0, 2.0]]), t(1.0))
    p = D.MixtureSameFamily(D.Categorical(t([0.25, 0.75])), parts)
    x = np.array([0.5, 1.5])
    wanted = 0.25 * st.norm([0, 1]).pdf(x) + 0.75 * st.norm([4, 2]).pdf(x)
    np.testing.assert_allclose(p.log_prob(t(x)).numpy(), np.log(wanted))
    np.testing.assert_allclose(p.mean.numpy(), [3, 1.75])
    np.testing.assert_allclose(p.variance.numpy(), [1 + 3, 1 + 0.1875])
    drawn = p.sample((4000,), generator=rb.Generator(0)).numpy()
    np.testing.assert_allclose([drawn.mean(0), drawn.var(0)], [[3, 1.75], [4, 1.1875]], atol=0.2)
    vectors = D.MixtureSameFamily(
        D.Categorical(rb.ones(3)), D.Independent(D.Normal(rb.zeros(3, 2), 1.0), 1)
    )
    assert vectors.sample((5,)).shape == (5, 2) and vectors.log_prob(rb.zeros(5, 2)).shape == (5,)
    with pytest.raises(rb.ShapeError, match="2 components"):
        D.MixtureSameFamily(D.Categorical(rb.ones(2)), D.Normal(rb.zeros(3), 1.0))


MORE_PAIRS: dict[str, tuple[Any, Any]] = {
    "half normal": (D.HalfNormal(t(A)), D.HalfNormal(t(B))),
    "gumbel": (D.Gumbel(t(A), t(B)), D.Gumbel(t(B), t(C))),
    "cauchy": (D.Cauchy(t(A), t(B)), D.Cauchy(t(B), t(C))),
    "pareto": (D.Pareto(t(A + 3), t(B)), D.Pareto(t(A), t(C))),
    "geometric": (D.Geometric(t(P)), D.Geometric(t(P[::-1].copy()))),
    "binomial": (D.Binomial(5, t(P)), D.Binomial(5, t(P[::-1].copy()))),
    "uniform, normal": (D.Uniform(t(A), t(A + 1)), D.Normal(t(B), t(C))),
    "one-hot": (D.OneHotCategorical(t(V[0])), D.OneHotCategorical(t(V[1]))),
}


@pytest.mark.parametrize("name", MORE_PAIRS)
def test_divergence_is_the_mean_of_the_difference(name: str) -> None:
    p, q = MORE_PAIRS[name]
    x = p.sample((20000,), generator=rb.Generator(4))
    difference = (p.log_prob(x) - q.log_prob(x)).numpy()
    error = difference.std(0) / np.sqrt(len(difference))
    found = D.kl_divergence(p, q).numpy()
    assert (np.abs(found - difference.mean(0)) <= 5 * error + 1e-9).all()


def test_densities_at_the_ends() -> None:
    assert D.Weibull(2.0, 1.0).log_prob(0.0).item() == pytest.approx(-np.log(2.0))
    assert D.Kumaraswamy(1.0, 1.0).log_prob(rb.asarray([0.0, 1.0])).tolist() == [0.0, 0.0]
    assert D.FisherSnedecor(t(2.0), t(3.0)).log_prob(0.0).item() == pytest.approx(0.0)
    assert D.kl_divergence(D.Geometric(1.0), D.Geometric(1.0)).item() == 0.0
    assert D.constraints.nonnegative_integer.check(rb.asarray([2.0, rb.inf])).tolist() == [
        True,
        False,
    ]


def test_quantiles_and_tails_far_out() -> None:
    p = np.array([0.0, 1e-12, 0.2, 0.5, 0.8, 1.0])
    np.testing.assert_allclose(D.Cauchy(t(1.0), t(2.0)).icdf(t(p)).numpy(), st.cauchy(1, 2).ppf(p))
    assert D.HalfCauchy(1.0).icdf(1.0).item() == np.inf
    found = D.InverseGamma(t(3.0), t(1.0)).cdf(t(0.01)).item()
    assert found == pytest.approx(st.invgamma(3.0).cdf(0.01), rel=1e-9)


def test_draws_of_halves_are_finite() -> None:
    gumbel = D.Gumbel(rb.zeros((), dtype="float16"), 1.0)
    assert bool(gumbel.sample((20000,), generator=rb.Generator(0)).isfinite().all())


@pytest.mark.parametrize("count", [2.0, -1])
def test_counts_are_whole_numbers(count: Any) -> None:
    for family in (D.Binomial, D.Multinomial):
        with pytest.raises(rb.RabbetError, match="an int, 0 or more"):
            family(count, rb.asarray([0.5, 0.5]))


def test_the_support_of_a_mixture_is_that_of_any_component() -> None:
    parts = D.Uniform(rb.asarray([0.0, 4.0]), rb.asarray([1.0, 5.0]))
    inside = D.MixtureSameFamily(D.Categorical(rb.ones(2)), parts).support.check
    assert inside(rb.asarray([0.5, 2.0, 4.5])).tolist() == [True, False, True]
    vectors = D.Independent(D.Normal(rb.zeros(3, 2), 1.0), 1)
    assert D.MixtureSameFamily(D.Categorical(rb.ones(3)), vectors).support.check(rb.ones(2)).item()
