"""Learning to learn: MAML on sinusoids (Finn, Abbeel, Levine 2017), second order.

The outer loop trains weights from which one gradient step on ten points of a new sinusoid is
enough. The step itself is differentiated, so the outer gradient is a gradient of a gradient; `vmap`
runs all tasks of a batch at once.
"""

from __future__ import annotations

import numpy as np

import rabbet as rb
from rabbet import nn

INNER_RATE, SHOTS, TASKS = 0.01, 10, 25
Params = dict[str, rb.Tensor]
model = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


def loss(params: Params, x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
    return ((rb.functional_call(model, params, x) - y) ** 2).mean()


def adapted(params: Params, x: rb.Tensor, y: rb.Tensor, steps: int = 1) -> Params:
    """The weights after a few gradient steps on one task."""
    for _ in range(steps):
        slope = rb.grad(loss)(params, x, y)
        params = {name: p - INNER_RATE * slope[name] for name, p in params.items()}
    return params


def task_loss(
    params: Params, x: rb.Tensor, y: rb.Tensor, x_new: rb.Tensor, y_new: rb.Tensor
) -> rb.Tensor:
    """How well the adapted weights do on other points of the same sinusoid."""
    return loss(adapted(params, x, y), x_new, y_new)


def batch_loss(params: Params, *points: rb.Tensor) -> rb.Tensor:
    return rb.vmap(task_loss, in_axes=(None, 0, 0, 0, 0))(params, *points).mean()


def sinusoids(random: np.random.Generator, tasks: int, points: int) -> list[rb.Tensor]:
    """x and y of `points` points to adapt to, and of as many to be judged by, for each task."""
    amplitude = random.uniform(0.1, 5.0, (tasks, 1, 1))
    phase = random.uniform(0.0, np.pi, (tasks, 1, 1))
    x = random.uniform(-5.0, 5.0, (tasks, 2 * points, 1))
    y = amplitude * np.sin(x - phase)
    halves = (x[:, :points], y[:, :points], x[:, points:], y[:, points:])
    return [rb.asarray(h.astype(np.float32)) for h in halves]


def train(steps: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Meta-train; the mean loss on new tasks before and after one step of adaptation."""
    rb.manual_seed(seed)
    random = np.random.default_rng(seed)
    for part in model.modules():
        if isinstance(part, nn.Linear):
            part.reset_parameters()
    params = dict(model.named_parameters())
    optimizer = rb.optim.Adam(params.values(), lr=1e-3)

    @rb.jit
    def step(*points: rb.Tensor) -> rb.Tensor:
        value, slopes = rb.value_and_grad(batch_loss)(
            {name: p.detach() for name, p in params.items()}, *points
        )
        for name, p in params.items():
            p.grad = slopes[name]
        optimizer.step()
        return value

    for number in range(steps):
        value = step(*sinusoids(random, TASKS, SHOTS))
        if number % 500 == 0:
            print(f"step {number}  loss after one inner step {value.item():.3f}")
    with rb.no_grad():
        final = {name: p.detach() for name, p in params.items()}
    x, y, x_new, y_new = sinusoids(random, 200, SHOTS)
    before = rb.vmap(loss, in_axes=(None, 0, 0))(final, x_new, y_new).mean().item()
    after = batch_loss(final, x, y, x_new, y_new).item()
    return before, after


if __name__ == "__main__":
    before, after = train()
    print(f"new sinusoids: loss {before:.3f} before, {after:.3f} after one step on {SHOTS} points")
