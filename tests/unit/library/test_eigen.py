"""Eigenvalues of any matrix, and LU factors: what defines them, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb

R = np.random.default_rng(5)
A = R.normal(size=(2, 4, 4))
B = R.normal(size=(2, 4, 3))
linalg = rb.linalg


def slope(function: Any, x: np.ndarray) -> tuple[float, float]:
    """The derivative along a direction, by the gradient and by finite differences."""
    way = np.random.default_rng(1).normal(size=x.shape)
    gradient = rb.grad(function)(rb.asarray(x)).numpy()
    ends = [function(rb.asarray(x + h * way)).item() for h in (1e-6, -1e-6)]
    return float((gradient * way).sum()), (ends[0] - ends[1]) / 2e-6


def test_eigenvalues_and_vectors() -> None:
    for x in (A, A + 1j * A[::-1], A.astype(np.float32)):
        values, vectors = linalg.eig(rb.asarray(x))
        assert values.dtype is vectors.dtype and values.dtype.kind == "c"
        error = x @ vectors.numpy() - vectors.numpy() * values.numpy()[:, None]
        assert np.abs(error).max() < (1e-5 if x.dtype == np.float32 else 1e-12)
        np.testing.assert_allclose((rb.abs(vectors) ** 2).sum(axis=-2).numpy(), 1, rtol=1e-5)
    with pytest.raises(rb.ShapeError, match="eig"):
        linalg.eigvals(rb.ones(2, 3))


def test_gradients_of_eigenvalues_and_vectors() -> None:
    def of_values(x: rb.Tensor) -> rb.Tensor:
        return (rb.abs(linalg.eigvals(x)) ** 3).sum()

    def of_vectors(x: rb.Tensor) -> rb.Tensor:  # independent of phases
        values, vectors = linalg.eig(x)
        return (rb.abs(vectors) ** 4 * rb.abs(values)[..., None, :]).sum()

    for function in (of_values, of_vectors):
        exact, near = slope(function, A)
        assert exact == pytest.approx(near, rel=1e-6)


@pytest.mark.parametrize("shape", [(4, 4), (2, 5, 3), (3, 5), (2, 3, 3), (70, 70), (40, 90)])
def test_lu(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x = rng.normal(size=shape)
    p, lower, upper = linalg.lu(rb.asarray(x))
    np.testing.assert_allclose((p @ lower @ upper).numpy(), x, atol=1e-12)
    assert (lower.tril() == lower).all() and (upper.triu() == upper).all()
    assert (rb.abs(lower) <= 1).all() and (p.sum(axis=-1) == 1).all()
    packed, pivots = linalg.lu_factor(rb.asarray(x))
    k = min(shape[-2:])
    np.testing.assert_array_equal(packed.triu()[..., :k, :].numpy(), upper.numpy())
    assert pivots.dtype is rb.int32 and (pivots > rb.arange(k)).all()


def test_solving_by_factors(rng: np.random.Generator) -> None:
    factors = linalg.lu_factor(rb.asarray(A))
    found = linalg.lu_solve(*factors, rb.asarray(B))
    np.testing.assert_allclose(found.numpy(), np.linalg.solve(A, B), rtol=1e-9)
    large, right = rng.normal(size=(2, 150, 150)), rng.normal(size=(150, 2))
    found = linalg.lu_solve(*linalg.lu_factor(rb.asarray(large)), rb.asarray(right))
    np.testing.assert_allclose(found.numpy(), np.linalg.solve(large, right), rtol=1e-7)
    with pytest.raises(rb.IndexRangeError, match="from 1 to"):
        linalg.lu_solve(factors[0], factors[1] * 0, rb.asarray(B)).numpy()
    with pytest.raises(rb.ShapeError, match="lu_solve"):
        linalg.lu_solve(*factors, rb.ones(4))


def test_gradients_of_factors() -> None:
    def whole(x: rb.Tensor) -> rb.Tensor:
        _, lower, upper = linalg.lu(x)
        return (lower**3).sum() + (upper**2 * rb.asarray(A)).sum()

    def solved(x: rb.Tensor) -> rb.Tensor:
        return (linalg.lu_solve(*linalg.lu_factor(x), rb.asarray(B)) ** 2).sum()

    for function in (whole, solved):
        exact, near = slope(function, A)
        assert exact == pytest.approx(near, rel=1e-5)
    with pytest.raises(rb.GradientError, match="square"):
        rb.grad(lambda x: linalg.lu(x).U.sum())(rb.ones(2, 3))


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (2, 0, 3)])
def test_factors_of_nothing(shape: tuple[int, ...]) -> None:
    found = linalg.lu(rb.zeros(shape))
    *stack, m, n = shape
    assert found.P.numpy().shape == (*stack, m, m) and found.L.numpy().shape == (*stack, m, 0)
    assert found.U.numpy().shape == (*stack, 0, n)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_eigenvalues_of_halves_are_complex(dtype: str) -> None:
    assert linalg.eigvals(rb.eye(2, dtype=dtype)).tolist() == [1 + 0j, 1 + 0j]
