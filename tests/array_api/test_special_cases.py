"""Every special case that the standard lists, in every form in which a function can be called."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from tests.array_api.special_cases import (
    BINARY,
    COMPLEX,
    EVEN,
    ODD,
    TURNED,
    UNARY,
    holds,
    rules,
)

OPERATORS = {
    **{"add": "add", "subtract": "sub", "multiply": "mul", "divide": "truediv", "pow": "pow"},
    **{"floor_divide": "floordiv", "remainder": "mod", "equal": "eq", "not_equal": "ne"},
    **{"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"},
}
MOST = (0.0, 1.0, 0.5, 1.5, 2.0, 2.5, 3.0, 7.0, 1e5, np.inf, np.nan)
VALUES = (*MOST, *(-v for v in MOST))
NAMES = {"pi": np.pi, "inf": np.inf, "nan": np.nan, "np": np, "cos": np.cos, "sin": np.sin}


def operands(dtype: str) -> np.ndarray:
    limits = np.finfo(dtype)
    return np.array([*VALUES, limits.max, -limits.tiny, limits.smallest_subnormal], dtype)


def check(found: np.ndarray, result: str, names: dict[str, Any], where: str) -> None:
    """`found` are results of a rule at the operands `names`."""
    if result in ("+", "-"):
        assert (np.signbit(found) == (result == "-")).all(), f"{where}: {found}"
        return
    either = result.endswith("?")
    with np.errstate(all="ignore"):
        wanted = np.asarray(eval(result.rstrip("?"), {**NAMES, **names}))
    wanted = np.broadcast_to(wanted, found.shape)
    if found.dtype == bool:
        np.testing.assert_array_equal(found, wanted, where)
        return
    signs = (np.abs(found), np.abs(wanted)) if either else (found, wanted)
    np.testing.assert_allclose(*signs, rtol=1e-6, err_msg=where)
    if not either:
        zeros = wanted == 0
        same = np.signbit(found[zeros]) == np.signbit(wanted[zeros])
        assert same.all(), f"{where}: a zero has the wrong sign"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, dtype: str) -> None:
    x = operands(dtype)
    y = getattr(rb, name)(rb.asarray(x)).numpy()
    for (condition,), result in rules(UNARY[name]):
        there = holds(condition, x)
        assert there.any(), condition
        check(y[there], result, {"x1": x[there]}, f"{name} {condition} of {x[there]}")


def forms(name: str, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What a function of two operands gives in each form: called, operators, with numbers."""
    a, b = rb.asarray(x), rb.asarray(y)
    yield name, getattr(rb, name)(a, b).numpy()
    kind = OPERATORS.get(name)
    if kind:
        yield f"__{kind}__", getattr(operator, kind)(a, b).numpy()
        yield (
            f"__r{kind}__",
            getattr(rb.Tensor, f"__r{kind}__", lambda b, a: getattr(rb, name)(a, b))(b, a).numpy(),
        )
    if kind and getattr(rb, name)(a, b).dtype is a.dtype:
        c = rb.asarray(a, copy=True)
        yield f"__i{kind}__", getattr(operator, f"i{kind}")(c, b).numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, dtype: str) -> None:
    some = operands(dtype)
    x, y = (a.ravel() for a in np.meshgrid(some, some))
    for form, found in forms(name, x, y):
        for (first, second), result in rules(BINARY[name]):
            there = holds(first, x) & holds(second, y)
            assert there.any(), (first, second)
            names = {"x1": x[there], "x2": y[there]}
            check(found[there], result, names, f"{form} {first} {second} -> {result} at {names}")


