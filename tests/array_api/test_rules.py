"""Rules of the standard that no other library decides: conversions, dtypes, scalars, shapes."""

from __future__ import annotations

import array
import operator
from collections import UserList
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rabbet as rb
from tests.array_api.draws import (
    ALL,
    COMPLEX,
    FLOATS,
    INTEGERS,
    NUMERIC,
    REAL,
    REAL_FLOATS,
    agree,
    few,
    promotes,
    tensor,
)

INF, NAN = float("inf"), float("nan")
TRUTHS = (
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
    *("logical_and", "logical_or", "logical_xor"),
)
TWO: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("add", "subtract", "multiply", "pow"), NUMERIC),
    **dict.fromkeys(("equal", "not_equal"), ALL),
    **dict.fromkeys(("floor_divide", "remainder", "maximum", "minimum"), REAL),
    **dict.fromkeys(TRUTHS[2:6], REAL),
    **dict.fromkeys(TRUTHS[6:], ("bool",)),
    **dict.fromkeys(("atan2", "copysign", "hypot", "logaddexp", "nextafter"), REAL_FLOATS),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), ("bool", *INTEGERS)),
    **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift"), INTEGERS),
    "divide": FLOATS,
}
IN_PLACE = {
    **{"iadd": NUMERIC, "isub": NUMERIC, "imul": NUMERIC, "ipow": NUMERIC, "itruediv": FLOATS},
    **{"ifloordiv": REAL, "imod": REAL, "iand": INTEGERS, "ior": INTEGERS, "ixor": INTEGERS},
    **{"ilshift": INTEGERS, "irshift": INTEGERS},
}


def dtype(name: str) -> Any:
    return getattr(rb, name)


def mixes(first: str, second: str) -> bool:
    """Does the standard's table have a dtype for both? Real with complex floats, too."""
    kinds = {np.dtype(first).kind, np.dtype(second).kind}
    return kinds == {"f", "c"} or promotes(first, second)


# ---- scalars and promotion -----------------------------------------------------------------------


@pytest.mark.parametrize("name", TWO)
def test_scalars_take_the_dtype_of_the_array(name: str) -> None:
    for kind in TWO[name]:
        x = rb.ones((2, 3), dtype=dtype(kind))
        numbers = {"b": [True], "c": [2, 2.5, 1j], "f": [2, 2.5]}.get(np.dtype(kind).kind, [2])
        for number in numbers:
            for pair in ((x, number), (number, x)):
                found = getattr(rb, name)(*pair)
                wanted = rb.bool if name in TRUTHS else x.dtype
                assert (found.dtype, found.shape) == (wanted, (2, 3)), (kind, number)


@pytest.mark.parametrize("kind", INTEGERS)
def test_a_number_outside_the_range_is_an_error_of_its_call(kind: str) -> None:
    """It does not wait for the result to be read, and leaves alone what was recorded before."""
    limits, x = np.iinfo(kind), rb.ones(2, dtype=dtype(kind))
    low, high = int(limits.min), int(limits.max)
    for number in (low, high):
        assert rb.maximum(x, number).tolist() == [max(1, number)] * 2
    before = rb.subtract(x, 1)
    for number in (low - 1, high + 1, 10**5000):
        calls: list[Callable[[], Any]] = [
            *(lambda n=number: x + n, lambda n=number: n - x, lambda n=number: x < n),
            *(lambda n=number: rb.where(x == 1, x, n), lambda n=number: rb.clip(x, n, None)),
        ]
        for call in calls:
            with pytest.raises(rb.NumberRangeError, match=f"range of {kind}"):
                call()
    assert before.tolist() == [0, 0]


def test_integers_beside_floats_are_as_large_as_floats_can_be() -> None:
    x = rb.ones(1, dtype=rb.float64)
    assert (x * 2**100).tolist() == [2.0**100] and (rb.ones(1) * 2**200).tolist() == [INF]
    with pytest.raises(rb.NumberRangeError, match="1101 bits"):
        x * 2**1100


