"""A training step of a multilayer perceptron: zero gradients, forward, backward, Adam."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rabbet.bench.workload import Arrays, Weight, Workload, draw, elements, linear


@dataclass(frozen=True)
class Mlp:
    """Linear layers with biases and ReLU between them, cross-entropy, Adam with rate 1e-3."""

    batch: int
    widths: tuple[int, ...] = (784, 256, 128, 10)
    rate: float = 1e-3
    kind = "mlp_train"

    @property
    def flops(self) -> int:
        products = [2 * self.batch * a * b for a, b in pairwise(self.widths)]
        return 3 * sum(products) - products[0]  # the input needs no gradient

    @property
    def read_bytes(self) -> int:
        # Parameters and two moments of Adam; the input.
        return 4 * (3 * elements(self.weights()) + self.batch * self.widths[0])

    @property
    def written_bytes(self) -> int:
        return 4 * 3 * elements(self.weights())

    def weights(self) -> list[Weight]:
        """Names as in a Sequential with an activation after each linear layer."""
        found = [linear(str(2 * i), *pair) for i, pair in enumerate(pairwise(self.widths))]
        return [w for layer in found for w in layer]

    def start(self) -> Arrays:
        """What the parameters start with."""
        return draw(self.weights())

    def inputs(self) -> Arrays:
        """x (batch, features) and int64 y (batch,)."""
        rng = np.random.default_rng(1)
        return {
            "x": rng.standard_normal((self.batch, self.widths[0]), np.float32),
            "y": rng.integers(0, self.widths[-1], self.batch),
        }


WORKLOADS = [
    Workload(
        f"mlp_train_b{batch}",
        "ms",
        Mlp(batch),
        "flops",
        f"MLP 784-256-128-10, batch {batch}, Adam",
        1.3,
    )
    for batch in (64, 512)
]