@pytest.mark.parametrize("name", BINARY)
def test_binary_with_numbers(name: str) -> None:
    """Python's numbers on either side stand for arrays of one value."""
    x = operands("float64")
    for number in VALUES:
        same = np.full(x.shape, number)
        t = rb.asarray(x)
        function = getattr(rb, name)
        np.testing.assert_array_equal(function(t, number).numpy(), function(t, rb.asarray(same)))
        np.testing.assert_array_equal(function(number, t).numpy(), function(rb.asarray(same), t))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_signs_of_nan(dtype: str) -> None:
    """`copysign` sets the sign of a NaN, and takes it from one."""
    some = np.array([1.0, -2.0, 0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
    some = np.concatenate([some, np.copysign(some[-1:], -1.0)])
    x, y = (a.ravel() for a in np.meshgrid(some, some))
    found = rb.copysign(rb.asarray(x), rb.asarray(y))
    np.testing.assert_array_equal(np.signbit(found.numpy()), np.signbit(y))
    np.testing.assert_array_equal(rb.signbit(found).numpy(), np.signbit(y))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_must_be_equal(dtype: str) -> None:
    """Sums of opposite numbers are +0; `hypot` and `logaddexp` know no order, `hypot` no signs."""
    x, y = (a.ravel() for a in np.meshgrid(*[operands(dtype)] * 2))
    a, b = rb.asarray(x), rb.asarray(y)
    zeros = (a + -a).numpy()[np.isfinite(x)]
    assert (zeros == 0).all() and not np.signbit(zeros[x[np.isfinite(x)] != 0]).any()
    for pair in ((b, a), (a, -b), (-a, b), (-a, -b)):
        np.testing.assert_array_equal(rb.hypot(*pair).numpy(), rb.hypot(a, b).numpy())
    np.testing.assert_array_equal(rb.logaddexp(a, b).numpy(), rb.logaddexp(b, a).numpy())
    limits = np.finfo(dtype)
    for size in (limits.max / 2, limits.tiny):  # neither overflows nor vanishes on the way
        found = rb.hypot(rb.asarray(size), rb.asarray(size)).numpy()
        np.testing.assert_allclose(found, size * np.sqrt(2.0), 1e-6)


def parts(dtype: str) -> np.ndarray:
    """Complex numbers of all pairs of special parts."""
    real = {"complex64": "float32", "complex128": "float64"}[dtype]
    pairs = list(itertools.product(np.array(VALUES, real), repeat=2))
    return np.array(pairs, real).reshape(-1).view(dtype)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", COMPLEX)
def test_complex(name: str, dtype: str) -> None:
    z = parts(dtype)
    found = getattr(rb, name)(rb.asarray(z)).numpy()
    a, b = z.real, z.imag
    for (first, second), result in rules(COMPLEX[name]):
        there = holds(first, a) & holds(second, b)
        assert there.any(), (first, second)
        names = {"a": a[there], "b": b[there]}
        where = f"{name} {first} {second} -> {result} at {z[there]}"
        pieces = result.split(",") if "," in result else [result]
        values = [found.real, found.imag] if len(pieces) == 2 else [found]
        for value, piece in zip(values, pieces, strict=True):
            check(value[there], piece.strip(), names, where)


def same(found: np.ndarray, wanted: np.ndarray, z: np.ndarray) -> None:
    """Equal, zeros and infinities of any sign where a part of z or of the result is NaN."""
    for f, w in ((found.real, wanted.real), (found.imag, wanted.imag)):
        open_ = np.isnan(found) | ~np.isfinite(z)
        f, w = np.where(open_, np.abs(f), f), np.where(open_, np.abs(w), w)
        np.testing.assert_allclose(f, w, rtol=1e-6)
        assert (np.signbit(f) == np.signbit(w))[f == 0].all()


@pytest.mark.parametrize("name", [n for n in COMPLEX if n not in ("reciprocal", "square", "sign")])
def test_conjugates(name: str) -> None:
    z = parts("complex128")
    function = getattr(rb, name)
    found, wanted = function(rb.asarray(z.conj())).numpy(), function(rb.asarray(z)).numpy().conj()
    if wanted.dtype.kind != "c":
        np.testing.assert_array_equal(found, wanted)
        return
    same(found, wanted, z)
    if name in (*ODD, *EVEN):
        turned = function(rb.asarray(-z)).numpy()
        same(turned if name in EVEN else -turned, function(rb.asarray(z)).numpy(), z)


@pytest.mark.parametrize("name", TURNED)
def test_turned(name: str) -> None:
    """As if implemented as -1j * f(x * 1j), where times 1j exchanges the parts."""
    z = parts("complex128")
    by, back = TURNED[name]
    turned = np.empty_like(z)
    turned.real, turned.imag = -z.imag, z.real
    base = getattr(rb, by)(rb.asarray(turned)).numpy()
    wanted = base.copy()
    if back:
        wanted.real, wanted.imag = base.imag, -base.real
    same(getattr(rb, name)(rb.asarray(z)).numpy(), wanted, z)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("base", [2, 10])
def test_logarithms_of_another_base(base: int, dtype: str) -> None:
    """As if implemented by a change of base, which leaves signs and what is infinite."""
    z = parts(dtype)
    found = getattr(rb, f"log{base}")(rb.asarray(z)).numpy()
    wanted = rb.log(rb.asarray(z)).numpy()
    for f, w in ((found.real, wanted.real), (found.imag, wanted.imag)):
        np.testing.assert_allclose(f, w / np.log(base), rtol=1e-5)
        assert (np.signbit(f) == np.signbit(w))[~np.isnan(w)].all()


def test_clip() -> None:
    some = operands("float64")
    x, low, high = (a.ravel() for a in np.meshgrid(some, some, some))
    found = rb.clip(rb.asarray(x), rb.asarray(low), rb.asarray(high)).numpy()
    nan = np.isnan(x) | np.isnan(low) | np.isnan(high)
    assert np.isnan(found[nan]).all() and not np.isnan(found[~nan]).any()
    ordered = ~nan & (low <= high)
    wanted = np.maximum(np.minimum(x, high), low)
    np.testing.assert_array_equal(found[ordered], wanted[ordered])
    for limits in ((np.nan, None), (None, np.nan), (0.0, np.nan)):
        assert np.isnan(rb.clip(rb.asarray(x), *limits).numpy()).all()
    np.testing.assert_array_equal(rb.clip(rb.asarray(x)).numpy(), x)
