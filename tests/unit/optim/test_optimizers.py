"""Optimizers against their update rules written in NumPy; states; what a schedule may change."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, optim
from rabbet.base.errors import RabbetError

Rule = Callable[[np.ndarray, np.ndarray, int, dict[str, Any]], np.ndarray]


def sgd(p: np.ndarray, g: np.ndarray, t: int, s: dict[str, Any], **o: Any) -> np.ndarray:
    g = g + o.get("decay", 0) * p
    if "momentum" in o:
        s["v"] = g if t == 1 else o["momentum"] * s["v"] + (1 - o.get("dampening", 0)) * g
        g = g + o["momentum"] * s["v"] if o.get("nesterov") else s["v"]
    return p - 0.1 * g


def adam(p: np.ndarray, g: np.ndarray, t: int, s: dict[str, Any], **o: Any) -> np.ndarray:
    if o.get("apart"):
        p = p * (1 - 0.1 * o["decay"])
    elif "decay" in o:
        g = g + o["decay"] * p
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    s["top"] = np.maximum(s.get("top", 0), s["v"])
    v = s["top"] if o.get("amsgrad") else s["v"]
    return p - 0.1 * (s["m"] / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def rmsprop(p: np.ndarray, g: np.ndarray, t: int, s: dict[str, Any]) -> np.ndarray:
    s["v"] = 0.99 * s.get("v", 0) + 0.01 * g * g
    s["a"] = 0.99 * s.get("a", 0) + 0.01 * g
    s["b"] = 0.5 * s.get("b", 0) + g / (np.sqrt(s["v"] - s["a"] ** 2) + 1e-8)
    return p - 0.1 * s["b"]


def adagrad(p: np.ndarray, g: np.ndarray, t: int, s: dict[str, Any]) -> np.ndarray:
    s["v"] = s.get("v", 0.5) + g * g
    return p - 0.1 / (1 + (t - 1) * 0.2) * g / (np.sqrt(s["v"]) + 1e-10)


CASES: list[tuple[Any, Any, dict[str, Any]]] = [
    (lambda p: optim.SGD(p, lr=0.1), sgd, {}),
    (
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        sgd,
        {"momentum": 0.9, "decay": 0.1, "nesterov": True},
    ),
    (
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
        sgd,
        {"momentum": 0.9, "dampening": 0.3},
    ),
    (lambda p: optim.Adam(p, lr=0.1, weight_decay=0.2), adam, {"decay": 0.2}),
    (
        lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.2, amsgrad=True),
        adam,
        {"decay": 0.2, "apart": True, "amsgrad": True},
    ),
    (lambda p: optim.RMSprop(p, lr=0.1, momentum=0.5, centered=True), rmsprop, {}),
    (
        lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.2, initial_accumulator_value=0.5),
        adagrad,
        {},
    ),
]


@pytest.mark.parametrize(("make", "rule", "options"), CASES)
def test_updates_follow_the_rule(
    rng: np.random.Generator, make: Any, rule: Any, options: dict[str, Any]
) -> None:
    """The second parameter has no gradient at steps 1 and 3, so it counts its own steps."""
    expected = [rng.standard_normal(3), rng.standard_normal(3)]
    held = [nn.Parameter(p.astype(np.float32)) for p in expected]
    optimizer = make(held)
    states: list[dict[str, Any]] = [{}, {}]
    counts = [0, 0]
    for step in range(1, 5):
        optimizer.zero_grad()
        for i, p in enumerate(held):
            if i == 0 or step in (2, 4):
                g = rng.standard_normal(3).astype(np.float32)
                p.grad = rb.asarray(g)
                counts[i] += 1
                expected[i] = rule(expected[i], g, counts[i], states[i], **options)
        optimizer.step()
        for p, wanted in zip(held, expected, strict=True):
            np.testing.assert_allclose(p.numpy(), wanted, rtol=2e-5, atol=2e-5)


def test_dampening_has_the_digits_of_the_parameters() -> None:
    p = nn.Parameter(rb.zeros((1,), dtype="float64"))
    optimizer = optim.SGD([p], lr=1.0, momentum=0.5, dampening=0.3)
    for _ in range(2):
        p.grad = rb.ones((1,), dtype="float64")
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), [-(1.0 + 0.5 + 0.7)], rtol=1e-15)


def make_problem(make: Any, seed: int = 0) -> tuple[nn.Module, Any, Callable[[], float]]:
    rb.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = make(model.parameters())
    rng = np.random.default_rng(seed)
    x = rb.asarray(rng.standard_normal((16, 4)).astype(np.float32))
    y = x.sum(axis=1, keepdims=True)

    def step() -> float:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return model, optimizer, step


@pytest.mark.parametrize("make", [CASES[1][0], CASES[4][0]])
def test_training_reduces_the_loss_and_resumes_bit_for_bit(make: Any, tmp_path: Any) -> None:
    model, optimizer, step = make_problem(make)
    losses = [step() for _ in range(6)]
    assert losses[-1] < losses[0]
    path = tmp_path / "state.safetensors"
    rb.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    rest = [step() for _ in range(4)]
    again, resumed, resumed_step = make_problem(make, seed=0)
    saved = rb.load(path)
    again.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert [resumed_step() for _ in range(4)] == rest
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert np.array_equal(p.numpy(), q.numpy())


def test_state_dict_has_the_form_of_pytorch() -> None:
    held = [nn.Parameter(rb.ones((2,))), nn.Parameter(rb.ones((3,)))]
    optimizer = optim.AdamW(
        [{"params": held[:1], "lr": 0.5}, {"params": held[1:], "betas": (0.8, 0.9)}], lr=0.1
    )
    held[0].grad = rb.ones((2,))
    optimizer.step()
    state = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1]]
    assert [group["lr"] for group in state["param_groups"]] == [0.5, 0.1]
    assert sorted(state["state"][0]) == ["exp_avg", "exp_avg_sq", "step"]
    assert [state["state"][i]["step"] for i in (0, 1)] == [1.0, 0.0]
    other = optim.AdamW([{"params": held[:1]}, {"params": held[1:]}])
    other.load_state_dict(state)
    assert other.param_groups[0]["lr"] == 0.5 and other.param_groups[1]["betas"] == (0.8, 0.9)
    with pytest.raises(RabbetError, match=r"groups of \[1, 1\]"):
        optim.AdamW(held).load_state_dict(state)
    state["state"][0]["exp_avg"] = np.zeros(7)
    with pytest.raises(RabbetError, match="exp_avg of parameter 0"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("state"), "it has no 'state'"),
        (lambda s: s.pop("param_groups"), "it has no 'param_groups'"),
        (lambda s: s.update(param_groups=3), "param_groups of the state is no list, but 3"),
        (lambda s: s["param_groups"][0].pop("params"), r"param_groups\[0\] .* has no 'params'"),
        (lambda s: s["state"].update({0: 3}), "of parameter 0, of type int, is no mapping"),
        (
            lambda s: s["state"][0].update(exp_avg="x"),
            "Adam: exp_avg of parameter 0, of type str, is no array of numbers",
        ),
    ],
)
def test_loading_names_what_is_wrong(change: Any, message: str) -> None:
    held = [nn.Parameter(rb.ones((2,)))]
    optimizer = optim.Adam(held)
    state = optimizer.state_dict()
    change(state)
    with pytest.raises(RabbetError, match=message):
        optimizer.load_state_dict(state)


def test_state_exists_from_construction() -> None:
    w = nn.Parameter(rb.ones((2, 2)))
    optimizer = optim.Adam([w])
    assert {name: t.shape for name, t in optimizer.state[w].items()} == {
        "exp_avg": (2, 2),
        "exp_avg_sq": (2, 2),
    }


def test_rates_read_and_write_as_numbers() -> None:
    w = nn.Parameter(rb.ones((1,)))
    optimizer = optim.SGD([w], lr=0.1)
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.1 and isinstance(group["lr"], float)
    old = group["lr"]
    group["lr"] *= 0.5
    assert (old, group["lr"]) == (0.1, 0.05)
    group["lr"] = rb.tensor(0.25)
    w.grad = rb.ones((1,))
    optimizer.step()
    assert w.tolist() == [0.75] and f"{group['lr']:.2f}" == "0.25"
    group["momentum"] = 0.5  # a buffer appears where there was none
    optimizer.step()
    optimizer.step()
    assert w.tolist() == [0.75 - 0.25 - 0.25 * 1.5]


def test_a_replayed_step_follows_the_rate_and_the_structure() -> None:
    w = nn.Parameter(rb.zeros((1,)))
    optimizer = optim.SGD([w], lr=1.0)

    @rb.jit
    def step() -> None:
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()

    for rate in (1.0, 0.5, 0.25):
        optimizer.param_groups[0]["lr"] = rate
        step()
    assert w.tolist() == [-1.75] and step.stats["replayed"] == 2
    optimizer.param_groups[0]["weight_decay"] = 1.0
    step()
    assert w.tolist() == [-1.75 - 0.25 * (1 - 1.75)] and step.stats["recorded"] == 2


def test_eager_and_jit_agree_bit_for_bit() -> None:
    found = []
    for wrap in (rb.jit, lambda f: f):
        rb.manual_seed(0)
        layer = nn.Linear(3, 2)
        optimizer = optim.AdamW(layer.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)

        def step(x: Any, layer: Any = layer, opt: Any = optimizer, sch: Any = schedule) -> None:
            opt.zero_grad()
            (layer(x) ** 2).sum().backward()
            opt.step()
            sch.step()

        taken = wrap(step)
        for i in range(5):
            taken(rb.full((2, 3), float(i)))
        found.append((layer.weight.numpy().tobytes(), schedule.get_last_lr(), schedule.last_epoch))
    assert found[0] == found[1] and found[0][2] == 5


def test_closure_maximize_and_groups_added_later() -> None:
    w, late = nn.Parameter(rb.zeros((1,))), nn.Parameter(rb.zeros((1,)))
    optimizer = optim.SGD([w], lr=1.0, maximize=True)
    optimizer.add_param_group({"params": late, "lr": 2.0})

    def closure() -> rb.Tensor:
        optimizer.zero_grad()
        loss = (w * 3 + late).sum()
        loss.backward()
        return loss

    with rb.no_grad():
        assert optimizer.step(closure).item() == 0.0
    assert w.tolist() == [3.0] and late.tolist() == [2.0]
    optimizer.zero_grad(set_to_none=False)
    assert w.grad is not None and w.grad.tolist() == [0.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: optim.SGD([]), "no parameters"),
        (lambda w: optim.SGD([w, w]), "twice"),
        (lambda w: optim.SGD([w], lr=-1.0), "lr=-1.0"),
        (lambda w: optim.SGD([w], nesterov=True), "nesterov needs"),
        (lambda w: optim.Adam([w], betas=(0.9, 1.0)), "betas"),
        (lambda w: optim.Adam([{"params": [w], "momentum": 1}]), "no hyper-parameter 'momentum'"),
        (lambda w: optim.SGD([w * 2]), "leaves"),
    ],
)
def test_senseless_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(nn.Parameter(rb.ones((1,))))
    with pytest.raises(TypeError, match="iterable"):
        optim.SGD(nn.Parameter(rb.ones((1,))))


def test_repr_has_a_line_for_each_group() -> None:
    a, b = (nn.Parameter(rb.ones(2)) for _ in range(2))
    opt = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
    first, one, two, last = repr(opt).split("\n")
    assert (first, last) == ("SGD(", ")")
    assert one.startswith("  (0): ParamGroup(1 parameters, ") and "lr=0.1," in one
    assert two.startswith("  (1): ") and "lr=0.5," in two
