"""Every unary function of float32: its meaning in float64, its bound in ulp, its hard inputs.

`public()` finds the functions by what they do; a test compares it with the table below.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import special

import rabbet as rb
from rabbet.expr import meaning
from rabbet.graph.value import registry
from rabbet.nn import functional
from rabbet.ops.activation import SELU_ALPHA, SELU_SCALE

Array = Any


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


def _softplus(x: Array, threshold: float = 20.0) -> Array:
    return np.where(x > threshold, x, np.logaddexp(0.0, x))


def _selu(x: Array) -> Array:
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x))


def _softsign(x: Array) -> Array:
    """With its limits at the infinities."""
    kept = np.clip(x, -1e300, 1e300)
    return kept / (1 + abs(kept))


def _gelu(x: Array) -> Array:
    size = np.minimum(abs(x), 100.0)
    tail = size * special.ndtr(-size)
    return np.copysign(np.where(x < 0, tail, x - tail), x)


def _hardswish(x: Array) -> Array:
    return np.where(x < -3, -0.0, x) * np.clip(x / 6 + 0.5, 0, 1)


def _tanhshrink(x: Array) -> Array:
    """x - tanh(x) by its series near 0, where the difference cancels."""
    z = x * x
    series = [1 / 3, -2 / 15, 17 / 315, -62 / 2835, 1382 / 155925, -21844 / 6081075]
    near = x * z * np.polynomial.polynomial.polyval(np.minimum(z, 0.01), series)
    return np.where(abs(x) < 0.1, near, x - np.tanh(x))


def _declared(name: str) -> Callable[[Array], Array]:
    """The reference beside an op's declaration, its attributes as they are if left out."""
    op = registry[name]
    attributes = {p.name: p.default for p in op.parameters if p.role == "attribute"}
    return lambda x: op.reference(x, *attributes.values())


def _polygamma(n: int) -> Callable[[Array], Array]:
    """SciPy's, by reflection below 0: the derivatives of pi * cot(pi * x) are polynomials in it."""

    def values(x: Array) -> Array:
        low = x < 0
        f = x - np.rint(x)
        near = np.where(abs(f) < 0.25, f, 0.25)
        cot = np.where(near == f, 1 / np.tan(np.pi * np.where(f == 0, 0.5, near)), 0)
        cot += np.where(near == f, 0, np.sign(f) * np.tan(np.pi * (0.5 - abs(f))))  # 0 halfway
        square = 1 + cot * cot
        slopes = (-square, 2 * cot * square, -2 * square * (1 + 3 * cot * cot))
        mirrored = special.polygamma(n, 1 - np.where(low, x, 0.0))
        reflected = (-1) ** n * mirrored - np.pi ** (n + 1) * slopes[n - 1]
        pole = np.inf if n % 2 else -np.inf
        found = np.where(low, np.where(f == 0, pole, reflected), special.polygamma(n, abs(x)))
        return np.where(x == -np.inf, pole, found)

    return values


def _zeta(x: Array) -> Array:
    return np.where(x < 1, np.nan, special.zeta(np.maximum(x, 1.0), 1.0))


def _multigammaln(x: Array) -> Array:
    return _lgamma(x) + _lgamma(x - 0.5) + _lgamma(x - 1) + 1.5 * math.log(math.pi)


