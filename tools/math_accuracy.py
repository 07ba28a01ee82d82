"""Every float32 through every unary math function, against float64: the largest error in ulp.

`python tools/math_accuracy.py` tries all 2**32 inputs of all functions (two hours on a core, less
with several at once) and writes docs/accuracy.md and docs/accuracy.svg; names and `--first` and
`--last` split the work, which adds lines to docs/accuracy.jsonl; `--picture` only writes. `make
check-all` tries a share of the inputs, another each day.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import rabbet as rb
from tools.math_functions import FUNCTIONS, function

Array = Any
DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = 1 << 18  # inputs at once: neighbouring bit patterns
BLOCKS = (1 << 32) // BLOCK
MANTISSA = 23
HEAD = """# Accuracy of math functions

Made by `python tools/math_accuracy.py`, not edited by hand: the largest error of each function of
one number over **all 2^32** float32 inputs, in units in the last place of the exact result. 0.5
means the nearest float for every input. Special cases (zeros and their signs, infinities, NaN,
subnormals) are exact; beside the largest float, an infinity counts as the next power of two.
Compiled in whatever way, a function gives the same bits.

In float64, where two sums cancel (polygamma of even order beside its zeros below 0), the error is a
few units in the last place of the sums, not of their small difference.

The truth is float64: NumPy's and SciPy's, or Rabbet's own, whose float64 functions are compared
with mpmath and SciPy by tests. `make check-all` tries a 64th of all inputs, another one each day,
and always those that are hard, against NumPy and SciPy; a test finds every public function there
is and fails where one is not in this table. float16 and bfloat16 are computed in float32 and
rounded once.

![largest errors](accuracy.svg)

