"""Datasets, random splits and the bundled digits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbet.base.errors import IndexRangeError, ShapeError
from rabbet.data import ArrayDataset, Dataset, Subset, TensorDataset, digits, random_split
from rabbet.data.dataset import fetches_batches
from rabbet.data.order import shuffled


def test_array_dataset_gives_rows_and_batches() -> None:
    left, right = np.arange(12.0).reshape(6, 2), np.arange(6)
    data = ArrayDataset(left, right)
    assert len(data) == 6
    row, label = data[-1]
    assert row.tolist() == [10.0, 11.0] and label == 5
    rows, labels = data.fetch(np.array([4, 0, 4]))
    assert labels.tolist() == [4, 0, 4]
    assert rows.tolist() == [[8.0, 9.0], [0.0, 1.0], [8.0, 9.0]]
    rows[:] = -1
    assert left.min() == 0.0, "a batch must not share memory with the data set"


def test_array_dataset_refuses_arrays_that_do_not_match() -> None:
    with pytest.raises(ShapeError, match=r"\(3,\), \(4, 1\)"):
        ArrayDataset(np.zeros(3), np.zeros((4, 1)))
    with pytest.raises(ShapeError, match="first size"):
        ArrayDataset()
    with pytest.raises(ShapeError, match="first size"):
        ArrayDataset(np.float32(1.0))


def test_pytorchs_name_is_the_same_class() -> None:
    assert TensorDataset is ArrayDataset


def test_subset_renumbers_and_refuses_unknown_numbers() -> None:
    data = ArrayDataset(np.arange(10) * 10)
    part = Subset(data, [7, 2])
    assert len(part) == 2
    assert [part[0][0], part[1][0]] == [70, 20]
    with pytest.raises(IndexRangeError, match="10 is outside a dataset of 10"):
        Subset(data, [0, 10])
    with pytest.raises(IndexRangeError, match="-1"):
        Subset(data, [-1])


@given(st.integers(0, 60), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_random_split_covers_everything_once(total: int, weights: list[int], seed: int) -> None:
    fractions = [weight / sum(weights) for weight in weights]
    parts = random_split(ArrayDataset(np.arange(total)), fractions, seed=seed)
    taken = [int(part[i][0]) for part in parts for i in range(len(part))]
    assert sorted(taken) == list(range(total))
    assert all(
        abs(len(part) - share * total) <= 1 for part, share in zip(parts, fractions, strict=True)
    )


def test_random_split_by_sizes_and_its_errors() -> None:
    data = ArrayDataset(np.arange(10))
    first, second = random_split(data, [3, 7], seed=1)
    assert (len(first), len(second)) == (3, 7)
    again, _ = random_split(data, [3, 7], seed=1)
    other, _ = random_split(data, [3, 7], seed=2)
    assert first.indices.tolist() == again.indices.tolist() != other.indices.tolist()
    for lengths in ([3, 6], [0.5, 0.6], [-1, 11], []):
        with pytest.raises(ShapeError, match="does not add up"):
            random_split(data, lengths)


def test_fetch_is_used_only_where_it_says_the_same_as_getitem() -> None:
    class Distorted(ArrayDataset):
        def __getitem__(self, index: int) -> tuple[float]:  # type: ignore[override]
            return (-float(self.arrays[0][index]),)

    class Both(Distorted):
        def fetch(self, indices: np.ndarray) -> tuple[np.ndarray]:  # type: ignore[override]
            return (-self.arrays[0][indices],)

    class Plain(Dataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> int:
            return index

    values = np.arange(3.0)
    assert fetches_batches(ArrayDataset(values))
    assert not fetches_batches(Distorted(values))
    assert fetches_batches(Both(values))
    assert not fetches_batches(Plain())


def test_the_order_of_a_seed_never_changes() -> None:
    # Written down once: a new version of NumPy must not reorder anybody's training.
    assert shuffled(8, seed=0).tolist() == ORDER_OF_SEED_0
    assert shuffled(8, seed=0, stream=1).tolist() == ORDER_OF_SEED_0_STREAM_1
    assert sorted(shuffled(1000, seed=-3)) == list(range(1000))


ORDER_OF_SEED_0 = [0, 2, 1, 5, 4, 3, 6, 7]
ORDER_OF_SEED_0_STREAM_1 = [5, 3, 7, 2, 4, 1, 0, 6]


def test_digits_are_all_there_once() -> None:
    train, test = digits(split=0.2, seed=0)
    images, labels = train.arrays
    assert images.shape == (1438, 1, 8, 8) and images.dtype == np.float32
    assert labels.shape == (1438,) and labels.dtype == np.int64
    assert len(test) == 359
    everything = np.concatenate([images, test.arrays[0]])
    assert (everything.min(), everything.max()) == (0.0, 1.0)
    assert int((everything * 16).sum(dtype=np.float64)) == 561718  # ink of scikit-learn's copy
    every_label = np.concatenate([labels, test.arrays[1]])
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(every_label).tolist() == counts


def test_digits_are_split_by_class_and_seed() -> None:
    _, test = digits(split=0.2, seed=0)
    shares = np.bincount(test.arrays[1]) / [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.abs(shares - 0.2).max() < 1 / 174
    _, same = digits(split=0.2, seed=0)
    _, other = digits(split=0.2, seed=1)
    assert np.array_equal(test.arrays[0], same.arrays[0])
    assert not np.array_equal(test.arrays[0], other.arrays[0])


@pytest.mark.parametrize(("split", "in_test"), [(0.0, 0), (1.0, 1797), (0.5, 898)])
def test_digits_split_sizes(split: float, in_test: int) -> None:
    train, test = digits(split=split)
    assert (len(train), len(test)) == (1797 - in_test, in_test)


@pytest.mark.parametrize("split", [-0.1, 1.1, float("nan")])
def test_digits_refuses_a_share_that_is_none(split: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        digits(split=split)


def test_digits_can_be_told_apart() -> None:
    # The nearest class mean is right 9 times in 10: labels and images belong together.
    train, test = digits()
    images, labels = train.arrays
    means = np.stack([images[labels == digit].mean(axis=0).ravel() for digit in range(10)])
    rows = test.arrays[0].reshape(len(test), 64)
    nearest = ((rows[:, None] - means) ** 2).sum(axis=-1).argmin(axis=-1)
    assert (nearest == test.arrays[1]).mean() > 0.85
