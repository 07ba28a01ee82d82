"""Training on several ranks is training on one with the batches put together."""

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import distributed, nn
from rabbet.base.errors import RabbetError
from rabbet.data import ArrayDataset, DataLoader
from rabbet.distributed import Shard, gradients

RNG = np.random.default_rng(0)
DATA = ArrayDataset(
    RNG.standard_normal((25, 4)).astype(np.float32), RNG.integers(0, 3, 25).astype(np.int64)
)


def make_model(seed: int) -> nn.Module:
    rng = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    model.load_state_dict({n: rng.standard_normal(s, np.float32) for n, s in shapes.items()})
    return model


def train(rank: int, batch: int = 8, epochs: int = 3) -> list[np.ndarray]:
    """Three epochs over 25 samples: the last batch has one, less than there are ranks."""
    loader = DataLoader(Shard(DATA), batch_size=batch, shuffle=True, seed=5)
    model = distributed.data_parallel(make_model(seed=rank), loader)
    optimizer = rb.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return [np.array(p.numpy()) for p in model.parameters()]


@pytest.mark.parametrize("size", [2, 3])
def test_training_equals_that_of_one_process(on_ranks: Any, size: int) -> None:
    alone = on_ranks(1, train)[0]
    found = on_ranks(size, train)
    for parameters in found:
        for a, b, c in zip(parameters, found[0], alone, strict=True):
            assert a.tobytes() == b.tobytes()  # between ranks: the same bits
            np.testing.assert_allclose(a, c, rtol=2e-4, atol=2e-5)  # rounding, over 12 steps


def test_uneven_batches_are_weighted_by_the_input(on_ranks: Any) -> None:
    x, y = (rb.asarray(array[:7]) for array in DATA.arrays)
    places = [slice(0, 1), slice(1, 3), slice(3, 7)]

    def work(rank: int) -> np.ndarray:
        model = distributed.data_parallel(make_model(seed=rank))
        nn.functional.cross_entropy(model(x[places[rank]]), y[places[rank]]).backward()
        model.average_gradients()
        return np.concatenate([np.asarray(p.grad).reshape(-1) for p in model.parameters()])

    alone = make_model(seed=0)
    nn.functional.cross_entropy(alone(x), y).backward()
    expected = np.concatenate([np.asarray(p.grad).reshape(-1) for p in alone.parameters()])
    for found in on_ranks(3, work):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_gradients_that_only_some_ranks_have(on_ranks: Any) -> None:
    def work(rank: int) -> list[Any]:
        a, b, c = (nn.Parameter(rb.zeros((2,))) for _ in range(3))
        a.grad = rb.full((2,), 1.0 + rank)
        if rank == 1:
            b.grad = rb.full((2,), 6.0)
        distributed.average_gradients([a, b, c], samples=[1, 2][rank])
        return [None if p.grad is None else p.grad.tolist() for p in (a, b, c)]

    third = np.float32(1 / 3)
    two = np.float32(2 / 3)
    a = [float(third * np.float32(1) + two * np.float32(2))] * 2
    assert on_ranks(2, work) == [[a, [float(two * np.float32(6))] * 2, None]] * 2


def test_a_rank_that_does_not_count_may_have_nan(on_ranks: Any) -> None:
    def work(rank: int) -> Any:
        p = nn.Parameter(rb.zeros((2,)))
        p.grad = rb.full((2,), float("nan") if rank else 2.0)
        distributed.average_gradients([p], samples=1 - rank)
        return p.grad.tolist()  # type: ignore[union-attr]

    assert on_ranks(2, work) == [[2.0, 2.0]] * 2


def test_errors_come_on_all_ranks(on_ranks: Any) -> None:
    def different_models(rank: int) -> Any:
        return distributed.data_parallel(nn.Linear(2, 2 + rank))

    def different_counts(rank: int) -> None:
        distributed.average_gradients([nn.Parameter(rb.zeros(()))] * (1 + rank))

    def no_samples(rank: int) -> None:
        distributed.average_gradients([nn.Parameter(rb.zeros(()))], samples=0)

    for work in (different_models, different_counts, no_samples):
        assert all(isinstance(e, RabbetError) for e in on_ranks(2, work, raises=True))


def test_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "BUCKET_BYTES", 40)
    held = [
        nn.Parameter(rb.zeros((n,), dtype=d))
        for n, d in [
            (3, "float32"),
            (4, "float32"),
            (2, "float64"),
            (5, "float32"),
            (100, "float32"),
        ]
    ]
    sizes = [[p.size for p in bucket] for bucket in gradients.make_buckets(held)]
    assert sizes == [[3, 4], [5], [2], [100]]


def test_buffers_and_states(on_ranks: Any) -> None:
    def work(rank: int) -> Any:
        norm = nn.BatchNorm2d(2)
        model = distributed.data_parallel(norm)
        assert list(model.state_dict()) == list(norm.state_dict())
        model(rb.full((2, 2, 1, 1), float(rank)) + rb.rand((2, 2, 1, 1)))
        before = norm.running_mean.tolist()
        model.broadcast_state()
        return before, norm.running_mean.tolist()

    (first, _), (second, _) = found = on_ranks(2, work)
    assert first != second and found[0][1] == found[1][1] == first


def test_gradients_averaged_by_hand_are_taken_as_they_are(on_ranks: Any) -> None:
    def work(rank: int) -> Any:
        model = distributed.data_parallel(nn.Linear(1, 1, bias=False))
        w = model.module.weight
        optimizer = rb.optim.SGD(model.parameters(), lr=1.0)
        with rb.no_grad():
            w.copy_(0.0)
        steps = []
        for by_hand in (True, False):
            optimizer.zero_grad()
            (model(rb.full((1, 1), 1.0 + rank))).sum().backward()
            if by_hand:
                model.average_gradients()
                w.grad = w.grad * (rank + 1)  # a step that averaged again would even this out
            optimizer.step()
            steps.append(w.item())
        return steps

    assert on_ranks(2, work) == [[-1.5, -3.0], [-3.0, -4.5]]


def test_only_the_parameters_of_the_step_are_averaged(on_ranks: Any) -> None:
    def work(rank: int) -> Any:
        model = distributed.data_parallel(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)))
        first, second = (m.weight for m in model.module)
        other = nn.Parameter(rb.zeros(()))
        for p in (first, second, other):
            p.grad = rb.full(p.shape, 1.0 + rank)
        rb.optim.SGD([first, other], lr=1.0).step()
        return first.grad.item(), second.grad.item(), other.grad.item()

    assert on_ranks(2, work) == [(1.5, 1.0, 1.0), (1.5, 2.0, 2.0)]


def test_closures_come_before_averaging(on_ranks: Any) -> None:
    def work(rank: int) -> Any:
        p = nn.Linear(1, 1, bias=False)
        model = distributed.data_parallel(p)
        optimizer = rb.optim.SGD(model.parameters(), lr=1.0)
        with rb.no_grad():
            p.weight.copy_(0.0)

        def closure() -> Any:
            optimizer.zero_grad()
            loss = (model(rb.full((1, 1), 1.0 + rank)) - 1.0).mean()
            loss.backward()
            return loss

        assert optimizer.step(closure).item() == -1.0
        return p.weight.item()

    assert on_ranks(2, work) == [-1.5, -1.5]