| function | largest error (ulp) | at | bound | against |
|---|---|---|---|---|"""


@dataclass
class Worst:
    """The largest error so far and the input that has it; special cases count as infinite."""

    ulp: float = 0.0
    at: float = 0.0

    def take(self, other: Worst) -> None:
        if other.ulp > self.ulp:
            self.ulp, self.at = other.ulp, other.at


def inputs(block: int) -> Array:
    """The floats whose bit patterns stand in a block."""
    first = block * BLOCK
    return np.arange(first, first + BLOCK, dtype=np.uint32).view(np.float32)


def worst_of(name: str, x: Array, own: bool = False) -> Worst:
    """The largest error of a function over some float32 inputs.

    Against its reference, or against what the function itself (`own`) makes of float64 numbers.
    """
    call = function(name)
    got = call(rb.asarray(x)).numpy()
    exact = FUNCTIONS[name].bound == 0
    with np.errstate(all="ignore"):
        if own and not exact:
            wide = call(rb.asarray(x.astype(np.float64))).numpy()
        else:
            wide = np.asarray(FUNCTIONS[name].reference(x.astype(np.float64)))
        want = wide.astype(got.dtype)
        if got.dtype != np.float32:
            return _first(x, got != want)
        differ = np.flatnonzero(got.view(np.int32) != want.view(np.int32))
        differ = differ[~(np.isnan(got[differ]) & np.isnan(want[differ]))]
        if exact:
            return _first(x[differ], np.ones(differ.size, bool))
        error = ulps(got[differ], wide[differ], want[differ])
    if not error.size:
        return Worst(0.5, float(x[0]))  # all are the nearest floats
    at = int(np.argmax(error))
    return Worst(max(0.5, float(error[at])), float(x[differ[at]]))


def _first(x: Array, wrong: Array) -> Worst:
    where = np.flatnonzero(wrong)
    return Worst(math.inf, float(x[where[0]])) if where.size else Worst()


def ulps(got: Array, wide: Array, want: Array) -> Array:
    """|got - wide| in units of float32's last place at `wide`.

    Infinite where one of `got` and `want` is special (not finite, a zero of the other sign) and the
    other is not; beside the largest float, infinity stands for the next power of two.
    """
    power = (wide.view(np.int64) & (0x7FF << 52)).view(np.float64)  # 2**exponent
    unit = np.maximum(power, 2.0**-126) * 2.0**-MANTISSA
    error = np.abs(got.astype(np.float64) - wide) / unit
    largest = np.finfo(np.float32).max
    edge = (np.abs(want) == largest) | (np.abs(got) == largest)
    same = np.signbit(got) == np.signbit(want)
    special_case = ~np.isfinite(got) | ~np.isfinite(want)
    error = np.where(special_case, np.where(edge & same, 1.0, np.inf), error)
    return np.where((got == 0) & (want == 0) & ~same, np.inf, error)


def hard_blocks(name: str) -> set[int]:
    """Blocks that are always tried: zeros, subnormals, one, infinities, NaN and the hard points."""
    points = [0.0, 1e-45, 1.2e-38, 1.0, 0.9999999, 3.4e38, math.inf, *FUNCTIONS[name].hard]
    points += [-p for p in points]
    patterns = np.array(points, np.float32).view(np.uint32).astype(np.int64)
    near = {int(p) // BLOCK + step for p in patterns for step in (-1, 0, 1)}
    return {n for n in near if 0 <= n < BLOCKS} | {BLOCKS - 1}


def worst(name: str, blocks: Iterable[int], own: bool = False) -> Worst:
    """The largest error of a function over some blocks."""
    found = Worst()
    for block in blocks:
        found.take(worst_of(name, inputs(block), own))
    return found


# ---- everything, and the picture -----------------------------------------------------------------


def run(names: Sequence[str], first: int, last: int, kept: Path, against: str = "") -> int:
    """All inputs of blocks [first, last) through the functions; how many were outside the bound.

    The truth is the function's own float64 form, or its reference in the library `against`.
    """
    outside = 0
    for name in names:
        start = time.monotonic()
        found = worst(name, range(first, last), own=not against)
        seconds = time.monotonic() - start
        good = found.ulp <= FUNCTIONS[name].bound
        outside += not good
        print(f"{name:12} {found.ulp:8.4f} ulp at {found.at!r:24} {seconds:6.1f} s", flush=True)
        with kept.open("a") as lines:
            line = {"name": name, "first": first, "last": last, "ulp": found.ulp, "at": found.at}
            is_exact = FUNCTIONS[name].bound == 0
            line["against"] = against or ("NumPy" if is_exact else "own float64")
            lines.write(json.dumps(line) + "\n")
    return outside


def gathered(parts: Path) -> dict[str, Any]:
    """Lines of `run` as one table; only functions of which every block was tried."""
    pieces: dict[str, dict[tuple[int, int], Worst]] = {}
    against: dict[str, str] = {}
    for line in parts.read_text().splitlines():
        row = json.loads(line)
        piece = (row["first"], row["last"])
        pieces.setdefault(row["name"], {})[piece] = Worst(row["ulp"], row["at"])
        against[row["name"]] = row["against"]
    table: dict[str, Any] = {}
    for name in FUNCTIONS:
        found = pieces.get(name, {})
        covered = 0
        for first, last in sorted(found):
            covered = max(covered, last) if first <= covered else covered
        if covered == BLOCKS:
            total = Worst()
            for piece_worst in found.values():
                total.take(piece_worst)
            table[name] = {
                **{"ulp": round(total.ulp, 4), "at": total.at},
                **{"against": against[name]},
            }
    return table


def page(table: dict[str, Any]) -> str:
    """docs/accuracy.md."""
    lines = [HEAD]
    for name, row in table.items():
        found, bound = row["ulp"], FUNCTIONS[name].bound
        error = f"{math.floor(found * 1000 + 1) / 1000:.3f}" if found > 0.5 else "0.5"
        at = f"{row['at']:.9g}" if found > 0.5 else ""
        lines.append(
            f"| {name} | {error if bound else 'exact'} | {at} | {bound:g} | {row['against']} |"
        )
    return "\n".join(lines) + "\n"


def picture(table: dict[str, Any], target: Path) -> None:
    """A bar for each function, and the bounds."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "rabbet"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    names = [n for n in table if FUNCTIONS[n].bound]
    figure, axes = pyplot.subplots(figsize=(11.5, 3.8), layout="constrained")
    axes.bar(names, [table[n]["ulp"] for n in names], width=0.7, color="#4477aa")
    for at, name in enumerate(names):
        bound = FUNCTIONS[name].bound
        axes.plot([at - 0.42, at + 0.42], [bound, bound], color="#bb5566", linewidth=1.5)
    axes.axhline(0.5, color="#888888", linewidth=0.8, linestyle=":")
    axes.tick_params(axis="x", rotation=90, length=0)
    axes.set_ylabel("largest error, ulp")
    axes.set_title("All 2³² float32 inputs against float64; red: the bound, dotted: best possible")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(target, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="functions (all of them)")
    parser.add_argument("--first", type=int, default=0, help="first block of 2**18 inputs")
    parser.add_argument("--last", type=int, default=BLOCKS, help="the block to stop before")
    parser.add_argument("--parts", type=Path, default=DOCS / "accuracy.jsonl")
    parser.add_argument("--against", default="", help="NumPy or SciPy: what the references use")
    parser.add_argument("--picture", action="store_true", help="only gather and draw")
    parser.add_argument("--no-picture", action="store_true", help="only add lines")
    given = parser.parse_args()
    outside = 0
    if not given.picture:
        names = given.names or list(FUNCTIONS)
        outside = run(names, given.first, given.last, given.parts, given.against)
    table = gathered(given.parts)
    if table and not given.no_picture:
        (DOCS / "accuracy.md").write_text(page(table))
        picture(table, DOCS / "accuracy.svg")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
