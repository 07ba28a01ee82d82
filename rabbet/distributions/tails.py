"""More distributions of real numbers: with heavy tails, of one side, of extremes."""

from __future__ import annotations

import math
from typing import Any

from rabbet.distributions import constraints
from rabbet.distributions.continuous import Gamma, Normal, log_beta
from rabbet.distributions.distribution import Distribution, floats
from rabbet.library.random import UNIFORM_STEPS, rand, randn
from rabbet.ops.arithmetic import abs_, minimum, sign, square
from rabbet.ops.compare import where
from rabbet.ops.entropy import xlog1py
from rabbet.ops.float_functions import exp, expm1, log, log1p, sqrt
from rabbet.ops.gamma_functions import gammaincc
from rabbet.ops.pointwise_composites import xlogy
from rabbet.ops.special import digamma, lgamma
from rabbet.ops.trigonometry import atan, tan
from rabbet.tensor import Tensor, asarray

EULER = 0.57721566490153286  # the Euler-Mascheroni constant


def positive_uniform(like: Tensor, shape: Any, generator: Any) -> Tensor:
    """Uniform numbers above 0: half a step of those of `rand` instead of 0."""
    least = 0.5 / UNIFORM_STEPS.get(like.dtype.name, 2.0**32)
    return rand(shape, dtype=like.dtype, generator=generator).clip(least, None)


