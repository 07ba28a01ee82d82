"""Writing and reading at index tensors under PyTorch's names; neighbours of half numbers."""

from __future__ import annotations

import numpy as np
import pytest

import rabbet as rb

Rng = np.random.Generator


def same(found: rb.Tensor, wanted: object) -> None:
    np.testing.assert_allclose(found.numpy(), np.asarray(wanted), 1e-6)


def test_gather_takes_an_index_smaller_than_the_tensor() -> None:
    x = rb.arange(12).reshape(3, 4)
    same(rb.gather(x, 1, rb.asarray([[3, 0], [1, 1]])), [[3, 0], [5, 5]])
    same(x.gather(0, rb.asarray([[2, 0, 1, 2]])), [[8, 1, 6, 11]])
    with pytest.raises(rb.ShapeError, match="differ in axes"):
        rb.gather(x, 0, rb.asarray([0]))


def test_scatter_and_its_reductions() -> None:
    x, at, src = rb.ones((2, 3)), rb.asarray([[0, 0, 2]]), rb.asarray([[2.0, 3.0, 4.0]])
    same(x.scatter(1, at, src), [[3, 1, 4], [1, 1, 1]])
    same(x.scatter(1, at, 7.0), [[7, 1, 7], [1, 1, 1]])
    same(x.scatter(1, at, src, reduce="add"), [[6, 1, 5], [1, 1, 1]])
    for reduce, first, last in (("sum", 6, 5), ("prod", 6, 4), ("mean", 2, 2.5), ("amax", 3, 4)):
        same(x.scatter_reduce(1, at, src, reduce), [[first, 1, last], [1, 1, 1]])
    same(x.scatter_reduce(1, at, src, "mean", include_self=False), [[2.5, 1, 4], [1, 1, 1]])
    same(x.scatter_reduce(1, at, src, "amin", include_self=False), [[2, 1, 4], [1, 1, 1]])
    with pytest.raises(rb.RabbetError, match="reduce='max'"):
        x.scatter_reduce(1, at, src, "max")
    with pytest.raises(rb.IndexRangeError):
        x.scatter(1, rb.asarray([[3]]), 1.0).numpy()


def test_rows_at_indices() -> None:
    x, at = rb.zeros((3, 2)), rb.asarray([0, 2, 0])
    rows = rb.arange(6, dtype="float32").reshape(3, 2)
    same(rb.index_add(x, 0, at, rows, alpha=2), [[8, 12], [0, 0], [4, 6]])
    same(x.index_copy(0, at, rows), [[4, 5], [0, 0], [2, 3]])
    same(x.index_fill(0, rb.asarray([1]), 5), [[0, 0], [5, 5], [0, 0]])
    same(rows.index_select(1, rb.asarray([1])), [[1], [3], [5]])
    same(rows.masked_fill(rows > 3, -1.0), [[0, 1], [2, 3], [-1, -1]])


def test_gradients_of_products_with_zeros() -> None:
    x = rb.tensor([2.0, 0.0, 3.0, 0.0, 0.0], requires_grad=True)
    rb.segment_prod(x, rb.asarray([0, 0, 0, 1, 1]), 2).sum().backward()
    same(x.grad, [0, 6, 0, 0, 0])


def test_extremes_that_run_pass_nan_on() -> None:
    values, places = rb.cummax(rb.asarray([1.0, 3.0, 3.0, np.nan, 5.0]), 0)
    same(values, [1, 3, 3, np.nan, np.nan])
    same(places, [0, 1, 2, 3, 3])


@pytest.mark.parametrize("dtype", [rb.float16, rb.bfloat16], ids=lambda d: d.name)
def test_neighbours_of_every_half(dtype: object) -> None:
    """The bits of finite halves count up, in the order of their size."""
    bits = np.arange(2**16, dtype=np.uint16)
    x = bits.view(dtype.numpy)  # type: ignore[attr-defined]
    wide = x.astype(np.float32)
    x = x[np.isfinite(wide) & (wide != 0)]
    raw = x.view(np.int16)
    up = rb.nextafter(rb.asarray(x), rb.full((), np.inf, dtype=dtype)).numpy()
    np.testing.assert_array_equal(up.view(np.int16), raw + np.where(raw < 0, -1, 1))
    same_ = rb.nextafter(rb.asarray(x), rb.asarray(x)).numpy()
    np.testing.assert_array_equal(same_.view(np.int16), raw)
    zero = rb.nextafter(rb.zeros((), dtype=dtype), rb.full((), -1.0, dtype=dtype)).numpy()
    assert zero.reshape(1).view(np.uint16)[0] == 0x8001


def test_places_of_triangles_and_diagonals() -> None:
    for k in (-1, 0, 2):
        same(rb.tril_indices(3, 4, k), np.stack(np.tril_indices(3, k, 4)))
        same(rb.triu_indices(3, 4, k), np.stack(np.triu_indices(3, k, 4)))
    with pytest.raises(rb.DTypeError, match="places are integers"):
        rb.tril_indices(2, dtype="float32")


def test_norm_of_vectors_and_matrices(rng: Rng) -> None:
    x = rng.standard_normal((2, 3, 4))
    t = rb.asarray(x)
    same(rb.linalg.norm(t), np.linalg.norm(x))
    same(rb.linalg.norm(t, 3, axis=1, keepdims=True), np.linalg.norm(x, 3, 1, True))
    for ord in ("fro", 1, np.inf, 2, "nuc"):
        same(rb.linalg.norm(t, ord, axis=(0, 2)), np.linalg.norm(x, ord, (0, 2)))
        same(rb.linalg.norm(t[0], ord), np.linalg.norm(x[0], ord))
    with pytest.raises(rb.ShapeError, match="3 axes"):
        rb.linalg.norm(t, 1)


def test_scatter_add_adds_one_element_per_index() -> None:
    base, index = rb.zeros((2, 3)), rb.asarray([[0, 0], [2, 1]])
    source = rb.asarray([[1.0, 2.0], [3.0, 4.0]])
    wanted = [[3.0, 0.0, 0.0], [0.0, 4.0, 3.0]]
    assert rb.scatter_add(base, 1, index, source).tolist() == wanted
    assert base.scatter_add_(1, index, source).tolist() == wanted
