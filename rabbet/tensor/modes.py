"""Gradient modes of this thread's recording."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

from rabbet.recorder import GradMode, current


class _GradMode(GradMode):
    """A context manager and decorator that sets whether ops record for gradients."""

    enabled: ClassVar[bool]

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        super().__init__(self.enabled)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        mode = type(self)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with mode():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Within it, ops do not record for gradients: `with rb.no_grad(): ...`, or `@rb.no_grad`.

    >>> with rb.no_grad():
    ...     rb.is_grad_enabled()
    False
    """

    enabled = False


class enable_grad(_GradMode):
    """Within it, ops record for gradients again.

    >>> with rb.no_grad(), rb.enable_grad():
    ...     rb.is_grad_enabled()
    True
    """

    enabled = True


class set_grad_enabled:
    """Whether ops record for gradients, from now on; in a `with`, until its end.

    >>> with rb.set_grad_enabled(False):
    ...     rb.is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        self._mode = enable_grad() if mode else no_grad()
        self._mode.__enter__()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._mode.__exit__(*error)


def is_grad_enabled() -> bool:
    """Whether ops record for gradients now.

    >>> rb.is_grad_enabled()
    True
    """
    return current().grad_enabled
