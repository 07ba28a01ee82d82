"""Handwritten digits on several processes: mpiexec -n 3 python examples/digits_distributed.py

Also runs alone. Each step is, up to rounding, the step of one process with the same batch of 96.
"""

from __future__ import annotations

import rabbet as rb
from rabbet import distributed, nn
from rabbet.data import DataLoader, digits

EPOCHS = 6


def make_model() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * 4 * 4, 10)),
    )


def train_epoch(
    model: distributed.DataParallel, loader: DataLoader, optimizer: rb.optim.Optimizer
) -> float:
    """One pass over the data; the mean loss over the samples of all ranks."""
    total = rb.zeros((2,), dtype="float64")  # sum of losses, samples
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        n = distributed.samples_in_hand(loader)
        if n:  # else the batch had no sample for this rank
            total += rb.tensor([loss.item() * n, n], dtype="float64")
    summed = distributed.all_reduce(total)
    return float(summed[0] / summed[1])


def count_correct(model: nn.Module, test: DataLoader) -> float:
    """The share of correct answers, each rank looking at its own part."""
    correct = rb.zeros((2,), dtype="int64")
    with rb.no_grad():
        for x, y in test:
            right = int((model(x).argmax(axis=1) == y).sum())
            correct += rb.tensor([right, len(y)])
    summed = distributed.all_reduce(correct)
    return int(summed[0]) / int(summed[1])


def check_agreement(model: nn.Module) -> None:
    """AssertionError unless all ranks have the same bits in every parameter."""
    for name, p in model.named_parameters():
        same = bool((distributed.broadcast(p.detach(), root=0) == p).all())
        assert bool(distributed.all_reduce(rb.tensor(same), "min")), f"ranks differ in {name}"


def main() -> None:
    distributed.init()
    rank, size = distributed.rank(), distributed.size()
    rb.manual_seed(rank)  # ranks start apart; data_parallel makes them alike
    train, test = digits(split=0.2, seed=0)
    loader = DataLoader(distributed.Shard(train), batch_size=96, shuffle=True, seed=0)
    test_loader = DataLoader(distributed.own_part(test), batch_size=128)
    model = distributed.data_parallel(make_model(), loader)
    optimizer = rb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(EPOCHS):
        loss = train_epoch(model, loader, optimizer)
        if rank == 0:
            print(f"epoch {epoch + 1}  loss {loss:.4f}", flush=True)
    accuracy = count_correct(model, test_loader)
    check_agreement(model)
    if rank == 0:
        print(f"{size} ranks agree; accuracy {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
