"""rb.fft: the array API's discrete Fourier transforms, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rabbet.base import dtypes
from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.graph.value import lookup
from rabbet.ops.complex import whole_of
from rabbet.tensor.lift import functions
from rabbet.tensor.tensor import Tensor, as_operand, check_device, from_numpy


def _given(name: str, x: Any, real: bool) -> Tensor:
    t = as_operand(x)
    if t.dtype.kind in "biu":
        t = t.astype(dtypes.default_float)
    if real and t.dtype.kind == "c":
        raise DTypeError(f"{name}: takes real numbers, not {t.dtype.name}")
    return t if real or t.dtype.kind == "c" else t.astype(whole_of(t.dtype))


def _along(op: str, t: Tensor, n: int | None, axis: int, norm: str) -> Any:
    return lookup(op)(t, t.shape[axis] if n is None else n, axis, norm)


def fft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The discrete Fourier transform along one axis, cut or filled with zeros to `n` points.

    >>> rb.fft.fft(rb.asarray([1.0, 0.0])).tolist()
    [(1+0j), (1+0j)]
    """
    return _along("fft_along", _given("fft", x, False), n, axis, norm)


def ifft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `fft`."""
    return _along("ifft_along", _given("ifft", x, False), n, axis, norm)


def rfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The first n // 2 + 1 points of the transform of real numbers (the others mirror them)."""
    return _along("rfft_along", _given("rfft", x, True), n, axis, norm)


def irfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `rfft`: `n` real numbers (2 (m - 1) of m points if left out)."""
    t = _given("irfft", x, False)
    return _along("irfft_along", t, 2 * (t.shape[axis] - 1) if n is None else n, axis, norm)


def hfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The transform of numbers that mirror themselves: real results."""
    t = functions["conj"](_given("hfft", x, False))
    return irfft(t, n=n, axis=axis, norm=_turned(norm))


def ihfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `hfft`."""
    return functions["conj"](rfft(x, n=n, axis=axis, norm=_turned(norm)))


def _turned(norm: str) -> str:
    return {"backward": "forward", "forward": "backward"}.get(norm, norm)


Axes = Sequence[int] | None


def _plan(name: str, t: Tensor, s: Axes, axes: Axes) -> list[tuple[int | None, int]]:
    """(points, axis) of each transform; None points (the standard's -1) are those there are."""
    if axes is None:
        axes = range(t.ndim) if s is None else range(t.ndim - len(s), t.ndim)
    if s is not None and len(s) != len(axes):
        raise ShapeError(f"{name}: {len(s)} sizes for {len(axes)} axes")
    sizes = [None] * len(axes) if s is None else [None if n == -1 else n for n in s]
    return list(zip(sizes, axes, strict=True))


def _each(op: str, t: Tensor, plan: list[tuple[int | None, int]], norm: str) -> Tensor:
    for n, axis in plan:
        t = _along(op, t, n, axis, norm)
    return t


def fftn(x: Any, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Tensor:
    """`fft` along several axes (all of them if left out)."""
    t = _given("fftn", x, False)
    return _each("fft_along", t, _plan("fftn", t, s, axes), norm)


def ifftn(x: Any, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Tensor:
    """The inverse of `fftn`."""
    t = _given("ifftn", x, False)
    return _each("ifft_along", t, _plan("ifftn", t, s, axes), norm)


def rfftn(x: Any, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Tensor:
    """`rfft` along the last of the axes, `fft` along the others."""
    t = _given("rfftn", x, True)
    *others, (n, axis) = _plan("rfftn", t, s, axes)
    return _each("fft_along", rfft(t, n=n, axis=axis, norm=norm), others, norm)


def irfftn(x: Any, /, *, s: Axes = None, axes: Axes = None, norm: str = "backward") -> Tensor:
    """The inverse of `rfftn`."""
    t = _given("irfftn", x, False)
    *others, (n, axis) = _plan("irfftn", t, s, axes)
    return irfft(_each("ifft_along", t, others, norm), n=n, axis=axis, norm=norm)


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies that the points of `fft` stand for, for samples `d` apart."""
    check_device(device)
    return from_numpy(np.fft.fftfreq(n, d).astype(dtype_of(dtype or dtypes.default_float).numpy))


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies that the points of `rfft` stand for."""
    check_device(device)
    return from_numpy(np.fft.rfftfreq(n, d).astype(dtype_of(dtype or dtypes.default_float).numpy))


def _shifted(x: Any, axes: int | Axes, inverse: bool) -> Tensor:
    t = as_operand(x)
    chosen = range(t.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
    for axis in chosen:
        n = t.shape[axis]
        t = functions["roll"](t, -(n // 2) if inverse else n // 2, axis)
    return t


def fftshift(x: Any, /, *, axes: int | Axes = None) -> Tensor:
    """Frequency 0 moved to the middle."""
    return _shifted(x, axes, False)


def ifftshift(x: Any, /, *, axes: int | Axes = None) -> Tensor:
    """The inverse of `fftshift`."""
    return _shifted(x, axes, True)
