"""Distributions of counts and of vectors that stand for classes, sharp or relaxed."""

from __future__ import annotations

import math
from typing import Any

from rabbet.distributions import constraints
from rabbet.distributions.continuous import Gamma
from rabbet.distributions.discrete import Bernoulli, Categorical, Poisson, count_of, one_of
from rabbet.distributions.distribution import Distribution, Shape, floats
from rabbet.distributions.tails import positive_uniform
from rabbet.nn.functional import one_hot
from rabbet.ops.activation import logsigmoid
from rabbet.ops.float_functions import exp, log, log1p, sigmoid
from rabbet.ops.index_maps import expand
from rabbet.ops.network import log_softmax, softmax
from rabbet.ops.pointwise_composites import logit, xlogy
from rabbet.ops.special import lgamma
from rabbet.tensor import Tensor, asarray
from rabbet.tensor.create import eye


class _Classes(Distribution):
    """What distributions of vectors, one number per class, have from a Categorical."""

    def __init__(self, probs: Any, logits: Any) -> None:
        self.base_dist = Categorical(probs, logits)
        self.batch_shape = self.base_dist.batch_shape
        self.event_shape: Shape = self.base_dist.logits.shape[-1:]

    @property
    def probs(self) -> Tensor:
        """The chance of each class."""
        return self.base_dist.probs

    @property
    def logits(self) -> Tensor:
        """The logarithm of the chance of each class."""
        return self.base_dist.logits


