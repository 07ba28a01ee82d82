"""From samples to a batch: stacking NumPy arrays, then handing them over as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rabbet.base.errors import ShapeError
from rabbet.tensor import Tensor, asarray


def elements(x: Any) -> NDArray[Any]:
    """An array or tensor as a NumPy array; no gradients flow into data."""
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x)


def default_collate(samples: Sequence[Any]) -> Any:
    """Puts samples of one kind together, part by part, along a new first axis.

    Arrays, tensors and numbers are stacked into a NumPy array; Python floats become float32, the
    default dtype. Tuples, lists and dicts are put together item by item. Anything else (text, None)
    stays a list.

    Raises:
        ShapeError: arrays of different shapes, or tuples of different lengths.

    Example:
        >>> default_collate([(np.zeros(2), 1), (np.ones(2), 5)])
        (array([[0., 0.],
               [1., 1.]]), array([1, 5]))
    """
    first = samples[0]
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        lengths = {len(sample) for sample in samples}
        if len(lengths) > 1:
            raise ShapeError(f"DataLoader: samples of one batch have {sorted(lengths)} parts")
        return _like(first, [default_collate(part) for part in zip(*samples, strict=True)])
    if isinstance(first, (bool, int, float, complex)) or hasattr(first, "__array__"):
        return _stack(samples)
    return list(samples)


def to_tensors(batch: Any, *, copy: bool) -> Any:
    """The same tuples, lists and dicts with every NumPy array as a tensor.

    `copy=False` only for arrays that nobody else can write to.
    """
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, (np.ndarray, np.generic)):
        return asarray(batch, copy=copy)
    return _map_parts(batch, lambda part: to_tensors(part, copy=copy))


def _map_parts(batch: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(batch, Mapping):
        return {key: change(part) for key, part in batch.items()}
    if isinstance(batch, (tuple, list)):
        return _like(batch, [change(part) for part in batch])
    return batch


def _like(example: Any, parts: list[Any]) -> Any:
    """`parts` as a sequence of the type of `example`; a named tuple keeps its names."""
    if hasattr(example, "_fields"):
        return type(example)(*parts)
    return tuple(parts) if isinstance(example, tuple) else parts


def _stack(samples: Sequence[Any]) -> NDArray[Any]:
    arrays = [elements(sample) for sample in samples]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ShapeError(f"DataLoader: samples of one batch differ in shape: {sorted(shapes)}")
    stacked = np.stack(arrays)
    # By type(), not isinstance(): np.float64 derives from float, and did choose its precision.
    if all(type(sample) in (bool, int, float) for sample in samples) and stacked.dtype.kind == "f":
        return stacked.astype(np.float32)
    return stacked
