"""What recording one op costs: with its handle, liveness and source position, computing nothing.

    python benchmarks/recording.py [--repeats 20]

Microseconds per op, best of the repeats.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable

import rabbet as rb
from rabbet.recorder import current

OPS = 1000


def cases() -> dict[str, Callable[[], None]]:
    """Loops of OPS ops each; the tape's segment is thrown away at the end, which counts too."""
    x, y = rb.ones((4, 4)), rb.ones((4, 4))
    w = rb.ones((4, 4)).requires_grad_()
    for t in (x, y, w):
        t.numpy()

    def operator() -> None:
        for _ in range(OPS):
            x + y
        current().take()

    def number() -> None:
        for _ in range(OPS):
            x * 2.0
        current().take()

    def differentiable_chain() -> None:
        z = w
        for _ in range(OPS):
            z = -z
        current().take()

    def handles_kept() -> None:
        kept = [x + y for _ in range(OPS)]
        current().take()
        del kept

    def method() -> None:
        for _ in range(OPS):
            x.exp()
        current().take()

    def method_with_attribute() -> None:
        for _ in range(OPS):
            x.sum(axis=1)
        current().take()

    return {
        "x + y": operator,
        "x * 2.0": number,
        "-z, differentiable chain": differentiable_chain,
        "x + y, all handles kept": handles_kept,
        "x.exp()": method,
        "x.sum(axis=1)": method_with_attribute,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    for name, case in cases().items():
        best = min(timeit.repeat(case, number=1, repeat=repeats))
        print(f"{name:<28}{best / OPS * 1e6:7.3f} us")


if __name__ == "__main__":
    main()
