"""Tensors as they travel: what comes in is exact or refused."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rabbet.base import dtypes
from rabbet.serve.datatypes import (
    DATATYPES,
    from_bytes,
    from_json,
    from_nested,
    parse_shape,
    to_bytes,
    to_json,
)
from rabbet.serve.errors import RequestError

ARRAYS = st.sampled_from(list(DATATYPES.values())).flatmap(
    lambda dtype: st.tuples(
        st.just(dtype), hnp.arrays(dtype.numpy, hnp.array_shapes(min_dims=0, min_side=0))
    )
)


@given(ARRAYS)
def test_bytes_come_back_as_they_were(pair: tuple[Any, np.ndarray]) -> None:
    dtype, array = pair
    back = from_bytes(memoryview(to_bytes(array)), array.shape, dtype, "x")
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(ARRAYS)
def test_json_comes_back_as_it_was(pair: tuple[Any, np.ndarray]) -> None:
    dtype, array = pair
    back = from_json(json.loads(json.dumps(to_json(array))), array.shape, dtype, "x")
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@given(ARRAYS)
def test_nested_lists_are_read_like_flat_ones(pair: tuple[Any, np.ndarray]) -> None:
    dtype, array = pair
    data = array.tolist() if array.shape else [array.item()]
    np.testing.assert_array_equal(from_json(data, array.shape, dtype, "x"), array)
    if array.size:
        np.testing.assert_array_equal(from_nested(array.tolist(), dtype, "x"), array)


@pytest.mark.parametrize(
    ("data", "shape", "datatype", "reason"),
    [
        ([1, 2, 3], (2,), "INT32", "needs 2 elements, data has 3"),
        ([1.0], (1,), "INT32", "takes integers, data has float"),
        ([True], (1,), "INT32", "takes integers, data has bool"),
        ([1], (1,), "BOOL", "takes true or false, data has int"),
        (["1"], (1,), "FP32", "takes numbers, data has str"),
        ([None], (1,), "FP64", "data has NoneType"),
        ([128], (1,), "INT8", "out of the range of INT8"),
        ([-1], (1,), "UINT64", "out of the range of UINT64"),
        ([2**63], (1,), "INT64", "out of the range of INT64"),
        ([1e39], (1,), "FP32", "out of the range of FP32"),
        ([10**400], (1,), "FP64", "out of the range of FP64"),
        ([[1, 2], [3]], (2, 2), "INT32", "axis 1 of the nested data is not always 2"),
        ([[1, 2], 3], (2, 2), "INT32", "axis 1 of the nested data is not always 2"),
        ([[[1], [2]]], (1, 2), "INT32", "data has list"),
        ([{"a": 1}], (1,), "INT32", "data has dict"),
        ("12", (2,), "INT32", "data must be a list"),
    ],
)
def test_what_json_is_refused(data: Any, shape: Any, datatype: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        from_json(data, shape, DATATYPES[datatype], "x")
    assert caught.value.status == 400


@pytest.mark.parametrize("data", [[[1, 2], [3]], [[], 1], [[1], 2], [[[1]], [[1, 2]]]])
def test_ragged_lists_are_refused(data: Any) -> None:
    with pytest.raises(RequestError, match="axis"):
        from_nested(data, dtypes.int64, "x")


def test_deep_nesting_is_refused() -> None:
    data: Any = 1
    for _ in range(20):
        data = [data]
    with pytest.raises(RequestError, match="nested deeper"):
        from_nested(data, dtypes.int64, "x")


@pytest.mark.parametrize(
    "shape", [None, 3, "3", [1.0], [True], [-1], [2**31], [1] * 17, [10**30], [[1]]]
)
def test_what_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(RequestError) as caught:
        parse_shape(shape, "x")
    assert caught.value.status == 400


def test_bytes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RequestError, match="needs 8 bytes, binary_data_size is 7"):
        from_bytes(memoryview(b"1234567"), (2,), dtypes.float32, "x")
    with pytest.raises(RequestError, match="must be 0 or 1"):
        from_bytes(memoryview(b"\x00\x02"), (2,), dtypes.bool_, "x")


def test_non_finite_numbers_pass() -> None:
    read = from_json(json.loads("[NaN, Infinity, -Infinity]"), (3,), dtypes.float32, "x")
    assert math.isnan(read[0]) and read[1] == np.inf and read[2] == -np.inf
