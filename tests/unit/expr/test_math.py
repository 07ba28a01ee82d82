"""The expansions of the scalar table against mpmath, in units in the last place.

Every test interprets the expansion with NumPy, once with a true fused multiply-add and once with a
rounded product and sum, since targets have one or the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest

from rabbet.base.dtypes import ALL, DType, float32, float64, int8, int32, int64, uint8, uint64
from rabbet.expr import scalars
from rabbet.expr.expr import load, var
from rabbet.expr.interpret import evaluate
from rabbet.expr.meaning import Array

INF, NAN = math.inf, math.nan

# Largest error in ulp of the exact result: float32, float64.
BOUNDS = {
    "exp": (1.1, 1.1),
    "exp2": (1.1, 1.1),
    "expm1": (1.8, 1.7),
    "log": (0.9, 0.9),
    "log1p": (0.9, 0.9),
    "log2": (1.8, 0.9),
    "log10": (0.51, 0.9),
    "sin": (0.6, 0.9),
    "cos": (0.6, 0.9),
    "tan": (0.6, 1.4),
    "asin": (1.4, 1.4),
    "acos": (1.4, 1.4),
    "atan": (1.5, 1.5),
    "sinh": (1.7, 1.7),
    "cosh": (1.6, 1.6),
    "tanh": (1.5, 1.5),
    "asinh": (0.51, 1.7),
    "acosh": (0.51, 1.2),
    "atanh": (1.9, 1.9),
    "erf": (1.4, 1.2),
    "erfinv": (3.0, 3.0),
    "lgamma": (0.6, 4.0),
    "digamma": (0.6, 4.0),
    "sigmoid": (1.6, 1.6),
    "silu": (2.0, 4.0),
    "gelu": (2.0, 4.0),
    "gelu_tanh": (2.0, 4.0),
    "mish": (1.0, 4.0),
    "cbrt": (0.51, 0.6),
    "rsqrt": (1.6, 1.6),
}
RANGES = ((-1, 1), (0.3, 3), (0.99, 1.01), (-10, 10), (-110, 110), (-800, 800), (0, 1e-5))


def run(name: str, dtype: DType, *arguments: Array, fused: bool = True) -> Array:
    """The expansion of a row, interpreted."""
    row = scalars.ROWS[name]
    loads = [load(n, dtype, var(0)) for n in range(row.arity)]
    root = scalars.expand_all(scalars.apply(name, *loads))

    def leaf(e: object) -> Array:
        operand = getattr(e, "value", None)
        return arguments[operand[0]] if isinstance(operand, tuple) else np.zeros(1, np.int64)

    return evaluate([root], leaf, fused=fused)[0]


def specials(dtype: DType) -> Array:
    info = np.finfo(dtype.numpy)
    sizes = [0, 0.5, 1, 2, 3, 4, info.tiny, info.smallest_subnormal, info.max, INF]
    return np.array([s for v in sizes for s in (v, -v)] + [NAN], dtype.numpy)


def every_exponent(dtype: DType, each: int, seed: int) -> Array:
    """`each` random numbers of each sign and exponent, subnormals included."""
    info = np.finfo(dtype.numpy)
    rng = np.random.default_rng(seed)
    bits = np.arange(2 ** (info.bits - info.nmant), dtype=np.uint64) << np.uint64(info.nmant)
    fraction = rng.integers(0, 2**info.nmant, (each, bits.size), dtype=np.uint64)
    unsigned = np.uint32 if dtype is float32 else np.uint64
    return (bits | fraction).ravel().astype(unsigned).view(dtype.numpy)


def samples(dtype: DType, each: int, count: int) -> Array:
    rng = np.random.default_rng(count)
    dense = [rng.uniform(low, high, count).astype(dtype.numpy) for low, high in RANGES]
    return np.concatenate([every_exponent(dtype, each, count), *dense, specials(dtype)])


def ulps(got: Array, exact: Array, rest: Array, dtype: DType) -> Array:
    """|got - (exact + rest)| in ulp; special values and signs of zero must agree."""
    info = np.finfo(dtype.numpy)
    with np.errstate(all="ignore"):
        rounded = exact.astype(dtype.numpy)
        exponent = np.maximum(np.frexp(exact)[1] - 1, info.minexp)
        unit = np.ldexp(1.0, np.maximum(exponent - info.nmant, -1074))
        error = np.abs((got.astype(np.float64) - exact) - rest) / unit
        # At the edge of overflow, infinity stands for the next power of two.
        largest = (np.abs(rounded) == info.max) | (np.abs(got) == info.max)
        special = ~np.isfinite(rounded) | ~np.isfinite(got)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    error = np.where(special, np.where(same, 0.0, np.where(largest, 1.0, INF)), error)
    signs = (rounded == 0) & (got == 0) & (np.signbit(got) != np.signbit(rounded))
    return np.where(signs & ~np.isnan(got), INF, error)


def check(name: str, dtype: DType, inputs: tuple[Array, ...], parts: tuple[Array, Array]) -> None:
    bound = BOUNDS[name][dtype is float64]
    for fused in (True, False):
        error = ulps(run(name, dtype, *inputs, fused=fused), *parts, dtype)
        at = int(np.argmax(error))
        assert error[at] <= bound, (name, fused, [x[at] for x in inputs], error[at])


# ----------------------------------------------------------------------------------- references


def exact(function: Callable[[mp.mpf], mp.mpf]) -> Callable[[Array], tuple[Array, Array]]:
    """mpmath's value as the sum of two float64 arrays."""

    def evaluate_all(x: Array) -> tuple[Array, Array]:
        high, low = np.zeros(x.size), np.zeros(x.size)
        for n, value in enumerate(x.astype(np.float64)):
            result = function(mp.mpf(float(value)))
            high[n] = float(result)
            low[n] = float(result - mp.mpf(high[n])) if np.isfinite(high[n]) else 0.0
        return high, low

    return evaluate_all


