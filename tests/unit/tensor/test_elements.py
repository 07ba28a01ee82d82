"""One element of a tensor that is computed already is read, without a program for its place."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import rabbet as rb
from rabbet.base import dtypes
from rabbet.base.errors import IndexRangeError
from rabbet.recorder import runs


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_every_place_of_every_dtype(dtype: dtypes.DType) -> None:
    x = rb.asarray(np.arange(24).reshape(2, 3, 4) % 2 if dtype.kind == "b" else np.arange(24.0))
    x = rb.asarray(x.reshape(2, 3, 4), dtype=dtype) + rb.asarray(0, dtype=dtype)
    wanted = x.tolist()
    before = runs()
    for i, j, k in itertools.product(range(-2, 2), range(-3, 3), range(-4, 4)):
        y = x[i, j, k]
        assert y.shape == () and y.dtype is dtype
        assert y.item() == wanted[i][j][k]
    assert runs() == before


def test_outside() -> None:
    x = rb.zeros((2, 3)) + 1.0
    assert x.tolist() == [[1.0] * 3] * 2
    for key in ((2, 0), (0, -4), (-3, 0), (0, 2**70)):
        with pytest.raises(IndexRangeError):
            x[key]


def test_later_writes_leave_it() -> None:
    x = rb.asarray([1.0, 2.0])
    y = x[1]
    x[1] = 5.0
    y += 1.0
    assert (y.item(), x[1].item()) == (3.0, 5.0)


def test_gradients_and_transforms_see_where_it_came_from() -> None:
    x = rb.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (x[1, 0] * x[0, 1]).backward()
    assert x.grad is not None and x.grad.tolist() == [[0.0, 3.0], [2.0, 0.0]]

    plain = rb.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert plain.tolist()  # computed

    def corner(t: rb.Tensor) -> rb.Tensor:
        return t[1, 1] * t[0, 0]

    assert rb.grad(corner)(plain).tolist() == [[4.0, 0.0], [0.0, 1.0]]
    assert rb.jvp(corner, (plain,), (rb.ones_like(plain),))[1].item() == 5.0
    assert rb.vmap(corner)(rb.stack([plain, plain * 2.0])).tolist() == [4.0, 16.0]
    assert rb.jacfwd(corner)(plain).tolist() == [[4.0, 0.0], [0.0, 1.0]]
    jitted = rb.jit(corner)
    assert [jitted(plain * n).item() for n in (1.0, 2.0, 3.0)] == [4.0, 16.0, 36.0]
