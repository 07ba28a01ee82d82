"""Every float32 through every unary math function, against float64: the largest error in ulp.

`python tools/math_accuracy.py` tries all 2**32 inputs of all functions (an hour on two cores) and
writes docs/accuracy.md and docs/accuracy.svg; `--first` and `--last` split the work, `--picture`
only writes. `make check-all` tries a share of the inputs, another each day.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

import rabbet as rb
from rabbet.graph.value import registry

Array = Any
DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = 1 << 18  # inputs at once: neighbouring bit patterns
BLOCKS = (1 << 32) // BLOCK
MANTISSA = 23
HEAD = """# Accuracy of math functions

Made by `python tools/math_accuracy.py`, not edited by hand: the largest error of each unary
function over **all 2^32** float32 inputs, against float64 (NumPy, SciPy), in units in the last
place of the exact result. 0.5 means the nearest float for every input. Special cases (zeros and
their signs, infinities, NaN, subnormals) are exact; beside the largest float, an infinity counts as
the next power of two. Compiled in whatever way, a function gives the same bits. `make check-all`
tries a 64th of all inputs, another one each day, and always those that are hard.

![largest errors](accuracy.svg)

| function | largest error (ulp) | at | bound |
|---|---|---|---|"""


def _digamma(x: Array) -> Array:
    """SciPy's, with a NaN where the standard of C says so: at -inf and the negative integers."""
    values = special.digamma(x)
    return np.where((x < 0) & (x == np.floor(x)), np.nan, values)


def _lgamma(x: Array) -> Array:
    """SciPy's, with the infinity of C at -inf."""
    return np.where(x == -np.inf, np.inf, special.gammaln(x))


def _erfinv(x: Array) -> Array:
    """SciPy's, with the sign of a zero kept; NaN outside [-1, 1] without asking it."""
    inside = np.abs(x) <= 1
    found = np.full_like(x, np.nan)
    found[inside] = np.copysign(special.erfinv(x[inside]), x[inside])
    return found


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _sinc(x: Array) -> Array:
    """With the angle reduced exactly: NumPy's multiplies by pi first."""
    whole = np.rint(x)
    sine = np.sin(np.pi * (x - whole)) * np.where(whole % 2 == 0, 1.0, -1.0)
    return np.where(x == 0, 1.0, sine / (np.pi * np.where(x == 0, 1.0, x)))


def _bessel(name: str, limit: float) -> Callable[[Array], Array]:
    """SciPy's, with the limits at infinity and the sign of a zero, that of x where it is odd."""

    def values(x: Array) -> Array:
        ends = np.where(np.isinf(x), limit, getattr(special, name)(np.abs(x)))
        return np.copysign(ends, x) if name.startswith("i1") else ends

    return values


def _declared(name: str) -> Callable[[Array], Array]:
    """The reference beside an op's declaration, its attributes as they are if left out."""
    op = registry[name]
    attributes = {p.name: p.default for p in op.parameters if p.role == "attribute"}
    return lambda x: op.reference(x, *attributes.values())


@dataclass(frozen=True)
class Checked:
    """A function, its meaning in float64, the bound in ulp, and where its error is likely large."""

    reference: Callable[[Array], Array]
    bound: float = 2.0
    hard: tuple[float, ...] = ()


