"""Which samples a rank gets: its share of each batch, so that all ranks together see that batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rabbet.base.errors import RabbetError
from rabbet.data import DataLoader, Dataset, Subset, default_collate
from rabbet.data.dataset import BatchFetcher, Samples, fetches_batches
from rabbet.distributed.group import connection
from rabbet.distributed.reduce import split_evenly

Indices = NDArray[np.int64]


class Shard(Dataset):
    """A dataset for a DataLoader whose batches are divided among the ranks.

    The loader's batch size is that of all ranks together, and its seed must be the same on all.
    Rank r gets the r-th of `size` runs of each batch, so one step of all ranks is the step that a
    single process takes with the same loader. A last batch with fewer samples than ranks leaves
    some with none: these get a copy of one, which :func:`data_parallel` gives the weight 0 if it
    knows the loader.

    Args:
        dataset: the whole dataset, the same on all ranks.
        rank, size: whose share; those of this process unless given.

    Raises:
        RabbetError: while loading, a rank without samples where nobody would know that its sample
            does not count.

    Example:
        >>> loader = DataLoader(Shard(train), batch_size=64, shuffle=True, seed=0)
    """

    def __init__(self, dataset: Samples, rank: int | None = None, size: int | None = None) -> None:
        self.dataset = dataset
        self.rank = connection().rank if rank is None else rank
        self.size = connection().size if size is None else size
        if not 0 <= self.rank < self.size:
            raise ValueError(f"Shard: rank {self.rank} of {self.size}")
        self.is_counted = False  # somebody asks how many samples of a batch count

    def __len__(self) -> int:
        """Samples of the whole dataset."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample with this number of the whole dataset."""
        return self.dataset[index]

    def fetch(self, indices: Indices) -> Any:
        """This rank's share of the batch with these samples."""
        start, stop = self.share(len(indices))
        own = indices[start:stop]
        if start == stop:
            if not self.is_counted:
                raise RabbetError(
                    f"Shard: a batch of {len(indices)} has no sample for rank {self.rank} of "
                    f"{self.size}; use drop_last=True, or data_parallel(model, loader)"
                )
            own = indices[:1]
        dataset = self.dataset
        while type(dataset) is Subset:
            own = dataset.indices[own]
            dataset = dataset.dataset
        if isinstance(dataset, BatchFetcher):
            reader: Any = dataset
            if fetches_batches(reader):
                return reader.fetch(own)
        return default_collate([dataset[int(index)] for index in own])

    def share(self, count: int) -> tuple[int, int]:
        """Where this rank's run of a batch of `count` samples starts and stops."""
        lengths = split_evenly(count, self.size)
        start = sum(lengths[: self.rank])
        return start, start + lengths[self.rank]

    def __repr__(self) -> str:
        return f"Shard({self.dataset!r}, rank={self.rank}, size={self.size})"


def samples_in_hand(loader: DataLoader) -> int:
    """How many samples of the batch in hand count on this rank; 0 for a mere copy.

    Raises TypeError for a loader over something else than a Shard, or with a `collate_fn` (which
    would be given whole batches); RabbetError where no loop over the loader has a batch in hand.
    """
    shard = shard_of(loader)
    number = loader.state_dict()["batch"]
    if number == 0:
        raise RabbetError("samples_in_hand: no loop over the loader has a batch in hand")
    before = (number - 1) * loader.batch_size
    start, stop = shard.share(min(loader.batch_size, len(shard) - before))
    return stop - start


def shard_of(loader: DataLoader) -> Shard:
    """The Shard that a loader reads; TypeError where it reads something else."""
    if not isinstance(loader.dataset, Shard):
        raise TypeError(
            f"the loader must read a Shard, not {type(loader.dataset).__name__}: "
            "DataLoader(Shard(dataset), ...)"
        )
    if loader.collate_fn is not None:
        raise TypeError("a loader over a Shard divides whole batches, and takes no collate_fn")
    return loader.dataset


def own_part(dataset: Samples) -> Subset:
    """This rank's part of a dataset, every sample on exactly one rank: for evaluation.

    Parts differ in length by one at most, so loops over them must not wait for each other inside;
    add up counts and sums after the loop with :func:`all_reduce`.
    """
    group = connection()
    return Subset(dataset, np.arange(group.rank, len(dataset), group.size))
