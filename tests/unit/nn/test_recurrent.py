"""Recurrent layers and cells against PyTorch where it is there, and step by step in NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base.errors import RabbetError, ShapeError
from rabbet.recorder import current


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def cell_by_hand(kind: str, p: dict[str, np.ndarray], x: np.ndarray, state: Any) -> Any:
    """PyTorch's formulas, in float64."""
    own = x @ p["weight_ih"].T + p["bias_ih"]
    if kind == "LSTM":
        h, c = state
        i, f, g, o = np.split(own + h @ p["weight_hh"].T + p["bias_hh"], 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    hidden = state[0] @ p["weight_hh"].T + p["bias_hh"]
    if kind == "RNN":
        return (np.tanh(own + hidden),)
    (a, b, c), (d, e, f) = np.split(own, 3, -1), np.split(hidden, 3, -1)
    r, z = sigmoid(a + d), sigmoid(b + e)
    return ((1 - z) * np.tanh(c + r * f) + z * state[0],)


KINDS = ("LSTM", "GRU", "RNN")


def draw(module: Any, seed: int = 0) -> None:
    """Random parameters, biases too."""
    rng = np.random.default_rng(seed)
    state = {n: rb.asarray(rng.uniform(-0.5, 0.5, t.shape)) for n, t in module.state_dict().items()}
    module.load_state_dict(state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_layer_is_its_cell_step_by_step(kind: str, reverse: bool) -> None:
    rng = np.random.default_rng(1)
    layer = getattr(nn, kind)(3, 20, bidirectional=reverse, dtype=rb.float64)
    draw(layer)
    x = rng.normal(size=(5, 18, 3))
    found, last = layer(rb.asarray(x))
    suffix = "_l0_reverse" if reverse else "_l0"
    p = {
        n.removesuffix(suffix): t.numpy()
        for n, t in layer.state_dict().items()
        if n.endswith(suffix)
    }
    state: Any = (np.zeros((18, 20)),) * (2 if kind == "LSTM" else 1)
    place = slice(20, 40) if reverse else slice(0, 20)
    for step in range(4, -1, -1) if reverse else range(5):
        state = cell_by_hand(kind, p, x[step], state)
        np.testing.assert_allclose(found.numpy()[step][:, place], state[0], 1e-12, 1e-12)
    last = last if kind == "LSTM" else (last,)
    for mine, wanted in zip(last, state, strict=True):
        np.testing.assert_allclose(mine.numpy()[-1], wanted, 1e-12, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_cells(kind: str) -> None:
    rng = np.random.default_rng(2)
    cell = getattr(nn, f"{kind}Cell")(3, 4, dtype=rb.float64)
    draw(cell)
    p = {n: t.numpy() for n, t in cell.state_dict().items()}
    x = rng.normal(size=(2, 3))
    state: Any = tuple(rng.normal(size=(2, 4)) for _ in range(2 if kind == "LSTM" else 1))
    given = tuple(map(rb.asarray, state))
    found = cell(rb.asarray(x), given if kind == "LSTM" else given[0])
    found = found if kind == "LSTM" else (found,)
    for mine, wanted in zip(found, cell_by_hand(kind, p, x, state), strict=True):
        np.testing.assert_allclose(mine.numpy(), wanted, 1e-12)
    assert cell(rb.asarray(x[0]))[0].shape == ((4,) if kind == "LSTM" else ())


@pytest.mark.parametrize("kind", KINDS)
def test_threads_segments_and_jit_give_the_same_bits(kind: str) -> None:
    layer = getattr(nn, kind)(8, 40, num_layers=2)
    x = rb.asarray(np.random.default_rng(3).normal(size=(6, 33, 8)).astype(np.float32))

    def run() -> list[np.ndarray]:
        layer.zero_grad()
        y, _ = layer(x)
        (y * y).sum().backward()
        return [y.numpy(), *(p.grad.numpy() for p in layer.parameters())]

    first = run()
    for _ in range(3):
        for a, b in zip(first, run(), strict=True):
            np.testing.assert_array_equal(a, b)
    fast = rb.jit(lambda x: layer(x)[0])
    for _ in range(3):
        np.testing.assert_array_equal(fast(x).numpy(), first[0])


OPTIONS = list(itertools.product((1, 2), (False, True), (False, True), (False, True)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "bias", "first", "both"), OPTIONS)
def test_torch_twins(kind: str, layers: int, bias: bool, first: bool, both: bool) -> None:
    torch = pytest.importorskip("torch")
    options = {"num_layers": layers, "bias": bias, "batch_first": first, "bidirectional": both}
    mine = getattr(nn, kind)(5, 7, **options)
    twin = getattr(torch.nn, kind)(5, 7, **options)
    mine.load_state_dict({n: rb.asarray(t.detach().numpy()) for n, t in twin.state_dict().items()})
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    start = rng.normal(size=(layers * (1 + both), 3 if first else 4, 7)).astype(np.float32)
    given, theirs = rb.asarray(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    hx, hy = rb.asarray(start), torch.tensor(start)
    y, last = mine(given, (hx, hx) if kind == "LSTM" else hx)
    wanted, end = twin(theirs, (hy, hy) if kind == "LSTM" else hy)
    np.testing.assert_allclose(y.numpy(), wanted.detach().numpy(), 1e-4, 1e-5)
    last, end = (last, end) if kind == "LSTM" else ((last,), (end,))
    total, other = (y * y).sum(), (wanted * wanted).sum()
    for a, b in zip(last, end, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), 1e-4, 1e-5)
        total, other = total + a.sum(), other + b.sum()
    total.backward()
    other.backward()
    np.testing.assert_allclose(given.grad.numpy(), theirs.grad.numpy(), 1e-3, 1e-5)
    for name, p in twin.named_parameters():
        found = dict(mine.named_parameters())[name].grad.numpy()
        np.testing.assert_allclose(found, p.grad.numpy(), 1e-3, 1e-5, err_msg=name)


def test_what_is_refused() -> None:
    with pytest.raises(RabbetError, match="proj_size"):
        nn.LSTM(3, 4, proj_size=2)
    with pytest.raises(ShapeError, match="last of size 3"):
        nn.GRU(3, 4)(rb.ones((5, 2, 4)))
    with pytest.raises(ShapeError, match="hx"):
        nn.GRU(3, 4)(rb.ones((5, 2, 3)), rb.ones((1, 3, 4)))
    with pytest.raises(RabbetError, match="nonlinearity"):
        nn.RNN(3, 4, nonlinearity="sine")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_examples_of_vmap_are_more_of_one_batch(rng: np.random.Generator, kind: Any) -> None:
    """One scan, whatever the number of steps; gradients of each example too."""
    layer = kind(3, 4)
    x = rb.asarray(rng.standard_normal((5, 6, 2, 3)).astype(np.float32))

    def loss(module: Any, one: Any) -> Any:
        return (module(one)[0] ** 2).sum()

    found = rb.vmap(lambda one: layer(one)[0])(x)
    before = len(current().nodes)
    rb.vmap(lambda one: layer(one)[0])(x)
    assert len(current().nodes) - before < 40  # unrolled they are more than 100
    for i in range(5):
        np.testing.assert_allclose(found[i].numpy(), layer(x[i])[0].numpy(), rtol=1e-6)
    each = rb.vmap(rb.grad(loss), in_axes=(None, 0))(layer, x)
    for name, g in each.named_parameters():
        one = dict(rb.grad(loss)(layer, x[3]).named_parameters())[name]
        np.testing.assert_allclose(g[3].numpy(), one.numpy(), rtol=1e-4, atol=1e-6)
    several = rb.stack([layer.weight_hh_l0, layer.weight_hh_l0 * 0.5])  # weights that differ

    def with_weight(w: Any) -> Any:
        return rb.functional_call(layer, {"weight_hh_l0": w}, (x[0],))[0]

    both = rb.vmap(with_weight)(several)
    for i in range(2):
        wanted = with_weight(several[i]).numpy()
        np.testing.assert_allclose(both[i].numpy(), wanted, rtol=1e-5, atol=1e-6)
