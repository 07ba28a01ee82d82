"""Windows against SciPy's; stft against its definition, istft as its inverse; gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import signal

import rabbet as rb
from rabbet.base.errors import DTypeError, RabbetError, ShapeError


@pytest.mark.parametrize("length", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("name", "like"),
    [
        *(("hann", "hann"), ("hamming", "hamming"), ("blackman", "blackman")),
        *(("bartlett", "bartlett"), ("kaiser", ("kaiser", 12.0))),
    ],
)
def test_windows_are_scipys(name: str, like: Any, periodic: bool, length: int) -> None:
    found = getattr(rb, f"{name}_window")(length, periodic, dtype=rb.float64)
    wanted = signal.get_window(like, length, fftbins=periodic) if length else np.zeros(0)
    np.testing.assert_allclose(found.numpy(), wanted, 1e-12, 1e-14)
    assert getattr(rb, f"{name}_window")(3).dtype is rb.float32


def pieces(x: np.ndarray, n: int, hop: int, form: np.ndarray, mode: str | None) -> np.ndarray:
    if mode:
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(n // 2, n // 2)], mode=mode)  # type: ignore[call-overload]
    starts = range(0, x.shape[-1] - n + 1, hop)
    return np.stack([x[..., k : k + n] * form for k in starts], -2)


@pytest.mark.parametrize(
    ("n", "hop", "length", "mode", "normalized", "onesided"),
    [
        (8, 2, 8, "reflect", False, None),
        (8, 3, 5, "constant", True, False),
        (7, 2, 7, None, True, True),
        (6, 3, 4, "reflect", False, None),
    ],
)
def test_spectra_and_back(
    rng: np.random.Generator,
    n: int,
    hop: int,
    length: int,
    mode: str | None,
    normalized: bool,
    onesided: Any,
) -> None:
    x = rng.normal(size=(2, 3, 40))
    window = rng.uniform(0.5, 1.0, length)
    before = (n - length) // 2
    form = np.pad(window, (before, n - length - before))
    how = dict(center=mode is not None, normalized=normalized, onesided=onesided)
    found = rb.stft(x, n, hop, length, rb.asarray(window), pad_mode=mode or "reflect", **how)
    transform = np.fft.fft if onesided is False else np.fft.rfft
    cut = pieces(x, n, hop, form, mode)
    wanted = np.swapaxes(transform(cut, norm="ortho" if normalized else "backward"), -1, -2)
    np.testing.assert_allclose(found.numpy(), wanted, 1e-10, 1e-12)
    if length >= hop:
        again = rb.istft(found, n, hop, length, rb.asarray(window), **how).numpy()
        inside = slice(before, again.shape[-1] - n)  # elsewhere there may be no window
        np.testing.assert_allclose(again[..., inside], x[..., inside], 1e-8, 1e-9)
        assert rb.istft(found, n, hop, length, rb.asarray(window), **how, length=60).shape[-1] == 60


def test_complex_signals_and_gradients(rng: np.random.Generator) -> None:
    x = rng.normal(size=24) + 1j * rng.normal(size=24)
    window = rb.hann_window(8, dtype=rb.float64)
    spectra = rb.stft(x, 8, 2, window=window)
    assert spectra.shape == (8, 13)
    again = rb.istft(spectra, 8, 2, window=window, return_complex=True)
    np.testing.assert_allclose(again.numpy(), x, 1e-9, 1e-10)

    def power(x: rb.Tensor, w: rb.Tensor) -> rb.Tensor:
        s = rb.stft(x, 8, 4, window=w)
        return (rb.abs(s) ** 2).sum() + (rb.istft(s, 8, 4, window=w + 1) ** 3).sum()

    at = (rb.asarray(rng.normal(size=16)), rb.asarray(rng.uniform(0.5, 1.0, 8)))
    way = (rb.asarray(rng.normal(size=16)), rb.asarray(rng.normal(size=8)))
    slopes = rb.grad(power, argnums=(0, 1))(*at)
    exact = sum((s * w).sum().item() for s, w in zip(slopes, way, strict=True))
    ends = [power(*(a + w * h for a, w in zip(at, way, strict=True))).item() for h in (1e-6, -1e-6)]
    assert abs(exact - (ends[0] - ends[1]) / 2e-6) < 1e-6 * (1 + abs(exact))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(DTypeError, match="hann_window"):
        rb.hann_window(4, dtype=rb.int32)
    with pytest.raises(ShapeError, match="less than a piece"):
        rb.stft(np.ones(3), 8, center=False)
    with pytest.raises(ShapeError, match=r"not \(8,\)"):
        rb.stft(np.ones(30), 8, window=rb.ones(4))
    with pytest.raises(RabbetError, match="view_as_real"):
        rb.stft(np.ones(30), 8, return_complex=False)
    with pytest.raises(ShapeError, match="pieces"):
        rb.istft(np.ones((4, 3)), 8)


def test_samples_that_no_window_covers_are_an_error() -> None:
    spectra = rb.stft(rb.ones(32), 8, 8, window=rb.hann_window(8))
    with pytest.raises(RabbetError, match="squares add up to 0 at sample 4"):
        rb.istft(spectra, 8, 8, window=rb.hann_window(8)).numpy()
    spectra = rb.stft(rb.ones(32), 8, 2, window=rb.hann_window(8)).detach().requires_grad_()
    rb.istft(spectra, 8, 2, window=rb.hann_window(8)).sum().backward()
    assert bool(rb.isfinite(rb.abs(spectra.grad)).all())  # also beside samples that are cut off


def test_positions_where_a_condition_holds() -> None:
    found = rb.where(rb.asarray([[0, 2], [3, 0]]))
    assert [p.tolist() for p in found] == [[0, 1], [1, 0]]
    assert rb.where(rb.asarray([True, False]), x1=1, x2=0).tolist() == [1, 0]
    with pytest.raises(TypeError, match="the other are needed too"):
        rb.where(rb.asarray([True]), 1.0)