@dataclass(frozen=True)
class Checked:
    """A function, its meaning in float64, the bound in ulp, and where its error is likely large.

    `call` is the function itself where its name alone does not say it.
    """

    reference: Callable[[Array], Array]
    bound: float = 2.0
    hard: tuple[float, ...] = ()
    call: Callable[[Any], Any] | None = None


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
_LOW = (-1.0, -17.0, -88.0, -103.0)
ACTIVATIONS: dict[str, Checked] = {
    "silu": Checked(meaning.silu, hard=(1.28, *_LOW)),
    "gelu": Checked(_gelu, hard=(0.75, 5.0, -1.0, -5.0, -13.0, -14.2)),
    "gelu_tanh": Checked(
        meaning.gelu_tanh, hard=(-5.0, -10.0), call=partial(rb.gelu, approximate="tanh")
    ),
    "mish": Checked(meaning.mish, hard=(-2.37, *_LOW)),
    "softplus": Checked(_softplus, hard=(20.0, *_LOW)),
    "logsigmoid": Checked(lambda x: -_softplus(-x, np.inf), hard=(1.0, 17.0, 100.0)),
    "tanhshrink": Checked(_tanhshrink, hard=(1.0, 2.0, 0.01, 1e-13)),
    "elu": Checked(lambda x: np.where(x > 0, x, np.expm1(x)), hard=_LOW),
    "celu": Checked(lambda x: np.where(x > 0, x, np.expm1(x)), hard=_LOW),
    "selu": Checked(_selu, hard=_LOW),
    "leaky_relu": Checked(_declared("leaky_relu")),
    "rrelu": Checked(lambda x: x * np.where(x >= 0, 1.0, 11 / 48)),
    "softsign": Checked(_softsign, hard=(3.6e-5, 1.0)),
    "hardsigmoid": Checked(_declared("hardsigmoid"), hard=(3.0, -3.0)),
    "hardswish": Checked(_hardswish, hard=(3.0, -3.0)),
    "softshrink": Checked(lambda x: np.where(abs(x) <= 0.5, x * 0, x - np.sign(x) * 0.5)),
}
FUNCTIONS |= ACTIVATIONS
# Exact functions: nothing is rounded, so the result must be the very number.
_LARGEST = float(np.finfo(np.float32).max)
EXACT: dict[str, Callable[[Array], Array]] = {
    **{n: getattr(np, n) for n in ("abs", "ceil", "floor", "negative", "positive", "trunc")},
    **{n: getattr(np, n) for n in ("isfinite", "isinf", "isnan", "signbit")},
    "round": np.rint,
    "sign": lambda x: np.sign(x) + 0.0,  # of either zero: +0
    "frac": lambda x: x - np.trunc(x),
    "relu": lambda x: np.where(x <= 0, 0.0, x),
    "relu6": lambda x: np.where(x <= 0, 0.0, np.minimum(x, 6.0)),
    "hardtanh": lambda x: np.clip(x, -1.0, 1.0),
    "hardshrink": lambda x: np.where(abs(x) <= 0.5, 0.0, x),
    "nan_to_num": lambda x: np.nan_to_num(x, posinf=_LARGEST, neginf=-_LARGEST),
    "isposinf": np.isposinf,
    "isneginf": np.isneginf,
    "logical_not": np.logical_not,
    "angle": lambda x: np.where(np.isnan(x), x, np.where(np.signbit(x), np.float32(np.pi), 0.0)),
}
FUNCTIONS |= {name: Checked(reference, 0.0) for name, reference in EXACT.items()}
# Of a number, and an attribute or another operand.
_SHIFTED: dict[str, Checked] = {
    "polygamma(1)": Checked(_polygamma(1), 4.0, (-0.5, -1.5), partial(rb.polygamma, 1)),
    "polygamma(2)": Checked(_polygamma(2), 4.0, (-0.5, -1.5), partial(rb.polygamma, 2)),
    "polygamma(3)": Checked(_polygamma(3), 4.0, (-0.5, -1.5), partial(rb.polygamma, 3)),
    "zeta(x, 1)": Checked(_zeta, 4.0, (1.0, 2.0, 1.001), lambda x: rb.zeta(x, 1.0)),
    "multigammaln(p=3)": Checked(
        _multigammaln, 4.0, (1.0, 1.5, 2.5), lambda x: rb.multigammaln(x, 3)
    ),
}
FUNCTIONS |= _SHIFTED

# ---- the functions themselves --------------------------------------------------------------------


def function(name: str) -> Callable[[Any], Any]:
    """What is checked under a name."""
    found = FUNCTIONS[name].call or getattr(rb, name, None) or getattr(functional, name)
    return found


# One function, a second name with a wrapper of its own.
ALIASES = {
    **{f"arc{n}": f"a{n}" for n in ("sin", "sinh", "tan", "tanh")},
    **{"fix": "trunc", "neg": "negative", "sgn": "sign"},
}


def public() -> dict[str, Callable[[Any], Any]]:
    """Every public function of one tensor whose elements depend on one element each.

    Copies and constants are not functions; whatever draws random numbers is not one either.
    """
    x = np.array([0.3, -0.7, 0.9, 2.5, -0.1, 0.6, 0.6, -3.5, 40.0, 1e-40], np.float32)
    wild = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 1.0], np.float32)
    found: dict[str, Callable[[Any], Any]] = {}
    for home in (rb, rb.special, functional):
        for name, f in sorted(vars(home).items()):
            known = any(f is other for other in found.values())
            if name.startswith("_") or known or not callable(f) or inspect.isclass(f):
                continue
            if _is_pointwise(f, x) and not _is_trivial(f, np.concatenate([x, wild])):
                found[name] = f
    return found


def _is_pointwise(f: Callable[[Any], Any], x: Array) -> bool:
    try:
        whole, part, order = f(rb.asarray(x)), f(rb.asarray(x[3:8])), f(rb.asarray(x[::-1].copy()))
        ends = [np.asarray(v.numpy()) for v in (whole, part, order)]
    except Exception:  # whatever it says, it is no function of one tensor
        return False
    sizes = [v.shape for v in ends] == [x.shape, (5,), x.shape]
    return sizes and bool((ends[0][3:8] == ends[1]).all() and (ends[0][::-1] == ends[2]).all())


def _is_trivial(f: Callable[[Any], Any], x: Array) -> bool:
    found = f(rb.asarray(x)).numpy()
    same = found.dtype == x.dtype and found.tobytes() == x.tobytes()
    return same or bool((found == found[0]).all())
