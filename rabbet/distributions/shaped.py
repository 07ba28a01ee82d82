"""Distributions whose parameter bends the density: past a threshold, and between 0 and 1."""

from __future__ import annotations

import math
from typing import Any

from rabbet.distributions import constraints
from rabbet.distributions.discrete import one_of
from rabbet.distributions.distribution import Distribution, floats
from rabbet.distributions.tails import positive_uniform
from rabbet.library.random import rand
from rabbet.ops.arithmetic import abs_, clip, square
from rabbet.ops.compare import logical_and, where
from rabbet.ops.float_functions import exp, expm1, log, log1p, sigmoid
from rabbet.ops.pointwise_composites import logit
from rabbet.ops.trigonometry import sinh, tanh
from rabbet.tensor import Tensor, asarray


class GeneralizedPareto(Distribution):
    """What lies above a high threshold: `loc` + `scale` ((1 - u)^-k - 1) / k, k = `concentration`.

    From loc on; for a negative k up to loc - scale / k. Exponential for k = 0. J. Pickands,
    "Statistical inference using extreme order statistics", 1975.

    >>> rb.distributions.GeneralizedPareto(0.0, 1.0, 0.5).mean
    tensor(2.)
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "concentration": constraints.real,
    }

    def __init__(self, loc: Any, scale: Any, concentration: Any) -> None:
        self.loc, self.scale, self.concentration = floats(loc, scale, concentration)
        self.batch_shape = self.loc.shape
        is_short = self.concentration < 0.0
        end = self.loc - self.scale / where(is_short, self.concentration, 1.0)
        self.support = constraints.interval(self.loc, where(is_short, end, math.inf))

    def _split(self, bend: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where `bend`, k times a distance, is so small that a series is exact (slopes by k would
        lose their digits otherwise); `bend` there, 0 elsewhere; and k elsewhere, 1 there, so that
        it may divide.
        """
        is_near = abs_(bend) < (1e-4 if bend.dtype.bits == 64 else 2e-2)
        return is_near, where(is_near, bend, 0.0), where(is_near, 1.0, self.concentration)

    def _level(self, value: Any) -> Tensor:
        """-log of the chance of more: log(1 + k z) / k; NaN outside."""
        z = (asarray(value) - self.loc) / self.scale
        is_near, bend, k = self._split(self.concentration * z)
        series = z * (1.0 - bend * (0.5 - bend * (1.0 / 3.0 - 0.25 * bend)))
        return where(is_near, series, log1p(k * z) / k)

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """By inversion."""
        u = positive_uniform(self.loc, self.drawn_shape(shape), generator)
        return self._at(-log(u))

    def _at(self, level: Tensor) -> Tensor:
        """The inverse of `_level`."""
        endless = logical_and(self.concentration == 0.0, level == math.inf)
        is_near, bend, k = self._split(self.concentration * where(endless, 0.0, level))
        series = level * (1.0 + bend * (0.5 + bend * (1.0 / 6.0 + bend * (1.0 / 24.0))))
        return self.loc + self.scale * where(is_near, series, expm1(k * level) / k)

    def log_prob(self, value: Any) -> Tensor:
        """-log(scale) - (k + 1) log(1 + k z) / k; -inf outside of the support."""
        x = asarray(value)
        inside = self.support.check(x)
        found = -log(self.scale) - (self.concentration + 1.0) * self._level(
            where(inside, x, self.loc)
        )
        return where(inside, found, -math.inf)

    def cdf(self, value: Any) -> Tensor:
        """1 - (1 + k z)^(-1 / k); 0 below the support, 1 above."""
        x = asarray(value)
        inside = self.support.check(x)
        found = -expm1(-self._level(where(inside, x, self.loc)))
        return where(inside, found, where(x < self.loc, 0.0, 1.0))

    def icdf(self, value: Any) -> Tensor:
        """loc + scale ((1 - value)^-k - 1) / k."""
        return self._at(-log1p(-asarray(value)))

    def entropy(self) -> Tensor:
        """log(scale) + k + 1."""
        return log(self.scale) + self.concentration + 1.0

    @property
    def mean(self) -> Tensor:
        """loc + scale / (1 - k), where k < 1; infinite elsewhere."""
        has, k = self.concentration < 1.0, self.concentration
        return where(has, self.loc + self.scale / (1.0 - where(has, k, 0.0)), math.inf)

    @property
    def variance(self) -> Tensor:
        """scale^2 / ((1 - k)^2 (1 - 2 k)), where k < 1 / 2; infinite elsewhere."""
        has = self.concentration < 0.5
        k = where(has, self.concentration, 0.0)
        return where(has, square(self.scale / (1.0 - k)) / (1.0 - 2.0 * k), math.inf)

    @property
    def mode(self) -> Tensor:
        """loc, for a concentration above -1."""
        return self.loc


