"""Arrays, axes and keys for the generated tests of the array API, drawn by Hypothesis.

Arrays are NumPy's; `both` gives them to a function here and in NumPy, which follows the standard.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rabbet as rb

EXAMPLES = int(os.environ.get("RABBET_ARRAY_EXAMPLES", "10"))
few = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = (*SIGNED, *UNSIGNED)
REAL_FLOATS = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
FLOATS = (*REAL_FLOATS, *COMPLEX)
REAL = (*INTEGERS, *REAL_FLOATS)
NUMERIC = (*REAL, *COMPLEX)
ALL = ("bool", *NUMERIC)

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def dtypes(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(names)


def arrays(
    names: tuple[str, ...] = ALL, shape: Any = shapes, **elements: Any
) -> st.SearchStrategy[np.ndarray]:
    """Arrays of any of the dtypes, specials included unless `elements` says otherwise."""
    return dtypes(names).flatmap(
        lambda d: hnp.arrays(
            d, shape, elements=hnp.from_dtype(np.dtype(d), **elements) if elements else None
        )
    )


def promotable(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, str]]:
    """Pairs of dtypes for which the standard's table has a result."""
    pairs = [(a, b) for a in names for b in names if promotes(a, b)]
    return st.sampled_from(pairs)


def promotes(first: str, second: str) -> bool:
    """Does the standard's table have a dtype for both? Kinds do not mix but for the integers'."""
    a, b = np.dtype(first).kind, np.dtype(second).kind
    if a == b:
        return True
    return {a, b} == {"i", "u"} and "uint64" not in (first, second)


@st.composite
def pairs(draw: Any, names: tuple[str, ...], in_place: bool = False) -> tuple[Any, Any]:
    """Two arrays that promote and broadcast; `in_place`: to dtype and shape of the first."""
    first, second = draw(promotable(names))
    if in_place and np.result_type(first, second) != np.dtype(first):
        first, second = second, first
        if np.result_type(first, second) != np.dtype(first):
            second = first
    drawn = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4))
    one, two = drawn.input_shapes
    if in_place and np.broadcast_shapes(one, two) != one:
        one = np.broadcast_shapes(one, two)
    return draw(hnp.arrays(first, one)), draw(hnp.arrays(second, two))


def axes(ndim: int) -> st.SearchStrategy[Any]:
    """None, an axis, or several."""
    if not ndim:
        return st.none()
    one = st.integers(-ndim, ndim - 1)
    return st.none() | one | hnp.valid_tuple_axes(ndim)


def tensor(x: Any) -> Any:
    return rb.asarray(x) if isinstance(x, np.ndarray | np.generic) else x


def both(function: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """function(library, *args) here and in NumPy."""
    with np.errstate(all="ignore"):
        return function(rb, *(tensor(a) for a in args)), function(np, *args)


def agree(found: Any, wanted: Any, close: float = 0.0, zeros: bool = True, steps: int = 0) -> None:
    """The same dtype, shape and values; all NaN are alike.

    Floats may differ by a relative error of `close`, or of `steps` times the dtype's epsilon.
    `zeros`: a zero has the sign of NumPy's (not asked where `close` is given).
    """
    if isinstance(wanted, tuple | list):
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted, strict=True):
            agree(f, w, close, zeros, steps)
        return
    want = np.asarray(wanted)
    assert isinstance(found, rb.Tensor)
    assert found.dtype.name == want.dtype.name, (found.dtype, want.dtype)
    assert found.shape == want.shape, (found.shape, want.shape)
    have = found.numpy()
    if want.dtype.kind not in "fc":
        np.testing.assert_array_equal(have, want)
        return
    limits = np.finfo(want.dtype)
    error = max(close, steps * float(limits.eps))
    parts = [(have, want)]
    if want.dtype.kind == "c":
        parts = [(have.real, want.real), (have.imag, want.imag)]
    for h, w in parts:
        with np.errstate(all="ignore"):
            size = np.where(np.isfinite(want), np.abs(want), 0)
            near = np.abs(h - w) <= error * size + limits.tiny * (close > 0)
        same = (h == w) | (np.isnan(h) & np.isnan(w)) | near
        assert same.all(), f"{h[~same][:3]} instead of {w[~same][:3]}"
        if zeros and not close:
            signs = (w == 0) & (np.signbit(h) != np.signbit(w))
            assert not signs.any(), "a zero has the wrong sign"
