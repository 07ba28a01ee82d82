"""Long computations that a test interrupts: run as a program, `interrupted.py WORK`.

Prints "running" and how many seconds the work should take (0: long) when it begins, then as JSON
what became of it. Everything is checked here after the interrupt, in the process that was
interrupted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import rabbet as rb
from rabbet import nn

BATCH, WIDTH = 12000, 1500


def square(n: int) -> Any:
    """A matrix of normal numbers, float32."""
    return rb.asarray(np.random.default_rng(0).normal(size=(n, n)).astype(np.float32))


def matmul() -> Callable[[], object]:
    """1024 billion operations in one product."""
    a = square(8000)
    return lambda: (a @ a).numpy()


def elementwise() -> Callable[[], object]:
    """360 million values of slow functions."""
    big = rb.zeros((60000, 6000))
    return lambda: rb.lgamma(rb.sin(big + 1)).sum().numpy()


def convolution() -> Callable[[], object]:
    """644 billion operations in one convolution."""
    x, kernel = rb.zeros((48, 256, 64, 64)), rb.zeros((256, 256, 5, 5))
    return lambda: rb.conv2d(x, kernel, padding=2).numpy()


class Training:
    """A model, its optimizer, and one step of training."""

    def __init__(self) -> None:
        rb.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * WIDTH, WIDTH)
        )
        self.optimizer = rb.optim.AdamW(self.model.parameters(), lr=1e-3)

    def step(self, x: Any) -> Any:
        """Forward, backward, update."""
        loss = (self.model(x) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def state(self) -> list[np.ndarray]:
        """Copies of every parameter and every number the optimizer holds."""
        held = [np.array(p.detach()) for p in self.model.parameters()]
        for entry in self.optimizer.state_dict()["state"].values():
            held += [np.array(v) for _, v in sorted(entry.items())]
        return held


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    """Equal bit for bit."""
    return len(a) == len(b) and all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def stop(work: Callable[[], object], seconds: float = 0.0) -> float:
    """Do the work until Ctrl-C; the monotonic time at which it let go. Ends if nothing came."""
    print("running", seconds, flush=True)
    try:
        work()
    except KeyboardInterrupt:
        return time.monotonic()
    raise SystemExit("the work was done before the interrupt came: make it longer")


def compute(name: str) -> dict[str, Any]:
    """Interrupt a value; afterwards another one must come out right."""
    work = {"matmul": matmul, "elementwise": elementwise, "convolution": convolution}[name]()
    rb.flush()
    stopped = stop(work)
    small = square(300)
    expected = small.numpy().astype(np.float64) @ small.numpy().astype(np.float64)
    close = np.allclose((small @ small).numpy(), expected, atol=1e-3)
    return {"stopped": stopped, "right afterwards": bool(close)}


def train(jitted: bool) -> dict[str, Any]:
    """Interrupt a step of training: nothing of it may remain, and training can go on."""
    interrupted, undisturbed = Training(), Training()
    big, small = rb.zeros((BATCH, WIDTH)) + 0.5, rb.zeros((8, WIDTH)) + 0.25
    step = rb.jit(interrupted.step) if jitted else interrupted.step
    twin = rb.jit(undisturbed.step) if jitted else undisturbed.step
    taken = []
    for _ in range(4 if jitted else 0):  # the first call compiles, the others are replays
        for one in (step, twin):
            rb.manual_seed(1)
            start = time.perf_counter()
            one(big)
            rb.flush()
            taken.append(time.perf_counter() - start)
    seconds = min(taken, default=0.0)  # other work beside it only makes a call longer
    before = interrupted.state()
    rb.manual_seed(2)
    stopped = stop(lambda: step(big), seconds)
    after = interrupted.state()
    found = {"stopped": stopped, "as before": same(before, after), "whole": True}
    if not found["as before"]:  # it came too late to stop the step
        rb.manual_seed(2)
        twin(big)
        found["whole"] = same(undisturbed.state(), after)
    for one in (step, twin):
        rb.manual_seed(3)
        for _ in range(2):
            one(small)
    return found | {"right afterwards": same(interrupted.state(), undisturbed.state())}


if __name__ == "__main__":
    wanted = sys.argv[1]
    print(json.dumps(train(wanted == "jit") if wanted in ("train", "jit") else compute(wanted)))
