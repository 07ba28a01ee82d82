"""rb.linalg beyond the standard, against NumPy and SciPy; gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import linalg

import rabbet as rb

L = rb.linalg
R = np.random.default_rng(0)
S = R.normal(size=(2, 4, 4)) + 4 * np.eye(4)
TALL, WIDE, B = R.normal(size=(5, 3)), R.normal(size=(3, 5)), R.normal(size=(5, 2))
C = S[0] + 1j * R.normal(size=(4, 4))


def slope_of(function: Callable[[Any], Any], at: np.ndarray) -> None:
    """The gradient along a random direction."""
    x = rb.tensor(at, requires_grad=True)
    weights = rb.asarray(np.random.default_rng(1).normal(size=function(x).shape))
    (function(x) * weights).sum().backward()
    assert x.grad is not None
    along = np.random.default_rng(2).normal(size=at.shape)
    ends = [float((function(rb.asarray(at + h * along)) * weights).sum()) for h in (1e-5, -1e-5)]
    exact = float((x.grad.numpy() * along).sum())
    assert abs(exact - (ends[0] - ends[1]) / 2e-5) < 1e-6 * (1 + abs(exact))


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_triangles(rng: np.random.Generator, upper: bool, left: bool, unit: bool) -> None:
    b = rng.normal(size=(4, 4))
    found = L.solve_triangular(S, b, upper=upper, left=left, unitriangular=unit).numpy()
    for matrix, x in zip(S, found, strict=True):
        a, right = (matrix, b) if left else (matrix.T, b.T)
        wanted = linalg.solve_triangular(a, right, lower=upper != left, unit_diagonal=unit)
        np.testing.assert_allclose(x if left else x.T, wanted, 1e-10, 1e-12)
    slope_of(lambda x: L.solve_triangular(x, b, upper=upper, left=left, unitriangular=unit), S)


def test_least_squares() -> None:
    for a, b in ((TALL, B), (WIDE, B[:3]), (S, S[0])):
        found = L.lstsq(a, b)
        wanted = np.linalg.pinv(a) @ b
        np.testing.assert_allclose(found.solution.numpy(), wanted, 1e-9, 1e-11)
        miss = ((a @ wanted - b) ** 2).sum(-2)
        np.testing.assert_allclose(found.residuals.numpy(), miss, 1e-9, 1e-11)
        slope_of(lambda x, b=b: L.lstsq(x, b).solution, a)
        values = np.linalg.svd(a, compute_uv=False)
        np.testing.assert_allclose(found.singular_values.numpy(), values, 1e-9)
        assert found.rank.tolist() == np.linalg.matrix_rank(a).tolist()
    one = L.lstsq(S[0], S[0, :, 0], 0.9)  # SciPy's way of calling it
    assert one.solution.shape == (len(S[0]),) and one.residuals.shape == ()
    np.testing.assert_allclose(one.solution.numpy(), [1, *[0] * (len(S[0]) - 1)], 1e-9, 1e-9)
    assert one.rank.item() == np.linalg.matrix_rank(S[0], tol=0.9 * np.linalg.norm(S[0], 2))
    with pytest.raises(rb.LinAlgError):
        L.lstsq(np.ones((3, 2)) * 0, np.ones((3, 1))).solution.numpy()


@pytest.mark.parametrize("p", [None, 2, -2, "fro", "nuc", 1, -1, np.inf, -np.inf])
def test_condition(p: Any) -> None:
    np.testing.assert_allclose(L.cond(S, p).numpy(), np.linalg.cond(S, p), 1e-9)
    slope_of(lambda x: L.cond(x, p), S)
    with pytest.raises(rb.RabbetError, match="must be None"):
        L.cond(S, 3)


@pytest.mark.parametrize("size", [1e-9, 0.1, 1.0, 30.0])
def test_exponential(size: float) -> None:
    for x in (S * size, C * size, -S * size):
        wanted = linalg.expm(x)
        scale = np.abs(wanted).max()
        # SciPy itself is off by 1e-12 at the largest.
        np.testing.assert_allclose(L.matrix_exp(x).numpy() / scale, wanted / scale, 0, 5e-12)
    single = L.matrix_exp(rb.asarray(S, dtype="float32") * 0.1).numpy()
    np.testing.assert_allclose(single, linalg.expm(S * 0.1), 1e-6)


def test_exponential_of_what_is_not_finite() -> None:
    x = np.stack([np.full((2, 2), np.inf), np.eye(2)])
    found = L.matrix_exp(x).numpy()
    assert np.isnan(found[0]).all() and np.allclose(found[1], np.e * np.eye(2))


def test_products_of_many(rng: np.random.Generator) -> None:
    a, b, c = rng.normal(size=(2, 9)), rng.normal(size=(9, 3)), rng.normal(size=(3, 4))
    np.testing.assert_allclose(L.multi_dot([a, b, c]).numpy(), a @ b @ c, 1e-12)
    np.testing.assert_allclose(L.multi_dot([a[0], b, c[:, 0]]).numpy(), a[0] @ b @ c[:, 0], 1e-12)
    with pytest.raises(rb.ShapeError, match="at least 2"):
        L.multi_dot([a])


def test_of_tensors(rng: np.random.Generator) -> None:
    a = rng.normal(size=(2, 3, 6))
    np.testing.assert_allclose(
        L.tensorsolve(a, B[:2, :1] * np.ones(3)).numpy(),
        np.linalg.tensorsolve(a, B[:2, :1] * np.ones(3)),
        1e-9,
    )
    np.testing.assert_allclose(L.tensorinv(a, 2).numpy(), np.linalg.tensorinv(a, 2), 1e-9)
    np.testing.assert_array_equal(L.vander(B[0], 4).numpy(), np.vander(B[0], 4, increasing=True))
    assert L.vander(B, 0).shape == (5, 2, 0)
    wanted = np.linalg.slogdet(S)[1]
    np.testing.assert_allclose(L.logdet(S).numpy(), wanted, 1e-12)
    assert np.isnan(L.logdet(-np.eye(3)).numpy()) and L.logdet(np.zeros((2, 2))).item() == -np.inf
