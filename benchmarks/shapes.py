"""Do products of any shape come as near to their floor as those that everybody measures?

    python benchmarks/shapes.py [--threads 2] [--count 60] [--seconds 0.05] [--seed 0]

Draws shapes (m, n, k from 1 to 3000, evenly in their logarithms; each operand plain or turned) and
compares each with its nearest neighbour (distance of logarithms) among the listed shapes of the
same layout. The floor of a shape is the larger of two times: its arithmetic at the peak of register
multiply-adds, its operands and result moved once. Printed is floor / time for both, and the ratio.
A shape, its neighbour and the peaks are measured in turns, as the machine's clock drifts; the ratio
is the median of the rounds.
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
ROUNDS = 5  # of a shape and its neighbour in turns
PEAK_SECONDS = 0.003  # for each of the two limits in a round
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


@dataclass
class Subject:
    """A shape that is being measured: how it runs, and its shares of the floor so far."""

    case: Case
    run: Callable[[], None]
    found: list[float]

    @property
    def share(self) -> float:
        """floor / time, the median of all rounds."""
        return statistics.median(self.found)


class Measurement:
    """Shares of the floor: shapes take turns with their neighbours."""

    def __init__(self, target: Target, threads: int, seconds: float) -> None:
        self._target, self._threads, self._seconds = target, threads, seconds
        self._peak, self._flops = peak_runner(target, threads)
        self._known: dict[Shape, Subject] = {}

    def subject(self, shape: Shape) -> Subject:
        """What is known of a shape."""
        if shape not in self._known:
            run, _ = runner(shape.case, self._target)
            self._known[shape] = Subject(shape.case, run, [])
        return self._known[shape]

    def ratio(self, shape: Shape, near: Shape) -> float:
        """Measure two shapes in turns and return the first's share by the second's, the median of
        the rounds: what slows the machine for a while meets both.
        """
        subjects = self.subject(shape), self.subject(near)
        rounds = ([self._measured(s) for s in subjects] for _ in range(ROUNDS))
        return statistics.median(mine / theirs for mine, theirs in rounds)

    def _measured(self, subject: Subject) -> float:
        """One round of one shape."""
        case = subject.case
        reads = 4 * sum(case.inputs) // 64 * 64 + 64
        seconds = median(subject.run, self._seconds / ROUNDS)
        flops = self._flops / median(self._peak, PEAK_SECONDS)
        writes = 4 * case.outputs // 64 * 64
        moved = limits.move_seconds(self._threads, reads, writes, PEAK_SECONDS)
        subject.found.append(max(case.flops / flops, moved, LEAST) / seconds)
        return subject.found[-1]


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
    ratios: list[float] = []
    print(f"{'shape':26}{'floor':>7}   {'nearest':22}{'floor':>7}{'ratio':>7}")
    for shape in drawn(options.count, options.seed):
        listed = [Shape(*sizes, shape.turned) for sizes in LISTED]
        near = min(listed, key=shape.distance)
        ratios.append(measured.ratio(shape, near))
        mine, theirs = (measured.subject(s).share for s in (shape, near))
        name, other = (f"{s.m} x {s.n} x {s.k}" for s in (shape, near))
        print(
            f"{name:22} {shape.turned} {mine:7.0%}   {other:22}{theirs:7.0%}{ratios[-1]:7.2f}",
            flush=True,
        )
    reached = sum(r >= WANTED for r in ratios)
    print(f"{reached} of {len(ratios)} reach {WANTED}; median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
