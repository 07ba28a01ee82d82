"""Requests that arrive together are computed together: joined along the batch axis, split again.

A batcher belongs to one model and one event loop. Computing happens in one thread of its own, where
native code runs outside of Python's lock, so the loop goes on reading requests meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rabbet.serve.errors import RequestError
from rabbet.serve.model import Model

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Limits:
    """How much is joined, waits, and is taken in."""

    max_batch: int = 64  # rows that are computed together; 1 joins nothing
    max_wait_ms: float = 2.0  # that a request waits for others, while there is much to do
    max_queue: int = 256  # requests of one model that wait; more are turned away (503)
    max_body_bytes: int = 64 << 20  # of one request
    max_pending_bytes: int = 1 << 30  # of all requests that are being read or answered
    body_timeout_s: float = 30.0  # for a client to send its request


@dataclass
class Statistics:
    """Counters of one model since the server started."""

    requests: int = 0  # answered, also with an error
    rows: int = 0
    batches: int = 0
    errors: int = 0
    queue_s: float = 0.0
    compute_s: float = 0.0

    def describe(self) -> dict[str, Any]:
        """The counters as the statistics endpoint gives them."""
        batches, requests = max(self.batches, 1), max(self.requests, 1)
        return {
            "requests": self.requests,
            "batches": self.batches,
            "rows": self.rows,
            "errors": self.errors,
            "mean_batch": self.rows / batches,
            "mean_queue_ms": 1e3 * self.queue_s / requests,
            "mean_compute_ms": 1e3 * self.compute_s / batches,
        }


@dataclass(eq=False)
class _Waiting:
    """A request in the queue. Requests with equal keys may be joined; None joins nothing."""

    arrays: Arrays
    key: Any
    rows: int
    arrived: float
    future: asyncio.Future[list[np.ndarray]] = field(repr=False)


class Batcher:
    """Queues requests for a model, joins them, and hands out their parts of the results.

    Args:
        model: what computes.
        limits: how much is joined and how much may wait.
        joins: whether results are known not to depend on what else is in a batch.

    An idle model computes a request at once. While it computes, requests gather; the oldest and all
    that fit to it go next. After a batch of several, the next one waits until as many are there
    again, `max_wait_ms` at most: clients that have just been answered are about to ask again.
    """

    def __init__(self, model: Model, limits: Limits, joins: bool) -> None:
        self.model = model
        self.limits = limits
        self.joins = joins and model.batch_symbol is not None and limits.max_batch > 1
        self.statistics = Statistics()
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._last_batch = 1
        self._is_closing = False
        self._thread = ThreadPoolExecutor(1, f"rabbet-serve-{model.name}")
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, arrays: Arrays) -> list[np.ndarray]:
        """The model's results; RequestError for wrong inputs (400) and overload (503)."""
        if self._is_closing:
            raise RequestError(503, "the server is shutting down")
        if len(self._queue) >= self.limits.max_queue:
            retry = {"Retry-After": "1"}
            raise RequestError(503, f"{self.model.name}: too many requests are waiting", retry)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        future = asyncio.get_running_loop().create_future()
        rows = int(arrays[0].shape[0]) if self.joins else 1
        waiting = _Waiting(arrays, self._key_of(arrays), rows, time.monotonic(), future)
        self._queue.append(waiting)
        self._arrived.set()
        try:
            results: list[np.ndarray] = await future
        except Exception:
            self.statistics.errors += 1
            raise
        finally:
            self.statistics.requests += 1
        return results

    async def close(self) -> None:
        """Answer what waits, take nothing more, and end the thread."""
        self._is_closing = True
        self._arrived.set()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown(wait=True)

    def _key_of(self, arrays: Arrays) -> Any:
        if not self.joins or not 0 < arrays[0].shape[0] < self.limits.max_batch:
            return None
        return tuple(array.shape[1:] for array in arrays)

    async def _work(self) -> None:
        while True:
            # One turn of the loop, so that requests that were read together are seen together.
            await asyncio.sleep(0)
            if not self._queue:
                if self._is_closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._gather_more()
            group = self._take_group()
            if group:
                await self._compute(group)

    async def _gather_more(self) -> None:
        """After a batch of several, wait a little for as many again."""
        deadline = self._queue[0].arrived + self.limits.max_wait_ms / 1e3
        while self._last_batch > 1 and len(self._queue) < self._last_batch:
            left = deadline - time.monotonic()
            if left <= 0 or self._is_closing or self._queue[0].key is None:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _take_group(self) -> list[_Waiting]:
        """The oldest request, and those that can be joined with it, in the order they came."""
        group: list[_Waiting] = []
        rest: deque[_Waiting] = deque()
        room = self.limits.max_batch
        for waiting in self._queue:
            if waiting.future.done():  # the client has gone
                continue
            fits = group and waiting.key is not None and waiting.key == group[0].key
            if not group or (fits and waiting.rows <= room):
                group.append(waiting)
                room -= waiting.rows
            else:
                rest.append(waiting)
        self._queue = rest
        return group

    async def _compute(self, group: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        start = time.monotonic()
        try:
            outcomes = await loop.run_in_executor(
                self._thread, run_joined, self.model, [waiting.arrays for waiting in group]
            )
        except Exception as error:  # of ours, not of one request: everyone must hear of it
            outcomes = [error] * len(group)
        end = time.monotonic()
        self._last_batch = len(group)
        self.statistics.batches += 1
        self.statistics.rows += sum(waiting.rows for waiting in group)
        self.statistics.compute_s += end - start
        for waiting, outcome in zip(group, outcomes, strict=True):
            self.statistics.queue_s += start - waiting.arrived
            if waiting.future.done():
                continue
            if isinstance(outcome, Exception):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)


def run_joined(model: Model, calls: Sequence[Arrays]) -> list[list[np.ndarray] | Exception]:
    """The results of each call, computed as one batch; for each that fails, its own error."""
    if len(calls) > 1:
        try:
            return list(_run_batch(model, calls))
        except RequestError:
            pass  # somebody's values are wrong; alone, each hears of its own
    return [_run_alone(model, arrays) for arrays in calls]


def _run_batch(model: Model, calls: Sequence[Arrays]) -> list[list[np.ndarray]]:
    joined = [np.concatenate(column) for column in zip(*calls, strict=True)]
    results = model.run(joined)
    ends = np.cumsum([arrays[0].shape[0] for arrays in calls])
    starts = [0, *ends[:-1]]
    return [
        [result[start:end] for result in results] for start, end in zip(starts, ends, strict=True)
    ]


def _run_alone(model: Model, arrays: Arrays) -> list[np.ndarray] | Exception:
    try:
        return model.run(arrays)
    except Exception as error:
        return error
