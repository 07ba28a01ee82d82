"""The standard's functions against NumPy, which follows it: dtypes, shapes, special cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from tests.array_api.draws import INTEGERS, REAL, REAL_FLOATS, agree

BITS = ("bool", *INTEGERS)
ALL = ("bool", *REAL)

UNARY = {
    **dict.fromkeys(("abs", "negative", "sign", "square"), REAL),
    **dict.fromkeys(("ceil", "floor", "round", "trunc"), REAL),
    **dict.fromkeys(("isfinite", "isinf", "isnan"), REAL),
    **dict.fromkeys(
        ("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh"), REAL_FLOATS
    ),
    **dict.fromkeys(("exp", "expm1", "log", "log10", "log1p", "log2", "reciprocal"), REAL_FLOATS),
    **dict.fromkeys(("signbit", "sin", "sinh", "sqrt", "tan", "tanh"), REAL_FLOATS),
    "positive": REAL,
    "bitwise_invert": BITS,
    "logical_not": ("bool",),
}
BINARY = {
    **dict.fromkeys(("add", "multiply", "subtract"), REAL),
    **dict.fromkeys(("maximum", "minimum", "pow", "floor_divide", "remainder"), REAL),
    **dict.fromkeys(
        ("atan2", "copysign", "divide", "hypot", "logaddexp", "nextafter"), REAL_FLOATS
    ),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), BITS),
    **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift"), INTEGERS),
    **dict.fromkeys(("equal", "not_equal"), ALL),
    **dict.fromkeys(("greater", "greater_equal", "less", "less_equal"), REAL),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), ("bool",)),
}
FLOAT_VALUES = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -7.0, 1e10, -1e10, 3e38, 1e-38),
    *(float("inf"), float("-inf"), float("nan"), 0.1, 88.0, -104.0),
)


def values(dtype: str) -> np.ndarray:
    """Numbers of a dtype at which functions are special."""
    if dtype == "bool":
        return np.array([False, True])
    if dtype in REAL_FLOATS:
        return np.array(FLOAT_VALUES, dtype)
    limits = np.iinfo(dtype)
    some = [v for v in (-8, -3, -2, -1, 0, 1, 2, 3, 5, 7, 64) if limits.min <= v <= limits.max]
    return np.array([*some, limits.min, limits.max, limits.max - 1], dtype)


def near(found: Any, wanted: Any, steps: int = 4, zeros: bool = True) -> None:
    """Agreement but for the last bits of what functions and sums round otherwise."""
    agree(found, wanted, zeros=zeros, steps=steps)


def both(name: str, arrays: list[Any], *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """The function here and in the oracle, on the same arrays (NumPy arrays become tensors)."""

    def run(xp: Any) -> Any:
        given = [xp.asarray(a) if isinstance(a, np.ndarray | np.generic) else a for a in arrays]
        with np.errstate(all="ignore"):
            return getattr(xp, name)(*given, *args, **kwargs)

    return run(rb), run(np)


def cases(table: dict[str, tuple[str, ...]]) -> list[Any]:
    return [pytest.param(n, d, id=f"{n}-{d}") for n, kinds in table.items() for d in kinds]


@pytest.mark.parametrize(("name", "dtype"), cases(UNARY))
def test_unary(name: str, dtype: str) -> None:
    near(*both(name, [values(dtype)]))


def test_binary_table_is_whole() -> None:
    assert not {n for n in (*UNARY, *BINARY) if not hasattr(np, n)}


@pytest.mark.parametrize(("name", "dtype"), cases(BINARY))
def test_binary(name: str, dtype: str) -> None:
    x = values(dtype)
    y = np.clip(x, 0, 7) if "shift" in name else x
    if dtype in INTEGERS and name in ("floor_divide", "remainder"):
        y = y[y != 0]  # the standard leaves division by zero open
    if name == "floor_divide":  # NumPy gives Python's results for infinities, not x / y
        x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    if dtype in INTEGERS and name == "pow":
        y = y[(y >= 0) & (y < 8)]
    # Which zero is the larger is left open, too.
    zeros = name not in ("maximum", "minimum")
    near(*both(name, [x[:, None], y[None, :]]), steps=40, zeros=zeros)


def promotes(first: str, second: str) -> bool:
    """Does the standard's table have a dtype for both?"""
    kinds = {np.dtype(first).kind, np.dtype(second).kind}
    if "f" in kinds or "b" in kinds:
        return len(kinds) == 1
    return not (kinds == {"i", "u"} and "uint64" in (first, second))


