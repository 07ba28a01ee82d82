"""Keys, dtypes, names, devices (SEMANTICS 7, 20-22)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.dtypes import BY_NAME

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")


def promoted(a: str, b: str) -> str | None:
    """The array API's table, with integer and float added: the float. None: an error."""
    if a == b or b == "bool":
        return a
    if a == "bool":
        return b
    for group in (SIGNED, UNSIGNED, FLOATS):
        if a in group and b in group:
            return max(a, b, key=group.index)
    if b in FLOATS:
        return b
    if a in FLOATS:
        return a
    signed, unsigned = (a, b) if a in SIGNED else (b, a)
    if unsigned == "uint64":
        return None
    return SIGNED[max(SIGNED.index(signed), UNSIGNED.index(unsigned) + 1)]


@pytest.mark.parametrize("a", ("bool", *SIGNED, *UNSIGNED, *FLOATS))
def test_s21_promotion_table(a: str) -> None:
    """x + y for every pair of dtypes (maximum for bools)."""
    for b in ("bool", *SIGNED, *UNSIGNED, *FLOATS):
        x, y = rb.ones((2,), dtype=BY_NAME[a]), rb.ones((2,), dtype=BY_NAME[b])
        wanted = promoted(a, b)
        if wanted is None:
            with pytest.raises(rb.DTypeError):
                rb.maximum(x, y)
        else:
            assert rb.maximum(x, y).dtype.name == wanted, (a, b)


def test_s21_python_scalars_are_weak() -> None:
    """They take the tensor's dtype, or the default float where the tensor has none."""
    cases = [
        ("float32", 1, "float32"),
        ("float64", 0.5, "float64"),
        ("int8", 3, "int8"),
        ("int64", 0.5, "float32"),
        ("uint8", True, "uint8"),
        ("float32", True, "float32"),
    ]
    for dtype, number, wanted in cases:
        x = rb.ones((2,), dtype=BY_NAME[dtype])
        assert (x + number).dtype.name == wanted and (number + x).dtype.name == wanted


@pytest.mark.parametrize("data", [[0.5], (1, 2.5), [[1j]], [3], [True], np.ones(1)])
def test_s21_an_operand_has_the_dtype_that_asarray_gives_it(data: Any) -> None:
    assert rb.positive(data).dtype is rb.asarray(data).dtype
    assert rb.concat([data, data]).dtype is rb.asarray(data).dtype


def test_s21_ndarray_op_tensor_is_a_tensor() -> None:
    """On either side."""
    array, t = np.ones(3, np.float32), rb.ones(3)
    for found in (array + t, t + array, array * t, array - t, array / t, array @ t, array < t):
        assert isinstance(found, rb.Tensor)
    assert (array - t * 3).tolist() == [-2, -2, -2]
    assert (np.float32(2) * t).tolist() == [2, 2, 2]


def test_s21_layers_refuse_another_floating_dtype() -> None:
    """NumPy data is float64; the message says which cast to write."""
    layer = rb.nn.Linear(3, 2)
    with pytest.raises(rb.DTypeError, match="float32"):
        layer(rb.asarray(np.ones((1, 3))))


def test_s07_keys_tell_numbers_apart() -> None:
    """1, 1.0 and True as operands; 0.0 and -0.0 as values and as attributes."""
    x = rb.tensor([0.0, -3.0])
    for _ in range(3):
        assert [np.signbit((x * k).numpy()[0]) for k in (0.0, -0.0, 1)] == [False, True, False]
        integers = rb.tensor([2, 3])
        found = [(integers * k).dtype.name for k in (1, 1.0, True)]
        assert found == ["int64", "float32", "int64"]
        fills = [
            np.signbit(rb.pad(x, (1,), (0,), (0,), fill).numpy()[0])
            if hasattr(rb, "pad")
            else np.signbit(fill)
            for fill in (0.0, -0.0)
        ]
        assert fills == [False, True]


def test_s07_where_with_signed_zeros() -> None:
    """Numbers enter by their bits."""
    condition = rb.tensor([True, False])
    for _ in range(3):
        for a, b in ((0.0, -0.0), (-0.0, 0.0)):
            found = rb.where(condition, rb.full((2,), a), rb.full((2,), b)).numpy()
            assert [np.signbit(v) for v in found] == [np.signbit(a), np.signbit(b)]


def test_zero_dimensional_tensors() -> None:
    """0-d tensors reduce, broadcast, index by (), and become Python numbers."""
    t = rb.tensor(2.5)
    assert t.shape == () and t.sum().shape == () and t[()].item() == 2.5
    assert (t + rb.ones((2, 2))).shape == (2, 2)
    assert float(t) == 2.5 and int(rb.tensor(3)) == 3 and bool(rb.tensor(True))
    assert rb.tensor([4, 5])[rb.tensor(1)].item() == 5
    assert [7, 8, 9][rb.tensor(1)] == 8
    assert rb.tensor([2.5])[0].shape == ()


def test_empty_and_single_tensors() -> None:
    """Sizes 0 and 1 are sizes like others."""
    for _ in range(2):
        empty = rb.ones((0, 3))
        assert (empty * 2).sum().item() == 0 and empty.sum(axis=0).tolist() == [0, 0, 0]
        assert (empty @ rb.ones((3, 2))).shape == (0, 2)
        assert (rb.ones((2, 0)) @ rb.ones((0, 3))).tolist() == [[0] * 3] * 2
        with pytest.raises(rb.RabbetError):
            empty.max().item()
        assert rb.ones((1, 1)).max().item() == 1


def test_s20_devices() -> None:
    """Every tensor has one; any name but "cpu" is a clear error, everywhere."""
    t = rb.ones((2,), device="cpu")
    assert t.device == "cpu" and t.to("cpu").device == "cpu" and t.to_device("cpu").device == "cpu"
    for make in (
        lambda: rb.zeros((2,), device="cuda"),
        lambda: rb.ones((2,), device="gpu:0"),
        lambda: rb.asarray([1.0], device="cuda"),
        lambda: rb.arange(3, device="tpu"),
        lambda: rb.rand(2, device="cuda"),
        lambda: t.to("cuda"),
        lambda: t.to_device("mps"),
    ):
        with pytest.raises(rb.DeviceError, match="cpu"):
            make()


def test_s20_to_casts() -> None:
    """t.to(dtype), by object and by name."""
    t = rb.ones((2,))
    assert t.to(rb.float64).dtype is rb.float64 and t.to("int32").dtype is rb.int32
    assert t.to("cpu", rb.int8).dtype is rb.int8


def test_s22_dim_and_keepdim_are_accepted() -> None:
    """PyTorch's words for axis and keepdims, in functions and methods."""
    x = rb.asarray(np.arange(6.0).reshape(2, 3))
    assert rb.sum(x, dim=1, keepdim=True).shape == (2, 1)
    assert x.mean(dim=0).tolist() == x.mean(axis=0).tolist()
    assert rb.softmax(x, dim=1).shape == (2, 3)
    assert rb.cat([x, x], dim=1).shape == (2, 6)
    assert x.view(3, 2).shape == (3, 2) and x.reshape(6).shape == (6,)
    assert rb.argmax(input=x, dim=1).tolist() == [2, 2]


def test_s22_unknown_words_name_the_known_ones() -> None:
    """A TypeError that lists the parameters there are."""
    with pytest.raises(TypeError, match="axis"):
        rb.sum(rb.ones(3), axes=0)