class ContinuousBernoulli(Distribution):
    """Numbers x in [0, 1] with a density proportional to p^x (1 - p)^(1 - x).

    p is `probs`, the sigmoid of `logits`. G. Loaiza-Ganem and J. Cunningham, "The continuous
    Bernoulli: fixing a pervasive error in variational autoencoders", 2019. With the logit e the
    density is exp(e (x - 1/2)) (e/2) / sinh(e/2): exact near p = 1/2 too, so PyTorch's `lims` are
    not needed.

    >>> rb.distributions.ContinuousBernoulli(0.5).variance
    tensor(0.08333334)
    """

    support = constraints.unit_interval
    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        given = one_of("ContinuousBernoulli", probs, logits)
        if probs is not None:  # 0 and 1 have no density
            least = 1e-7 if given.dtype.bits < 64 else 1e-16
            given = clip(given, least, 1.0 - least)
        self.logits = given if probs is None else logit(given)
        self.probs = given if logits is None else sigmoid(given)
        self.batch_shape = given.shape

    def _small(self, most: float) -> tuple[Tensor, Tensor, Tensor]:
        """Where half the logit is small, its half there, and the half elsewhere."""
        half = 0.5 * self.logits
        is_small = abs_(half) < most
        return is_small, where(is_small, half, 0.0), where(is_small, 1.0, half)

    def _log_constant(self) -> Tensor:
        """log((e/2) / sinh(e/2))."""
        is_small, h, other = self._small(0.1)
        s, size = square(h), abs_(other)
        near = s * (-1 / 6 + s * (1 / 180 + s * (-1 / 2835 + s * (1 / 37800 - s / 467775))))
        far = log(2.0 * size) - size - log1p(-exp(-2.0 * size))
        return where(is_small, near, far)

    def _ends(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the logit is next to 0, where it is positive, and -|logit|."""
        e = self.logits
        is_near = abs_(e) < (1e-3 if e.dtype.bits == 64 else 3e-2)
        return is_near, e > 0.0, -abs_(where(is_near, 1.0, e))

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """By inversion."""
        size = self.drawn_shape(shape)
        return self.icdf(rand(size, dtype=self.logits.dtype, generator=generator))

    def log_prob(self, value: Any) -> Tensor:
        """e (value - 1/2) + log((e/2) / sinh(e/2)); -inf outside of [0, 1]."""
        x = asarray(value)
        found = self.logits * (x - 0.5) + self._log_constant()
        return where(self.support.check(x), found, -math.inf)

    def cdf(self, value: Any) -> Tensor:
        """(exp(e value) - 1) / (exp(e) - 1); 0 and 1 outside of [0, 1]."""
        x, e = clip(asarray(value), 0.0, 1.0), self.logits
        is_near, is_high, down = self._ends()
        # x + e (x^2 - x) / 2 + ..., of exp(e x) - 1 over exp(e) - 1
        rest = x * (x - 1.0)
        series = x + rest * e * (0.5 + e * ((2.0 * x - 1.0) / 12.0 + e * rest / 24.0))
        low = expm1(down * x) / expm1(down)
        return where(is_near, series, where(is_high, exp(down * (1.0 - x)) * low, low))

    def icdf(self, value: Any) -> Tensor:
        """log(1 + value (exp(e) - 1)) / e."""
        u, e = asarray(value), self.logits
        is_near, is_high, down = self._ends()
        third = u * (1.0 / 24.0 + u * (-7.0 / 24.0 + u * (0.5 - 0.25 * u)))
        second = u * (1.0 / 6.0 + u * (-0.5 + u / 3.0))
        series = u + e * (0.5 * u * (1.0 - u) + e * (second + e * third))
        # From the end that is the likelier one: nothing overflows.
        share = where(is_high, 1.0 - u, u)
        far = log1p(share * expm1(down)) / down
        return where(is_near, series, where(is_high, 1.0 - far, far))

    def entropy(self) -> Tensor:
        """-e (mean - 1/2) - log((e/2) / sinh(e/2))."""
        return -self.logits * (self.mean - 0.5) - self._log_constant()

    @property
    def mean(self) -> Tensor:
        """1/2 + (coth(e/2) - 2/e) / 2."""
        is_small, h, other = self._small(0.1)
        s = square(h)
        near = h * (1 / 3 + s * (-1 / 45 + s * (2 / 945 - s * (1 / 4725 - 2 * s / 93555))))
        return 0.5 + 0.5 * where(is_small, near, 1.0 / tanh(other) - 1.0 / other)

    @property
    def variance(self) -> Tensor:
        """1 / e^2 - 1 / (2 sinh(e/2))^2."""
        is_small, h, other = self._small(0.3)
        s = square(h)
        terms = (1 / 3, -1 / 15, 2 / 189, -1 / 675, 2 / 10395, -1382 / 58046625, 4 / 1403325)
        near: Any = 0.0
        for term in reversed(terms):
            near = near * s + term
        return 0.25 * where(is_small, near, square(1.0 / other) - square(1.0 / sinh(other)))

    @property
    def mode(self) -> Tensor:
        """0 or 1, the end that is the likelier one; 1/2 where all are."""
        flat = where(self.logits == 0.0, 0.5, 0.0)
        return where(self.logits > 0.0, 1.0, flat).astype(self.logits.dtype)
