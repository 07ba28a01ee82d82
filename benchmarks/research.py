"""Three research programs beside the same programs in PyTorch eager, in one run.

    python benchmarks/research.py            needs torch in the same environment

"warm" is a training step on data (and, for trees, structures) never seen before, once both are
under way: rounds take turns, the figure is the median of the rounds, the ratio the median of the
rounds' ratios. "first" is the first step and the first 20 in a new process whose cache is empty,
compilation included, import excluded; "with import" counts the process from its start: what a user
waits for. Both frameworks start by turns, the figures are medians. Rabbet has the ready kernels
that an installation has, made first if they are not there (RABBET_PACKS=none: without). A ratio
above 1 says that Rabbet is faster.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
FIRST, ROUNDS, PROCESSES = 20, 9, 5
Step = Callable[[], float]


# ---- Rabbet: the examples as they stand --------------------------------------------------------


def rabbet_tree() -> Step:
    import tree_lstm as example

    import rabbet as rb

    rb.manual_seed(0)
    source = random.Random(0)
    model = example.TreeLSTM()
    optimizer = rb.optim.Adam(model.parameters(), lr=5e-3)

    def step() -> float:
        batch = [example.grow(source, 3) for _ in range(10)]
        scores = rb.concat([model(tree) for tree in batch], axis=0)
        wanted = rb.asarray([tree.value for tree in batch])
        loss = rb.nn.functional.cross_entropy(scores, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def rabbet_ode() -> Step:
    import neural_ode as example

    import rabbet as rb

    rb.manual_seed(0)
    points = _points()
    field = rb.nn.Sequential(rb.nn.Linear(2, 50), rb.nn.Tanh(), rb.nn.Linear(50, 2))
    optimizer = rb.optim.Adam(field.parameters(), lr=5e-3)

    def step() -> float:
        x = rb.asarray(points())
        with rb.no_grad():
            wanted, _ = example.solve(example.Spiral(), x, 0.5)
        found, _ = example.solve(field, x, 0.5)
        loss = ((found - wanted) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def rabbet_maml() -> Step:
    import maml as example

    import rabbet as rb

    rb.manual_seed(0)
    source = np.random.default_rng(0)
    params = dict(example.model.named_parameters())
    optimizer = rb.optim.Adam(params.values(), lr=1e-3)

    @rb.jit
    def train(*points: Any) -> Any:
        value, slopes = rb.value_and_grad(example.batch_loss)(
            {name: p.detach() for name, p in params.items()}, *points
        )
        for name, p in params.items():
            p.grad = slopes[name]
        optimizer.step()
        return value

    return lambda: float(train(*example.sinusoids(source, example.TASKS, example.SHOTS)).item())


# ---- PyTorch: the same programs ------------------------------------------------------------------


def torch_tree() -> Step:
    import torch
    import tree_lstm as example
    from torch import nn

    torch.manual_seed(0)
    size, words = example.SIZE, example.WORDS

    class TreeLSTM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(len(words), size)
            self.gates = nn.Linear(size, 3 * size)
            self.gates_below = nn.Linear(2 * size, 3 * size, bias=False)
            self.forget = nn.Linear(size, size)
            self.forget_below = nn.Linear(size, size, bias=False)
            self.score = nn.Linear(size, 10)

        def state(self, tree: Any) -> tuple[Any, Any]:
            x = self.words(torch.asarray([words.index(tree.word)]))
            gates = self.gates(x)
            below = [self.state(child) for child in tree.children]
            if below:
                gates = gates + self.gates_below(torch.concat([h for h, _ in below], dim=1))
            i, o, u = torch.split(gates, size, dim=1)
            c = torch.sigmoid(i) * torch.tanh(u)
            for h_child, c_child in below:
                c = c + torch.sigmoid(self.forget(x) + self.forget_below(h_child)) * c_child
            return torch.sigmoid(o) * torch.tanh(c), c

        def forward(self, tree: Any) -> Any:
            return self.score(self.state(tree)[0])

    source = random.Random(0)
    model = TreeLSTM()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def step() -> float:
        batch = [example.grow(source, 3) for _ in range(10)]
        scores = torch.concat([model(tree) for tree in batch], dim=0)
        wanted = torch.asarray([tree.value for tree in batch])
        loss = nn.functional.cross_entropy(scores, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def torch_ode() -> Step:
    import torch
    from torch import nn

    tolerance = 1e-3

    def solve(field: Any, x: Any, end: float) -> Any:
        time, step = 0.0, 0.1
        while end - time > 1e-9:
            step = min(step, end - time)
            k1 = field(x)
            k2 = field(x + step / 2 * k1)
            k3 = field(x + step * 3 / 4 * k2)
            new = x + step * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
            k4 = field(new)
            error = step * (-5 / 72 * k1 + 1 / 12 * k2 + 1 / 9 * k3 - 1 / 8 * k4)
            size = float(torch.sqrt((error.detach() ** 2).mean()))
            if size <= tolerance:
                x, time = new, time + step
            step *= min(4.0, max(0.2, 0.9 * (tolerance / max(size, 1e-12)) ** (1 / 3)))
        return x

    def spiral(x: Any) -> Any:
        return (x**3) @ torch.asarray(np.array([[-0.1, 2.0], [-2.0, -0.1]], np.float32))

    torch.manual_seed(0)
    points = _points()
    field = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))
    optimizer = torch.optim.Adam(field.parameters(), lr=5e-3)

    def step() -> float:
        x = torch.asarray(points())
        with torch.no_grad():
            wanted = solve(spiral, x, 0.5)
        loss = ((solve(field, x, 0.5) - wanted) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def torch_maml() -> Step:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)
    )
    params = dict(model.named_parameters())
    optimizer = torch.optim.Adam(params.values(), lr=1e-3)
    source = np.random.default_rng(0)

    def loss(params: Any, x: Any, y: Any) -> Any:
        return ((torch.func.functional_call(model, params, (x,)) - y) ** 2).mean()

    def task_loss(params: Any, x: Any, y: Any, x_new: Any, y_new: Any) -> Any:
        slope = torch.func.grad(loss)(params, x, y)
        return loss({n: p - 0.01 * slope[n] for n, p in params.items()}, x_new, y_new)

    def batch_loss(params: Any, *points: Any) -> Any:
        return torch.func.vmap(task_loss, in_dims=(None, 0, 0, 0, 0))(params, *points).mean()

    def step() -> float:
        points = [torch.asarray(a) for a in _sinusoids(source, 25, 10)]
        detached = {name: p.detach() for name, p in params.items()}
        slopes, value = torch.func.grad_and_value(batch_loss)(detached, *points)
        for name, p in params.items():
            p.grad = slopes[name]
        optimizer.step()
        return float(value.item())

    return step


# ---- data ----------------------------------------------------------------------------------------


def _points() -> Callable[[], np.ndarray]:
    source = np.random.default_rng(0)

    def draw() -> np.ndarray:
        angle, radius = source.uniform(0, 2 * np.pi, 16), source.uniform(0.5, 1.5, 16)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)

    return draw


def _sinusoids(source: np.random.Generator, tasks: int, points: int) -> list[np.ndarray]:
    amplitude = source.uniform(0.1, 5.0, (tasks, 1, 1))
    phase = source.uniform(0.0, np.pi, (tasks, 1, 1))
    x = source.uniform(-5.0, 5.0, (tasks, 2 * points, 1))
    y = amplitude * np.sin(x - phase)
    halves = (x[:, :points], y[:, :points], x[:, points:], y[:, points:])
    return [h.astype(np.float32) for h in halves]


# ---- measuring -----------------------------------------------------------------------------------

PROGRAMS: dict[str, dict[str, Callable[[], Step]]] = {
    "maml": {"rabbet": rabbet_maml, "torch": torch_maml},
    "neural_ode": {"rabbet": rabbet_ode, "torch": torch_ode},
    "tree_lstm": {"rabbet": rabbet_tree, "torch": torch_tree},
}


def _timed(step: Step, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - begin) / count


def warm(name: str, steps: int) -> tuple[float, float, float]:
    """(ms of a step with Rabbet, with PyTorch, how many times faster Rabbet is)."""
    os.environ["RABBET_COMPILE"] = "wait"  # no compiler runs beside what is measured
    ours, theirs = PROGRAMS[name]["rabbet"](), PROGRAMS[name]["torch"]()
    for step in (ours, theirs):
        _timed(step, FIRST)
    pairs = [(_timed(ours, steps), _timed(theirs, steps)) for _ in range(ROUNDS)]
    return (
        1e3 * median(a for a, _ in pairs),
        1e3 * median(b for _, b in pairs),
        median(b / a for a, b in pairs),
    )


def first(name: str, framework: str) -> None:
    """Print the seconds of the first step, of the first 20, and of the import and set-up."""
    begin = time.perf_counter()
    step = PROGRAMS[name][framework]()
    ready = time.perf_counter() - begin
    one = _timed(step, 1)
    print(one, one + (FIRST - 1) * _timed(step, FIRST - 1), ready)


def cold(name: str) -> list[tuple[float, float, float]]:
    """Seconds of the first step, the first 20, and those with the import, of Rabbet and PyTorch,
    each with their ratio.
    """
    pairs = [(started(name, "rabbet"), started(name, "torch")) for _ in range(PROCESSES)]
    by_figure = zip(*(zip(ours, theirs, strict=True) for ours, theirs in pairs), strict=True)
    return [
        (median(a for a, _ in both), median(b for _, b in both), median(b / a for a, b in both))
        for both in by_figure
    ]


def started(name: str, framework: str) -> tuple[float, float, float]:
    """Those seconds of one new process with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        found = subprocess.run(
            [sys.executable, __file__, "--first", name, framework],
            env={**os.environ, "RABBET_CACHE_DIR": cache, "RABBET_COMPILE": "background"},
            capture_output=True,
            text=True,
            check=True,
        )
    one, all_, ready = map(float, found.stdout.split())
    return one, all_, all_ + ready


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PROGRAMS, nargs="*", default=list(PROGRAMS))
    parser.add_argument("--steps", type=int, default=20, help="of each round")
    parser.add_argument("--no-cold", action="store_true")
    parser.add_argument("--first", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first:
        first(*options.first)
        return
    if not (options.no_cold or "RABBET_PACKS" in os.environ):
        subprocess.run([sys.executable, "-m", "rabbet.pack", "--if-needed"], check=True)
    print(f"{'':<32}{'rabbet':>10}{'torch':>10}{'ratio':>8}")
    for name in options.only:
        ours, theirs, ratio = warm(name, options.steps)
        print(f"{name + ', a step':<32}{ours:>7.2f} ms{theirs:>7.2f} ms{ratio:>8.2f}", flush=True)
        if options.no_cold:
            continue
        kinds = "first step", f"first {FIRST} steps", "the same with import"
        for what, (ours, theirs, ratio) in zip(kinds, cold(name), strict=True):
            print(
                f"{name + ', ' + what:<32}{ours:>8.3f} s{theirs:>8.3f} s{ratio:>8.2f}", flush=True
            )


if __name__ == "__main__":
    main()
