"""Failures of a run that the layers above turn into errors with a line of the user's code."""

from __future__ import annotations

from rabbet.base.errors import RabbetError
from rabbet.runtime._runtime import IndexFailure as NativeIndexFailure

__all__ = ["IndexFailure", "NativeIndexFailure"]


class IndexFailure(RabbetError, IndexError):
    """A kernel met an index out of range: which graph call (`position`), element and value."""

    def __init__(self, position: int, element: int, value: int) -> None:
        super().__init__(f"index {value} out of range at element {element}")
        self.position = position
        self.element = element
        self.value = value
