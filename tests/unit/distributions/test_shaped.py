"""Families with a bent density, normal vectors of low rank, transforms of parts and to sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats as st

import rabbet as rb
from rabbet import distributions as D

C = D.constraints
K = np.array([-0.7, -0.2, 0.0, 1e-7, 0.3, 0.45])
LOC, SCALE = np.linspace(-1, 1, 6), np.linspace(0.5, 3, 6)


def t(x: Any) -> Any:
    return rb.asarray(np.asarray(x, np.float64))


def test_generalized_pareto() -> None:
    ours, scipy = D.GeneralizedPareto(t(LOC), t(SCALE), t(K)), st.genpareto(K, LOC, SCALE)
    for u in (0.01, 0.5, 0.98):
        points = scipy.ppf(u)
        np.testing.assert_allclose(ours.icdf(t(u)).numpy(), points, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.log_prob(t(points)).numpy(), scipy.logpdf(points), 1e-9)
        np.testing.assert_allclose(ours.cdf(t(points)).numpy(), scipy.cdf(points), rtol=1e-9)
    np.testing.assert_allclose(ours.entropy().numpy(), scipy.entropy(), rtol=1e-9)
    # SciPy's moments for tiny shapes are not exact
    np.testing.assert_allclose(ours.mean.numpy(), scipy.mean(), rtol=1e-6)
    np.testing.assert_allclose(ours.variance.numpy(), scipy.var(), rtol=1e-6)
    heavy = D.GeneralizedPareto(0.0, 1.0, t([0.5, 1.0, 2.0]))
    assert heavy.variance.tolist() == [np.inf] * 3
    assert heavy.mean.tolist() == [2, np.inf, np.inf]
    outside = ours.log_prob(t(LOC - 0.1)).numpy()
    assert (outside == -np.inf).all()
    assert ours.cdf(t(LOC - 0.1)).tolist() == [0] * 6
    assert ours.cdf(t(LOC + 100))[0].item() == 1
    drawn = ours.sample((4000,), generator=rb.Generator(2))
    assert bool(ours.support.check(drawn).all())
    assert (np.abs((drawn.numpy() <= scipy.median()).mean(0) - 0.5) < 0.04).all()


@pytest.mark.parametrize("k", [-0.3, 0.0, 1e-9, 0.3])
def test_generalized_pareto_has_gradients_everywhere(k: float) -> None:
    x = t(0.8)

    def density(v: Any) -> Any:
        return D.GeneralizedPareto(0.0, 1.0, v).log_prob(x)

    step = 1e-5
    wanted = (density(t(k + step)) - density(t(k - step))).item() / (2 * step)
    assert rb.grad(density)(t(k)).item() == pytest.approx(wanted, rel=1e-6)
    far = rb.grad(lambda v: D.GeneralizedPareto(0.0, 1.0, v).icdf(t(0.7)))(t(k)).item()
    level = -np.log(0.3)
    slope = (
        level**2 / 2
        if abs(k) < 1e-6
        else (level * np.exp(k * level) * k - np.expm1(k * level)) / k**2
    )
    assert far == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(("k", "z"), [(9e-6, 1e4), (9e-4, 200.0), (-9e-4, 200.0), (1e-7, 3.0)])
def test_generalized_pareto_far_out_with_little_bend(k: float, z: float) -> None:
    """Where it is straight depends on how far out, too."""
    wanted = -(k + 1) * np.log1p(k * z) / k
    slope = -np.log1p(k * z) / k - (k + 1) * (z / (k * (1 + k * z)) - np.log1p(k * z) / k**2)
    for dtype, digits, few in (("float64", 1e-12, 1e-4), ("float32", 1e-6, 1e-4)):
        bend = rb.tensor(k, dtype=dtype, requires_grad=True)
        found = D.GeneralizedPareto(0.0, 1.0, bend).log_prob(rb.tensor(z, dtype=dtype))
        found.backward()
        assert found.item() == pytest.approx(wanted, rel=digits)
        assert bend.grad.item() == pytest.approx(slope, rel=few)
    ours = D.GeneralizedPareto(0.0, 1.0, t(k))
    assert ours.icdf(ours.cdf(t(3.0))).item() == pytest.approx(3.0, rel=1e-12)


def test_generalized_pareto_ends() -> None:
    ends = D.GeneralizedPareto(0.0, 1.0, t([-0.5, 0.0, 0.5])).icdf(t(1.0))
    assert ends.tolist() == [2.0, np.inf, np.inf]
    k = rb.tensor([0.0, 1.0], requires_grad=True)
    D.GeneralizedPareto(0.0, 1.0, k).log_prob(rb.tensor([1e13, 1e13])).sum().backward()
    assert np.isfinite(k.grad.numpy()).all()


LOGITS = np.array([-40.0, -3.0, -0.05, -1e-4, 0.0, 1e-9, 5e-4, 0.5, 2.0, 60.0])


def test_continuous_bernoulli_against_integrals() -> None:
    ours = D.ContinuousBernoulli(logits=t(LOGITS))

    def moment(e: float, f: Any) -> float:
        top = max(e, 0.0)
        weight = lambda x: np.exp(e * x - top)  # noqa: E731
        points = np.unique(np.clip([0, 1, 10 / (abs(e) + 1), 1 - 10 / (abs(e) + 1)], 0, 1))
        whole = [
            scipy.integrate.quad(
                g, 0, 1, points=points[1:-1] if len(points) > 2 else None, epsabs=0
            )[0]
            for g in (lambda x: weight(x) * f(x), weight)
        ]
        return whole[0] / whole[1]

    mean = np.array([moment(e, lambda x: x) for e in LOGITS])
    np.testing.assert_allclose(ours.mean.numpy(), mean, rtol=1e-9)
    spread = [moment(e, lambda x, m=m: (x - m) ** 2) for e, m in zip(LOGITS, mean, strict=True)]
    np.testing.assert_allclose(ours.variance.numpy(), spread, rtol=1e-8)
    density = rb.exp(ours.log_prob(t(np.linspace(0, 1, 20001)[:, None]))).numpy()
    np.testing.assert_allclose(scipy.integrate.simpson(density, dx=1 / 20000, axis=0), 1, rtol=1e-7)
    entropy = -(density * ours.log_prob(t(np.linspace(0, 1, 20001)[:, None])).numpy())
    found = scipy.integrate.simpson(entropy, dx=1 / 20000, axis=0)
    np.testing.assert_allclose(ours.entropy().numpy(), found, rtol=1e-6, atol=1e-9)
    for u in (0.0, 1e-6, 0.3, 0.9, 1.0):
        back = ours.cdf(ours.icdf(t(u))).numpy()
        np.testing.assert_allclose(back, u, rtol=1e-9, atol=1e-300)
    assert ours.log_prob(t(1.5)).tolist() == [-np.inf] * len(LOGITS)
    assert ours.cdf(t(2.0)).tolist() == [1] * len(LOGITS)
    assert D.ContinuousBernoulli(t([0.2, 0.5, 0.7])).mode.tolist() == [0, 0.5, 1]


def test_continuous_bernoulli_in_single_precision_and_its_draws() -> None:
    wide, single = (
        D.ContinuousBernoulli(logits=t(LOGITS)),
        D.ContinuousBernoulli(logits=rb.asarray(LOGITS.astype(np.float32))),
    )
    for name in ("mean", "variance"):
        one, two = getattr(single, name).numpy(), getattr(wide, name).numpy()
        np.testing.assert_allclose(one, two, rtol=2e-5)
    drawn = wide.sample((4000,), generator=rb.Generator(5)).numpy()
    assert (np.abs(drawn.mean(0) - wide.mean.numpy()) < 4 * wide.stddev.numpy() / 60).all()
    for e in (-2.0, 0.0, 1e-4, 3.0):
        slope = rb.grad(lambda v: D.ContinuousBernoulli(logits=v).icdf(t(0.3)))(t(e)).item()
        ends = [D.ContinuousBernoulli(logits=t(e + s)).icdf(t(0.3)).item() for s in (1e-4, -1e-4)]
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-5)
    for p in (0.0, 1.0):  # the ends, which have no density
        assert bool(rb.isfinite(D.ContinuousBernoulli(p).log_prob(0.5)))


def test_low_rank_normal_is_the_normal(rng: np.random.Generator) -> None:
    loc, w = rng.standard_normal((2, 5)), rng.standard_normal((5, 2))
    diagonal = rng.uniform(0.5, 2, 5)
    ours = D.LowRankMultivariateNormal(t(loc), t(w), t(diagonal))
    assert ours.batch_shape == (2,)
    full = D.MultivariateNormal(t(loc), t(w @ w.T + np.diag(diagonal)))
    x = t(rng.standard_normal((3, 2, 5)))
    np.testing.assert_allclose(ours.log_prob(x).numpy(), full.log_prob(x).numpy(), rtol=1e-9)
    for name in ("covariance_matrix", "variance", "mean", "mode", "scale_tril"):
        one, two = getattr(ours, name).numpy(), getattr(full, name).numpy()
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.entropy().numpy(), full.entropy().numpy(), rtol=1e-9)
    other = D.MultivariateNormal(t(np.zeros(5)), t(np.eye(5)))
    for p, q in ((ours, other), (other, ours), (ours, ours)):
        as_full = [full if d is ours else d for d in (p, q)]
        found = D.kl_divergence(p, q).numpy()
        np.testing.assert_allclose(found, D.kl_divergence(*as_full).numpy(), rtol=1e-8, atol=1e-12)
    drawn = ours.sample((20000,), generator=rb.Generator(3)).numpy()[:, 0]
    np.testing.assert_allclose(np.cov(drawn.T), w @ w.T + np.diag(diagonal), atol=0.25)
    factor = rb.tensor(w, requires_grad=True)
    D.LowRankMultivariateNormal(t(loc), factor, t(diagonal)).rsample().sum().backward()
    assert bool(rb.isfinite(factor.grad).all())
    assert ours.expand((3, 2)).log_prob(x).shape == (3, 2)
    with pytest.raises(rb.ShapeError, match=r"needs cov_factor \(..., 5, r\)"):
        D.LowRankMultivariateNormal(t(loc), t(w.T), t(diagonal))


def test_transforms_of_parts(rng: np.random.Generator) -> None:
    parts = [D.ExpTransform(), D.AffineTransform(1.0, -2.0), D.TanhTransform()]
    for transform, size in (
        (D.CatTransform(parts, -1, [2, 1, 3]), 6),
        (D.StackTransform(parts, 1), 3),
    ):
        x = t(rng.uniform(-1, 1, (2, size)))
        y = transform(x)
        np.testing.assert_allclose(transform.inv(y).numpy(), x.numpy(), rtol=1e-9)
        slope = rb.vmap(lambda v, f=transform: rb.diagonal(rb.jacrev(lambda r: f(r[None])[0])(v)))(
            x
        )
        found = transform.log_abs_det_jacobian(x, y).numpy()
        np.testing.assert_allclose(found, np.log(np.abs(slope.numpy())), rtol=1e-9)
        assert transform.domain.check(x).shape == x.shape
        assert not bool(transform.codomain.check(-3.0 + x * 0).all())
    x = t(rng.uniform(-1, 1, 6))
    y = D.CatTransform(parts, 0, (2, 1, 3))(x).numpy()
    assert np.array_equal(y[:2], np.exp(x.numpy()[:2])) or np.allclose(y[:2], np.exp(x.numpy()[:2]))


def test_parts_of_one_event(rng: np.random.Generator) -> None:
    """Sticks and a softplus for each element: volumes add up to one number for each event."""
    sticks = D.StickBreakingTransform()
    whole = D.StackTransform([sticks, sticks], 0)
    x = t(rng.standard_normal((2, 3)))
    y = whole(x)
    assert y.shape == (2, 4)
    each = [sticks.log_abs_det_jacobian(x[i], y[i]).item() for i in range(2)]
    assert whole.log_abs_det_jacobian(x, y).tolist() == pytest.approx(each)
    assert whole.codomain.check(y).tolist() == [True, True]
    inside = D.CatTransform([D.IndependentTransform(D.ExpTransform(), 1)] * 2, -1, [1, 2])
    v = t(rng.standard_normal((4, 3)))
    found = inside.log_abs_det_jacobian(v, inside(v))
    np.testing.assert_allclose(found.numpy(), v.numpy().sum(-1), rtol=1e-12)


def test_errors_of_parts() -> None:
    exp = D.ExpTransform()
    with pytest.raises(rb.ShapeError, match="2 lengths for 1 transforms"):
        D.CatTransform([exp], 0, [1, 2])
    with pytest.raises(rb.ShapeError, match="add up to 2"):
        D.CatTransform([exp, exp])(rb.ones(3))
    with pytest.raises(rb.ShapeError, match="3 slices for 2 transforms"):
        D.StackTransform([exp, exp])(rb.ones(3))
    with pytest.raises(rb.RabbetError, match="a Transform is needed"):
        D.StackTransform([rb.exp])  # type: ignore[list-item]
    with pytest.raises(rb.RabbetError, match="at least one transform"):
        D.CatTransform([])


SETS: list[Any] = [
    *(C.real, C.positive, C.nonnegative, C.unit_interval, C.interval(-1.0, 4.0)),
    *(C.greater_than(2.0), C.greater_than_eq(-2.0), C.less_than(1.0), C.real_vector),
    *(C.positive_vector, C.simplex, C.lower_cholesky, C.positive_definite),
    *(C.independent(C.interval(0.0, 2.0), 2), C.independent(C.simplex, 1)),
]


@pytest.mark.parametrize("registry", [D.biject_to, D.transform_to], ids=repr)
@pytest.mark.parametrize("constraint", SETS, ids=lambda c: f"{c}{c.event_dim}")
def test_all_sets_are_reached(rng: np.random.Generator, registry: Any, constraint: Any) -> None:
    transform = registry(constraint)
    x = t(rng.standard_normal((5, 3, 3)))
    y = transform(x)
    assert bool(constraint.check(y).all())
    assert transform.codomain.event_dim >= constraint.event_dim
    np.testing.assert_allclose(transform(transform.inv(y)).numpy(), y.numpy(), rtol=1e-7, atol=1e-9)
    if transform.bijective:
        size = transform.log_abs_det_jacobian(x, y)
        assert size.shape == x.shape[: 3 - constraint.event_dim]


def test_sets_of_ones_own() -> None:
    registry = D.ConstraintRegistry("mine")
    with pytest.raises(rb.RabbetError, match=r"mine: no transform to positive is known; mine.regi"):
        registry(C.positive)

    @registry.register(C.positive)
    def by_softplus(constraint: Any) -> Any:
        return D.SoftplusTransform()

    assert isinstance(registry(C.positive), D.SoftplusTransform)
    assert isinstance(registry(C.positive_vector), D.IndependentTransform)
    with pytest.raises(TypeError, match="a constraint is needed, not 3"):
        registry.register(3, by_softplus)
    with pytest.raises(rb.RabbetError, match="biject_to: no transform to boolean"):
        D.biject_to(C.boolean)
