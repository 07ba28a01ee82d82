"""A model whose forward depends on values: an `if`, a `while`, a print. A script of test_dynamic.

Arguments: steps, dtype, jit or plain. Prints the bits of each loss, then what the control flow did.
"""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout

import numpy as np

import rabbet as rb
from rabbet import nn
from rabbet.optim import Adam


class Dynamic(nn.Module):
    """Halves until it is small, takes another layer for gloomy batches, and prints on the way."""

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(6, 12), nn.Linear(12, 3)
        self.bright, self.gloomy = nn.Linear(12, 12), nn.Linear(12, 12)
        self.to(dtype)
        self.depths: set[int] = set()
        self.branches: set[bool] = set()

    def forward(self, x: rb.Tensor) -> rb.Tensor:
        """Scores of three classes."""
        h = rb.tanh(self.inward(x))
        depth = 0
        while (x * x).mean() > 0.5:
            x = x * 0.5
            h = rb.tanh(h + x.sum(axis=1, keepdims=True) * 0.125)
            depth += 1
        if h.sum() > 0:
            h = rb.relu(self.bright(h))
            bright = True
        else:
            h = rb.sigmoid(self.gloomy(h))
            bright = False
        print("mean", h.mean())
        self.depths.add(depth)
        self.branches.add(bright)
        return self.outward(h)


def batches(steps: int, dtype: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of several strengths, so that every depth and branch comes up."""
    random = np.random.default_rng(5)
    found = []
    for step in range(steps):
        strength = 2.0 ** (step % 4)
        shift = 0.3 if step % 3 else -0.3
        x = (random.normal(size=(8, 6)) + shift) * strength
        found.append((x.astype(dtype), x[:, :3].argmax(axis=1)))
    return found


def train(steps: int, dtype: str, jit: bool) -> tuple[list[str], Dynamic]:
    """The bits of every loss."""
    rb.manual_seed(11)
    model = Dynamic(dtype)
    stepper = Adam(model.parameters(), lr=0.01)

    def step(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
        loss = nn.functional.cross_entropy(model(x), y)
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        return loss

    run = rb.jit(step) if jit else step
    losses = []
    for x, y in batches(steps, dtype):
        loss = run(rb.asarray(x), rb.asarray(y))
        losses.append(float(loss.detach().numpy()).hex())
    return losses, model


def main() -> None:
    """Train, and print."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        losses, model = train(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "jit")
    print("\n".join(losses))
    print("depths", *sorted(model.depths), "branches", len(model.branches))
    print("lines", printed.getvalue().count("mean tensor("))


if __name__ == "__main__":
    main()
