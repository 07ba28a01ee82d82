"""Batches in order: shuffled by a seed alone, loaded ahead in threads, with a place to go on from.

Takes a dataset, yields batches of tensors. What makes a sample is the dataset's; what makes a batch
of samples is collate.py's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import count, islice
from operator import length_hint
from typing import Any, Self

import numpy as np

from rabbet.base.words import check_keywords
from rabbet.data.collate import default_collate, to_tensors
from rabbet.data.dataset import (
    ArrayDataset,
    BatchFetcher,
    Indices,
    IterableDataset,
    Samples,
    Subset,
    fetches_batches,
)
from rabbet.data.order import random_bits, shuffled
from rabbet.library.random import default_generator
from rabbet.tensor import flush

SYNONYMS = {"workers": "num_workers", "prefetch_factor": "prefetch"}  # others' words -> ours
Batch = Any  # a tensor, or tuples, lists and dicts of them
Loaded = tuple[Any, bool]  # a batch of NumPy arrays, and whether its memory is ours alone


class DataLoader:
    """Goes through a dataset in batches of tensors; each `for` loop over it is one epoch.

    The order depends on the seed and the epoch only, never on workers. A loop that was left early
    counts as an epoch: the next loop starts the next one. :meth:`state_dict` remembers the place
    in the middle of an epoch, and a loader that loads it yields the rest, bit for bit.

    Args:
        dataset: anything with `len(dataset)` and `dataset[i]`, or an :class:`IterableDataset`, a
            stream, which is read in its own order by one thread. With a method
            `fetch(indices) -> tuple of arrays`, like :class:`ArrayDataset`, whole batches are read
            at once (unless `collate_fn` is given).
        batch_size: samples per batch; the last batch may have fewer.
        shuffle: a new order in each epoch.
        seed: of that order; None draws one from the generator that `rb.manual_seed` seeds.
        drop_last: leave out a last batch that is not full.
        num_workers: threads that load ahead; 0 loads in the calling thread when asked.
        collate_fn: makes a batch from a list of samples, in place of :func:`default_collate`.
        prefetch: batches that each worker is ahead.

    Raises:
        ValueError: a size that makes no sense.

    Whatever the dataset raises reaches the loop as it was raised, with a note naming the samples.

    Example:
        >>> loader = DataLoader([1.0, 2.0, 3.0], batch_size=2)
        >>> [batch.shape for batch in loader]
        [(2,), (1,)]
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_keywords(cls.__name__, cls.__init__, kwargs, SYNONYMS)
        return super().__new__(cls)

    def __init__(
        self,
        dataset: Samples | IterableDataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int | None = None,
        drop_last: bool = False,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        prefetch: int = 2,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("prefetch", prefetch, 1),
        ):
            if value < least:
                raise ValueError(f"DataLoader: {name}={value} is less than {least}")
        if shuffle and isinstance(dataset, IterableDataset):
            raise ValueError("DataLoader: a stream has its own order; shuffle it in its __iter__")
        self.dataset: Any = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = _draw_seed() if seed is None else seed
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.prefetch = prefetch
        self._epoch = 0
        self._batch = 0  # batches of this epoch that were handed out
        self._is_resuming = False
        self._newest_pass = 0

    @property
    def epoch(self) -> int:
        """The epoch that is running, or the next one where none is, counted from 0."""
        return self._epoch

    def __len__(self) -> int:
        """Batches in a whole epoch; TypeError for a stream without a length."""
        if isinstance(self.dataset, IterableDataset) and not hasattr(self.dataset, "__len__"):
            raise TypeError(f"DataLoader: the stream {type(self.dataset).__name__} has no __len__")
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        """Starts the next epoch, or continues the one whose state was loaded."""
        if self._batch > 0 and not self._is_resuming:
            self._epoch, self._batch = self._epoch + 1, 0
        self._is_resuming = False
        self._newest_pass += 1
        return self._run_epoch(self._newest_pass, self._epoch, self._batch)

    def state_dict(self) -> dict[str, int]:
        """The place in the data: plain integers that fit in JSON.

        Taken inside the loop, it counts the batch in hand as used. Taken with the last batch in
        hand, the rest of the epoch is empty, and a loop after loading it ends at once.
        """
        return {
            "seed": self.seed,
            "epoch": self._epoch,
            "batch": self._batch,
            "batch_size": self.batch_size,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from a saved place: the next loop yields what was left of that epoch.

        Raises:
            ValueError: the state has other fields, is of a loader with another batch size, or lies
                outside this dataset.
        """
        if set(state) != {"seed", "epoch", "batch", "batch_size"}:
            raise ValueError(f"DataLoader: this is no state of a loader: it has {sorted(state)}")
        if state["batch_size"] != self.batch_size:
            raise ValueError(
                f"DataLoader: the state was saved with batch_size={state['batch_size']}, "
                f"this loader has {self.batch_size}"
            )
        most = length_hint(self, -1)  # -1: a stream without a length
        if min(state["epoch"], state["batch"]) < 0 or 0 <= most < state["batch"]:
            raise ValueError(
                f"DataLoader: batch {state['batch']} of epoch {state['epoch']} is outside of a "
                + (f"loader with {most} batches" if most >= 0 else "stream")
            )
        self.seed = int(state["seed"])
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])
        self._is_resuming = True
        self._newest_pass += 1  # a loop that still runs no longer moves the place

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.dataset!r}, batch_size={self.batch_size}, "
            f"shuffle={self.shuffle}, seed={self.seed})"
        )

    def _run_epoch(self, this_pass: int, epoch: int, first: int) -> Iterator[Batch]:
        with closing(self._loaded(epoch, first)) as loaded:
            for done in count(first + 1):
                # What the loop body recorded ends here, so that each step is one segment.
                flush()
                found = next(loaded, None)
                if found is None:
                    break
                batch, is_ours = found
                self._move_to(this_pass, epoch, done)
                yield to_tensors(batch, copy=not is_ours)
        self._move_to(this_pass, epoch + 1, 0)

    def _move_to(self, this_pass: int, epoch: int, batch: int) -> None:
        if this_pass == self._newest_pass:
            self._epoch, self._batch = epoch, batch

    def _loaded(self, epoch: int, first: int) -> Generator[Loaded, None, None]:
        """The batches of an epoch from the one with number `first` on."""
        if isinstance(self.dataset, IterableDataset):
            stream = self._read_stream(first)
            return self._read_ahead(stream) if self.num_workers else stream
        jobs = self._split_epoch(epoch)[first:]
        return self._load_ahead(jobs) if self.num_workers else self._load(jobs)

    def _read_stream(self, first: int) -> Generator[Loaded, None, None]:
        name = type(self.dataset).__name__
        samples, number = iter(self.dataset), 0
        while True:
            try:
                batch = list(islice(samples, self.batch_size))
                if not batch or self.drop_last and len(batch) < self.batch_size:
                    return
                number += 1
                if number <= first:
                    continue
                loaded = self._put_together(batch)
            except Exception as error:
                error.add_note(f"while loading batch {number} of {name}")
                raise
            yield loaded

    def _put_together(self, samples: list[Any]) -> Loaded:
        if self.collate_fn is not None:
            return self.collate_fn(samples), False
        return default_collate(samples), True

    def _read_ahead(self, stream: Generator[Loaded, None, None]) -> Generator[Loaded, None, None]:
        """The same, read by a thread that ends with this generator."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="rabbet-data")
        waiting: deque[Future[Loaded | None]] = deque()
        try:
            while True:
                while len(waiting) <= self.num_workers * self.prefetch:
                    waiting.append(pool.submit(next, stream, None))
                found = waiting.popleft().result()
                if found is None:
                    return
                yield found
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            stream.close()

    def _split_epoch(self, epoch: int) -> list[Indices]:
        size = len(self.dataset)
        order = shuffled(size, self.seed, epoch) if self.shuffle else np.arange(size)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return [order[start : start + self.batch_size] for start in starts]

    def _load(self, jobs: Sequence[Indices]) -> Generator[Loaded, None, None]:
        for indices in jobs:
            yield self._load_batch(indices)

    def _load_ahead(self, jobs: Sequence[Indices]) -> Generator[Loaded, None, None]:
        """The same batches in the same order, made by threads that end with this generator."""
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="rabbet-data")
        waiting: deque[Future[Loaded]] = deque()
        try:
            for indices in jobs:
                waiting.append(pool.submit(self._load_batch, indices))
                if len(waiting) > self.num_workers * self.prefetch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _load_batch(self, indices: Indices) -> Loaded:
        try:
            if self.collate_fn is not None:
                return self.collate_fn([self.dataset[int(index)] for index in indices]), False
            return _fetch(self.dataset, indices)
        except Exception as error:
            name = type(self.dataset).__name__
            error.add_note(f"while loading samples {_shorten(indices)} of {name}")
            raise


def _draw_seed() -> int:
    """A seed from the default generator, whose stream moves on as for any draw."""
    seed, offset = default_generator.get_state()
    default_generator.set_state((seed, offset + 1))
    return int(random_bits(1, seed, offset)[0] >> 1)  # 63 bits, which every file format holds


def _fetch(dataset: Samples, indices: Indices) -> Loaded:
    while type(dataset) is Subset:  # a class derived from it may have changed what an item is
        indices = dataset.indices[indices]
        dataset = dataset.dataset
    if isinstance(dataset, BatchFetcher) and fetches_batches(dataset):
        # A `fetch` of somebody else's may hand out the same buffer again.
        return dataset.fetch(indices), type(dataset).fetch is ArrayDataset.fetch
    return default_collate([dataset[int(index)] for index in indices]), True


def _shorten(indices: Indices) -> str:
    shown = ", ".join(str(index) for index in indices[:8])
    return shown + (", ..." if len(indices) > 8 else "")