@pytest.mark.parametrize("first", ALL)
def test_promotion_table(first: str) -> None:
    for second in ALL:
        if not mixes(first, second):
            continue
        wanted = np.result_type(first, second).name
        given_all = (dtype(first), dtype(second))
        assert rb.result_type(*given_all).name == wanted
        one, two = (rb.ones(2, dtype=d) for d in given_all)
        assert rb.result_type(one, given_all[1]).name == wanted
        assert rb.concat([one, two]).dtype.name == wanted
        assert rb.where(rb.asarray(True), one, two).dtype.name == wanted
        assert rb.can_cast(*given_all) == rb.can_cast(one, given_all[1]) == (wanted == second)


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_keeps_the_dtype(name: str) -> None:
    for first in IN_PLACE[name]:
        for second in IN_PLACE[name]:
            if not mixes(first, second):
                continue
            x, y = rb.ones((2, 2), dtype=dtype(first)), rb.ones(2, dtype=dtype(second))
            if np.result_type(first, second).name == first:
                assert getattr(operator, name)(x, y) is x and x.dtype.name == first
            else:
                with pytest.raises(TypeError):
                    getattr(operator, name)(x, y)
    row = rb.ones((1, 2), dtype=dtype(IN_PLACE[name][0]))
    with pytest.raises(ValueError):
        getattr(operator, name)(row, rb.ones((3, 2), dtype=row.dtype))


@pytest.mark.parametrize("name", ["sum", "prod", "cumulative_sum", "cumulative_prod", "trace"])
def test_small_integers_are_summed_in_large_ones(name: str) -> None:
    function = rb.linalg.trace if name == "trace" else getattr(rb, name)
    for kind in NUMERIC:
        x = rb.ones((2, 2) if name == "trace" else (3,), dtype=dtype(kind))
        wanted = {"i": "int64", "u": "uint64"}.get(np.dtype(kind).kind, kind)
        assert function(x).dtype.name == wanted
        for other in NUMERIC:
            if np.dtype(kind).kind == np.dtype(other).kind:
                assert function(x, dtype=dtype(other)).dtype.name == other


# ---- Python's numbers out ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_elements_become_numbers(kind: str) -> None:
    one, zero = rb.ones((), dtype=dtype(kind)), rb.zeros((), dtype=dtype(kind))
    assert bool(one) is True and bool(zero) is False
    assert complex(one) == 1 + 0j and isinstance(complex(one), complex)
    if kind in COMPLEX:
        for function in (int, float):
            with pytest.raises(TypeError):
                function(one)
    else:
        assert type(int(one)) is int and type(float(one)) is float
        assert int(one) == float(one) == 1
    if kind in INTEGERS:
        assert one.__index__() == 1 and [5, 6][one] == 6
    else:
        with pytest.raises(TypeError):
            one.__index__()


def test_special_numbers_become_numbers() -> None:
    def real(x: float) -> Any:
        return rb.asarray(x, dtype=rb.float64)

    assert int(real(-0.0)) == 0 and int(real(-2.9)) == -2 and int(real(1e30)) == int(1e30)
    for x, error in ((INF, OverflowError), (-INF, OverflowError), (NAN, ValueError)):
        with pytest.raises(error):
            int(real(x))
    assert all(bool(real(x)) for x in (NAN, INF, -INF)) and not bool(real(-0.0))
    found = complex(real(NAN))
    assert np.isnan(found.real) and np.isnan(found.imag)
    assert complex(real(-INF)) == complex(-INF, 0.0)
    assert bool(rb.asarray(1j)) and bool(rb.asarray(complex(0, NAN))) and not bool(rb.asarray(0j))


# ---- dtypes and inspection -----------------------------------------------------------------------


def test_limits_are_numbers_of_python() -> None:
    for kind in FLOATS:
        for given_ in (dtype(kind), rb.ones(2, dtype=dtype(kind))):
            found = rb.finfo(given_)
            wanted = np.finfo(kind)
            assert type(found.bits) is int and found.dtype.name == wanted.dtype.name
            for field in ("eps", "max", "min", "smallest_normal"):
                assert type(getattr(found, field)) is float
                assert getattr(found, field) == getattr(wanted, field)
    for kind in INTEGERS:
        limits = rb.iinfo(rb.ones((), dtype=dtype(kind)))
        assert all(type(v) is int for v in (limits.bits, limits.max, limits.min))
        assert limits.dtype is dtype(kind)


KINDS = {
    "bool": ("bool",),
    "signed integer": INTEGERS[:4],
    "unsigned integer": INTEGERS[4:],
    "integral": INTEGERS,
    "real floating": REAL_FLOATS,
    "complex floating": COMPLEX,
    "numeric": NUMERIC,
}


def test_kinds() -> None:
    info = rb.__array_namespace_info__()
    assert set(info.dtypes()) == set(ALL)
    for word, names in KINDS.items():
        assert info.dtypes(kind=word) == {n: dtype(n) for n in names}
        for kind in ALL:
            assert rb.isdtype(dtype(kind), word) is (kind in names)
            assert rb.isdtype(dtype(kind), (word, dtype("bool"))) is (kind in (*names, "bool"))
            assert rb.isdtype(dtype(kind), dtype(names[0])) is (kind == names[0])
    assert info.dtypes(kind=()) == {} and not rb.isdtype(rb.int8, ())
    both = info.dtypes(kind=("bool", "integral"), device=info.default_device())
    assert set(both) == {"bool", *INTEGERS}
    for device in info.devices():
        assert rb.zeros(2, device=device).device == device
        assert set(info.default_dtypes(device=device)) == set(info.default_dtypes())


