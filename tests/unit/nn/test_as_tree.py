"""A module as a tree: its tensors are the leaves, everything else stays."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base.errors import GradientError


class Tied(nn.Module):
    """A part and a tensor in two places, a frozen parameter, buffers, plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first
        self.head = nn.Linear(3, 1)
        self.norm = nn.BatchNorm1d(3)
        self.scale = nn.Parameter(rb.tensor(2.0), requires_grad=False)
        self.tied = self.head.weight
        self.shape = [3, 1]

    def forward(self, x: Any) -> Any:
        h = self.second(rb.tanh(self.norm(self.first(x))))
        return self.head(h) * self.scale + (self.tied * x).sum(1, keepdims=True)


def loss(model: Any, x: Any, y: Any) -> Any:
    return ((model(x) - y) ** 2).mean()


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return tuple(rb.asarray(rng.standard_normal((8, n)).astype(np.float32)) for n in (3, 1))


@pytest.fixture
def model() -> Tied:
    rb.manual_seed(3)
    return Tied()


def test_leaves_and_back(model: Tied) -> None:
    leaves, structure = rb.tree.flatten({"m": model, "x": 1})
    names = [*dict(model.named_parameters()), *dict(model.named_buffers())]
    assert len(leaves) == len(names) + 1 and leaves[-1] == 1
    again = rb.tree.unflatten(structure, leaves)["m"]
    assert again is not model and type(again) is Tied
    assert again.first is again.second and again.first is not model.first
    assert again.tied is again.head.weight is model.head.weight
    assert again.shape == [3, 1] and again.training
    assert rb.tree.flatten({"m": again, "x": 1})[1] == structure
    assert str(again) == str(model) and list(again.state_dict()) == list(model.state_dict())


def test_structures_differ_where_modules_do(model: Tied) -> None:
    def structure(m: Any) -> Any:
        return rb.tree.flatten(m)[1]

    known = structure(model)
    assert structure(Tied()) == known and hash(structure(Tied())) == hash(known)
    model.shape.append(5)
    assert structure(model) != known
    assert structure(Tied().eval()) != known
    assert structure(nn.Linear(3, 2)) != structure(nn.Linear(3, 2, bias=False))
    assert structure(nn.Dropout(0.5)) != structure(nn.Dropout(0.25))
    hooked = Tied()
    hooked.register_forward_hook(lambda *a: None)
    assert structure(hooked) != known
    untied = Tied()
    untied.tied = nn.Parameter(rb.ones((1, 3)))
    assert structure(untied) != known


def test_gradients_are_a_module(model: Tied) -> None:
    x, y = data()
    value, found = rb.value_and_grad(loss)(model, x, y)
    assert type(found) is Tied and found.first is found.second
    assert rb.tree.flatten(found)[1] == rb.tree.flatten(model)[1]
    assert not any(t.requires_grad for t in rb.tree.flatten(found)[0])
    wanted = loss(model, x, y)
    wanted.backward()
    assert value.item() == wanted.item()
    for (name, p), (_, g) in zip(model.named_parameters(), found.named_parameters(), strict=True):
        given = np.zeros(p.shape, np.float32) if p.grad is None else p.grad.numpy()
        assert np.array_equal(given, g.numpy()), name
    assert model.scale.grad is None
    for name, b in found.named_buffers():
        assert not b.numpy().any() and b.dtype is model.get_buffer(name).dtype, name


def test_vjp_jvp_and_second_order(model: Tied) -> None:
    x, y = data()
    model.eval()
    found = rb.grad(loss)(model, x, y)
    _, pull = rb.vjp(lambda m: loss(m, x, y), model)
    same(pull(rb.tensor(1.0))[0], found)
    along = rb.tree.map_leaves(rb.ones_like, model)
    _, moved = rb.jvp(lambda m: loss(m, x, y), (model,), (along,))
    total = sum(float(g.numpy().sum()) for g in found.parameters())
    assert abs(moved.item() - total) < 1e-3 * (1 + abs(total))

    def after_a_step(m: Any) -> Any:
        g = rb.grad(loss)(m, x, y)
        return loss(rb.tree.map_leaves(lambda p, d: p - 0.1 * d, m, g), x, y)

    def by_name(params: Any) -> Any:
        held = {**params, "scale": model.scale}
        inner = rb.grad(lambda p: step_loss({**p, "scale": model.scale}))(params)
        moved = {k: v - 0.1 * inner[k] for k, v in params.items()}
        return step_loss({**held, **moved})

    def step_loss(p: Any) -> Any:
        return ((rb.functional_call(model, p, (x,)) - y) ** 2).mean()

    names = [n for n, p in model.named_parameters() if p.requires_grad]
    wanted = rb.grad(by_name)({n: model.get_parameter(n).detach() for n in names})
    meta = rb.grad(after_a_step)(model)
    for name in names:
        assert np.allclose(meta.get_parameter(name).numpy(), wanted[name].numpy(), atol=1e-6), name


