"""Products of few rows have kernels of their own, with the bits of all others."""

import numpy as np
import pytest

import rabbet as rb

ROWS = 40  # computed in tiles


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize(
    ("n", "k"), [(1, 700), (15, 256), (17, 31), (200, 257), (49, 513), (800, 48)]
)
def test_a_row_is_the_same_alone(dtype: str, n: int, k: int) -> None:
    rng = np.random.default_rng(n)
    a = (rng.standard_normal((ROWS, k)) * 9).astype(dtype)
    b = (rng.standard_normal((k, n)) * 9).astype(dtype)
    turned = rb.asarray(np.ascontiguousarray(b.T))
    expected = (rb.asarray(a) @ rb.asarray(b)).numpy()
    for rows in (1, 2, 3, 4, 5, 6, 7):
        some = rb.asarray(a[:rows])
        np.testing.assert_array_equal((some @ rb.asarray(b)).numpy(), expected[:rows])
        np.testing.assert_array_equal((some @ turned.T).numpy(), expected[:rows])
    one = rb.asarray(a[3])
    np.testing.assert_array_equal((one @ rb.asarray(b)).numpy(), expected[3])
    np.testing.assert_array_equal((turned @ one).numpy(), expected[3])


@pytest.mark.parametrize(("m", "k"), [(700, 31), (49, 513), (130, 256)])
def test_few_columns_are_those_of_many(m: int, k: int) -> None:
    rng = np.random.default_rng(m)
    a = rng.standard_normal((m, k), np.float32)
    b = rng.standard_normal((k, ROWS), np.float32)
    turned = rb.asarray(np.ascontiguousarray(a.T)).T
    bias = rng.standard_normal(ROWS, np.float32)
    expected = (rb.asarray(a) @ rb.asarray(b) + rb.asarray(bias)).numpy()
    for columns in (1, 3, 6):
        some = np.ascontiguousarray(b[:, :columns])
        along = rb.asarray(np.ascontiguousarray(some.T)).T
        added = rb.asarray(bias[:columns])
        for left in (rb.asarray(a), turned):
            for right in (rb.asarray(some), along):
                found = (left @ right + added).numpy()
                np.testing.assert_array_equal(found, expected[:, :columns])
