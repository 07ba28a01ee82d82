"""How many threads a run may use."""

from __future__ import annotations

from rabbet.runtime._runtime import num_threads

__all__ = ["num_threads"]