@pytest.mark.parametrize("name", BINARY)
def test_promotion(name: str) -> None:
    kinds = BINARY[name]
    for first in kinds:
        for second in kinds:
            if promotes(first, second):
                near(*both(name, [np.ones(2, first), np.ones(2, second)]))


@pytest.mark.parametrize("name", BINARY)
def test_python_numbers(name: str) -> None:
    for dtype in BINARY[name]:
        number = True if dtype == "bool" else 2 if dtype in INTEGERS else 2.5
        x = np.ones(3, dtype)
        near(*both(name, [x, number]))
        near(*both(name, [number, x]))


# ---- reductions ----------------------------------------------------------------------------------

REDUCTIONS = {
    **dict.fromkeys(("sum", "prod", "max", "min"), REAL),
    **dict.fromkeys(("mean", "std", "var"), REAL_FLOATS),
    **dict.fromkeys(("all", "any", "count_nonzero"), ALL),
}


@pytest.mark.parametrize(("name", "dtype"), cases(REDUCTIONS))
def test_reductions(rng: np.random.Generator, name: str, dtype: str) -> None:
    for shape in ((), (1,), (5,), (3, 4), (2, 3, 2)):
        x = np.asarray(rng.random(shape) * 3).astype(dtype)
        for axis in (None, *range(-len(shape), len(shape)), (), tuple(range(len(shape)))[:2]):
            for keepdims in (False, True):
                near(*both(name, [x], axis=axis, keepdims=keepdims), steps=40)


@pytest.mark.parametrize("name", ["sum", "prod", "all", "any", "count_nonzero"])
def test_reductions_of_nothing(name: str) -> None:
    for shape, axis in (((0,), None), ((0, 3), 0), ((3, 0), 1), ((0, 3), 1)):
        near(*both(name, [np.zeros(shape, "float32")], axis=axis))


def test_dtype_and_correction() -> None:
    x = np.array([[1, 2, 4], [3, 5, 9]], np.float64)
    for correction in (0, 1, 0.5):
        for name in ("std", "var"):
            near(*both(name, [x], axis=1, correction=correction))
    for name in ("sum", "prod", "cumulative_sum", "cumulative_prod"):
        for dtype in REAL:
            found = getattr(rb, name)(rb.asarray([1, 2], dtype=rb.int8), dtype=getattr(rb, dtype))
            assert found.dtype.name == dtype


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "prod"])
def test_reductions_of_special_numbers(name: str) -> None:
    inf, nan = np.inf, np.nan
    for row in ([1, nan], [inf, 1], [-inf, inf], [-inf, 3], [0.0, inf], [-0.0, -0.0], [nan, inf]):
        near(*both(name, [np.array(row)]), zeros=False)


@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
@pytest.mark.parametrize("dtype", REAL)
def test_cumulative(name: str, dtype: str) -> None:
    x = np.array([[1, 2, 3], [4, 1, 2]], dtype)
    for axis in (0, 1, -1):
        for initial in (False, True):
            near(*both(name, [x], axis=axis, include_initial=initial))
    near(*both(name, [x[0]]))


# ---- moving elements -----------------------------------------------------------------------------

MOVES: list[tuple[str, tuple[int, ...], tuple[Any, ...], dict[str, Any]]] = [
    *[("expand_dims", (2, 3), (), {"axis": a}) for a in (0, 1, 2, -1, -3)],
    *[("flip", (2, 3), (), {"axis": a}) for a in (None, 0, -1, (0, 1))],
    ("flip", (), (), {}),
    ("moveaxis", (2, 3, 4), (0, -1), {}),
    ("moveaxis", (2, 3, 4), ((0, 1), (2, 0)), {}),
    *[("permute_dims", (2, 3, 4), ((2, 0, 1),), {}), ("permute_dims", (), ((),), {})],
    *[("repeat", (2, 3), (2,), {"axis": a}) for a in (None, 0, -1)],
    ("repeat", (2, 3), (np.array([1, 0, 2]),), {"axis": 1}),
    *[("reshape", (2, 6), (s,), {}) for s in ((3, 4), (-1,), (2, -1, 3))],
    *[("reshape", (2, 6), ((12,),), {"copy": c}) for c in (None, True)],
    *[("reshape", (0, 3), ((3, 0),), {}), ("reshape", (1,), ((),), {})],
    *[("roll", (2, 3), (s,), {"axis": a}) for s, a in ((1, None), (-2, 1), ((1, 5), (0, 1)))],
    ("roll", (0, 3), (2,), {"axis": 0}),
    *[("squeeze", (1, 2, 1), (a,), {}) for a in (0, -1, (0, 2))],
    *[("tile", (2, 3), (r,), {}) for r in ((2,), (2, 1), (1, 2, 3), (0,))],
    *[("tril", (3, 4), (), {"k": k}) for k in (-1, 0, 2)],
    *[("triu", (2, 3, 4), (), {"k": k}) for k in (-1, 0, 2)],
    *[("broadcast_to", (3, 1), (s,), {}) for s in ((3, 4), (2, 3, 4), (3, 0))],
    ("matrix_transpose", (2, 3, 4), (), {}),
    *[("unstack", (2, 3), (), {"axis": a}) for a in (0, 1, -1)],
    *[("diff", (3, 4), (), {"axis": a, "n": n}) for a in (0, -1) for n in (0, 1, 2)],
    ("take", (4,), (np.array([2, 0, 0]),), {}),
    *[("take", (3, 4), (np.array([2, 0]),), {"axis": a}) for a in (0, 1, -1)],
    ("take_along_axis", (3, 4), (np.array([[2, 0]] * 3),), {}),
    ("take_along_axis", (3, 4), (np.array([[2, 0, 1, 1]]),), {"axis": 0}),
]