def within(low: float, high: float, function: Callable[[mp.mpf], mp.mpf]) -> Callable:
    """NaN outside [low, high]."""
    return lambda x: function(x) if low <= x <= high else mp.nan


def mp_log(base: int | None) -> Callable[[mp.mpf], mp.mpf]:
    return within(0, INF, lambda x: -mp.inf if x == 0 else mp.log(x, base) if base else mp.log(x))


def mp_sigmoid(x: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.exp(-x)) if x >= 0 else mp.exp(x) / (1 + mp.exp(x))


def mp_gate(share: Callable[[mp.mpf], mp.mpf]) -> Callable[[mp.mpf], mp.mpf]:
    """x * share(x) for a share that goes from 0 to 1."""
    return lambda x: max(x, mp.mpf(0)) if abs(x) > 2000 else x * share(x)


def mp_erfinv(x: mp.mpf) -> mp.mpf:
    if not abs(x) < 1:
        return x * mp.inf if abs(x) == 1 else mp.nan
    gap = 1 - abs(x)
    if gap > 0.05:
        return mp.erfinv(x)
    start = mp.sqrt(-mp.log(gap)) * 0.95
    return mp.sign(x) * mp.findroot(lambda t: mp.log(mp.erfc(t)) - mp.log(gap), start)


def mp_lgamma(x: mp.mpf) -> mp.mpf:
    if mp.isinf(x) or (x <= 0 and mp.isint(x)):
        return mp.inf
    if x > 0 or mp.isnan(x):
        return mp.loggamma(x) if x == x else x
    return mp.log(mp.pi / abs(x * mp.sinpi(x))) - mp.loggamma(-x)


def mp_digamma(x: mp.mpf) -> mp.mpf:
    if mp.isinf(x):
        return x if x > 0 else mp.nan
    return mp.nan if mp.isnan(x) or (x < 0 and mp.isint(x)) else mp.digamma(x)


