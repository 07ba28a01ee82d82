"""GFLOP/s of convolutions: those of the benchmark's list beside shapes one step off it.

    python benchmarks/convolutions.py [--seconds 0.2] [--only depthwise]

A listed shape and its neighbours (one more channel, pixel or image) take turns; each figure is the
median of the rounds, the last column the share of the listed shape's rate. A shape that falls far
below its neighbour has hit an edge of the kernels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rabbet import conv2d
from rabbet.tensor import asarray
from rabbet.tensor.jit import jit

ROUNDS = 5


@dataclass(frozen=True)
class Shape:
    """A convolution of square images, padding kernel // 2."""

    inputs: int
    filters: int
    kernel: int
    side: int
    stride: int = 1
    groups: int = 1
    images: int = 8

    @property
    def flops(self) -> int:
        out = (self.side + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1
        window = self.inputs // self.groups * self.kernel**2
        return 2 * self.images * self.filters * out * out * window

    def call(self) -> Callable[[], object]:
        rng = np.random.default_rng(0)
        sides = (self.side, self.side)
        x = rng.standard_normal((self.images, self.inputs, *sides), np.float32)
        window = (self.inputs // self.groups, self.kernel, self.kernel)
        w = rng.standard_normal((self.filters, *window), np.float32)
        convolve = jit(
            lambda x, w: conv2d(
                x, w, stride=self.stride, padding=self.kernel // 2, groups=self.groups
            )
        )
        images, weights = asarray(x), asarray(w)
        return lambda: convolve(images, weights)

    def neighbours(self) -> dict[str, Shape]:
        """The shape itself, and those one step off."""
        more = {"inputs": self.inputs + 1}
        if self.groups > 1:
            more |= {"filters": self.filters + 1, "groups": self.groups + 1}
        return {
            "listed": self,
            "channel + 1": replace(self, **more),
            "pixel + 1": replace(self, side=self.side + 1),
            "image + 1": replace(self, images=self.images + 1),
        }


LISTED = {
    "first k7": Shape(3, 64, 7, 224, 2),
    "3x3 64": Shape(64, 64, 3, 56),
    "3x3 128": Shape(128, 128, 3, 28),
    "3x3 256": Shape(256, 256, 3, 14),
    "3x3 512": Shape(512, 512, 3, 7),
    "1x1 56": Shape(256, 64, 1, 56),
    "1x1 7": Shape(512, 2048, 1, 7),
    "depthwise": Shape(128, 128, 3, 56, 1, 128),
    "depthwise stride 2": Shape(128, 128, 3, 56, 2, 128),
}


def median_seconds(calls: list[Callable[[], object]], seconds: float) -> list[float]:
    """The median time of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        for _ in range(4):
            call()
    for _ in range(ROUNDS):
        for call, found in zip(calls, times, strict=True):
            end = time.perf_counter() + seconds / ROUNDS / len(calls)
            while time.perf_counter() < end or len(found) < 2:
                begin = time.perf_counter()
                call()
                found.append(time.perf_counter() - begin)
    return [statistics.median(found) for found in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.4, help="for each listed shape")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    arguments = parser.parse_args()
    for name, listed in LISTED.items():
        if arguments.only not in name:
            continue
        shapes = listed.neighbours()
        times = median_seconds([s.call() for s in shapes.values()], arguments.seconds)
        rates = [s.flops / t / 1e9 for s, t in zip(shapes.values(), times, strict=True)]
        for step, rate in zip(shapes, rates, strict=True):
            print(f"{name:<20}{step:<14}{rate:>8.0f} GFLOP/s{rate / rates[0]:>7.2f}")


if __name__ == "__main__":
    main()
