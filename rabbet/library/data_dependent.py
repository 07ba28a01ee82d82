"""Functions whose result's shape depends on values: they read them, and end the segment.

The numbers are found by NumPy on the host; results are new tensors through which no gradient
flows. Under `rb.jit` such a function is recorded at each call, as one that reads values is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rabbet.base import dtypes
from rabbet.base.dtypes import bool_
from rabbet.base.errors import DTypeError, IndexRangeError, ShapeError
from rabbet.base.shapes import show
from rabbet.library.joining import broadcast_shapes
from rabbet.tensor.lift import functions
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


def argwhere(x: Tensor, /) -> Tensor:
    """The positions of elements that are not zero, one a row: (count, axes), int64.

    >>> rb.argwhere(rb.asarray([[0, 5], [7, 0]])).tolist()
    [[0, 1], [1, 0]]
    """
    return _fresh(np.argwhere(as_operand(x).numpy()))


def unique(
    x: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements (or slices of `dim`), ascending; PyTorch's function.

    With them, where asked for: which of them every element is, and how often each is there.

    >>> rb.unique(rb.asarray([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    t = as_operand(x)
    values, inverse, counts = np.unique(
        t.numpy(), return_inverse=True, return_counts=True, axis=dim, equal_nan=False
    )
    shape = t.shape if dim is None else (t.shape[dim],)
    found = [_fresh(values, t)]
    found += [_fresh(inverse.reshape(shape))] if return_inverse else []
    found += [_fresh(counts)] if return_counts else []
    return found[0] if len(found) == 1 else tuple(found)


def unique_consecutive(
    x: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """Each run of equal elements (or slices of `dim`) once, in order; flattened without `dim`.

    With them, where asked for: to which run every element belongs, and how long each run is.

    >>> rb.unique_consecutive(rb.asarray([1, 1, 2, 1]), return_counts=True)
    (tensor([1, 2, 1]), tensor([2, 1, 1]))
    """
    t = as_operand(x)
    lines = t.numpy().reshape(-1) if dim is None else np.moveaxis(t.numpy(), dim, 0)
    flat = lines.reshape(lines.shape[0], -1) if lines.size else lines.reshape(lines.shape[0], 0)
    starts = np.ones(lines.shape[0], bool)
    starts[1:] = (flat[1:] != flat[:-1]).any(1)
    firsts = np.flatnonzero(starts)
    values = lines[firsts] if dim is None else np.moveaxis(lines[firsts], 0, dim)
    inverse = np.cumsum(starts) - 1
    found = [_fresh(np.ascontiguousarray(values), t)]
    if return_inverse:
        found.append(_fresh(inverse.reshape(t.shape) if dim is None else inverse))
    if return_counts:
        found.append(_fresh(np.diff(np.append(firsts, lines.shape[0]))))
    return found[0] if len(found) == 1 else tuple(found)


def bincount(x: Tensor, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often (or with how much weight) each number 0, 1, 2, ... is in a vector of integers.

    As many as the largest number needs, at least `minlength`: the numbers are read. Gradients reach
    the weights. Raises IndexRangeError for a negative number.

    >>> rb.bincount(rb.asarray([0, 2, 2]))
    tensor([1, 0, 2])
    """
    t = as_operand(x)
    if t.ndim != 1 or not t.dtype.is_integer:
        raise ShapeError(
            f"bincount: {show(t.shape)} {t.dtype.name}; a vector of integers is needed"
        )
    known = t.numpy()
    if known.size and known.min() < 0:
        raise IndexRangeError(f"bincount: {int(known.min())} is negative")
    count = max(int(known.max()) + 1 if known.size else 0, minlength)
    heavy = functions["ones_like"](t, dtypes.int64) if weights is None else as_operand(weights)
    return functions["segment_sum"](heavy, t, count)


def _fresh(array: np.ndarray, like: Tensor | None = None) -> Tensor:
    kind = np.int64 if like is None else like.dtype.numpy
    return from_numpy(np.asarray(array, kind), copy=False)


def masked_select(x: Tensor, mask: Any) -> Tensor:
    """The elements where `mask` is true, in one axis; both broadcast. Reads the mask.

    >>> rb.masked_select(rb.arange(4), rb.arange(4) > 1)
    tensor([2, 3])
    """
    condition = as_operand(mask)
    if condition.dtype is not bool_:
        raise DTypeError(f"masked_select: mask is {condition.dtype.name}, it must be bool")
    shape = broadcast_shapes(x.shape, condition.shape)
    return functions["expand"](x, shape)[functions["expand"](condition, shape)]


METHODS = {
    f.__name__: f for f in (nonzero, argwhere, unique, unique_consecutive, bincount, masked_select)
}