def or_nan(function: Callable[[mp.mpf], mp.mpf]) -> Callable[[mp.mpf], mp.mpf]:
    """NaN for infinities."""
    return lambda x: mp.nan if mp.isinf(x) else function(x)


REFERENCES: dict[str, Callable[[mp.mpf], mp.mpf]] = {
    "exp": mp.exp,
    "exp2": lambda x: mp.mpf(2) ** x,
    "expm1": lambda x: mp.expm1(x) if x > -200 or x != x else mp.mpf(-1),
    "log": mp_log(None),
    "log1p": within(-1, INF, lambda x: -mp.inf if x == -1 else mp.log1p(x)),
    "log2": mp_log(2),
    "log10": mp_log(10),
    "sin": or_nan(mp.sin),
    "cos": or_nan(mp.cos),
    "tan": or_nan(mp.tan),
    "asin": within(-1, 1, mp.asin),
    "acos": within(-1, 1, mp.acos),
    "atan": mp.atan,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "tanh": lambda x: mp.tanh(x) if abs(x) < 100 or x != x else mp.sign(x),
    "asinh": lambda x: mp.sign(x) * mp.asinh(abs(x)) if x == x else x,
    "acosh": within(1, INF, mp.acosh),
    "atanh": within(-1, 1, lambda x: x * mp.inf if abs(x) == 1 else mp.atanh(x)),
    "erf": mp.erf,
    "erfinv": mp_erfinv,
    "lgamma": mp_lgamma,
    "digamma": mp_digamma,
    "sigmoid": mp_sigmoid,
    "silu": mp_gate(mp_sigmoid),
    "gelu": mp_gate(mp.ncdf),
    "gelu_tanh": mp_gate(
        lambda x: mp_sigmoid(mp.sqrt(8 / mp.pi) * (x + mp.mpf("0.044715") * x**3))
    ),
    "mish": mp_gate(lambda x: mp.tanh(mp.log1p(mp.exp(x)))),
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)) if x == x else x,
    "rsqrt": within(0, INF, lambda x: mp.inf if x == 0 else 1 / mp.sqrt(x)),
}
# A negative argument near a zero has an absolute error there; -0 has a sign that mpmath lacks.
POSITIVE = {"lgamma", "digamma"}
ODD = {
    *("sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "erf", "erfinv"),
    *("cbrt", "expm1", "log1p"),
    *("silu", "gelu", "gelu_tanh", "mish"),  # not odd, but with the sign of x everywhere
}


def with_signed_zeros(name: str, x: Array, high: Array) -> Array:
    if name in ODD:
        return np.where(high == 0, np.copysign(high, x), high)
    return np.where((x == 0) & np.signbit(x) & (name in ("digamma", "rsqrt")), -high, high)


@pytest.mark.parametrize("name", REFERENCES)
def test_double(name: str) -> None:
    x = samples(float64, 1, 60)
    if name in POSITIVE:
        x = np.concatenate([np.abs(x[np.abs(x) > 0]), np.linspace(0.9, 13, 200)])
    if name == "rsqrt":
        x = x[~((x == 0) & np.signbit(x))]
    with mp.workdps(40):
        high, low = exact(REFERENCES[name])(x)
    check(name, float64, (x,), (with_signed_zeros(name, x, high), low))


@pytest.mark.parametrize("name", REFERENCES)
def test_single(name: str) -> None:
    slow = name in ("erf", "erfinv", "lgamma", "digamma", "gelu")
    x = samples(float32, 4 if slow else 40, 600 if slow else 12000)
    if name in POSITIVE:
        x = np.abs(x[np.abs(x) > 0])
    if name == "rsqrt":
        x = x[~((x == 0) & np.signbit(x))]
    with np.errstate(all="ignore"):
        high = scalars.ROWS[name].meaning(x.astype(np.float64))
    check(name, float32, (x,), (high, np.zeros_like(high)))


# ------------------------------------------------------------------------------- two arguments


def pairs(dtype: DType) -> tuple[Array, Array]:
    grid = np.meshgrid(specials(dtype), specials(dtype))
    return grid[0].ravel(), grid[1].ravel()


def mp_power(x: float, y: float) -> tuple[float, float]:
    value = mp.mpf(x) ** mp.mpf(y)
    high = float(value)
    return high, float(value - high) if math.isfinite(high) else 0.0


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_power_where_the_result_is_in_range(dtype: DType) -> None:
    rng = np.random.default_rng(7)
    x = np.abs(every_exponent(dtype, 1, 3))
    x = x[np.isfinite(x) & (x > 0)][:: 1 if dtype is float32 else 8]
    near = rng.uniform(0.9, 1.1, 300).astype(dtype.numpy)
    x = np.concatenate([x, near, np.nextafter(np.ones(20, dtype.numpy), near[:20])])
    x = x[x != 1]
    limit = np.finfo(dtype.numpy).maxexp + np.finfo(dtype.numpy).nmant
    y = (rng.uniform(-limit, limit, x.size) / np.log2(x.astype(np.float64))).astype(dtype.numpy)
    with mp.workdps(40):
        values = [mp_power(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    high, low = np.array(values).T
    for fused in (True, False):
        error = ulps(run("pow", dtype, x, y, fused=fused), high, low, dtype)
        assert error.max() <= (0.51 if dtype is float32 else 1.1), (x[error.argmax()], error.max())


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("name", ["pow", "atan2", "hypot", "copysign", "nextafter", "fmod"])
def test_special_pairs_equal_numpy(name: str, dtype: DType) -> None:
    x, y = pairs(dtype)
    with np.errstate(all="ignore"):
        expected = np.asarray(scalars.ROWS[name].meaning(x, y))
    got = run(name, dtype, x, y)
    same = (got == expected) & (np.signbit(got) == np.signbit(expected))
    with np.errstate(all="ignore"):
        close = np.abs(got / 2 - expected / 2) <= np.spacing(np.abs(expected / 2))
    finite = np.isfinite(got) & np.isfinite(expected) & (expected != 0)
    good = same | (np.isnan(got) & np.isnan(expected)) | (finite & close)
    assert good.all(), [(a, b) for a, b in zip(x[~good], y[~good], strict=True)]


def test_powers_that_are_exact() -> None:
    x, y = np.meshgrid(np.arange(1.0, 40.0), np.arange(0.0, 9.0))
    assert np.array_equal(run("pow", float64, x, y), x**y)
    assert np.array_equal(run("pow", float64, x * x, y * 0 + 0.5), x)


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("name", ["fmod", "mod", "floordiv"])
def test_remainders_are_exact(name: str, dtype: DType) -> None:
    rng = np.random.default_rng(11)
    x = every_exponent(dtype, 1, 5)
    y = rng.permutation(every_exponent(dtype, 1, 6))
    whole = rng.integers(-20, 20, 500).astype(dtype.numpy)
    special = pairs(dtype)
    x = np.concatenate([x, x, whole, special[0]])
    y = np.concatenate([y, rng.uniform(-3, 3, y.size).astype(dtype.numpy), whole[::-1], special[1]])
    with np.errstate(all="ignore"):
        expected = scalars.ROWS[name].meaning(x, y)
    for fused in (True, False):
        got = run(name, dtype, x, y, fused=fused)
        same = (got == expected) & (np.signbit(got) == np.signbit(expected))
        good = same | (np.isnan(got) & np.isnan(expected))
        assert good.all(), [(a, b) for a, b in zip(x[~good], y[~good], strict=True)][:5]


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_atan2_and_hypot(dtype: DType) -> None:
    rng = np.random.default_rng(3)
    y, x = every_exponent(dtype, 1, 8), rng.permutation(every_exponent(dtype, 1, 9))
    y = np.concatenate([y, rng.uniform(-3, 3, 4000).astype(dtype.numpy)])
    x = np.concatenate([x, rng.uniform(-3, 3, 4000).astype(dtype.numpy)])
    for name, bound in (("atan2", 1.6), ("hypot", 1.0)):
        if dtype is float32:
            with np.errstate(all="ignore"):
                high = scalars.ROWS[name].meaning(y.astype(np.float64), x.astype(np.float64))
            low = np.zeros_like(high)
        else:
            keep = np.isfinite(x) & np.isfinite(y)
            x, y = x[keep][::3], y[keep][::3]
            function = mp.atan2 if name == "atan2" else mp.hypot
            with mp.workdps(40):
                values = [function(mp.mpf(a), mp.mpf(b)) for a, b in zip(y, x, strict=True)]
            high = np.array([float(v) for v in values])
            rest = [
                float(v - mp.mpf(h)) if math.isfinite(h) else 0.0
                for v, h in zip(values, high, strict=True)
            ]
            high = np.where(high == 0, np.copysign(high, y), high) if name == "atan2" else high
            low = np.array(rest)
        error = ulps(run(name, dtype, y, x), high, low, dtype)
        at = int(error.argmax())
        assert error[at] <= bound, (name, y[at], x[at], error[at])


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_logaddexp(dtype: DType) -> None:
    x, y = pairs(dtype)
    rng = np.random.default_rng(4)
    x = np.concatenate([x, rng.uniform(0, 90, 500).astype(dtype.numpy)])
    y = np.concatenate([y, rng.uniform(-90, 90, 500).astype(dtype.numpy)])
    with np.errstate(all="ignore"):
        expected = np.logaddexp(x, y)
        close = np.abs(run("logaddexp", dtype, x, y) - expected) <= 2 * np.spacing(np.abs(expected))
        same = run("logaddexp", dtype, x, y) == expected
    assert (close | same | np.isnan(expected)).all()


# ------------------------------------------------------------------------------------- integers


@pytest.mark.parametrize("dtype", [int8, uint8, int32, int64, uint64], ids=lambda d: d.name)
def test_integer_power(dtype: DType) -> None:
    info = np.iinfo(dtype.numpy)
    bases = [b for b in (-7, -2, -1, 0, 1, 2, 3, 10, info.max, info.min) if b >= info.min]
    exponents = [
        e for e in (-3, -2, -1, 0, 1, 2, 5, 17, 63, 64, info.max) if info.min <= e <= info.max
    ]
    points = list(itertools.product(bases, exponents))

    def power(base: int, exponent: int) -> int:
        if exponent < 0:
            return base**exponent if abs(base) == 1 else 0
        return pow(base, exponent, 2**dtype.bits)

    expected = np.array([int(power(b, e)) % 2**dtype.bits for b, e in points], np.uint64)
    x, y = (np.array(v, dtype.numpy) for v in zip(*points, strict=True))
    assert np.array_equal(run("pow", dtype, x, y), expected.astype(dtype.numpy))


@pytest.mark.parametrize(
    "dtype", [d for d in ALL if d.kind != "c" and not d.is_half], ids=lambda d: d.name
)
@pytest.mark.parametrize("name", ["sign", "isnan", "isinf", "isfinite", "square", "signbit"])
def test_plain_rows_equal_numpy(name: str, dtype: DType) -> None:
    if dtype.is_float:
        x = specials(dtype)
    elif dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        x = np.array([info.min, info.max, 0, 1, 2, info.max - 1], dtype.numpy)
    else:
        x = np.array([False, True])
        if name == "square":
            pytest.skip("a bool has no product")
    with np.errstate(all="ignore"):
        expected = scalars.ROWS[name].meaning(x)
    np.testing.assert_array_equal(run(name, dtype, x), expected)