def same(a: Any, b: Any) -> None:
    pairs = zip(rb.tree.flatten(a)[0], rb.tree.flatten(b)[0], strict=True)
    assert all(np.array_equal(p.numpy(), q.numpy()) for p, q in pairs)


def test_a_step_under_jit_is_replayed(model: Tied) -> None:
    x, y = data()

    def step(m: Any) -> tuple[Any, Any]:
        value, g = rb.value_and_grad(loss)(m, x, y)
        with rb.no_grad():
            return value, rb.tree.map_leaves(
                lambda p, d: p - 0.1 * d if p.dtype.is_float else p, m, g
            )

    jitted = rb.jit(step)
    eager, compiled = model, copy.deepcopy(model)  # each updates its own running statistics
    for _ in range(5):
        a, eager = step(eager)
        b, compiled = jitted(compiled)
        assert a.item() == b.item()
    assert jitted.stats["replayed"] >= 3 and not jitted.why
    same(eager, compiled)
    assert type(compiled) is Tied and compiled.first is compiled.second


def test_jit_sees_the_mode_of_every_module() -> None:
    outside, x = nn.Dropout(0.5), rb.linspace(1.0, 2.0, 100)
    plain = rb.value_and_grad(lambda x: (x * x).sum())(x)[0].item()
    inside = nn.Dropout(0.5)
    f = rb.jit(lambda m, x: rb.value_and_grad(lambda x, m: (outside(x) * m(x)).sum())(x, m)[0])
    for mode in (True, False, True, False):
        outside.train(mode)
        inside.train(mode)
        for _ in range(2):
            assert (f(inside, x).item() == plain) == (not mode)
    g = rb.jit(lambda x: rb.grad(lambda m: m(x).sum())(outside) and outside(x))
    assert [g(x) is not None for _ in range(2)] == [True, True]


def test_a_jitted_method_has_its_own_module() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(rb.ones(3))
            self.calls = 0

        @rb.jit
        def forward(self, x: Any) -> Any:
            self.calls += 1
            return (self.weight * x).sum()

    model, x = Counts(), rb.ones(3)
    with rb.no_grad():
        assert [model(x).item() for _ in range(3)] == [3, 3, 3]
        assert model.calls == 1
        model.weight *= 2
        assert model(x).item() == 6 and Counts()(x).item() == 3


def test_updates_in_place_reach_the_model() -> None:
    x = rb.asarray(np.arange(12, dtype=np.float32).reshape(4, 3))

    def forward(m: Any, x: Any) -> Any:
        return m(x).sum()

    models = [nn.BatchNorm1d(3) for _ in range(3)]
    calls = (forward, rb.jit(forward), lambda m, x: rb.value_and_grad(forward)(m, x)[0])
    for m, call in zip(models, calls, strict=True):
        for _ in range(3):
            call(m, x).item()
    for m in models[1:]:
        assert np.array_equal(m.running_mean.numpy(), models[0].running_mean.numpy())
        assert m.num_batches_tracked.item() == 3


def test_an_ensemble_by_vmap() -> None:
    rb.manual_seed(0)
    models = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(5)]
    stacked = rb.tree.map_leaves(lambda *p: rb.stack(list(p)), *models)
    x, y = data()
    found = rb.vmap(lambda m, x: m(x), in_axes=(0, None))(stacked, x)
    wanted = [m(x).numpy() for m in models]
    assert np.allclose(found.numpy(), np.stack(wanted), atol=1e-6)
    grads = rb.vmap(rb.grad(loss), in_axes=(0, None, None))(stacked, x, y)
    one = rb.grad(loss)(models[2], x, y)
    for g, w in zip(grads.parameters(), one.parameters(), strict=True):
        assert np.allclose(g.numpy()[2], w.numpy(), atol=1e-5)


def test_functional_call_with_a_module() -> None:
    a, b, x = nn.Linear(3, 2), nn.Linear(3, 2), rb.ones((1, 3))
    assert np.array_equal(rb.functional_call(a, b, x).numpy(), b(x).numpy())
    with pytest.raises(KeyError, match="has no 'weight'"):
        rb.functional_call(nn.ReLU(), b, x)


def test_errors() -> None:
    with pytest.raises(ValueError, match="tree 2 has another form"):
        rb.tree.map_leaves(lambda a, b: a, nn.Linear(1, 1), nn.Linear(1, 1, bias=False))
    with pytest.raises(GradientError, match="another form"):
        rb.jvp(lambda m: m(rb.ones(1)).sum(), (nn.Linear(1, 1),), (nn.Linear(1, 1, bias=False),))
