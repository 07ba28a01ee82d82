"""Initial values: ranges, variances, the generator; clipping of gradients."""

import math
from collections.abc import Callable

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base.errors import RabbetError, ShapeError
from rabbet.nn import init

FANS = (32 * 3, 64 * 3)  # of a weight (64, 32, 3)


@pytest.mark.parametrize(
    ("fill", "std"),
    [
        (init.xavier_uniform_, math.sqrt(2 / sum(FANS))),
        (init.xavier_normal_, math.sqrt(2 / sum(FANS))),
        (init.kaiming_uniform_, math.sqrt(2 / FANS[0])),
        (lambda t: init.kaiming_normal_(t, mode="fan_out"), math.sqrt(2 / FANS[1])),
        (lambda t: init.kaiming_normal_(t, nonlinearity="linear"), math.sqrt(1 / FANS[0])),
        (init.uniform_, math.sqrt(1 / 12)),
        (init.normal_, 1.0),
        (lambda t: init.trunc_normal_(t, std=0.5, a=-1, b=1), 0.5 * 0.8796),
    ],
)
def test_spread(fill: Callable[[rb.Tensor], rb.Tensor], std: float) -> None:
    rb.manual_seed(0)
    weight = nn.Parameter(rb.zeros((64, 32, 3)))
    assert fill(weight) is weight and weight.is_leaf and weight.requires_grad
    assert abs(weight.numpy().std() / std - 1) < 0.03


def test_linear_starts_as_in_pytorch() -> None:
    rb.manual_seed(0)
    layer = nn.Linear(100, 300)
    for values in (layer.weight.numpy(), layer.bias.numpy()):
        assert abs(values).max() <= 0.1
        assert abs(values.std() / (0.1 / math.sqrt(3)) - 1) < 0.1
    rb.manual_seed(0)
    assert np.array_equal(nn.Linear(100, 300).weight.numpy(), layer.weight.numpy())


def test_trunc_normal_stays_inside() -> None:
    found = init.trunc_normal_(rb.zeros((5000,)), a=-0.5, b=0.25).numpy()
    assert found.min() >= -0.5 and found.max() <= 0.25


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (4, 2, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal_(rb.zeros(shape), gain=2.0).numpy().reshape(shape[0], -1) / 2
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-5)


def test_constants() -> None:
    assert init.eye_(rb.zeros((2, 3))).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert init.constant_(rb.zeros((2,)), 3.0).tolist() == [3.0, 3.0]
    assert init.ones_(rb.zeros((1,))).tolist() == [1.0]
    with pytest.raises(ShapeError, match="2 axes or more"):
        init.xavier_uniform_(rb.zeros((3,)))
    with pytest.raises(ValueError, match="no gain is known"):
        init.calculate_gain("sine")


def grown(*values: list[float]) -> list[nn.Parameter]:
    """Parameters whose gradients are their values."""
    found = [nn.Parameter(np.array(v, np.float32)) for v in values]
    sum((p * p).sum() / 2 for p in found).backward()
    return found


def test_clip_grad_norm() -> None:
    held = grown([3.0], [0.0, 4.0])
    norm = nn.utils.clip_grad_norm_([*held, nn.Parameter(rb.ones((1,)))], 1.0)
    assert norm.item() == 5.0
    np.testing.assert_allclose(held[1].grad.numpy(), [0.0, 0.8], rtol=1e-5)
    small = grown([0.3])
    nn.utils.clip_grad_norm_(small, 1.0)
    np.testing.assert_array_equal(small[0].grad.numpy(), np.float32([0.3]))
    assert nn.utils.clip_grad_norm_(grown([3.0], [-4.0]), 1.0, math.inf).item() == 4.0
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0.0
    with pytest.raises(RabbetError, match="norm of the gradients is nan"):
        nn.utils.clip_grad_norm_(grown([math.nan]), 1.0, error_if_nonfinite=True)


def test_clip_grad_value() -> None:
    held = grown([3.0, -0.25, -9.0])
    nn.utils.clip_grad_value_(held, 0.5)
    assert held[0].grad.tolist() == [0.5, -0.25, -0.5]


def test_parameters_as_a_vector() -> None:
    layer = nn.Linear(2, 3)
    nn.utils.vector_to_parameters(rb.arange(9, dtype="float32"), layer.parameters())
    assert layer.bias.tolist() == [6.0, 7.0, 8.0]
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.tolist() == [float(i) for i in range(9)]
    with pytest.raises(ShapeError, match="9 numbers"):
        nn.utils.vector_to_parameters(rb.zeros((8,)), layer.parameters())


def test_what_hands_channels_through() -> None:
    for groups, shape in ((1, (3, 2, 3)), (2, (4, 3, 3, 5)), (1, (2, 2, 1, 2, 3))):
        w = init.dirac_(rb.ones(shape), groups).numpy()
        wanted = np.zeros(shape)
        for g in range(groups):
            for k in range(min(shape[0] // groups, shape[1])):
                place = (g * (shape[0] // groups) + k, k, *(n // 2 for n in shape[2:]))
                wanted[place] = 1
        np.testing.assert_array_equal(w, wanted)
    with pytest.raises(ShapeError, match="dirac_"):
        init.dirac_(rb.ones((3, 2, 3)), 2)


def test_sparse_columns() -> None:
    w = init.sparse_(rb.ones((20, 50)), 0.31, std=2.0).numpy()
    assert set((w == 0).sum(0)) == {7} and 1.5 < w[w != 0].std() < 2.5
    with pytest.raises(ShapeError, match="sparse_"):
        init.sparse_(rb.ones(3), 0.5)
    with pytest.raises(ValueError, match="1.5"):
        init.sparse_(rb.ones((3, 3)), 1.5)
