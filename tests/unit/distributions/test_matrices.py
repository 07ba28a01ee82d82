"""Distributions of matrices and angles against SciPy, and their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats as st

import rabbet as rb
from rabbet import distributions as D

M = np.array([[2.0, 0.3], [0.3, 1.0]])


def t(x: object) -> rb.Tensor:
    return rb.asarray(np.asarray(x, np.float64))


def test_von_mises() -> None:
    loc, k = np.array([0.0, 1.0, -3.0]), np.array([0.3, 4.0, 900.0])
    p, scipy = D.VonMises(t(loc), t(k)), st.vonmises(k, loc=loc)
    x = np.array([0.4, 2.0, -3.02])
    np.testing.assert_allclose(p.log_prob(t(x)).numpy(), scipy.logpdf(x), rtol=1e-9)
    np.testing.assert_allclose(p.entropy().numpy(), scipy.entropy(), rtol=1e-7)
    drawn = p.sample((6000,), generator=rb.Generator(3)).numpy()
    assert drawn.shape == (6000, 3) and (np.abs(drawn) <= np.pi).all()
    around = np.exp(1j * (drawn - loc)).mean(0)
    np.testing.assert_allclose(around.imag, 0, atol=0.03)
    np.testing.assert_allclose(1 - around.real, p.variance.numpy(), atol=0.03)


def test_narrow_von_mises() -> None:
    narrow = D.VonMises(0.0, 1e8)
    np.testing.assert_allclose(narrow.log_prob(1e-4).item(), 7.791402, rtol=1e-6)
    np.testing.assert_allclose(narrow.entropy().item(), -7.791402, rtol=1e-6)
    np.testing.assert_allclose(narrow.variance.item(), 5e-9, rtol=1e-6)
    k = rb.asarray([1.0, 40.0, 1e8])
    slope = rb.grad(lambda k: D.VonMises(0.0, k).entropy().sum())(k).numpy()
    np.testing.assert_allclose(slope, [-0.35434604, -0.01266244, -5e-9], rtol=1e-5)
    for k in (31.9, 32.1, 700.0):
        wanted = 1 - scipy.special.i1e(k) / scipy.special.i0e(k)
        np.testing.assert_allclose(D.VonMises(0.0, t(k)).variance.item(), wanted, rtol=1e-12)
    drawn = D.VonMises(0.0, t(1e16)).sample((4000,), generator=rb.Generator(4)).numpy()
    np.testing.assert_allclose((drawn**2).mean() * 1e16, 1, atol=0.1)


def test_wishart() -> None:
    p, scipy = D.Wishart(t(4.5), t(M)), st.wishart(4.5, M)
    x = np.array([[3.0, 0.5], [0.5, 2.0]])
    np.testing.assert_allclose(p.log_prob(t(x)).numpy(), scipy.logpdf(x), rtol=1e-10)
    np.testing.assert_allclose(p.entropy().numpy(), scipy.entropy(), rtol=1e-10)
    np.testing.assert_allclose(p.mean.numpy(), scipy.mean())
    np.testing.assert_allclose(p.variance.numpy(), scipy.var())
    np.testing.assert_allclose(p.mode.numpy(), scipy.mode())
    drawn = p.rsample((6000,), generator=rb.Generator(1))
    np.testing.assert_allclose(drawn.mean(axis=0).numpy(), scipy.mean(), atol=0.3)
    assert p.log_prob(drawn[:7]).shape == (7,) and bool(p.support.check(drawn[:50]).all())
    many = D.Wishart(t([3.0, 5.0]), scale_tril=t(np.linalg.cholesky(M)))
    assert many.batch_shape == (2,) and many.sample((3,)).shape == (3, 2, 2, 2)
    assert D.Wishart(3, [[1, 0], [0, 1]]).sample().shape == (2, 2)
    with pytest.raises(rb.ParameterError, match=r"df=1.0 is outside of greater_than\(1\)"):
        D.Wishart(1.0, rb.eye(2))
    with pytest.raises(rb.ParameterError, match="greater_than"):
        D.Wishart(rb.tensor(1.0), rb.eye(2), validate_args=True)


def test_correlations() -> None:
    with pytest.raises(rb.ShapeError, match="dim=3.0 must be an int"):
        D.LKJCholesky(3.0)  # type: ignore[arg-type]
    for n, k in ((2, 0.7), (3, 1.0), (4, 2.5)):
        p = D.LKJCholesky(n, t(k))
        drawn = p.sample((3000,), generator=rb.Generator(2))
        assert drawn.shape == (3000, n, n) and bool(p.support.check(drawn).all())
        matrix = (drawn @ drawn.mT).numpy()
        # each correlation is a beta number on (-1, 1) with both parameters k + n / 2 - 1
        side = k + n / 2 - 1
        wanted = st.beta(side, side, loc=-1, scale=2)
        for row, column in ((1, 0), (n - 1, 0), (n - 1, n - 2)):
            found = matrix[:, row, column]
            assert abs(found.mean()) < 0.05 and abs(found.var() - wanted.var()) < 0.03
    # of 2 x 2: the density of the one correlation r, whose factor's other number is sqrt(1 - r^2)
    p, r = D.LKJCholesky(2, t(1.7)), np.array([-0.6, 0.2])
    factors = np.zeros((2, 2, 2))
    factors[:, 0, 0], factors[:, 1, 0], factors[:, 1, 1] = 1, r, np.sqrt(1 - r * r)
    found = p.log_prob(t(factors)).numpy()
    np.testing.assert_allclose(found, st.beta(1.7, 1.7, loc=-1, scale=2).logpdf(r), rtol=1e-9)
    assert D.LKJCholesky(3, t([1.0, 2.0])).mode.shape == (2, 3, 3)
