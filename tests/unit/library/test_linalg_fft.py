"""rb.linalg and rb.fft: against NumPy, in every dtype, with gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import rabbet as rb

DTYPES = ["float32", "float64", "complex64", "complex128"]


def matrices(
    rng: np.random.Generator, dtype: str, shape: tuple[int, ...] = (2, 4, 4)
) -> np.ndarray:
    x = rng.uniform(-0.5, 0.5, shape) + np.eye(shape[-1]) * (1 + np.arange(shape[-1]))
    return (x + (0.3j * rng.uniform(-1, 1, shape) if "complex" in dtype else 0)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_linalg_agrees_with_numpy(dtype: str, rng: np.random.Generator) -> None:
    a, b = matrices(rng, dtype), matrices(rng, dtype)[..., :2]
    h = a @ np.conj(a.swapaxes(-1, -2))
    x, y, z = rb.asarray(a), rb.asarray(b), rb.asarray(h)
    la, npl = rb.linalg, np.linalg
    pairs = [
        *((la.solve(x, y), npl.solve(a, b)), (la.inv(x), npl.inv(a)), (la.det(x), npl.det(a))),
        *((la.cholesky(z), npl.cholesky(h)), (la.eigvalsh(z), npl.eigvalsh(h))),
        *((la.slogdet(x).sign, npl.slogdet(a)[0]), (la.slogdet(x).logabsdet, npl.slogdet(a)[1])),
        *((la.matrix_power(x, 3), a @ a @ a), (la.matrix_power(x, -2), npl.matrix_power(a, -2))),
        *((la.trace(x), np.trace(a, axis1=-2, axis2=-1)), (la.diagonal(x)[0], np.diagonal(a[0]))),
        *((la.vector_norm(x[0, 0], ord=p), npl.norm(a[0, 0], p)) for p in (0, 1, 2, 3, np.inf)),
        *(
            (la.matrix_norm(x[0], ord=p), npl.norm(a[0], p))
            for p in ("fro", 1, -1, np.inf, -np.inf)
        ),
    ]
    tolerance = float(np.finfo(dtype).eps) * 300
    for number, (found, wanted) in enumerate(pairs):
        np.testing.assert_allclose(found.numpy(), wanted, tolerance, tolerance, err_msg=f"{number}")
    values, vectors = la.eigh(z)
    rebuilt = (vectors.numpy() * values.numpy()[..., None, :]) @ np.conj(
        vectors.numpy().swapaxes(-1, -2)
    )
    np.testing.assert_allclose(rebuilt, h, tolerance, tolerance)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("single", [True, False])
def test_fft_agrees_with_numpy(norm: str, single: bool, rng: np.random.Generator) -> None:
    a = rng.random((3, 4, 6)).astype(np.float32 if single else np.float64)
    c = (a + 1j * rng.random(a.shape)).astype(np.complex64 if single else np.complex128)
    x, z, f = rb.asarray(a), rb.asarray(c), rb.fft
    tolerance = 1e-5 if single else 1e-12
    for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
        real = name in ("rfft", "ihfft")
        for n, axis in ((None, -1), (5, 1), (9, 2)):
            found = getattr(f, name)(x if real else z, n=n, axis=axis, norm=norm)
            wanted = getattr(np.fft, name)(a if real else c, n, axis, norm)
            np.testing.assert_allclose(found.numpy(), wanted, tolerance, tolerance, err_msg=name)
            assert found.numpy().itemsize == (4 if single else 8) * (1 + (found.dtype.kind == "c"))
    for name in ("fftn", "ifftn", "rfftn", "irfftn"):
        for s, axes in ((None, None), ((3, 5), (0, 2)), (None, (1, 2))):
            found = getattr(f, name)(x if name == "rfftn" else z, s=s, axes=axes, norm=norm)
            wanted = getattr(np.fft, name)(a if name == "rfftn" else c, s, axes, norm)
            np.testing.assert_allclose(found.numpy(), wanted, tolerance, tolerance, err_msg=name)
    np.testing.assert_array_equal(f.fftshift(x).numpy(), np.fft.fftshift(a))
    np.testing.assert_array_equal(f.ifftshift(x, axes=1).numpy(), np.fft.ifftshift(a, 1))
    np.testing.assert_allclose(f.fftfreq(5, d=0.5).numpy(), np.fft.fftfreq(5, 0.5), 1e-6)
    np.testing.assert_allclose(f.rfftfreq(6).numpy(), np.fft.rfftfreq(6), 1e-6)


FUNCTIONS: dict[str, Callable[[rb.Tensor], rb.Tensor]] = {
    "solve": lambda x: rb.linalg.solve(x, x[..., :2] * 2.0),
    "inv": lambda x: rb.linalg.inv(x),
    "det": lambda x: rb.linalg.det(x),
    "slogdet": lambda x: rb.linalg.slogdet(x).logabsdet,
    "cholesky": lambda x: rb.linalg.cholesky(x @ rb.conj(x.mT)),
    "eigvalsh": lambda x: rb.linalg.eigvalsh(x @ rb.conj(x.mT)),
    "eigh": lambda x: rb.abs(rb.linalg.eigh(x @ rb.conj(x.mT)).eigenvectors),
    "fft": lambda x: rb.fft.fft(x, n=5),
    "ifft": lambda x: rb.fft.ifft(x, n=3, axis=1),
    "irfft": lambda x: rb.fft.irfft(x, n=6),
    "irfft odd": lambda x: rb.fft.irfft(x, n=5, norm="ortho"),
    "rfft": lambda x: rb.fft.rfft(rb.real(x), n=5),
    "rfft even": lambda x: rb.fft.rfft(rb.imag(x) + rb.real(x), norm="forward"),
}


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str, dtype: str, rng: np.random.Generator) -> None:
    """dL = Re(conj(g) dx) against finite differences."""
    a, function = matrices(rng, dtype), FUNCTIONS[name]
    weights = rng.random(function(rb.asarray(a)).shape) + 1j * rng.random(())

    def loss(x: rb.Tensor) -> rb.Tensor:
        return rb.real(function(x) * rb.asarray(weights)).sum()

    g = rb.grad(loss)(rb.asarray(a)).numpy()
    direction, step = matrices(rng, dtype), 1e-6
    up, down = (loss(rb.asarray(a + s * step * direction)).item() for s in (1, -1))
    exact = float(np.sum((np.conj(g) * direction).real))
    assert g.dtype == a.dtype
    assert abs((up - down) / (2 * step) - exact) <= 1e-6 * (1 + abs(exact) + float(np.abs(g).sum()))


# ---- singular values and QR ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 4, 4), (5, 3), (3, 5), (0, 3), (2, 0, 3)])
def test_svd_and_qr_take_matrices_apart(
    dtype: str, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    a = (rng.normal(size=shape) + (1j * rng.normal(size=shape) if "c" in dtype else 0)).astype(
        dtype
    )
    x, tolerance = rb.asarray(a), float(np.finfo(dtype).eps) * 100
    m, n = shape[-2:]
    for full in (False, True):
        u, s, vh = rb.linalg.svd(x, full_matrices=full)
        assert s.dtype.name == ("float32" if dtype in ("float32", "complex64") else "float64")
        k = min(m, n)
        assert u.shape[-1] == (m if full else k) and vh.shape[-2] == (n if full else k)
        rebuilt = (u.numpy()[..., :k] * s.numpy()[..., None, :]) @ vh.numpy()[..., :k, :]
        np.testing.assert_allclose(rebuilt, a, tolerance, tolerance)
    np.testing.assert_allclose(rb.linalg.svdvals(x).numpy(), s.numpy())
    for mode in ("reduced", "complete"):
        q, r = rb.linalg.qr(x, mode=mode)
        np.testing.assert_allclose(q.numpy() @ r.numpy(), a, tolerance, tolerance)
        assert q.shape[-1] == (m if mode == "complete" else min(m, n))
    np.testing.assert_allclose(
        rb.linalg.pinv(x).numpy(), np.linalg.pinv(a), tolerance * 100, tolerance * 100
    )
    np.testing.assert_array_equal(rb.linalg.matrix_rank(x).numpy(), np.linalg.matrix_rank(a))


def test_rank_of_what_has_less(rng: np.random.Generator) -> None:
    a = rng.normal(size=(3, 5, 2)) @ rng.normal(size=(3, 2, 4))
    assert rb.linalg.matrix_rank(rb.asarray(a)).tolist() == [2, 2, 2]
    assert rb.linalg.matrix_rank(rb.asarray(a), rtol=10.0).tolist() == [0, 0, 0]
    found = rb.linalg.pinv(rb.asarray(a)).numpy()
    np.testing.assert_allclose(found, np.linalg.pinv(a), 1e-10, 1e-10)


def test_norms_of_singular_values_and_cross(rng: np.random.Generator) -> None:
    a = rng.normal(size=(2, 4, 3))
    for p in (2, -2, "nuc"):
        found = rb.linalg.matrix_norm(rb.asarray(a), ord=p, keepdims=True).numpy()
        np.testing.assert_allclose(found, np.linalg.norm(a, p, (-2, -1), keepdims=True))
    with pytest.raises(ValueError, match="no norm is called 3"):
        rb.linalg.matrix_norm(rb.asarray(a), ord=3)
    b = rng.normal(size=(4, 3))
    np.testing.assert_allclose(
        rb.linalg.cross(rb.asarray(a), rb.asarray(b)).numpy(), np.cross(a, b)
    )
    with pytest.raises(rb.ShapeError, match="has not 3 elements"):
        rb.linalg.cross(rb.asarray(a), rb.asarray(b), axis=0)


def test_gradients_that_are_not_there_say_so() -> None:
    z = rb.tensor(np.eye(2) + 1j, requires_grad=True)
    with pytest.raises(rb.GradientError, match="U and Vh of complex matrices"):
        abs(rb.linalg.svd(z, full_matrices=False).U).sum().backward()
    abs(rb.linalg.svdvals(z)).sum().backward()
    assert z.grad is not None and z.grad.dtype == rb.complex128
    wide = rb.tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(rb.GradientError, match="tall matrices"):
        rb.linalg.qr(wide).R.sum().backward()


def test_sizes_of_the_other_kind_get_their_own_program(rng: np.random.Generator) -> None:
    """Tall and wide matrices differ in the answer to a question about their sizes."""
    for m, n in ((6, 2), (7, 3), (3, 7), (2, 6), (9, 4)):
        q, r = rb.linalg.qr(rb.asarray(rng.normal(size=(m, n))))
        assert q.numpy().shape == (m, min(m, n)) and r.numpy().shape == (min(m, n), n)
