"""Running the application: a socket, an HTTP server, and an end that loses no request."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rabbet.base.errors import RabbetError
from rabbet.base.optional import require
from rabbet.serve.app import App
from rabbet.serve.batching import Limits
from rabbet.serve.model import Load
from rabbet.serve.repository import load_repository

_BACKLOG = 1024


def main(
    directory: str | Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    load: Load,
    version: str = "",
    limits: Limits | None = None,
    shutdown_s: int = 30,
    report: Callable[[str], None] | None = None,
) -> None:
    """Serve every model below `directory` (DIR/<model>/<version>/<name>.rbt) until told to stop.

    Args:
        directory: the folder of models.
        host, port: where to listen; port 0 takes a free one.
        load: makes a program of a file: `rb.load_program`.
        version: of Rabbet, for the metadata.
        limits: of batches, queues and bodies.
        shutdown_s: at Ctrl-C or SIGTERM, how long requests that are being answered may take.
        report: gets the lines that say what is served, and where; printed unless given.

    Raises:
        MissingExtra: uvicorn is not installed.
        RabbetError: no models, or the address cannot be listened on.
    """
    uvicorn = require("uvicorn", "serve")
    limits, report = limits or Limits(), report or _print
    listening = _listen(host, port)
    try:
        repository = load_repository(Path(directory), load, limits)
        app = App(repository, version, limits)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        for entry in repository.entries():
            state = "ready" if entry.batcher is not None else f"not loaded: {entry.reason}"
            report(f"  {entry.name}  version {entry.version}  {state}")
        report(f"  {address}  status page: {address}/")
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=shutdown_s,
        )
        _run(uvicorn.Server(config), listening)
    finally:
        listening.close()


def _print(line: str) -> None:
    print(line, flush=True)  # at once, also where a program reads it


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        why = "it is in use" if getattr(error, "errno", 0) == errno.EADDRINUSE else str(error)
        raise RabbetError(f"cannot listen on {host} port {port}: {why}") from None


def _run(server: Any, listening: socket.socket) -> None:
    """Serve until a signal; the server answers what it has taken before it returns."""
    if threading.current_thread() is not threading.main_thread():
        server.run(sockets=[listening])
        return
    # The server raises the signal again when it has finished; that is not an error here.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
