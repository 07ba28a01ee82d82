"""Joining requests: what is joined, what is not, and that nobody notices."""

import asyncio
from typing import Any

import numpy as np
import pytest

from rabbet.base import dtypes
from rabbet.serve.batching import Batcher, Limits
from rabbet.serve.errors import RequestError
from rabbet.serve.model import Model, TensorSpec, find_batch_symbol
from rabbet.serve.probe import is_joinable


def call(rows: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 4, rows), rng.standard_normal((rows, 3)).astype(np.float32)]


async def hold_and_submit(table: Any, batcher: Batcher, calls: list) -> list[Any]:
    """Submit the first call, and the others while it is being computed."""
    table.gate.clear()
    tasks = [asyncio.create_task(batcher.submit(calls[0]))]
    await asyncio.sleep(0.02)
    tasks += [asyncio.create_task(batcher.submit(arrays)) for arrays in calls[1:]]
    await asyncio.sleep(0.02)
    table.gate.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_is_joined_with_equal_results(serve: Any, table: Any) -> None:
    calls = [call(1 + i % 3, i) for i in range(9)]
    found = serve(lambda _, batcher: hold_and_submit(table, batcher, calls))
    assert table.batches == [1, sum(len(index) for index, _ in calls[1:])]
    for arrays, results in zip(calls, found, strict=True):
        for a, b in zip(table.run(arrays), results, strict=True):
            assert a.tobytes() == b.tobytes() and a.shape == b.shape


def test_a_batch_has_at_most_so_many_rows(serve: Any, table: Any) -> None:
    calls = [call(3, i) for i in range(8)]
    serve(lambda _, batcher: hold_and_submit(table, batcher, calls), max_batch=8)
    assert table.batches[0] == 3 and max(table.batches) == 6 and sum(table.batches) == 24


def test_large_and_empty_requests_go_alone(serve: Any, table: Any) -> None:
    calls = [call(1, 0), call(100, 1), call(0, 2), call(2, 3), call(1, 4)]
    found = serve(lambda _, batcher: hold_and_submit(table, batcher, calls))
    assert sorted(table.batches) == [0, 1, 3, 100]
    assert [len(z) for _, z in found] == [1, 100, 0, 2, 1]


def test_only_the_guilty_hears_of_an_error(serve: Any, table: Any) -> None:
    calls = [call(1, i) for i in range(5)]
    calls[3][0][0] = 9
    found = serve(lambda _, batcher: hold_and_submit(table, batcher, calls))
    assert isinstance(found[3], RequestError) and found[3].status == 400
    for arrays, results in [*zip(calls, found, strict=True)][:3]:
        assert results[1] == arrays[0] + 1


def test_a_full_queue_turns_requests_away(serve: Any, table: Any) -> None:
    calls = [call(1, i) for i in range(6)]
    found = serve(lambda _, batcher: hold_and_submit(table, batcher, calls), max_queue=3)
    refused = [r for r in found if isinstance(r, RequestError)]
    assert len(refused) == 2 and {r.status for r in refused} == {503}
    assert refused[0].headers == {"Retry-After": "1"}


def test_closing_answers_what_waits(serve: Any, table: Any) -> None:
    async def scenario(_: Any, batcher: Batcher) -> Any:
        table.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(call(1, i))) for i in range(4)]
        await asyncio.sleep(0.02)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="shutting down"):
            await batcher.submit(call(1, 9))
        table.gate.set()
        await closing
        return [task.done() and len(task.result()) for task in tasks]

    assert serve(scenario) == [2, 2, 2, 2]


def test_an_idle_model_does_not_wait(serve: Any, table: Any) -> None:
    async def scenario(_: Any, batcher: Batcher) -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for i in range(5):
            await batcher.submit(call(1, i))
        return loop.time() - start

    assert serve(scenario, max_wait_ms=1000.0) < 1.0


def test_after_a_batch_of_several_the_next_waits_for_as_many(serve: Any, table: Any) -> None:
    async def client(batcher: Batcher, delay: float) -> None:
        for i in range(4):
            await batcher.submit(call(1, i))
            await asyncio.sleep(delay)

    async def scenario(_: Any, batcher: Batcher) -> Any:
        await asyncio.gather(*(client(batcher, 0.002 * i) for i in range(4)))
        return batcher.statistics.describe()

    told = serve(scenario, max_wait_ms=300.0)
    assert told["requests"] == 16 and told["batches"] == 4 and told["mean_batch"] == 4.0


def test_statistics_count_errors(serve: Any, table: Any) -> None:
    async def scenario(_: Any, batcher: Batcher) -> Any:
        wrong = call(1, 0)
        wrong[0][0] = 7
        for arrays in (call(2, 1), wrong):
            await asyncio.gather(batcher.submit(arrays), return_exceptions=True)
        return batcher.statistics

    counted = serve(scenario)
    assert (counted.requests, counted.errors, counted.batches, counted.rows) == (2, 1, 2, 3)


def spec(*shape: int | str) -> TensorSpec:
    return TensorSpec("x", dtypes.float32, shape)


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ([spec("n", 3)], [spec("n", 2)], "n"),
        ([spec("n", 3), spec("n")], [spec("n")], "n"),
        ([spec("n", "t")], [spec("n", "t")], "n"),
        ([spec("n", "n")], [spec("n")], None),
        ([spec("n", "2*n + 1")], [spec("n")], None),
        ([spec("n", 3)], [spec(2)], None),
        ([spec("n", 3)], [spec("2*n")], None),
        ([spec("n", 3), spec(1)], [spec("n")], None),
        ([spec("n"), spec("m")], [spec("n")], None),
        ([spec(4)], [spec(4)], None),
        ([spec()], [spec()], None),
        ([], [spec("n")], None),
    ],
)
def test_which_symbol_is_the_batch(inputs: Any, outputs: Any, expected: Any) -> None:
    assert find_batch_symbol(inputs, outputs) == expected


class Program:
    """One input, one output, and a function between."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.inputs = self.outputs = (TensorSpec("x", dtypes.float32, ("n", 4)),)

    def run(self, values: Any) -> list[np.ndarray]:
        return [self.function(values[0])]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (np.tanh, True),
        (lambda x: x - x.mean(axis=0), False),
        (lambda x: x[::-1], False),
        (lambda x: x * len(x), False),
        (lambda x: np.sort(x, axis=0), False),
    ],
)
def test_rows_that_depend_on_each_other_are_found(function: Any, expected: bool) -> None:
    assert is_joinable(Model("m", 1, Program(function)), 64) is expected


def test_other_sizes_are_kept_apart(table: Any) -> None:
    class Sequences(Program):
        def __init__(self) -> None:
            super().__init__(np.tanh)
            self.inputs = self.outputs = (TensorSpec("x", dtypes.float32, ("n", "t")),)
            self.seen: list[tuple[int, ...]] = []

        def run(self, values: Any) -> list[np.ndarray]:
            self.seen.append(values[0].shape)
            return super().run(values)

    program = Sequences()

    async def scenario() -> None:
        batcher = Batcher(Model("m", 1, program), Limits(), joins=True)
        shapes = [(1, 5), (1, 6), (2, 5), (1, 6)]
        await asyncio.gather(*(batcher.submit([np.zeros(s, np.float32)]) for s in shapes))
        await batcher.close()

    asyncio.run(scenario())
    assert sorted(program.seen) == [(2, 6), (3, 5)]
