"""The server as an ASGI application: routes, bodies, errors. It needs no framework.

Every way a request can be wrong ends in a RequestError with its status; the rest is ours (500).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from rabbet.serve.batching import Batcher, Limits
from rabbet.serve.errors import RequestError, malformed
from rabbet.serve.page import write_page
from rabbet.serve.predict import parse_predict, write_predict
from rabbet.serve.protocol import LENGTH_HEADER, Answer, json_answer, parse_infer, write_infer
from rabbet.serve.repository import Repository

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PARSE_APART_BYTES = 1 << 18  # larger bodies are read in a thread, so that others are answered
log = logging.getLogger("rabbet.serve")


@dataclass(frozen=True)
class Request:
    """A request with its body; `parts` are the names in its path."""

    method: str
    parts: dict[str, str | None]
    headers: dict[str, str]
    body: bytes


class ClientGone(Exception):
    """The client went away while it was sending."""


Handler = Callable[["App", Request], Awaitable[Answer]]
Route = tuple[re.Pattern[str], dict[str, Handler]]


class App:
    """The ASGI application over a repository of models.

    Example:
        >>> from rabbet.serve import Limits, load_repository
        >>> app = App(load_repository(Path("models"), rb.load_program, Limits()), version="0.1.0")
    """

    def __init__(self, repository: Repository, version: str, limits: Limits | None = None) -> None:
        self.repository = repository
        self.version = version
        self.limits = limits or Limits()
        self.is_closing = False
        self._pending_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            raise NotImplementedError(f"the protocol {scope['type']} is not served")

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.is_closing = True
                await self.repository.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        taken = [0]  # bytes of this request that count as pending
        try:
            answer = await self._handle(scope, receive, taken)
        except ClientGone:
            return
        except RequestError as error:
            answer = json_answer({"error": error.reason}, error.status, error.headers)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            answer = json_answer({"error": "internal error; the server's log says more"}, 500)
        finally:
            self._pending_bytes -= taken[0]
        await _send_answer(send, answer, is_head=scope["method"] == "HEAD")

    async def _handle(self, scope: Message, receive: Receive, taken: list[int]) -> Answer:
        handler, parts = _find_route(scope["method"], scope["path"])
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        body = b""
        if scope["method"] == "POST":
            body = await self._read_body(headers, receive, taken)
        return await handler(self, Request(scope["method"], parts, headers, body))

    async def _read_body(
        self, headers: dict[str, str], receive: Receive, taken: list[int]
    ) -> bytes:
        if headers.get("content-encoding", "identity") != "identity":
            raise RequestError(415, f"content-encoding {headers['content-encoding']} is not read")
        declared = headers.get("content-length", "")
        if declared.isdigit() and len(declared) < 20:
            self._check_size(int(declared))
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self.limits.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    taken[0] += len(chunk)
                    self._pending_bytes += len(chunk)
                    self._check_size(taken[0])
                    if self._pending_bytes > self.limits.max_pending_bytes:
                        raise RequestError(503, "too much is waiting", {"Retry-After": "1"})
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise RequestError(408, "the request took too long to arrive") from None

    def _check_size(self, size: int) -> None:
        if size > self.limits.max_body_bytes:
            raise RequestError(
                413, f"the request is larger than the {self.limits.max_body_bytes} bytes allowed"
            )

    # ---- the server ----------------------------------------------------------------------------

    async def show_server(self, request: Request) -> Answer:
        """Name, version and extensions of the protocol."""
        return json_answer(
            {"name": "rabbet", "version": self.version, "extensions": ["binary_tensor_data"]}
        )

    async def show_live(self, request: Request) -> Answer:
        """The process answers."""
        return json_answer({"live": True})

    async def show_ready(self, request: Request) -> Answer:
        """All models were loaded, and requests are taken."""
        ready = self.repository.is_ready and not self.is_closing
        return json_answer({"ready": ready}, 200 if ready else 503)

    async def show_page(self, request: Request) -> Answer:
        """The status page."""
        body = write_page(self.repository, self.version).encode()
        return Answer(200, body, "text/html; charset=utf-8")

    # ---- models --------------------------------------------------------------------------------

    def _find(self, request: Request) -> Batcher:
        return self.repository.batcher(request.parts["model"] or "", request.parts.get("version"))

    async def show_model(self, request: Request) -> Answer:
        """Versions, inputs and outputs."""
        model = self._find(request).model
        return json_answer(model.describe(self.repository.versions(model.name)))

    async def show_model_ready(self, request: Request) -> Answer:
        """Whether this version was loaded."""
        entry = self.repository.find(request.parts["model"] or "", request.parts.get("version"))
        ready = entry.batcher is not None and not self.is_closing
        value: dict[str, Any] = {"name": entry.name, "ready": ready}
        return (
            json_answer(value, 200)
            if ready
            else json_answer({**value, "error": entry.reason or "the server is shutting down"}, 503)
        )

    async def show_statistics(self, request: Request) -> Answer:
        """Counters since the server started."""
        batcher = self._find(request)
        value = {"name": batcher.model.name, "version": str(batcher.model.version)}
        return json_answer({**value, **batcher.statistics.describe(), "joins": batcher.joins})

    async def infer(self, request: Request) -> Answer:
        """Results in the form of protocol v2."""
        batcher = self._find(request)
        model, length = batcher.model, request.headers.get(LENGTH_HEADER)
        asked = await _apart(request.body, parse_infer, model, request.body, length)
        arrays = model.collect(asked.arrays, self.limits.max_body_bytes)
        results = await batcher.submit(arrays)
        return write_infer(model, asked, results)

    async def predict(self, request: Request) -> Answer:
        """Results in the form of protocol v1."""
        batcher = self._find(request)
        given, by_row = await _apart(request.body, parse_predict, batcher.model, request.body)
        arrays = batcher.model.collect(given, self.limits.max_body_bytes)
        results = await batcher.submit(arrays)
        return write_predict(batcher.model, results, by_row)

    async def show_versions(self, request: Request) -> Answer:
        """Protocol v1's status of a model."""
        name = request.parts["model"] or ""
        entries = [self.repository.find(name, str(v)) for v in self.repository.versions(name)]
        status = [
            {
                "version": str(entry.version),
                "state": "AVAILABLE" if entry.batcher is not None else "END",
                "status": {
                    "error_code": "OK" if entry.batcher is not None else "UNKNOWN",
                    "error_message": entry.reason,
                },
            }
            for entry in entries
        ]
        return json_answer({"model_version_status": status})


