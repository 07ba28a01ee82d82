"""From the second sight on nothing is compiled, whatever Python does around (SEMANTICS 8-10)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.engine import programs
from rabbet.optim import SGD, Adam
from rabbet.tensor import functions as F
from tests.semantics.conftest import Counts

Batch = tuple[np.ndarray, np.ndarray]


def batches(sizes: list[int], features: int = 12) -> list[Batch]:
    """Random batches of these sizes: rows of numbers, and classes."""
    random = np.random.default_rng(len(sizes))
    return [
        (random.normal(size=(n, features)).astype(np.float32), random.integers(0, 5, n))
        for n in sizes
    ]


class Net(nn.Module):
    """Two layers with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 5)
        self.dropout = nn.Dropout(0.25)

    def forward(self, x: rb.Tensor) -> rb.Tensor:
        """Scores of five classes."""
        return self.second(self.dropout(F["relu"](self.first(x))))


def epoch(model: Net, optimizer: object, data: list[Batch]) -> list[float]:
    """The loop of one's own, as users write it."""
    losses = []
    for x, y in data:
        loss = F["cross_entropy"](model(rb.asarray(x)), rb.asarray(y))
        if loss > 1e9:
            print("skipping an outlier", loss)
            continue
        optimizer.zero_grad()  # type: ignore[attr-defined]
        loss.backward()
        optimizer.step()  # type: ignore[attr-defined]
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_s09_second_pass_of_the_training_loop(kind: str, fresh: None, counts: Counts) -> None:
    """The second pass over the data compiles nothing, the third neither."""
    model = Net()
    parameters = model.parameters()
    optimizer = (
        SGD(parameters, lr=0.1, momentum=0.9) if kind == "sgd" else Adam(parameters, lr=0.01)
    )
    data = batches([16] * 4)
    epoch(model, optimizer, data)
    counts.look()
    epoch(model, optimizer, data)
    epoch(model, optimizer, data)
    assert counts.look() == (0, 0)


def test_s09_arbitrary_code_between_the_steps(fresh: None, counts: Counts) -> None:
    """Logging, caught exceptions, variables that live on: stores may change, compiles end."""
    model = Net()
    optimizer = Adam(model.parameters(), lr=0.01)
    data = batches([16] * 3)
    kept: list[object] = []

    def noisy(number: int) -> None:
        x, y = (rb.asarray(a) for a in data[number % 3])
        scores = model(x)
        loss = F["cross_entropy"](scores, y)
        if number % 3 == 1:
            kept.append(scores)
        if number % 4 == 2:
            print("loss", loss)
        try:
            _ = scores + rb.ones((3, 3))
        except rb.ShapeError as error:
            kept.append(error)
        optimizer.zero_grad()
        loss.backward()
        if number % 5 == 3:
            kept.append(model.first.weight.grad)
        optimizer.step()
        del kept[:-4]

    for number in range(60):
        noisy(number)
    counts.look()
    for number in range(60):
        noisy(number)
    kernels, made = counts.look()
    assert kernels == 0 and made == 0


def test_s10_short_last_batch(fresh: None, counts: Counts) -> None:
    """A short last batch is compiled for once, then never again."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    data = batches([16, 16, 16, 7])
    for _ in range(3):
        epoch(model, optimizer, data)
    counts.look()
    epoch(model, optimizer, data)
    assert counts.look() == (0, 0)


def test_s10_from_the_second_new_batch_size_on(fresh: None, counts: Counts) -> None:
    """Once a size was seen to change it is a symbol: no further size runs LLVM."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    for size in (16, 16, 24, 24, 31, 31):
        epoch(model, optimizer, batches([size]))
    counts.look()
    for size in (40, 19, 64, 23, 50, 18):
        epoch(model, optimizer, batches([size]))
    assert counts.kernels == 0


def test_s10_symbols_give_the_bits_of_static_sizes(fresh: None) -> None:
    """A program with symbols gives what a program for one size gives."""

    def run(size: int) -> bytes:
        random = np.random.default_rng(size)
        w = rb.tensor(np.random.default_rng(0).normal(size=(12, 5)), requires_grad=True)
        x = rb.asarray(random.normal(size=(size, 12)))
        loss = rb.softmax(x @ w, axis=0).square().mean()
        loss.backward()
        return loss.numpy().tobytes() + w.grad.numpy().tobytes()

    sizes = [9, 20, 33, 50, 17, 80, 1, 2, 0, 64]
    mixed = [run(n) for n in sizes for _ in range(2)][1::2]
    for n, found in zip(sizes, mixed, strict=True):
        programs.families.clear()
        assert run(n) == found, n