class StudentT(Distribution):
    """Student's t with `df` degrees of freedom, moved to `loc` and stretched by `scale`.

    >>> rb.distributions.StudentT(3.0).variance
    tensor(3.)
    """

    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0) -> None:
        self.df, self.loc, self.scale = floats(df, loc, scale)
        self.batch_shape = self.df.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """A normal number over the root of a chi-squared one, divided by df."""
        size = self.drawn_shape(shape)
        z = randn(size, dtype=self.df.dtype, generator=generator)
        squares = Gamma(0.5 * self.df, 0.5).rsample(shape, generator=generator)
        return self.loc + self.scale * z / sqrt(squares / self.df)

    def log_prob(self, value: Any) -> Tensor:
        """-(df + 1) / 2 log(1 + z^2 / df), less the logarithm of scale sqrt(df) B(df/2, 1/2)."""
        z = (asarray(value) - self.loc) / self.scale
        return -0.5 * (self.df + 1.0) * log1p(square(z) / self.df) - self._log_normalizer()

    def _log_normalizer(self) -> Tensor:
        half = 0.5 * self.df
        halves = lgamma(half) - lgamma(half + 0.5) + 0.5 * math.log(math.pi)
        return log(self.scale) + 0.5 * log(self.df) + halves

    def entropy(self) -> Tensor:
        """(df + 1) / 2 (psi((df + 1) / 2) - psi(df / 2)) + log(scale sqrt(df) B(df/2, 1/2))."""
        half = 0.5 * self.df
        return (half + 0.5) * (digamma(half + 0.5) - digamma(half)) + self._log_normalizer()

    @property
    def mean(self) -> Tensor:
        """loc, where df > 1; NaN elsewhere."""
        return where(self.df > 1.0, self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        """scale^2 df / (df - 2), where df > 2; infinite above 1, NaN elsewhere."""
        found = square(self.scale) * self.df / where(self.df > 2.0, self.df - 2.0, 1.0)
        return where(self.df > 2.0, found, where(self.df > 1.0, math.inf, math.nan))

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc


class _Inverted(Distribution):
    """A family of a place and a width, drawn through the inverse of its cumulative probability."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Any, scale: Any) -> None:
        self.loc, self.scale = floats(loc, scale)
        self.batch_shape = self.loc.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """By inversion."""
        return self.icdf(positive_uniform(self.loc, self.drawn_shape(shape), generator))


class Cauchy(_Inverted):
    """The ratio of two normal numbers, moved to `loc` and stretched by `scale`; without a mean.

    >>> rb.distributions.Cauchy(0.0, 1.0).cdf(rb.tensor(1.0))
    tensor(0.75)
    """

    def log_prob(self, value: Any) -> Tensor:
        """-log(pi scale (1 + z^2))."""
        z = (asarray(value) - self.loc) / self.scale
        return -math.log(math.pi) - log(self.scale) - log1p(square(z))

    def cdf(self, value: Any) -> Tensor:
        """atan(z) / pi + 1/2."""
        return atan((asarray(value) - self.loc) / self.scale) / math.pi + 0.5

    def icdf(self, value: Any) -> Tensor:
        """loc + scale tan(pi (value - 1/2)): 1 / tan of the distance to the end, far out."""
        chance = asarray(value)
        p, rest = chance - 0.5, minimum(chance, 1.0 - chance)
        is_near = rest > 0.25
        near = tan(math.pi * where(is_near, p, 0.25))
        far = sign(p) / tan(math.pi * where(is_near, 0.25, rest))
        return self.loc + self.scale * where(is_near, near, far)

    def entropy(self) -> Tensor:
        """log(4 pi scale)."""
        return log(self.scale) + math.log(4.0 * math.pi)

    @property
    def mean(self) -> Tensor:
        """NaN."""
        return self.loc * math.nan

    @property
    def variance(self) -> Tensor:
        """Infinite."""
        return self.scale * math.inf

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc


class _Half(Distribution):
    """The sizes of numbers that lie symmetrically around 0."""

    support = constraints.nonnegative

    def __init__(self, scale: Any, base: type[Normal] | type[Cauchy]) -> None:
        (self.scale,) = floats(scale)
        self.base_dist: Normal | Cauchy = base(0.0, self.scale)
        self.batch_shape = self.scale.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """Sizes of the base's draws."""
        return abs_(self.base_dist.rsample(shape, generator=generator))

    def log_prob(self, value: Any) -> Tensor:
        """The base's and log 2; -inf below 0."""
        x = asarray(value)
        return where(x >= 0, self.base_dist.log_prob(x) + math.log(2.0), -math.inf)

    def cdf(self, value: Any) -> Tensor:
        """2 base - 1; 0 below 0."""
        x = asarray(value)
        return where(x >= 0, 2.0 * self.base_dist.cdf(x) - 1.0, 0.0)

    def icdf(self, value: Any) -> Tensor:
        """The base's of (value + 1) / 2."""
        return self.base_dist.icdf(0.5 * (asarray(value) + 1.0))

    def entropy(self) -> Tensor:
        """The base's, less log 2."""
        return self.base_dist.entropy() - math.log(2.0)

    @property
    def mode(self) -> Tensor:
        """0."""
        return 0.0 * self.scale


class HalfNormal(_Half):
    """|x| of normal numbers x of mean 0 and standard deviation `scale`.

    >>> rb.distributions.HalfNormal(1.0).mean
    tensor(0.7978846)
    """

    arg_constraints = {"scale": constraints.positive}

    def __init__(self, scale: Any) -> None:
        super().__init__(scale, Normal)

    @property
    def mean(self) -> Tensor:
        """scale sqrt(2 / pi)."""
        return self.scale * math.sqrt(2.0 / math.pi)

    @property
    def variance(self) -> Tensor:
        """scale^2 (1 - 2 / pi)."""
        return square(self.scale) * (1.0 - 2.0 / math.pi)


class HalfCauchy(_Half):
    """|x| of Cauchy numbers x around 0; without a mean.

    >>> rb.distributions.HalfCauchy(1.0).cdf(rb.tensor(1.0))
    tensor(0.5)
    """

    arg_constraints = {"scale": constraints.positive}

    def __init__(self, scale: Any) -> None:
        super().__init__(scale, Cauchy)

    @property
    def mean(self) -> Tensor:
        """Infinite."""
        return self.scale * math.inf

    @property
    def variance(self) -> Tensor:
        """Infinite."""
        return self.scale * math.inf


class Gumbel(_Inverted):
    """The largest of many numbers: cumulative probability exp(-exp(-(x - loc) / scale)).

    >>> rb.distributions.Gumbel(0.0, 1.0).mean
    tensor(0.5772157)
    """

    def log_prob(self, value: Any) -> Tensor:
        """-z - exp(-z) - log(scale)."""
        z = (asarray(value) - self.loc) / self.scale
        return -z - exp(-z) - log(self.scale)

    def cdf(self, value: Any) -> Tensor:
        """exp(-exp(-z))."""
        return exp(-exp((self.loc - asarray(value)) / self.scale))

    def icdf(self, value: Any) -> Tensor:
        """loc - scale log(-log(value))."""
        return self.loc - self.scale * log(-log(asarray(value)))

    def entropy(self) -> Tensor:
        """log(scale) + 1 + Euler's constant."""
        return log(self.scale) + (1.0 + EULER)

    @property
    def mean(self) -> Tensor:
        """loc + scale times Euler's constant."""
        return self.loc + self.scale * EULER

    @property
    def variance(self) -> Tensor:
        """(pi scale)^2 / 6."""
        return square(self.scale) * (math.pi**2 / 6.0)

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc


class Chi2(Gamma):
    """Sums of the squares of `df` standard normal numbers.

    >>> rb.distributions.Chi2(3.0).variance
    tensor(6.)
    """

    support = constraints.positive

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df: Any) -> None:
        (self.df,) = floats(df)
        super().__init__(0.5 * self.df, 0.5)


