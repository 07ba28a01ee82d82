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
from dataclasses import replace

from rabbet import conv2d
from rabbet.bench.workloads.products import WORKLOADS, Convolution
from rabbet.higher.jit import jit
from rabbet.tensor import asarray

ROUNDS = 5


LISTED = {w.name: w.problem for w in WORKLOADS if isinstance(w.problem, Convolution)}
LISTED["depthwise stride 2"] = Convolution(128, 128, 3, 56, 2, 128)


def prepared(shape: Convolution) -> Callable[[], object]:
    """What computes the convolution once."""
    options = {"stride": shape.stride, "padding": shape.kernel // 2, "groups": shape.groups}
    convolve = jit(lambda x, weight: conv2d(x, weight, **options))
    arrays = [asarray(a) for a in shape.inputs().values()]
    return lambda: convolve(*arrays)


def neighbours(listed: Convolution) -> dict[str, Convolution]:
    """The shape itself, and those one step off."""
    more = {"channels": listed.channels + 1}
    if listed.groups > 1:
        more |= {"filters": listed.filters + 1, "groups": listed.groups + 1}
    return {
        "listed": listed,
        "channel + 1": replace(listed, **more),
        "pixel + 1": replace(listed, side=listed.side + 1),
        "image + 1": replace(listed, images=listed.images + 1),
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
        shapes = neighbours(listed)
        times = median_seconds([prepared(s) for s in shapes.values()], arguments.seconds)
        rates = [s.flops / t / 1e9 for s, t in zip(shapes.values(), times, strict=True)]
        for step, rate in zip(shapes, rates, strict=True):
            print(f"{name:<28}{step:<14}{rate:>8.0f} GFLOP/s{rate / rates[0]:>7.2f}")


if __name__ == "__main__":
    main()
