"""The warning about updates in place of an indexing's result, and when there must be none."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace

import pytest

import rabbet as rb
from rabbet.tensor import indexing


@pytest.fixture(autouse=True)
def never_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "_warned", [])


def stored_back() -> rb.Tensor:
    x = rb.zeros((3, 4))
    x[0] += 1
    x[1:3] *= 2
    x[:, 1] -= 3
    x[2, 2] /= 4
    return x


def stored_back_in_an_attribute() -> rb.Tensor:
    holder = SimpleNamespace(x=rb.zeros((3, 4)))
    i = 1
    holder.x[i] += rb.ones(4)
    return holder.x


def updated_copy() -> rb.Tensor:
    x = rb.zeros((3, 4))
    row = x[0].clone()
    row += 1
    return x


def base_gone() -> rb.Tensor:
    x = rb.zeros((3, 4))
    x = x[0]
    x += 1
    return x


@pytest.mark.parametrize(
    "function", [stored_back, stored_back_in_an_attribute, updated_copy, base_gone]
)
def test_no_warning(function: Callable[[], rb.Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function()


def test_values_stored_back() -> None:
    assert stored_back().tolist() == [[1, -2, 1, 1], [0, -3, 0, 0], [0, -3, 0, 0]]
    assert stored_back_in_an_attribute().tolist() == [[0] * 4, [1] * 4, [0] * 4]


def named_part() -> rb.Tensor:
    x = rb.zeros((3, 4))
    row = x[0]
    row += 1
    return x


def method_of_a_part() -> rb.Tensor:
    x = rb.zeros((3, 4))
    x[0].add_(1)
    return x


@pytest.mark.parametrize("function", [named_part, method_of_a_part])
def test_a_warning_with_what_to_write(function: Callable[[], rb.Tensor]) -> None:
    with pytest.warns(UserWarning, match=r"write x\[0\] \+= \.\.\. to change x") as caught:
        x = function()
    assert caught[0].filename == __file__
    assert x.tolist() == [[0] * 4] * 3  # a tensor is a value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function()  # said once
