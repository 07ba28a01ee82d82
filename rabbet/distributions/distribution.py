"""What distributions have in common.

A distribution is parameters, broadcast together to `batch_shape`, and the shape of one number it
gives, `event_shape`. Draws of `shape` are (*shape, *batch_shape, *event_shape); log-densities sum
over the event's axes.
"""

from __future__ import annotations

from typing import Any

from rabbet.base.dtypes import float32
from rabbet.base.errors import RabbetError
from rabbet.library.joining import broadcast_arrays
from rabbet.ops.functions import exp, sqrt
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

    def entropy(self) -> Tensor:
        """The mean of -log_prob, in nats; RabbetError where there is no closed form."""
        raise self.missing("entropy")

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


class Independent(Distribution):
    """The last `count` batch axes of a distribution as axes of one event: their densities multiply.

    >>> d = rb.distributions.Independent(rb.distributions.Normal(rb.zeros(2, 3), 1.0), 1)
    >>> d.batch_shape, d.event_shape, d.log_prob(rb.zeros(2, 3)).shape
    ((2,), (3,), (2,))
    """

    def __init__(self, base: Distribution, count: int) -> None:
        if not 0 <= count <= len(base.batch_shape):
            raise RabbetError(
                f"Independent: count={count}, but {base} has {len(base.batch_shape)} batch axes"
            )
        self.base, self.count = base, count
        cut = len(base.batch_shape) - count
        self.batch_shape = base.batch_shape[:cut]
        self.event_shape = (*base.batch_shape[cut:], *base.event_shape)

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """The base's draws."""
        return self.base.rsample(shape, generator=generator)

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """The base's draws, without a gradient."""
        return self.base.sample(shape, generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """The base's, summed over the event."""
        return self.summed(self.base.log_prob(value))

    def entropy(self) -> Tensor:
        """The base's, summed over the event."""
        return self.summed(self.base.entropy())

    def summed(self, x: Tensor) -> Tensor:
        """`x` summed over the axes that became the event's."""
        return x.sum(axis=tuple(range(-self.count, 0))) if self.count else x

    @property
    def mean(self) -> Tensor:
        """The base's mean."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """The base's variance."""
        return self.base.variance
