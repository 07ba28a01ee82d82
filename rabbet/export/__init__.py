"""Out of Python: program files (`.rbt`), loading them, and native libraries made from them.

`rb.export` is the function. Importing this package by its name makes Python put the package itself
under that name, so the package can be called too.
"""

from __future__ import annotations

import sys
from typing import Any

from rabbet.export.loaded import LoadedProgram, Port, load_program
from rabbet.export.model import export
from rabbet.export.native import build

__all__ = ["LoadedProgram", "Port", "build", "export", "load_program"]


class _Callable(type(sys)):  # type: ignore[misc]  # the type of modules
    """A module that can be called as its function of the same name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return export(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
