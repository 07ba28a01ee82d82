"""Module: what is registered where, names and layouts, states, modes, hooks."""

import copy
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base.errors import DTypeError, GradientError, RabbetError


class Net(nn.Module):
    """One of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4))
        self.scale = nn.Parameter(rb.ones((4,)))
        self.register_buffer("seen", rb.zeros((), dtype="int64"))
        self.register_buffer("scratch", rb.zeros((2,)), persistent=False)
        self.note = "plain"

    def forward(self, x: rb.Tensor) -> rb.Tensor:
        return self.body(x) * self.scale


NAMES = [
    *("scale", "seen", "body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias"),
    *("body.2.running_mean", "body.2.running_var", "body.2.num_batches_tracked"),
]


def test_names_are_those_of_pytorch() -> None:
    net = Net()
    assert list(net.state_dict()) == NAMES
    assert [name for name, _ in net.named_parameters()] == [
        *("scale", "body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias"),
    ]
    assert "scratch" in dict(net.named_buffers())
    assert [name for name, _ in net.named_modules()] == ["", "body", "body.0", "body.1", "body.2"]
    assert [name for name, _ in net.named_children()] == ["body"]
    assert net.get_parameter("body.0.weight") is net.body[0].weight
    assert net.get_submodule("body.1") is net.body[1]


def test_shared_parts_count_once() -> None:
    part = nn.Linear(2, 2)
    both = nn.Sequential(part, part)
    assert len(list(both.parameters())) == 2
    assert len(list(both.modules())) == 2
    assert list(both.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_parameter_is_a_leaf_and_its_results_are_plain_tensors() -> None:
    w = nn.Parameter(np.ones((2,), np.float32))
    assert w.is_leaf and w.requires_grad and isinstance(w, nn.Parameter)
    assert type(w * 2) is rb.Tensor
    (w * w).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [2.0, 2.0]
    assert not nn.Parameter(rb.ones((2,)), requires_grad=False).requires_grad
    with pytest.raises(GradientError, match="only floating"):
        nn.Parameter(rb.asarray([1, 2]))


def test_a_parameter_has_a_value_of_its_own() -> None:
    source = rb.ones((2,))
    w = nn.Parameter(source)
    with rb.no_grad():
        w.add_(1.0)
    assert source.tolist() == [1.0, 1.0] and not source.requires_grad
    w.data = rb.zeros((3,))
    assert w.shape == (3,) and w.requires_grad


def test_assigning_moves_names_between_kinds() -> None:
    net = Net()
    net.note = nn.Linear(1, 1)
    assert "note" in net._modules and "note" not in net.__dict__
    with pytest.raises(TypeError, match="must be a Module or None"):
        net.note = 3
    with pytest.raises(TypeError, match="must be a Parameter or None"):
        net.scale = rb.ones((4,))
    net.scale = None
    assert net.scale is None and "scale" not in net.state_dict()
    del net.body
    with pytest.raises(AttributeError, match="no attribute 'body'"):
        net.body  # noqa: B018
    with pytest.raises(AttributeError, match="already has an attribute"):
        net.register_buffer("note", rb.zeros(()))
    with pytest.raises(KeyError, match="without dots"):
        net.register_buffer("a.b", rb.zeros(()))


def test_forgotten_init_is_named() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            self.fc = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        Wrong()


def test_state_dict_is_a_snapshot_and_comes_back() -> None:
    net, other = Net(), Net()
    saved = net.state_dict()
    before = net.scale.numpy().copy()
    with rb.no_grad():
        net.scale.mul_(3.0)
    assert np.array_equal(saved["scale"].numpy(), before)
    result = other.load_state_dict(saved)
    assert result.missing_keys == [] and result.unexpected_keys == []
    for name, value in other.state_dict().items():
        assert np.array_equal(value.numpy(), saved[name].numpy()), name
    assert other.scale.is_leaf and other.scale.requires_grad


def test_loading_checks_everything_before_it_changes_anything() -> None:
    net = Net()
    before = net.body[0].weight.numpy().copy()
    state = {name: value.numpy() for name, value in Net().state_dict().items()}
    state["body.0.bias"] = np.zeros((5,), np.float32)
    del state["scale"]
    state["odd"] = np.zeros(())
    with pytest.raises(RabbetError) as failure:
        net.load_state_dict(state)
    for part in ("not known here: odd", "missing: scale", "(5,)", "(4,)"):
        assert part in str(failure.value)
    assert np.array_equal(net.body[0].weight.numpy(), before)
    del state["body.0.bias"]
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["scale", "body.0.bias"] and result.unexpected_keys == ["odd"]
    assert np.array_equal(net.body[0].weight.numpy(), state["body.0.weight"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "bias: the state's value, of type str, is no array of numbers"),
        (None, "bias: the state's value, of type NoneType, is no array of numbers"),
        ([[1.0], [1.0, 2.0]], "bias: the state's value, of type list, is no array of numbers"),
        (np.zeros(2, object), "bias: the state's value, of type ndarray, is no array"),
        (np.zeros(2, complex), "bias: the state has complex128, the module float32"),
    ],
)
def test_loading_names_the_entry_that_is_wrong(value: Any, message: str) -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.numpy().copy()
    with pytest.raises(RabbetError, match=message):
        layer.load_state_dict({"weight": np.ones((2, 3), np.float32), "bias": value})
    assert np.array_equal(layer.weight.numpy(), before)
    with pytest.raises(RabbetError, match="names and their values are needed, not a list"):
        layer.load_state_dict([1, 2])  # type: ignore[arg-type]


def test_modes_and_flags_reach_all_parts() -> None:
    net = Net()
    assert net.training and net.eval() is net
    assert not any(module.training for module in net.modules())
    net.train()
    assert all(module.training for module in net.modules())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    seen = []
    net.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Linear", "ReLU", "BatchNorm1d", "Sequential", "Net"]


def test_to_casts_floats_and_keeps_the_tensors_identity() -> None:
    net = Net()
    weight = net.body[0].weight
    assert net.to(rb.float64) is net and net.to("cpu") is net
    assert net.body[0].weight is weight and weight.dtype is rb.float64 and weight.requires_grad
    assert net.body[2].running_mean.dtype is rb.float64
    assert net.seen.dtype is rb.int64
    assert net(rb.ones((2, 3), dtype="float64")).dtype is rb.float64
    assert net.float().scale.dtype is rb.float32
    with pytest.raises(DTypeError, match="floating"):
        net.to("int64")


def test_a_layer_refuses_another_float() -> None:
    with pytest.raises(DTypeError, match=r"astype\(rb.float32\)"):
        nn.Linear(3, 2)(rb.asarray(np.ones((1, 3))))


def test_zero_grad() -> None:
    layer = nn.Linear(2, 1)
    layer(rb.ones((1, 2))).sum().backward()
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad is not None and layer.weight.grad.tolist() == [[0.0, 0.0]]
    layer.zero_grad()
    assert layer.weight.grad is None


def test_hooks_see_and_change_what_passes() -> None:
    layer = nn.Identity()
    seen = []
    before = layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    layer.register_forward_hook(lambda module, args, result: seen.append((args, result)))
    last = layer.register_forward_hook(lambda module, args, result: result * 10)
    assert layer(1) == 20 and seen == [((2,), 2)]
    before.remove()
    last.remove()
    assert layer(1) == 1
    first = layer.register_forward_hook(
        lambda module, args, kwargs, result: result + 5, with_kwargs=True, prepend=True
    )
    assert layer(1) == 6 and seen[-1] == ((1,), 6)
    with first:
        pass
    assert layer(1) == 1


def test_deepcopy_shares_nothing() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    with rb.no_grad():
        twin.scale.zero_()
    assert net.scale.tolist() == [1.0] * 4
    assert isinstance(twin.scale, nn.Parameter) and twin.scale.requires_grad
    twin(rb.ones((2, 3))).sum().backward()
    assert net.body[0].weight.grad is None


def test_repr_is_a_tree() -> None:
    assert repr(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU()))) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )


def test_functional_call_uses_other_values_and_puts_all_back() -> None:
    net = nn.Sequential(nn.Linear(2, 1, bias=False))
    own = net[0].weight
    given = rb.tensor([[2.0, 3.0]], requires_grad=True)
    result = nn.functional_call(net, {"0.weight": given}, rb.ones((1, 2)))
    result.sum().backward()
    assert result.tolist() == [[5.0]] and given.grad is not None and own.grad is None
    assert net[0].weight is own
    with pytest.raises(KeyError, match="has no '0.bias'"):
        nn.functional_call(net, {"0.weight": given, "0.bias": given}, rb.ones((1, 2)))
    assert net[0].weight is own


def test_containers() -> None:
    layers = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])
    layers.append(nn.ReLU()).insert(0, nn.Tanh())
    assert [type(layer).__name__ for layer in layers[:2]] == ["Tanh", "Linear"]
    assert isinstance(layers[-1], nn.ReLU) and len(layers) == 5
    del layers[0]
    assert list(layers.state_dict())[0] == "0.weight"
    with pytest.raises(IndexError):
        layers[4]
    named = nn.ModuleDict({"a": nn.Linear(1, 1)})
    named["b"] = nn.ReLU()
    assert list(named.keys()) == ["a", "b"] and "a" in named and len(named) == 2
    chain = nn.Sequential({"first": nn.Identity(), "second": nn.ReLU()})
    assert list(chain[1:]._modules) == ["second"]
    values = nn.ParameterList([rb.ones((1,)), nn.Parameter(rb.zeros((1,)))])
    assert [name for name, _ in values.named_parameters()] == ["0", "1"]


def test_a_jitted_forward_follows_the_mode_and_buffers() -> None:
    norm = nn.BatchNorm1d(2)
    x = rb.asarray(np.array([[1.0, 2.0], [3.0, 6.0]], np.float32))
    step = rb.jit(lambda x: norm(x).detach())
    for _ in range(4):
        trained = step(x)
    assert norm.num_batches_tracked.item() == 4
    norm.eval()
    assert not np.array_equal(step(x).numpy(), trained.numpy())
    assert norm.num_batches_tracked.item() == 4
    norm.train()
    assert np.array_equal(step(x).numpy(), trained.numpy())
