"""Arguments of layers that work on images."""

from __future__ import annotations

from typing import Any


def per_axis(value: Any, rank: int) -> Any:
    """An int as one number per axis; text and tuples as they are."""
    if isinstance(value, str):
        return value
    return (value,) * rank if isinstance(value, int) else tuple(value)
