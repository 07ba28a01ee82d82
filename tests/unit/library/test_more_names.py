"""Functions of NumPy's and PyTorch's that are made of others: values, gradients, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import linalg, stats

import rabbet as rb

# ---- exponents, modes, slopes --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_frexp(dtype: str) -> None:
    tiny = {"float32": 1e-45, "float64": 5e-324, "float16": 6e-8, "bfloat16": 1e-40}[dtype]
    ends = [0.0, -0.0, np.inf, -np.inf, tiny, -tiny, 1.0, 0.5, -3.0, 6.5e4, 1e-5]
    x = rb.asarray(ends, dtype=dtype)
    mantissa, exponent = rb.frexp(x)
    wide = x.astype(rb.float64).numpy()
    wanted = np.frexp(wide)
    assert np.array_equal(mantissa.astype(rb.float64).numpy(), wanted[0])
    assert np.array_equal(np.signbit(mantissa.astype(rb.float64).numpy()), np.signbit(wide))
    assert np.array_equal(exponent.numpy(), np.where(np.isfinite(wide), wanted[1], 0))
    assert mantissa.dtype is x.dtype
    assert exponent.dtype is rb.int32
    assert np.isnan(rb.frexp(rb.asarray([np.nan], dtype=dtype)).mantissa.numpy().astype(float))[0]


def test_frexp_of_random_numbers_and_its_gradient(rng: np.random.Generator) -> None:
    bits = rng.integers(0, 2**63, 500).view(np.float64)
    x = bits[np.isfinite(bits)]
    found = rb.frexp(rb.asarray(x))
    assert np.array_equal(found.mantissa.numpy(), np.frexp(x)[0])
    assert np.array_equal(found.exponent.numpy(), np.frexp(x)[1])
    w = rb.tensor([8.0, 3.0], requires_grad=True)
    w.frexp().mantissa.sum().backward()
    assert w.grad.tolist() == [1 / 16, 1 / 4]
    with pytest.raises(rb.DTypeError, match="frexp: int64 is not supported"):
        rb.frexp(rb.asarray([1]))


@pytest.mark.parametrize(
    ("shape", "axis"), [((30,), 0), ((5, 40), 1), ((40, 3), 0), ((2, 9, 4), 1)]
)
def test_mode(rng: np.random.Generator, shape: tuple[int, ...], axis: int) -> None:
    x = rng.integers(0, 6, shape)
    values, indices = rb.mode(rb.asarray(x), dim=axis, keepdim=True)
    assert np.array_equal(values.numpy(), stats.mode(x, axis, keepdims=True).mode)
    last = x.shape[axis] - 1 - np.argmax(np.flip(x == values.numpy(), axis), axis)
    assert np.array_equal(indices.squeeze(axis).numpy(), last)


def test_mode_at_its_limits() -> None:
    assert rb.asarray([2.0, 1.0]).mode() == (1.0, 1)
    assert rb.mode(rb.asarray([np.nan, 2.0, np.nan, 2.0])).values.item() == 2
    assert rb.mode(rb.zeros((3, 1))).values.shape == (3,)
    x = rb.tensor([1.0, 5.0, 5.0], requires_grad=True)
    x.mode().values.backward()
    assert x.grad.tolist() == [0, 0, 1]
    with pytest.raises(rb.ShapeError, match="mode: axis 0 of .* has no elements"):
        rb.mode(rb.zeros(0))


@pytest.mark.parametrize("edge_order", [1, 2])
@pytest.mark.parametrize("count", [3, 4, 9])
def test_gradient_is_numpys(rng: np.random.Generator, edge_order: int, count: int) -> None:
    x = rng.standard_normal((count, 5))
    across, along = np.cumsum(rng.uniform(0.5, 2, count)), np.cumsum(rng.uniform(0.5, 2, 5))
    for given in ((), (0.5,), (0.5, 2.0), (across, along), (across, 2.0)):
        wanted = np.gradient(x, *given, edge_order=edge_order)
        found = rb.gradient(rb.asarray(x), *given, edge_order=edge_order)
        for f, w in zip(found, wanted, strict=True):
            np.testing.assert_allclose(f.numpy(), w, rtol=1e-12, atol=1e-12)
    (one,) = rb.gradient(rb.asarray(x), spacing=2.0, dim=-1, edge_order=edge_order)
    np.testing.assert_allclose(one.numpy(), np.gradient(x, 2.0, axis=-1, edge_order=edge_order))


def test_gradient_of_two_samples_of_integers_and_its_errors() -> None:
    assert rb.gradient(rb.asarray([1, 4]))[0].tolist() == [3, 3]
    x = rb.tensor([1.0, 2.0, 4.0], requires_grad=True)
    rb.gradient(x)[0].sum().backward()
    assert x.grad.tolist() == [-1.5, 0, 1.5]
    with pytest.raises(rb.ShapeError, match="3 are needed for edge_order=2"):
        rb.gradient(rb.ones(2), edge_order=2)
    with pytest.raises(rb.RabbetError, match="edge_order=3 must be 1 or 2"):
        rb.gradient(rb.ones(9), edge_order=3)
    with pytest.raises(rb.ShapeError, match=r"coordinates \(2,\) for axis 0"):
        rb.gradient(rb.ones(3), rb.ones(2))
    with pytest.raises(rb.ShapeError, match="3 spacings for 2 axes"):
        rb.gradient(rb.ones((3, 3)), 1.0, 1.0, 1.0)
    with pytest.raises(rb.RabbetError, match="spacing was given twice"):
        rb.gradient(rb.ones(3), 1.0, spacing=1.0)


# ---- divisors ------------------------------------------------------------------------------------


def test_divisors_of_many_numbers(rng: np.random.Generator) -> None:
    a, b = rng.integers(-(2**62), 2**62, (2, 300))
    assert np.array_equal(rb.gcd(rb.asarray(a), rb.asarray(b)).numpy(), np.gcd(a, b))
    a, b = rng.integers(-(2**31), 2**31, (2, 300))
    assert np.array_equal(rb.lcm(rb.asarray(a), rb.asarray(b)).numpy(), np.lcm(a, b))
    x = rb.asarray([[12, 18], [8, 9]])
    assert x.gcd(6).tolist() == [[6, 6], [2, 3]]
    assert rb.vmap(rb.gcd, in_axes=(0, None))(x, rb.asarray([4, 3])).tolist() == [[4, 3], [4, 3]]
    assert rb.vmap(rb.lcm)(x, rb.asarray([4, 3])).tolist() == [[12, 36], [24, 9]]
    assert rb.jit(lambda t: rb.gcd(t, 6) + 1)(x).tolist() == [[7, 7], [3, 4]]
    with pytest.raises(rb.DTypeError, match="gcd: float32 is not supported"):
        rb.gcd(rb.ones(2), rb.ones(2))


# ---- placing, windows, diagonals -----------------------------------------------------------------


def test_put() -> None:
    x = rb.zeros((2, 3))
    assert rb.put(x, rb.asarray([[4, -1]]), rb.asarray([[1.0, 2.0]])).tolist() == [
        [0, 0, 0],
        [0, 1, 2],
    ]
    added = rb.put(x, rb.asarray([0, 0]), rb.asarray([1.0, 2.0]), accumulate=True)
    assert added[0, 0].item() == 3
    assert x.put_(rb.asarray([1]), 5.0) is x
    assert x.tolist() == [[0, 5, 0], [0, 0, 0]]
    v = rb.tensor([1.0, 2.0], requires_grad=True)
    rb.put(rb.ones(3), rb.asarray([2, 0]), v * 2).sum().backward()
    assert v.grad.tolist() == [2, 2]
    with pytest.raises(rb.ShapeError, match="as many, or one, are needed"):
        rb.put(x, rb.asarray([0, 1, 2]), rb.ones(2))
    with pytest.raises(rb.DTypeError, match="put: source is int64, x is float32"):
        rb.put(x, rb.asarray([0]), rb.asarray([1]))


def test_unfold_and_diag(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 8))
    found = rb.asarray(x).unfold(dimension=1, size=3, step=2)
    windows = np.lib.stride_tricks.sliding_window_view(x, 3, 1)[:, ::2]
    assert np.array_equal(found.numpy(), windows)
    assert rb.asarray(x).unfold(0, 3, 1).shape == (1, 8, 3)
    t = rb.ones(4, requires_grad=True)
    t.unfold(0, 2, 1).sum().backward()
    assert t.grad.tolist() == [1, 2, 2, 1]
    with pytest.raises(rb.ShapeError, match="unfold: size=9, step=1 for axis 1"):
        rb.asarray(x).unfold(1, 9, 1)
    assert np.array_equal(rb.asarray(x).diag(1).numpy(), np.diag(x, 1))
    assert np.array_equal(rb.asarray(x[0]).diag(diagonal=-2).numpy(), np.diag(x[0], -2))


def test_words_of_pytorch() -> None:
    assert rb.linspace(0, 1, steps=3).tolist() == [0, 0.5, 1]
    assert rb.logspace(0, 2, steps=3).tolist() == [1, 10, 100]
    line = rb.asarray([1, 3, 3])
    assert rb.searchsorted(line, rb.asarray([3])).tolist() == [1]
    assert rb.searchsorted(line, rb.asarray([3]), right=True).tolist() == [3]
    assert rb.searchsorted(line, rb.asarray([3]), side="right", right=True).tolist() == [3]
    assert rb.searchsorted(line, rb.asarray([3]), out_int32=True).dtype is rb.int32
    with pytest.raises(rb.RabbetError, match="contradict each other"):
        rb.searchsorted(line, rb.asarray([3]), side="right", right=False)


# ---- random state --------------------------------------------------------------------------------


def test_random_state_goes_on() -> None:
    rb.manual_seed(11)
    assert rb.initial_seed() == 11
    rb.rand(5)
    state = rb.get_rng_state()
    first = rb.randn(4).tolist()
    rb.rand(3)
    rb.set_rng_state(state)
    assert rb.randn(4).tolist() == first
    stream = rb.Generator(3)
    stream.set_state(rb.asarray(state).numpy())  # as saved in an array
    assert rb.randn(4, generator=stream).tolist() == first
    for wrong in ((1,), (1, -2), (1, 2, 3)):
        with pytest.raises(rb.RabbetError, match=r"a state is \(seed, offset\)"):
            rb.set_rng_state(wrong)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int64", "float32", "float16", "bfloat16", "bool"]
)
def test_random_(dtype: str) -> None:
    x = rb.zeros((4000,), dtype=dtype)
    assert x.random_() is x
    wide = x.numpy().astype(np.float64)
    tops = {"int8": 127, "uint8": 255, "int64": 2.0**63, "float32": 2**24, "float16": 2**11}
    top = {**tops, "bfloat16": 2**8, "bool": 1}[dtype]
    assert 0 <= wide.min() < 0.01 * top + 1
    assert 0.99 * top - 1 <= wide.max() <= top
    if dtype not in ("bool", "uint8"):
        x.random_(-3, 4)
        assert np.unique(x.numpy().astype(np.float64)).tolist() == [-3, -2, -1, 0, 1, 2, 3]
        x.random_(2)
        assert np.unique(x.numpy().astype(np.float64)).tolist() == [0, 1]


# ---- linear systems from factors -----------------------------------------------------------------


def _definite(rng: np.random.Generator, *shape: int) -> Any:
    a = rng.standard_normal(shape)
    return a @ a.swapaxes(-1, -2) + 3 * np.eye(shape[-1])


@pytest.mark.parametrize("upper", [False, True])
def test_from_cholesky_factors(rng: np.random.Generator, upper: bool) -> None:
    a, b = _definite(rng, 2, 4, 4), rng.standard_normal((2, 4, 3))
    factor = np.linalg.cholesky(a)
    given = rb.asarray(factor.swapaxes(-1, -2) if upper else factor)
    found = rb.cholesky_solve(rb.asarray(b), given, upper=upper)
    np.testing.assert_allclose(found.numpy(), np.linalg.solve(a, b), rtol=1e-9)
    found = rb.linalg.cholesky_inverse(given, upper=upper)
    np.testing.assert_allclose(found.numpy(), np.linalg.inv(a), rtol=1e-9)


def test_cholesky_solve_of_complex_matrices_and_its_gradient(rng: np.random.Generator) -> None:
    a = rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3))
    a = a @ a.conj().T + np.eye(3)
    b = rng.standard_normal((3, 2)) + 0j
    found = rb.linalg.cholesky_solve(rb.asarray(b), rb.asarray(np.linalg.cholesky(a)))
    np.testing.assert_allclose(found.numpy(), np.linalg.solve(a, b), rtol=1e-9)
    x = rb.asarray(_definite(rng, 3, 3))
    right = rb.asarray(rng.standard_normal((3, 1)))
    one = rb.grad(lambda t: rb.cholesky_solve(right, rb.linalg.cholesky(t)).sum())(x)
    two = rb.grad(lambda t: rb.linalg.solve(t, right).sum())(x)
    np.testing.assert_allclose((one + one.mT).numpy(), (two + two.mT).numpy(), rtol=1e-9)
    with pytest.raises(rb.ShapeError, match="cholesky_solve"):
        rb.cholesky_solve(rb.ones((3, 1)), rb.ones((3, 2)))


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 3), (5, 3), (3, 5), (1, 1)])
def test_lu_unpack(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    a = rng.standard_normal(shape)
    factors = rb.linalg.lu_factor(rb.asarray(a))
    p, lower, upper = rb.lu_unpack(*factors)
    for found, wanted in zip((p, lower, upper), rb.linalg.lu(rb.asarray(a)), strict=True):
        assert np.array_equal(found.numpy(), wanted.numpy())
    np.testing.assert_allclose((p @ lower @ upper).numpy(), a, rtol=1e-9, atol=1e-12)
    assert rb.lu_unpack(*factors, unpack_data=False).L.shape == (0,)
    assert rb.lu_unpack(*factors, unpack_pivots=False).P.shape == (0,)
    with pytest.raises(rb.ShapeError, match="one for each of"):
        rb.lu_unpack(factors.LU, factors.pivots[..., :-1])


@pytest.mark.parametrize(("m", "n"), [(4, 4), (6, 3), (1, 1), (5, 2)])
def test_householder_product_of_lapacks(rng: np.random.Generator, m: int, n: int) -> None:
    for a in (rng.standard_normal((m, n)), rng.standard_normal((m, n)) + 1j):
        (packed, tau), _ = linalg.qr(a, mode="raw")
        wanted = linalg.qr(a, mode="economic")[0]
        given = [rb.asarray(np.ascontiguousarray(v)) for v in (packed, tau)]
        found = rb.linalg.householder_product(*given)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-12)
        if n > 1:  # fewer reflections than columns
            few = rb.linalg.householder_product(given[0], given[1][: n - 1]).numpy()
            one = np.eye(m, n, dtype=a.dtype)
            for k in reversed(range(n - 1)):
                v = np.concatenate([np.zeros(k), [1], packed[k + 1 :, k]])
                one = one - tau[k] * np.outer(v, v.conj() @ one)
            np.testing.assert_allclose(few, one, rtol=1e-9, atol=1e-12)


def test_householder_products_errors_and_gradient(rng: np.random.Generator) -> None:
    with pytest.raises(rb.ShapeError, match="k <= n <= m"):
        rb.linalg.householder_product(rb.ones((2, 3)), rb.ones(2))
    with pytest.raises(rb.ShapeError, match="they must be"):
        rb.linalg.householder_product(rb.ones((2, 3, 2)), rb.ones(2))
    a, tau = rb.asarray(rng.standard_normal((4, 3))), rb.asarray(rng.standard_normal(3))
    weight = rb.asarray(rng.standard_normal((4, 3)))

    def total(t: Any) -> Any:
        return (rb.linalg.householder_product(a, t) * weight).sum()

    slope = rb.grad(total)(tau).numpy()
    for i in range(3):
        step = rb.asarray(np.eye(3)[i] * 1e-6)
        assert slope[i] == pytest.approx(
            (total(tau + step) - total(tau - step)).item() / 2e-6, rel=1e-6
        )