@pytest.mark.parametrize(("name", "shape", "args", "kwargs"), MOVES)
def test_moves(name: str, shape: Any, args: Any, kwargs: Any) -> None:
    for dtype in ("int16", "float64", "bool"):
        if name == "diff" and dtype == "bool":
            continue
        x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        near(*both(name, [x, *args], **kwargs))


def test_several_arrays() -> None:
    a, b = np.ones((2, 3), np.float32), np.zeros((4, 3), np.float64)
    for xp in (rb, np):
        assert xp.concat([xp.asarray(a), xp.asarray(b)]).dtype == xp.float64

    def run(xp: Any) -> list[Any]:
        x, y, v = xp.asarray(a), xp.asarray(b), xp.asarray(np.arange(3))
        return [
            xp.concat([x, y], axis=0),
            xp.concat([x, y], axis=None),
            xp.stack([x, x], axis=-1),
            *xp.broadcast_arrays(x, xp.asarray(np.ones((2, 1)))),
            *xp.meshgrid(v, xp.asarray(np.arange(2))),
            *xp.meshgrid(v, xp.asarray(np.arange(2)), indexing="ij"),
            xp.where(xp.asarray([True, False, True]), x, 3.0),
            xp.where(xp.asarray([True, False, True]), 2, v),
            xp.clip(v, 1, 2),
            xp.clip(v, xp.asarray([1, 0, 5]), None),
            xp.clip(x, max=0.5),
            xp.diff(v, prepend=xp.asarray([7]), append=xp.asarray([8, 9])),
            xp.tensordot(x, y, axes=((1,), (1,))),
            xp.tensordot(x, xp.asarray(np.ones((3, 2), np.float32)), axes=1),
            xp.tensordot(x, x, axes=0),
            xp.vecdot(x, xp.asarray(np.ones(3))),
            xp.vecdot(x, x, axis=-2),
            xp.matmul(x, xp.asarray(np.ones(3, np.float32))),
            xp.matmul(v, v),
            xp.matmul(xp.asarray(np.ones((5, 1, 2, 3))), xp.asarray(np.ones((4, 3, 2)))),
        ]

    near(run(rb), run(np))


# ---- creation ------------------------------------------------------------------------------------


def test_creation() -> None:
    def run(xp: Any) -> list[Any]:
        like = xp.asarray(np.ones((2, 3), np.int16))
        return [
            *[xp.arange(*a, dtype=xp.int32) for a in ((5,), (2, 7), (7, 2, -2), (3, 3))],
            *[xp.arange(*a, dtype=xp.float64) for a in ((0.0, 1.0, 0.25), (1, -1, -0.5))],
            *[
                xp.eye(*a, k=k, dtype=xp.float32)
                for a in ((3,), (2, 4), (4, 2))
                for k in (-1, 0, 1)
            ],
            *[xp.linspace(0, 1, n, dtype=xp.float64) for n in (0, 1, 2, 5)],
            xp.linspace(-1.0, 2.0, 7, dtype=xp.float32, endpoint=False),
            *[xp.full(s, 3, dtype=xp.uint8) for s in ((), 2, (2,), (2, 0))],
            *[f(s, dtype=xp.float32) for f in (xp.zeros, xp.ones) for s in ((), 3, (2, 3))],
            *[f(like) for f in (xp.zeros_like, xp.ones_like)],
            xp.full_like(like, 7),
            xp.full_like(like, 1.5, dtype=xp.float64),
            xp.asarray(True),
            xp.asarray([[1, 2], [3, 4]], dtype=xp.int8),
        ]

    near(run(rb), run(np))


