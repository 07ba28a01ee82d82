"""Adadelta, Adamax, NAdam, RAdam, LAMB, Rprop, ASGD against NumPy; L-BFGS; averaged weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, optim
from rabbet.optim import lr_scheduler as schedules

State = dict[str, Any]


def adadelta(p: np.ndarray, g: np.ndarray, t: int, s: State) -> np.ndarray:
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g * g
    step = np.sqrt(s.get("d", 0) + 1e-6) / np.sqrt(s["v"] + 1e-6) * g
    s["d"] = 0.9 * s.get("d", 0) + 0.1 * step * step
    return p - 0.1 * step


def adamax(p: np.ndarray, g: np.ndarray, t: int, s: State) -> np.ndarray:
    g = g + 0.2 * p
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["u"] = np.maximum(0.999 * s.get("u", 0), np.abs(g) + 1e-8)
    return p - 0.1 / (1 - 0.9**t) * s["m"] / s["u"]


def moments(g: np.ndarray, s: State) -> tuple[np.ndarray, np.ndarray]:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    return s["m"], s["v"]


def nadam(p: np.ndarray, g: np.ndarray, t: int, s: State) -> np.ndarray:
    p = p * (1 - 0.1 * 0.2)
    m, v = moments(g, s)
    here, ahead = (0.9 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in (t, t + 1))
    s["mu"] = s.get("mu", 1) * here
    root = np.sqrt(v / (1 - 0.999**t)) + 1e-8
    p = p - 0.1 * (1 - here) / (1 - s["mu"]) * g / root
    return p - 0.1 * ahead / (1 - s["mu"] * ahead) * m / root


def radam(p: np.ndarray, g: np.ndarray, t: int, s: State, beta: float) -> np.ndarray:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = beta * s.get("v", 0) + (1 - beta) * g * g
    longest = 2 / (1 - beta) - 1
    length = longest - 2 * t * beta**t / (1 - beta**t)
    step = s["m"] / (1 - 0.9**t)
    if length > 5:
        share = (length - 4) * (length - 2) * longest / (longest - 4) / (longest - 2) / length
        step = step * math.sqrt(share) * math.sqrt(1 - beta**t) / (np.sqrt(s["v"]) + 1e-8)
    return p - 0.1 * step


def lamb(p: np.ndarray, g: np.ndarray, t: int, s: State) -> np.ndarray:
    m, v = moments(g, s)
    u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + 0.2 * p
    return p - 0.1 * np.linalg.norm(p) / np.linalg.norm(u) * u


def rprop(p: np.ndarray, g: np.ndarray, t: int, s: State) -> np.ndarray:
    side = np.sign(g * s.get("g", 0))
    size = s.get("size", 0.1) * np.where(side > 0, 1.2, np.where(side < 0, 0.5, 1.0))
    s["size"] = np.clip(size, 1e-6, 0.12)
    s["g"] = np.where(side < 0, 0, g)
    return p - np.sign(s["g"]) * s["size"]


def asgd(p: np.ndarray, g: np.ndarray, t: int, s: State) -> np.ndarray:
    size = 0.1 / (1 + 0.5 * 0.1 * (t - 1)) ** 0.75
    return p * (1 - 0.5 * size) - size * g


CASES: list[tuple[Any, Any]] = [
    (lambda p: optim.Adadelta(p, lr=0.1), adadelta),
    (lambda p: optim.Adamax(p, lr=0.1, weight_decay=0.2), adamax),
    (lambda p: optim.NAdam(p, 0.1, weight_decay=0.2, decoupled_weight_decay=True), nadam),
    (
        lambda p: optim.RAdam(p, lr=0.1, betas=(0.9, 0.7)),
        lambda p, g, t, s: radam(p, g, t, s, 0.7),
    ),
    (lambda p: optim.RAdam(p, lr=0.1), lambda p, g, t, s: radam(p, g, t, s, 0.999)),
    (lambda p: optim.LAMB(p, lr=0.1, weight_decay=0.2), lamb),
    (lambda p: optim.Rprop(p, lr=0.1, step_sizes=(1e-6, 0.12)), rprop),
    (lambda p: optim.ASGD(p, lr=0.1, lambd=0.5), asgd),
]


@pytest.mark.parametrize(("make", "rule"), CASES)
def test_updates_follow_the_rule(rng: np.random.Generator, make: Any, rule: Any) -> None:
    """The second parameter has no gradient at steps 1 and 3, so it counts its own steps."""
    expected = [rng.standard_normal(3), rng.standard_normal(3)]
    held = [nn.Parameter(p.astype(np.float32)) for p in expected]
    optimizer = make(held)
    states: list[State] = [{}, {}]
    counts = [0, 0]
    for step in range(1, 8):
        optimizer.zero_grad()
        for i, p in enumerate(held):
            if i == 0 or step not in (1, 3):
                g = rng.standard_normal(3).astype(np.float32)
                p.grad = rb.asarray(g)
                counts[i] += 1
                expected[i] = rule(expected[i], g, counts[i], states[i])
        optimizer.step()
        if step == 4:  # what was saved goes on the same
            saved = optimizer.state_dict()
            optimizer = make(held)
            optimizer.load_state_dict(saved)
        for p, wanted in zip(held, expected, strict=True):
            np.testing.assert_allclose(p.numpy(), wanted, rtol=4e-5, atol=4e-5)


@pytest.mark.parametrize("make", [CASES[2][0], CASES[3][0], CASES[5][0]])
def test_steps_under_jit_have_the_same_bits(make: Any) -> None:
    def train(compiled: bool) -> list[float]:
        rb.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = make(model.parameters())

        def step(x: rb.Tensor) -> rb.Tensor:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        run = rb.jit(step) if compiled else step
        return [float(run(rb.ones((4, 3)) * i)) for i in range(1, 9)]

    assert train(True) == train(False)


def rosenbrock(x: rb.Tensor) -> rb.Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def closure_of(optimizer: optim.Optimizer, x: rb.Tensor, calls: list[float]) -> Any:
    def closure() -> rb.Tensor:
        optimizer.zero_grad()
        loss = rosenbrock(x)
        loss.backward()
        calls.append(loss.item())
        return loss

    return closure


def test_lbfgs_finds_the_valley() -> None:
    x = nn.Parameter(rb.asarray(np.array([-1.2, 1.0, 0.5])))
    optimizer = optim.LBFGS([x], line_search_fn="strong_wolfe", max_iter=40, max_eval=80)
    calls: list[float] = []
    first = optimizer.step(closure_of(optimizer, x, calls))
    assert first.item() == calls[0] > 40
    optimizer.step(closure_of(optimizer, x, calls))
    np.testing.assert_allclose(x.numpy(), 1.0, 1e-5)
    assert len(calls) <= 81 + 10
    with pytest.raises(rb.RabbetError, match="closure"):
        optimizer.step()
    with pytest.raises(ValueError, match="line_search_fn"):
        optim.LBFGS([x], line_search_fn="armijo")


def test_lbfgs_goes_on_from_a_saved_state() -> None:
    def make() -> tuple[nn.Parameter, optim.LBFGS]:
        x = nn.Parameter(rb.asarray(np.array([-1.2, 1.0])))
        return x, optim.LBFGS([x], lr=1e-3, max_iter=3, history_size=4)

    x, optimizer = make()
    for _ in range(3):
        optimizer.step(closure_of(optimizer, x, []))
    other, again = make()
    other.data = x.data
    again.load_state_dict(optimizer.state_dict())
    for y, o in ((x, optimizer), (other, again)):
        o.step(closure_of(o, y, []))
    assert x.tolist() == other.tolist()


def test_averaged_weights() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    mean, moving = nn.AveragedModel(net), nn.AveragedModel(net, avg_fn=nn.averaging.ema(0.75))
    seen = []
    for i in range(4):
        with rb.no_grad():
            net[0].weight.copy_(rb.full((3, 2), float(i * i)))
        seen.append(float(i * i))
        for averaged in (mean, moving):
            averaged.update_parameters(net)
    assert mean.module[0].weight[0, 0].item() == np.mean(seen)
    wanted = seen[0]
    for value in seen[1:]:
        wanted = 0.75 * wanted + 0.25 * value
    assert moving.module[0].weight[0, 0].item() == wanted and mean.n_averaged.item() == 4
    assert mean(rb.ones((5, 2))).shape == (5, 3)
    x = rb.asarray(np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))
    mean.eval()
    nn.averaging.update_bn([(x[:4], 0), (x[4:], 1)], mean)
    norm = mean.module[1]
    hidden = mean.module[0](x).numpy()
    np.testing.assert_allclose(norm.running_mean.numpy(), hidden.mean(0), 1e-5)
    assert norm.momentum == 0.1 and not norm.training
    again = nn.AveragedModel(net)
    again.load_state_dict(mean.state_dict())
    assert again.n_averaged.item() == 4


def cyclic(t: int) -> float:
    place = t % 7
    return place / 4 if place <= 4 else (7 - place) / 3


RATES: list[tuple[Any, Any]] = [
    (
        lambda o: schedules.CosineAnnealingWarmRestarts(o, 2, 2, 0.01),
        lambda t: (
            0.01 + 0.19 * (1 + math.cos(math.pi * [0, 1, 0, 1, 2, 3, 0, 1, 2, 3][t] / n_of(t))) / 2
        ),
    ),
    (
        lambda o: schedules.OneCycleLR(
            o, 1.0, epochs=2, steps_per_epoch=5, anneal_strategy="linear"
        ),
        lambda t: np.interp(t, [0, 2, 9], [0.04, 1, 4e-6]),
    ),
    (
        lambda o: schedules.OneCycleLR(o, 1.0, 10, anneal_strategy="linear", three_phase=True),
        lambda t: np.interp(t, [0, 2, 4, 9], [0.04, 1, 0.04, 4e-6]),
    ),
    (lambda o: schedules.CyclicLR(o, 0.1, 1.0, 4, 3), lambda t: 0.1 + 0.9 * cyclic(t)),
    (
        lambda o: schedules.CyclicLR(o, 0.1, 1.0, 4, 3, "triangular2"),
        lambda t: 0.1 + 0.9 * cyclic(t) / 2 ** (t // 7),
    ),
    (
        lambda o: schedules.CyclicLR(o, 0.1, 1.0, 4, 3, "exp_range", 0.9),
        lambda t: 0.1 + 0.9 * cyclic(t) * 0.9**t,
    ),
    (lambda o: schedules.MultiplicativeLR(o, lambda t: 0.5), lambda t: 0.2 * 0.5**t),
    (
        lambda o: schedules.ChainedScheduler(
            [schedules.ConstantLR(o, 0.1, 4), schedules.ExponentialLR(o, 0.9)]
        ),
        lambda t: 0.2 * (0.1 if t < 4 else 1) * 0.9**t,
    ),
    (
        lambda o: schedules.SWALR(o, 0.05, 5, "linear"),
        lambda t: 0.2 + (0.05 - 0.2) * min(t / 5, 1),
    ),
]


def n_of(t: int) -> int:
    return 2 if t < 2 else 4 if t < 6 else 8


@pytest.mark.parametrize(("make", "wanted"), RATES)
def test_rates(make: Any, wanted: Any) -> None:
    optimizer = optim.SGD([nn.Parameter(rb.ones((1,)))], lr=0.2)
    schedule = make(optimizer)
    for t in range(10):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(wanted(t), rel=1e-9), t
        schedule.step()
    for wrong in (
        lambda: schedules.CyclicLR(optimizer, 0.1, 1.0, cycle_momentum=True),
        lambda: schedules.OneCycleLR(optimizer, 1.0),
    ):
        with pytest.raises(ValueError, match=r"cycle_momentum|total_steps"):
            wrong()
