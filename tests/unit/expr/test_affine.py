"""Coefficients of loop variables in index expressions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rabbet.base.dtypes import int64
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr, const, load, select, size, topological, var
from rabbet.expr.interpret import evaluate

X, Y, N, M = var(0), var(1), size(0), size(1)


@pytest.mark.parametrize(
    "index",
    [
        X,
        Y * N + X,
        (Y * N + X) * M + 3,
        X * 4 - Y,
        -(X * N) + Y,
        (X + Y) * (N - 1),
        select(Y < 2, X * N, X * M),
        Y // 3 + X * 2,
        load(0, int64, Y) + X,
        const(5, int64),
    ],
    ids=repr,
)
def test_coefficient_is_the_difference(index: Expr) -> None:
    def at(i: int) -> Callable[[Expr], np.ndarray]:
        values = {X: i, Y: 2, N: 7, M: 11}
        return lambda leaf: np.asarray(values.get(leaf, 5))

    found = coefficient(index, 0)
    assert found is not None
    assert all(part is not X for part in topological([found]))
    for i in (0, 3):
        (step,) = evaluate([found], at(i))
        (here,), (after,) = evaluate([index], at(i)), evaluate([index], at(i + 1))
        assert after - here == step


@pytest.mark.parametrize(
    "index", [X * X, X // 2, X % N, load(0, int64, X), select(X < 3, Y, N)], ids=repr
)
def test_not_affine(index: Expr) -> None:
    assert coefficient(index, 0) is None


def test_free_variables_have_coefficient_zero() -> None:
    assert coefficient(Y * Y + N, 0) is const(0, int64)
    assert coefficient(load(0, int64, Y // 2), 0) is const(0, int64)
