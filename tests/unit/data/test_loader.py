"""The loader: order, threads, saved places, errors, and who owns the memory."""

import gc
import json
import threading
import time
import traceback
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbet.base.errors import ShapeError
from rabbet.data import (
    ArrayDataset,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    default_collate,
)
from rabbet.data import loader as loader_module
from rabbet.library.random import manual_seed
from rabbet.tensor import Tensor


def numbers(batches: Any) -> list[list[int]]:
    """The values of the first part of each batch."""
    return [np.asarray(batch[0]).tolist() for batch in batches]


def loader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("rabbet-data")]


class Slow(Dataset):
    """Squares of which early ones take longest, so that threads finish out of order."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, float]:
        time.sleep(0.002 * ((self.length - index) % 5))
        self.read.append(index)
        return index, index**2


def test_batches_are_tensors_in_order() -> None:
    data = ArrayDataset(np.arange(10, dtype=np.float32).reshape(5, 2), np.arange(5))
    batches = list(DataLoader(data, batch_size=2))
    assert [type(part) for batch in batches for part in batch] == [Tensor] * 6
    assert [batch[0].shape for batch in batches] == [(2, 2), (2, 2), (1, 2)]
    assert np.asarray(batches[1][0]).tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert np.asarray(batches[1][1]).tolist() == [2, 3]
    assert isinstance(batches[0], tuple)


@given(
    st.integers(0, 40), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(0, 2**63 - 1)
)
def test_an_epoch_has_every_sample_once(
    total: int, batch_size: int, shuffle: bool, drop_last: bool, seed: int
) -> None:
    loader = DataLoader(
        ArrayDataset(np.arange(total)), batch_size, shuffle, seed=seed, drop_last=drop_last
    )
    batches = numbers(loader)
    assert len(batches) == len(loader)
    seen = [number for batch in batches for number in batch]
    kept = total - total % batch_size if drop_last else total
    assert len(seen) == len(set(seen)) == kept
    assert all(len(batch) == batch_size for batch in batches[:-1])
    if not shuffle:
        assert seen == list(range(kept))


def test_each_epoch_has_its_own_order_set_by_the_seed() -> None:
    data = ArrayDataset(np.arange(50))
    loader, same = (DataLoader(data, 50, shuffle=True, seed=3) for _ in range(2))
    first, second = numbers(loader), numbers(loader)
    assert first != second
    assert [numbers(same), numbers(same)] == [first, second]
    assert numbers(DataLoader(data, 50, shuffle=True, seed=4)) != first


def test_without_a_seed_the_order_comes_from_the_default_generator() -> None:
    data = ArrayDataset(np.arange(50))

    def make_two(seed: int) -> list[list[list[int]]]:
        manual_seed(seed)
        return [numbers(DataLoader(data, 50, shuffle=True)) for _ in range(2)]

    first, second = make_two(3)
    assert first != second
    assert make_two(3) == [first, second]
    assert make_two(4) != [first, second]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_change_nothing_but_the_time(workers: int) -> None:
    alone = DataLoader(Slow(23), 4, shuffle=True, seed=1)
    together = DataLoader(Slow(23), 4, shuffle=True, seed=1, num_workers=workers)
    for _ in range(2):
        assert numbers(together) == numbers(alone)
    assert loader_threads() == []


def test_workers_do_not_run_further_ahead_than_asked() -> None:
    data = Slow(100)
    batches = iter(DataLoader(data, 1, num_workers=2, prefetch=3))
    next(batches)
    time.sleep(0.15)
    assert len(data.read) <= 2 * 3 + 1
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [0, 2])
def test_leaving_early_leaves_no_threads_and_starts_the_next_epoch(workers: int) -> None:
    data = ArrayDataset(np.arange(20))
    loader = DataLoader(data, 4, shuffle=True, seed=0, num_workers=workers)
    whole = DataLoader(data, 4, shuffle=True, seed=0)
    expected = [numbers(whole), numbers(whole)]
    for batch in loader:
        assert np.asarray(batch[0]).tolist() == expected[0][0]
        break
    gc.collect()
    assert loader_threads() == []
    assert loader.epoch == 0
    assert numbers(loader) == expected[1]


class Faulty(Slow):
    def __getitem__(self, index: int) -> tuple[int, float]:
        if index == 6:
            raise LookupError("no file for sample 6")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 3])
def test_an_error_in_the_data_set_arrives_as_raised(workers: int) -> None:
    loader = DataLoader(Faulty(12), 4, num_workers=workers)
    seen = []
    with pytest.raises(LookupError, match="no file for sample 6") as caught:
        for batch in loader:
            seen += np.asarray(batch[0]).tolist()
    assert seen == [0, 1, 2, 3]
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert (frames[-1].filename, frames[-1].name) == (__file__, "__getitem__")
    assert caught.value.__notes__ == ["while loading samples 4, 5, 6, 7 of Faulty"]
    assert loader_threads() == []


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_resumed_loop_goes_on_where_the_first_stopped(workers: int, stop_after: int) -> None:
    data = ArrayDataset(np.arange(18))

    def make(seed: int) -> DataLoader:
        return DataLoader(data, 4, shuffle=True, seed=seed, num_workers=workers)

    whole = make(seed=9)
    expected = [numbers(whole) for _ in range(3)]
    first = make(seed=9)
    numbers(first)
    for done, _ in enumerate(first, start=1):
        if done == stop_after:
            saved = json.dumps(first.state_dict())
            break
    resumed = make(seed=1234)
    resumed.load_state_dict(json.loads(saved))
    assert resumed.state_dict() == json.loads(saved)
    assert numbers(resumed) == expected[1][stop_after:]
    assert numbers(resumed) == expected[2]


def test_a_state_saved_between_epochs_starts_the_next_one() -> None:
    data = ArrayDataset(np.arange(10))
    loader = DataLoader(data, 3, shuffle=True)
    numbers(loader)
    resumed = DataLoader(data, 3, shuffle=True)
    resumed.load_state_dict(loader.state_dict())
    assert resumed.epoch == 1
    assert numbers(resumed) == numbers(loader)


def test_a_loop_that_still_runs_does_not_move_the_loaded_place() -> None:
    loader = DataLoader(ArrayDataset(np.arange(10)), 2)
    old_loop = iter(loader)
    next(old_loop)
    state = {**loader.state_dict(), "epoch": 5, "batch": 3}
    loader.load_state_dict(state)
    next(old_loop)
    assert loader.state_dict() == state
    assert numbers(loader) == [[6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 3}, "batch_size=3, this loader has 2"),
        ({"batch": 6}, "batch 6 of epoch 0 is outside"),
        ({"batch": -1}, "outside"),
        ({"epoch": -1}, "outside"),
        ({"workers": 1}, "no state of a loader"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change: dict[str, int], message: str) -> None:
    loader = DataLoader(ArrayDataset(np.arange(10)), 2)
    before = loader.state_dict()
    with pytest.raises(ValueError, match=message):
        loader.load_state_dict({**before, **change})
    assert loader.state_dict() == before


@pytest.mark.parametrize(
    "sizes", [{"batch_size": 0}, {"num_workers": -1}, {"prefetch": 0}], ids=lambda sizes: str(sizes)
)
def test_sizes_that_make_no_sense_are_refused(sizes: dict[str, int]) -> None:
    name, value = next(iter(sizes.items()))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        DataLoader([1, 2], **sizes)  # type: ignore[arg-type]


def test_the_segment_is_flushed_before_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(loader_module, "flush", lambda: events.append("flush"))
    for _ in DataLoader([1.0, 2.0], batch_size=1):
        events.append("step")
    assert events == ["flush", "step", "flush", "step", "flush"]


def test_a_reused_batch_buffer_does_not_change_earlier_batches() -> None:
    buffer = np.zeros(2, dtype=np.float32)

    def refill(samples: list[float]) -> np.ndarray:
        buffer[:] = samples
        return buffer

    class Refilling(ArrayDataset):
        def fetch(self, indices: np.ndarray) -> tuple[np.ndarray]:  # type: ignore[override]
            return (refill([float(index) for index in indices]),)

    by_collating = list(DataLoader([0.0, 1.0, 2.0, 3.0], 2, collate_fn=refill))
    assert [np.asarray(batch).tolist() for batch in by_collating] == [[0.0, 1.0], [2.0, 3.0]]
    by_fetching = DataLoader(Refilling(np.zeros(4)), 2)
    assert numbers(list(by_fetching)) == [[0.0, 1.0], [2.0, 3.0]]


def test_subsets_and_overridden_items_are_read_as_they_say() -> None:
    class Doubled(Subset):
        def __getitem__(self, index: int) -> Any:
            return tuple(2 * part for part in super().__getitem__(index))

    data = ArrayDataset(np.arange(10))
    nested = Subset(Subset(data, [9, 8, 7, 6]), [3, 1])
    assert numbers(DataLoader(nested, 2)) == [[6, 8]]
    assert numbers(DataLoader(Doubled(data, [1, 2]), 2)) == [[2, 4]]


def test_samples_are_put_together_part_by_part() -> None:
    Point = namedtuple("Point", "x y")
    batch = default_collate(
        [
            {"at": Point(1.5, [np.ones(2), 1]), "name": "a", "flag": True},
            {"at": Point(2.5, [np.zeros(2), 2]), "name": "b", "flag": False},
        ]
    )
    assert batch["at"].x.dtype == np.float32 and batch["at"].x.tolist() == [1.5, 2.5]
    assert isinstance(batch["at"].y, list)
    assert batch["at"].y[0].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert batch["at"].y[1].dtype == np.int64
    assert batch["name"] == ["a", "b"]
    assert batch["flag"].dtype == np.bool_


def test_only_python_floats_take_the_default_dtype() -> None:
    assert default_collate([1.0, 2]).dtype == np.float32
    assert default_collate([np.float64(1.0), np.float64(2.0)]).dtype == np.float64
    assert default_collate([1, 2**40]).tolist() == [1, 2**40]


def test_samples_that_differ_in_shape_are_named() -> None:
    with pytest.raises(ShapeError, match=r"differ in shape: \[\(2,\), \(3,\)\]"):
        list(DataLoader([np.zeros(2), np.zeros(3)], 2))
    with pytest.raises(ShapeError, match=r"have \[1, 2\] parts"):
        default_collate([(1, 2), (1,)])


@pytest.mark.slow
def test_many_workers_many_epochs_left_at_any_point() -> None:
    loader = DataLoader(Slow(40), 3, shuffle=True, seed=5, num_workers=8, prefetch=1)
    plain = DataLoader(ArrayDataset(np.arange(40)), 3, shuffle=True, seed=5)
    for leave_after in range(1, 15):
        seen = []
        for batch in loader:
            seen.append(np.asarray(batch[0]).tolist())
            if len(seen) == leave_after:
                break
        assert seen == numbers(plain)[:leave_after]
        assert loader_threads() == []


# ---- streams -------------------------------------------------------------------------------------


class Stream(IterableDataset):
    """Numbers from 0 on; counts how often and how far it was read."""

    def __init__(self, length: int | None = None) -> None:
        self.length = length
        self.starts, self.read = 0, 0

    def __iter__(self) -> Any:
        self.starts += 1
        number = 0
        while self.length is None or number < self.length:
            self.read = max(self.read, number + 1)
            yield (np.float32(number),)
            number += 1


@pytest.mark.parametrize("workers", [0, 3])
def test_streams_are_read_in_order_in_each_epoch(workers: int) -> None:
    stream = Stream(5)
    loader = DataLoader(stream, batch_size=2, num_workers=workers)
    for _ in range(2):
        assert numbers(loader) == [[0, 1], [2, 3], [4]]
    assert stream.starts == 2 and loader.epoch == 2
    assert numbers(DataLoader(Stream(5), 2, drop_last=True, num_workers=workers)) == [
        [0, 1],
        [2, 3],
    ]
    assert numbers(DataLoader(Stream(0), 2, num_workers=workers)) == []
    assert not loader_threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_endless_streams_are_read_a_little_ahead_and_left(workers: int) -> None:
    stream = Stream()
    found = []
    for batch in DataLoader(stream, batch_size=3, num_workers=workers):
        found.append(np.asarray(batch[0]).tolist())
        if len(found) == 2:
            break
    assert found == [[0, 1, 2], [3, 4, 5]]
    gc.collect()
    assert not loader_threads()
    assert stream.read <= 3 * (2 + workers * 2 + 1)


def test_streams_go_on_from_a_saved_place() -> None:
    for stream in (Stream(7), ChainDataset([Stream(7)])):
        loader = DataLoader(stream, batch_size=2)
        running = iter(loader)
        next(running)
        next(running)
        state = json.loads(json.dumps(loader.state_dict()))
        other = DataLoader(stream, batch_size=2)
        other.load_state_dict(state)
        assert numbers(other) == [[4, 5], [6]] == numbers(running)
        with pytest.raises(ValueError, match="batch -1 of epoch 0 is outside of a stream"):
            other.load_state_dict({**state, "batch": -1})


def test_lengths_and_errors_of_streams() -> None:
    with pytest.raises(TypeError, match="DataLoader: the stream Stream has no __len__"):
        len(DataLoader(Stream(3)))
    assert len(DataLoader(ChainDataset([[1, 2], [3]]), 2)) == 2
    with pytest.raises(ValueError, match="a stream has its own order"):
        DataLoader(Stream(3), shuffle=True)

    class Broken(IterableDataset):
        def __iter__(self) -> Any:
            yield 1.0
            raise OSError("lost")

    for workers in (0, 1):
        with pytest.raises(OSError, match="lost") as failure:
            list(DataLoader(Broken(), num_workers=workers))
        assert failure.value.__notes__ == ["while loading batch 1 of Broken"]


def test_streams_in_a_chain() -> None:
    chain = Stream(2) + Stream(3) + [(np.float32(7),)]
    assert numbers(DataLoader(chain, 4)) == [[0, 1, 0, 1], [2, 7]]


def test_datasets_in_a_row() -> None:
    both = ArrayDataset(np.arange(3)) + Subset(ArrayDataset(np.arange(10)), [9, 8])
    assert isinstance(both, ConcatDataset)
    assert [int(both[i][0]) for i in range(5)] == [0, 1, 2, 9, 8]
    assert both.cumulative_sizes == [3, 5]
    assert numbers(DataLoader(both, 3)) == [[0, 1, 2], [9, 8]]
    assert sorted(n for b in numbers(DataLoader(both, 2, shuffle=True, seed=1)) for n in b) == [
        0,
        1,
        2,
        8,
        9,
    ]
    empty = ConcatDataset([[], [5], []])
    assert len(empty) == 1 and empty[0] == 5
    for wrong in (5, -6):
        with pytest.raises(IndexError, match=f"index {wrong} is outside a dataset of 5"):
            both[wrong]
    with pytest.raises(ShapeError, match="at least one dataset"):
        ConcatDataset([])
    with pytest.raises(TypeError, match="use ChainDataset"):
        ConcatDataset([Stream(3)])  # type: ignore[list-item]
