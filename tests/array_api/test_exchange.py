"""Elements in and out: asarray, DLPack, NumPy's views, Python's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.errors import DTypeError, NumberRangeError, ShapeError
from tests.array_api.draws import INTEGERS


class Legacy:
    """A producer from before DLPack 1.0."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, stream: None = None) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class Unversioned:
    """A tensor for a consumer from before DLPack 1.0 that shares its memory."""

    def __init__(self, x: rb.Tensor) -> None:
        self.x = x

    def __dlpack__(self, **given: Any) -> Any:
        return self.x.__dlpack__(copy=False)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_dlpack_out_is_read_only_memory_of_ours() -> None:
    x = rb.asarray([1.0, 2.0])
    y = np.from_dlpack(x)
    assert not y.flags.writeable and y.tolist() == [1.0, 2.0]
    assert np.shares_memory(y, x.numpy())
    x[0] = 5.0  # tensors are values: what was handed out stays
    assert y.tolist() == [1.0, 2.0]


def test_dlpack_out_as_a_copy() -> None:
    x = rb.asarray([1, 2])
    y = np.from_dlpack(x, copy=True)
    assert y.flags.writeable and not np.shares_memory(y, x.numpy())
    old = np.from_dlpack(Legacy(np.asarray([3, 4])))
    assert rb.asarray(old).tolist() == [3, 4]
    # A consumer that knows nothing of read-only memory and wants no copy answers for itself.
    shared = np.from_dlpack(Unversioned(x))
    assert np.shares_memory(shared, x.numpy()) and shared.tolist() == [1, 2]
    with pytest.raises(BufferError, match="CPU"):
        x.__dlpack__(dl_device=(2, 0))


def test_dlpack_in() -> None:
    source = np.arange(4.0)
    copied = rb.from_dlpack(source)
    shared = rb.from_dlpack(source, copy=False)
    source[0] = 9
    assert copied.tolist() == [0, 1, 2, 3] and shared.tolist() == [9, 1, 2, 3]
    assert rb.from_dlpack(Legacy(source)).tolist() == [9, 1, 2, 3]
    t = rb.from_dlpack(rb.asarray([1, 2]), device="cpu", copy=True)
    assert t.tolist() == [1, 2]
    assert rb.asarray([1]).__dlpack_device__() == (1, 0)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float32", "float64"])
def test_dlpack_round_trip(dtype: str) -> None:
    for shape in ((), (0,), (2, 3)):
        x = np.ones(shape, dtype)
        y = np.from_dlpack(rb.from_dlpack(x))
        assert y.dtype == x.dtype and y.shape == x.shape and (y == x).all()


def test_asarray_copies_what_others_can_write() -> None:
    a = np.arange(3)
    x, y = rb.asarray(a), rb.asarray(a, copy=False)
    a[0] = 7
    assert x.tolist() == [0, 1, 2] and y.tolist() == [7, 1, 2]
    t = rb.asarray(x, copy=True)
    t[0] = 5
    assert x.tolist() == [0, 1, 2] and rb.asarray(x) is x


@pytest.mark.parametrize(
    "call",
    [
        lambda: rb.asarray([1, 2], copy=False),
        lambda: rb.asarray(np.ones(2), dtype=rb.float32, copy=False),
        lambda: rb.asarray(rb.ones(2), dtype=rb.float64, copy=False),
    ],
)
def test_what_needs_a_copy_says_so(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="needs a copy"):
        call()


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(NumberRangeError):
        rb.asarray(300, dtype=rb.int8)
    with pytest.raises(OverflowError):
        rb.asarray([2**70])


def test_python_numbers_out() -> None:
    assert bool(rb.asarray(True)) is True and int(rb.asarray(3)) == 3
    assert float(rb.asarray(1.5)) == 1.5 and complex(rb.asarray(1.5)) == 1.5 + 0j
    assert [10, 20][rb.asarray(1)] == 20
    with pytest.raises(TypeError):
        rb.asarray(1.0).__index__()
    for function in (bool, int, float, complex):
        with pytest.raises(ValueError):
            function(rb.asarray([1, 2]))


def test_dtype_questions_that_have_no_answer() -> None:
    with pytest.raises(DTypeError):
        rb.result_type(rb.int64, rb.uint64)
    with pytest.raises(ValueError, match="needs a tensor"):
        rb.result_type(1, 2)
    with pytest.raises(ValueError, match="no kind"):
        rb.isdtype(rb.int8, "number")
    with pytest.raises(TypeError):
        rb.isdtype(rb.int8, 3)
    with pytest.raises(DTypeError, match="iinfo"):
        rb.finfo(rb.int8)
    with pytest.raises(DTypeError, match="finfo"):
        rb.iinfo(rb.float32)
    assert not rb.can_cast(rb.int64, rb.uint64)
    assert rb.finfo(rb.complex128).dtype is rb.float64 and rb.finfo(rb.bfloat16).bits == 16


@pytest.mark.parametrize("kind", INTEGERS)
def test_repeats_of_any_integer_dtype(kind: str) -> None:
    counts = rb.asarray([2, 0, 1], dtype=getattr(rb, kind))
    assert rb.repeat(rb.asarray([7, 8, 9]), counts).tolist() == [7, 7, 9]


def test_repeats_that_do_not_fit() -> None:
    x = rb.asarray([1, 2])
    with pytest.raises(ShapeError, match="one for each"):
        rb.repeat(x, rb.asarray([1, 2, 3]))
    with pytest.raises(ShapeError, match="0 or more"):
        rb.repeat(x, rb.asarray([1, -2]))
    with pytest.raises(DTypeError, match="integers"):
        rb.repeat(x, rb.asarray([1.0, 2.0]))
    x = rb.tensor([1.0, 2.0], requires_grad=True)
    rb.repeat(x, rb.asarray([1, 3])).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 3.0]


def test_values_that_shape_a_result_are_read_at_each_call() -> None:
    @rb.jit
    def positions(x: rb.Tensor) -> Any:
        return rb.nonzero(x * 2)[0] + 1, rb.unique_values(x)

    for row in ([0, 1, 0, 2], [3, 0, 0, 3], [1, 1, 1, 1]):
        where, values = positions(rb.asarray(row))
        assert where.tolist() == (np.nonzero(row)[0] + 1).tolist()
        assert values.tolist() == sorted(set(row))


def test_distinct_elements_of_special_numbers() -> None:
    nan = float("nan")
    found = rb.unique_all(rb.asarray([nan, -0.0, 1.0, 0.0, nan]))
    assert found.counts.tolist() == [2, 1, 1, 1]
    assert found.values.tolist()[:2] == [0.0, 1.0]
    assert found.inverse_indices.tolist()[1:4] == [0, 1, 0]
