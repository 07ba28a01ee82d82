"""Where samples come from: anything with a length and numbered items, or streams.

Takes arrays or other datasets and returns samples as NumPy arrays. Batching, order and threads are
the loader's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rabbet.base.errors import IndexRangeError, ShapeError
from rabbet.data.collate import elements
from rabbet.data.order import shuffled

Indices = NDArray[np.int64]


class Dataset(ABC):
    """A finite collection of numbered samples; derive from it and write two methods.

    A sample is a NumPy array, a number, or a tuple, list or dict of samples.

    Example:
        >>> class Squares(Dataset):
        ...     def __len__(self):
        ...         return 3
        ...     def __getitem__(self, index):
        ...         return float(index), float(index**2)
        >>> Squares()[2]
        (2.0, 4.0)
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """The sample with this number, 0 <= index < len."""

    def __add__(self, other: Samples) -> ConcatDataset:
        return ConcatDataset([self, other])


class Samples(Protocol):
    """What a loader reads: a list will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@runtime_checkable
class BatchFetcher(Protocol):
    """A dataset that reads many samples at once."""

    def fetch(self, indices: Indices) -> tuple[NDArray[Any], ...]:
        """The samples with these numbers, each part stacked along a new first axis."""


class ArrayDataset(Dataset):
    """Arrays of the same length side by side: sample i is the tuple of their rows i.

    Tensors are accepted and read once. The arrays are kept, not copied.

    Raises:
        ShapeError: no arrays, an array without axes, or different lengths.

    Example:
        >>> data = ArrayDataset(np.zeros((4, 2), np.float32), np.arange(4))
        >>> len(data), data[3]
        (4, (array([0., 0.], dtype=float32), np.int64(3)))
    """

    def __init__(self, *arrays: ArrayLike) -> None:
        self.arrays: tuple[NDArray[Any], ...] = tuple(map(elements, arrays))
        shapes = [array.shape for array in self.arrays]
        if not shapes or () in shapes or len({shape[0] for shape in shapes}) != 1:
            raise ShapeError(
                f"ArrayDataset: needs arrays with the same first size; shapes are {shapes}"
            )

    def __len__(self) -> int:
        return int(self.arrays[0].shape[0])

    def __getitem__(self, index: int | slice) -> tuple[Any, ...]:
        """Row `index` of every array; a slice gives several rows."""
        return tuple(array[index] for array in self.arrays)

    def fetch(self, indices: Indices) -> tuple[NDArray[Any], ...]:
        """The rows with these numbers of every array, in new arrays."""
        return tuple(np.take(array, indices, axis=0) for array in self.arrays)

    def __repr__(self) -> str:
        parts = ", ".join(f"{array.dtype}{list(array.shape)}" for array in self.arrays)
        return f"ArrayDataset({parts})"


TensorDataset = ArrayDataset
"""PyTorch's name for :class:`ArrayDataset`."""


class IterableDataset(ABC):
    """A stream of samples, perhaps without an end or a known length; write `__iter__`.

    A loader reads it from its beginning in each epoch, in its order, with one thread at most. With
    a `__len__` the loader knows its own length.

    Example:
        >>> class Countdown(IterableDataset):
        ...     def __iter__(self):
        ...         yield from (3.0, 2.0, 1.0)
        >>> from rabbet.data import DataLoader
        >>> [batch.tolist() for batch in DataLoader(Countdown(), batch_size=2)]
        [[3.0, 2.0], [1.0]]
    """

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """The samples of one epoch."""

    def __add__(self, other: Iterable[Any]) -> ChainDataset:
        return ChainDataset([self, other])


