"""Shards: all ranks together see each batch of the whole, once and in order."""

from typing import Any

import numpy as np
import pytest

from rabbet.base.errors import RabbetError
from rabbet.data import ArrayDataset, DataLoader, Subset
from rabbet.distributed import Shard, own_part, samples_in_hand


class Plain:
    """A dataset that is read sample by sample."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> Any:
        return {"x": np.float32(index), "y": index % 3}


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch", [5, 7, 11])
def test_ranks_together_see_what_one_process_sees(size: int, workers: int, batch: int) -> None:
    data = ArrayDataset(np.arange(23), np.arange(46).reshape(23, 2))
    keys = {"batch_size": batch, "shuffle": True, "seed": 4, "num_workers": workers}
    whole = list(DataLoader(data, **keys))
    shards = [Shard(data, rank, size) for rank in range(size)]
    parts = []
    for shard in shards:
        shard.is_counted = True
        loader = DataLoader(shard, **keys)
        parts.append([(x.numpy(), y.numpy(), samples_in_hand(loader)) for x, y in loader])
    assert {len(part) for part in parts} == {len(whole)}
    for (x, y), *own in zip(whole, *parts, strict=True):
        assert np.array_equal(x.numpy(), np.concatenate([a[:n] for a, _, n in own]))
        assert np.array_equal(y.numpy(), np.concatenate([b[:n] for _, b, n in own]))
        assert all(len(a) == max(n, 1) for a, _, n in own)


def test_samples_one_by_one_and_subsets() -> None:
    loader = DataLoader(Shard(Plain(), 1, 2), batch_size=6)
    batch = next(iter(loader))
    assert batch["x"].tolist() == [3.0, 4.0, 5.0] and batch["y"].tolist() == [0, 1, 2]
    subset = Subset(ArrayDataset(np.arange(10) * 10), [9, 8, 7, 6])
    (x,) = next(iter(DataLoader(Shard(subset, 1, 2), batch_size=4)))
    assert x.tolist() == [70, 60]


def test_a_place_in_the_data_is_kept() -> None:
    def loader() -> DataLoader:
        return DataLoader(Shard(Plain(), 0, 2), batch_size=4, shuffle=True, seed=1)

    first = loader()
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    rest = [batch["x"].tolist() for batch in batches]
    second = loader()
    second.load_state_dict(state)
    assert [batch["x"].tolist() for batch in second] == rest


def test_a_rank_without_samples_is_an_error_where_nobody_counts() -> None:
    loader = DataLoader(Shard(ArrayDataset(np.arange(9)), 2, 3), batch_size=4)
    with pytest.raises(RabbetError, match="a batch of 1 has no sample for rank 2"):
        list(loader)
    loader = DataLoader(Shard(ArrayDataset(np.arange(9)), 2, 3), batch_size=4, drop_last=True)
    assert len(list(loader)) == 2


def test_what_cannot_be_counted() -> None:
    with pytest.raises(TypeError, match="must read a Shard"):
        samples_in_hand(DataLoader([1, 2]))
    with pytest.raises(TypeError, match="collate_fn"):
        samples_in_hand(DataLoader(Shard(Plain(), 0, 1), collate_fn=list))
    with pytest.raises(RabbetError, match="has a batch in hand"):
        samples_in_hand(DataLoader(Shard(Plain(), 0, 1)))
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Shard(Plain(), 2, 2)


@pytest.mark.parametrize("size", [1, 3, 30])
def test_own_parts_are_everything_once(on_ranks: Any, size: int) -> None:
    data = ArrayDataset(np.arange(23))
    found = on_ranks(
        size, lambda _: [int(own_part(data)[i][0]) for i in range(len(own_part(data)))]
    )
    assert sorted(x for part in found for x in part) == list(range(23))