_TURNS = tuple(k * math.pi / 4 for k in (1, 2, 3, 4, 6, 8, 100, 10000)) + (1e5, 2e5, 1e10, 3e38)
FUNCTIONS: dict[str, Checked] = {
    "exp": Checked(np.exp, hard=(88.72, 0.5, -87.3, -103.9, 0.34657)),
    "exp2": Checked(np.exp2, hard=(127.9, 0.5, -126, -149.5)),
    "expm1": Checked(np.expm1, hard=(88.72, 0.34657, -0.34657, 0.5, -17.0)),
    "log": Checked(np.log, hard=(0.7071, 1.4142)),
    "log1p": Checked(np.log1p, hard=(-0.5, -0.2929, 0.4142)),
    "log2": Checked(np.log2, hard=(0.7071, 1.4142)),
    "log10": Checked(np.log10, hard=(0.7071, 1.4142)),
    "sin": Checked(np.sin, hard=_TURNS),
    "cos": Checked(np.cos, hard=_TURNS),
    "tan": Checked(np.tan, hard=_TURNS),
    "asin": Checked(np.arcsin, hard=(0.5, -0.5)),
    "acos": Checked(np.arccos, hard=(0.5, -0.5)),
    "atan": Checked(np.arctan, hard=(0.4142, 2.4142, 0.66, 1e7)),
    "sinh": Checked(np.sinh, hard=(89.4, 0.5, 9.0)),
    "cosh": Checked(np.cosh, hard=(89.4, 0.5, 9.0)),
    "tanh": Checked(np.tanh, hard=(0.55, 9.01, 0.625)),
    "asinh": Checked(np.arcsinh, hard=(0.5, 1e19)),
    "acosh": Checked(np.arccosh, hard=(1.5, 2.0, 1e19)),
    "atanh": Checked(np.arctanh, hard=(0.5, -0.5)),
    "erf": Checked(special.erf, hard=(0.84375, 1.25, 3.9)),
    "erfinv": Checked(_erfinv, 4.0, hard=(0.5, 0.9, 0.999)),
    "lgamma": Checked(_lgamma, 4.0, hard=(2.0, 1.4616, -2.457, -3.143, 4e36)),
    "digamma": Checked(_digamma, 4.0, hard=(1.4616, -0.504, -1.573, 1e-38)),
    "sigmoid": Checked(_sigmoid, hard=(17.0, -88.0, -103.0)),
    "sqrt": Checked(np.sqrt),
    "rsqrt": Checked(lambda x: 1.0 / np.sqrt(x)),
    "reciprocal": Checked(lambda x: 1.0 / x, hard=(8.5e37,)),
    "square": Checked(np.square, hard=(1.8e19, 1e-19)),
    "erfc": Checked(special.erfc, hard=(0.5, 4.0, 9.0, 10.05)),
    "erfcx": Checked(special.erfcx, hard=(0.5, 4.0, -9.38)),
    "ndtr": Checked(special.ndtr, hard=(-1.0, -5.0, -13.0)),
    "log_ndtr": Checked(special.log_ndtr, hard=(-1.0, 5.0, -100.0)),
    "ndtri": Checked(special.ndtri, hard=(0.05, 0.5, 0.95, 1e-20)),
    "i0": Checked(_bessel("i0", math.inf), hard=(8.0, 91.9)),
    "i0e": Checked(_bessel("i0e", 0.0), hard=(8.0, 100.0)),
    "i1": Checked(_bessel("i1", math.inf), hard=(8.0, 91.9)),
    "i1e": Checked(_bessel("i1e", 0.0), hard=(8.0, 100.0)),
    "entr": Checked(_declared("entr"), hard=(0.3679, 0.99)),
    "sinc": Checked(_sinc, hard=(1.0, 2.0, 1000.0, 1e7)),
    "deg2rad": Checked(lambda x: x * (math.pi / 180)),
    "rad2deg": Checked(lambda x: x * (180 / math.pi), hard=(5.9e36,)),
    "logit": Checked(_declared("logit"), hard=(0.5, 0.98)),
}
# Activations: of several functions, each of which is rounded.
ACTIVATIONS: dict[str, Checked] = {
    "logsigmoid": Checked(
        lambda x: np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x))), hard=(1.0, 17.0)
    ),
    "mish": Checked(_declared("mish"), 4.0, hard=(-2.37, 17.0)),
    "softsign": Checked(_declared("softsign"), hard=(3.6e-5, 1.0)),
    "hardsigmoid": Checked(_declared("hardsigmoid"), hard=(3.0, -3.0)),
    "hardswish": Checked(_declared("hardswish"), hard=(3.0, -3.0)),
}
FUNCTIONS |= ACTIVATIONS
# Exact functions: nothing is rounded, so the result must be the very number.
EXACT: dict[str, Callable[[Array], Array]] = {
    **{n: getattr(np, n) for n in ("abs", "ceil", "floor", "negative", "positive", "trunc")},
    **{n: getattr(np, n) for n in ("isfinite", "isinf", "isnan", "signbit")},
    "round": np.rint,
    "sign": lambda x: np.sign(x) + 0.0,  # of either zero: +0
    "frac": lambda x: x - np.trunc(x),
    "relu": lambda x: np.where(x > 0, x, np.where(x <= 0, 0.0, x)),
}
FUNCTIONS |= {name: Checked(reference, 0.0) for name, reference in EXACT.items()}


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


