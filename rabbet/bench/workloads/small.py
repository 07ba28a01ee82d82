"""What an op costs beside its arithmetic: tiny tensors; and what memory allows: large ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rabbet.bench.workload import Arrays, Workload

CHAIN_FLOPS = 10  # ops of chain10, one operation an element each


@dataclass(frozen=True)
class Tiny:
    """Ops on a few floats. `what`: "add" is x + x, "chain" the ten ops of chain10; every result
    is computed before the call ends. `gradients`: x requires them; `backward`: down to x."""

    what: Literal["add", "chain"]
    gradients: bool = False
    backward: bool = False
    jit: bool = False
    elements: int = 8

    @property
    def kind(self) -> str:
        return "tiny_jit" if self.jit else "tiny"

    @property
    def flops(self) -> int:
        return self.elements * (CHAIN_FLOPS if self.what == "chain" else 1)

    @property
    def read_bytes(self) -> int:
        return 4 * self.elements

    @property
    def written_bytes(self) -> int:
        return 4 * self.elements

    def inputs(self) -> Arrays:
        """x (elements,)."""
        return {"x": np.random.default_rng(0).standard_normal(self.elements, np.float32)}


@dataclass(frozen=True)
class TinyAdds:
    """x_i + x_i for a list of tensors: the cost of one op among others, all results kept."""

    count: int = 100
    elements: int = 8
    gradients: bool = False
    kind = "tiny_adds"

    @property
    def flops(self) -> int:
        return self.count * self.elements

    @property
    def read_bytes(self) -> int:
        return 4 * self.count * self.elements

    @property
    def written_bytes(self) -> int:
        return 4 * self.count * self.elements

    def inputs(self) -> Arrays:
        """x (count, elements)."""
        shape = (self.count, self.elements)
        return {"x": np.random.default_rng(0).standard_normal(shape, np.float32)}


@dataclass(frozen=True)
class Stream:
    """A pass over large memory. `what`: "chain" (one array), "softmax" and "layer_norm" along the
    rows of a matrix, "sum0" and "sum1" over an axis."""

    what: Literal["chain", "softmax", "layer_norm", "sum0", "sum1"]
    shape: tuple[int, ...]
    kind = "stream"

    @property
    def elements(self) -> int:
        """Of the input."""
        return int(np.prod(self.shape))

    @property
    def flops(self) -> int:
        each = {"chain": CHAIN_FLOPS, "softmax": 4, "layer_norm": 7, "sum0": 1, "sum1": 1}
        return each[self.what] * self.elements

    @property
    def read_bytes(self) -> int:
        return 4 * self.elements

    @property
    def written_bytes(self) -> int:
        if self.what.startswith("sum"):
            return 4 * self.shape[1 if self.what == "sum0" else 0]
        return 4 * self.elements

    def inputs(self) -> Arrays:
        """x, and weight and bias of the last axis."""
        rng = np.random.default_rng(0)
        width = self.shape[-1]
        return {
            "x": rng.standard_normal(self.shape, np.float32),
            "weight": np.ones(width, np.float32),
            "bias": np.zeros(width, np.float32),
        }


def _tiny(name: str, about: str, **settings: bool) -> Workload:
    what: Literal["add", "chain"] = "add" if name.startswith("tiny_add") else "chain"
    return Workload(name, "us", Tiny(what, **settings), "calls", about)


def _stream(name: str, unit: str, problem: Stream, about: str, **goals: float) -> Workload:
    return Workload(name, unit, problem, "bytes", about, **goals)  # type: ignore[arg-type]


WORKLOADS = [
    _tiny("tiny_add", "x + x on 8 floats, each result computed"),
    _tiny("tiny_add_grad", "the same, x requires gradients", gradients=True),
    Workload(
        "tiny_adds", "us", TinyAdds(), "calls", "x + x on 8 floats, one of 100 results", items=100
    ),
    Workload(
        "tiny_adds_grad",
        "us",
        TinyAdds(gradients=True),
        "calls",
        "the same, x requires gradients",
        items=100,
    ),
    _tiny("chain10", "ten ops on 8 floats"),
    _tiny("chain10_grad", "the same, x requires gradients", gradients=True),
    _tiny("chain10_backward", "the same and down to x", gradients=True, backward=True),
    _tiny("chain10_jit", "ten ops on 8 floats, compiled", jit=True),
    _tiny(
        "chain10_jit_backward",
        "the same and down to x, compiled",
        gradients=True,
        backward=True,
        jit=True,
    ),
    _stream("chain10_1m", "ms", Stream("chain", (1_000_000,)), "ten ops on 1M floats", share=0.9),
    _stream("softmax", "GB/s", Stream("softmax", (4096, 1024)), "softmax of 4096 x 1024", goal=1.3),
    _stream(
        "layer_norm",
        "GB/s",
        Stream("layer_norm", (4096, 1024)),
        "layer norm of 4096 x 1024",
        goal=1.3,
    ),
    _stream("sum_axis0", "GB/s", Stream("sum0", (4096, 4096)), "sum over axis 0", share=0.9),
    _stream("sum_axis1", "GB/s", Stream("sum1", (4096, 4096)), "sum over axis 1", share=0.9),
]
