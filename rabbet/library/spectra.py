"""Windows, and the Fourier transform of short pieces of a signal and its inverse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet import fft
from rabbet.base import dtypes
from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import DTypeError, RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.library.placing import index_add
from rabbet.tensor.create import arange, ones
from rabbet.tensor.lift import functions
from rabbet.tensor.tensor import Tensor, as_operand, check_device, from_numpy

# ---- windows -------------------------------------------------------------------------------------


def _window(name: str, length: int, periodic: bool, rule: Any, dtype: Any, device: Any) -> Tensor:
    """`rule` of `length` places from 0 to 1; without the last of one more if `periodic`."""
    check_device(device)
    kind = dtype_of(dtype or dtypes.default_float)
    if kind.kind != "f":
        raise DTypeError(f"{name}: a window cannot be {kind.name}; a floating dtype is needed")
    if length < 0:
        raise ShapeError(f"{name}: window_length={length} must be 0 or more")
    places = np.arange(length) / max(length - (not periodic), 1)
    values = np.ones(1) if length == 1 else rule(places)
    return from_numpy(values.astype(kind.numpy))


def _cosines(*weights: float) -> Any:
    """sum of (-1)^k weights[k] cos(2 pi k x)"""
    return lambda x: sum((-1) ** k * w * np.cos(2 * math.pi * k * x) for k, w in enumerate(weights))


def hann_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Half a cosine's period, raised: 0.5 - 0.5 cos(2 pi k / n), n one less unless `periodic`.

    A periodic window is for spectra, a symmetric one for filters (F. Harris, "On the use of windows
    for harmonic analysis with the discrete Fourier transform", 1978). Float32 unless told.

    >>> rb.hann_window(4)
    tensor([0. , 0.5, 1. , 0.5])
    """
    rule = _cosines(0.5, 0.5)
    return _window("hann_window", window_length, periodic, rule, dtype, device)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """alpha - beta cos(2 pi k / n), as `hann_window`.

    >>> rb.hamming_window(4, alpha=0.5, beta=0.5)
    tensor([0. , 0.5, 1. , 0.5])
    """
    rule = _cosines(alpha, beta)
    return _window("hamming_window", window_length, periodic, rule, dtype, device)


def blackman_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """0.42 - 0.5 cos(2 pi k / n) + 0.08 cos(4 pi k / n), as `hann_window`.

    >>> [round(v, 2) for v in rb.blackman_window(4).tolist()]
    [-0.0, 0.34, 1.0, 0.34]
    """
    rule = _cosines(0.42, 0.5, 0.08)
    return _window("blackman_window", window_length, periodic, rule, dtype, device)


def bartlett_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """A triangle from 0 to 1 and back, as `hann_window`.

    >>> rb.bartlett_window(4)
    tensor([0. , 0.5, 1. , 0.5])
    """

    def rule(x: Any) -> Any:
        return 1 - abs(2 * x - 1)

    return _window("bartlett_window", window_length, periodic, rule, dtype, device)


def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """I0(beta sqrt(1 - (2 k / n - 1)^2)) / I0(beta), as `hann_window` (J. Kaiser, 1974).

    >>> rb.kaiser_window(4, beta=0.0)
    tensor([1., 1., 1., 1.])
    """

    def rule(x: Any) -> Any:
        return np.i0(beta * np.sqrt(np.maximum(1 - (2 * x - 1) ** 2, 0))) / np.i0(beta)

    return _window("kaiser_window", window_length, periodic, rule, dtype, device)


# ---- short pieces --------------------------------------------------------------------------------


def _whole_window(
    name: str, like: Tensor, n_fft: int, win_length: int | None, window: Any
) -> Tensor:
    """The window with zeros around it to `n_fft` points."""
    length = n_fft if win_length is None else win_length
    if not 0 < length <= n_fft:
        raise RabbetError(f"{name}: win_length={length} must be between 1 and n_fft={n_fft}")
    found = ones((length,), dtype=like.dtype) if window is None else as_operand(window)
    if found.shape != (length,):
        raise ShapeError(f"{name}: the window has shape {show(found.shape)}, not ({length},)")
    before = (n_fft - length) // 2
    return functions["pad"](found, (before,), (n_fft - length - before,), (0,))


