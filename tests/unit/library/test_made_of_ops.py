"""Small functions under NumPy's and PyTorch's names, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rabbet as rb

A = np.arange(12.0).reshape(3, 4) - 5
V = np.array([1.0, -2.0, 3.0, 0.5])
CASES: dict[str, tuple[Callable[[Any], Any], Callable[[], Any]]] = {
    "clamp_min": (lambda a: rb.clamp_min(a, 0), lambda: np.maximum(A, 0)),
    "clamp_max": (lambda a: a.clamp_max(0), lambda: np.minimum(A, 0)),
    "inner": (lambda a: rb.inner(a, V), lambda: np.inner(A, V)),
    "inner of matrices": (lambda a: rb.inner(a, a), lambda: np.inner(A, A)),
    "vdot": (lambda a: rb.vdot(a[0] + 1j, V * 1j), lambda: np.vdot(A[0] + 1j, V * 1j)),
    "addmv": (lambda a: rb.addmv(np.ones(3), a, V, alpha=2), lambda: 1 + 2 * A @ V),
    "addr": (lambda a: a.addr(A[:, 0], V, beta=3), lambda: 3 * A + np.outer(A[:, 0], V)),
    "ldexp": (lambda a: rb.ldexp(a, np.array([1, -2, 0, 3])), lambda: A * [2, 0.25, 1, 8]),
    "ldexp far": (lambda a: rb.ldexp(a * 0 + 2.0**-1000, 2000), lambda: A * 0 + 2.0**1000),
    "logaddexp2": (lambda a: rb.logaddexp2(a, V), lambda: np.logaddexp2(A, V)),
    "float_power": (
        lambda a: rb.float_power(a.astype("float32"), 2),
        lambda: np.float_power(A.astype(np.float32), 2),
    ),
    "dist": (lambda a: rb.dist(a, V), lambda: np.sqrt(((A - V) ** 2).sum())),
    "dist inf": (lambda a: rb.dist(a, V, np.inf), lambda: np.abs(A - V).max()),
    "dist 3": (lambda a: rb.dist(a, V, 3), lambda: (np.abs(A - V) ** 3).sum() ** (1 / 3)),
    "isneginf": (lambda a: rb.isneginf(a / 0), lambda: A < 0),
    "isposinf": (lambda a: rb.isposinf(a / 0), lambda: A > 0),
    "isreal": (lambda a: rb.isreal(a + 1j * a), lambda: A == 0),
    "select_scatter": (
        lambda a: rb.select_scatter(a, np.ones(3), 1, -1),
        lambda: np.concatenate([A[:, :-1], np.ones((3, 1))], 1),
    ),
    "diagflat": (lambda a: rb.diagflat(a, 1), lambda: np.diagflat(A, 1)),
    "msort": (lambda a: rb.msort(-a), lambda: np.sort(-A, 0)),
    "hsplit": (lambda a: rb.hsplit(a, 2)[1], lambda: np.hsplit(A, 2)[1]),
    "vsplit": (lambda a: rb.vsplit(a, [1])[1], lambda: np.vsplit(A, [1])[1]),
    "trapz": (
        lambda a: rb.trapz(a, np.cumsum(np.abs(V))),
        lambda: np.trapezoid(A, np.cumsum(np.abs(V))),
    ),
    "trapz of columns": (
        lambda a: rb.trapz(a, dx=0.5, axis=0),
        lambda: np.trapezoid(A, dx=0.5, axis=0),
    ),
    "unravel_index": (
        lambda a: rb.unravel_index(rb.asarray([7, 23]), (2, 3, 4))[1],
        lambda: np.unravel_index([7, 23], (2, 3, 4))[1],
    ),
    "polar": (lambda a: rb.polar(a, V), lambda: A * np.exp(1j * V)),
    "as complex": (
        lambda a: rb.view_as_complex(rb.view_as_real(a + 2j)),
        lambda: A + 2j,
    ),
    "masked_scatter": (
        lambda a: rb.masked_scatter(a, A > 3, np.array([9.0, 8, 7, 6])),
        lambda: np.concatenate([A.ravel()[:9], [9, 8, 7]]).reshape(3, 4),
    ),
    "scatter_add": (
        lambda a: a.scatter_add(1, np.zeros((3, 2), int), rb.ones(3, 2, dtype="float64")),
        lambda: A + [2, 0, 0, 0],
    ),
    "polygamma": (lambda a: (a + 6).polygamma(0), lambda: rb.digamma(A + 6).numpy()),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    """In double precision, and with gradients where there are any."""
    ours, wanted = CASES[name]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(ours(rb.asarray(A)).numpy(), wanted(), 1e-12, 1e-12)
    x = rb.tensor(A, requires_grad=True)
    found = ours(x)
    if found.requires_grad and found.dtype.is_float:
        found.sum().backward()
        assert x.grad is not None and x.grad.shape == x.shape


def test_index_put() -> None:
    """As an assignment, or adding; one place twice counts twice."""
    places = (np.array([0, 0, 2]), np.array([1, 1, 3]))
    wanted = A.copy()
    np.add.at(wanted, places, [1.0, 2.0, 3.0])
    found = rb.index_put(rb.asarray(A), places, np.array([1.0, 2.0, 3.0]), accumulate=True)
    assert found.tolist() == wanted.tolist()
    row = rb.index_put(rb.asarray(A), (rb.asarray([1]),), rb.zeros(4, dtype="float64"))
    assert row.tolist() == np.concatenate([A[:1], np.zeros((1, 4)), A[2:]]).tolist()


def test_slices() -> None:
    found = rb.slice_scatter(rb.asarray(A), np.ones((3, 2)), 1, 0, 4, 2)
    wanted = A.copy()
    wanted[:, 0:4:2] = 1
    assert found.tolist() == wanted.tolist()


def test_pairs() -> None:
    apart = [np.abs(A[i] - A[j]) for i in range(3) for j in range(i + 1, 3)]
    for p in (1.0, 2.0, np.inf):
        wanted = [np.linalg.norm(d, p) for d in apart]
        np.testing.assert_allclose(rb.pdist(rb.asarray(A), p).numpy(), wanted, 1e-12)


def test_refusals() -> None:
    for call, says in (
        (lambda: rb.vdot(rb.asarray(A), V), "must be vectors"),
        (lambda: rb.pdist(rb.asarray(V)), r"must be \(n, m\)"),
        (lambda: rb.view_as_complex(rb.asarray(A)), "size 2"),
        (lambda: rb.masked_scatter(rb.ones(3), rb.ones(3) > 0, rb.ones(2)), "3 places"),
    ):
        with pytest.raises(rb.ShapeError, match=says):
            call()
    with pytest.raises(rb.DTypeError, match="not complex"):
        rb.view_as_real(rb.ones(2))


def test_fill_diagonal() -> None:
    for shape in ((3, 3), (2, 4), (4, 2), (3, 3, 3)):
        x, wanted = rb.zeros(shape), np.zeros(shape, np.float32)
        x.fill_diagonal_(5)
        for i in range(min(shape)):
            wanted[(i,) * len(shape)] = 5
        assert np.array_equal(x.numpy(), wanted)
    with pytest.raises(rb.ShapeError, match="two axes"):
        rb.ones(3).fill_diagonal_(1)
