"""Distributions of whole numbers and classes."""

from __future__ import annotations

import math
from typing import Any

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.distributions import constraints
from rabbet.distributions.distribution import Distribution, floats
from rabbet.library.draws import bernoulli, categorical
from rabbet.library.families import binomial, poisson
from rabbet.library.joining import broadcast_arrays, broadcast_shapes
from rabbet.library.random import rand
from rabbet.nn import functional
from rabbet.ops.arithmetic import floor
from rabbet.ops.compare import where
from rabbet.ops.float_functions import exp, log, log1p, sigmoid
from rabbet.ops.gather_scatter import take_along_axis
from rabbet.ops.index_maps import expand
from rabbet.ops.network import log_softmax
from rabbet.ops.pointwise_composites import logit, xlogy
from rabbet.ops.special import lgamma
from rabbet.tensor import Tensor, asarray
from rabbet.tensor.create import arange


def one_of(name: str, probs: Any, logits: Any) -> Tensor:
    """The one that was given; RabbetError unless it is one."""
    if (probs is None) == (logits is None):
        raise RabbetError(f"{name}: give probs or logits, one of them")
    return floats(logits if probs is None else probs)[0]


def count_of(name: str, total_count: Any) -> int:
    """`total_count` as a Python int; RabbetError unless it is a whole number from 0 on."""
    if not hasattr(total_count, "__index__") or total_count.__index__() < 0:
        raise RabbetError(f"{name}: total_count={total_count!r} must be an int, 0 or more")
    count: int = total_count.__index__()
    return count


