"""Averaging gradients over ranks, weighted by samples, many parameters in one message.

The rule: each rank's loss is the mean over its own samples. With n_r samples on rank r and N in
all, the gradient of the mean over all samples is the sum over ranks of (n_r / N) times the rank's
gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.distributed.group import connection
from rabbet.distributed.reduce import reduce_array
from rabbet.distributed.transport import Transport
from rabbet.nn import Module
from rabbet.tensor import Tensor, asarray, no_grad

BUCKET_BYTES = 1 << 25


def average_gradients(parameters: Module | Iterable[Tensor], samples: float = 1) -> None:
    """Replace the gradients of all ranks by the gradient of all samples together.

    The same bits on all ranks. A parameter without a gradient here gets the others'; one without a
    gradient anywhere keeps none.

    Args:
        parameters: a model, or tensors, the same on all ranks.
        samples: how many samples this rank's loss is the mean of; 0 if its gradients do not count.

    Raises:
        RabbetError: on all ranks: they have different parameters, or no samples at all.
    """
    group = connection()
    held = _trained(parameters)
    weight, wanted = _agree(group, held, samples)
    if group.size == 1:
        return
    with no_grad():
        for bucket in make_buckets([p for p, has in zip(held, wanted, strict=True) if has]):
            _average(group, bucket, weight)


def make_buckets(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Parameters of one dtype put together, in order, up to BUCKET_BYTES."""
    open_buckets: dict[str, list[Tensor]] = {}
    filled: dict[str, int] = {}
    for p in parameters:
        name = p.dtype.name
        if open_buckets.get(name) and filled[name] + p.nbytes > BUCKET_BYTES:
            yield open_buckets.pop(name)
            filled[name] = 0
        open_buckets.setdefault(name, []).append(p)
        filled[name] = filled.get(name, 0) + p.nbytes
    yield from open_buckets.values()


def _trained(parameters: Module | Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Module):
        return [p for p in parameters.parameters() if p.requires_grad]
    given: Iterable[Tensor] = parameters
    return [p for p in given if p.requires_grad]


def _agree(group: Transport, held: list[Tensor], samples: float) -> tuple[float, list[bool]]:
    """This rank's weight, and which parameters have a gradient on some rank."""
    if not samples >= 0:
        raise ValueError(f"average_gradients: samples is {samples}; it must be 0 or more")
    own = (float(samples), tuple(p.grad is not None for p in held))
    told = group.gather_values(own)
    if len({len(has) for _, has in told}) != 1:
        counts = [len(has) for _, has in told]
        raise RabbetError(f"average_gradients: the ranks have {counts} parameters")
    total = sum(n for n, _ in told)
    if total <= 0:
        raise RabbetError("average_gradients: no rank has any samples")
    return own[0] / total, [any(column) for column in zip(*(has for _, has in told), strict=True)]


def _average(group: Transport, bucket: list[Tensor], weight: float) -> None:
    flat = np.concatenate([_weighted(p, weight) for p in bucket])
    summed = reduce_array(group, flat, "sum")
    start = 0
    for p in bucket:
        piece = summed[start : start + p.size].reshape(p.shape)
        p.grad = asarray(np.ascontiguousarray(piece))
        start += p.size


def _weighted(p: Tensor, weight: float) -> np.ndarray:
    # Zeros, not 0 times the gradient: a batch that does not count may have one that is not finite.
    if p.grad is None or weight == 0:
        return np.zeros(p.size, p.dtype.numpy)
    gradient = p.grad.numpy().reshape(-1)
    return (gradient * np.float64(weight).astype(gradient.dtype)).astype(gradient.dtype, copy=False)
