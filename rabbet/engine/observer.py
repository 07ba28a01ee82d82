"""Observer: who runs this thread's segments in the place of their programs, to see more of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.engine.flush import flush
from rabbet.recorder import Segment, current

Runner = Callable[[Segment, tuple[tuple[int, int], ...]], None]


class Observer:
    """A context manager: what waits is computed before it begins and before it ends."""

    def __init__(self) -> None:
        self._before: list[Any] = []

    def observe(self, runner: Runner | None) -> None:
        """From now on `runner` runs segments; None: nobody does, whoever was asked before."""
        flush()
        tape = current()
        self._before.append(tape.runner)
        tape.runner = runner

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                flush()
        finally:
            current().runner = self._before.pop()
