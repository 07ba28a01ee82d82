"""Packages that Rabbet can do without: the only place where an import waits until it is needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from rabbet.base.errors import MissingExtra


def require(module: str, extra: str) -> ModuleType:
    """Import an optional third-party module, or say how to install it.

    Args:
        module: dotted name, for instance ``"matplotlib.pyplot"``.
        extra: the extra of Rabbet's that brings it, for instance ``"plot"``.

    Raises:
        MissingExtra: the package is not installed. One that is installed and fails to import
            raises its own error: reinstalling would not help.

    Example:
        >>> require("json", "plot").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtra(
            f'{package} is not installed; it comes with: pip install "rabbet[{extra}]" '
            f'(in a clone: pip install ".[{extra}]")'
        ) from error
