"""Running means that stay on the tape until somebody looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.tensor import Tensor, asarray, no_grad


class RunningMeans(Mapping[str, float]):
    """Means over the samples so far; adding reads no value, indexing reads one.

    Example:
        >>> means = RunningMeans(["loss"])
        >>> means.add({"loss": rb.tensor(2.0)}, 4)
        >>> means["loss"]
        2.0
    """

    def __init__(self, names: list[str]) -> None:
        # float64: an epoch may have millions of samples.
        self._sums: dict[str, Tensor] = {name: asarray(np.float64(0)) for name in names}
        self.samples = 0

    def add(self, values: Mapping[str, Tensor], samples: int) -> None:
        """Take in means over a batch of so many samples."""
        self.record(values, samples)
        self.samples += samples

    def record(self, values: Mapping[str, Tensor], samples: int) -> None:
        """The tensor part of `add`, which jit may replay; counting the samples is the caller's."""
        with no_grad():
            for name, value in values.items():
                if value.shape != ():
                    raise ShapeError(f"{name}: a metric must be 0-d, its shape is {value.shape}")
                self._sums[name].add_(value.detach().astype("float64") * float(samples))

    def reset(self) -> None:
        """Start again from nothing."""
        self.samples = 0
        with no_grad():
            for total in self._sums.values():
                total.copy_(0.0)

    def __getitem__(self, name: str) -> float:
        return self._sums[name].item() / max(self.samples, 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)


def show_logs(logs: Mapping[str, float]) -> str:
    """Names and numbers in a line: `loss 0.1234  accuracy 0.9876`."""
    return "  ".join(f"{name} {format_number(value)}" for name, value in logs.items())


def format_number(value: float) -> str:
    """Four digits after the point, or an exponent where these would all be zeros."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"