def worst_of(name: str, x: Array) -> Worst:
    """The largest error of a function over some float32 inputs."""
    got = getattr(rb, name)(rb.asarray(x)).numpy()
    with np.errstate(all="ignore"):
        wide = np.asarray(FUNCTIONS[name].reference(x.astype(np.float64)))
        want = wide.astype(got.dtype)
        if got.dtype != np.float32:
            return _first(x, got != want)
        differ = np.flatnonzero(got.view(np.int32) != want.view(np.int32))
        differ = differ[~(np.isnan(got[differ]) & np.isnan(want[differ]))]
        if FUNCTIONS[name].bound == 0:
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
    exponent = np.maximum(np.frexp(wide)[1] - 1, -126)
    error = np.abs(got.astype(np.float64) - wide) / np.ldexp(1.0, exponent - MANTISSA)
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


def worst(name: str, blocks: Iterable[int]) -> Worst:
    """The largest error of a function over some blocks."""
    found = Worst()
    for block in blocks:
        found.take(worst_of(name, inputs(block)))
    return found


# ---- everything, and the picture -----------------------------------------------------------------


def run(names: Sequence[str], first: int, last: int, kept: Path) -> int:
    """All inputs of blocks [first, last) through the functions; how many were outside the bound."""
    outside = 0
    for name in names:
        start = time.monotonic()
        found = worst(name, range(first, last))
        seconds = time.monotonic() - start
        good = found.ulp <= FUNCTIONS[name].bound
        outside += not good
        print(f"{name:12} {found.ulp:8.4f} ulp at {found.at!r:24} {seconds:6.1f} s", flush=True)
        with kept.open("a") as lines:
            line = {"name": name, "first": first, "last": last, "ulp": found.ulp, "at": found.at}
            lines.write(json.dumps(line) + "\n")
    return outside


def gathered(parts: Path) -> dict[str, Any]:
    """Lines of `run` as one table; only functions of which every block was tried."""
    pieces: dict[str, dict[tuple[int, int], Worst]] = {}
    for line in parts.read_text().splitlines():
        row = json.loads(line)
        piece = (row["first"], row["last"])
        pieces.setdefault(row["name"], {})[piece] = Worst(row["ulp"], row["at"])
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
            table[name] = {"ulp": round(total.ulp, 4), "at": total.at}
    return table


def page(table: dict[str, Any]) -> str:
    """docs/accuracy.md."""
    lines = [HEAD]
    for name, row in table.items():
        found, bound = row["ulp"], FUNCTIONS[name].bound
        error = f"{math.floor(found * 1000 + 1) / 1000:.3f}" if found > 0.5 else "0.5"
        at = f"{row['at']:.9g}" if found > 0.5 else ""
        lines.append(f"| {name} | {error if bound else 'exact'} | {at} | {bound:g} |")
    return "\n".join(lines) + "\n"


def picture(table: dict[str, Any], target: Path) -> None:
    """A bar for each function, and the bounds."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "rabbet"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    names = [n for n in table if FUNCTIONS[n].bound]
    figure, axes = pyplot.subplots(figsize=(8.5, 3.6), layout="constrained")
    axes.bar(names, [table[n]["ulp"] for n in names], width=0.7, color="#4477aa")
    for at, name in enumerate(names):
        bound = FUNCTIONS[name].bound
        axes.plot([at - 0.42, at + 0.42], [bound, bound], color="#bb5566", linewidth=1.5)
    axes.axhline(0.5, color="#888888", linewidth=0.8, linestyle=":")
    axes.tick_params(axis="x", rotation=60, length=0)
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
    parser.add_argument("--parts", type=Path, default=Path("build/accuracy.jsonl"))
    parser.add_argument("--picture", action="store_true", help="only gather and draw")
    given = parser.parse_args()
    outside = 0
    if not given.picture:
        given.parts.parent.mkdir(parents=True, exist_ok=True)
        outside = run(given.names or list(FUNCTIONS), given.first, given.last, given.parts)
    table = gathered(given.parts)
    if table:
        (DOCS / "accuracy.md").write_text(page(table))
        picture(table, DOCS / "accuracy.svg")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
