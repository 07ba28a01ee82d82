"""Weights computed from others, layers that count their inputs, running instance statistics."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn

X = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)


def test_weight_norm_splits_lengths_and_directions() -> None:
    fc = nn.Linear(5, 2)
    weight = fc.weight.numpy().copy()
    before = fc(rb.asarray(X)).numpy()
    assert nn.utils.weight_norm(fc) is fc and nn.utils.parametrize.is_parametrized(fc)
    np.testing.assert_allclose(fc(rb.asarray(X)).numpy(), before, 1e-5, 1e-6)
    assert sorted(fc.state_dict()) == [
        "bias",
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ]
    lengths, directions = fc.parametrizations["weight"].parameters()
    np.testing.assert_allclose(lengths.numpy()[:, 0], np.linalg.norm(weight, axis=1), 1e-6)
    (fc(rb.asarray(X)) ** 2).sum().backward()
    assert lengths.grad is not None and directions.grad is not None
    # A change of the length changes nothing but the length.
    slope = (directions.grad.numpy() * directions.numpy()).sum(1)
    np.testing.assert_allclose(slope, 0.0, atol=1e-3)
    twin = copy.deepcopy(fc)
    assert twin.state_dict().keys() == fc.state_dict().keys()
    plain = nn.utils.parametrize.remove_parametrizations(fc, "weight")
    assert type(plain) is nn.Linear and isinstance(plain.weight, nn.Parameter)
    np.testing.assert_allclose(plain.weight.numpy(), weight, 1e-6)


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    rb.manual_seed(1)
    fc = nn.utils.spectral_norm(nn.Linear(5, 4), n_power_iterations=20)
    fc(rb.asarray(X))
    values = np.linalg.svd(fc.weight.numpy(), compute_uv=False)
    assert values[0] == pytest.approx(1.0, abs=1e-3)
    fc.eval()
    u = fc.parametrizations["weight"]._modules["0"]._u.numpy().copy()
    fc(rb.asarray(X))
    assert (fc.parametrizations["weight"]._modules["0"]._u.numpy() == u).all()

    @rb.jit
    def run(x: rb.Tensor) -> rb.Tensor:
        return fc(x)

    assert [run(rb.asarray(X)).tolist() for _ in range(3)][-1] == fc(rb.asarray(X)).tolist()


def test_parametrizations_of_ones_own() -> None:
    class Symmetric(nn.Module):
        def forward(self, x: rb.Tensor) -> rb.Tensor:
            return x.triu() + x.triu(1).T

    class Exp(nn.Module):
        def forward(self, x: rb.Tensor) -> rb.Tensor:
            return rb.exp(x)

    fc = nn.Linear(3, 3)
    nn.utils.parametrize.register_parametrization(fc, "weight", Symmetric())
    nn.utils.parametrize.register_parametrization(fc, "weight", Exp())
    w = fc.weight.numpy()
    assert (w == w.T).all() and (w > 0).all()
    with pytest.raises(rb.RabbetError, match="no parameter 'nothing'"):
        nn.utils.parametrize.register_parametrization(fc, "nothing", Exp())
    with pytest.raises(rb.RabbetError, match="not parametrized"):
        nn.utils.parametrize.remove_parametrizations(fc, "bias")


LAZY: list[tuple[Any, Any, tuple[int, ...]]] = [
    (lambda: nn.LazyLinear(2, bias=False), lambda: nn.Linear(5, 2, bias=False), (4, 3, 5)),
    (lambda: nn.LazyConv1d(2, 3), lambda: nn.Conv1d(3, 2, 3), (4, 3, 5)),
    (lambda: nn.LazyConv2d(2, 3, padding=1), lambda: nn.Conv2d(3, 2, 3, padding=1), (1, 3, 5, 5)),
    (lambda: nn.LazyConv3d(2, 1), lambda: nn.Conv3d(3, 2, 1), (1, 3, 2, 2, 2)),
    (lambda: nn.LazyConvTranspose1d(2, 3), lambda: nn.ConvTranspose1d(3, 2, 3), (4, 3, 5)),
    (lambda: nn.LazyConvTranspose2d(2, 3), lambda: nn.ConvTranspose2d(3, 2, 3), (1, 3, 5, 5)),
    (lambda: nn.LazyConvTranspose3d(2, 1), lambda: nn.ConvTranspose3d(3, 2, 1), (1, 3, 2, 2, 2)),
    (nn.LazyBatchNorm1d, lambda: nn.BatchNorm1d(3), (4, 3, 5)),
    (nn.LazyBatchNorm2d, lambda: nn.BatchNorm2d(3), (4, 3, 5, 2)),
    (nn.LazyBatchNorm3d, lambda: nn.BatchNorm3d(3), (4, 3, 5, 2, 1)),
    (
        lambda: nn.LazyInstanceNorm1d(affine=True),
        lambda: nn.InstanceNorm1d(3, affine=True),
        (4, 3, 5),
    ),
    (
        lambda: nn.LazyInstanceNorm2d(affine=True),
        lambda: nn.InstanceNorm2d(3, affine=True),
        (4, 3, 5, 2),
    ),
    (
        lambda: nn.LazyInstanceNorm3d(affine=True),
        lambda: nn.InstanceNorm3d(3, affine=True),
        (1, 3, 5, 2, 1),
    ),
]


@pytest.mark.parametrize(("lazy", "plain", "shape"), LAZY)
def test_lazy_layers_become_plain_ones(lazy: Any, plain: Any, shape: tuple[int, ...]) -> None:
    x = rb.asarray(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    known, layer, loaded = plain(), lazy().eval(), lazy()
    known.eval()
    assert not list(layer.parameters())
    layer(x)
    assert type(layer) is type(known) and not layer.training
    layer.load_state_dict(known.state_dict())
    loaded.load_state_dict(known.state_dict())
    loaded.eval()
    assert layer(x).tolist() == known(x).tolist() == loaded(x).tolist()


def test_lazy_layers_say_what_is_wrong() -> None:
    net = nn.Sequential(nn.LazyLinear(2))
    with pytest.raises(rb.RabbetError, match=r"once before rb\.jit"):
        rb.jit(lambda x: net(x))(rb.ones((2, 3)))
    with pytest.raises(rb.ShapeError, match="too few axes"):
        nn.LazyConv1d(2, 3)(rb.ones(3))


def test_instance_norm_keeps_running_statistics() -> None:
    norm = nn.InstanceNorm1d(3, track_running_stats=True, momentum=0.5)
    norm(rb.asarray(X))
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.5 * X.mean((0, 2)), 1e-4, 1e-6)
    spread = X.var(2, ddof=1).mean(0)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.5 + 0.5 * spread, 1e-5)
    norm.eval()
    wanted = (X - norm.running_mean.numpy()[:, None]) / np.sqrt(
        norm.running_var.numpy()[:, None] + 1e-5
    )
    np.testing.assert_allclose(norm(rb.asarray(X)).numpy(), wanted, 1e-4, 1e-5)
    with pytest.raises(rb.RabbetError, match="running statistics"):
        nn.functional.instance_norm(rb.asarray(X), use_input_stats=False)


def test_parameter_dict() -> None:
    held = nn.ParameterDict({"a": rb.ones(2)})
    held["b"] = nn.Parameter(rb.zeros(3))
    assert list(held) == ["a", "b"] and "a" in held and len(held) == 2
    assert [n for n, _ in held.named_parameters()] == ["a", "b"]
    assert [v.shape for v in held.values()] == [(2,), (3,)]
    held.update({"a": rb.ones(4)})
    del held["b"]
    assert [(n, v.shape) for n, v in held.items()] == [("a", (4,))] and list(held.keys()) == ["a"]


def test_padded_sequences() -> None:
    parts = [rb.ones((2, 2)), rb.ones((3, 2)) * 2]
    found = nn.utils.rnn.pad_sequence(parts, padding_value=-1.0)
    assert found.shape == (3, 2, 2) and found[2, 0].tolist() == [-1, -1]
    back = nn.utils.rnn.unpad_sequence(found, rb.asarray([2, 3]))
    assert [b.tolist() for b in back] == [p.tolist() for p in parts]
    left = nn.utils.rnn.pad_sequence([rb.ones(1), rb.ones(2)], True, padding_side="left")
    assert left.tolist() == [[0, 1], [1, 1]]
    with pytest.raises(rb.ShapeError, match="pad_sequence"):
        nn.utils.rnn.pad_sequence([rb.ones((1, 2)), rb.ones((1, 3))])
