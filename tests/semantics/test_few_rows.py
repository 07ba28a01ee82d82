"""Products of few rows have kernels of their own, with the bits of all others."""

import numpy as np
import pytest

import rabbet as rb

ROWS = 40  # computed in tiles


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bfloat16"])
@pytest.mark.parametrize(
    ("n", "k"), [(1, 700), (15, 256), (17, 31), (200, 257), (49, 513), (800, 48)]
)
def test_a_row_is_the_same_alone(dtype: str, n: int, k: int) -> None:
    rng = np.random.default_rng(n)
    kind = getattr(rb, dtype).numpy
    a = (rng.standard_normal((ROWS, k)) * 9).astype(kind)
    b = (rng.standard_normal((k, n)) * 9).astype(kind)
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


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (5, 60, 17), (33, 50, 515), (300, 270, 300)])
def test_products_of_halves_are_the_same_however_they_are_run(m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(k)

    def draw(*shape: int) -> rb.Tensor:
        return rb.asarray(rng.standard_normal(shape, np.float32)).astype(rb.bfloat16)

    a, b, bias = draw(2, m, k), draw(k, n), draw(n)
    turned = rb.asarray(np.ascontiguousarray(b.numpy().T))
    expected = (a @ b).numpy()
    jitted = rb.jit(lambda x, y: x @ y)
    for _ in range(3):
        np.testing.assert_array_equal(jitted(a, b).numpy(), expected)
    for i in range(2):
        np.testing.assert_array_equal((a[i] @ b).numpy(), expected[i])
        np.testing.assert_array_equal((turned @ a[i].T).numpy(), expected[i].T)
    single = a.astype(rb.float32).astype(rb.bfloat16)  # cast while it is copied
    np.testing.assert_array_equal((single @ turned.T).numpy(), expected)
    added = rb.linear(a, turned, bias).numpy()
    np.testing.assert_array_equal(rb.linear(a[1, :1], turned, bias).numpy(), added[1, :1])
