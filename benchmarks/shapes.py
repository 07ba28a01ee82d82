"""Do products of any shape come as near to their floor as those that everybody measures?

    python benchmarks/shapes.py [--threads 2] [--count 60] [--seconds 0.05] [--seed 0]

Draws shapes (m, n, k from 1 to 3000, evenly in their logarithms; each operand plain or turned) and
compares each with its nearest neighbour (distance of logarithms) among the listed shapes of the
same layout. The floor of a shape is the larger of two times: its arithmetic at the peak of register
multiply-adds, its operands and result moved once. Printed is floor / time for both, and the ratio.
Peaks are measured again with every shape, as the machine's clock drifts.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from gemm import Case, matrices, median, peak_runner, runner

from rabbet import targets
from rabbet.base.target import Target
from rabbet.bench import limits
from rabbet.runtime import _runtime

LISTED = (
    *((size, size, size) for size in (64, 256, 1024, 2048)),
    *((1, 4096, 4096), (4, 2048, 2048), (16, 1024, 1024)),
    *((2048, 2048, 16), (2048, 16, 1024), (128, 512, 512), (1024, 64, 256)),
)
LEAST = 5e-7  # seconds: a call of a program costs about this much, whatever it computes
WANTED = 0.85


@dataclass(frozen=True)
class Shape:
    """A product of m x k and k x n; `turned`: N or T for each operand."""

    m: int
    n: int
    k: int
    turned: str

    def distance(self, other: Shape) -> float:
        """How far two shapes are apart."""
        pairs = ((self.m, other.m), (self.n, other.n), (self.k, other.k))
        return math.hypot(*(math.log(a / b) for a, b in pairs))

    @property
    def case(self) -> Case:
        """The measurement."""
        return matrices(self.m, self.n, self.k, self.turned)


def drawn(count: int, seed: int) -> list[Shape]:
    """Random shapes, always the same for a seed."""
    source = random.Random(seed)

    def size() -> int:
        return round(math.exp(source.uniform(0, math.log(3000))))

    return [
        Shape(size(), size(), size(), source.choice("NT") + source.choice("NT"))
        for _ in range(count)
    ]


class Measurement:
    """Shares of the floor, measured once for each shape."""

    def __init__(self, target: Target, threads: int, seconds: float) -> None:
        self._target, self._threads, self._seconds = target, threads, seconds
        self._peak, self._flops = peak_runner(target, threads)
        self._known: dict[Shape, float] = {}

    def share(self, shape: Shape) -> float:
        """floor / time."""
        if shape not in self._known:
            self._known[shape] = self._measured(shape)
        return self._known[shape]

    def _measured(self, shape: Shape) -> float:
        case = shape.case
        run, _ = runner(case, self._target)
        reads = 4 * sum(case.inputs) // 64 * 64 + 64
        found: list[float] = []
        for _ in range(3):
            seconds = median(run, self._seconds / 3)
            flops = self._flops / median(self._peak, 0.005)
            moved = limits.move_seconds(self._threads, reads, 4 * case.outputs // 64 * 64, 0.005)
            found.append(max(case.flops / flops, moved, LEAST) / seconds)
        return statistics.median(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="random matrix products beside listed ones")
    parser.add_argument("--threads", type=int, default=_runtime.num_threads())
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.05, help="for each shape")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    _runtime.set_num_threads(options.threads)
    measured = Measurement(targets.host(), options.threads, options.seconds)
    share: Callable[[Shape], float] = measured.share
    ratios: list[float] = []
    print(f"{'shape':26}{'floor':>7}   {'nearest':22}{'floor':>7}{'ratio':>7}")
    for shape in drawn(options.count, options.seed):
        listed = [Shape(*sizes, shape.turned) for sizes in LISTED]
        near = min(listed, key=shape.distance)
        mine, theirs = share(shape), share(near)
        ratios.append(mine / theirs)
        name, other = (f"{s.m} x {s.n} x {s.k}" for s in (shape, near))
        print(
            f"{name:22} {shape.turned} {mine:7.0%}   {other:22}{theirs:7.0%}{ratios[-1]:7.2f}",
            flush=True,
        )
    reached = sum(r >= WANTED for r in ratios)
    print(f"{reached} of {len(ratios)} reach {WANTED}; median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
