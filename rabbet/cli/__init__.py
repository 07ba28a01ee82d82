"""The `rabbet` command."""

from __future__ import annotations

from rabbet.cli.commands import main

__all__ = ["main"]
