"""Kullback-Leibler divergences of distributions of one family, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from rabbet import linalg
from rabbet.base.errors import RabbetError
from rabbet.distributions import classes, tails
from rabbet.distributions import continuous as c
from rabbet.distributions import discrete as d
from rabbet.distributions.distribution import Distribution, Independent, sum_last
from rabbet.distributions.low_rank import LowRankMultivariateNormal
from rabbet.distributions.transformed import TransformedDistribution
from rabbet.library.joining import broadcast_arrays
from rabbet.nn import functional
from rabbet.ops.arithmetic import abs_, square
from rabbet.ops.compare import logical_and, where
from rabbet.ops.entropy import xlog1py
from rabbet.ops.float_functions import exp, log
from rabbet.ops.pointwise_composites import xlogy
from rabbet.ops.special import digamma, lgamma
from rabbet.tensor import Tensor

Rule: TypeAlias = Callable[[Any, Any], Tensor]


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The mean under `p` of log p - log q, in nats: of shape batch_shape.

    Raises RabbetError where there is no closed form here for their families.

    >>> normal = rb.distributions.Normal
    >>> rb.distributions.kl_divergence(normal(0.0, 1.0), normal(1.0, 1.0))
    tensor(0.5)
    """
    for left in type(p).__mro__:
        for right in type(q).__mro__:
            rule = RULES.get((left, right))
            if rule is not None:
                found: Tensor = rule(p, q)
                return found
    known = ", ".join(f.__name__ for f, _ in RULES)
    raise RabbetError(
        f"kl_divergence: no rule for {type(p).__name__} and {type(q).__name__}; there are rules "
        f"for two distributions of one of {known}; register_kl adds one"
    )


def register_kl(left: type, right: type) -> Callable[[Rule], Rule]:
    """Decorator: the function is the divergence of a `left` from a `right`, and of their kinds.

    >>> class Mine(rb.distributions.Normal): pass
    >>> @rb.distributions.register_kl(Mine, Mine)
    ... def _kl(p, q):
    ...     return p.loc - q.loc
    >>> rb.distributions.kl_divergence(Mine(3.0, 1.0), Mine(1.0, 1.0))
    tensor(2.)
    """

    def register(rule: Rule) -> Rule:
        RULES[left, right] = rule
        return rule

    return register


def _normal(p: Any, q: Any) -> Tensor:
    ratio = square(p.scale / q.scale)
    return 0.5 * (ratio + square((p.loc - q.loc) / q.scale) - 1.0 - log(ratio))


def _exponential(p: Any, q: Any) -> Tensor:
    return log(p.rate / q.rate) + q.rate / p.rate - 1.0


def _uniform(p: Any, q: Any) -> Tensor:
    inside = logical_and(q.low <= p.low, q.high >= p.high)
    return where(inside, log((q.high - q.low) / (p.high - p.low)), math.inf)


def _laplace(p: Any, q: Any) -> Tensor:
    ratio, away = p.scale / q.scale, abs_(p.loc - q.loc)
    return ratio * exp(-away / p.scale) + away / q.scale - 1.0 - log(ratio)


def _gamma(p: Any, q: Any) -> Tensor:
    a, b = p.concentration, q.concentration
    shapes = (a - b) * digamma(a) - lgamma(a) + lgamma(b)
    return shapes + b * log(p.rate / q.rate) + a * (q.rate / p.rate - 1.0)


def _beta(p: Any, q: Any) -> Tensor:
    a, b, e, f = p.concentration1, p.concentration0, q.concentration1, q.concentration0
    first = (a - e) * digamma(a) + (b - f) * digamma(b)
    both = (e - a + f - b) * digamma(a + b)
    return c.log_beta(e, f) - c.log_beta(a, b) + first + both


def _dirichlet(p: Any, q: Any) -> Tensor:
    a, b = p.concentration, q.concentration
    slope = digamma(a) - digamma(a.sum(axis=-1, keepdims=True))
    return q.log_normalizer() - p.log_normalizer() + ((a - b) * slope).sum(axis=-1)


def _multivariate_normal(p: Any, q: Any) -> Tensor:
    spread = square(linalg.solve(q.scale_tril, p.scale_tril)).sum(axis=(-2, -1))
    away = linalg.solve(q.scale_tril, (p.loc - q.loc)[..., None])
    distance = square(away).sum(axis=(-2, -1))
    determinants = q.half_log_det() - p.half_log_det()
    return determinants + 0.5 * (spread + distance - float(p.event_shape[0]))


