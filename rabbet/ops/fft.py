"""Discrete Fourier transforms by NumPy's pocketfft, as host ops over one axis.

Several axes are several transforms. `norm` is "backward" (the inverse divides by n), "ortho" (both
divide by its root) or "forward"; gradients are transforms again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base.dtypes import int64
from rabbet.base.errors import DTypeError, RabbetError, ShapeError
from rabbet.base.shapes import axis_of
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import COMPLEX, FLOATS, Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.complex import part_of, real, whole_of

NORMS = ("backward", "ortho", "forward")
OPPOSITE = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _check(name: str, x: Spec, n: Any, axis: int, norm: str, kinds: str) -> int:
    if x.dtype.kind not in kinds:
        wanted = {"c": "complex numbers", "f": "real floating numbers"}[kinds]
        raise DTypeError(f"{name}: takes {wanted}, not {x.dtype.name}")
    if norm not in NORMS:
        raise ValueError(f"{name}: norm is one of {', '.join(NORMS)}, not {norm!r}")
    if isinstance(n, int) and n < 1:
        raise ShapeError(f"{name}: a transform of {n} points does not exist")
    return axis_of(name, axis, x.ndim)


def _resized(x: Spec, at: int, size: Dim) -> Spec:
    return x.with_shape((*x.shape[:at], size, *x.shape[at + 1 :]))


def _complex_spec(name: str) -> Callable[..., Spec]:
    def infer(x: Spec, n: Dim, axis: int, norm: str) -> Spec:
        return _resized(x, _check(name, x, n, axis, norm, "c"), n)

    return infer


def _real_spec(x: Spec, n: Dim, axis: int, norm: str) -> Spec:
    at = _check("rfft", x, n, axis, norm, "f")
    return _resized(x, at, n // 2 + 1).with_dtype(whole_of(x.dtype))


def _back_spec(x: Spec, n: Dim, axis: int, norm: str) -> Spec:
    return _resized(x, _check("irfft", x, n, axis, norm, "c"), n).with_dtype(part_of(x.dtype))


def _samples(dtypes: tuple[str, ...], *cases: tuple[tuple[int, ...], int, int]) -> Any:
    return lambda: [
        Sample((Draw(shape),), {"n": n, "axis": axis, "norm": norm}, dtypes, grad=False)
        for shape, n, axis in cases
        for norm in NORMS
    ]


_CASES = (((6,), 6, 0), ((2, 5), 5, 1), ((4, 3), 6, 0), ((2, 6, 3), 4, 1), ((1,), 1, 0))


def _matrix(x: np.ndarray, n: int, axis: int, norm: str, sign: int) -> np.ndarray:
    """The definition: sums of x[k] exp(sign 2 pi i j k / n), in double precision."""
    at = axis % x.ndim
    moved = np.moveaxis(x, at, -1)[..., :n]
    moved = np.concatenate([moved, np.zeros((*moved.shape[:-1], n - moved.shape[-1]))], -1)
    turns = np.exp(sign * 2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    divisor = {"ortho": n**0.5, "backward": 1 if sign < 0 else n, "forward": n if sign < 0 else 1}
    return np.moveaxis(moved @ turns / divisor[norm], -1, at)


@op(
    "host",
    public=False,
    sizes=("n",),
    infer=_complex_spec("fft"),
    lower=np.fft.fft,
    reference=lambda x, n, axis, norm: _matrix(x, n, axis, norm, -1),
    samples=_samples(COMPLEX, *_CASES),
    onnx="DFT",
)
def fft_along(x: Value, n: Dim, axis: int, norm: str) -> Value:
    """The transform of `n` complex points along `axis`, cut or filled with zeros to `n` first."""


@op(
    "host",
    public=False,
    sizes=("n",),
    infer=_complex_spec("ifft"),
    lower=np.fft.ifft,
    reference=lambda x, n, axis, norm: _matrix(x, n, axis, norm, 1),
    samples=_samples(COMPLEX, *_CASES),
    onnx="DFT",
)
def ifft_along(x: Value, n: Dim, axis: int, norm: str) -> Value:
    """The inverse of `fft_along`."""


@op(
    "host",
    public=False,
    wirtinger=True,
    sizes=("n",),
    infer=_real_spec,
    lower=np.fft.rfft,
    reference=lambda x, n, axis, norm: np.take(
        _matrix(x, n, axis, norm, -1), np.arange(n // 2 + 1), axis
    ),
    samples=_samples(FLOATS, *_CASES),
    onnx="DFT",
)
def rfft_along(x: Value, n: Dim, axis: int, norm: str) -> Value:
    """The first half, n // 2 + 1 points, of the transform of real numbers."""


