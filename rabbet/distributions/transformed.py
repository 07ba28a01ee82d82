"""Distributions made of others: images under transforms, and mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.distributions import constraints
from rabbet.distributions.constraints import Constraint
from rabbet.distributions.continuous import Normal
from rabbet.distributions.discrete import Categorical
from rabbet.distributions.distribution import Distribution, Independent, floats, sum_last
from rabbet.distributions.transforms import (
    ComposeTransform,
    StickBreakingTransform,
    Transform,
)
from rabbet.ops.arithmetic import square
from rabbet.ops.compare import where
from rabbet.ops.gather_scatter import take_along_axis
from rabbet.ops.index_maps import expand
from rabbet.ops.statistics import logsumexp
from rabbet.tensor import Tensor, asarray, no_grad


class TransformedDistribution(Distribution):
    """The draws of a distribution behind one transform, or several in order.

    >>> d = rb.distributions.TransformedDistribution(
    ...     rb.distributions.Normal(0.0, 1.0), rb.distributions.ExpTransform())
    >>> d.log_prob(rb.tensor(1.0))
    tensor(-0.9189385)
    """

    def __init__(
        self, base_distribution: Distribution, transforms: Transform | Sequence[Transform]
    ) -> None:
        parts = list(transforms) if isinstance(transforms, Sequence) else [transforms]
        whole, base = ComposeTransform(parts), base_distribution
        shape = (*base.batch_shape, *base.event_shape)
        if len(shape) < whole.domain.event_dim:
            raise ShapeError(
                f"TransformedDistribution: {base} has draws of {len(shape)} axes, {whole} needs "
                f"{whole.domain.event_dim}"
            )
        image = whole.forward_shape(shape)
        wide = whole.inverse_shape(image)
        if wide != shape:
            base = base.expand(wide[: len(wide) - len(base.event_shape)])
        missing = whole.domain.event_dim - len(base.event_shape)
        if missing > 0:
            base = Independent(base, missing)
        axes = whole.codomain.event_dim + max(-missing, 0)
        self.base_dist, self.transforms = base, parts
        self.batch_shape = image[: len(image) - axes]
        self.event_shape = image[len(image) - axes :]
        self.support = whole.codomain if parts else base.support

    @property
    def has_rsample(self) -> bool:
        """The base's."""
        return self.base_dist.has_rsample

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """The image of the base's draws."""
        return self._image(self.base_dist.rsample(shape, generator=generator))

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """The image of the base's draws, without a gradient."""
        with no_grad():
            return self._image(self.base_dist.sample(shape, generator=generator))

    def _image(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x

    def log_prob(self, value: Any) -> Tensor:
        """The base's at what `value` is the image of, less the logarithms of the volume changes."""
        axes, y, terms = len(self.event_shape), asarray(value), []
        for transform in reversed(self.transforms):
            if not transform.bijective:
                raise RabbetError(f"TransformedDistribution: {transform} is not bijective")
            x = transform.back(y)
            axes += transform.domain.event_dim - transform.codomain.event_dim
            change = transform.log_abs_det_jacobian(x, y)
            terms.append(sum_last(change, axes - transform.domain.event_dim))
            y = x
        found = sum_last(self.base_dist.log_prob(y), axes - len(self.base_dist.event_shape))
        for term in terms:
            found = found - term
        return found

    def cdf(self, value: Any) -> Tensor:
        """The base's, or what is missing to 1 where transforms turn the order round."""
        found = self.base_dist.cdf(ComposeTransform(self.transforms).back(value))
        return self._turned(found)

    def icdf(self, value: Any) -> Tensor:
        """The image of the base's."""
        return self._image(self.base_dist.icdf(self._turned(asarray(value))))

    def _turned(self, chance: Tensor) -> Tensor:
        for transform in self.transforms:
            if transform.sign is None:
                raise self.missing(f"cumulative probability behind {transform}")
            if isinstance(transform.sign, Tensor):
                chance = where(transform.sign > 0, chance, 1.0 - chance)
            elif transform.sign < 0:
                chance = 1.0 - chance
        return chance


class LogisticNormal(TransformedDistribution):
    """Positive vectors whose sum is 1: normal ones behind `StickBreakingTransform`.

    >>> rb.distributions.LogisticNormal(rb.zeros(2), rb.ones(2)).event_shape
    (3,)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Any, scale: Any) -> None:
        super().__init__(Normal(loc, scale), StickBreakingTransform())
        self.loc, self.scale = floats(loc, scale)

    def expand(self, batch_shape: Any) -> LogisticNormal:
        """The same for a larger batch."""
        shape = (*batch_shape, self.loc.shape[-1])
        return LogisticNormal(expand(self.loc, shape), expand(self.scale, shape))


class MixtureSameFamily(Distribution):
    """One of several components, drawn by `mixture_distribution`: the components are the last axis
    of the batch of `component_distribution`.

    >>> d = rb.distributions
    >>> p = d.MixtureSameFamily(d.Categorical(rb.ones(2)), d.Normal(rb.tensor([0.0, 4.0]), 1.0))
    >>> p.mean
    tensor(2.)
    """

    def __init__(
        self, mixture_distribution: Categorical, component_distribution: Distribution
    ) -> None:
        mixture, parts = mixture_distribution, component_distribution
        count = mixture.logits.shape[-1]
        if not parts.batch_shape or parts.batch_shape[-1] != count:
            raise ShapeError(
                f"MixtureSameFamily: {parts} must have {count} components as its last batch axis"
            )
        self.batch_shape, self.event_shape = parts.batch_shape[:-1], parts.event_shape
        self.mixture_distribution = mixture.expand(self.batch_shape)
        self.component_distribution, of = parts, parts.support
        self.support = Constraint(
            of.name, of.event_dim, lambda x: of.check(self._along(x)).any(axis=-1)
        )

    def _along(self, x: Tensor) -> Tensor:
        """With an axis of components of size 1 in front of the event's."""
        at = x.ndim - len(self.event_shape)
        return x.reshape((*x.shape[:at], 1, *x.shape[at:]))

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """A draw of every component, of which the chosen one is taken."""
        with no_grad():
            chosen = self.mixture_distribution.sample(shape, generator=generator)
            drawn = self.component_distribution.sample(shape, generator=generator)
            axes = len(self.event_shape)
            places = chosen.reshape((*chosen.shape, *(1,) * (axes + 1)))
            at = drawn.ndim - axes - 1
            places = expand(places, (*drawn.shape[:at], 1, *self.event_shape))
            found: Tensor = take_along_axis(drawn, places, at)
            return found.reshape((*drawn.shape[:at], *self.event_shape))

    def log_prob(self, value: Any) -> Tensor:
        """log of the sum of chance times density over the components."""
        parts = self.component_distribution.log_prob(self._along(asarray(value)))
        return logsumexp(parts + self.mixture_distribution.logits, axis=-1)

    def cdf(self, value: Any) -> Tensor:
        """The components' mean."""
        parts = self.component_distribution.cdf(self._along(asarray(value)))
        return (parts * self.mixture_distribution.probs).sum(axis=-1)

    def _chances(self) -> Tensor:
        chance = self.mixture_distribution.probs
        return chance.reshape((*chance.shape, *(1,) * len(self.event_shape)))

    def _mean(self, x: Tensor) -> Tensor:
        return (self._chances() * x).sum(axis=-1 - len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The mean of the components' means."""
        return self._mean(self.component_distribution.mean)

    @property
    def variance(self) -> Tensor:
        """The mean of the components' variances, and the variance of their means."""
        parts = self.component_distribution
        away = parts.mean - self._along(self.mean)
        return self._mean(parts.variance + square(away))