def stft(
    x: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool = True,
) -> Tensor:
    """Spectra of a signal's pieces: (..., samples) -> complex (..., frequencies, pieces).

    Pieces of `n_fft` samples, times the window, every `hop_length` samples (a quarter of n_fft if
    left out). `center`: piece k lies around sample k * hop_length, with the signal continued by
    `pad_mode`. `normalized` divides by sqrt(n_fft). `onesided` (for real signals) leaves out the
    frequencies that mirror others. Raises ShapeError for a signal that is too short.

    >>> rb.stft(rb.ones(16), 4, 2, window=rb.hann_window(4)).shape
    (3, 9)
    """
    t = as_operand(x)
    if not return_complex:
        raise RabbetError("stft: the result is complex; write rb.view_as_real(rb.stft(...))")
    hop = n_fft // 4 if hop_length is None else hop_length
    if n_fft < 1 or hop < 1:
        raise RabbetError(f"stft: n_fft={n_fft} and hop_length={hop} must be 1 or more")
    if not t.ndim or t.dtype.kind not in "fc":
        raise ShapeError(f"stft: {t.dtype.name} {show(t.shape)} is no signal of floats")
    form = _whole_window("stft", t, n_fft, win_length, window)
    if center:
        t = _continued(t, n_fft // 2, pad_mode)
    if t.shape[-1] < n_fft:
        raise ShapeError(f"stft: {t.shape[-1]} samples are less than a piece of n_fft={n_fft}")
    places = arange(0, t.shape[-1] - n_fft + 1, hop)[:, None] + arange(n_fft)
    pieces = functions["take"](t, places, t.ndim - 1) * form
    is_complex = pieces.dtype.kind == "c"
    if is_complex and onesided:
        raise RabbetError("stft: complex signals have both sides; leave onesided out")
    one = onesided is not False and not is_complex
    norm = "ortho" if normalized else "backward"
    found = (fft.rfft if one else fft.fft)(pieces, norm=norm)
    return functions["swapaxes"](found, -1, -2)


def _continued(t: Tensor, n: int, mode: str) -> Tensor:
    none, more = (0,) * (t.ndim - 1), (n,)
    if mode == "constant":
        return functions["pad"](t, (*none, *more), (*none, *more), (*none, 0))
    return functions["pad_border"](t, (*none, *more), (*none, *more), mode)


def istft(
    x: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal of least squares distance to the pieces' spectra, the inverse of `stft`.

    (..., frequencies, pieces) -> (..., samples), `length` of them. Pieces are added times the
    window, and divided by the sum of its squares there (D. Griffin, J. Lim, "Signal estimation
    from modified short-time Fourier transform", 1984); RabbetError, when computed, where that is 0.

    >>> signal = rb.sin(rb.arange(32) * 0.3)
    >>> again = rb.istft(rb.stft(signal, 8), 8)
    >>> bool(rb.allclose(signal, again, atol=1e-6))
    True
    """
    spectra = as_operand(x)
    hop = n_fft // 4 if hop_length is None else hop_length
    one = onesided is not False and not return_complex
    wanted = n_fft // 2 + 1 if one else n_fft
    if spectra.ndim < 2 or spectra.shape[-2] != wanted or hop < 1:
        raise ShapeError(
            f"istft: {show(spectra.shape)} must be (..., {wanted}, pieces), and hop_length >= 1"
        )
    pieces = functions["swapaxes"](spectra, -1, -2)
    norm = "ortho" if normalized else "backward"
    parts = fft.irfft(pieces, n=n_fft, norm=norm) if one else fft.ifft(pieces, norm=norm)
    parts = parts if return_complex or one else functions["real"](parts)
    like = parts if parts.dtype.kind == "f" else functions["real"](parts)
    form = _whole_window("istft", like, n_fft, win_length, window)
    count = parts.shape[-2]
    squares = functions["expand"](form * form, (count, n_fft))
    first = n_fft // 2 if center else 0
    end = (count - 1) * hop + n_fft
    last = min(end, end - first if length is None else first + length)
    sums = functions["covered"](_overlapped(squares, hop)[first:last])
    signal = _overlapped(parts * form, hop)[..., first:last] / sums
    missing = 0 if length is None else length - (last - first)
    if missing > 0:
        none = (0,) * signal.ndim
        signal = functions["pad"](signal, none, (*none[1:], missing), none)
    return signal


def _overlapped(parts: Tensor, hop: int) -> Tensor:
    """(..., pieces, n) added where they lie, each `hop` behind the one before."""
    count, n = parts.shape[-2:]
    lead = parts.shape[:-2]
    places = (arange(count)[:, None] * hop + arange(n)).reshape((count * n,))
    flat = parts.reshape((math.prod(lead), count * n))
    start = functions["zeros_like"](flat[:, :1])
    base = functions["expand"](start, (flat.shape[0], (count - 1) * hop + n))
    return index_add(base, 1, places, flat).reshape((*lead, base.shape[1]))


METHODS: dict[str, Any] = {"stft": stft, "istft": istft}

__all__ = [
    *("bartlett_window", "blackman_window", "hamming_window", "hann_window", "istft"),
    *("kaiser_window", "stft"),
]
