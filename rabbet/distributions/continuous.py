"""Distributions of real numbers and vectors."""

from __future__ import annotations

import math
from typing import Any

from rabbet import linalg
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.distributions import constraints
from rabbet.distributions.distribution import Distribution, floats
from rabbet.library.families import beta, dirichlet, gamma
from rabbet.library.joining import broadcast_shapes
from rabbet.library.random import rand, randn
from rabbet.ops.arithmetic import abs_, sign, square
from rabbet.ops.compare import logical_and, where
from rabbet.ops.float_functions import exp, expm1, log, log1p
from rabbet.ops.gamma_functions import gammainc
from rabbet.ops.index_maps import expand
from rabbet.ops.pointwise_composites import xlogy
from rabbet.ops.special import digamma, erf, erfinv, lgamma
from rabbet.tensor import Tensor, asarray

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Normal(Distribution):
    """Normal numbers with mean `loc` and standard deviation `scale`.

    >>> rb.distributions.Normal(0.0, 1.0).log_prob(0.0)
    tensor(-0.9189385)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Any, scale: Any) -> None:
        self.loc, self.scale = floats(loc, scale)
        self.batch_shape = self.loc.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """loc + scale * z."""
        z = randn(self.drawn_shape(shape), dtype=self.loc.dtype, generator=generator)
        return self.loc + self.scale * z

    def log_prob(self, value: Any) -> Tensor:
        """-(value - loc)^2 / (2 scale^2) - log(scale sqrt(2 pi))."""
        z = (asarray(value) - self.loc) / self.scale
        return -0.5 * square(z) - log(self.scale) - HALF_LOG_2PI

    def cdf(self, value: Any) -> Tensor:
        """The chance of a number up to `value`."""
        z = (asarray(value) - self.loc) / self.scale
        return 0.5 * (1.0 + erf(z * math.sqrt(0.5)))

    def icdf(self, value: Any) -> Tensor:
        """The number up to which a draw lies with the chance `value`."""
        return self.loc + self.scale * math.sqrt(2) * erfinv(2.0 * asarray(value) - 1.0)

    def entropy(self) -> Tensor:
        """log(scale sqrt(2 pi e))."""
        return log(self.scale) + (0.5 + HALF_LOG_2PI)

    @property
    def mean(self) -> Tensor:
        """loc."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """scale^2."""
        return square(self.scale)

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc


class LogNormal(Distribution):
    """exp of normal numbers with mean `loc` and standard deviation `scale`.

    >>> rb.distributions.LogNormal(0.0, 1.0).log_prob(1.0)
    tensor(-0.9189385)
    """

    support = constraints.positive

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Any, scale: Any) -> None:
        self.base_dist = Normal(loc, scale)
        self.batch_shape = self.base_dist.batch_shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """exp(loc + scale * z)."""
        return exp(self.base_dist.rsample(shape, generator=generator))

    def log_prob(self, value: Any) -> Tensor:
        """The normal one of log(value), less log(value)."""
        logarithm = log(asarray(value))
        return self.base_dist.log_prob(logarithm) - logarithm

    def entropy(self) -> Tensor:
        """The normal one, plus loc."""
        return self.base_dist.entropy() + self.base_dist.loc

    @property
    def mean(self) -> Tensor:
        """exp(loc + scale^2 / 2)."""
        return exp(self.base_dist.loc + 0.5 * self.base_dist.variance)

    @property
    def variance(self) -> Tensor:
        """(exp(scale^2) - 1) mean^2."""
        return expm1(self.base_dist.variance) * square(self.mean)

    @property
    def mode(self) -> Tensor:
        """exp(loc - scale^2)."""
        return exp(self.base_dist.loc - self.base_dist.variance)

    def cdf(self, value: Any) -> Tensor:
        """The normal one of log(value)."""
        return self.base_dist.cdf(log(asarray(value)))

    def icdf(self, value: Any) -> Tensor:
        """exp of the normal one."""
        return exp(self.base_dist.icdf(value))


class Uniform(Distribution):
    """Uniform numbers in [low, high).

    >>> rb.distributions.Uniform(0.0, 4.0).log_prob(1.0)
    tensor(-1.3862944)
    """

    arg_constraints = {"high": lambda given: constraints.greater_than(given["low"])}

    def __init__(self, low: Any, high: Any) -> None:
        self.low, self.high = floats(low, high)
        self.batch_shape = self.low.shape
        self.support = constraints.interval(self.low, self.high)

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """low + u * (high - low)."""
        u = rand(self.drawn_shape(shape), dtype=self.low.dtype, generator=generator)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Any) -> Tensor:
        """-log(high - low) inside, -inf outside."""
        x = asarray(value)
        inside = logical_and(x >= self.low, x < self.high)
        return where(inside, -log(self.high - self.low), -math.inf)

    def entropy(self) -> Tensor:
        """log(high - low)."""
        return log(self.high - self.low)

    @property
    def mean(self) -> Tensor:
        """The middle."""
        return 0.5 * (self.low + self.high)

    @property
    def variance(self) -> Tensor:
        """(high - low)^2 / 12."""
        return square(self.high - self.low) / 12.0

    def cdf(self, value: Any) -> Tensor:
        """The part of the range up to `value`."""
        return ((asarray(value) - self.low) / (self.high - self.low)).clip(0.0, 1.0)

    def icdf(self, value: Any) -> Tensor:
        """low + value (high - low)."""
        return self.low + asarray(value) * (self.high - self.low)


class Exponential(Distribution):
    """Exponentially distributed numbers with mean 1 / rate.

    >>> rb.distributions.Exponential(2.0).mean
    tensor(0.5)
    """

    support = constraints.nonnegative

    arg_constraints = {"rate": constraints.positive}

    def __init__(self, rate: Any) -> None:
        (self.rate,) = floats(rate)
        self.batch_shape = self.rate.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """-log(1 - u) / rate."""
        u = rand(self.drawn_shape(shape), dtype=self.rate.dtype, generator=generator)
        return -log1p(-u) / self.rate

    def log_prob(self, value: Any) -> Tensor:
        """log(rate) - rate * value, -inf below 0."""
        x = asarray(value)
        return where(x >= 0, log(self.rate) - self.rate * x, -math.inf)

    def entropy(self) -> Tensor:
        """1 - log(rate)."""
        return 1.0 - log(self.rate)

    @property
    def mean(self) -> Tensor:
        """1 / rate."""
        return 1.0 / self.rate

    @property
    def variance(self) -> Tensor:
        """1 / rate^2."""
        return 1.0 / square(self.rate)

    def cdf(self, value: Any) -> Tensor:
        """1 - exp(-rate value); 0 below 0."""
        return -expm1(-self.rate * asarray(value).clip(0.0, None))

    def icdf(self, value: Any) -> Tensor:
        """-log(1 - value) / rate."""
        return -log1p(-asarray(value)) / self.rate

    @property
    def mode(self) -> Tensor:
        """0."""
        return 0.0 * self.rate


class Laplace(Distribution):
    """Numbers with density exp(-|x - loc| / scale) / (2 scale).

    >>> rb.distributions.Laplace(0.0, 1.0).log_prob(0.0)
    tensor(-0.6931472)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Any, scale: Any) -> None:
        self.loc, self.scale = floats(loc, scale)
        self.batch_shape = self.loc.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """By inversion, from u in [-1/2, 1/2)."""
        u = rand(self.drawn_shape(shape), dtype=self.loc.dtype, generator=generator) - 0.5
        # |u| is never quite 1/2 but for u = -1/2, whose logarithm would be infinite.
        tail = log1p(-2.0 * abs_(u).clip(None, 0.5 - 2.0**-25))
        return self.loc - self.scale * sign(u) * tail

    def log_prob(self, value: Any) -> Tensor:
        """-|value - loc| / scale - log(2 scale)."""
        return -abs_(asarray(value) - self.loc) / self.scale - log(2.0 * self.scale)

    def entropy(self) -> Tensor:
        """1 + log(2 scale)."""
        return 1.0 + log(2.0 * self.scale)

    @property
    def mean(self) -> Tensor:
        """loc."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """2 scale^2."""
        return 2.0 * square(self.scale)

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc

    def cdf(self, value: Any) -> Tensor:
        """1/2 - sign(z) (exp(-|z|) - 1) / 2."""
        z = (asarray(value) - self.loc) / self.scale
        return 0.5 - 0.5 * sign(z) * expm1(-abs_(z))

    def icdf(self, value: Any) -> Tensor:
        """loc - scale sign(p - 1/2) log(1 - 2 |p - 1/2|)."""
        p = asarray(value) - 0.5
        return self.loc - self.scale * sign(p) * log1p(-2.0 * abs_(p))


class Gamma(Distribution):
    """Gamma numbers: density rate^a x^(a - 1) exp(-rate x) / Gamma(a), a the concentration.

    >>> rb.distributions.Gamma(3.0, 2.0).mean
    tensor(1.5)
    """

    support = constraints.nonnegative

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}

    def __init__(self, concentration: Any, rate: Any = 1.0) -> None:
        self.concentration, self.rate = floats(concentration, rate)
        self.batch_shape = self.rate.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """`rb.gamma`, through which gradients reach both parameters."""
        size = self.drawn_shape(shape)
        return gamma(self.concentration, 1.0, size, generator=generator) / self.rate

    def log_prob(self, value: Any) -> Tensor:
        """a log(rate) + (a - 1) log(value) - rate value - log Gamma(a)."""
        x, a = asarray(value), self.concentration
        return a * log(self.rate) + xlogy(a - 1.0, x) - self.rate * x - lgamma(a)

    def cdf(self, value: Any) -> Tensor:
        """The regularised lower incomplete gamma function of a and rate value."""
        return gammainc(self.concentration, self.rate * asarray(value))

    def entropy(self) -> Tensor:
        """a - log(rate) + log Gamma(a) + (1 - a) digamma(a)."""
        a = self.concentration
        return a - log(self.rate) + lgamma(a) + (1.0 - a) * digamma(a)

    @property
    def mean(self) -> Tensor:
        """a / rate."""
        return self.concentration / self.rate

    @property
    def variance(self) -> Tensor:
        """a / rate^2."""
        return self.concentration / square(self.rate)


class Beta(Distribution):
    """Numbers in (0, 1) with density x^(a - 1) (1 - x)^(b - 1) / B(a, b).

    >>> rb.distributions.Beta(1.0, 3.0).mean
    tensor(0.25)
    """

    support = constraints.unit_interval

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }

    def __init__(self, concentration1: Any, concentration0: Any) -> None:
        self.concentration1, self.concentration0 = floats(concentration1, concentration0)
        self.batch_shape = self.concentration1.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """`rb.beta`, through which gradients reach both parameters."""
        size = self.drawn_shape(shape)
        return beta(self.concentration1, self.concentration0, size, generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """(a - 1) log(value) + (b - 1) log(1 - value) - log B(a, b)."""
        x, a, b = asarray(value), self.concentration1, self.concentration0
        return xlogy(a - 1.0, x) + xlogy(b - 1.0, 1.0 - x) - log_beta(a, b)

    def entropy(self) -> Tensor:
        """log B(a, b) - (a - 1) psi(a) - (b - 1) psi(b) + (a + b - 2) psi(a + b)."""
        a, b, psi = self.concentration1, self.concentration0, digamma
        parts = (a - 1.0) * psi(a) + (b - 1.0) * psi(b) - (a + b - 2.0) * psi(a + b)
        return log_beta(a, b) - parts

    @property
    def mean(self) -> Tensor:
        """a / (a + b)."""
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Tensor:
        """a b / ((a + b)^2 (a + b + 1))."""
        a, b = self.concentration1, self.concentration0
        return a * b / (square(a + b) * (a + b + 1.0))


class Dirichlet(Distribution):
    """Vectors of positive numbers whose sum is 1: density prod x^(a - 1) / B(a) over the last axis.

    >>> rb.distributions.Dirichlet(rb.ones(3)).event_shape
    (3,)
    """

    support = constraints.simplex

    arg_constraints = {"concentration": constraints.positive_vector}

    def __init__(self, concentration: Any) -> None:
        (self.concentration,) = floats(concentration)
        if not self.concentration.ndim:
            raise ShapeError("Dirichlet: concentration has no axis of classes")
        *batch, count = self.concentration.shape
        self.batch_shape, self.event_shape = tuple(batch), (count,)

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """`rb.dirichlet`, through which gradients reach the concentration."""
        size = self.drawn_shape(shape)
        return dirichlet(expand(self.concentration, size), generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """sum (a - 1) log(value) - log B(a)."""
        a = self.concentration
        return xlogy(a - 1.0, asarray(value)).sum(axis=-1) - self.log_normalizer()

    def log_normalizer(self) -> Tensor:
        """log B(a) = sum log Gamma(a) - log Gamma(sum a)."""
        a = self.concentration
        return lgamma(a).sum(axis=-1) - lgamma(a.sum(axis=-1))

    def entropy(self) -> Tensor:
        """log B(a) + (sum a - n) psi(sum a) - sum (a - 1) psi(a)."""
        a = self.concentration
        total = a.sum(axis=-1)
        own = ((a - 1.0) * digamma(a)).sum(axis=-1)
        return self.log_normalizer() + (total - float(a.shape[-1])) * digamma(total) - own

    @property
    def mean(self) -> Tensor:
        """a / sum a."""
        return self.concentration / self.concentration.sum(axis=-1, keepdims=True)

    @property
    def variance(self) -> Tensor:
        """mean (1 - mean) / (sum a + 1)."""
        mean = self.mean
        return mean * (1.0 - mean) / (self.concentration.sum(axis=-1, keepdims=True) + 1.0)


class MultivariateNormal(Distribution):
    """Normal vectors: mean `loc` (*b, n), covariance (*b, n, n) or its factor `scale_tril`.

    >>> rb.distributions.MultivariateNormal(rb.zeros(2), rb.eye(2)).log_prob(rb.zeros(2))
    tensor(-1.837877)
    """

    support = constraints.real_vector

    arg_constraints = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }

    def __init__(self, loc: Any, covariance_matrix: Any = None, *, scale_tril: Any = None) -> None:
        if (covariance_matrix is None) == (scale_tril is None):
            raise ShapeError("MultivariateNormal: give one of covariance_matrix, scale_tril")
        mean = asarray(loc)
        if scale_tril is None:
            scale_tril = linalg.cholesky(asarray(covariance_matrix))
        factor = asarray(scale_tril)
        n = mean.shape[-1] if mean.ndim else 0
        if not n or factor.shape[-2:] != (n, n):
            raise ShapeError(
                f"MultivariateNormal: loc {show(mean.shape)} needs a matrix (..., {n}, {n}), not "
                f"{show(factor.shape)}"
            )
        batch = broadcast_shapes(mean.shape[:-1], factor.shape[:-2])
        self.batch_shape, self.event_shape = batch, (n,)
        self.loc = expand(mean, (*batch, n))
        self.scale_tril = expand(factor, (*batch, n, n))

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """loc + scale_tril @ z."""
        z = randn(self.drawn_shape(shape), dtype=self.loc.dtype, generator=generator)
        return self.loc + (self.scale_tril @ z[..., None])[..., 0]

    def log_prob(self, value: Any) -> Tensor:
        """-|scale_tril^-1 (value - loc)|^2 / 2 - log det(scale_tril) - n log(2 pi) / 2."""
        away = asarray(value) - self.loc
        factor = expand(self.scale_tril, (*away.shape, away.shape[-1]))
        z = linalg.solve(factor, away[..., None])[..., 0]
        constant = self.event_shape[0] * HALF_LOG_2PI
        return -0.5 * square(z).sum(axis=-1) - self.half_log_det() - constant

    def half_log_det(self) -> Tensor:
        """Half the logarithm of the covariance's determinant."""
        return log(linalg.diagonal(self.scale_tril)).sum(axis=-1)

    def entropy(self) -> Tensor:
        """log det(scale_tril) + n log(2 pi e) / 2."""
        return self.half_log_det() + self.event_shape[0] * (0.5 + HALF_LOG_2PI)

    @property
    def covariance_matrix(self) -> Tensor:
        """scale_tril @ scale_tril.mT."""
        return self.scale_tril @ self.scale_tril.mT

    @property
    def mean(self) -> Tensor:
        """loc."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance."""
        return square(self.scale_tril).sum(axis=-1)

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """log B(a, b) = log Gamma(a) + log Gamma(b) - log Gamma(a + b)."""
    return lgamma(a) + lgamma(b) - lgamma(a + b)
