"""Failures of a run that the layers above turn into errors with a line of the user's code."""

from __future__ import annotations

from rabbet.base.errors import RabbetError
from rabbet.base.shapes import NEVER_FROM_END
from rabbet.runtime._runtime import IndexFailure as NativeIndexFailure

__all__ = ["IndexFailure", "NativeIndexFailure"]


class IndexFailure(RabbetError, IndexError):
    """A kernel met an index out of range: which graph call (`position`), element and
    value; an index must be at least 0 and less than `extent`. `committed`: inputs were already
    written over.
    """

    position: int

    def __init__(
        self, position: int, element: int, value: int, extent: int, committed: bool = False
    ) -> None:
        super().__init__(f"index {value} out of range of {extent} at element {element}")
        self.position = position
        self.element = element
        self.value = value
        self.extent = extent
        self.committed = committed

    @property
    def said(self) -> str:
        """What every message says: the index as given, where it stands, and what is allowed."""
        given, first = self.value, -self.extent
        if given < 0:
            given -= self.extent  # it was counted from the end
        if abs(given) > NEVER_FROM_END // 2:
            given, first = given - NEVER_FROM_END if given > 0 else given + NEVER_FROM_END, 0
        allowed = f"it must be from {first} to {self.extent - 1}"
        return f"index {given} (element {self.element}) is out of range: {allowed}"
