"""GEMM and an MLP training step beside PyTorch eager, interleaved in one process, medians.

Needs torch (CPU) beside Rabbet: `pip install torch`.
Run: python benchmarks/against_torch.py [gemm] [mlp]
Both use RABBET_NUM_THREADS threads (default 2). Ratios above 1 mean Rabbet is faster.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("RABBET_NUM_THREADS", "2")

import numpy as np  # noqa: E402
import torch  # noqa: E402

import rabbet as rb  # noqa: E402
from rabbet import nn  # noqa: E402

THREADS = int(os.environ["RABBET_NUM_THREADS"])
ROUNDS = 15


def interleaved(ours: Callable[[], object], theirs: Callable[[], object], inner: int) -> tuple:
    """Median seconds of one call each, measured in turns."""
    for _ in range(3):
        ours()
        theirs()
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for times, call in zip(found, (ours, theirs), strict=True):
            begin = time.perf_counter()
            for _ in range(inner):
                call()
            times.append((time.perf_counter() - begin) / inner)
    return statistics.median(found[0]), statistics.median(found[1])


def gemm() -> None:
    """float32 products, plain and transposed operands."""
    print(f"{'GEMM float32':<34}{'rabbet':>10}{'torch':>10}  GFLOP/s   ratio")
    rng = np.random.default_rng(0)
    for m, n, k in ((2048, 2048, 2048), (2047, 1999, 2011)):
        for ta in (False, True):
            for tb in (False, True):
                a = rng.standard_normal((k, m) if ta else (m, k), np.float32)
                b = rng.standard_normal((n, k) if tb else (k, n), np.float32)
                ra, rb_ = rb.asarray(a), rb.asarray(b)
                ta_, tb_ = torch.from_numpy(a), torch.from_numpy(b)

                def ours() -> object:
                    c = (ra.T if ta else ra) @ (rb_.T if tb else rb_)  # noqa: B023
                    rb.flush()
                    return c

                def theirs() -> object:
                    return (ta_.T if ta else ta_) @ (tb_.T if tb else tb_)  # noqa: B023

                np.testing.assert_allclose(ours().numpy(), theirs().numpy(), rtol=2e-3, atol=2e-2)
                x, y = interleaved(ours, theirs, 2)
                flops = 2e-9 * m * n * k
                name = f"{m}x{n}x{k} {'AT' if ta else 'A'} {'BT' if tb else 'B'}"
                print(f"{name:<34}{flops / x:>10.0f}{flops / y:>10.0f}{'':>9}{y / x:>8.2f}")


def mlp() -> None:
    """One step of 784-256-128-10 with Adam, batches of 64 and 512."""
    print(f"\n{'MLP training step':<34}{'rabbet':>10}{'torch':>10}  us        ratio")
    for batch in (64, 512):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((batch, 784), np.float32)
        y = rng.integers(0, 10, batch)
        rb.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
        )
        optimizer = rb.optim.Adam(model.parameters(), lr=1e-3)

        @rb.jit
        def step(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
            loss = nn.functional.cross_entropy(model(x), y)  # noqa: B023
            optimizer.zero_grad()  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023
            return loss

        tm = torch.nn.Sequential(
            *(torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 128)),
            *(torch.nn.ReLU(), torch.nn.Linear(128, 10)),
        )
        tm.load_state_dict(
            {k: torch.from_numpy(np.array(v.numpy())) for k, v in model.state_dict().items()}
        )
        to = torch.optim.Adam(tm.parameters(), lr=1e-3)
        tx, ty = torch.from_numpy(x), torch.from_numpy(y)

        def torch_step() -> torch.Tensor:
            loss = torch.nn.functional.cross_entropy(tm(tx), ty)  # noqa: B023
            to.zero_grad()  # noqa: B023
            loss.backward()
            to.step()  # noqa: B023
            return loss

        rx, ry = rb.asarray(x), rb.asarray(y)
        first = float(step(rx, ry)), float(torch_step().detach())
        assert abs(first[0] - first[1]) < 1e-4, first
        ours, theirs = interleaved(lambda: step(rx, ry), torch_step, 50)  # noqa: B023
        name = f"batch {batch}"
        print(f"{name:<34}{ours * 1e6:>10.0f}{theirs * 1e6:>10.0f}{'':>11}{theirs / ours:>6.2f}")


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    wanted = sys.argv[1:] or ["gemm", "mlp"]
    if "gemm" in wanted:
        gemm()
    if "mlp" in wanted:
        mlp()
