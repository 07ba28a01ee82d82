"""Transforms: there and back, volume changes against Jacobians, densities behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats as st

import rabbet as rb
from rabbet import distributions as D


def t(x: Any) -> rb.Tensor:
    return rb.asarray(np.asarray(x, np.float64))


SINGLE: list[Any] = [
    D.ExpTransform(),
    D.SigmoidTransform(),
    D.TanhTransform(),
    D.SoftplusTransform(),
    D.AffineTransform(1.0, -2.0),
    D.PowerTransform(2.0),
    D.ComposeTransform([D.AffineTransform(0.5, 2.0), D.TanhTransform(), D.ExpTransform()]),
]


@pytest.mark.parametrize("transform", SINGLE, ids=repr)
def test_there_and_back_and_the_slope(rng: np.random.Generator, transform: Any) -> None:
    x = t(rng.uniform(0.2, 2.0, 7))
    y = transform(x)
    np.testing.assert_allclose(transform.inv(y).numpy(), x.numpy(), rtol=1e-9)
    slope = rb.log(rb.abs(rb.diagonal(rb.jacrev(transform)(x))))
    np.testing.assert_allclose(transform.log_abs_det_jacobian(x, y).numpy(), slope.numpy(), 1e-9)
    back = transform.inv.log_abs_det_jacobian(y, x)
    np.testing.assert_allclose(back.numpy(), -slope.numpy(), 1e-9)
    assert transform.inv.inv is transform
    assert bool(transform.codomain.check(y).all())


def test_stick_breaking_is_a_map_to_the_simplex(rng: np.random.Generator) -> None:
    transform, x = D.StickBreakingTransform(), t(rng.normal(size=4))
    y = transform(x)
    assert bool(transform.codomain.check(y)) and y.shape == (5,)
    np.testing.assert_allclose(transform.inv(y).numpy(), x.numpy(), rtol=1e-9)
    slope = rb.linalg.slogdet(rb.jacrev(lambda x: transform(x)[:-1])(x)).logabsdet
    assert transform.log_abs_det_jacobian(x, y).item() == pytest.approx(slope.item())


def test_densities_behind_transforms() -> None:
    a, b, x = np.array([0.1, 2.0]), np.array([1.5, 0.4]), np.array([0.4, 2.0])
    log_normal = D.TransformedDistribution(D.Normal(t(a), t(b)), D.ExpTransform())
    np.testing.assert_allclose(
        log_normal.log_prob(t(x)).numpy(), st.lognorm(b, scale=np.exp(a)).logpdf(x)
    )
    np.testing.assert_allclose(log_normal.cdf(t(x)).numpy(), st.lognorm(b, scale=np.exp(a)).cdf(x))
    turned = D.TransformedDistribution(D.Normal(t(0.0), t(1.0)), [D.AffineTransform(t(a), t(-b))])
    assert turned.batch_shape == turned.sample().shape == (2,)  # the base became as large
    np.testing.assert_allclose(turned.cdf(t(x)).numpy(), st.norm(a, b).cdf(x))
    np.testing.assert_allclose(turned.cdf(turned.icdf(t([0.1, 0.7]))).numpy(), [0.1, 0.7])
    assert D.kl_divergence(log_normal, log_normal).shape == (2,)


def test_axes_of_events(rng: np.random.Generator) -> None:
    simplex = D.LogisticNormal(rb.zeros(5, 2), rb.ones(5, 2))
    assert simplex.batch_shape == (5,) and simplex.event_shape == (3,)
    assert simplex.log_prob(simplex.sample((4,))).shape == (4, 5)
    assert simplex.expand((6, 5)).rsample().shape == (6, 5, 3)
    base = D.Independent(D.Normal(rb.zeros(2, 4), 1.0), 1)
    square = D.TransformedDistribution(
        base, [D.ReshapeTransform((4,), (2, 2)), D.IndependentTransform(D.ExpTransform(), 2)]
    )
    assert square.batch_shape == (2,) and square.event_shape == (2, 2)
    assert square.log_prob(square.sample((3,))).shape == (3, 2)
    lower = D.LowerCholeskyTransform()
    y = lower(t(rng.normal(size=(3, 3))))
    assert bool(lower.codomain.check(y)) and lower(lower.inv(y)).shape == (3, 3)
    with pytest.raises(rb.ShapeError, match="needs 1"):
        D.TransformedDistribution(D.Normal(0.0, 1.0), D.StickBreakingTransform())


def test_policies_behind_tanh_keep_finite_densities() -> None:
    squash = D.TanhTransform(cache_size=1)
    policy = D.TransformedDistribution(D.Normal(rb.zeros(3), 20.0), squash)
    action = policy.rsample(generator=rb.Generator(0))
    assert bool((rb.abs(action) == 1).any())  # where the inverse would be infinite
    assert bool(rb.isfinite(policy.log_prob(action)).all())


def test_a_transform_of_ones_own() -> None:
    class Cubed(D.Transform):
        domain = codomain = D.constraints.real

        def __init__(self) -> None:
            pass

        def _call(self, x: rb.Tensor) -> rb.Tensor:
            return x**3

        def _inverse(self, y: rb.Tensor) -> rb.Tensor:
            return rb.sign(y) * rb.abs(y) ** (1 / 3)

        def log_abs_det_jacobian(self, x: Any, y: Any) -> rb.Tensor:
            return rb.log(3 * x * x)

    p = D.TransformedDistribution(D.Normal(t(0.0), t(1.0)), Cubed())
    assert p.log_prob(t(8.0)).item() == pytest.approx(st.norm.logpdf(2) - np.log(12))
    with pytest.raises(rb.RabbetError, match="not bijective"):
        D.TransformedDistribution(D.Normal(0.0, 1.0), D.AbsTransform()).log_prob(1.0)


def test_constraints_name_themselves_and_check() -> None:
    c = D.constraints
    assert repr(c.interval(0, 2)) == "interval(0, 2)" and repr(c.real) == "real"
    assert c.interval(0, 2).check([-1, 1, 3]).tolist() == [False, True, False]
    assert c.integer_interval(0, 2).check(rb.asarray([0.5, 1.0])).tolist() == [False, True]
    assert c.less_than(1).check([0, 1]).tolist() == [True, False]
    assert c.greater_than(0).check([0, 1]).tolist() == [False, True]
    assert c.one_hot.check(rb.asarray([[0, 1], [1, 1]])).tolist() == [True, False]
    assert bool(c.lower_cholesky.check(rb.eye(2))) and not bool(c.lower_cholesky.check(-rb.eye(2)))


def test_signs_of_compositions_and_inverses() -> None:
    whole = D.ComposeTransform([D.AffineTransform(1.0, -2.0), D.ExpTransform()])
    for parts in (whole, [whole], [D.AffineTransform(0.5, -0.5).inv, D.ExpTransform()]):
        d = D.TransformedDistribution(D.Normal(t(0.0), t(1.0)), parts)
        assert d.cdf(d.icdf(t(0.3))).item() == pytest.approx(0.3)
        assert d.cdf(t(2.0)).item() == pytest.approx(1 - st.norm.cdf((1 - np.log(2.0)) / 2))


def test_transforms_of_one_kind_and_the_same_numbers_are_equal() -> None:
    shift = t(1.0)
    same = [D.AffineTransform(shift, 2.0, 1), D.AffineTransform(shift, 2.0, 1, cache_size=1)]
    assert same[0] == same[1] and len(set(same)) == 1 and same[0].inv == same[1].inv
    assert same[0] != D.AffineTransform(t(1.0), 2.0, 1) and D.ExpTransform() != D.TanhTransform()
    p, q = D.LogisticNormal(rb.zeros(2), 1.0), D.LogisticNormal(rb.ones(2), 1.0)
    assert D.kl_divergence(p, q).item() == pytest.approx(1.0)


def test_a_remembered_image_has_the_gradient_and_the_value_it_should() -> None:
    scale, transform = rb.tensor(2.0, requires_grad=True), D.AffineTransform
    x = D.TransformedDistribution(D.Normal(0.0, 1.0), transform(0.0, scale, cache_size=1))
    drawn = x.sample()
    x.log_prob(drawn).backward()
    wanted = (drawn.item() / 2.0) ** 2 / 2.0 - 0.5
    assert scale.grad is not None and scale.grad.item() == pytest.approx(wanted, abs=1e-5)
    remembering, place = D.TanhTransform(cache_size=1), rb.tensor(1.0)
    remembering(place)
    place.add_(1.0)
    assert remembering(place).item() == pytest.approx(np.tanh(2.0))


def test_edges_of_transforms() -> None:
    assert D.StickBreakingTransform()(rb.zeros(2, 0)).tolist() == [[1.0], [1.0]]
    assert D.AffineTransform(0, 0.5).log_abs_det_jacobian(3, None).item() == np.float32(np.log(0.5))
    d = D.TransformedDistribution(D.Exponential(1.0), D.PowerTransform(2.0))
    assert d.log_prob([1.0, 4.0]).shape == (2,)
    with pytest.raises(rb.ShapeError, match="1 or more axes"):
        D.StickBreakingTransform()(rb.tensor(1.0))
    with pytest.raises(rb.RabbetError, match="a Transform is needed"):
        D.TransformedDistribution(D.Normal(0.0, 1.0), rb.exp)  # type: ignore[arg-type]  # no transform
    with pytest.raises(rb.NumberRangeError, match="0 or more"):
        D.IndependentTransform(D.ExpTransform(), -1)
