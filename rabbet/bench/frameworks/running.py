"""What a builder gives back: a computation that is ready to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Running:
    """`run(n)` computes n times, one after another, and returns the last result when all are
    done; `numbers` turns that result into an array, to compare between frameworks."""

    run: Callable[[int], Any]
    numbers: Callable[[Any], np.ndarray] = np.asarray


# kind of workload -> name of the way -> what builds it.
Builder = Callable[[Any], Running]
Builders = dict[str, dict[str, Builder]]


def repeat(call: Callable[[], Any], numbers: Callable[[Any], np.ndarray] = np.asarray) -> Running:
    """One call of a function, which waits for its result."""

    def run(n: int) -> Any:
        result = None
        for _ in range(n):
            result = call()
        return result

    return Running(run, numbers)


def digest(values: np.ndarray) -> list[float]:
    """A few numbers that change if a result does: mean, mean size, the first three."""
    flat = np.asarray(values, np.float64).reshape(-1)
    return [float(flat.mean()), float(np.abs(flat).mean()), *map(float, flat[:3])]