class InverseGamma(Distribution):
    """1 / x of gamma numbers x.

    >>> rb.distributions.InverseGamma(3.0, 4.0).mean
    tensor(2.)
    """

    support = constraints.positive

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}

    def __init__(self, concentration: Any, rate: Any = 1.0) -> None:
        self.concentration, self.rate = floats(concentration, rate)
        self.batch_shape = self.rate.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """1 over gamma numbers."""
        return 1.0 / Gamma(self.concentration, self.rate).rsample(shape, generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """a log(rate) - log Gamma(a) - (a + 1) log(value) - rate / value."""
        x, a = asarray(value), self.concentration
        return a * log(self.rate) - lgamma(a) - (a + 1.0) * log(x) - self.rate / x

    def cdf(self, value: Any) -> Tensor:
        """What is missing to 1 in the gamma numbers' at 1 / value."""
        return gammaincc(self.concentration, self.rate / asarray(value))

    def entropy(self) -> Tensor:
        """a + log(rate) + log Gamma(a) - (1 + a) psi(a)."""
        a = self.concentration
        return a + log(self.rate) + lgamma(a) - (1.0 + a) * digamma(a)

    @property
    def mean(self) -> Tensor:
        """rate / (a - 1), where a > 1; infinite elsewhere."""
        a = self.concentration
        return where(a > 1.0, self.rate / where(a > 1.0, a - 1.0, 1.0), math.inf)

    @property
    def variance(self) -> Tensor:
        """rate^2 / ((a - 1)^2 (a - 2)), where a > 2; infinite elsewhere."""
        a = where(self.concentration > 2.0, self.concentration, 3.0)
        found = square(self.rate / (a - 1.0)) / (a - 2.0)
        return where(self.concentration > 2.0, found, math.inf)

    @property
    def mode(self) -> Tensor:
        """rate / (a + 1)."""
        return self.rate / (self.concentration + 1.0)


class Pareto(Distribution):
    """Numbers from `scale` on, with density alpha scale^alpha / x^(alpha + 1).

    >>> rb.distributions.Pareto(1.0, 3.0).mean
    tensor(1.5)
    """

    arg_constraints = {"scale": constraints.positive, "alpha": constraints.positive}

    def __init__(self, scale: Any, alpha: Any) -> None:
        self.scale, self.alpha = floats(scale, alpha)
        self.batch_shape = self.scale.shape
        self.support = constraints.greater_than_eq(self.scale)

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """By inversion: scale u^(-1 / alpha)."""
        u = positive_uniform(self.alpha, self.drawn_shape(shape), generator)
        return self.scale * exp(-log(u) / self.alpha)

    def log_prob(self, value: Any) -> Tensor:
        """log(alpha) + alpha log(scale) - (alpha + 1) log(value); -inf below scale."""
        x = asarray(value)
        found = log(self.alpha) + self.alpha * log(self.scale) - (self.alpha + 1.0) * log(x)
        return where(x >= self.scale, found, -math.inf)

    def cdf(self, value: Any) -> Tensor:
        """1 - (scale / value)^alpha; 0 below scale."""
        x = asarray(value)
        return where(x >= self.scale, -expm1(self.alpha * log(self.scale / x)), 0.0)

    def entropy(self) -> Tensor:
        """log(scale / alpha) + 1 + 1 / alpha."""
        return log(self.scale / self.alpha) + 1.0 + 1.0 / self.alpha

    @property
    def mean(self) -> Tensor:
        """alpha scale / (alpha - 1), where alpha > 1; infinite elsewhere."""
        a = where(self.alpha > 1.0, self.alpha, 2.0)
        return where(self.alpha > 1.0, a * self.scale / (a - 1.0), math.inf)

    @property
    def variance(self) -> Tensor:
        """scale^2 alpha / ((alpha - 1)^2 (alpha - 2)), where alpha > 2; infinite elsewhere."""
        a = where(self.alpha > 2.0, self.alpha, 3.0)
        found = square(self.scale / (a - 1.0)) * a / (a - 2.0)
        return where(self.alpha > 2.0, found, math.inf)

    @property
    def mode(self) -> Tensor:
        """scale."""
        return self.scale


class Weibull(Distribution):
    """Numbers that are larger than x with the chance exp(-(x / scale)^concentration).

    >>> rb.distributions.Weibull(2.0, 1.0).cdf(rb.tensor(0.0))
    tensor(0.)
    """

    support = constraints.positive

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}

    def __init__(self, scale: Any, concentration: Any) -> None:
        self.scale, self.concentration = floats(scale, concentration)
        self.batch_shape = self.scale.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """By inversion: scale (-log u)^(1 / concentration)."""
        u = positive_uniform(self.scale, self.drawn_shape(shape), generator)
        return self.scale * (-log(u)) ** (1.0 / self.concentration)

    def log_prob(self, value: Any) -> Tensor:
        """log(k / scale) + (k - 1) log(value / scale) - (value / scale)^k."""
        z, k = asarray(value) / self.scale, self.concentration
        return log(k / self.scale) + xlogy(k - 1.0, z) - z**k

    def cdf(self, value: Any) -> Tensor:
        """1 - exp(-(value / scale)^k)."""
        return -expm1(-((asarray(value) / self.scale) ** self.concentration))

    def entropy(self) -> Tensor:
        """Euler's constant times (1 - 1 / k) + log(scale / k) + 1."""
        k = self.concentration
        return EULER * (1.0 - 1.0 / k) + log(self.scale / k) + 1.0

    @property
    def mean(self) -> Tensor:
        """scale Gamma(1 + 1 / k)."""
        return self.scale * exp(lgamma(1.0 + 1.0 / self.concentration))

    @property
    def variance(self) -> Tensor:
        """scale^2 (Gamma(1 + 2 / k) - Gamma(1 + 1 / k)^2)."""
        k = self.concentration
        moments = exp(lgamma(1.0 + 2.0 / k)) - exp(2.0 * lgamma(1.0 + 1.0 / k))
        return square(self.scale) * moments