class OneHotCategorical(_Classes):
    """Vectors with a 1 at a class drawn with the chances `probs`, or softmax of `logits`.

    >>> rb.distributions.OneHotCategorical(rb.asarray([0.0, 1.0])).sample()
    tensor([0., 1.])
    """

    support = constraints.one_hot

    arg_constraints = {"probs": constraints.class_weights, "logits": constraints.real_vector}

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        super().__init__(probs, logits)

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """One-hot vectors of class numbers."""
        chosen = self.base_dist.sample(shape, generator=generator)
        return one_hot(chosen, self.event_shape[0]).astype(self.probs.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """The logit of the class of the 1."""
        return self.base_dist.log_prob(asarray(value).argmax(-1))

    def entropy(self) -> Tensor:
        """-sum p log(p)."""
        return self.base_dist.entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The unit vectors."""
        n = self.event_shape[0]
        found = eye(n, dtype=self.probs.dtype).reshape((n, *(1,) * len(self.batch_shape), n))
        return found.expand((n, *self.batch_shape, n)) if expand else found

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
        """The vector of the most likely class."""
        return one_hot(self.probs.argmax(-1), self.event_shape[0]).astype(self.probs.dtype)


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """One-hot vectors whose gradient is that of `probs` (Y. Bengio et al., 2013).

    >>> logits = rb.zeros(2, requires_grad=True)
    >>> d = rb.distributions.OneHotCategoricalStraightThrough(logits=logits)
    >>> d.rsample().requires_grad
    True
    """

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """Draws, with the gradient of the chances."""
        return self.sample(shape, generator=generator) + (self.probs - self.probs.detach())


class Multinomial(_Classes):
    """How often each class occurs in `total_count` draws; floats.

    >>> rb.distributions.Multinomial(10, rb.asarray([0.2, 0.8])).mean
    tensor([2., 8.])
    """

    arg_constraints = {"probs": constraints.class_weights, "logits": constraints.real_vector}

    def __init__(self, total_count: int = 1, probs: Any = None, logits: Any = None) -> None:
        super().__init__(probs, logits)
        self.total_count = count_of("Multinomial", total_count)
        bounds = constraints.integer_interval(0, self.total_count)
        self.support = constraints.independent(bounds, 1)

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """Counts of class numbers."""
        lead = (shape,) if isinstance(shape, int) else tuple(shape)
        chosen = self.base_dist.sample((self.total_count, *lead), generator=generator)
        return one_hot(chosen, self.event_shape[0]).sum(axis=0).astype(self.probs.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """log(n!) - sum log(x!) + sum x log(p)."""
        x = asarray(value).astype(self.probs.dtype)
        ways = lgamma(x.sum(axis=-1) + 1.0) - lgamma(x + 1.0).sum(axis=-1)
        return ways + xlogy(x, self.probs).sum(axis=-1)

    @property
    def mean(self) -> Tensor:
        """n p."""
        return float(self.total_count) * self.probs

    @property
    def variance(self) -> Tensor:
        """n p (1 - p)."""
        return self.mean * (1.0 - self.probs)


class NegativeBinomial(Distribution):
    """How many trials succeed before `total_count` fail, each with the chance `probs`; floats.

    >>> rb.distributions.NegativeBinomial(3.0, probs=0.5).mean
    tensor(3.)
    """

    support = constraints.nonnegative_integer

    arg_constraints = {
        "total_count": constraints.nonnegative,
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }

    def __init__(self, total_count: Any, probs: Any = None, logits: Any = None) -> None:
        given = one_of("NegativeBinomial", probs, logits)
        self.total_count, given = floats(total_count, given)
        self.logits = given if probs is None else logit(given)
        self.probs = given if logits is None else sigmoid(given)
        self.batch_shape = given.shape

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """Poisson numbers of a gamma rate."""
        rates = Gamma(self.total_count, exp(-self.logits))
        return Poisson(rates.sample(shape, generator=generator)).sample(generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """log Gamma(n + x) - log Gamma(n) - log(x!) + n log(1 - p) + x log(p)."""
        n, x = self.total_count, asarray(value).astype(self.logits.dtype)
        ways = lgamma(n + x) - lgamma(n) - lgamma(x + 1.0)
        return ways + n * logsigmoid(-self.logits) + x * logsigmoid(self.logits)

    @property
    def mean(self) -> Tensor:
        """n p / (1 - p)."""
        return self.total_count * exp(self.logits)

    @property
    def variance(self) -> Tensor:
        """mean / (1 - p)."""
        return self.mean / sigmoid(-self.logits)


class RelaxedBernoulli(Distribution):
    """Numbers in (0, 1), near 0 or 1 at a low temperature, through which gradients flow.

    C. Maddison et al., "The concrete distribution", 2017.

    >>> rb.distributions.RelaxedBernoulli(0.5, probs=0.5).rsample((3,)).shape
    (3,)
    """

    support = constraints.unit_interval

    arg_constraints = {
        "temperature": constraints.positive,
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None) -> None:
        self.base_dist = Bernoulli(probs, logits)
        self.temperature = asarray(temperature).astype(self.base_dist.logits.dtype)
        self.temperature = expand(self.temperature, self.base_dist.batch_shape)
        self.batch_shape = self.base_dist.batch_shape

    @property
    def probs(self) -> Tensor:
        """The chance of a 1."""
        return self.base_dist.probs

    @property
    def logits(self) -> Tensor:
        """The logarithm of the odds of a 1."""
        return self.base_dist.logits

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """sigmoid((logits + a logistic number) / temperature)."""
        u = positive_uniform(self.logits, self.drawn_shape(shape), generator)
        u = u.clip(None, 1.0 - 2.0**-24)
        return sigmoid((self.logits + log(u) - log1p(-u)) / self.temperature)

    def log_prob(self, value: Any) -> Tensor:
        """log t + d - 2 softplus(d) - log(x (1 - x)), d = logits - t logit(x)."""
        x = asarray(value)
        place = log(x) - log1p(-x)
        away = self.logits - place * self.temperature
        density = log(self.temperature) + away + 2.0 * logsigmoid(-away)
        return density - log(x) - log1p(-x)


class RelaxedOneHotCategorical(_Classes):
    """Positive vectors whose sum is 1, near one-hot ones at a low temperature: Gumbel-softmax.

    C. Maddison et al., "The concrete distribution", 2017; E. Jang et al., 2017.

    >>> rb.distributions.RelaxedOneHotCategorical(0.5, logits=rb.zeros(3)).rsample().shape
    (3,)
    """

    support = constraints.simplex

    arg_constraints = {
        "temperature": constraints.positive,
        "probs": constraints.class_weights,
        "logits": constraints.real_vector,
    }

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None) -> None:
        super().__init__(probs, logits)
        self.temperature = expand(asarray(temperature).astype(self.logits.dtype), self.batch_shape)

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """softmax((logits + Gumbel numbers) / temperature)."""
        u = positive_uniform(self.logits, self.drawn_shape(shape), generator)
        return softmax((self.logits - log(-log(u))) / self.temperature[..., None], -1)

    def log_prob(self, value: Any) -> Tensor:
        """log (n-1)! + (n - 1) log t + sum log softmax(logits - t log x) - sum log x."""
        logs, n = log(asarray(value)), self.event_shape[0]
        scores = log_softmax(self.logits - logs * self.temperature[..., None], -1)
        scale = math.lgamma(n) + (n - 1.0) * log(self.temperature)
        return scale + (scores - logs).sum(axis=-1)