class ChainDataset(IterableDataset):
    """Several streams, one after the other; it has a length where all of them have.

    Example:
        >>> list(ChainDataset([[1, 2], [3]]))
        [1, 2, 3]
    """

    def __init__(self, datasets: Iterable[Iterable[Any]]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            yield from dataset

    def __len__(self) -> int:
        sized: list[Any] = self.datasets
        return sum([len(dataset) for dataset in sized])


class ConcatDataset(Dataset):
    """Several datasets as one, the samples of each behind those of the one before.

    Raises:
        ShapeError: no datasets.
        IndexRangeError: an index outside of it, when it is asked for.

    Example:
        >>> both = ConcatDataset([ArrayDataset(np.arange(3)), ArrayDataset(np.arange(10, 12))])
        >>> len(both), both[4], both[-5]
        (5, (np.int64(11),), (np.int64(0),))
    """

    def __init__(self, datasets: Iterable[Samples]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ShapeError("ConcatDataset: at least one dataset is needed")
        for dataset in self.datasets:
            if isinstance(dataset, IterableDataset):
                raise TypeError("ConcatDataset: a stream has no numbers; use ChainDataset")
        self.cumulative_sizes: list[int] = np.cumsum([len(d) for d in self.datasets]).tolist()

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexRangeError(
                f"ConcatDataset: index {index} is outside a dataset of {len(self)}"
            )
        number = bisect_right(self.cumulative_sizes, at)
        first = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][at - first]

    def __repr__(self) -> str:
        return f"ConcatDataset({self.datasets})"


class Subset(Dataset):
    """Chosen samples of another dataset, in the given order.

    Raises:
        IndexRangeError: a number that the dataset does not have.

    Example:
        >>> Subset(ArrayDataset(np.arange(10)), [7, 2])[0]
        (np.int64(7),)
    """

    def __init__(self, dataset: Samples, indices: Sequence[int] | Indices) -> None:
        self.dataset = dataset
        self.indices: Indices = np.array(indices, dtype=np.int64).reshape(-1)
        outside = (self.indices < 0) | (self.indices >= len(dataset))
        if outside.any():
            raise IndexRangeError(
                f"Subset: index {self.indices[outside][0]} is outside a dataset of {len(dataset)}"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def __repr__(self) -> str:
        return f"Subset({len(self)} of {self.dataset!r})"


def random_split(
    dataset: Samples, lengths: Sequence[int] | Sequence[float], *, seed: int = 0
) -> list[Subset]:
    """Split a dataset at random into parts that do not overlap.

    Args:
        dataset: what to split.
        lengths: sizes that add up to the dataset's, or fractions that add up to 1; what rounding
            leaves over goes to the first parts, one each.
        seed: the same seed gives the same parts.

    Raises:
        ShapeError: the sizes do not add up.

    Example:
        >>> [len(part) for part in random_split(ArrayDataset(np.arange(10)), [0.75, 0.25])]
        [8, 2]
    """
    sizes = _part_sizes(len(dataset), lengths)
    order = shuffled(len(dataset), seed)
    cut = np.split(order, np.cumsum(sizes)[:-1])
    return [Subset(dataset, part) for part in cut]


def _part_sizes(total: int, lengths: Sequence[int] | Sequence[float]) -> list[int]:
    if lengths and all(isinstance(length, (int, np.integer)) for length in lengths):
        sizes = [int(length) for length in lengths]
        if min(sizes) >= 0 and sum(sizes) == total:
            return sizes
    elif lengths and min(lengths) >= 0 and abs(sum(lengths) - 1) < 1e-9:
        sizes = [int(length * total + 1e-9) for length in lengths]
        left_over = total - sum(sizes)
        return [size + (part < left_over) for part, size in enumerate(sizes)]
    raise ShapeError(f"random_split: {list(lengths)} does not add up to {total} samples or to 1.0")


def fetches_batches(dataset: Samples) -> bool:
    """True if `dataset.fetch` may stand for many calls of `dataset[i]`.

    Not where a class derived from one with `fetch` has written its own `__getitem__`, to distort
    images for instance: that must not be passed over.
    """
    for kind in type(dataset).__mro__:
        if "fetch" in vars(kind):
            return True
        if "__getitem__" in vars(kind):
            return False
    return False
