"""Functions whose result's shape depends on values: they read them, and end the segment.

The numbers are found by NumPy on the host; results are new tensors through which no gradient
flows. Under `rb.jit` such a function is recorded at each call, as one that reads values is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.tensor.tensor import Tensor, as_operand, from_numpy


class UniqueAllResult(NamedTuple):
    """What `unique_all` gives."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCountsResult(NamedTuple):
    """What `unique_counts` gives."""

    values: Tensor
    counts: Tensor


class UniqueInverseResult(NamedTuple):
    """What `unique_inverse` gives."""

    values: Tensor
    inverse_indices: Tensor


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """The positions of elements that are not zero: an int64 vector per axis, in row-major order.

    Raises ShapeError for a tensor without axes.

    >>> rb.nonzero(rb.asarray([0, 5, 0, 7]))
    (tensor([1, 3]),)
    """
    t = as_operand(x)
    if not t.ndim:
        raise ShapeError("nonzero: a tensor without axes has no positions")
    return tuple(_fresh(p) for p in np.nonzero(t.numpy()))


def unique_all(x: Tensor, /) -> UniqueAllResult:
    """The distinct elements (each NaN is one; zeros of both signs are), ascending, NaN last.

    With them: where each is first (in the flattened tensor), which of them every element of `x` is
    (in x's shape), and how often each is there.

    >>> rb.unique_all(rb.asarray([3, 1, 3])).counts
    tensor([1, 2])
    """
    t = as_operand(x)
    values, indices, inverse, counts = np.unique(
        t.numpy(), return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    return UniqueAllResult(
        _fresh(values, t), _fresh(indices), _fresh(inverse.reshape(t.shape)), _fresh(counts)
    )


def unique_counts(x: Tensor, /) -> UniqueCountsResult:
    """The distinct elements as in `unique_all`, and how often each is there.

    >>> rb.unique_counts(rb.asarray([3, 1, 3])).values
    tensor([1, 3])
    """
    found = unique_all(x)
    return UniqueCountsResult(found.values, found.counts)


def unique_inverse(x: Tensor, /) -> UniqueInverseResult:
    """The distinct elements as in `unique_all`, and which of them every element of `x` is.

    >>> rb.unique_inverse(rb.asarray([3, 1, 3])).inverse_indices
    tensor([1, 0, 1])
    """
    found = unique_all(x)
    return UniqueInverseResult(found.values, found.inverse_indices)


def unique_values(x: Tensor, /) -> Tensor:
    """The distinct elements as in `unique_all`.

    >>> rb.unique_values(rb.asarray([3, 1, 3]))
    tensor([1, 3])
    """
    t = as_operand(x)
    return _fresh(np.unique(t.numpy(), equal_nan=False), t)


def _fresh(array: np.ndarray, like: Tensor | None = None) -> Tensor:
    kind = np.int64 if like is None else like.dtype.numpy
    return from_numpy(np.asarray(array, kind), copy=False)


METHODS = {"nonzero": nonzero}
