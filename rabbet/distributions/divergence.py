"""Kullback-Leibler divergences of distributions of one family, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rabbet import linalg
from rabbet.base.errors import RabbetError
from rabbet.distributions import continuous as c
from rabbet.distributions import discrete as d
from rabbet.distributions.distribution import Distribution, Independent
from rabbet.library.joining import broadcast_arrays
from rabbet.nn import functional
from rabbet.ops.arithmetic import abs_, square
from rabbet.ops.compare import logical_and, where
from rabbet.ops.functions import exp, log
from rabbet.ops.pointwise import xlogy
from rabbet.ops.special import digamma, lgamma
from rabbet.tensor import Tensor


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The mean under `p` of log p - log q, in nats: of shape batch_shape.

    Both must be of one family. Raises RabbetError for families without a closed form here.

    >>> normal = rb.distributions.Normal
    >>> rb.distributions.kl_divergence(normal(0.0, 1.0), normal(1.0, 1.0))
    tensor(0.5)
    """
    rule = RULES.get(type(p))
    if type(p) is not type(q) or rule is None:
        known = ", ".join(f.__name__ for f in RULES)
        raise RabbetError(
            f"kl_divergence: no rule for {type(p).__name__} and {type(q).__name__}; two "
            f"distributions of one of {known} are needed"
        )
    found: Tensor = rule(p, q)
    return found


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
    if p.count != q.count:
        raise RabbetError(f"kl_divergence: {p} and {q} have different events")
    return p.summed(kl_divergence(p.base, q.base))


RULES: dict[type, Callable[[Any, Any], Tensor]] = {
    c.Normal: _normal,
    c.LogNormal: lambda p, q: _normal(p.base, q.base),
    c.Exponential: _exponential,
    c.Uniform: _uniform,
    c.Laplace: _laplace,
    c.Gamma: _gamma,
    c.Beta: _beta,
    c.Dirichlet: _dirichlet,
    c.MultivariateNormal: _multivariate_normal,
    d.Bernoulli: _bernoulli,
    d.Categorical: _categorical,
    d.Poisson: _poisson,
    Independent: _independent,
}
