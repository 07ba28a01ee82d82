"""Modules in another mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rabbet.nn.module import Module


@contextmanager
def modes_kept(model: Module) -> Iterator[None]:
    """Every part of `model` gets its own `training` flag back at the end."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
