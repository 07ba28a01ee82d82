"""Ranks as threads of one process: everything but MPI itself can be tested with them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from rabbet.distributed import Transport, group


class Threads(Transport):
    """A transport that is shared by `size` threads; which rank one is depends on who asks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.own = threading.local()
        self.meeting = threading.Barrier(size, timeout=60)
        self.board: list[Any] = [None] * size

    @property
    def rank(self) -> int:  # type: ignore[override]
        return int(self.own.rank)

    def barrier(self) -> None:
        self.meeting.wait()

    def gather_values(self, value: Any) -> list[Any]:
        self.board[self.rank] = value
        self.meeting.wait()
        found = list(self.board)
        self.meeting.wait()
        return found

    def exchange(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        return [theirs[self.rank].copy() for theirs in self.gather_values(parts)]

    def gather_parts(self, part: np.ndarray, lengths: list[int]) -> np.ndarray:
        parts = self.gather_values(part.copy())
        assert [len(p) for p in parts] == lengths
        return np.concatenate(parts)

    def broadcast(self, array: np.ndarray, root: int) -> None:
        array[...] = self.gather_values(array.copy())[root]


@pytest.fixture
def on_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Any]]]:
    """Calls `work(rank)` on every one of `size` ranks; results, or what was raised, by rank."""

    def run(size: int, work: Callable[[int], Any], raises: bool = False) -> list[Any]:
        transport = Threads(size)
        monkeypatch.setattr(group, "_current", transport)

        def one(rank: int) -> Any:
            transport.own.rank = rank
            try:
                return work(rank)
            except Exception as error:
                if not raises:
                    transport.meeting.abort()
                    raise
                return error

        with ThreadPoolExecutor(size) as pool:
            futures = [pool.submit(one, rank) for rank in range(size)]
            errors = [e for f in futures if (e := f.exception()) is not None]
            first = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)]
            for error in first or errors:
                raise error
            return [f.result() for f in futures]

    yield run
