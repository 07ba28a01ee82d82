"""A training loop that uses every part of the native modules; run under the sanitizers."""

from __future__ import annotations

import gc
import threading

import numpy as np

import rabbet as rb
from tests.hardening.workloads import WORKLOADS, F, make


def eager(steps: int) -> float:
    """A loop of one's own, with a branch on a value and tensors that outlive their step."""
    rb.manual_seed(0)
    model = rb.nn.Sequential(
        rb.nn.Linear(13, 24), rb.nn.ReLU(), rb.nn.Dropout(0.2), rb.nn.Linear(24, 5)
    )
    opt = rb.optim.Adam(model.parameters(), lr=1e-2)
    kept = []
    for step in range(steps):
        x, y = make((7 + step % 3, 13), step), rb.tensor(np.arange(7 + step % 3) % 5)
        loss = F.cross_entropy(model(x), y)
        if loss > 100:
            continue
        opt.zero_grad()
        loss.backward()
        opt.step()
        kept.append(loss)
    return sum(float(k) for k in kept)


def jitted(steps: int) -> float:
    """The same step replayed."""
    rb.manual_seed(0)
    model = rb.nn.Linear(13, 5)
    opt = rb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @rb.jit
    def step(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    x, y = make((9, 13)), rb.tensor(np.arange(9) % 5)
    return sum(float(step(x, y)) for _ in range(steps))


def fail(times: int) -> None:
    """Errors at recording and at run time, handled; what failed is used again."""
    x = make((4, 5))
    for i in range(times):
        try:
            x @ x
        except rb.ShapeError:
            pass
        bad = rb.take(x, rb.tensor([i + 4]), axis=0)
        for _ in range(2):
            try:
                bad.numpy()
            except rb.IndexRangeError:
                pass


def main() -> None:
    """Everything once, threads too; prints the losses."""
    print(eager(12), jitted(6))
    fail(5)
    others = [threading.Thread(target=eager, args=(4,)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    for work in WORKLOADS.values():
        work()
        gc.collect()
    print("done")


if __name__ == "__main__":
    main()
