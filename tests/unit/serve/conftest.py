"""A program to serve that is not compiled, and a client that needs no network."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rabbet.base import dtypes
from rabbet.base.errors import IndexRangeError
from rabbet.serve import App, Batcher, Limits, Model, Repository
from rabbet.serve.model import TensorSpec
from rabbet.serve.repository import Entry


@dataclass
class Table:
    """Looks rows up in a table and scales them: y = table[index] * scale, z = index + 1."""

    inputs: tuple[TensorSpec, ...] = (
        TensorSpec("index", dtypes.int64, ("batch",)),
        TensorSpec("scale", dtypes.float32, ("batch", 3)),
    )
    outputs: tuple[TensorSpec, ...] = (
        TensorSpec("y", dtypes.float32, ("batch", 3)),
        TensorSpec("z", dtypes.int64, ("batch",)),
    )
    batches: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self.table = np.arange(12, dtype=np.float32).reshape(4, 3) / 7

    def run(self, values: Any) -> list[np.ndarray]:
        index, scale = values
        self.gate.wait(10)
        self.batches.append(len(index))
        if index.size and not 0 <= index.min() <= index.max() < 4:
            raise IndexRangeError(f"index {index.max()} is out of range")
        return [self.table[index] * scale, index + 1]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: App,
    method: str,
    path: str,
    body: Any = b"",
    headers: dict[str, str] | None = None,
    chunks: int = 1,
) -> Reply:
    """One request to the application, the body in one or more pieces."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-length": str(len(data)), **(headers or {})}
    step = max(1, -(-len(data) // chunks))
    pieces = [data[i : i + step] for i in range(0, len(data), step)] or [b""]
    sent: list[Any] = []

    async def receive() -> Any:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(key.lower().encode(), value.encode()) for key, value in given.items()]
    await app({"type": "http", "method": method, "path": path, "headers": pairs}, receive, send)
    names = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return Reply(sent[0]["status"], names, sent[1]["body"])


Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def serve(table: Table) -> Callable[..., Any]:
    """Runs `scenario(app, batcher)` on an event loop, over one model called `table`, version 2."""

    def run(scenario: Callable[[App, Batcher], Awaitable[Any]], **limits: Any) -> Any:
        async def whole() -> Any:
            settings = Limits(**limits)
            batcher = Batcher(Model("table", 2, table), settings, joins=True)
            broken = Entry("table", 1, None, "the file is damaged")
            repository = Repository({"table": {1: broken, 2: Entry("table", 2, batcher)}})
            try:
                return await scenario(App(repository, "0.0", settings), batcher)
            finally:
                table.gate.set()
                await repository.close()

        return asyncio.run(whole())

    return run


def infer_body(index: list[int], scale: list[list[float]]) -> dict[str, Any]:
    n = len(index)
    return {
        "inputs": [
            {"name": "index", "shape": [n], "datatype": "INT64", "data": index},
            {"name": "scale", "shape": [n, 3], "datatype": "FP32", "data": scale},
        ]
    }


@pytest.fixture
def client() -> Ask:
    return ask


@pytest.fixture
def body_of() -> Callable[..., dict[str, Any]]:
    return infer_body