def _bernoulli(p: Any, q: Any) -> Tensor:
    logits, chance = broadcast_arrays(q.logits, p.probs)
    return (
        functional.binary_cross_entropy_with_logits(logits, chance, reduction="none") - p.entropy()
    )


def _categorical(p: Any, q: Any) -> Tensor:
    chance = p.probs
    return (chance * where(chance == 0, 0.0, p.logits - q.logits)).sum(axis=-1)


def _poisson(p: Any, q: Any) -> Tensor:
    return xlogy(p.rate, p.rate / q.rate) - (p.rate - q.rate)


def _independent(p: Any, q: Any) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise RabbetError(f"kl_divergence: {p} and {q} have different events")
    return p.summed(kl_divergence(p.base_dist, q.base_dist))


def _of_bases(p: Any, q: Any) -> Tensor:
    return kl_divergence(p.base_dist, q.base_dist)


def _transformed(p: Any, q: Any) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise RabbetError(f"kl_divergence: {p} and {q} have different transforms")
    axes = len(p.event_shape) - len(p.base_dist.event_shape)
    return sum_last(kl_divergence(p.base_dist, q.base_dist), axes)


def _geometric(p: Any, q: Any) -> Tensor:
    return -p.entropy() - xlog1py(p.mean, -q.probs) - log(q.probs)


def _binomial(p: Any, q: Any) -> Tensor:
    if p.total_count != q.total_count:
        raise RabbetError(f"kl_divergence: {p} and {q} have different total counts")
    a, b = p.probs, q.probs
    return float(p.total_count) * (xlogy(a, a / b) + xlogy(1.0 - a, (1.0 - a) / (1.0 - b)))


def _cauchy(p: Any, q: Any) -> Tensor:
    # F. Chyzak, F. Nielsen, "A closed-form formula for the Kullback-Leibler divergence between
    # Cauchy distributions", 2019
    both = square(p.scale + q.scale) + square(p.loc - q.loc)
    return log(both / (4.0 * p.scale * q.scale))


def _gumbel(p: Any, q: Any) -> Tensor:
    ratio, away = p.scale / q.scale, (p.loc - q.loc) / q.scale
    shifted = exp(-away + lgamma(1.0 + ratio))
    return shifted - log(ratio) + away + ratio * tails.EULER - (1.0 + tails.EULER)


def _pareto(p: Any, q: Any) -> Tensor:
    ratio = p.scale / q.scale
    found = q.alpha * log(ratio) + log(p.alpha / q.alpha) + q.alpha / p.alpha - 1.0
    return where(p.scale >= q.scale, found, math.inf)


def _uniform_normal(p: Any, q: Any) -> Tensor:
    away = square((p.high + p.low - 2.0 * q.loc) / 2.0) + square(p.high - p.low) / 12.0
    constant = 0.5 * math.log(2.0 * math.pi)
    return constant + log(q.scale / (p.high - p.low)) + 0.5 * away / square(q.scale)


RULES: dict[tuple[type, type], Rule] = {
    (c.Normal, c.Normal): _normal,
    (c.LogNormal, c.LogNormal): lambda p, q: _normal(p.base_dist, q.base_dist),
    (c.Exponential, c.Exponential): _exponential,
    (c.Uniform, c.Uniform): _uniform,
    (c.Laplace, c.Laplace): _laplace,
    (c.Gamma, c.Gamma): _gamma,
    (c.Beta, c.Beta): _beta,
    (c.Dirichlet, c.Dirichlet): _dirichlet,
    **{
        (p, q): _multivariate_normal
        for p in (c.MultivariateNormal, LowRankMultivariateNormal)
        for q in (c.MultivariateNormal, LowRankMultivariateNormal)
    },
    (d.Bernoulli, d.Bernoulli): _bernoulli,
    (d.Categorical, d.Categorical): _categorical,
    (d.Poisson, d.Poisson): _poisson,
    (d.Geometric, d.Geometric): _geometric,
    (d.Binomial, d.Binomial): _binomial,
    (classes.OneHotCategorical, classes.OneHotCategorical): _of_bases,
    (tails.HalfNormal, tails.HalfNormal): _of_bases,
    (tails.HalfCauchy, tails.HalfCauchy): _of_bases,
    (tails.Cauchy, tails.Cauchy): _cauchy,
    (tails.Gumbel, tails.Gumbel): _gumbel,
    (tails.Pareto, tails.Pareto): _pareto,
    (Independent, Independent): _independent,
    (TransformedDistribution, TransformedDistribution): _transformed,
    (c.Uniform, c.Normal): _uniform_normal,
}
