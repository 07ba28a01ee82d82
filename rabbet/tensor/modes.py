"""Modes of this thread's recording: gradients, and the dtype that ops compute in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from rabbet.base import dtypes
from rabbet.base.errors import DTypeError
from rabbet.recorder import Autocast, GradMode, current

F = TypeVar("F", bound=Callable[..., Any])


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


class autocast(Autocast):
    """Within it, matrix products, convolutions, attention and recurrent layers compute in bfloat16
    or float16; norms, softmax, losses, sums and means in float32: `with rb.autocast(): ...`, or
    `@rb.autocast(rb.float16)`.

    Their operands are cast as they are recorded, so parameters and gradients keep their dtype;
    float64, integers and all other ops are left as they are. `backward()` needs no autocast: each
    gradient has the dtype of its tensor. `enabled=False` is a block without. Small gradients
    vanish in float16: see `rb.GradScaler`. DTypeError for a dtype that is neither of the two.

    >>> x, w = rb.ones((2, 3)), rb.ones((4, 3))
    >>> with rb.autocast(rb.bfloat16):
    ...     y = rb.linear(x, w)
    ...     y.dtype.name, rb.softmax(y, axis=1).dtype.name
    ('bfloat16', 'float32')
    """

    def __init__(self, dtype: Any = dtypes.bfloat16, enabled: bool = True) -> None:
        if dtype in ("cpu", "cuda"):
            raise DTypeError(f"autocast: {dtype!r} is a device; write rb.autocast(rb.bfloat16)")
        self.dtype, self.enabled = dtypes.dtype_of(dtype), bool(enabled)
        if self.dtype not in (dtypes.bfloat16, dtypes.float16):
            raise DTypeError(f"autocast: {self.dtype.name} is neither bfloat16 nor float16")
        super().__init__(self.dtype if self.enabled else None)

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with autocast(self.dtype, self.enabled):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def is_autocast_enabled() -> bool:
    """Whether `rb.autocast` holds now.

    >>> rb.is_autocast_enabled()
    False
    """
    return current().narrow is not None
