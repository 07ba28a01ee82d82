"""Compiling in another process while this one goes on: programs appear in the disk cache.

One worker (`python -m rabbet.runtime.worker`) is started when it is first needed, at low priority,
and ends with this process or after a while without work. What fails there, for whatever reason, is
compiled here when it is asked for again, so errors look as they always do.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import rabbet.base
from rabbet.base.config import config

QUEUE = 8  # requests that wait: writing down more than the worker makes would cost this process
SEEN = 4096


class Request(NamedTuple):
    """What the worker is told beside the graph; with other compilers than ours it does nothing."""

    key: str
    fuse: bool
    made_for: str
    folder: str


def send(pipe: IO[bytes], message: Any) -> None:
    """Write one message."""
    data = pickle.dumps(message)
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Read one message; EOFError at the end of the pipe."""
    head = pipe.read(8)
    data = pipe.read(int.from_bytes(head, "little"))
    if len(head) < 8 or len(data) < int.from_bytes(head, "little"):
        raise EOFError
    return pickle.loads(data)


class Coming(NamedTuple):
    """A program that another process is asked for, or will be when it has less to do."""

    key: str

    @property
    def is_awaited(self) -> bool:
        """True until it is there, must be made here or may be asked for; it becomes the next."""
        return background.has(self.key) or background.is_full and not background.is_over(self.key)


class Background:
    """Requests by key -> answers.

    A key is in `waiting`, or the one that is `at_work`, or in `over`, or nowhere.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: OrderedDict[str, tuple[Request, bytes]] = OrderedDict()
        self.at_work: str | None = None
        self.over: OrderedDict[str, None] = OrderedDict()
        self.process: subprocess.Popen[bytes] | None = None
        self.thread: threading.Thread | None = None
        self.closed = not _is_python(sys.executable)

    def is_over(self, key: str) -> bool:
        """True where nothing more will come of a key: it is made, or must be made here."""
        return self.closed or key in self.over

    def has(self, key: str) -> bool:
        """True where a key waits or is at work; it becomes the next one."""
        with self.changed:
            if key in self.waiting:
                self.waiting.move_to_end(key)
                return True
            return key == self.at_work

    @property
    def is_full(self) -> bool:
        """True while so much waits that nothing more should be asked for."""
        return len(self.waiting) >= QUEUE

    def ask(self, key: str, request: Request, graph: bytes) -> None:
        """Have a program made."""
        with self.changed:
            self.waiting[key] = request, graph
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._serve, name="rabbet", daemon=True)
                self.thread.start()
            self.changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is to be made any more; False where that took too long."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.waiting and not self.at_work, timeout)

    def stop(self) -> None:
        """End the worker; what it had to do is done here when it is needed."""
        with self.changed:
            self.closed = True
            self.waiting.clear()
            self.changed.notify_all()
        self._end()

    def leave(self) -> None:
        """This process ends: the worker finishes what it is at, for the next one, and ends too."""
        if self.process is not None:
            self.process.returncode = 0  # nobody waits for it

    def forget(self) -> None:
        """In a forked child: the worker is the parent's, and sees its end by ours."""
        process = self.process
        Background.__init__(self)
        if process is not None:
            process.returncode = 0  # nobody here waits for it
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None, "both are pipes"
                os.close(pipe.fileno())
            _inherited.append(process)

    def _serve(self) -> None:
        """The thread: one request after the other, the newest first."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed)
                if self.closed:
                    return
                key, message = self.waiting.popitem()
                self.at_work = key
            try:
                self._make(message)
            except (OSError, ValueError, EOFError, pickle.UnpicklingError):  # it has ended
                self._end()
            with self.changed:
                self.at_work = None
                self.over[key] = None
                while len(self.over) > SEEN:
                    self.over.popitem(last=False)
                self.changed.notify_all()

    def _make(self, message: tuple[Request, bytes]) -> None:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        send(process.stdin, message)
        receive(process.stdout)

    def _end(self) -> None:
        """End the worker, whatever it does."""
        with self.changed:
            process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None, "both are pipes"
                with contextlib.suppress(OSError):
                    pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        """The worker, started anew if there is none or it has ended."""
        process = self.process
        if process is not None and process.poll() is None:
            return process
        root = str(Path(rabbet.base.__file__).parents[2])
        others = os.environ.get("PYTHONPATH")
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rabbet.runtime.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Control-C is meant for this process
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, others)))},
        )
        with self.changed:
            self.process = process
            closed = self.closed
        if closed:
            process.kill()
        return process


def _is_python(executable: str | None) -> bool:
    """False where Python lives inside of another program, which must not be started again."""
    name = Path(executable or "").name.lower()
    return name.startswith(("python", "pypy")) and not hasattr(sys, "frozen")


_inherited: list[subprocess.Popen[bytes]] = []
background = Background()
atexit.register(background.leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=background.forget)


def is_wanted() -> bool:
    """True where programs may be made in the background."""
    return config.compile == "background" and not background.closed