class Kumaraswamy(Distribution):
    """Numbers in (0, 1) that are less than x with the chance 1 - (1 - x^a)^b: like Beta's.

    >>> rb.distributions.Kumaraswamy(1.0, 1.0).log_prob(rb.tensor(0.5)).item() == 0.0
    True
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
        """By inversion: (1 - u^(1 / b))^(1 / a)."""
        u = positive_uniform(self.concentration1, self.drawn_shape(shape), generator)
        return (-expm1(log(u) / self.concentration0)) ** (1.0 / self.concentration1)

    def log_prob(self, value: Any) -> Tensor:
        """log(a b) + (a - 1) log(value) + (b - 1) log(1 - value^a)."""
        x, a, b = asarray(value), self.concentration1, self.concentration0
        return log(a * b) + xlogy(a - 1.0, x) + xlog1py(b - 1.0, -(x**a))

    def cdf(self, value: Any) -> Tensor:
        """1 - (1 - value^a)^b."""
        x, a, b = asarray(value), self.concentration1, self.concentration0
        return -expm1(b * log1p(-(x**a)))

    def entropy(self) -> Tensor:
        """(1 - 1 / b) + (1 - 1 / a) H(b) - log(a b), H the harmonic numbers."""
        a, b = self.concentration1, self.concentration0
        harmonic = digamma(b + 1.0) + EULER
        return (1.0 - 1.0 / b) + (1.0 - 1.0 / a) * harmonic - log(a * b)

    def _moment(self, n: int) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return b * exp(log_beta(1.0 + n / a, b))

    @property
    def mean(self) -> Tensor:
        """b B(1 + 1 / a, b)."""
        return self._moment(1)

    @property
    def variance(self) -> Tensor:
        """b B(1 + 2 / a, b) - mean^2."""
        return self._moment(2) - square(self.mean)


class FisherSnedecor(Distribution):
    """The ratio of two chi-squared numbers, each divided by its degrees of freedom.

    >>> rb.distributions.FisherSnedecor(2.0, 4.0).mean
    tensor(2.)
    """

    support = constraints.positive

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}

    def __init__(self, df1: Any, df2: Any) -> None:
        self.df1, self.df2 = floats(df1, df2)
        self.batch_shape = self.df1.shape

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """A ratio of gamma numbers."""
        above = Gamma(0.5 * self.df1, 0.5 * self.df1).rsample(shape, generator=generator)
        below = Gamma(0.5 * self.df2, 0.5 * self.df2).rsample(shape, generator=generator)
        return above / below

    def log_prob(self, value: Any) -> Tensor:
        """a log r + (a - 1) log x - (a + b) log(1 + r x) - log B(a, b); a, b halves, r = a / b."""
        x, a, b, r = asarray(value), 0.5 * self.df1, 0.5 * self.df2, self.df1 / self.df2
        return a * log(r) + xlogy(a - 1.0, x) - (a + b) * log1p(r * x) - log_beta(a, b)

    @property
    def mean(self) -> Tensor:
        """df2 / (df2 - 2), where df2 > 2; NaN elsewhere."""
        b = where(self.df2 > 2.0, self.df2, 3.0)
        return where(self.df2 > 2.0, b / (b - 2.0), math.nan)

    @property
    def variance(self) -> Tensor:
        """2 df2^2 (df1 + df2 - 2) / (df1 (df2 - 2)^2 (df2 - 4)), where df2 > 4; NaN elsewhere."""
        a, b = self.df1, where(self.df2 > 4.0, self.df2, 5.0)
        found = 2.0 * square(b / (b - 2.0)) * (a + b - 2.0) / (a * (b - 4.0))
        return where(self.df2 > 4.0, found, math.nan)
