"""x[key] = v for plain keys: written in place where nobody else reads x, a new value otherwise."""

from __future__ import annotations

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.errors import ShapeError


def test_memory_is_kept_where_nobody_else_reads_it() -> None:
    """A program writes rows into the memory that x has; a view keeps the old values."""

    def address(x: rb.Tensor) -> int:
        return np.from_dlpack(x).ctypes.data

    x = rb.asarray(np.zeros((8, 4096), np.float32))
    places = []
    for i in range(8):
        x[i] = float(i)
        places.append(address(x))
    assert len({*places[3:]}) == 1  # in what comes before there are first sights
    old = np.from_dlpack(x)
    x[0] = 9.0
    assert address(x) != places[-1]
    np.testing.assert_array_equal(old[:, 0], np.arange(8.0))
    np.testing.assert_array_equal(x[:, 0].numpy(), [9, *range(1, 8)])


def test_reading_and_writing_by_turns() -> None:
    for _ in range(3):  # the first tier, and the fused program
        x = rb.zeros((6, 5))
        wanted = np.zeros((6, 5))
        v = np.arange(5.0)
        for i in range(1, 6):
            x[i] = x[i - 1] * 0.5 + rb.asarray(v)
            wanted[i] = wanted[i - 1] * 0.5 + v
        x[1:] = x[:-1]
        wanted[1:] = wanted[:-1].copy()
        x[::2, ::-2] += 1
        wanted[::2, ::-2] += 1
        np.testing.assert_allclose(x.numpy(), wanted)


def test_under_vmap_and_forward_mode() -> None:
    def f(x: rb.Tensor, v: rb.Tensor) -> rb.Tensor:
        x = x * 1
        x[1, ::2] = v
        x[0] = 3
        return x.sum(axis=0)

    x, v = rb.asarray(np.arange(24.0).reshape(2, 3, 4)), rb.asarray(np.arange(4.0).reshape(2, 2))
    both = rb.vmap(f)(x, v).numpy()
    one = rb.vmap(f, in_axes=(None, 0))(x[0], v).numpy()
    for k in range(2):
        np.testing.assert_array_equal(both[k], f(x[k], v[k]).numpy())
        np.testing.assert_array_equal(one[k], f(x[0], v[k]).numpy())
    _, slope = rb.jvp(f, (x[0], v[0]), (rb.ones_like(x[0]), rb.ones_like(v[0]) * 5))
    np.testing.assert_array_equal(slope.numpy(), [6, 2, 6, 2])


def test_numbers_of_any_dtype() -> None:
    for dtype in ("float16", "bfloat16", "complex64", "uint8", "bool"):
        x = rb.zeros((2, 3), dtype=dtype)
        x[1] = True
        x[:, 0] = 1
        assert x.dtype is rb.zeros((), dtype=dtype).dtype
        np.testing.assert_array_equal(x.astype("complex64").numpy(), [[1, 0, 0], [1, 1, 1]])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2,\) does not fit in x\[key\] of shape \(3,\)"):
        rb.zeros((2, 3))[0] = rb.ones(2)