@op(
    "host",
    public=False,
    wirtinger=True,
    sizes=("n",),
    infer=_back_spec,
    lower=np.fft.irfft,
    reference=lambda x, n, axis, norm: np.fft.irfft(x.astype(np.complex128), n, axis, norm),
    samples=_samples(COMPLEX, *_CASES),
    onnx="DFT",
)
def irfft_along(x: Value, n: Dim, axis: int, norm: str) -> Value:
    """The inverse of `rfft_along`: `n` real numbers."""


def sized(x: Any, size: Dim, axis: int) -> Any:
    """`axis` cut, or filled with zeros behind, to `size`."""
    at, old = axis % x.ndim, x.shape[axis]
    if old == size:
        return x
    none = (0,) * x.ndim
    if old < size:
        after = tuple(size - old if a == at else 0 for a in range(x.ndim))
        return lookup("pad")(x, none, after, none, 0.0)
    stop = tuple(size if a == at else d for a, d in enumerate(x.shape))
    return lookup("slice")(x, none, stop, (1,) * x.ndim)


@fft_along.gradient
def _fft_gradient(g: Any, y: Any, x: Any, n: Dim, axis: int, norm: str) -> tuple[Any]:
    return (sized(fft_along(g, n, axis, norm), x.shape[axis], axis),)  # a symmetric matrix


@ifft_along.gradient
def _ifft_gradient(g: Any, y: Any, x: Any, n: Dim, axis: int, norm: str) -> tuple[Any]:
    return (sized(ifft_along(g, n, axis, norm), x.shape[axis], axis),)


@rfft_along.gradient
def _rfft_gradient(g: Any, y: Any, x: Any, n: Dim, axis: int, norm: str) -> tuple[Any]:
    # The adjoint: the points that were left out had no weight, then the transform turned round.
    found = real(ifft_along(sized(g, n, axis), n, axis, OPPOSITE[norm]))
    return (sized(found, x.shape[axis], axis),)


@irfft_along.gradient
def _irfft_gradient(g: Any, y: Any, x: Any, n: Dim, axis: int, norm: str) -> tuple[Any]:
    # Points but the first (and the middle one of an even n) stand for two; imaginary parts of
    # those that stand for one were not looked at.
    found = rfft_along(g, n, axis, OPPOSITE[norm])
    at = axis % x.ndim
    line = tuple(found.shape[at] if a == at else 1 for a in range(x.ndim))
    place = lookup("iota").like(g, line, at, int64)
    single = lookup("equal")(place, 0)
    if n % 2 == 0:
        last = lookup("extent").like(g, n // 2, int64)
        single = lookup("logical_or")(single, lookup("equal")(place, last))
    once = lookup("cast")(real(found), found.dtype)
    whole = lookup("where")(single, once, lookup("multiply")(found, 2.0))
    return (sized(whole, x.shape[at], at),)


# ---- pieces --------------------------------------------------------------------------------------


def _covered(x: np.ndarray) -> np.ndarray:
    bare = np.flatnonzero(x < 1e-11)
    if bare.size:
        raise RabbetError(
            f"istft: the window's squares add up to 0 at sample {bare[0]}, which no piece tells; "
            "take a smaller hop_length or another window"
        )
    return x


def _covered_spec(x: Spec) -> Spec:
    if x.dtype.kind != "f":
        raise DTypeError(f"istft: a window of {x.dtype.name}; real floating numbers are needed")
    return x


@op(
    "host",
    public=False,
    method=None,
    infer=_covered_spec,
    lower=_covered,
    reference=_covered,
    samples=lambda: [Sample((Draw((5,), 0.5, 2.0),)), Sample((Draw((2, 3), 0.5, 2.0),))],
)
def covered(x: Value) -> Value:
    """`x`, the sums of a window's squares at each sample; RabbetError, when computed, for a 0."""


@covered.gradient
def _covered_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (g,)
