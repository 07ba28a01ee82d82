"""How tensors are shown, and the options of that."""

from collections.abc import Iterator

import numpy as np
import pytest

import rabbet as rb


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    rb.set_printoptions(profile="default")


def test_what_is_not_obvious_is_said() -> None:
    assert repr(rb.zeros((0, 3))) == "tensor([], shape=(0, 3))"
    assert repr(rb.zeros(0)) == "tensor([])"
    assert repr(rb.tensor(1.5, dtype=rb.float64)) == "tensor(1.5, dtype=rabbet.float64)"
    assert repr(rb.tensor([1.0], requires_grad=True)) == "tensor([1.], requires_grad=True)"
    assert repr(rb.arange(5000)) == (
        "tensor([   0,    1,    2, ..., 4997, 4998, 4999], shape=(5000,))"
    )


def test_lines_are_those_of_numpy() -> None:
    values = np.linspace(-3, 1000, 60, dtype=np.float32).reshape(3, 20)
    shown = repr(rb.tensor(values))
    assert shown == f"tensor({np.array2string(values, separator=', ', prefix='tensor(')})"


def test_options_of_numpy_and_pytorch() -> None:
    x = rb.tensor([[1 / 3, 2.0, 3.0], [4.0, 5.0, 6.0]])
    rb.set_printoptions(precision=2, threshold=4, edgeitems=1)
    assert repr(x) == "tensor([[0.33, ..., 3.  ],\n        [4.  , ..., 6.  ]], shape=(2, 3))"
    rb.set_printoptions(threshold=1000, linewidth=20)
    assert repr(x[0]) == "tensor([0.33, 2.  ,\n        3.  ])"
    rb.set_printoptions(profile="default", suppress=True)
    assert repr(rb.tensor([1e-12, 1.0])) == "tensor([0., 1.])"


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        (True, "tensor([1.00e-09, 1.00e+00, 1.00e+10])"),
        (False, "tensor([          0.00,           1.00, 10000000000.00])"),
    ],
)
def test_sci_mode(mode: bool, shown: str) -> None:
    with rb.printoptions(sci_mode=mode, precision=2):
        assert repr(rb.tensor([1e-9, 1.0, 1e10])) == shown
        assert rb.get_printoptions()["sci_mode"] is mode
        assert "j" in repr(rb.tensor([1 + 2j])) and "1" in repr(rb.tensor(1.0))
        assert repr(rb.tensor([3, 4])) == "tensor([3, 4])"
    assert rb.get_printoptions()["sci_mode"] is None


@pytest.mark.parametrize("wrong", [{"precision": -1}, {"edgeitems": 1.5}, {"profile": "tiny"}])
def test_wrong_options(wrong: dict) -> None:
    with pytest.raises(ValueError, match="set_printoptions"):
        rb.set_printoptions(**wrong)
