"""Where values of distributions lie, with PyTorch's names.

A constraint says of how many last axes one event is (`event_dim`) and which values are allowed
(`check`): one truth for each event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rabbet import linalg
from rabbet.base.errors import NumberRangeError
from rabbet.tensor import Tensor, asarray


@dataclass(frozen=True)
class Constraint:
    """A set of values: `holds` tells for every event, an array of `event_dim` axes.

    >>> rb.distributions.constraints.positive.check(rb.asarray([-1.0, 2.0]))
    tensor([False,  True])
    """

    name: str
    event_dim: int
    holds: Callable[[Tensor], Tensor]
    bounds: tuple[Any, ...] = ()

    def check(self, value: Any) -> Tensor:
        """True for each event that lies in the set."""
        return self.holds(asarray(value))

    def at(self, place: Any, shape: tuple[int, ...]) -> Constraint:
        """The set with the bounds that the event at `place` has, of a batch of `shape`."""
        own = [np.broadcast_to(np.asarray(b), shape)[place] for b in self.bounds]
        return replace(self, bounds=tuple(own))

    def __repr__(self) -> str:
        inside = ", ".join(f"{float(b):g}" if np.ndim(b) == 0 else "..." for b in self.bounds)
        return f"{self.name}({inside})" if self.bounds else self.name


def _all(x: Tensor, axes: int) -> Tensor:
    return x.all(axis=tuple(range(-axes, 0))) if axes else x


def _whole(x: Tensor) -> Tensor:
    return x % 1 == 0


def _is_lower(x: Tensor) -> Tensor:
    return _all(x.tril() == x, 2)


def independent(base: Constraint, reinterpreted_batch_ndims: int) -> Constraint:
    """The set of events whose parts along further axes all lie in `base`.

    >>> rb.distributions.constraints.independent(rb.distributions.constraints.real, 1).event_dim
    1
    """
    count = reinterpreted_batch_ndims
    if count < 0:
        raise NumberRangeError(f"reinterpreted_batch_ndims={count} must be 0 or more")
    if not count:
        return base
    return Constraint(
        base.name, base.event_dim + count, lambda x: _all(base.holds(x), count), base.bounds
    )


def greater_than(lower_bound: Any) -> Constraint:
    """Numbers above a bound."""
    return Constraint("greater_than", 0, lambda x: x > lower_bound, (lower_bound,))


def greater_than_eq(lower_bound: Any) -> Constraint:
    """Numbers from a bound on."""
    return Constraint("greater_than_eq", 0, lambda x: x >= lower_bound, (lower_bound,))


def less_than(upper_bound: Any) -> Constraint:
    """Numbers below a bound."""
    return Constraint("less_than", 0, lambda x: x < upper_bound, (upper_bound,))


def interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Numbers from one bound to another."""
    low, high = lower_bound, upper_bound
    return Constraint("interval", 0, lambda x: (x >= low) & (x <= high), (low, high))


def integer_interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Whole numbers from one bound to another."""
    low, high = lower_bound, upper_bound
    return Constraint(
        "integer_interval",
        0,
        lambda x: _whole(x) & (x >= low) & (x <= high),
        (low, high),
    )


real = Constraint("real", 0, lambda x: x == x)
real_vector = independent(real, 1)
positive = Constraint("positive", 0, lambda x: x > 0)
nonnegative = Constraint("nonnegative", 0, lambda x: x >= 0)
positive_vector = independent(positive, 1)
nonnegative_vector = independent(nonnegative, 1)
unit_interval = Constraint("unit_interval", 0, lambda x: (x >= 0) & (x <= 1))
positive_chance = Constraint("(0, 1]", 0, lambda x: (x > 0) & (x <= 1))
# Chances of classes, before they are divided by their sum.
class_weights = Constraint(
    "nonnegative with a positive sum", 1, lambda x: _all(x >= 0, 1) & (x.sum(axis=-1) > 0)
)
boolean = Constraint("boolean", 0, lambda x: (x == 0) | (x == 1))
nonnegative_integer = Constraint("nonnegative_integer", 0, lambda x: _whole(x) & (x >= 0))
one_hot = Constraint(
    "one_hot",
    1,
    lambda x: _all((x == 0) | (x == 1), 1) & (x.sum(axis=-1) == 1),
)
simplex = Constraint(
    "simplex",
    1,
    lambda x: _all(x >= 0, 1) & (abs(x.sum(axis=-1) - 1.0) < 1e-6),
)
lower_triangular = Constraint("lower_triangular", 2, _is_lower)
lower_cholesky = Constraint(
    "lower_cholesky",
    2,
    lambda x: _is_lower(x) & _all(x.diagonal() > 0, 1),
)
corr_cholesky = Constraint(
    "corr_cholesky",
    2,
    lambda x: (
        _is_lower(x) & _all(x.diagonal() > 0, 1) & _all(abs((x * x).sum(axis=-1) - 1.0) < 1e-4, 1)
    ),
)
symmetric = Constraint("symmetric", 2, lambda x: _all(abs(x - x.mT) <= 1e-6 * (1 + abs(x)), 2))
positive_definite = Constraint(
    "positive_definite",
    2,
    lambda x: symmetric.holds(x) & _all(linalg.eigvalsh(x) > 0, 1),
)

__all__ = [
    *("Constraint", "boolean", "corr_cholesky", "greater_than", "greater_than_eq"),
    *("independent", "nonnegative_vector", "positive_definite", "positive_vector", "symmetric"),
    *("integer_interval", "interval", "less_than", "lower_cholesky", "lower_triangular"),
    *("nonnegative", "nonnegative_integer", "one_hot", "positive", "real", "real_vector"),
    *("simplex", "unit_interval"),
]