def test_namespaces() -> None:
    for version in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
        assert rb.zeros(1).__array_namespace__(api_version=version) is rb
    with pytest.raises(ValueError, match="2024.12"):
        rb.zeros(1).__array_namespace__(api_version="1999.01")
    assert rb.__array_api_version__ == "2024.12"


# ---- creation ------------------------------------------------------------------------------------


def test_buffers_keep_their_dtype() -> None:
    for code, kind in (("d", "float64"), ("f", "float32"), ("b", "int8"), ("H", "uint16")):
        x = array.array(code, [1, 2])
        for source in (x, memoryview(x)):
            assert rb.asarray(source).dtype.name == kind
        shared = rb.asarray(x, copy=False)
        copied = rb.asarray(x, copy=True)
        x[0] = 7
        assert shared.tolist() == [7, 2] and copied.tolist() == [1, 2]
    assert rb.asarray(b"ab").tolist() == [97, 98] and rb.asarray(bytearray(1)).dtype is rb.uint8
    assert rb.asarray(UserList([1.0])).dtype is rb.float32


def test_integers_beside_the_largest_ones() -> None:
    most = 2**64 - 1  # NumPy makes floats of it beside an int64
    assert rb.asarray([0, most], dtype=rb.uint64).tolist() == [0, most]
    assert rb.asarray([[most], [1]]).tolist() == [[most], [1]]
    assert rb.asarray([most, 0], dtype=rb.float64).tolist() == [2.0**64, 0.0]
    assert rb.asarray([1.0, 2**63]).dtype is rb.float32
    for wrong in ([-1, most], [0, most + 1]):
        for wanted in (None, rb.uint64):
            with pytest.raises(rb.NumberRangeError):
                rb.asarray(wrong, dtype=wanted)


def test_asarray_of_arrays() -> None:
    x = rb.ones(2)
    assert rb.asarray(x, copy=False) is x and rb.asarray(x, dtype=x.dtype, copy=False) is x
    assert rb.asarray(x, copy=True) is not x
    same, other = rb.astype(x, x.dtype, copy=False), rb.astype(x, x.dtype)
    assert same is x and other is not x
    x[0] = 5  # what is the same sees it, what is a copy does not
    assert same.tolist() == [5, 1] and other.tolist() == [1, 1]
    for source in ([1, 2], 3, (1.0,)):
        with pytest.raises(ValueError, match="copy"):
            rb.asarray(source, copy=False)


@few
@given(data=st.data())
def test_linspace_to_the_limits(data: st.DataObject) -> None:
    """Distances that are too large for a float64 are no obstacle."""
    limit = float(np.finfo(np.float64).max)
    ends = st.floats(-limit, limit) | st.sampled_from([-limit, limit, 0.0])
    start, stop = data.draw(ends), data.draw(ends)
    num, endpoint = data.draw(st.integers(0, 9)), data.draw(st.booleans())
    found = rb.linspace(start, stop, num, dtype=rb.float64, endpoint=endpoint).numpy()
    parts = max(num - endpoint, 1)
    wanted = [start * ((parts - i) / parts) + stop * (i / parts) for i in range(num)]
    near = 1e-13 * max(abs(start), abs(stop))
    np.testing.assert_allclose(found, wanted, 1e-13, near)
    if num:
        assert found[0] == start
    if num > 1 and endpoint:
        assert found[-1] == stop


# ---- indices -------------------------------------------------------------------------------------


@few
@given(data=st.data())
def test_take_along_axis_broadcasts(data: st.DataObject) -> None:
    drawn = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3))
    lengths = {len(s) for s in drawn.input_shapes}
    one, two = ((1,) * (max(lengths) - len(s)) + s for s in drawn.input_shapes)
    axis = data.draw(st.integers(-len(one) - 1, len(one)))
    at = axis % (len(one) + 1)
    size, count = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 3))
    x = data.draw(hnp.arrays(data.draw(st.sampled_from(ALL)), (*one[:at], size, *one[at:])))
    places = st.integers(-size, size - 1)
    index = data.draw(hnp.arrays("int64", (*two[:at], count, *two[at:]), elements=places))
    wanted = np.take_along_axis(x, index, axis)
    agree(rb.take_along_axis(tensor(x), tensor(index), axis=axis), wanted)