def test_s08_slice_starts_do_not_recompile(fresh: None, counts: Counts) -> None:
    """A sliced batch at ever new places runs no LLVM after the first few."""
    data = rb.asarray(np.arange(4000.0, dtype=np.float32).reshape(1000, 4))
    data.numpy()
    for i in range(4):
        (data[i * 7 : i * 7 + 7] * 2).sum().item()
    counts.look()
    found = [(data[i * 7 : i * 7 + 7] * 2).sum().item() for i in range(4, 140)]
    assert counts.look()[0] == 0
    wanted = [float(2 * np.arange(i * 28, i * 28 + 28).sum()) for i in range(4, 140)]
    assert found == wanted


def test_s08_integer_indices_do_not_recompile(fresh: None, counts: Counts) -> None:
    """x[i] for ever new i."""
    data = rb.asarray(np.arange(600.0).reshape(200, 3))
    data.numpy()
    for i in range(4):
        (data[i] + 1).tolist()
    counts.look()
    assert [(data[i] + 1).tolist()[0] for i in range(4, 200)] == [
        3.0 * i + 1 for i in range(4, 200)
    ]
    assert counts.look()[0] == 0


def test_s08_python_numbers_are_run_time_arguments(fresh: None, counts: Counts) -> None:
    """Ever new numbers, one program."""
    x = rb.ones((5,))
    x.numpy()
    for i in range(2):
        (x * (i + 0.5) + i).numpy()
    counts.look()
    for i in range(2, 60):
        found = (x * (i + 0.5) + i).tolist()
        assert found == [2 * i + 0.5] * 5
    assert counts.look() == (0, 0)


def test_s08_a_schedule_does_not_recompile(fresh: None, counts: Counts) -> None:
    """A learning rate that changes at every step, under jit too, where it is never frozen."""
    w = rb.tensor([1.0, 1.0], requires_grad=True)
    optimizer = SGD([w], lr=0.5)

    def step() -> None:
        optimizer.zero_grad()
        (w * 1.0).sum().backward()
        optimizer.step()

    for rate in (0.5, 0.25, 0.125):
        optimizer.param_groups[0]["lr"] = rate
        step()
    counts.look()
    jitted = rb.jit(step)
    for rate in (0.5, 0.25):
        optimizer.param_groups[0]["lr"] = rate
        step()
    assert counts.look() == (0, 0)
    before = w.detach().numpy()
    rates = [1.0, 0.5, 0.25, 0.125, 2.0]
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        jitted()
    assert np.allclose(before - sum(rates), w.detach().numpy())
    assert jitted.stats["replayed"] >= 3


TREES = """
import random
import numpy as np
import rabbet as rb
from rabbet import nn
from rabbet.codegen import machine

rb.manual_seed(0)
compose, leaf = nn.Linear(16, 8), nn.Linear(4, 8)
words = rb.asarray(np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))

def tree(source, depth):
    if depth == 0 or source.random() < 0.3:
        return source.randrange(50)
    return tree(source, depth - 1), tree(source, depth - 1)

def embed(node):
    if isinstance(node, int):
        return rb.tanh(leaf(words[node]))
    left, right = embed(node[0]), embed(node[1])
    return rb.tanh(compose(rb.concat([left, right], axis=0)))

source = random.Random(1)
for _ in range(COUNT):
    loss = (embed(tree(source, 4)) ** 2).sum()
    loss.backward()
    for p in (*compose.parameters(), *leaf.parameters()):
        p.grad = None
    loss.item()
print(machine.compilations)
"""


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_s09_random_trees_reuse_kernels(count: int, script: Callable[..., str]) -> None:
    """1000 distinct trees through one net: under 200 kernel compiles on a new machine."""
    assert int(script(TREES.replace("COUNT", str(count)))) < 200


def test_s09_a_warm_start_compiles_nothing(script: Callable[..., str]) -> None:
    """A second process finds every program and kernel on disk."""
    text = """
import rabbet as rb
from rabbet.codegen import machine
for _ in range(3):
    w = rb.ones((3, 4), requires_grad=True)
    (rb.softmax(w * 2, axis=1) ** 2).sum().backward()
    w.grad.numpy()
print(machine.compilations)
"""
    assert int(script(text)) > 0
    assert int(script(text)) == 0


def test_s10_reshapes_with_a_free_size(fresh: None) -> None:
    """-1 stands in another place each time: it is never taken for a size."""
    for shape in ((-1, 3), (2, -1), (-1, 2), (6, -1), (-1, 1)):
        for _ in range(2):
            found = (rb.asarray(np.arange(6.0)) * 2).reshape(shape)
            assert found.numpy().tolist() == (np.arange(6.0) * 2).reshape(shape).tolist()
