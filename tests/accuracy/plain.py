"""Reverse mode over NumPy arrays, op by op in the arrays' own precision: what float32 costs.

Formulas of layers written with it have, in float32, the error of plain code, whose sums go in
order; in float64 they are the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

Array = np.ndarray
Pull = Callable[[Array], Array]
Shape = tuple[int, ...]


class Plain:
    """An array, and what sends its gradient back to those it came from."""

    __array_ufunc__ = None  # arrays leave arithmetic with a Plain to it

    def __init__(self, value: Array, *sources: tuple[Plain, Pull]) -> None:
        self.value, self.sources = value, sources
        self.grad = np.zeros_like(value)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def backward(self, start: Array) -> None:
        order: list[Plain] = []
        seen: set[int] = set()

        def visit(x: Plain) -> None:
            if id(x) not in seen:
                seen.add(id(x))
                for source, _ in x.sources:
                    visit(source)
                order.append(x)

        visit(self)
        self.grad = start
        for x in reversed(order):
            for source, pull in x.sources:
                source.grad = source.grad + pull(x.grad)

    def __add__(self, other: Any) -> Plain:
        o = self._like(other)
        return Plain(
            self.value + o.value,
            (self, lambda g: _summed(g, self.shape)),
            (o, lambda g: _summed(g, o.shape)),
        )

    def __mul__(self, other: Any) -> Plain:
        o = self._like(other)
        return Plain(
            self.value * o.value,
            (self, lambda g: _summed(g * o.value, self.shape)),
            (o, lambda g: _summed(g * self.value, o.shape)),
        )

    def __matmul__(self, o: Plain) -> Plain:
        return Plain(
            _product(self.value, o.value),
            (self, lambda g: _summed(_product(g, np.swapaxes(o.value, -1, -2)), self.shape)),
            (o, lambda g: _summed(_product(np.swapaxes(self.value, -1, -2), g), o.shape)),
        )

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Plain:
        return Plain(-self.value, (self, lambda g: -g))

    def __sub__(self, other: Any) -> Plain:
        return self + -self._like(other)

    def __rsub__(self, other: Any) -> Plain:
        return -self + other

    def __truediv__(self, other: Any) -> Plain:
        o = self._like(other)
        y = self.value / o.value
        return Plain(
            y,
            (self, lambda g: _summed(g / o.value, self.shape)),
            (o, lambda g: _summed(-g * y / o.value, o.shape)),
        )

    def __getitem__(self, index: Any) -> Plain:
        def pull(g: Array) -> Array:
            found = np.zeros_like(self.value)
            np.add.at(found, index, g)
            return found

        return Plain(self.value[index], (self, pull))

    def _like(self, other: Any) -> Plain:
        return other if isinstance(other, Plain) else Plain(np.asarray(other, self.value.dtype))

    def exp(self) -> Plain:
        y = np.exp(self.value)
        return Plain(y, (self, lambda g: g * y))

    def log(self) -> Plain:
        return Plain(np.log(self.value), (self, lambda g: g / self.value))

    def sqrt(self) -> Plain:
        y = np.sqrt(self.value)
        return Plain(y, (self, lambda g: g / (2 * y)))

    def tanh(self) -> Plain:
        y = np.tanh(self.value)
        return Plain(y, (self, lambda g: g * (1 - y * y)))

    def abs(self) -> Plain:
        return Plain(abs(self.value), (self, lambda g: g * np.sign(self.value)))

    def sigmoid(self) -> Plain:
        return (self * 0.5).tanh() * 0.5 + 0.5

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = True) -> Plain:
        axes = np.arange(self.value.ndim) if axis is None else axis
        axes = np.atleast_1d(axes) % self.value.ndim
        y = _total(self.value, tuple(axes.tolist()), keepdims)

        def pull(g: Array) -> Array:
            back = g if keepdims or axis is None else np.expand_dims(g, axis)
            return np.broadcast_to(back, self.shape)

        return Plain(np.asarray(y), (self, pull))

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = True) -> Plain:
        total = self.sum(axis, keepdims)
        return total * (total.value.size / self.value.size)

    def accumulate(self, axis: int) -> Plain:
        def pull(g: Array) -> Array:
            return np.flip(np.add.accumulate(np.flip(g, axis), axis), axis)

        return Plain(np.add.accumulate(self.value, axis), (self, pull))

    def reshape(self, *shape: int) -> Plain:
        return Plain(self.value.reshape(shape), (self, lambda g: g.reshape(self.shape)))

    def permute(self, *axes: int) -> Plain:
        return Plain(
            self.value.transpose(axes), (self, lambda g: g.transpose(np.argsort(axes).tolist()))
        )

    @property
    def T(self) -> Plain:
        return self.permute(1, 0)

    def largest(self, axis: int) -> Array:
        """A shift of an exponent: no gradient."""
        return self.value.max(axis, keepdims=True)


def _summed(g: Array, shape: tuple[int, ...]) -> Array:
    """A gradient of a broadcast operand."""
    if g.shape == shape:
        return g
    g = _total(g, tuple(range(g.ndim - len(shape))), False)
    axes = tuple(n for n, (a, b) in enumerate(zip(g.shape, shape, strict=True)) if a != b)
    return _total(g, axes, True)


def _total(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """A sum, one number after the other."""
    kept = [n for n in range(x.ndim) if n not in axes]
    rows = x.transpose(*kept, *axes).reshape(*(x.shape[n] for n in kept), -1)
    found = np.add.accumulate(rows, -1)[..., -1]
    return np.expand_dims(found, axes) if keepdims else found


def _product(a: Array, b: Array) -> Array:
    """A matrix product, one term after the other."""
    if a.dtype == np.float64:
        return a @ b
    terms = (a[..., :, k : k + 1] * b[..., k : k + 1, :] for k in range(b.shape[-2]))
    return reduce(np.add, terms)


def stack(parts: Sequence[Plain], axis: int) -> Plain:
    """Arrays side by side along a new axis."""
    values = np.stack([p.value for p in parts], axis)
    pulls = [lambda g, n=n: np.take(g, n, axis) for n in range(len(parts))]
    return Plain(values, *zip(parts, pulls, strict=True))


# ---- layers --------------------------------------------------------------------------------------


def logsumexp(x: Plain, axis: int) -> Plain:
    """With the gradient in terms of the result, as nothing else is kept."""
    shift = x.largest(axis)
    y = ((x - shift).exp().sum(axis).log() + shift).value
    return Plain(y, (x, lambda g: g * np.exp(x.value - y)))


def log_softmax(x: Plain, axis: int) -> Plain:
    return x - logsumexp(x, axis)


def softmax(x: Plain, axis: int) -> Plain:
    e = (x - x.largest(axis)).exp()
    return e / e.sum(axis)


def var(x: Plain, axis: Any, correction: int = 1) -> Plain:
    off = x - x.mean(axis)
    total = (off * off).sum(axis)
    return total * (1 / (x.value.size // total.value.size - correction))


def normalised(x: Plain, axis: Any, eps: float = 1e-5) -> Plain:
    return (x - x.mean(axis)) / (var(x, axis, 0) + eps).sqrt()


@dataclass(frozen=True)
class Convolution:
    """Windows side by side, times the filters; each gradient is one sum as well."""

    kernel: Shape
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    def forward(self, x: Array, w: Array) -> Array:
        columns = _windows(x, self.kernel, self.stride, self.padding, self.dilation)
        depth = w.shape[1] * math.prod(self.kernel)
        filters = w.reshape(self.groups, -1, depth)
        sizes = columns.shape[2 + len(self.kernel) :]
        return self._images(_product(filters, self._grouped(columns, depth)), len(x), sizes)

    def filters(self, x: Array, g: Array) -> Array:
        """The filters' gradient, (outputs, depth)."""
        columns = _windows(x, self.kernel, self.stride, self.padding, self.dilation)
        depth = x.shape[1] // self.groups * math.prod(self.kernel)
        terms = self._grouped(columns, depth).swapaxes(1, 2)
        return _product(self._grouped(g, g.shape[1] // self.groups), terms)

    def images(self, g: Array, w: Array, sizes: Shape) -> Array:
        """The images' gradient: g, zeros between its pixels, under the filters turned round."""
        rank, stride = len(sizes), self.stride
        apart = np.zeros((*g.shape[:2], *(stride * (n - 1) + 1 for n in g.shape[2:])), g.dtype)
        apart[(..., *(slice(None, None, stride) for _ in sizes))] = g
        before = [self.dilation * (k - 1) - self.padding for k in self.kernel]
        ends = [
            (r, n + self.padding - a)
            for r, n, a in zip(before, sizes, apart.shape[2:], strict=True)
        ]
        apart = np.pad(apart, [(0, 0), (0, 0), *ends])
        windows = _windows(apart, self.kernel, 1, 0, self.dilation)
        turned = np.flip(w, tuple(range(2, 2 + rank)))
        turned = turned.reshape(self.groups, -1, w.shape[1], math.prod(self.kernel))
        turned = turned.swapaxes(1, 2).reshape(self.groups, w.shape[1], -1)
        terms = self._grouped(windows, turned.shape[2])
        return self._images(_product(turned, terms), len(g), sizes)

    def _grouped(self, x: Array, depth: int) -> Array:
        """(groups, what is summed, images and pixels)."""
        parts = x.reshape(len(x), self.groups, depth, -1).transpose(1, 2, 0, 3)
        return parts.reshape(self.groups, depth, -1)

    def _images(self, y: Array, batch: int, sizes: Shape) -> Array:
        parts = y.reshape(self.groups, y.shape[1], batch, -1).transpose(2, 0, 1, 3)
        return parts.reshape(batch, self.groups * y.shape[1], *sizes)


def convolution(x: Plain, w: Plain, **attrs: int) -> Plain:
    form = Convolution(w.shape[2:], **attrs)
    return Plain(
        form.forward(x.value, w.value),
        (x, lambda g: form.images(g, w.value, x.shape[2:])),
        (w, lambda g: form.filters(x.value, g).reshape(w.shape)),
    )


def convolution_transposed(x: Plain, w: Plain, stride: int = 1, padding: int = 0) -> Plain:
    """What sends a convolution's gradient to its images."""
    form = Convolution(w.shape[2:], stride, padding)
    sizes = [
        stride * (n - 1) + k - 2 * padding for n, k in zip(x.shape[2:], form.kernel, strict=True)
    ]
    return Plain(
        form.images(x.value, w.value, tuple(sizes)),
        (x, lambda g: form.forward(g, w.value)),
        (w, lambda g: form.filters(g, x.value).reshape(w.shape)),
    )


def _windows(x: Array, kernel: Shape, stride: int, padding: int, dilation: int) -> Array:
    """(images, channels, *kernel, *places)."""
    x = np.pad(x, [(0, 0), (0, 0)] + [(padding, padding)] * len(kernel))
    reach = [dilation * (k - 1) + 1 for k in kernel]
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    step = (slice(None, None, stride),) * len(kernel)
    gaps = (slice(None, None, dilation),) * len(kernel)
    windows = windows[(slice(None), slice(None), *step, *gaps)]
    places = tuple(range(2, x.ndim))
    offsets = tuple(range(x.ndim, windows.ndim))
    return np.ascontiguousarray(windows.transpose(0, 1, *offsets, *places))


def attention(q: Plain, k: Plain, v: Plain, is_causal: bool = False) -> Plain:
    """One number of each row of scores is kept: after Dao et al., FlashAttention (2022)."""
    scores = q @ k.permute(0, 1, 3, 2) * (1 / math.sqrt(q.shape[-1]))
    if is_causal:
        scores = scores + np.where(np.tri(*scores.shape[-2:], dtype=bool), 0.0, -1e30)
    return (scores - logsumexp(scores, -1)).exp() @ v


def rnn(x: Plain, w: Plain, u: Plain, a: Plain, b: Plain) -> Plain:
    h = Plain(np.zeros((x.shape[1], u.shape[1]), x.value.dtype))
    states = []
    for t in range(x.shape[0]):
        h = (x[t] @ w.T + a + (h @ u.T + b)).tanh()
        states.append(h)
    return stack(states, 0)


def lstm(x: Plain, w: Plain, u: Plain, a: Plain, b: Plain) -> Plain:
    n = u.shape[1]
    h = c = Plain(np.zeros((x.shape[1], n), x.value.dtype))
    states = []
    for t in range(x.shape[0]):
        gates = x[t] @ w.T + a + (h @ u.T + b)
        i, f, g, o = (gates[:, slice(n * part, n * part + n)] for part in range(4))
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return stack(states, 0)


def gru(x: Plain, w: Plain, u: Plain, a: Plain, b: Plain) -> Plain:
    n = u.shape[1]
    h = Plain(np.zeros((x.shape[1], n), x.value.dtype))
    states = []
    for t in range(x.shape[0]):
        given, kept = x[t] @ w.T + a, h @ u.T + b
        parts = [(slice(None), slice(n * part, n * part + n)) for part in range(3)]
        reset, update = ((given[p] + kept[p]).sigmoid() for p in parts[:2])
        new = (given[parts[2]] + reset * kept[parts[2]]).tanh()
        h = (1.0 - update) * new + update * h
        states.append(h)
    return stack(states, 0)