KEYS: list[Any] = [
    *(
        (slice(10, 20),),
        (slice(-20, 20),),
        (slice(5, -10, -1),),
        (slice(2, 1),),
        (slice(1, 0, 1), 0),
    ),
    *((None, ..., None), (0, ..., -1), (..., slice(None, None, -2)), (1, 2, 3), (1,), ()),
    *((None, 1, slice(None), None, slice(None, None, 2)), (..., None), (slice(None, None, -1),)),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_keys(key: Any) -> None:
    x = np.arange(24).reshape(2, 3, 4)
    agree(tensor(x)[key], np.asarray(x[key]))


def test_keys_that_are_wrong() -> None:
    x = rb.zeros((2, 3))
    for key in ((2,), (-3,), (0, 3), (0, 0, 0)):
        with pytest.raises(IndexError):
            x[key].numpy()
    with pytest.raises((ValueError, IndexError)):
        x[:, :2] = rb.ones((3,))


@pytest.mark.parametrize("kind", ALL)
def test_assigned_numbers(kind: str) -> None:
    x = rb.zeros((2, 3), dtype=dtype(kind))
    number = {"b": True, "c": 1.5 + 2j, "f": 1.5}.get(np.dtype(kind).kind, 3)
    x[0, 0], x[1], x[:, 2] = number, rb.ones((), dtype=x.dtype), rb.ones((2,), dtype=x.dtype)
    one = np.ones((), kind).item()
    assert x.tolist() == [[number, 0 * one, one], [one] * 3] and x.dtype.name == kind
    scalar = rb.zeros((), dtype=dtype(kind))
    for key in ((), ..., rb.asarray(True)):
        scalar[key] = number
        assert scalar.tolist() == number
        scalar[key] = rb.zeros((), dtype=dtype(kind))
    assert [e.shape for e in x[0]] == [()] * 3  # iteration


# ---- linear algebra and Fourier transforms -------------------------------------------------------


def matrix(kind: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    x = rng.normal(size=shape) + (1j * rng.normal(size=shape) if kind in COMPLEX else 0)
    return np.asarray(x, kind)


def real(kind: str) -> str:
    return np.empty(0, kind).real.dtype.name


@pytest.mark.parametrize("kind", ["float64", "complex64"])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 1.5, 0.5, -1, -2, -0.5, INF, -INF])
def test_vector_norms(order: float, kind: str) -> None:
    x = matrix(kind, 2, 3, 4)
    size = np.abs(x)
    for axis in (None, 0, (-1,), (2, 0)):
        every = {"axis": tuple(range(3)) if axis is None else axis, "keepdims": axis == 0}
        found = rb.linalg.vector_norm(tensor(x), axis=axis, keepdims=axis == 0, ord=order)
        if order == 0:
            wanted = np.sum(x != 0, **every)
        elif abs(order) == INF:
            wanted = (np.max if order > 0 else np.min)(size, **every)
        else:
            wanted = np.sum(size**order, **every) ** (1 / order)
        agree(found, np.asarray(wanted, real(kind)), 1e-4)


@pytest.mark.parametrize("kind", ["float64", "complex64"])
def test_decompositions(kind: str) -> None:
    for shape in ((3, 3), (2, 3, 3), (0, 3, 3), (2, 0, 0), (1, 1)):
        x = matrix(kind, *shape)
        h = x @ x.conj().swapaxes(-1, -2) + np.eye(shape[-1], dtype=kind)
        for upper in (False, True):
            c = rb.linalg.cholesky(tensor(h), upper=upper)
            agree(rb.triu(c) if upper else rb.tril(c), c.numpy(), zeros=False)
            whole = c.conj().mT @ c if upper else c @ c.conj().mT
            np.testing.assert_allclose(whole.numpy(), h, 1e-3, 1e-3)
        found = rb.linalg.eigh(tensor(h))
        assert found._fields == ("eigenvalues", "eigenvectors")
        assert found.eigenvalues.dtype.name == real(kind) and found.eigenvectors.dtype.name == kind
        w, v = (f.numpy() for f in found)
        assert w.shape == shape[:-1]
        np.testing.assert_allclose((v * w[..., None, :]) @ v.conj().swapaxes(-1, -2), h, 1e-3, 1e-3)
        agree(rb.linalg.eigvalsh(tensor(h)), w)
        for b in (
            (shape[-1],),
            (shape[-1], 2),
            (*shape[:-1], 4),
            (3, *(1,) * len(shape[2:]), *shape[-2:]),
        ):
            y = matrix(kind, *b)
            np.testing.assert_allclose(
                rb.linalg.solve(tensor(h), tensor(y)).numpy(), np.linalg.solve(h, y), 1e-2, 1e-3
            )


