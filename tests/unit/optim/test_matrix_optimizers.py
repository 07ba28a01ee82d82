"""Adafactor and Muon against their rules in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, optim
from rabbet.base.errors import ShapeError

State = dict[str, Any]


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x * x)))


def adafactor(p: np.ndarray, g: np.ndarray, t: int, s: State) -> np.ndarray:
    kept = 1 - t**-0.8
    square = g * g
    if g.ndim == 1:
        s["v"] = v = kept * s.get("v", 0) + (1 - kept) * square
    else:
        for name, axis in (("rows", -1), ("columns", -2)):
            mean = square.mean(axis, keepdims=True)
            s[name] = kept * s.get(name, 0) + (1 - kept) * mean
        v = s["rows"] / s["rows"].mean(-2, keepdims=True) * s["columns"]
    step = g / np.sqrt(v)
    rate = max(1e-3, rms(p)) * min(0.1, t**-0.5) / max(1, rms(step) / 1.5)
    return p * (1 - 0.1 * 0.2) - rate * step


def orthogonal(x: np.ndarray) -> np.ndarray:
    """Each singular value goes through the polynomial; the vectors stay."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    s = s / np.sqrt((s * s).sum())
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return u * s @ v


def muon(p: np.ndarray, g: np.ndarray, t: int, s: State, nesterov: bool) -> np.ndarray:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    along = 0.9 * s["m"] + 0.1 * g if nesterov else s["m"]
    m, n = g.shape
    scale = max(1, m / n) ** 0.5 if nesterov else 0.2 * max(m, n) ** 0.5
    return p * (1 - 0.1 * 0.2) - 0.1 * scale * orthogonal(along)


MATRICES = ((3, 4), (4, 2))
CASES: list[tuple[Any, Any, Any]] = [
    (
        lambda p: optim.Adafactor(p, lr=0.1, d=1.5, weight_decay=0.2),
        adafactor,
        (*MATRICES, (5,), (2, 3, 4)),
    ),
    (
        lambda p: optim.Muon(p, lr=0.1, weight_decay=0.2, momentum=0.9),
        lambda *a: muon(*a, True),
        MATRICES,
    ),
    (
        lambda p: optim.Muon(*(p, 0.1, 0.2, 0.9), nesterov=False, adjust_lr_fn="match_rms_adamw"),
        lambda *a: muon(*a, False),
        MATRICES,
    ),
]


@pytest.mark.parametrize(("make", "rule", "shapes"), CASES)
def test_updates_follow_the_rule(
    rng: np.random.Generator, make: Any, rule: Any, shapes: Any
) -> None:
    expected = [rng.standard_normal(s) for s in shapes]
    held = [nn.Parameter(rb.asarray(p)) for p in expected]
    optimizer = make(held)
    states: list[State] = [{} for _ in shapes]
    for t in range(1, 5):
        for i, p in enumerate(held):
            g = rng.standard_normal(p.shape)
            p.grad = rb.asarray(g)
            expected[i] = rule(expected[i], g, t, states[i])
        optimizer.step()
        if t == 2:
            saved = optimizer.state_dict()
            optimizer = make(held)
            optimizer.load_state_dict(saved)
        for p, wanted in zip(held, expected, strict=True):
            np.testing.assert_allclose(p.numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ShapeError, match="it is for matrices"):
        optim.Muon([nn.Parameter(rb.ones(3))])
    with pytest.raises(ValueError, match="adjust_lr_fn='big'"):
        optim.Muon([nn.Parameter(rb.ones((2, 2)))], adjust_lr_fn="big")
    with pytest.raises(ValueError, match="beta2_decay"):
        optim.Adafactor([nn.Parameter(rb.ones(3))], beta2_decay=0.8)
