"""Draws from distributions, made of uniform and normal numbers: the same for the same generator."""

from __future__ import annotations

import math
from typing import Any

from rabbet.base import dtypes
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import axis_of, broadcast, show
from rabbet.library.random import Generator, default_generator, draw, rand, randn
from rabbet.tensor.lift import functions, in_place
from rabbet.tensor.tensor import Tensor, as_operand, shape_argument


def bernoulli(p: Any, *, generator: Generator | None = None) -> Tensor:
    """True with the probability given by each element of `p`: (*s) -> bool (*s).

    >>> rb.bernoulli(rb.asarray([0.0, 1.0]))
    tensor([False,  True])
    """
    t = as_operand(p)
    key, offset = (generator or default_generator).reserve(t.numel())
    return functions["bernoulli"](t, key, offset)


def exponential(
    size: Any = (), rate: Any = 1.0, *, dtype: Any = None, generator: Generator | None = None
) -> Tensor:
    """Exponentially distributed numbers of shape `size`, by inversion; their mean is 1 / rate.

    >>> rb.exponential((2, 3), rate=4.0).shape
    (2, 3)
    """
    u = rand(size, dtype=dtype, generator=generator)
    return -functions["log1p"](-u) / rate


def uniform(
    low: Any = 0.0, high: Any = 1.0, size: Any = None, *, generator: Generator | None = None
) -> Tensor:
    """Uniform numbers in [low, high), of their shape or `size`; gradients reach both.

    >>> rb.uniform(2.0, 2.0)
    tensor(2.)
    """
    first, last = _pair("uniform", low, high)
    u = rand(drawn_shape("uniform", size, first, last), dtype=first.dtype, generator=generator)
    return first + u * (last - first)


def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None
) -> Tensor:
    """Normal numbers of the given mean and standard deviation, of their shape or `size`.

    Gradients reach both.

    >>> rb.normal(rb.asarray([1.0, 2.0]), 0.0)
    tensor([1., 2.])
    """
    middle, spread = _pair("normal", mean, std)
    z = randn(drawn_shape("normal", size, middle, spread), dtype=middle.dtype, generator=generator)
    return middle + z * spread


def _pair(name: str, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    one, two = as_operand(x), as_operand(y)
    of = one.dtype if one.dtype.is_float and (one.ndim or not two.dtype.is_float) else two.dtype
    of = of if of.is_float else dtypes.default_float
    return _floating(name, one.astype(of)), two.astype(of)


def drawn_shape(name: str, size: Any, *operands: Tensor) -> tuple[int, ...]:
    """The shape of all parameters together, or `size`, in which they must fit."""
    own: tuple[Any, ...] = tuple(broadcast(name, *(t.shape for t in operands)))
    if size is None:
        return own
    wanted = shape_argument((size,))
    if tuple(broadcast(name, own, wanted)) != wanted:
        raise ShapeError(f"{name}: parameters {show(own)} do not fit in size {show(wanted)}")
    return wanted


def truncated_normal(
    size: Any = (),
    low: float = -2.0,
    high: float = 2.0,
    *,
    dtype: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Standard normal numbers that lie between `low` and `high`, by inversion.

    Raises ValueError where the range is empty.

    >>> rb.truncated_normal((2, 3)).shape
    (2, 3)
    """
    if not low < high:
        raise ValueError(f"truncated_normal: the range from {low} to {high} is empty")
    first, last = (math.erf(v / math.sqrt(2)) for v in (low, high))
    u = rand(size, dtype=dtype, generator=generator)
    found = functions["erfinv"](u * (last - first) + first) * math.sqrt(2)
    return functions["clip"](found, float(low), float(high))


def randperm(n: int, *, generator: Generator | None = None) -> Tensor:
    """The numbers 0 to n - 1 in random order; int64.

    >>> sorted(rb.randperm(4).tolist())
    [0, 1, 2, 3]
    """
    if n < 0:
        raise ValueError(f"randperm: n={n} must be 0 or more")
    # 62 random bits each: two of a million are alike with a probability of 1e-7.
    keys = draw("randint", (int(n),), dtypes.int64, generator, low=0, high=2**62)
    return functions["argsort"](keys)


def permutation(x: Any, axis: int = 0, *, generator: Generator | None = None) -> Tensor:
    """`x` with the elements along `axis` in random order, the same for all other axes.

    >>> sorted(rb.permutation(rb.asarray([3, 1, 2])).tolist())
    [1, 2, 3]
    """
    t = as_operand(x)
    at = axis_of("permutation", axis, t.ndim)
    return functions["take"](t, randperm(t.shape[at], generator=generator), at)


def _gumbel(shape: Any, dtype: Any, generator: Generator | None) -> Tensor:
    """-log(-log(u)): the largest of logits + these is a draw from their softmax (Gumbel 1954)."""
    log = functions["log"]
    return -log(-log(rand(shape, dtype=dtype, generator=generator)))


def categorical(logits: Any, axis: int = -1, *, generator: Generator | None = None) -> Tensor:
    """Class numbers drawn from softmax(logits) along `axis`: one for each other index; int64.

    >>> rb.categorical(rb.asarray([-float("inf"), 0.0]))
    tensor(1)
    """
    t = _floating("categorical", as_operand(logits))
    return functions["argmax"](t + _gumbel(t.shape, t.dtype, generator), axis)


def multinomial(
    weights: Any,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """`num_samples` class numbers per row of `weights`: (..., n) -> (..., num_samples), int64.

    Without replacement they are distinct (the largest of log(weights) + Gumbel numbers: Efraimidis
    and Spirakis 2006). Raises ShapeError where there are fewer classes than samples.

    >>> rb.multinomial(rb.asarray([0.0, 1.0]), 3, replacement=True)
    tensor([1, 1, 1])
    """
    t = _floating("multinomial", as_operand(weights))
    if not t.ndim:
        raise ShapeError("multinomial: weights have no axis of classes")
    logits = functions["log"](t)
    if replacement:
        shape = (*t.shape[:-1], num_samples, t.shape[-1])
        wide = functions["unsqueeze"](logits, -2)
        return functions["argmax"](wide + _gumbel(shape, t.dtype, generator), -1)
    if num_samples > t.shape[-1]:
        raise ShapeError(
            f"multinomial: {num_samples} distinct samples of {show(t.shape)}; use replacement=True"
        )
    return functions["topk"](logits + _gumbel(t.shape, t.dtype, generator), num_samples)[1]


def _floating(name: str, t: Tensor) -> Tensor:
    if t.dtype not in (dtypes.float32, dtypes.float64):
        raise DTypeError(f"{name}: {t.dtype.name} is not supported; float32 or float64 is needed")
    return t


def _bernoulli_of(x: Tensor, p: Any = None, *, generator: Generator | None = None) -> Tensor:
    """0 or 1, of x's dtype: 1 with the chance `p`, or those in x."""
    chance = x if p is None else functions["expand"](as_operand(p, x), x.shape)
    return bernoulli(chance, generator=generator).astype(x.dtype)


def _exponential_of(x: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Exponentially distributed numbers of mean 1 / lambd."""
    return exponential(x.shape, lambd, dtype=x.dtype, generator=generator)


METHODS: dict[str, Any] = {
    "multinomial": multinomial,
    "bernoulli": _bernoulli_of,
    "bernoulli_": in_place(_bernoulli_of),
    "exponential_": in_place(_exponential_of),
}
