"""Functions made of ops agree with NumPy, and gradients pass where they may."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import linalg

import rabbet as rb

A = np.arange(6, dtype=np.float32).reshape(2, 3)
V = np.array([3.0, 1.0, 2.0], np.float32)
LINE = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.0, np.nan, 9.0], np.float32)


@pytest.mark.parametrize(
    ("ours", "numpys"),
    [
        (lambda: rb.hstack([V, V]), lambda: np.hstack([V, V])),
        (lambda: rb.hstack([A, A]), lambda: np.hstack([A, A])),
        (lambda: rb.vstack([V, A]), lambda: np.vstack([V, A])),
        (lambda: rb.dstack([A, A]), lambda: np.dstack([A, A])),
        (lambda: rb.column_stack([V, V]), lambda: np.column_stack([V, V])),
        (lambda: rb.block_diag(A, V, A.T), lambda: linalg.block_diag(A, V, A.T)),
        (lambda: rb.ravel(A), lambda: A.ravel()),
        (lambda: rb.fliplr(A), lambda: np.fliplr(A)),
        (lambda: rb.flipud(A), lambda: np.flipud(A)),
        (lambda: rb.cross(V, A), lambda: np.cross(V, A)),
        (lambda: rb.unflatten(A, 1, (-1, 1)), lambda: A.reshape(2, 3, 1)),
        (lambda: rb.narrow(A, 1, -2, 2), lambda: A[:, 1:]),
        (lambda: rb.logspace(-1, 1, 5), lambda: np.logspace(-1, 1, 5).astype(np.float32)),
        (lambda: rb.combinations(V, 2), lambda: np.array(list(combinations(V, 2)))),
        (lambda: rb.argwhere(A), lambda: np.argwhere(A)),
        (lambda: rb.baddbmm(V, A, A.T @ A, beta=2), lambda: 2 * V + A @ (A.T @ A)),
        *((lambda k=k: rb.rot90(A, k), lambda k=k: np.rot90(A, k)) for k in (0, 1, 2, 3, -1)),
        *((lambda x=x: rb.atleast_1d(x), lambda x=x: np.atleast_1d(x)) for x in (V[0], V, A)),
        *((lambda x=x: rb.atleast_2d(x), lambda x=x: np.atleast_2d(x)) for x in (V[0], V, A)),
        *((lambda x=x: rb.atleast_3d(x), lambda x=x: np.atleast_3d(x)) for x in (V[0], V, A)),
    ],
)
def test_values(ours: Callable[[], rb.Tensor], numpys: Callable[[], np.ndarray]) -> None:
    np.testing.assert_allclose(ours().numpy(), numpys(), 1e-6)


@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize(
    "options", [{"bins": 4, "range": (0.0, 2.0)}, {"bins": np.array([0.0, 0.5, 2.0], np.float32)}]
)
def test_histogram(options: dict[str, Any], density: bool) -> None:
    found = rb.histogram(LINE, **options, density=density)
    wanted = np.histogram(LINE, **options, density=density)
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f.numpy(), w, 1e-6)
    whole, edges = rb.histogram(LINE[:6], bins=3)
    np.testing.assert_array_equal(whole.numpy(), np.histogram(LINE[:6], 3)[0])
    one, edges = rb.histogram(rb.ones(3), bins=2)
    assert one.tolist() == [0, 3] and edges.tolist() == [0.5, 1, 1.5]
    weight = rb.ones(8).requires_grad_()
    rb.histogram(LINE, weight=weight, bins=2, range=(0, 2))[0][1].backward()
    assert weight.grad is not None and weight.grad.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_runs_and_counts() -> None:
    x = np.array([[1, 1, 2], [1, 1, 2], [0, 0, 0]])
    values, inverse, counts = rb.unique_consecutive(x, True, True)
    assert values.tolist() == [1, 2, 1, 2, 0] and counts.tolist() == [2, 1, 2, 1, 3]
    assert inverse.tolist() == [[0, 0, 1], [2, 2, 3], [4, 4, 4]]
    rows, inverse = rb.unique_consecutive(x, return_inverse=True, dim=0)
    assert rows.tolist() == [[1, 1, 2], [0, 0, 0]] and inverse.tolist() == [0, 0, 1]
    assert rb.unique_consecutive(x, dim=1).tolist() == [[1, 2], [1, 2], [0, 0]]
    assert rb.unique_consecutive(rb.zeros(0)).shape == (0,)
    values, inverse, counts = rb.unique(x, return_inverse=True, return_counts=True)
    assert values.tolist() == [0, 1, 2] and counts.tolist() == [3, 4, 2]
    assert values[inverse].tolist() == x.tolist()
    weight = rb.asarray([1.0, 2.0, 3.0]).requires_grad_()
    found = rb.bincount(rb.asarray([4, 0, 4]), weight, minlength=2)
    assert found.tolist() == [2, 0, 0, 0, 4]
    found[4].backward()
    assert weight.grad is not None and weight.grad.tolist() == [1, 0, 1]
    with pytest.raises(rb.IndexRangeError, match="-1 is negative"):
        rb.bincount(rb.asarray([-1]))


def test_several_results() -> None:
    low, high = rb.aminmax(A, dim=1)
    assert low.tolist() == [0, 3] and high.tolist() == [2, 5]
    spread, middle = rb.std_mean(A, dim=0, correction=1)
    np.testing.assert_allclose(spread.numpy(), A.std(0, ddof=1), 1e-6)
    np.testing.assert_allclose(middle.numpy(), A.mean(0))
    x = rb.asarray(V).requires_grad_()
    value, place = rb.kthvalue(x, 2, keepdim=True)
    assert value.tolist() == [2] and place.tolist() == [2]
    value.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 0, 1]
    parts = rb.tensor_split(rb.arange(7), 3)
    assert [p.tolist() for p in parts] == [p.tolist() for p in np.array_split(np.arange(7), 3)]
    assert [p.tolist() for p in rb.tensor_split(rb.arange(5), [1, 3])] == [[0], [1, 2], [3, 4]]
    assert rb.broadcast_shapes((2, 1), 3) == (2, 3)
    grid = rb.cartesian_prod(V, V[:2])
    assert grid.shape == (6, 2) and grid[1].tolist() == [3, 1]
    assert rb.combinations(V, 2, with_replacement=True).shape == (6, 2)
    assert rb.combinations(V, 4).shape == (0, 4)


def test_closeness() -> None:
    nan = float("nan")
    assert rb.allclose([1.0, rb.inf], [1.0 + 1e-7, rb.inf]) and not rb.allclose([nan], [nan])
    assert rb.allclose(rb.asarray([nan]), rb.asarray([nan]), equal_nan=True)
    assert not rb.isclose(rb.asarray([1.0]), rb.asarray([rb.inf])).item()
    assert rb.isclose(rb.asarray([5]), rb.asarray([6]), atol=1).item()


@pytest.mark.parametrize("name", ["quantile", "median", "nanquantile", "nanmedian", "nanmean"])
def test_nan_and_infinities_in_order(name: str) -> None:
    x = np.array([[1, np.nan, 4, 2], [np.inf, 1, -np.inf, 2], [np.nan] * 4, [3, 1, np.inf, 5]])
    more = (0.5,) if "quantile" in name else ()
    found = getattr(rb, name)(rb.asarray(x), *more, axis=1)
    with warnings.catch_warnings(action="ignore"):
        wanted = getattr(np, name)(x, *more, axis=1)
    np.testing.assert_array_equal(found.numpy(), wanted)


def test_wrong_arguments() -> None:
    for call, words in (
        (lambda: rb.quantile(rb.zeros(0), 0.5), "no elements"),
        (lambda: rb.quantile(rb.zeros(3), rb.zeros(1, 1)), "number or vector"),
        (lambda: rb.narrow(rb.zeros(3), 0, 2, 2), "narrow"),
        (lambda: rb.kthvalue(rb.zeros(3), 4), "k=4"),
        (lambda: rb.block_diag(rb.zeros(1, 1, 1)), "matrices"),
        (lambda: rb.histc(rb.zeros(3), 0), "bins=0"),
        (lambda: rb.unflatten(rb.zeros(3), 0, (2, 2)), "unflatten"),
        (lambda: rb.cov(rb.zeros(1, 1, 1)), "observations"),
    ):
        with pytest.raises(rb.ShapeError, match=words):
            call()
    assert np.isnan(rb.quantile(rb.ones(3), 1.5).item())
