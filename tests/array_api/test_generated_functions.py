"""Creation, statistics, linear algebra and FFT of the array API on drawn arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
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
    arrays,
    axes,
    both,
    dtypes,
    few,
    promotable,
    shapes,
    tensor,
)

CLOSE = 1e-4

# ---- creation ------------------------------------------------------------------------------------


def numbers(dtype: str) -> st.SearchStrategy[Any]:
    return hnp.from_dtype(np.dtype(dtype)).map(lambda v: v.item())


@few
@given(data=st.data())
def test_asarray_of_lists_is_exact(data: st.DataObject) -> None:
    kind = data.draw(dtypes(ALL))
    x = data.draw(hnp.arrays(kind, shapes))
    agree(rb.asarray(x.tolist(), dtype=getattr(rb, kind)).reshape(x.shape), x)
    value = data.draw(numbers(kind))
    agree(rb.asarray(value, dtype=getattr(rb, kind)), np.asarray(value, kind))
    t = rb.zeros(3, dtype=getattr(rb, kind))
    t[1] = value
    agree(t[1], np.asarray(value, kind))


@few
@given(data=st.data())
def test_full(data: st.DataObject) -> None:
    kind, shape = data.draw(dtypes(ALL)), data.draw(shapes)
    value = data.draw(numbers(kind))
    wanted = np.full(shape, value, kind)
    ours = getattr(rb, kind)
    agree(rb.full(shape, value, dtype=ours), wanted)
    agree(rb.full(shape, tensor(np.asarray(value, kind))), wanted)
    other = data.draw(arrays(shape=st.just(shape)))
    agree(rb.full_like(tensor(other), value, dtype=ours), wanted)
    for name, fill in (("zeros", 0), ("ones", 1), ("empty", 0)):
        agree(getattr(rb, name)(shape, dtype=ours), np.full(shape, fill, kind))
        like = getattr(rb, f"{name}_like")
        agree(like(tensor(other), dtype=ours), np.full(shape, fill, kind))
        agree(like(tensor(other)), np.full_like(other, fill))


def test_numbers_without_a_dtype() -> None:
    assert rb.full((2,), True).dtype is rb.bool
    assert rb.full((2,), 1).dtype is rb.int64 and rb.full((2,), 1.0).dtype is rb.float32
    assert rb.full((2,), 1j).dtype is rb.complex64
    assert rb.asarray([True, 2]).dtype is rb.int64 and rb.asarray([1, 2.0]).dtype is rb.float32
    assert rb.asarray([1, 2j]).dtype is rb.complex64
    assert rb.asarray([2**64 - 1]).dtype is rb.uint64
    assert rb.asarray([10**25], dtype=rb.float64).tolist() == [1e25]
    assert rb.full((1,), 2**53 + 1, dtype=rb.int64).tolist() == [2**53 + 1]
    assert rb.asarray([16777217.0], dtype=rb.float64).tolist() == [16777217.0]
    with pytest.raises(rb.NumberRangeError):
        rb.full((2,), 300, dtype=rb.int8)


@few
@given(data=st.data())
def test_arange_of_integers_is_exact(data: st.DataObject) -> None:
    kind = data.draw(dtypes(INTEGERS))
    limits = np.iinfo(kind)
    low, high = int(limits.min), int(limits.max)
    start, stop = (data.draw(st.integers(low, high)) for _ in range(2))
    least = max(abs(stop - start) // 20, 1)
    assume(least <= high)
    step = data.draw(st.integers(least, high))
    step = -step if data.draw(st.booleans()) else step
    wanted = list(range(start, stop, step))
    found = rb.arange(start, stop, step, dtype=getattr(rb, kind))
    assert found.dtype.name == kind and found.tolist() == wanted
    if wanted and max(map(abs, wanted)) < 2**53:
        floats = rb.arange(start, stop, step, dtype=rb.float64)
        assert floats.tolist() == [float(w) for w in wanted]


@few
@given(data=st.data())
def test_arange_of_floats(data: st.DataObject) -> None:
    some = st.floats(-1e3, 1e3)
    start, stop, step = data.draw(some), data.draw(some), data.draw(st.floats(0.5, 1e3))
    step = math.copysign(step, stop - start)
    found = rb.arange(start, stop, step, dtype=rb.float64)
    agree(found, np.arange(start, stop, step), 1e-12)
    assert rb.arange(start, stop, step).dtype is rb.float32


@few
@given(data=st.data())
def test_linspace(data: st.DataObject) -> None:
    kind = data.draw(dtypes((*FLOATS, *INTEGERS)))
    end, num = data.draw(st.booleans()), data.draw(st.integers(0, 12))
    if kind in INTEGERS:
        limits = np.iinfo(kind)
        parts = max(num - end, 1)
        start = data.draw(st.integers(int(limits.min), int(limits.max)))
        gap = data.draw(st.integers(0, (int(limits.max) - start) // parts))
        wanted: list[Any] = [start + gap * i for i in range(num)]
        stop = start + gap * parts
    else:
        big = st.complex_numbers(max_magnitude=1e9) if kind in COMPLEX else st.floats(-1e9, 1e9)
        start, stop = data.draw(big), data.draw(big)
        wanted = np.linspace(start, stop, num, endpoint=end).tolist()
    found = rb.linspace(start, stop, num, dtype=getattr(rb, kind), endpoint=end)
    agree(found, np.asarray(wanted, kind))


@few
@given(
    rows=st.integers(0, 9),
    columns=st.none() | st.integers(0, 9),
    k=st.integers(-12, 12) | st.integers(),
    kind=dtypes(NUMERIC),
)
def test_eye(rows: int, columns: int | None, k: int, kind: str) -> None:
    width = rows if columns is None else columns
    wanted = [[int(j - i == k) for j in range(width)] for i in range(rows)]
    found = rb.eye(rows, columns, k=k, dtype=getattr(rb, kind))
    agree(found, np.asarray(wanted, kind).reshape(rows, width))


# ---- statistics ----------------------------------------------------------------------------------

SUMS = ("sum", "prod", "cumulative_sum", "cumulative_prod")


@pytest.mark.parametrize("name", ["max", "min", "mean", "std", "var", "all", "any", "sum", "prod"])
@few
@given(data=st.data())
def test_reductions(name: str, data: st.DataObject) -> None:
    kinds = {"mean": REAL_FLOATS, "std": REAL_FLOATS, "var": REAL_FLOATS, "all": ALL, "any": ALL}
    empty = 0 if name in ("all", "any", "sum", "prod") else 1
    few_sides = hnp.array_shapes(min_dims=0, max_dims=3, min_side=empty, max_side=4)
    names = kinds.get(name, NUMERIC if name in SUMS else REAL)
    x = data.draw(arrays(names, few_sides))
    rounded = x.dtype.kind in "fc" and (name in SUMS or name in ("mean", "std", "var"))
    if rounded:  # numbers whose sums have digits left
        x = data.draw(hnp.arrays(x.dtype, x.shape, elements=st.integers(-9, 9)))
    given_axes = {"axis": data.draw(axes(x.ndim)), "keepdims": data.draw(st.booleans())}
    wide = _exact(name, x)
    found = getattr(rb, name)(tensor(x), **given_axes)
    with np.errstate(all="ignore"):
        wanted = getattr(np, name)(wide, **given_axes)
        if name in SUMS:
            kept = getattr(np, name)(x[..., :0] if x.ndim else x, dtype=None).dtype
            wanted = np.asarray(wanted).astype(x.dtype if x.dtype.kind in "fc" else kept)
        elif wide.dtype != x.dtype:
            wanted = np.asarray(wanted).astype(x.dtype)
    if not rounded:
        agree(found, wanted, zeros=False)
    else:
        np.testing.assert_allclose(found.numpy(), wanted, 1e-4, 1e-2)
        assert found.dtype.name == x.dtype.name and found.shape == np.shape(wanted)


def _exact(name: str, x: np.ndarray) -> np.ndarray:
    """x where NumPy computes as exactly as can be."""
    if x.dtype.kind == "f" and name in ("mean", "std", "var", *SUMS):
        return x.astype(np.float64)
    return x.astype(np.complex128) if x.dtype.kind == "c" and name in SUMS else x


@pytest.mark.parametrize("name", SUMS)
@few
@given(data=st.data())
def test_sums_in_another_dtype(name: str, data: st.DataObject) -> None:
    first, second = data.draw(promotable(INTEGERS))
    target = np.result_type(first, second)
    x = data.draw(hnp.arrays(first, hnp.array_shapes(max_dims=3, max_side=3)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    ours = getattr(rb, target.name)
    more = {"include_initial": data.draw(st.booleans())} if name.startswith("cum") else {}
    found = getattr(rb, name)(tensor(x), axis=axis, dtype=ours, **more)
    wanted = getattr(np, name)(x, axis=axis, dtype=target, **more)
    agree(found, wanted)
    found = getattr(rb, name)(tensor(x), axis=axis, **more)
    agree(found, getattr(np, name)(x, axis=axis, **more))


# ---- linear algebra ------------------------------------------------------------------------------


@st.composite
def matrices(draw: Any, names: tuple[str, ...] = FLOATS, square: bool = False) -> np.ndarray:
    """Stacks of matrices of small numbers, far from singular where square."""
    stack = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    m = draw(st.integers(0, 4))
    n = m if square else draw(st.integers(0, 4))
    kind = draw(dtypes(names))
    parts = [
        draw(hnp.arrays("float64", (*stack, m, n), elements=st.integers(-8, 8))) for _ in range(2)
    ]
    x = parts[0] / 8 + (1j * parts[1] / 8 if kind in COMPLEX else 0)
    return (x + (10 * np.eye(m) if square else 0)).astype(kind)


@few
@given(data=st.data())
def test_products(data: st.DataObject) -> None:
    kinds = data.draw(promotable(NUMERIC))
    drawn = data.draw(hnp.mutually_broadcastable_shapes(signature="(m?,n),(n,p?)->(m?,p?)"))
    x, y = (
        data.draw(hnp.arrays(k, s, elements=st.integers(0, 4)))
        for k, s in zip(kinds, drawn.input_shapes, strict=True)
    )
    agree(*both(lambda xp, a, b: xp.matmul(a, b), x, y))
    agree(*both(lambda xp, a, b: xp.linalg.matmul(a, b), x, y))
    agree(*both(lambda xp, a, b: a @ b, x, y))


@few
@given(data=st.data())
def test_contractions(data: st.DataObject) -> None:
    kinds = data.draw(promotable(NUMERIC))
    rank = data.draw(st.integers(0, 2))
    lead, shared, trail = (
        tuple(data.draw(st.lists(st.integers(0, 3), min_size=r, max_size=r)))
        for r in (data.draw(st.integers(0, 2)), rank, data.draw(st.integers(0, 2)))
    )
    small = st.integers(0, 4)

    def whole(kind: str, shape: tuple[int, ...]) -> np.ndarray:
        found = data.draw(hnp.arrays(kind, shape, elements=small))
        return (
            found + 1j * data.draw(hnp.arrays(kind, shape, elements=small))
            if kind[0] == "c"
            else found
        )

    x, y = whole(kinds[0], (*lead, *shared)), whole(kinds[1], (*shared, *trail))
    agree(*both(lambda xp, a, b: xp.tensordot(a, b, axes=rank), x, y))
    named = (tuple(range(-rank, 0)), tuple(range(rank)))
    agree(*both(lambda xp, a, b: xp.tensordot(a, b, axes=named), x, y))
    drawn = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=3))
    one, two = (whole(k, (*s[:-1], 3)) for k, s in zip(kinds, drawn.input_shapes, strict=True))
    agree(*both(lambda xp, a, b: xp.vecdot(a, b), one, two))
    agree(*both(lambda xp, a, b: xp.linalg.vecdot(a, b, axis=-1), one, two))
    agree(*both(lambda xp, a, b: xp.linalg.cross(a, b), one, two))
    agree(*both(lambda xp, a, b: xp.linalg.outer(a.reshape((-1,)), b.reshape((-1,))), one, two))


DECOMPOSED: dict[str, Any] = {
    "det": (lambda xp, x: xp.linalg.det(x), True),
    "inv": (lambda xp, x: xp.linalg.inv(x), True),
    "slogdet": (lambda xp, x: tuple(xp.linalg.slogdet(x)), True),
    "svdvals": (lambda xp, x: xp.linalg.svdvals(x), False),
    "pinv": (lambda xp, x: xp.linalg.pinv(x), True),
    "matrix_power": (lambda xp, x: xp.linalg.matrix_power(x, 3), True),
    "inverse_power": (lambda xp, x: xp.linalg.matrix_power(x, -2), True),
    "matrix_rank": (lambda xp, x: xp.linalg.matrix_rank(x), True),
    "trace": (lambda xp, x: xp.linalg.trace(x, offset=1), False),
    "matrix_transpose": (lambda xp, x: xp.linalg.matrix_transpose(x), False),
}


@pytest.mark.parametrize("name", DECOMPOSED)
@few
@given(data=st.data())
def test_linalg(name: str, data: st.DataObject) -> None:
    function, square = DECOMPOSED[name]
    x = data.draw(matrices(square=square))
    if name in ("pinv", "svdvals", "matrix_rank"):
        assume(x.shape[-1] and x.shape[-2])  # NumPy has none of nothing
    found, wanted = both(function, x)
    if name == "matrix_rank":
        wanted = np.asarray(wanted, np.int64)
    close = 1e-3 if x.dtype in (np.float32, np.complex64) else 1e-9
    for f, w in zip(*((v if isinstance(v, tuple) else (v,)) for v in (found, wanted)), strict=True):
        assert f.dtype.name == np.asarray(w).dtype.name and f.shape == np.shape(w)
        np.testing.assert_allclose(f.numpy(), w, close, close)


@few
@given(data=st.data())
def test_factors_multiply_to_the_matrix(data: st.DataObject) -> None:
    x = data.draw(matrices())
    t, close = tensor(x), 1e-3 if x.dtype.itemsize in (4, 8) else 1e-9
    *stack, m, n = x.shape
    k = min(m, n)
    for mode, inner in (("reduced", k), ("complete", m)):
        q, r = rb.linalg.qr(t, mode=mode)
        assert q.shape == (*stack, m, inner) and r.shape == (*stack, inner, n)
        np.testing.assert_allclose((q @ r).numpy(), x, atol=close)
        assert q.dtype is r.dtype is t.dtype
    for full in (True, False):
        u, s, vh = rb.linalg.svd(t, full_matrices=full)
        assert u.shape == (*stack, m, m if full else k) and s.shape == (*stack, k)
        assert vh.shape == (*stack, n if full else k, n)
        back = u[..., :k] * s[..., None, :].astype(t.dtype) @ vh[..., :k, :]
        np.testing.assert_allclose(back.numpy(), x, atol=close)
        assert bool(rb.all(s[..., :-1] >= s[..., 1:]))
        assert u.dtype is t.dtype and s.dtype.name == x.real.dtype.name


@few
@given(data=st.data())
def test_symmetric_matrices(data: st.DataObject) -> None:
    x = data.draw(matrices(square=True))
    x = (x + np.swapaxes(x.conj(), -1, -2)) / 2
    t, close = tensor(x), 1e-2 if x.dtype.itemsize in (4, 8) else 1e-8
    values, vectors = rb.linalg.eigh(t)
    assert values.dtype.name == x.real.dtype.name and vectors.dtype is t.dtype
    np.testing.assert_allclose(values.numpy(), np.linalg.eigvalsh(x), atol=close)
    np.testing.assert_allclose(rb.linalg.eigvalsh(t).numpy(), values.numpy(), atol=close)
    back = vectors * values[..., None, :].astype(t.dtype) @ rb.conj(vectors).mT
    np.testing.assert_allclose(back.numpy(), x, atol=close)
    for upper in (False, True):
        found = rb.linalg.cholesky(t, upper=upper)
        low = rb.conj(found).mT if upper else found
        np.testing.assert_allclose((low @ rb.conj(low).mT).numpy(), x, atol=close * 10)
        assert bool(rb.all(found == (rb.triu(found) if upper else rb.tril(found))))


@few
@given(data=st.data())
def test_solve(data: st.DataObject) -> None:
    x = data.draw(matrices(square=True))
    width = data.draw(st.none() | st.integers(0, 3))
    shape = (x.shape[-1],) if width is None else (*x.shape[:-2], x.shape[-1], width)
    b = data.draw(hnp.arrays(x.dtype, shape, elements=st.integers(-4, 4)))
    found = rb.linalg.solve(tensor(x), tensor(b))
    wanted = np.linalg.inv(x) @ b
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-3)
    assert found.dtype.name == x.dtype.name


@few
@given(data=st.data())
def test_norms(data: st.DataObject) -> None:
    x = data.draw(matrices())
    assume(x.size)
    close = 1e-3 if x.dtype.itemsize in (4, 8) else 1e-9
    keep = data.draw(st.booleans())
    order = data.draw(st.sampled_from([-np.inf, -2, -1, 1, 2, np.inf, "fro", "nuc"]))
    found, wanted = both(lambda xp, a: xp.linalg.matrix_norm(a, ord=order, keepdims=keep), x)
    np.testing.assert_allclose(found.numpy(), wanted, close, close)
    assert found.dtype.name == x.real.dtype.name and found.shape == np.shape(wanted)
    axis = data.draw(axes(x.ndim).filter(lambda a: a != ()))
    power = data.draw(st.sampled_from([2, 1, 0, -1, -2, 3, 2.5, np.inf, -np.inf]))
    given_all = {"axis": axis, "keepdims": keep, "ord": power}
    found, wanted = both(lambda xp, a: xp.linalg.vector_norm(a, **given_all), x)
    np.testing.assert_allclose(found.numpy(), wanted, close, close)
    assert found.dtype.name == x.real.dtype.name and found.shape == np.shape(wanted)


@few
@given(data=st.data())
def test_diagonals(data: st.DataObject) -> None:
    shape = hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4)
    x = data.draw(arrays(INTEGERS, shape))
    offset = data.draw(st.integers(-6, 6) | st.integers(-(10**4), 10**4))
    found = rb.linalg.diagonal(tensor(x), offset=offset)
    agree(found, np.diagonal(x, offset, -2, -1))
    summed = np.diagonal(x, offset, -2, -1).sum(axis=-1)
    agree(rb.linalg.trace(tensor(x), offset=offset), summed)


# ---- FFT -----------------------------------------------------------------------------------------

waves = hnp.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=5)


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
@few
@given(data=st.data())
def test_fft(name: str, data: st.DataObject) -> None:
    kinds = REAL_FLOATS if name in ("rfft", "ihfft") else COMPLEX
    x = data.draw(hnp.arrays(data.draw(dtypes(kinds)), waves, elements=st.integers(-8, 8)))
    given_all = {
        "n": data.draw(st.none() | st.integers(1, 8)),
        "axis": data.draw(st.integers(-x.ndim, x.ndim - 1)),
        "norm": data.draw(st.sampled_from(["backward", "ortho", "forward"])),
    }
    found = getattr(rb.fft, name)(tensor(x), **given_all)
    wanted = getattr(np.fft, name)(x.astype(x.dtype), **given_all)
    np.testing.assert_allclose(found.numpy(), wanted, atol=CLOSE)
    single = x.dtype.name in ("float32", "complex64")
    real = name in ("irfft", "hfft")
    assert found.dtype.name == ("float" if real else "complex") + str(
        (32 if single else 64) * (2 - real)
    )
    assert found.shape == wanted.shape


@pytest.mark.parametrize("name", ["fftn", "ifftn", "rfftn", "irfftn"])
@few
@given(data=st.data())
def test_fft_over_several_axes(name: str, data: st.DataObject) -> None:
    kinds = REAL_FLOATS if name == "rfftn" else COMPLEX
    x = data.draw(hnp.arrays(data.draw(dtypes(kinds)), waves, elements=st.integers(-8, 8)))
    chosen = data.draw(
        st.none() | st.lists(st.sampled_from(range(x.ndim)), min_size=1, unique=True)
    )
    count = x.ndim if chosen is None else len(chosen)
    sizes = st.lists(st.integers(1, 6), min_size=count, max_size=count)
    given_all = {
        "axes": chosen,
        "s": data.draw(sizes) if chosen is not None and data.draw(st.booleans()) else None,
        "norm": data.draw(st.sampled_from(["backward", "ortho", "forward"])),
    }
    found = getattr(rb.fft, name)(tensor(x), **given_all)
    wanted = getattr(np.fft, name)(x, **given_all)
    np.testing.assert_allclose(found.numpy(), wanted, atol=CLOSE)
    assert found.shape == wanted.shape


@few
@given(data=st.data())
def test_frequencies_and_shifts(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 50)), data.draw(st.floats(0.1, 5))
    for name in ("fftfreq", "rfftfreq"):
        agree(getattr(rb.fft, name)(n, d=d), getattr(np.fft, name)(n, d=d).astype("float32"), 1e-5)
    x = data.draw(arrays(FLOATS, waves))
    chosen = data.draw(
        st.none() | st.lists(st.sampled_from(range(x.ndim)), min_size=1, unique=True)
    )
    for name in ("fftshift", "ifftshift"):
        agree(*both(lambda xp, a, f=name: getattr(xp.fft, f)(a, axes=chosen), x))


# ---- dtypes --------------------------------------------------------------------------------------


@few
@given(data=st.data())
def test_result_type(data: st.DataObject) -> None:
    kinds = data.draw(promotable(ALL))
    wanted = np.result_type(*kinds).name
    given_all: list[Any] = [getattr(rb, k) for k in kinds]
    assert rb.result_type(*given_all).name == wanted
    mixed = [rb.zeros(2, dtype=given_all[0]), given_all[1]]
    assert rb.result_type(*mixed).name == wanted
    number = data.draw(numbers(kinds[0]))
    assert rb.result_type(rb.zeros(2, dtype=given_all[0]), number).name == kinds[0]
    assert rb.can_cast(given_all[0], rb.result_type(*given_all))
    assert rb.can_cast(rb.zeros(1, dtype=given_all[0]), given_all[0])
