"""Indexing, assignment and rearranging of drawn arrays, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.extra.array_api import make_strategies_namespace

import rabbet as rb
from tests.array_api.draws import (
    ALL,
    INTEGERS,
    NUMERIC,
    REAL,
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

xps = make_strategies_namespace(rb, api_version="2024.12")


@few
@given(xps.arrays(dtype=xps.scalar_dtypes(), shape=xps.array_shapes(min_dims=0, min_side=0)))
def test_hypothesis_makes_tensors_of_every_dtype(x: Any) -> None:
    """It checks each element that it wrote."""
    assert isinstance(x, rb.Tensor)
    agree(rb.asarray(x.tolist(), dtype=x.dtype).reshape(x.shape), x.numpy())


@few
@given(data=st.data())
def test_getitem(data: st.DataObject) -> None:
    x = data.draw(arrays())
    key = data.draw(xps.indices(x.shape, allow_newaxis=True) | hnp.basic_indices(x.shape))
    agree(tensor(x)[key], np.asarray(x[key], x.dtype))


@few
@given(data=st.data())
def test_setitem(data: st.DataObject) -> None:
    x = data.draw(arrays())
    key = data.draw(xps.indices(x.shape) | hnp.basic_indices(x.shape))
    part = np.asarray(x[key])
    shape = data.draw(st.sampled_from([part.shape, (), (1,) * part.ndim, part.shape[-1:]]))
    value: Any = data.draw(hnp.arrays(x.dtype, shape))
    t, wanted = tensor(x), x.copy()
    number = value.item() if value.shape == () and data.draw(st.booleans()) else value
    t[key] = tensor(number)
    wanted[key] = value
    agree(t, wanted)


@few
@given(data=st.data())
def test_index_arrays(data: st.DataObject) -> None:
    """Integer arrays, several at once, beside integers and slices."""
    x = data.draw(arrays(shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    key: list[Any] = []
    for size in x.shape:
        index = hnp.arrays(data.draw(dtypes(("int64", "int32", "uint8"))), shape)
        kinds = [
            st.integers(-size, size - 1),
            hnp.arrays("int64", shape, elements=st.integers(-size, size - 1)),
            index.map(lambda a, size=size: (a % size).astype(a.dtype)),
            st.slices(size),
        ]
        key.append(data.draw(st.one_of(kinds)))
    del key[data.draw(st.integers(1, len(key))) :]
    agree(
        tensor(x)[tuple(map(tensor, key))],
        np.asarray(x[tuple(key)], x.dtype),
    )


@few
@given(data=st.data())
def test_masks(data: st.DataObject) -> None:
    x = data.draw(arrays())
    axes_ = data.draw(st.integers(0, x.ndim))
    mask = data.draw(hnp.arrays(bool, x.shape[:axes_]))
    agree(tensor(x)[tensor(mask)], x[mask])
    value = data.draw(hnp.arrays(x.dtype, ()))
    for given_value in (tensor(value), value.item()):
        t, wanted = tensor(x), x.copy()
        t[tensor(mask)] = given_value
        wanted[mask] = value
        agree(t, wanted)


def test_masks_that_do_not_fit_are_index_errors() -> None:
    x = rb.zeros((2, 3))
    for shape in ((3,), (2, 2), (2, 3, 1)):
        mask = rb.zeros(shape, dtype=rb.bool)
        with pytest.raises(IndexError, match="does not fit"):
            x[mask]
        with pytest.raises(IndexError, match="does not fit"):
            x[mask] = 1
    nothing = rb.zeros((0,), dtype=rb.bool)  # takes nothing, from whatever axis
    assert x[nothing].shape == (0, 3)
    x[nothing] = 1.0
    assert x.tolist() == [[0, 0, 0], [0, 0, 0]]


REARRANGED: dict[str, Any] = {
    "flip": lambda xp, x, d: xp.flip(x, axis=d(axes(x.ndim))),
    "expand_dims": lambda xp, x, d: xp.expand_dims(x, d(st.integers(-x.ndim - 1, x.ndim))),
    "permute_dims": lambda xp, x, d: xp.permute_dims(x, d(st.permutations(range(x.ndim)))),
    "roll": lambda xp, x, d: xp.roll(x, d(st.integers(-99, 99)), axis=d(_one(x))),
    "tile": lambda xp, x, d: xp.tile(x, tuple(d(st.lists(st.integers(0, 3), max_size=5)))),
    "repeat": lambda xp, x, d: xp.repeat(x, d(st.integers(0, 3)), axis=d(_one(x))),
    "unstack": lambda xp, x, d: xp.unstack(x, axis=d(_place(x))) if x.ndim else (),
    "moveaxis": lambda xp, x, d: xp.moveaxis(x, *_moves(x, d)),
    "reshape": lambda xp, x, d: xp.reshape(x, d(st.sampled_from(_reshapes(x.shape)))),
    "tril": lambda xp, x, d: xp.tril(x, k=d(st.integers(-9, 9))) if x.ndim > 1 else (),
    "triu": lambda xp, x, d: xp.triu(x, k=d(st.integers(-9, 9))) if x.ndim > 1 else (),
    "matrix_transpose": lambda xp, x, d: xp.matrix_transpose(x) if x.ndim > 1 else (),
    "squeeze": lambda xp, x, d: xp.squeeze(x, d(st.sampled_from(_ones(x.shape)))),
    "diff": lambda xp, x, d: (
        xp.diff(x, axis=d(_place(x)), n=d(st.integers(0, 2)))
        if x.ndim and x.dtype not in (bool, xp.bool)
        else ()
    ),
    "nonzero": lambda xp, x, d: xp.nonzero(x) if x.ndim else (),
}


def _one(x: Any) -> Any:
    return st.none() | _place(x) if x.ndim else st.none()


def _place(x: Any) -> Any:
    return st.integers(-x.ndim, x.ndim - 1)


def _moves(x: Any, d: Any) -> tuple[Any, Any]:
    count = d(st.integers(0, x.ndim))
    return tuple(tuple(d(st.permutations(range(x.ndim)))[:count]) for _ in range(2))  # type: ignore[return-value]


def _reshapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    size = int(np.prod(shape))
    return [(size,), (1, size), shape[::-1], (*shape, 1), *([(-1,), (-1, 1)] if size else [])]


def _ones(shape: tuple[int, ...]) -> list[Any]:
    places = [n for n, size in enumerate(shape) if size == 1]
    return [(), tuple(places), *places, *(p - len(shape) for p in places)]


@pytest.mark.parametrize("name", REARRANGED)
@few
@given(data=st.data())
def test_rearranging(name: str, data: st.DataObject) -> None:
    x = data.draw(arrays())
    drawn: list[Any] = []

    def first(strategy: Any) -> Any:
        drawn.append(data.draw(strategy))
        return drawn[-1]

    wanted = REARRANGED[name](np, x, first)
    again = iter(drawn)
    agree(REARRANGED[name](rb, tensor(x), lambda _: next(again)), wanted)


def test_axes_that_do_not_exist_are_index_errors() -> None:
    x = rb.zeros((2, 3))
    for call in (
        lambda: rb.expand_dims(x, axis=3),
        lambda: rb.expand_dims(x, axis=-4),
        lambda: rb.flip(x, axis=2),
        lambda: rb.sum(x, axis=-3),
    ):
        with pytest.raises(rb.AxisError, match="does not exist") as caught:
            call()
        assert isinstance(caught.value, IndexError | ValueError)
    with pytest.raises(ValueError, match="size 1"):
        rb.squeeze(x, 0)
    with pytest.raises(rb.ShapeError):
        rb.nonzero(rb.asarray(1))


@few
@given(data=st.data())
def test_joining(data: st.DataObject) -> None:
    kinds = data.draw(promotable(ALL))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x, y = (data.draw(hnp.arrays(k, shape)) for k in kinds)
    agree(*both(lambda xp, a, b: xp.stack([a, b], axis=axis), x, y))
    agree(*both(lambda xp, a, b: xp.concat([a, b], axis=axis), x, y))
    agree(*both(lambda xp, a, b: xp.concat((a, b[..., :1]), axis=None), x, y))


@few
@given(data=st.data())
def test_broadcasting(data: st.DataObject) -> None:
    drawn = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3))
    given_arrays = [data.draw(arrays(shape=s)) for s in drawn.input_shapes]
    found, wanted = both(lambda xp, *a: tuple(xp.broadcast_arrays(*a)), *given_arrays)
    agree(found, wanted)
    x = given_arrays[0]
    agree(*both(lambda xp, a: xp.broadcast_to(a, drawn.result_shape), x))
    rows = [np.arange(data.draw(st.integers(0, 3))) for _ in range(3)]
    for indexing in ("ij", "xy"):
        found, wanted = both(lambda xp, *a, i=indexing: xp.meshgrid(*a, indexing=i), *rows)
        agree(tuple(found), tuple(wanted))


@few
@given(data=st.data())
def test_take(data: st.DataObject) -> None:
    x = data.draw(arrays(shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    size = x.shape[axis]
    places = st.lists(st.integers(-size, size - 1), max_size=5)
    index = np.asarray(data.draw(places), data.draw(dtypes(("int8", "int64"))))
    agree(*both(lambda xp, a, i: xp.take(a, i, axis=axis), x, index))
    shape = list(x.shape)
    shape[axis] = 2
    along = data.draw(hnp.arrays("int64", tuple(shape), elements=st.integers(-size, size - 1)))
    agree(*both(lambda xp, a, i: xp.take_along_axis(a, i, axis=axis), x, along))


@few
@given(data=st.data())
def test_sorting(data: st.DataObject) -> None:
    x = data.draw(arrays(("bool", *REAL), hnp.array_shapes(max_dims=3, min_side=0, max_side=5)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    agree(*both(lambda xp, a: xp.sort(a, axis=axis, stable=True), x), zeros=False)
    agree(*both(lambda xp, a: xp.argsort(a, axis=axis, stable=True), x))
    down = rb.argsort(tensor(x), axis=axis, descending=True)
    back = x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis, stable=True)
    agree(down, np.flip(back, axis))
    agree(rb.sort(tensor(x), axis=axis, descending=True), np.take_along_axis(x, down.numpy(), axis))
    if x.size:
        for name in ("argmax", "argmin"):
            for where in (axis, None):
                agree(*both(lambda xp, a, n=name, w=where: getattr(xp, n)(a, axis=w), x))


@few
@given(x=arrays())
def test_sets(x: np.ndarray) -> None:
    assume(x.dtype.kind != "c" or np.isfinite(x).all())
    for name in ("unique_all", "unique_counts", "unique_inverse", "unique_values"):
        wanted = getattr(np, name)(x)
        if name == "unique_values":
            wanted = np.unique(x, equal_nan=False)
        agree(getattr(rb, name)(tensor(x)), wanted, zeros=False)


@few
@given(data=st.data())
def test_searchsorted(data: st.DataObject) -> None:
    kind = data.draw(dtypes(REAL))
    line = np.sort(data.draw(hnp.arrays(kind, st.integers(0, 9))))
    x = data.draw(arrays((kind,)))
    side = data.draw(st.sampled_from(["left", "right"]))
    agree(*both(lambda xp, a, b: xp.searchsorted(a, b, side=side), line, x))


@few
@given(data=st.data())
def test_exchange(data: st.DataObject) -> None:
    """DLPack both ways, with every argument of the standard; asarray."""
    x = data.draw(arrays())
    copy = data.draw(st.sampled_from([None, True, False]))
    version = data.draw(st.sampled_from([None, (0, 0), (1, 0), (2, 0)]))
    t = tensor(x)
    t.__dlpack__(copy=copy, max_version=version, dl_device=(1, 0))
    agree(rb.from_dlpack(t, copy=copy, device=t.device), x)
    agree(rb.from_dlpack(x, copy=copy), x)
    agree(rb.asarray(t, copy=copy), x)
    np.testing.assert_array_equal(np.from_dlpack(t, copy=copy), x)
    same = rb.asarray(t, copy=True)
    if x.size:
        t[...] = t[(0,) * x.ndim] if x.dtype == bool else 3
        agree(same, x)


@few
@given(data=st.data())
def test_conversions(data: st.DataObject) -> None:
    x = data.draw(arrays(shape=st.just(())))
    t = tensor(x)
    assert bool(t) == bool(x)
    if x.dtype.kind in "iu":
        assert t.__index__() == int(t) == int(x)
    if x.dtype.kind in "biuf" and np.isfinite(x):
        assert float(t) == float(x) and int(t) == int(x)
    if np.isfinite(x):
        assert complex(t) == complex(x)


@few
@given(data=st.data())
def test_astype(data: st.DataObject) -> None:
    x = data.draw(arrays(("bool", *NUMERIC)))
    target = np.dtype(data.draw(dtypes(ALL)))
    if x.dtype.kind == "c":
        assume(target.kind in "cb")
    if x.dtype.kind == "f" and target.kind in "iu":
        limits = np.iinfo(target)
        low, high = float(limits.min), float(limits.max)
        assume(bool(np.all((x > low) & (x < high))))
    copy = data.draw(st.booleans())
    wanted = both(lambda xp, a: xp.astype(a, getattr(xp, target.name), copy=copy), x)
    agree(*wanted)


@few
@given(shape=shapes, kind=dtypes(INTEGERS))
def test_shapes_without_elements(shape: tuple[int, ...], kind: str) -> None:
    x = np.ones((*shape, 0), kind)
    for name in ("sum", "prod", "any", "all"):
        agree(*both(lambda xp, a, n=name: getattr(xp, n)(a, axis=-1), x))
    agree(*both(lambda xp, a: xp.concat([a, a], axis=-1), x))
    agree(*both(lambda xp, a: a + a, x))
