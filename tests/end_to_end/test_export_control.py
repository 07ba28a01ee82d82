"""`if` and `while` in a C library: the same bits as in Python, whichever way is taken."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.base import tree
from rabbet.export import build, export, load_program
from tests.unit.export.control_programs import everything

pytestmark = pytest.mark.usefixtures("c_compiler")


class Library:
    """A built library, called through ctypes with arrays."""

    def __init__(self, path: Path) -> None:
        folder, self.name = build(path), path.stem
        self.c = ctypes.CDLL(str(folder / f"lib{self.name}.so"))
        self.program = load_program(path)
        opened = self.function("open")
        opened.restype = ctypes.c_void_p
        self.model = ctypes.c_void_p(opened())
        assert self.model.value

    def function(self, name: str) -> Any:
        return getattr(self.c, f"{self.name}_{name}")

    def run(self, sizes: Sequence[int], *inputs: np.ndarray) -> tuple[int, list[np.ndarray]]:
        """The status and all outputs."""
        outputs, given = [], [ctypes.c_int64(s) for s in sizes]
        for number, port in enumerate(self.program.outputs):
            shape = (ctypes.c_int64 * len(port.shape))()
            assert self.function("output_shape")(number, *given, shape) == 0
            outputs.append(np.full(tuple(shape), 77, port.dtype.numpy))
        arrays = [a.ctypes.data_as(ctypes.c_void_p) for a in (*inputs, *outputs)]
        return self.function("predict")(self.model, *given, *arrays), outputs

    def close(self) -> None:
        self.function("close")(self.model)


def bits(result: Any) -> list[tuple[Any, ...]]:
    arrays = [rb.asarray(x).numpy() for x in tree.flatten(result)[0]]
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays]


def vectors(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    scale = rng.choice([0.3, 1.0, 4.0, 12.0], (count, 1))
    return list((rng.standard_normal((count, 3)) * scale).astype(np.float32))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    path = tmp_path_factory.mktemp("control") / "everything.rbt"
    made = Library(export(everything, (rb.ones(3),), path))
    yield made
    made.close()


def test_all_programs_as_they_are_written(library: Library) -> None:
    for number, x in enumerate(vectors(1000, 3)):
        status, found = library.run((), x)
        assert status == 0
        assert bits(found) == bits(library.program(x)), x
        if number % 100 == 0:
            assert bits(found) == bits(everything(rb.asarray(x, copy=True))), x


def test_many_threads_at_once(library: Library) -> None:
    xs = vectors(200, 4)
    alone = [bits(library.run((), x)[1]) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda x: bits(library.run((), x)[1]), xs)) == alone


def iterate(x: Any, limit: Any) -> Any:
    """A state of any length, of a size that is written in place and one that is not."""
    steps, mean = 0, x.mean(0)
    while rb.abs(mean).max() < limit:
        if mean.sum() > 0:
            x = x * 1.5 + mean
        else:
            x = rb.concat([x[1:], x[:1] * 2.0]) - 1.0
        mean = x.mean(0)
        steps += 1
    return x, mean, steps, rb.scan(lambda c, r: (c + r, c.max()), mean * 0, x)[1]


def test_sizes_that_vary(tmp_path: Path) -> None:
    dynamic = {"x": {0: "n"}}
    path = export(iterate, (rb.ones((3, 4)), rb.tensor(2.0)), tmp_path / "iterate.rbt", dynamic)
    library = Library(path)
    for n in (1, 2, 3, 64, 5000):
        for limit in (0.0, 1.0, 50.0):
            x = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32)
            status, found = library.run((n,), x, np.array(limit, np.float32))
            assert status == 0
            assert bits(found) == bits(library.program(x, np.float32(limit)))
            if n < 64:
                assert bits(found) == bits(iterate(rb.asarray(x), rb.tensor(limit)))
    library.close()


def test_an_index_out_of_range_inside_a_loop(tmp_path: Path) -> None:
    def walk(x: Any, stop: Any) -> Any:
        i = rb.tensor(0)
        while i < stop:
            x = x + x[i]
            i = i + 2
        return x

    library = Library(export(walk, (rb.ones(4), rb.tensor(1)), tmp_path / "walk.rbt"))
    x = np.arange(4, dtype=np.float32)
    for stop in (0, 1, 4):
        status, found = library.run((), x, np.array(stop, np.int64))
        assert status == 0 and bits(found) == bits(walk(rb.asarray(x), rb.tensor(stop)))
    assert library.run((), x, np.array(5, np.int64))[0] == 3
    assert library.function("message")(3)
    library.close()


def test_results_that_are_inputs_and_results_twice(tmp_path: Path) -> None:
    def hand_through(x: Any, y: Any) -> Any:
        a, b = rb.cond(x.sum() > 0, lambda x, y: (x, x), lambda x, y: (y, x * 2), x, y)
        return a, x, a, b.reshape(3, 1), x.reshape(3, 1), y[1:], b

    library = Library(export(hand_through, (rb.ones(3), rb.ones(3)), tmp_path / "hand.rbt"))
    for x, y in zip(vectors(6, 1), vectors(6, 2), strict=True):
        status, found = library.run((), x, y)
        assert status == 0
        assert bits(found) == bits(hand_through(rb.asarray(x), rb.asarray(y)))
        assert bits(found) == bits(library.program(x, y))
    library.close()
