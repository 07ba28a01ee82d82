"""Transport: what collectives need of whatever connects the ranks; the one for a single rank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class Transport(ABC):
    """Moves bytes between `size` ranks, of which this is number `rank`; it computes nothing.

    Every method is called by all ranks, in the same order. Arrays are contiguous and have one axis.
    """

    rank: int
    size: int

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all ranks are here."""

    @abstractmethod
    def gather_values(self, value: Any) -> list[Any]:
        """Small Python values of all ranks, in the order of ranks."""

    @abstractmethod
    def exchange(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        """Give part i to rank i; get what each rank has for this one, in the order of ranks.

        Part i has the same length and dtype on all ranks.
        """

    @abstractmethod
    def gather_parts(self, part: np.ndarray, lengths: list[int]) -> np.ndarray:
        """The parts of all ranks, one after the other; `lengths` of them, in elements."""

    @abstractmethod
    def broadcast(self, array: np.ndarray, root: int) -> None:
        """Overwrite `array` with the one of rank `root`."""


class SingleTransport(Transport):
    """A process on its own."""

    rank = 0
    size = 1

    def barrier(self) -> None:
        """Nobody to wait for."""

    def gather_values(self, value: Any) -> list[Any]:
        return [value]

    def exchange(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        return list(parts)

    def gather_parts(self, part: np.ndarray, lengths: list[int]) -> np.ndarray:
        return part

    def broadcast(self, array: np.ndarray, root: int) -> None:
        """It is the root."""
