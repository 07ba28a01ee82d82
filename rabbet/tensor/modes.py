"""Gradient modes of this thread's recording."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rabbet.recorder import current


class _GradMode:
    """A context manager and decorator that sets whether ops record for gradients."""

    enabled = True

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        tape = current()
        self._before.append(tape.grad_enabled)
        tape.grad_enabled = self.enabled

    def __exit__(self, *exc: object) -> None:
        current().grad_enabled = self._before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        mode = type(self)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with mode():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):  # noqa: N801  (PyTorch's name)
    """Within it, ops do not record for gradients: `with rb.no_grad(): ...` or `@rb.no_grad()`."""

    enabled = False


class enable_grad(_GradMode):  # noqa: N801
    """Within it, ops record for gradients again."""

    enabled = True


def is_grad_enabled() -> bool:
    """Whether ops record for gradients now."""
    return current().grad_enabled
