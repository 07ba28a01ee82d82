"""What a workload is: a name, what one call of it computes, and how its time is judged.

Records and their numbers only: this module, and `rabbet.bench.workloads`, import no framework, so
that every worker process can read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

Judged = Literal["flops", "bytes", "calls"]

# Units of figures: what one of them counts, and whether more of it is better.
UNITS: dict[str, tuple[str, float, bool]] = {
    "GFLOP/s": ("flops", 1e-9, True),
    "GB/s": ("bytes", 1e-9, True),
    "tokens/s": ("items", 1.0, True),
    "ms": ("seconds", 1e3, False),
    "us": ("seconds", 1e6, False),
}


class Problem(Protocol):
    """The sizes of a computation: a frozen dataclass. `kind` picks each framework's builder."""

    @property
    def kind(self) -> str: ...

    @property
    def flops(self) -> int:
        """Multiplications and additions of one call, of the direct algorithm."""

    @property
    def read_bytes(self) -> int:
        """What one call must read at least."""

    @property
    def written_bytes(self) -> int:
        """What one call must write at least."""


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    `judged` says which limit of the machine its time is compared with: arithmetic, memory, or
    none but the cost of a call. `goal` is how many times faster than the best peer it is meant to
    be, `share` which part of the limit it is meant to reach.
    """

    name: str
    unit: str
    problem: Any  # a Problem
    judged: Judged
    about: str
    goal: float | None = None
    share: float | None = None
    items: int = 1  # calls' worth of one call: tokens, ops

    def figure(self, seconds: float) -> float:
        """The figure in this workload's unit, for the time of one call."""
        counted, scale, is_rate = UNITS[self.unit]
        if not is_rate:
            return seconds / self.items * scale
        amount = {"flops": self.problem.flops, "bytes": self.bytes, "items": self.items}[counted]
        return float(amount) / seconds * scale

    @property
    def bytes(self) -> int:
        """What one call moves at least."""
        return int(self.problem.read_bytes + self.problem.written_bytes)


Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer of a network: its shape, and what it starts with.

    `start`: "normal" (over the square root of the numbers that are summed), "one" or "zero".
    """

    name: str
    shape: tuple[int, ...]
    start: str = "normal"
    trained: bool = True


def draw(weights: list[Weight], seed: int = 0) -> Arrays:
    """Numbers for the weights, the same in every framework: float32 arrays by name."""
    rng = np.random.default_rng(seed)
    found: Arrays = {}
    for w in weights:
        if w.start == "normal":
            fan = int(np.prod(w.shape[1:])) if len(w.shape) > 1 else w.shape[0]
            found[w.name] = rng.standard_normal(w.shape, np.float32) * np.float32(fan**-0.5)
        else:
            found[w.name] = np.full(w.shape, 1.0 if w.start == "one" else 0.0, np.float32)
    return found


def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> list[Weight]:
    """Weight (outputs, inputs) and bias of a linear layer."""
    found = [Weight(f"{name}.weight", (outputs, inputs))]
    return found + ([Weight(f"{name}.bias", (outputs,), "zero")] if bias else [])


def norm(name: str, width: int) -> list[Weight]:
    """Scale and shift of a layer norm."""
    return [Weight(f"{name}.weight", (width,), "one"), Weight(f"{name}.bias", (width,), "zero")]


def batch_norm(name: str, channels: int) -> list[Weight]:
    """Scale, shift and running statistics of a batch norm."""
    return [
        *norm(name, channels),
        Weight(f"{name}.running_mean", (channels,), "zero", trained=False),
        Weight(f"{name}.running_var", (channels,), "one", trained=False),
    ]


def elements(weights: list[Weight], trained: bool | None = None) -> int:
    """How many numbers the weights hold together."""
    chosen = [w for w in weights if trained is None or w.trained == trained]
    return sum(int(np.prod(w.shape)) for w in chosen)
