"""What `fit`, `evaluate` and `predict` accept as data, turned into a loader of batches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.data import ArrayDataset, DataLoader, IterableDataset, Subset
from rabbet.tensor import Tensor


class Batch(NamedTuple):
    """Inputs of the model, and the target where there is one."""

    inputs: tuple[Any, ...]
    target: Any
    samples: int


def make_dataset(x: Any, y: Any) -> Any:
    """Arrays (a tuple or list: several inputs) and targets as a dataset; datasets as they are."""
    if isinstance(x, DataLoader):
        raise TypeError("a DataLoader makes its own batches; it cannot be split or batched anew")
    if is_array(x) or (isinstance(x, tuple | list) and x and all(is_array(part) for part in x)):
        inputs = (x,) if is_array(x) else tuple(x)
        return ArrayDataset(*inputs) if y is None else ArrayDataset(*inputs, y)
    if hasattr(x, "__getitem__") and hasattr(x, "__len__"):
        if isinstance(x, tuple | list) and y is not None:
            raise TypeError("data must be arrays, not lists of numbers: give numpy.asarray(x)")
        if y is not None:
            raise TypeError("a dataset has its targets in its samples: leave y out")
        return x
    name = type(x).__name__
    if isinstance(x, IterableDataset):
        raise TypeError(f"the stream {name} has its own order: give a DataLoader of it")
    raise TypeError(f"data must be arrays, a Dataset or a DataLoader, not {name}")


def make_loader(
    x: Any, y: Any, batch_size: int, *, shuffle: bool = False, seed: int | None = None
) -> DataLoader:
    """A loader over the data; a given loader as it is."""
    if isinstance(x, DataLoader):
        if y is not None:
            raise TypeError("a DataLoader has its targets in its batches: leave y out")
        return x
    return DataLoader(make_dataset(x, y), batch_size, shuffle, seed=seed)


def split_off(dataset: Any, share: float) -> tuple[Any, Any]:
    """The first samples for training, the last `share` of them for validation, as in Keras."""
    if not 0 < share < 1:
        raise ValueError(f"fit: validation_split={share} must be between 0 and 1")
    count = len(dataset)
    first = int(count * (1 - share) + 1e-9)
    if first in (0, count):
        raise ValueError(f"fit: validation_split={share} of {count} samples leaves nothing")
    return Subset(dataset, np.arange(first)), Subset(dataset, np.arange(first, count))


def split_batch(batch: Any, has_target: bool) -> Batch:
    """A batch as the model's inputs and the target, which is the last part."""
    parts = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    if has_target and len(parts) < 2:
        raise ShapeError("a batch for training must be a tuple (inputs..., target)")
    inputs, target = (parts[:-1], parts[-1]) if has_target else (parts, None)
    first = inputs[0]
    while isinstance(first, dict):
        first = next(iter(first.values()))
    return Batch(inputs, target, int(first.shape[0]))


def is_array(x: Any) -> bool:
    """True for NumPy arrays, tensors and what converts to arrays."""
    return isinstance(x, Tensor | np.ndarray) or hasattr(x, "__array__")
