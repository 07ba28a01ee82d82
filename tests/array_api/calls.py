"""Calls of functions of the array API standard, described without a library.

Arrays are NumPy's, dtypes are names. `perform` makes a call in a library and gives the result or
the error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.array_api.arguments import Draw

Maker = Callable[[Draw], "Call"]


@dataclass(frozen=True)
class DType:
    """A dtype by its name, to be looked up in a library."""

    name: str


@dataclass
class Call:
    """A function of a library by its path, or any function of a library and arguments."""

    function: str | Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        given = [_shown(a) for a in self.args]
        given += [f"{k}={_shown(v)}" for k, v in self.kwargs.items()]
        name = self.function if isinstance(self.function, str) else self.function.__name__
        return f"{name}({', '.join(given)})"


def _shown(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{x.dtype}{list(x.shape)} {np.array2string(x, threshold=24)}"
    return repr(x)


def perform(xp: Any, call: Call) -> Any:
    """The result of the call in library `xp`; an error is a result, too."""

    def there(x: Any) -> Any:
        if isinstance(x, np.ndarray | np.generic):
            return xp.asarray(x, copy=True)
        if isinstance(x, DType):
            return getattr(xp, x.name)
        if isinstance(x, tuple | list):
            return type(x)(there(e) for e in x)
        return x

    args, kwargs = there(call.args), {k: there(v) for k, v in call.kwargs.items()}
    function: Any = call.function
    if isinstance(function, str):
        function = xp
        for part in call.function.split("."):  # type: ignore[union-attr]
            function = getattr(function, part)
    else:
        args = (xp, *args)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _computed(function(*args, **kwargs))
    except (TypeError, ValueError, IndexError, OverflowError, AttributeError, RuntimeError) as e:
        return e


def _computed(x: Any) -> Any:
    """The same once more with NumPy's arrays for the library's: errors may come only now."""
    if isinstance(x, tuple | list):
        return tuple(_computed(e) for e in x)
    return np.asarray(x) if hasattr(x, "__array_namespace__") else x


def applied(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of Python's operators as one of a library."""

    def apply(xp: Any, *args: Any) -> Any:
        found = function(*args)
        return (found, args[0]) if function.__name__[0] == "i" and found is args[0] else found

    apply.__name__ = f"operator.{function.__name__}"
    return apply