class Bernoulli(Distribution):
    """0 or 1, as floats; 1 with the chance `probs`, the sigmoid of `logits`.

    >>> rb.distributions.Bernoulli(probs=0.25).mean
    tensor(0.25)
    """

    support = constraints.boolean

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        given = one_of("Bernoulli", probs, logits)
        self.logits = given if probs is None else logit(given)
        self.probs = given if logits is None else sigmoid(given)
        self.batch_shape = given.shape

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """1 where a uniform number is below `probs`."""
        chance = expand(self.probs, self.drawn_shape(shape)).detach()
        return bernoulli(chance, generator=generator).astype(chance.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """value log(probs) + (1 - value) log(1 - probs), from the logits."""
        x = asarray(value).astype(self.logits.dtype)
        logits, x = broadcast_arrays(self.logits, x)
        return -functional.binary_cross_entropy_with_logits(logits, x, reduction="none")

    def entropy(self) -> Tensor:
        """-p log(p) - (1 - p) log(1 - p)."""
        return functional.binary_cross_entropy_with_logits(
            self.logits, self.probs, reduction="none"
        )

    @property
    def mean(self) -> Tensor:
        """probs."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """p (1 - p)."""
        return self.probs * (1.0 - self.probs)

    @property
    def mode(self) -> Tensor:
        """1 where probs is more than a half."""
        return (self.probs > 0.5).astype(self.probs.dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """0 and 1."""
        return listed(
            arange(2).astype(self.probs.dtype),
            self.batch_shape if expand else None,
            len(self.batch_shape),
        )


def listed(values: Tensor, batch: tuple[int, ...] | None, axes: int) -> Tensor:
    """Values along a first axis, the same for a batch of `axes` axes or of shape `batch`."""
    wide = values.reshape((values.shape[0], *(1,) * (axes if batch is None else len(batch))))
    return wide if batch is None else expand(wide, (values.shape[0], *batch))


class Categorical(Distribution):
    """Class numbers (int64) with the chances `probs`, or softmax of `logits`, along the last axis.

    >>> rb.distributions.Categorical(probs=rb.asarray([1.0, 3.0])).probs
    tensor([0.25, 0.75])
    """

    arg_constraints = {"probs": constraints.class_weights, "logits": constraints.real_vector}

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        given = one_of("Categorical", probs, logits)
        if not given.ndim:
            raise ShapeError("Categorical: there is no axis of classes")
        if logits is None:
            self.probs = given / given.sum(axis=-1, keepdims=True)
            self.logits = log(self.probs)
        else:
            self.logits = log_softmax(given, axis=-1)
            self.probs = exp(self.logits)
        self.batch_shape = given.shape[:-1]
        self.support = constraints.integer_interval(0, given.shape[-1] - 1)

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """The class of the largest of logits + Gumbel numbers."""
        size = (*self.drawn_shape(shape), self.logits.shape[-1])
        return categorical(expand(self.logits, size).detach(), generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """The logit of class `value`."""
        chosen = asarray(value)
        shape = broadcast_shapes(chosen.shape, self.batch_shape)
        places = expand(chosen, shape)[..., None]
        logits = expand(self.logits, (*shape, self.logits.shape[-1]))
        return take_along_axis(logits, places, -1)[..., 0]

    def entropy(self) -> Tensor:
        """-sum p log(p); a class without a chance counts 0."""
        chance = self.probs
        return -(chance * where(chance == 0, 0.0, self.logits)).sum(axis=-1)

    @property
    def mode(self) -> Tensor:
        """The most likely class."""
        return self.probs.argmax(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The class numbers."""
        classes = arange(self.logits.shape[-1])
        return listed(classes, self.batch_shape if expand else None, len(self.batch_shape))


class Binomial(Distribution):
    """How many of `total_count` trials succeed, each with the chance `probs`; floats.

    >>> rb.distributions.Binomial(10, probs=0.5).mean
    tensor(5.)
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}

    def __init__(self, total_count: int = 1, probs: Any = None, logits: Any = None) -> None:
        given = one_of("Binomial", probs, logits)
        self.probs = given if logits is None else sigmoid(given)
        self.total_count = count_of("Binomial", total_count)
        self.support = constraints.integer_interval(0, self.total_count)
        self.batch_shape = given.shape

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """`rb.binomial`."""
        size = self.drawn_shape(shape)
        return binomial(self.total_count, self.probs.detach(), size, generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """log of (n over value) p^value (1 - p)^(n - value)."""
        x, n, p = asarray(value).astype(self.probs.dtype), float(self.total_count), self.probs
        ways = math.lgamma(n + 1.0) - lgamma(x + 1.0) - lgamma(n - x + 1.0)
        return ways + xlogy(x, p) + xlogy(n - x, 1.0 - p)

    @property
    def mean(self) -> Tensor:
        """n p."""
        return float(self.total_count) * self.probs

    @property
    def variance(self) -> Tensor:
        """n p (1 - p)."""
        return self.mean * (1.0 - self.probs)


class Poisson(Distribution):
    """How many events of a constant `rate` happen; floats.

    >>> rb.distributions.Poisson(2.0).variance
    tensor(2.)
    """

    support = constraints.nonnegative_integer

    arg_constraints = {"rate": constraints.nonnegative}

    def __init__(self, rate: Any) -> None:
        (self.rate,) = floats(rate)
        self.batch_shape = self.rate.shape

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """`rb.poisson`."""
        drawn = poisson(self.rate.detach(), self.drawn_shape(shape), generator=generator)
        return drawn.astype(self.rate.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """value log(rate) - rate - log(value!)."""
        x = asarray(value).astype(self.rate.dtype)
        return xlogy(x, self.rate) - self.rate - lgamma(x + 1.0)

    @property
    def mean(self) -> Tensor:
        """rate."""
        return self.rate

    @property
    def variance(self) -> Tensor:
        """rate."""
        return self.rate


class Geometric(Distribution):
    """How many trials fail before the first success, each with the chance `probs`; floats.

    >>> rb.distributions.Geometric(0.25).mean
    tensor(3.)
    """

    support = constraints.nonnegative_integer

    arg_constraints = {"probs": constraints.positive_chance, "logits": constraints.real}

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        given = one_of("Geometric", probs, logits)
        self.probs = given if logits is None else sigmoid(given)
        self.batch_shape = given.shape

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """By inversion: floor(log(1 - u) / log(1 - p))."""
        chance = self.probs.detach()
        u = rand(self.drawn_shape(shape), dtype=chance.dtype, generator=generator)
        return floor(log1p(-u) / log1p(-chance))

    def log_prob(self, value: Any) -> Tensor:
        """value log(1 - p) + log(p)."""
        x = asarray(value).astype(self.probs.dtype)
        return xlogy(x, 1.0 - self.probs) + log(self.probs)

    def entropy(self) -> Tensor:
        """(-p log(p) - (1 - p) log(1 - p)) / p."""
        p = self.probs
        return -(xlogy(p, p) + xlogy(1.0 - p, 1.0 - p)) / p

    @property
    def mean(self) -> Tensor:
        """1 / p - 1."""
        return 1.0 / self.probs - 1.0

    @property
    def variance(self) -> Tensor:
        """(1 / p - 1) / p."""
        return self.mean / self.probs
