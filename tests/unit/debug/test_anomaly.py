"""rb.detect_anomaly: op, line and element of the first NaN or infinity."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn

NUMBERS = (4.0, 0.0)


def caught(function: Callable[[], Any], **options: Any) -> str:
    with pytest.raises(rb.AnomalyError) as found, rb.detect_anomaly(**options):
        function()
    return str(found.value)


def forward() -> Any:
    x = rb.tensor([[1.0, 2.0], [0.0, 3.0]])
    y = rb.log(x) * 2  # here
    return y.sum().item()


def test_forward() -> None:
    for _ in range(3):  # the third time the segment is known
        said = caught(forward)
        assert said.startswith("first non-finite value: -inf, log of 0.0, at index (1, 0)\n  at ")
        assert said.endswith("in forward: y = rb.log(x) * 2  # here")


@pytest.mark.parametrize("is_read", [False, True])
def test_backward(is_read: bool) -> None:
    def train() -> None:
        p = rb.tensor(NUMBERS, requires_grad=True)
        loss = rb.sqrt(p * 2).sum()
        if is_read:  # forward was a segment of its own
            loss.item()
        loss.backward()
        p.grad.numpy()

    said = caught(train)
    first, at, behind = said.split("\n")
    assert first == "first non-finite value: inf, gradient of sqrt of 0.0, at index (1,)"
    assert at.endswith("in train: loss = rb.sqrt(p * 2).sum()")
    assert behind.startswith("  in backward at ") and behind.endswith("in train: loss.backward()")


def test_under_jit_and_grad() -> None:
    jitted = rb.jit(lambda x: rb.log(x).sum())
    jitted(rb.tensor([1.0]))
    assert "log of 0.0, at index (0,)" in caught(lambda: jitted(rb.tensor([0.0])).item())
    slope = rb.grad(lambda x: (x**0.5).sum())
    assert "gradient of " in caught(lambda: slope(rb.tensor([1.0, 0.0])).numpy())


def test_what_was_brought_in_is_nobodys_fault() -> None:
    with rb.detect_anomaly():
        mask = rb.full((2, 2), -rb.inf)
        scores = rb.where(rb.tensor([[True, False], [True, True]]), rb.ones((2, 2)), mask)
        assert np.isfinite(scores.softmax(-1).numpy()).all()
        assert rb.isnan(rb.tensor([rb.nan]) + 1).item()
        assert rb.max(rb.tensor([1.0, rb.inf])).item() == rb.inf


def test_a_nan_made_of_infinities_is_found() -> None:
    infinite = rb.tensor([rb.inf, 1.0])
    said = caught(lambda: (infinite - infinite).numpy())
    assert said.startswith("first non-finite value: nan, subtract of inf and inf, at index (0,)")


def test_what_is_looked_for_can_be_chosen() -> None:
    zero = rb.zeros(2)
    with rb.detect_anomaly(check_inf=False):
        assert (1 / zero).numpy()[0] == np.inf
    with rb.detect_anomaly(check_nan=False):
        assert np.isnan((zero / zero).numpy()).all()
    assert "divide of 0.0 and 0.0" in caught(lambda: (zero / zero).numpy(), check_inf=False)


def test_bits_and_gradients_are_the_same() -> None:
    def step() -> tuple[np.ndarray, np.ndarray]:
        rb.manual_seed(3)
        model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.GELU(), nn.Linear(7, 3))
        loss = nn.functional.cross_entropy(model(rb.randn(6, 5)), rb.tensor([0, 1, 2, 0, 1, 2]))
        loss.backward()
        return loss.numpy(), model[0].weight.grad.numpy()

    plain = step()
    with rb.detect_anomaly():
        watched = step()
    assert all(np.array_equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_it_ends() -> None:
    """Outside nothing is looked at; values after an anomaly are as ever."""
    good = rb.ones(2) * 3
    caught(forward)
    assert rb.log(rb.zeros(1)).item() == -np.inf
    assert good.tolist() == [3, 3]


def test_what_waits_at_the_end_is_looked_at() -> None:
    with pytest.raises(rb.AnomalyError, match="log"), rb.detect_anomaly():
        _kept = rb.log(rb.zeros(1))


def test_switch_of_pytorch() -> None:
    rb.autograd.set_detect_anomaly(True)
    try:
        with pytest.raises(rb.AnomalyError):
            rb.log(rb.zeros(1)).item()
    finally:
        rb.autograd.set_detect_anomaly(False)
    with pytest.raises(RuntimeError), rb.autograd.set_detect_anomaly(True):
        rb.log(rb.zeros(1)).item()
    assert rb.log(rb.zeros(1)).item() == -np.inf
