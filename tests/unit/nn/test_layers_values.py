"""Layers against formulas written out in NumPy; shapes and layouts as in PyTorch."""

import math

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base.errors import RabbetError, ShapeError

Rng = np.random.Generator


def normal(rng: Rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def check(found: rb.Tensor, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (nn.Linear(3, 5), {"weight": (5, 3), "bias": (5,)}),
        (nn.Linear(3, 5, bias=False), {"weight": (5, 3)}),
        (nn.Conv1d(4, 6, 3, groups=2), {"weight": (6, 2, 3), "bias": (6,)}),
        (nn.Conv2d(3, 4, (3, 2)), {"weight": (4, 3, 3, 2), "bias": (4,)}),
        (nn.ConvTranspose2d(3, 4, 3), {"weight": (3, 4, 3, 3), "bias": (4,)}),
        (nn.Embedding(7, 2), {"weight": (7, 2)}),
        (nn.LayerNorm((2, 3)), {"weight": (2, 3), "bias": (2, 3)}),
        (nn.RMSNorm(3), {"weight": (3,)}),
        (nn.PReLU(3), {"weight": (3,)}),
        (
            nn.MultiheadAttention(4, 2),
            {
                "in_proj_weight": (12, 4),
                "in_proj_bias": (12,),
                "out_proj.weight": (4, 4),
                "out_proj.bias": (4,),
            },
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_keys_and_layouts(layer: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    assert {name: t.shape for name, t in layer.state_dict().items()} == shapes


def test_linear(rng: Rng) -> None:
    layer, x = nn.Linear(3, 2), normal(rng, 4, 3)
    check(layer(rb.asarray(x)), x @ layer.weight.numpy().T + layer.bias.numpy())


def test_convolution_with_stride_and_padding(rng: Rng) -> None:
    layer, x = nn.Conv1d(2, 3, 3, stride=2, padding=1), normal(rng, 1, 2, 6)
    wide = np.pad(x[0], [(0, 0), (1, 1)])
    windows = np.stack([wide[:, i : i + 3] for i in (0, 2, 4)])  # (positions, C, K)
    expected = np.einsum("pck,ock->op", windows, layer.weight.numpy())
    check(layer(rb.asarray(x)), (expected + layer.bias.numpy()[:, None])[None])


@pytest.mark.parametrize("momentum", [0.3, None])
def test_batch_norm_statistics(rng: Rng, momentum: float | None) -> None:
    layer = nn.BatchNorm1d(3, momentum=momentum)
    mean, variance = np.zeros(3), np.ones(3)
    for step in range(1, 4):
        x = normal(rng, 8, 3) * 2 + 1
        share = momentum or 1 / step
        mean += share * (x.mean(0) - mean)
        variance += share * (x.var(0, ddof=1) - variance)
        check(layer(rb.asarray(x)), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), 1e-4)
    check(layer.running_mean, mean)
    check(layer.running_var, variance)
    assert layer.num_batches_tracked.item() == 3
    layer.eval()
    check(layer(rb.asarray(x)), (x - mean) / np.sqrt(variance + 1e-5), 1e-4)
    layer.reset_running_stats()
    assert layer.running_var.tolist() == [1.0] * 3 and layer.num_batches_tracked.item() == 0
    with pytest.raises(ShapeError, match="2 or 3 axes"):
        layer(rb.ones((1, 3, 2, 2)))


def test_row_norms(rng: Rng) -> None:
    x = normal(rng, 2, 4, 6)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    check(nn.LayerNorm(6)(rb.asarray(x)), expected, 1e-4)
    size = np.sqrt((x * x).mean(-1, keepdims=True) + np.finfo(np.float32).eps)
    check(nn.RMSNorm(6)(rb.asarray(x)), x / size, 1e-4)
    groups = x.reshape(2, 2, 12)
    centred = groups - groups.mean(-1, keepdims=True)
    wanted = centred / np.sqrt(groups.var(-1, keepdims=True) + 1e-5)
    check(nn.GroupNorm(2, 4)(rb.asarray(x)), wanted.reshape(x.shape), 1e-4)


def test_embedding_padding_row_stays() -> None:
    layer = nn.Embedding(4, 2, padding_idx=-3)
    assert layer.padding_idx == 1 and layer.weight[1].tolist() == [0.0, 0.0]
    layer(rb.asarray([1, 2, 2])).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.numpy()[:, 0].tolist() == [0.0, 0.0, 2.0, 0.0]
    table = nn.Embedding.from_pretrained(np.float32([[1, 2], [3, 4]]))
    assert table(rb.asarray([1])).tolist() == [[3.0, 4.0]] and not table.weight.requires_grad
    with pytest.raises(IndexError, match="padding_idx=4"):
        nn.Embedding(4, 2, padding_idx=4)


def test_dropout_scales_and_stops() -> None:
    rb.manual_seed(1)
    layer, x = nn.Dropout(0.25), rb.ones((4000,))
    found = layer(x).numpy()
    assert set(np.unique(found)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert abs((found == 0).mean() - 0.25) < 0.03
    assert not np.array_equal(found, layer(x).numpy())
    assert layer.eval()(x) is x
    assert nn.Dropout(1.0)(x).numpy().max() == 0
    rb.manual_seed(1)
    assert np.array_equal(found, layer.train()(x).numpy())
    with pytest.raises(ValueError, match="p=1.5"):
        nn.Dropout(1.5)


def test_dropout2d_drops_whole_channels() -> None:
    rb.manual_seed(0)
    found = nn.Dropout2d(0.5)(rb.ones((4, 8, 3, 3))).numpy().reshape(32, 9)
    assert all(len(set(channel)) == 1 for channel in found)
    assert set(found[:, 0]) == {0.0, 2.0}


def test_pooling(rng: Rng) -> None:
    x = normal(rng, 1, 2, 4, 6)
    tiles = x.reshape(1, 2, 2, 2, 3, 2)
    check(nn.MaxPool2d(2)(rb.asarray(x)), tiles.max((3, 5)))
    check(nn.AvgPool2d(2)(rb.asarray(x)), tiles.mean((3, 5)))
    check(nn.AdaptiveAvgPool2d(1)(rb.asarray(x)), x.mean((2, 3), keepdims=True))
    partial = nn.MaxPool2d(4, ceil_mode=True)(rb.asarray(x))
    check(partial, np.stack([x[..., :4].max((2, 3)), x[..., 4:].max((2, 3))], -1)[..., None, :])


def test_shapes_of_flatten_and_unflatten() -> None:
    x = rb.ones((2, 6, 4))
    assert nn.Flatten()(x).shape == (2, 24)
    assert nn.Flatten(0, 1)(x).shape == (12, 4)
    assert nn.Unflatten(1, (2, -1))(x).shape == (2, 2, 3, 4)


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    scores = np.where(hidden, -np.inf, q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1]))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention(rng: Rng, need_weights: bool) -> None:
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    x = normal(rng, 3, 5, 4)
    hidden = np.triu(np.ones((5, 5), bool), 1)
    padding = np.zeros((3, 5), bool)
    padding[1, 3:] = True
    wide = x @ layer.in_proj_weight.numpy().T + layer.in_proj_bias.numpy()
    q, k, v = wide.reshape(3, 5, 3, 2, 2).transpose(2, 0, 3, 1, 4)
    mixed = attend(q, k, v, hidden | padding[:, None, None]).transpose(0, 2, 1, 3)
    expected = mixed.reshape(3, 5, 4) @ layer.out_proj.weight.numpy().T
    found, weights = layer(
        *(rb.asarray(x),) * 3,
        attn_mask=rb.asarray(hidden),
        key_padding_mask=rb.asarray(padding),
        need_weights=need_weights,
    )
    check(found, expected + layer.out_proj.bias.numpy())
    assert (weights is not None) == need_weights
    assert weights is None or weights.shape == (3, 5, 5)
    turned = nn.MultiheadAttention(4, 2)
    turned.load_state_dict(layer.state_dict())
    across = rb.asarray(np.swapaxes(x, 0, 1).copy())
    straight, _ = layer(*(rb.asarray(x),) * 3)
    check(turned(across, across, across)[0].permute((1, 0, 2)), straight.numpy())


def test_attention_dropout_is_only_while_training(rng: Rng) -> None:
    layer, x = nn.MultiheadAttention(4, 2, dropout=0.9), rb.asarray(normal(rng, 6, 2, 4))
    assert not np.array_equal(layer(x, x, x)[0].numpy(), layer(x, x, x)[0].numpy())
    layer.eval()
    assert np.array_equal(layer(x, x, x)[0].numpy(), layer(x, x, x)[0].numpy())


@pytest.mark.parametrize(
    ("loss", "function"),
    [
        (nn.MSELoss(), lambda x, t: (x - t) ** 2),
        (nn.L1Loss(), lambda x, t: abs(x - t)),
        (nn.HuberLoss(delta=0.5), lambda x, t: _huber(x - t, 0.5)),
        (nn.SmoothL1Loss(beta=0.5), lambda x, t: _huber(x - t, 0.5) / 0.5),
        (nn.BCEWithLogitsLoss(), lambda x, t: np.logaddexp(0, x) - t * x),
        (nn.KLDivLoss(), lambda x, t: t * (np.log(t) - x)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_losses(rng: Rng, loss: nn.Module, function: object) -> None:
    x = normal(rng, 3, 4)
    t = rng.random((3, 4)).astype(np.float32)
    check(loss(rb.asarray(x), rb.asarray(t)), np.mean(function(x, t)))  # type: ignore[operator]


def _huber(d: np.ndarray, delta: float) -> np.ndarray:
    return np.where(abs(d) < delta, d * d / 2, delta * (abs(d) - delta / 2))


def test_cross_entropy_options(rng: Rng) -> None:
    x, t = normal(rng, 4, 3), np.array([0, 2, 1, 2])
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    weight = np.array([1.0, 2.0, 0.5], np.float32)
    loss = nn.CrossEntropyLoss(weight=rb.asarray(weight), reduction="sum")
    check(loss(rb.asarray(x), rb.asarray(t)), -(logs[range(4), t] * weight[t]).sum())
    assert list(loss.state_dict()) == ["weight"]
    ignoring = nn.CrossEntropyLoss(ignore_index=2)
    check(ignoring(rb.asarray(x), rb.asarray(t)), -logs[[0, 2], [0, 1]].mean())
    check(nn.NLLLoss()(rb.asarray(logs), rb.asarray(t)), -logs[range(4), t].mean())
    with pytest.raises(RabbetError, match="reduction='average'"):
        nn.MSELoss(reduction="average")


def test_functional_pad_and_friends(rng: Rng) -> None:
    x = normal(rng, 2, 3, 4)
    padded = nn.functional.pad(rb.asarray(x), (1, 2, 0, 1), value=7.0)
    check(padded, np.pad(x, [(0, 0), (0, 1), (1, 2)], constant_values=7))
    check(nn.functional.pad(rb.asarray(x), (-1, -2)), x[..., 1:-2])
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    check(nn.functional.normalize(rb.asarray(x)), x / norm)
    assert nn.functional.one_hot(rb.asarray([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    slope = np.array([0.5, 2.0, -1.0], np.float32)
    found = nn.functional.prelu(rb.asarray(x), rb.asarray(slope))
    check(found, np.where(x > 0, x, x * slope[:, None]))
    with pytest.raises(ShapeError, match="prelu"):
        nn.functional.prelu(rb.asarray(x), rb.ones((2,)))


def test_activation_options_are_passed_on() -> None:
    x = rb.asarray(np.array([-2.0, 0.5], np.float32))
    check(nn.LeakyReLU(0.5)(x), np.array([-1.0, 0.5]))
    check(nn.ELU(2.0)(x), np.array([2 * math.expm1(-2), 0.5]))
    check(nn.Hardtanh(-1, 0.25)(x), np.array([-1.0, 0.25]))
    check(nn.Softmax(dim=0)(x), np.exp([-2.0, 0.5]) / np.exp([-2.0, 0.5]).sum())
    check(nn.PReLU(init=0.5)(x), np.array([-1.0, 0.5]))
    with pytest.raises(RabbetError, match="dim=-1"):
        nn.Softmax()


def test_adaptive_softmax_is_one_softmax_of_products(rng: Rng) -> None:
    m = nn.AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs=[3, 7], div_value=2.0, head_bias=True)
    x = rb.asarray(rng.standard_normal((6, 8)).astype(np.float32))
    target = rb.asarray([0, 2, 3, 6, 7, 11])
    every = m.log_prob(x)
    np.testing.assert_allclose(every.exp().sum(axis=1).detach().numpy(), 1, rtol=1e-5)
    found = m(x, target)
    wanted = every.detach().numpy()[np.arange(6), target.numpy()]
    np.testing.assert_allclose(found.output.detach().numpy(), wanted, rtol=1e-5)
    np.testing.assert_allclose(found.loss.item(), -wanted.mean(), rtol=1e-5)
    np.testing.assert_array_equal(m.predict(x).numpy(), every.argmax(1).numpy())
    found.loss.backward()
    own = {n: p.grad.numpy().copy() for n, p in m.named_parameters()}
    m.zero_grad()
    rows = rb.asarray(np.arange(6))
    (-m.log_prob(x)[rows, target].mean()).backward()
    for name, p in m.named_parameters():
        np.testing.assert_allclose(own[name], p.grad.numpy(), rtol=1e-4, atol=1e-6)
    single = m(x[4], target[4])
    np.testing.assert_allclose(single.output.item(), wanted[4], rtol=1e-5)
    with pytest.raises(rb.IndexRangeError, match="not among 12 classes"):
        m(x, target + 1)
    with pytest.raises(rb.RabbetError, match="cutoffs"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs=[7, 3])
    with pytest.raises(rb.RabbetError, match="must be ints"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs=[4.5, 7])  # type: ignore[list-item]
    assert m.predict(x[0]).item() == m.predict(x)[0].item()
    with pytest.raises(rb.DTypeError, match="target is float32"):
        m(x, target.astype("float32"))


def test_fractional_pooling(rng: Rng) -> None:
    x = rb.asarray(rng.permutation(2 * 3 * 63).reshape(2, 3, 7, 9).astype(np.float32))
    values, places = nn.FractionalMaxPool2d(2, output_size=(3, 5), return_indices=True)(x)
    flat = x.numpy().reshape(2, 3, -1)
    taken = np.take_along_axis(flat, places.numpy().reshape(2, 3, -1), -1)
    np.testing.assert_array_equal(values.numpy().reshape(2, 3, -1), taken)
    assert nn.FractionalMaxPool2d(2, output_ratio=0.5)(x[0]).shape == (3, 3, 4)
    assert nn.FractionalMaxPool3d(2, output_size=2)(rb.ones((1, 2, 4, 5, 6))).shape[2:] == (2, 2, 2)
    with pytest.raises(rb.ShapeError, match="do not fit into 7"):
        nn.FractionalMaxPool2d(2, output_size=(7, 5))(x)
    with pytest.raises(rb.RabbetError, match="output_ratio=1 must be between"):
        nn.FractionalMaxPool2d(2, output_ratio=1)(x)
    with pytest.raises(rb.DTypeError, match="input is int32"):
        nn.FractionalMaxPool2d(2, output_ratio=0.5)(x.astype("int32"))
