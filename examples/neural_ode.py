"""A neural ODE with an adaptive step: how many steps are taken is decided by values, in a `while`.

The field dx/dt = f(x) is a small network, trained so that its solution passes through points of a
spiral. The solver is Bogacki's and Shampine's embedded pair of orders 3 and 2 (1989); the accepted
steps are ordinary tensor code, so gradients flow through them.
"""

from __future__ import annotations

import numpy as np

import rabbet as rb
from rabbet import nn

TOLERANCE = 1e-3


def solve(field: nn.Module, x: rb.Tensor, end: float) -> tuple[rb.Tensor, int]:
    """x at time `end`, and how many steps it took."""
    time, step, count = 0.0, 0.1, 0
    while end - time > 1e-9:
        step = min(step, end - time)
        k1 = field(x)
        k2 = field(x + step / 2 * k1)
        k3 = field(x + step * 3 / 4 * k2)
        new = x + step * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
        k4 = field(new)
        error = step * (-5 / 72 * k1 + 1 / 12 * k2 + 1 / 9 * k3 - 1 / 8 * k4)
        size = float(rb.sqrt((error.detach() ** 2).mean()))  # a value decides how it goes on
        if size <= TOLERANCE:
            x, time, count = new, time + step, count + 1
        step *= min(4.0, max(0.2, 0.9 * (TOLERANCE / max(size, 1e-12)) ** (1 / 3)))
    return x, count


class Spiral(nn.Module):
    """The field to be learned, whose solutions are known: dx/dt = x^3 A."""

    def forward(self, x: rb.Tensor) -> rb.Tensor:
        return (x**3) @ rb.asarray(np.array([[-0.1, 2.0], [-2.0, -0.1]], np.float32))


def train(steps: int = 150, seed: int = 0) -> tuple[float, float, set[int]]:
    """(first loss, last loss, the numbers of solver steps that occurred)."""
    rb.manual_seed(seed)
    random = np.random.default_rng(seed)
    field = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))
    optimizer = rb.optim.Adam(field.parameters(), lr=5e-3)
    losses, counts = [], set()
    for number in range(steps):
        angle = random.uniform(0, 2 * np.pi, 16)
        radius = random.uniform(0.5, 1.5, 16)
        x = rb.asarray(
            np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)
        )
        with rb.no_grad():
            wanted, _ = solve(Spiral(), x, 0.5)
        found, count = solve(field, x, 0.5)
        loss = ((found - wanted) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        counts.add(count)
        if number % 50 == 0:
            print(f"step {number}  loss {losses[-1]:.4f}  solver steps {count}")
    return float(np.mean(losses[:10])), float(np.mean(losses[-10:])), counts


if __name__ == "__main__":
    first, last, counts = train()
    print(f"loss {first:.4f} -> {last:.4f}; solver steps between {min(counts)} and {max(counts)}")