def _routes() -> list[Route]:
    v2 = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
    v1 = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[^/:]+))?"
    table: list[tuple[str, str, Handler]] = [
        ("GET", r"/", App.show_page),
        ("GET", r"/v2/?", App.show_server),
        ("GET", r"/v2/health/live", App.show_live),
        ("GET", r"/v2/health/ready", App.show_ready),
        ("GET", v2, App.show_model),
        ("GET", v2 + "/ready", App.show_model_ready),
        ("GET", v2 + "/stats", App.show_statistics),
        ("POST", v2 + "/infer", App.infer),
        ("GET", v1, App.show_versions),
        ("POST", v1 + ":predict", App.predict),
    ]
    return [(re.compile(pattern), {method: handler}) for method, pattern, handler in table]


_ROUTES = _routes()


def _find_route(method: str, path: str) -> tuple[Handler, dict[str, str | None]]:
    for pattern, handlers in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        handler = handlers.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join("GET, HEAD" if name == "GET" else name for name in handlers)
            raise RequestError(
                405, f"{method} is not for {path}; use {allowed}", {"Allow": allowed}
            )
        return handler, match.groupdict()
    raise RequestError(404, f"there is nothing at {path}")


async def _apart(body: bytes, parse: Callable[..., Any], *args: Any) -> Any:
    """Parse at once, or a large body in a thread."""
    try:
        if len(body) < PARSE_APART_BYTES:
            return parse(*args)
        return await asyncio.to_thread(parse, *args)
    except MemoryError:
        raise malformed("the request does not fit into memory") from None


async def _send_answer(send: Send, answer: Answer, is_head: bool) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        *((key.lower().encode(), value.encode()) for key, value in answer.headers),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else answer.body})
