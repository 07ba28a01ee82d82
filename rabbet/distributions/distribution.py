"""What distributions have in common.

A distribution is parameters, broadcast together to `batch_shape`, and the shape of one number it
gives, `event_shape`. Draws of `shape` are (*shape, *batch_shape, *event_shape); log-densities sum
over the event's axes. Every tensor that is an attribute begins with the batch's axes.
"""

from __future__ import annotations

import copy
from typing import Any, Self

from rabbet.base.dtypes import float32
from rabbet.base.errors import RabbetError
from rabbet.distributions import constraints
from rabbet.distributions.constraints import Constraint
from rabbet.distributions.validation import Constraints, validated, validated_density
from rabbet.library.joining import broadcast_arrays
from rabbet.ops.float_functions import exp, sqrt
from rabbet.ops.index_maps import expand
from rabbet.tensor import Tensor, asarray, no_grad
from rabbet.tensor.types import result_type

Shape = tuple[int, ...]


class Distribution:
    """The base of all distributions.

    >>> d = rb.distributions.Normal(0.0, rb.ones(3))
    >>> d.batch_shape, d.sample((2,)).shape
    ((3,), (2, 3))
    """

    batch_shape: Shape = ()
    event_shape: Shape = ()
    support: Constraint = constraints.real
    # What each parameter must be, and whether tensors are looked at (None: only what is at hand).
    arg_constraints: Constraints = {}
    validates: bool | None = None

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        for name, checked in (("__init__", validated), ("log_prob", validated_density)):
            if name in vars(cls):
                setattr(cls, name, checked(vars(cls)[name]))

    @staticmethod
    def set_default_validate_args(value: bool | None) -> None:
        """Whether distributions check parameters and values without being told.

        True: all, also tensors, whose values are read for it. None, as it is first: parameters
        written in Python, not tensors. False: nothing. `validate_args=` of a distribution counts
        for it alone. What is refused is a ParameterError.

        >>> try:
        ...     rb.distributions.Normal(0.0, -1.0)
        ... except ValueError as error:
        ...     print(error)
        Normal: scale=-1.0 is outside of positive
        """
        Distribution.validates = value

    @property
    def has_rsample(self) -> bool:
        """Whether gradients flow through draws: whether there is `rsample`."""
        return type(self).rsample is not Distribution.rsample

    def expand(self, batch_shape: Any) -> Self:
        """The same distribution for a larger batch, to which its own broadcasts.

        >>> rb.distributions.Normal(0.0, 1.0).expand((2, 3)).sample().shape
        (2, 3)
        """
        made, wanted, own = copy.copy(self), tuple(batch_shape), len(self.batch_shape)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                wide = (1,) * (len(wanted) - own) + value.shape
                setattr(made, name, expand(value.reshape(wide), (*wanted, *value.shape[own:])))
            elif isinstance(value, Distribution):
                setattr(made, name, value.expand((*wanted, *value.batch_shape[own:])))
        made.batch_shape = wanted
        return made

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """Draws through which gradients reach the parameters; RabbetError where none can."""
        raise RabbetError(f"{type(self).__name__}: draws have no gradient; use sample()")

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """Draws of `shape` (an int or a tuple), batch and event; no gradient flows through them."""
        with no_grad():
            return self.rsample(shape, generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density (of the probability, of whole numbers) at `value`."""
        raise self.missing("density")

    def prob(self, value: Any) -> Tensor:
        """The density (the probability, of whole numbers) at `value`."""
        return exp(self.log_prob(value))

    def cdf(self, value: Any) -> Tensor:
        """The chance of a number up to `value`; RabbetError where there is no closed form."""
        raise self.missing("cumulative probability")

    def icdf(self, value: Any) -> Tensor:
        """The number up to which a draw lies with the chance `value`: the inverse of `cdf`."""
        raise self.missing("quantiles")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values there are, along a new first axis, of the batch's shape if `expand`."""
        raise RabbetError(f"{type(self).__name__}: its values cannot be counted")

    def entropy(self) -> Tensor:
        """The mean of -log_prob, in nats; RabbetError where there is no closed form."""
        raise self.missing("entropy")

    def perplexity(self) -> Tensor:
        """exp of the entropy."""
        return exp(self.entropy())

    @property
    def mode(self) -> Tensor:
        """The most likely value; RabbetError where it is not known."""
        raise self.missing("mode")

    @property
    def mean(self) -> Tensor:
        """The mean; RabbetError where there is none, as of classes."""
        raise self.missing("mean")

    @property
    def variance(self) -> Tensor:
        """The variance of each element; RabbetError where there is none, as of classes."""
        raise self.missing("variance")

    @property
    def stddev(self) -> Tensor:
        """The square root of the variance."""
        return sqrt(self.variance)

    def missing(self, what: str) -> RabbetError:
        """The error for a question that this family has no answer to."""
        return RabbetError(f"{type(self).__name__}: there is no closed form of its {what}")

    def drawn_shape(self, shape: Any) -> Shape:
        """The shape of draws of `shape`."""
        lead = (shape,) if isinstance(shape, int) else tuple(shape)
        return (*lead, *self.batch_shape, *self.event_shape)

    def __repr__(self) -> str:
        shapes = f"batch_shape={self.batch_shape}"
        event = f", event_shape={self.event_shape}" if self.event_shape else ""
        return f"{type(self).__name__}({shapes}{event})"


def floats(*values: Any) -> list[Tensor]:
    """Parameters as floating tensors of one shape and dtype; numbers take the others' dtype."""
    given = [v for v in values if isinstance(v, Tensor) and v.dtype.is_float]
    dtype = result_type(*given) if given else float32
    return broadcast_arrays(*(asarray(v).astype(dtype) for v in values))


def sum_last(x: Tensor, count: int) -> Tensor:
    """The sum over the last `count` axes."""
    return x.sum(axis=tuple(range(-count, 0))) if count else x


class Independent(Distribution):
    """The last batch axes of a distribution as axes of one event: their densities multiply.

    >>> d = rb.distributions.Independent(rb.distributions.Normal(rb.zeros(2, 3), 1.0), 1)
    >>> d.batch_shape, d.event_shape, d.log_prob(rb.zeros(2, 3)).shape
    ((2,), (3,), (2,))
    """

    def __init__(self, base_distribution: Distribution, reinterpreted_batch_ndims: int) -> None:
        base, count = base_distribution, reinterpreted_batch_ndims
        if not 0 <= count <= len(base.batch_shape):
            raise RabbetError(
                f"Independent: reinterpreted_batch_ndims={count}, but {base} has "
                f"{len(base.batch_shape)} batch axes"
            )
        self.base_dist, self.reinterpreted_batch_ndims = base, count
        self.support = constraints.independent(base.support, count)
        cut = len(base.batch_shape) - count
        self.batch_shape = base.batch_shape[:cut]
        self.event_shape = (*base.batch_shape[cut:], *base.event_shape)

    @property
    def has_rsample(self) -> bool:
        """The base's."""
        return self.base_dist.has_rsample

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """The base's draws."""
        return self.base_dist.rsample(shape, generator=generator)

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """The base's draws, without a gradient."""
        return self.base_dist.sample(shape, generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """The base's, summed over the event."""
        return self.summed(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        """The base's, summed over the event."""
        return self.summed(self.base_dist.entropy())

    def summed(self, x: Tensor) -> Tensor:
        """`x` summed over the axes that became the event's."""
        return sum_last(x, self.reinterpreted_batch_ndims)

    @property
    def mode(self) -> Tensor:
        """The base's mode."""
        return self.base_dist.mode

    @property
    def mean(self) -> Tensor:
        """The base's mean."""
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        """The base's variance."""
        return self.base_dist.variance
