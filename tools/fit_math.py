"""Fit the polynomials of rabbet/expr/math_*.py and write rabbet/expr/coefficients.py.

Each fit minimises the largest weighted error over an interval (reweighted least squares after
Lawson, on Chebyshev points, in 60 digits). Coefficients are then rounded one by one, lowest power
first, and the rest refitted. Usage: python tools/fit_math.py > rabbet/expr/coefficients.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np

mp.mp.dps = 60
Function = Callable[[mp.mpf], mp.mpf]


@dataclass(frozen=True)
class Fit:
    """f(x) ~ sum of c[i] * x**i on [low, high], errors counted times weight(x)."""

    name: str
    f: Function
    low: float
    high: float
    weight: Function
    terms: int
    single: bool = False


def round_to(value: mp.mpf, single: bool) -> float:
    return float(np.float32(float(value))) if single else float(value)


def solve(xs: list, ys: list, ws: list, terms: int) -> list:
    """Weighted least squares by normal equations (60 digits make them harmless)."""
    powers = [mp.fsum(w * x**k for x, w in zip(xs, ws, strict=True)) for k in range(2 * terms - 1)]
    right = [
        mp.fsum(w * y * x**k for x, y, w in zip(xs, ys, ws, strict=True)) for k in range(terms)
    ]
    matrix = mp.matrix(terms, terms)
    for i in range(terms):
        for j in range(terms):
            matrix[i, j] = powers[i + j]
    return list(mp.lu_solve(matrix, mp.matrix(right)))


def fit(item: Fit) -> tuple[list[float], float]:
    """The rounded coefficients, and the largest weighted error in units of 2**-24 or 2**-53."""
    count = 6 * item.terms + 20
    middle, half = (mp.mpf(item.low) + item.high) / 2, (mp.mpf(item.high) - item.low) / 2
    xs = [middle + half * mp.cos(mp.pi * (k + mp.mpf(0.5)) / count) for k in range(count)]
    ys, ws = [item.f(x) for x in xs], [item.weight(x) ** 2 for x in xs]
    share = [mp.mpf(1)] * count
    for _ in range(12):
        c = solve(xs, ys, [s * w for s, w in zip(share, ws, strict=True)], item.terms)
        errors = [
            abs(mp.polyval(c[::-1], x) - y) * mp.sqrt(w) for x, y, w in zip(xs, ys, ws, strict=True)
        ]
        largest = max(errors)
        share = [s * (e / largest + mp.mpf("0.01")) for s, e in zip(share, errors, strict=True)]
        total = mp.fsum(share)
        share = [s / total for s in share]
    rounded: list[float] = []
    rest = ys
    for power in range(item.terms):
        # The best remaining polynomial starts at x**power.
        scaled = [s * w * x ** (2 * power) for s, w, x in zip(share, ws, xs, strict=True)]
        target = [r / x**power for r, x in zip(rest, xs, strict=True)]
        head = round_to(solve(xs, target, scaled, item.terms - power)[0], item.single)
        rounded.append(head)
        rest = [r - mp.mpf(head) * x**power for r, x in zip(rest, xs, strict=True)]
    worst = max(abs(r) * mp.sqrt(w) for r, w in zip(rest, ws, strict=True))
    return rounded, float(worst * 2 ** (24 if item.single else 53))


# ---------------------------------------------------------------------------- what is fitted

LN2, ROOT2 = mp.log(2), mp.sqrt(2)


def one(x: mp.mpf) -> mp.mpf:
    return mp.mpf(1)


def odd(f: Function) -> tuple[Function, Function]:
    """f(x) = x + x**3 P(x**2): P and its weight for a relative error of f."""
    return (
        lambda z: (f(mp.sqrt(z)) - mp.sqrt(z)) / mp.sqrt(z) ** 3,
        lambda z: mp.sqrt(z) ** 3 / f(mp.sqrt(z)),
    )


def inverse_erfc(y: mp.mpf) -> mp.mpf:
    w = -mp.log(y)
    guess = mp.sqrt(w) * mp.mpf("0.95") if w > 2 else mp.mpf("0.4")
    return mp.findroot(lambda t: mp.log(mp.erfc(t)) - mp.log(y), guess)


def erfinv_ratio(w: mp.mpf) -> mp.mpf:
    """erfinv(x) / x where w = -log(1 - x*x)."""
    x = mp.sqrt(-mp.expm1(-w))
    gap = mp.exp(-w) / (1 + x)  # 1 - x
    return (mp.erfinv(x) if x < 0.9 else inverse_erfc(gap)) / x


def erf_tail(x: mp.mpf) -> mp.mpf:
    return -mp.log(mp.erfc(x))


def stirling_rest(z: mp.mpf) -> mp.mpf:
    """(lgamma(x) - Stirling) * x where z = 1 / x**2."""
    x = 1 / mp.sqrt(z)
    return (mp.loggamma(x) - (x - 0.5) * mp.log(x) + x - mp.log(2 * mp.pi) / 2) * x


def digamma_rest(z: mp.mpf) -> mp.mpf:
    x = 1 / mp.sqrt(z)
    return (mp.log(x) - 1 / (2 * x) - mp.digamma(x)) / z


DIGAMMA_ROOT = mp.findroot(mp.digamma, 1.46)


def centred(f: Function, middle: float) -> Function:
    return lambda t: f(t + middle)


def fits() -> list[Fit]:
    result: list[Fit] = []

    def both(name: str, f: Function, low, high, weight: Function, terms: tuple[int, int]) -> None:
        result.append(Fit(name + "_32", f, low, high, weight, terms[0], single=True))
        result.append(Fit(name + "_64", f, low, high, weight, terms[1]))

    reduced = LN2 / 2 * mp.mpf("1.0001")
    both("EXP", lambda r: (mp.expm1(r) - r) / r**2, -reduced, reduced, abs, (5, 10))
    both("EXP2", lambda r: mp.expm1(r * LN2) / r, -0.5, 0.5, lambda r: abs(r) * 2**-r, (6, 11))
    low, high = 1 / ROOT2 - 1, ROOT2 - 1
    slack = mp.mpf("1e-6")
    result.append(
        Fit(
            "LOG_32",
            lambda f: (mp.log1p(f) - f + f * f / 2) / f**3,
            low - slack,
            high + slack,
            lambda f: abs(f**3 / mp.log1p(f)),
            9,
            single=True,
        )
    )
    scale = mp.mpf(float(np.float32(1 / LN2)))
    result.append(
        Fit(
            "LOG2_32",
            lambda f: (mp.log1p(f) / LN2 - f * scale) / f**2,
            low - slack,
            high + slack,
            lambda f: abs(f**2 * LN2 / mp.log1p(f)),
            10,
            single=True,
        )
    )
    both("ATANH", *_odd_range(mp.atanh, 0.0415), (3, 8))
    both("SIN", *_odd_range(mp.sin, 0.6172), (3, 6))
    both(
        "COS",
        lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2,
        0,
        0.6172,
        lambda z: z**2,
        (3, 6),
    )
    both("ASIN", *_odd_range(mp.asin, 0.25), (5, 12))
    both("ATAN", *_odd_range(mp.atan, 0.2501), (5, 12))
    both("SINH", *_odd_range(mp.sinh, 1.0), (4, 8))
    both("TANH", *_odd_range(mp.tanh, 0.3907), (5, 11))
    both(
        "ERF",
        lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1,
        0,
        1,
        lambda z: mp.sqrt(z) / mp.erf(mp.sqrt(z)),
        (7, 13),
    )
    tail_of = centred(erf_tail, 1)
    result.append(Fit("ERF_TAIL_32", tail_of, 0, 3, centred(mp.erfc, 1), 7, single=True))
    result.append(Fit("ERF_TAIL_64", tail_of, 0, 5, centred(mp.erfc, 1), 18))
    for name, single, pieces in (
        ("32", True, ((0, 5, 2.5, 10), (None, 16, 3, 10))),
        ("64", False, ((0, 6.25, 3.125, 24), (2.5, 4, 3.25, 21), (4, 6.05, 5, 18))),
    ):
        for number, (start, stop, middle, terms) in enumerate(pieces):
            if number == 0:
                f, low, high = centred(erfinv_ratio, middle), start - middle, stop - middle
            else:
                f = centred(lambda r: erfinv_ratio(r * r), middle)
                low = (mp.sqrt(5) if start is None else start) - middle
                high = (4 if start is None else stop) - middle
            weight = lambda t, f=f: 1 / f(t)  # noqa: E731
            result.append(
                Fit(f"ERFINV_{number}_{name}", f, low, high, weight, terms, single=single)
            )
    result.append(Fit("CBRT_64", mp.cbrt, 0.7, 5.7, lambda m: 1 / mp.cbrt(m), 5))
    gamma = centred(lambda y: mp.loggamma(y) / ((y - 1) * (y - 2)), 1.75)
    result.append(Fit("LGAMMA_64", gamma, -0.75, 0.75, lambda t: 1 / gamma(t), 27))
    result.append(Fit("STIRLING_64", stirling_rest, 0, 1 / mp.mpf(64), one, 8))
    psi = centred(lambda y: mp.digamma(y) / (y - DIGAMMA_ROOT), 1.5)
    result.append(Fit("DIGAMMA_64", psi, -0.5, 0.5, lambda t: 1 / psi(t), 22))
    result.append(Fit("DIGAMMA_REST_64", digamma_rest, 0, 0.01, one, 8))
    result += bessel_fits()
    result.append(Fit("ERFCX_64", erfcx_ratio, -1, 1, lambda u: 1 / erfcx_ratio(u), 26))
    low, high = 1 / (GELU_LAST + GELU_OFFSET), 1 / GELU_OFFSET
    share = centred(gelu_share, GELU_MIDDLE)
    result.append(
        Fit(
            "GELU_32",
            share,
            low - GELU_MIDDLE,
            high - GELU_MIDDLE,
            lambda z: 1 / (1 + share(z)) / gelu_unit(z + GELU_MIDDLE),
            12,
            single=True,
        )
    )
    tail = lambda z: (  # noqa: E731
        (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1 - z / 3 - z * z / 5) / z**3
    )
    result.append(Fit("POW_64", tail, 0, 0.0296, lambda z: 7 * one(z), 8))
    return result


def erfcx_ratio(u: mp.mpf) -> mp.mpf:
    """exp(x*x) erfc(x) / t where t = 4 / (4 + x) = (u + 1) / 2."""
    t = (u + 1) / 2
    x = 4 / t - 4
    if x < 100:
        return mp.exp(x * x) * mp.erfc(x) / t
    z = 1 / (2 * x * x)  # the asymptotic series
    terms = [(-z) ** k * mp.fac2(2 * k - 1) for k in range(1, 10)]
    return (1 + mp.fsum(terms)) / (x * t * mp.sqrt(mp.pi))


GELU_OFFSET, GELU_LAST = mp.mpf(1.5), mp.mpf(14.45)  # beyond the last, gelu(-a) is 0 in float32
GELU_MIDDLE = mp.mpf(float(np.float32(0.49)))


def normal_below(a: mp.mpf) -> mp.mpf:
    """The normal distribution function at -a."""
    return mp.erfc(a / ROOT2) / 2


def gelu_share(t: mp.mpf) -> mp.mpf:
    """What exp(a*a/2) times the normal distribution function at -a is more than t / 2, as a share
    of it, where t = 1 / (a + 1.5)."""
    a = 1 / t - GELU_OFFSET
    return mp.exp(a * a / 2) * normal_below(a) * 2 / t - 1


def gelu_unit(t: mp.mpf) -> mp.mpf:
    """How much coarser float32 is at gelu(-a) than at normal numbers of that size."""
    a = 1 / t - GELU_OFFSET
    return max(mp.mpf(1), mp.mpf(2) ** -126 / (a * normal_below(a))) if a > 1 else mp.mpf(1)


def bessel_fits() -> list[Fit]:
    """exp(-x) I_n(x) up to 8 (of I_1: over x), and its product with sqrt(x) by 16 / x - 1."""

    def scaled(n: int, x: mp.mpf) -> mp.mpf:
        return mp.besseli(n, x) * mp.exp(-x)

    near = (lambda u: scaled(0, 4 + 4 * u), lambda u: scaled(1, 4 + 4 * u) / (4 + 4 * u))
    far = [lambda u, n=n: mp.sqrt(16 / (u + 1)) * scaled(n, 16 / (u + 1)) for n in (0, 1)]
    result = []
    for n in (0, 1):
        result.append(Fit(f"I{n}E_NEAR_64", near[n], -1, 1, lambda u, n=n: 1 / near[n](u), 28))
        result.append(Fit(f"I{n}E_FAR_64", far[n], -1, 1, lambda u, n=n: 1 / far[n](u), 22))
    return result


def _odd_range(f: Function, high: float) -> tuple[Function, int, float, Function]:
    value, weight = odd(f)
    return value, 0, high, weight


HEADER = '''"""Coefficients of the scalar expansions. Written by tools/fit_math.py: do not edit.

Lowest power first. The comment gives the largest error of the approximation in ulp.
"""
'''


def main() -> None:
    print(HEADER)
    only = sys.argv[1:]
    for item in fits():
        if only and not any(item.name.startswith(o) for o in only):
            continue
        values, error = fit(item)
        print(f"{item.name} = (  # {error:.3g}")
        for v in values:
            print(f"    {v!r},")
        print(")")
        sys.stdout.flush()
    mp.mp.dps = 450
    bits = 1280
    print(f"# floor(2 / pi * 2**{bits})")
    value = int(mp.floor(2 / mp.pi * mp.mpf(2) ** bits))
    digits = f"{value:x}"
    print("TWO_OVER_PI = int(")
    for start in range(0, len(digits), 64):
        print(f'    "{digits[start : start + 64]}"')
    print("    , 16\n)")
    print(f"TWO_OVER_PI_BITS = {bits}")
    root = float(DIGAMMA_ROOT)
    print("# the zero of digamma, as a sum")
    print(f"DIGAMMA_ROOT = ({root!r}, {float(DIGAMMA_ROOT - root)!r})")


if __name__ == "__main__":
    main()
