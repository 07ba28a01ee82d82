"""Learning-rate schedules against their formulas."""

import json
import math
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, optim
from rabbet.base.errors import RabbetError
from rabbet.optim import lr_scheduler as schedules


def make_optimizer(lr: float = 0.1) -> optim.SGD:
    return optim.SGD([nn.Parameter(rb.ones((1,)))], lr=lr)


def rates(make: Any, steps: int) -> list[float]:
    optimizer = make_optimizer()
    schedule = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return found


CASES: list[tuple[Any, Any]] = [
    (lambda o: schedules.StepLR(o, 2, 0.5), lambda t: 0.5 ** (t // 2)),
    (
        lambda o: schedules.MultiStepLR(o, [4, 1], 0.1),
        lambda t: 0.1 ** ((t >= 1) + (t >= 4)),
    ),
    (lambda o: schedules.ExponentialLR(o, 0.9), lambda t: 0.9**t),
    (lambda o: schedules.ConstantLR(o, 0.25, 3), lambda t: 0.25 if t < 3 else 1),
    (lambda o: schedules.LinearLR(o, 0.2, 1.0, 4), lambda t: 0.2 + 0.8 * min(t, 4) / 4),
    (lambda o: schedules.PolynomialLR(o, 5, 2.0), lambda t: (1 - min(t, 5) / 5) ** 2),
    (lambda o: schedules.CosineAnnealingLR(o, 6), lambda t: (1 + math.cos(t * math.pi / 6)) / 2),
    (
        lambda o: schedules.CosineAnnealingWarmRestarts(o, 3),
        lambda t: (1 + math.cos(t % 3 * math.pi / 3)) / 2,
    ),
    (lambda o: schedules.LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: 1 / (1 + t)),
    (
        lambda o: schedules.SequentialLR(
            o, [schedules.LinearLR(o, 0.5, 1.0, 2), schedules.ExponentialLR(o, 0.5)], [3]
        ),
        lambda t: 0.5 + 0.25 * min(t, 2) if t < 3 else 0.5 ** (t - 3),
    ),
]


@pytest.mark.parametrize(("make", "formula"), CASES)
def test_rates_follow_the_formula(make: Any, formula: Any) -> None:
    np.testing.assert_allclose(rates(make, 8), [0.1 * formula(t) for t in range(8)], rtol=1e-12)


def test_one_cycle_rises_and_falls() -> None:
    found = rates(lambda o: schedules.OneCycleLR(o, max_lr=1.0, total_steps=11), 11)
    assert found[0] == pytest.approx(1 / 25) and found[10] == pytest.approx(1 / 25e4)
    top = int(np.argmax(found))
    assert np.all(np.diff(found[: top + 1]) > 0) and np.all(np.diff(found[top:]) < 0)


def test_a_schedule_inside_jit_steps_at_every_replay() -> None:
    optimizer = make_optimizer()
    schedule = schedules.LambdaLR(optimizer, lambda t: 0.5**t)
    step = rb.jit(lambda: schedule.step())
    found = []
    for _ in range(4):
        step()
        found.append(optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(found, [0.05, 0.025, 0.0125, 0.00625], rtol=1e-6)
    assert step.stats["replayed"] == 3 and schedule.last_epoch == 4


def test_states_are_json_and_go_on() -> None:
    optimizer = make_optimizer()
    schedule = schedules.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        schedule.step()
    state = json.loads(json.dumps(schedule.state_dict()))
    other = make_optimizer()
    resumed = schedules.ExponentialLR(other, 0.5)
    resumed.load_state_dict(state)
    resumed.step()
    assert resumed.last_epoch == 4 and resumed.get_last_lr() == [0.1 * 0.5**4]
    with pytest.raises(RabbetError, match="2 groups"):
        resumed.load_state_dict({"last_epoch": 0, "base_lrs": [0.1, 0.1]})


def test_groups_have_rates_of_their_own() -> None:
    held = [nn.Parameter(rb.ones((1,))) for _ in range(2)]
    optimizer = optim.SGD([{"params": [held[0]], "lr": 1.0}, {"params": [held[1]], "lr": 0.1}])
    schedule = schedules.LambdaLR(optimizer, [lambda t: 0.5**t, lambda t: 1.0])
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.1]
    with pytest.raises(ValueError, match="1 functions for 2 groups"):
        schedules.LambdaLR(optimizer, [lambda t: 1.0])


def test_plateau_waits_reduces_and_cools_down() -> None:
    optimizer = make_optimizer(1.0)
    schedule = schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1)
    found = []
    for value in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0):
        schedule.step(value)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    state = json.loads(json.dumps(schedule.state_dict()))
    assert state == {"best": 1.0, "num_bad_epochs": 1, "cooldown_counter": 0}
    resumed = schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    resumed.load_state_dict(state)
    resumed.step(rb.tensor(1.0))
    assert optimizer.param_groups[0]["lr"] == 0.125


def test_plateau_modes_and_floor() -> None:
    optimizer = make_optimizer(1.0)
    schedule = schedules.ReduceLROnPlateau(
        optimizer, "max", 0.1, 0, threshold=0.5, threshold_mode="abs", min_lr=0.05
    )
    for value in (1.0, 2.0, 2.25, 2.25):
        schedule.step(value)
    assert optimizer.param_groups[0]["lr"] == 0.05
    with pytest.raises(ValueError, match="less than 1"):
        schedules.ReduceLROnPlateau(optimizer, factor=1.0)
    with pytest.raises(ValueError, match="mode='best'"):
        schedules.ReduceLROnPlateau(optimizer, "best")
