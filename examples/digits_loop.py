"""A loop of one's own, as in PyTorch; then under @rb.jit: the same bits with less Python.

Run: python examples/digits_loop.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rabbet as rb
from rabbet import nn
from rabbet.data import DataLoader, digits
from rabbet.optim.lr_scheduler import CosineAnnealingLR


def train_once(wrap: Callable[[Any], Any], epochs: int) -> tuple[list[float], float]:
    """The mean loss of each epoch, and the accuracy on the test set."""
    rb.manual_seed(0)
    train, test = digits()
    loader = DataLoader(train, batch_size=64, shuffle=True, seed=0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 10))
    optimizer = rb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = CosineAnnealingLR(optimizer, T_max=epochs * len(loader))

    @wrap
    def step(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.detach()

    losses = []
    for epoch in range(epochs):
        began = time.perf_counter()
        total = rb.zeros(())
        for x, y in loader:
            total = total + step(x, y)  # nothing is read here, so nothing waits
        losses.append(total.item() / len(loader))
        seconds = time.perf_counter() - began
        print(f"  epoch {epoch + 1}: loss {losses[-1]:.4f}, {seconds * 1e3:.0f} ms")
    images, labels = (rb.asarray(part) for part in test.arrays)
    with rb.no_grad():
        right = (model(images).argmax(axis=1) == labels).astype("float32").mean()
    return losses, right.item()


def main(epochs: int = 8) -> tuple[list[float], float]:
    """Train twice and compare."""
    print("plain:")
    plain = train_once(lambda function: function, epochs)
    print("under @rb.jit:")
    replayed = train_once(rb.jit, epochs)
    print(f"accuracy {plain[1]:.1%}; the same bits both ways: {plain == replayed}")
    if plain != replayed:
        raise SystemExit("the two trainings differ")
    return plain


if __name__ == "__main__":
    main()