@pytest.mark.parametrize("kind", ["uint16", "complex128"])
def test_cross_products_broadcast_beside_their_axis(kind: str) -> None:
    x = (np.arange(24) % 5).astype(kind).reshape(2, 4, 3)
    for y in (x[::-1], x[0], x[:, :1], x[0, 0]):
        agree(rb.linalg.cross(tensor(x), tensor(y)), np.cross(x, y))
    turned, line = np.moveaxis(x, -1, -2), np.ones((3, 1), kind)
    wanted = np.cross(turned, np.broadcast_to(line, turned.shape), axis=-2)
    agree(rb.linalg.cross(tensor(turned), tensor(line), axis=-2), wanted)
    for wrong in ((2, 1), (2, 2)):
        with pytest.raises(ValueError):
            rb.linalg.cross(tensor(np.ones(wrong, kind)), tensor(x[0]))


SIZES: list[tuple[Any, Any]] = [
    *((None, None), (None, (0, 1)), ((2, 3), (0, 1)), ((7, -1), (0, 2)), ((-1, 4), (2, 0))),
    *(((4,), (-1,)), (None, [1]), ([2, 2, 2], [2, 1, 0])),
]


@pytest.mark.parametrize(("s", "axes"), SIZES, ids=str)
def test_sizes_of_transforms(s: Any, axes: Any) -> None:
    """-1 stands for all the points there are; for irfftn's last axis these are 2 (m - 1)."""
    for name in ("fftn", "ifftn", "rfftn", "irfftn"):
        x = matrix("float64" if name == "rfftn" else "complex128", 3, 4, 5)
        whole = s
        if name == "irfftn" and s is not None and s[-1] == -1:
            whole = (*s[:-1], 2 * (x.shape[axes[-1]] - 1))
        found = getattr(rb.fft, name)(tensor(x), s=s, axes=axes).numpy()
        wanted = getattr(np.fft, name)(x, s=whole, axes=axes)
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, 1e-12, 1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: rb.broadcast_to(rb.ones(3), (2,)),
        lambda: rb.squeeze(rb.ones((2, 1)), axis=0),
        lambda: rb.cumulative_sum(rb.ones((2, 2))),
        lambda: rb.zeros(3).mT,
        lambda: rb.zeros((1, 2, 3)).T,
        lambda: rb.stack([rb.ones(2), rb.ones(3)]),
        lambda: rb.permute_dims(rb.ones((2, 3)), (0, 0)),
    ],
)
def test_what_must_be_an_error(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        call()


def test_solve_of_cast_operands_of_many_sizes() -> None:
    """A cast before makes the sizes of the right sides symbols of their own."""
    for n, m in ((3, 2), (2, 3), (4, 1), (1, 1), (1, 3)):
        x, y = matrix("complex64", n, n), matrix("complex128", n, m)
        found = rb.linalg.solve(tensor(x), tensor(y)).numpy()
        np.testing.assert_allclose(x @ found, y, 1e-9, 1e-9)


def test_integers_have_no_cholesky_factor() -> None:
    with pytest.raises(rb.DTypeError, match="floats, complex numbers"):
        rb.linalg.cholesky(rb.eye(2, dtype=rb.int64))


def test_the_first_axis_of_no_axes() -> None:
    """Where axes are sums' or extremes', 0 and -1 stand for all there are."""
    x = rb.asarray(3.0)
    for axis in (0, -1):
        assert rb.sum(x, axis=axis).item() == rb.max(x, axis=axis, keepdims=True).item() == 3
        assert rb.argmax(x, axis=axis).shape == ()
        with pytest.raises(IndexError):
            rb.sort(x, axis=axis)
    with pytest.raises(IndexError):
        rb.sum(x, axis=1)


def test_no_differences_are_the_tensor() -> None:
    x = rb.asarray([1, 4])
    assert rb.diff(x, n=0, prepend=x, append=x).tolist() == [1, 4]


def test_arguments_by_position() -> None:
    """Where the standard has keywords only, NumPy and PyTorch agree on an order, and so do we."""
    x = rb.asarray([[1, 4, 9, 20]])
    assert rb.diff(x, 2).tolist() == [[2, 6]] and rb.sort(x, -1).tolist() == x.tolist()
    assert rb.sum(x, 0).tolist() == [1, 4, 9, 20] and rb.concat([x, x], 1).shape == (1, 8)
