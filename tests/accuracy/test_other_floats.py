"""float16 and bfloat16, every number of them, and float64 against mpmath."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import mpmath as mp
import numpy as np
import pytest

import rabbet as rb
from tools import math_functions as functions

# Several ops, each of which is rounded; what depends on the dtype.
EXCEPT = {"rrelu", "nan_to_num"}
HALVES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", sorted(set(functions.FUNCTIONS) - EXCEPT))
def test_every_half_is_float32_rounded_once(name: str, dtype: str) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(HALVES[dtype])
    call = functions.function(name)
    found = call(rb.asarray(x)).numpy()
    with np.errstate(all="ignore"):
        wanted = call(rb.asarray(x.astype(np.float32))).numpy().astype(found.dtype)
    both_nan = np.isnan(found.astype(np.float32)) & np.isnan(wanted.astype(np.float32))
    raw = np.uint8 if found.dtype == bool else np.uint16
    same = found.view(raw) == wanted.view(raw)
    assert (same | both_nan).all(), x[~(same | both_nan)][:5]


Real = Callable[[mp.mpf], mp.mpf]


def _gate(share: Real) -> Real:
    return lambda x: x * share(x)


def _tanh_share(x: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.exp(-mp.sqrt(8 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))


# Function, from, to: where the result is neither 0 nor infinite. Rows of the scalar table have
# tests of their own.
EXACT: dict[str, tuple[Real, float, float]] = {
    "erfc": (mp.erfc, -6, 26),
    "erfcx": (lambda x: mp.exp(x * x) * mp.erfc(x), -26, 1e4),
    "ndtr": (mp.ncdf, -37, 9),
    "log_ndtr": (lambda x: mp.log(mp.ncdf(x)) if x < 5 else mp.log1p(-mp.ncdf(-x)), -1000, 37),
    "i0": (lambda x: mp.besseli(0, x), -700, 700),
    "i0e": (lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), -1000, 1000),
    "i1": (lambda x: mp.besseli(1, x), -700, 700),
    "i1e": (lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), -1000, 1000),
    "sinc": (lambda x: mp.sinpi(x) / (mp.pi * x), -1e4, 1e4),
    "entr": (lambda x: -x * mp.log(x), 0, 1e300),
    "logit": (lambda x: mp.log(x / (1 - x)), 0, 1),
    "softplus": (lambda x: mp.log1p(mp.exp(x)), -740, 19.9),
    "logsigmoid": (lambda x: -mp.log1p(mp.exp(-x)), -700, 700),
    "silu": (_gate(lambda x: 1 / (1 + mp.exp(-x))), -744, 700),
    "gelu": (_gate(mp.ncdf), -37, 40),
    "gelu_tanh": (_gate(_tanh_share), -21, 30),
    "mish": (_gate(lambda x: mp.tanh(mp.log1p(mp.exp(x)))), -744, 700),
    "softsign": (lambda x: x / (1 + abs(x)), -1e5, 1e5),
    "deg2rad": (lambda x: x * mp.pi / 180, -1e5, 1e5),
    "rad2deg": (lambda x: x * 180 / mp.pi, -1e5, 1e5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_float64_is_within_4_ulp(name: str) -> None:
    exact, low, high = EXACT[name]
    rng = np.random.default_rng(5)
    sizes = [
        np.exp(rng.uniform(np.log(1e-300), np.log(end), 40)) for end in (-low, high) if end > 0
    ]
    parts = [rng.uniform(low, high, 60), sizes[-1], *[-s for s in sizes[:-1]]]
    x = np.concatenate(parts)
    found = functions.function(name)(rb.asarray(x)).numpy()
    with mp.workdps(50):
        for at, got in zip(x.tolist(), found.tolist(), strict=True):
            wanted = exact(mp.mpf(at))
            unit = max(float(np.spacing(abs(float(wanted)))), 5e-324)
            assert abs(mp.mpf(got) - wanted) <= 4 * mp.mpf(unit), (at, got)