# ---- searching, sorting, sets --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", REAL)
def test_order(rng: np.random.Generator, dtype: str) -> None:
    for shape in ((7,), (3, 5), (2, 3, 4), (1,), (0, 2)):
        x = (rng.random(shape) * 6 - (2 if dtype[0] != "u" else 0)).astype(dtype)
        for axis in range(-1, len(shape)):
            order = np.argsort(x, axis, stable=True)
            backward = x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis, stable=True)
            for found, descending in ((order, False), (np.flip(backward, axis), True)):
                given = {"axis": axis, "descending": descending}
                near(rb.argsort(rb.asarray(x), **given), found)
                near(rb.sort(rb.asarray(x), **given), np.take_along_axis(x, found, axis))
            if x.size:
                for name in ("argmax", "argmin"):
                    near(*both(name, [x], axis=axis, keepdims=axis == 0))
        if x.size:
            near(*both("argmax", [x]))
            near(*both("nonzero", [x]))
        for name in ("unique_all", "unique_counts", "unique_inverse"):
            near(*both(name, [x]))
        near(rb.unique_values(rb.asarray(x)), np.unique(x))


@pytest.mark.parametrize("dtype", REAL)
def test_searchsorted(rng: np.random.Generator, dtype: str) -> None:
    x = (rng.random(20) * 10).astype(dtype)
    for side in ("left", "right"):
        line = np.sort(x)
        near(*both("searchsorted", [line, x], side=side))
        near(*both("searchsorted", [line, x.reshape(4, 5)], side=side))
        given = {"sorter": np.argsort(x)}
        found = rb.searchsorted(rb.asarray(x), rb.asarray(x), side=side, sorter=given["sorter"])
        np.testing.assert_array_equal(found.numpy(), np.searchsorted(line, x, side))


# ---- dtypes --------------------------------------------------------------------------------------


def test_dtype_functions() -> None:
    for first in ALL:
        for second in ALL:
            ours, theirs = getattr(rb, first), getattr(np, second)
            if promotes(first, second):
                found = rb.result_type(ours, getattr(rb, second))
                assert found.name == np.result_type(getattr(np, first), theirs).name
                assert rb.can_cast(ours, getattr(rb, second)) == np.can_cast(
                    getattr(np, first), theirs
                )
        for kind in ("bool", "signed integer", "integral", "real floating", "numeric"):
            assert rb.isdtype(getattr(rb, first), kind) == np.isdtype(getattr(np, first), kind)
    for name in REAL_FLOATS:
        ours, theirs = rb.finfo(getattr(rb, name)), np.finfo(getattr(np, name))
        for field in ("bits", "eps", "max", "min", "smallest_normal"):
            assert getattr(ours, field) == getattr(theirs, field)
    for name in INTEGERS:
        ours, theirs = rb.iinfo(getattr(rb, name)), np.iinfo(getattr(np, name))
        assert (ours.bits, ours.max, ours.min) == (theirs.bits, theirs.max, theirs.min)
    for source in ALL:
        for target in ALL:
            x = np.array([0, 1, 3], source)
            found = rb.astype(rb.asarray(x), getattr(rb, target))
            near(found, np.astype(np.asarray(x), getattr(np, target)))


# ---- indexing ------------------------------------------------------------------------------------

KEYS: list[Any] = [
    *(0, -1, (1, 2), (..., 1), (0, ...), slice(None), (slice(None), 1)),
    *((slice(1, None), slice(None, -1)), (slice(None, None, -1), slice(None, None, 2)), None),
    *((None, 0), (0, None, slice(2)), (..., None), (slice(5, 9), slice(1)), (slice(3, 1),)),
    *((..., slice(-1, -5, -2)), ()),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing(key: Any) -> None:
    x = np.arange(24, dtype=np.int64).reshape(4, 6)
    np.testing.assert_array_equal(rb.asarray(x)[key].numpy(), x[key])
    assert rb.asarray(x)[key].shape == x[key].shape
    for value in (7, np.arange(x[key].size).reshape(x[key].shape)):
        t, y = rb.asarray(x), x.copy()
        y[key] = value
        t[key] = rb.asarray(value)
        np.testing.assert_array_equal(t.numpy(), y)
