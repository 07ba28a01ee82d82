"""Random calls of every function of the standard here and in array_api_strict, which follows it.

Dtypes, shapes, values and errors must be the same. RABBET_FUZZ_SEED chooses other calls,
RABBET_STRICT_CALLS how many of each there are.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from tests.array_api.arguments import Draw
from tests.array_api.calls import Call, perform
from tests.array_api.calls_arrays import ARRAYS
from tests.array_api.calls_dtypes import DTYPES
from tests.array_api.calls_elementwise import ELEMENTWISE
from tests.array_api.calls_linalg import LINALG

strict = pytest.importorskip("array_api_strict")

FEW = int(os.environ.get("RABBET_STRICT_CALLS", "4"))
MANY = 150
FIRST = int(os.environ.get("RABBET_FUZZ_SEED", "261123")) * 100_000
CALLS = {**ELEMENTWISE, **ARRAYS, **LINALG, **DTYPES}
FACTORS = ("linalg.svd", "linalg.eigh", "linalg.qr")  # unique up to signs
ANY_ZERO = ("max", "min", "maximum", "minimum", "sign", "sort", "clip")  # of either sign
ANY_ZERO += (
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "matmul",
    "vecdot",
    "tensordot",
)
ROUGH = ("pow", "operator pow")
CREATING = (
    *("zeros", "ones", "full", "arange", "linspace", "eye", "asarray"),
    *("fft.fftfreq", "fft.rfftfreq"),
)
SINGLE = {"float64": "float32", "complex128": "complex64"}
# What complex arithmetic is exact of, infinities included.
PARTWISE = ("conj", "real", "imag", "add", "subtract", "negative", "positive", "isnan", "isinf")


def differ(name: str, call: Call, found: Any, wanted: Any) -> str:
    """What is wrong with `found`; "" if nothing is."""
    if isinstance(found, Exception) or isinstance(wanted, Exception):
        return _errors_differ(found, wanted)
    if isinstance(wanted, tuple):
        if not isinstance(found, tuple) or len(found) != len(wanted):
            return f"{found} is not {wanted}"
        pairs = zip(found, wanted, strict=True)
        return next((d for f, w in pairs if (d := differ(name, call, f, w))), "")
    if not isinstance(wanted, np.ndarray):
        is_bool = isinstance(found, bool) is isinstance(wanted, bool)
        same = is_bool and isinstance(found, type(wanted)) and (found == wanted or found != found)
        return "" if same else f"{found!r} is not {wanted!r}"
    if name in CREATING and "dtype" not in call.kwargs:  # default dtypes are a library's own
        with np.errstate(over="ignore"):
            wanted = wanted.astype(SINGLE.get(wanted.dtype.name, wanted.dtype))
    if not isinstance(found, np.ndarray) or found.dtype != wanted.dtype:
        return f"dtype {getattr(found, 'dtype', type(found))} is not {wanted.dtype}"
    if found.shape != wanted.shape:
        return f"shape {found.shape} is not {wanted.shape}"
    if name in FACTORS and wanted.ndim > 1:
        return ""
    return _values_differ(name, call, found, wanted)


def _errors_differ(found: Any, wanted: Any) -> str:
    if not isinstance(found, Exception):
        return f"no error but {type(wanted).__name__}: {wanted} is wanted"
    if not isinstance(wanted, Exception):
        return f"{type(found).__name__}: {found}"
    for kind in (TypeError, IndexError):
        if isinstance(wanted, kind) and not isinstance(found, (kind, ValueError)):
            return f"{type(found).__name__} is no {kind.__name__}"
    return ""


def _values_differ(name: str, call: Call, found: np.ndarray, wanted: np.ndarray) -> str:
    if wanted.dtype.kind not in "fc":
        wrong = found != wanted
        return f"{found[wrong][:3]} is not {wanted[wrong][:3]}" if wrong.any() else ""
    if wanted.dtype.kind == "c" and name in ELEMENTWISE and name not in PARTWISE:
        found, wanted = np.atleast_1d(found), np.atleast_1d(wanted)
        there = _tame(call, found, wanted, 30 if name in ROUGH else 1e15)
        found, wanted = found[there], wanted[there]
    whole = name.startswith(("linalg", "fft"))
    with np.errstate(all="ignore"):
        size = np.where(np.isfinite(wanted), np.abs(wanted), 0)
        size = size.max(initial=1) if whole else size
        limits = np.finfo(wanted.dtype)
        steps = 4000 if whole or name in ROUGH and wanted.dtype.kind == "c" else 64
        near = steps * float(limits.eps) * size + 2 * float(limits.tiny)
        if name == "log1p" and wanted.dtype.kind == "c":
            near += 2 * float(limits.eps)  # the other's is log(1 + x)
        parts = [(found, wanted)]
        if wanted.dtype.kind == "c":
            parts = [(found.real, wanted.real), (found.imag, wanted.imag)]
        for f, w in parts:
            right = (f == w) | (np.isnan(f) & np.isnan(w)) | (np.abs(f - w) <= near)
            if not right.all():
                return f"{f[~right][:3]} is not {w[~right][:3]}"
            if not whole and wanted.dtype.kind == "f" and name not in ANY_ZERO:
                signs = (f == 0) & (w == 0) & (np.signbit(f) != np.signbit(w))
                if signs.any():
                    return f"{f[signs][:3]} is not {w[signs][:3]}"
    return ""


def _tame(call: Call, found: np.ndarray, wanted: np.ndarray, most: float) -> np.ndarray:
    """Where nothing overflows or vanishes: products of complex numbers may do so on the way."""
    there = np.isfinite(found) & np.isfinite(wanted) & (wanted != 0)
    with np.errstate(all="ignore"):
        for x in call.args:
            size = np.abs(np.asarray(x, np.complex128))
            there = there & (size < most) & ((size > 1e-15) | (size == 0))
    return there


def compare(name: str, seeds: range) -> None:
    """The calls of a function by these seeds."""
    for seed in seeds:
        call = CALLS[name](Draw(seed))
        with strict.ArrayAPIStrictFlags(api_version="2024.12"):
            wanted = perform(strict, call)
        difference = differ(name, call, perform(rb, call), wanted)
        if difference:
            pytest.fail(f"seed {seed}: {call}\n{difference}", pytrace=False)


@pytest.mark.parametrize("name", CALLS)
def test_some_calls(name: str) -> None:
    compare(name, range(FIRST, FIRST + FEW))


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_many_calls(name: str) -> None:
    compare(name, range(FIRST + FEW, FIRST + FEW + MANY))
