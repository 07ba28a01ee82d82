"""Functions of images and losses against small values worked out by hand or with NumPy."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.nn import functional as F

Rng = np.random.Generator


def close(found: rb.Tensor, wanted: object, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found.numpy(), np.asarray(wanted), tolerance, tolerance)


# ---- pooling -------------------------------------------------------------------------------------


def test_pooling_finds_places_and_puts_back(rng: Rng) -> None:
    x = rb.asarray(rng.permutation(48).reshape(1, 2, 4, 6).astype(np.float32))
    values, places = F.max_pool2d(x, 2, return_indices=True)
    flat = x.numpy().reshape(1, 2, 24)
    np.testing.assert_array_equal(
        np.take_along_axis(flat, places.numpy().reshape(1, 2, 6), 2).reshape(values.shape), values
    )
    back = F.max_unpool2d(values, places, 2)
    assert back.shape == x.shape
    np.testing.assert_array_equal(back.numpy(), np.where(np.isin(x, values), x, 0))
    with pytest.raises(rb.ShapeError, match="max_unpool2d: output_size"):
        F.max_unpool2d(values, places, 2, output_size=(9, 9))
    same, at = F.adaptive_max_pool2d(x, (2, 3), return_indices=True)
    assert (same == values).all() and (at == places).all()


def test_a_window_of_minus_infinity_has_a_place_inside() -> None:
    x = rb.full((1, 1, 3), float("-inf"))
    places = F.max_pool1d(x, 2, 1, 1, return_indices=True)[1]
    assert places.numpy().min() >= 0 and places.numpy().max() < 3
    for size, stride, padding, dilation in ((2, 2, 1, 1), (2, 1, 1, 3), (17, 3, 8, 1)):
        image = rb.full((1, 1, 20), float("-inf"), requires_grad=True)
        given = image, size, stride, padding, dilation
        places = F.max_pool1d(*given, return_indices=True)[1].numpy().reshape(-1)
        F.max_pool1d(*given).sum().backward()
        np.testing.assert_array_equal(image.grad.numpy()[0, 0], np.bincount(places, minlength=20))


# ---- sizes, borders, grids -----------------------------------------------------------------------


def test_interpolation() -> None:
    x = rb.asarray([[[1.0, 3.0]]])
    close(F.interpolate(x, 4, mode="nearest"), [[[1, 1, 3, 3]]])
    close(F.interpolate(x, 4, mode="linear"), [[[1, 1.5, 2.5, 3]]])
    close(F.interpolate(x, 3, mode="linear", align_corners=True), [[[1, 2, 3]]])
    close(F.interpolate(x, 1, mode="area"), [[[2]]])
    image = rb.arange(16, dtype="float32").reshape(1, 1, 4, 4)
    close(F.interpolate(image, scale_factor=0.5, mode="bilinear"), [[[[2.5, 4.5], [10.5, 12.5]]]])
    # Keys' weights for a quarter of the way: -27/256, 225/256, 67/256, -9/256
    wide = F.interpolate(image, (4, 8), mode="bicubic")[0, 0, 0].numpy()
    np.testing.assert_allclose(wide[3:5], [1.296875, 1.703125], atol=1e-6)
    with pytest.raises(rb.RabbetError, match="'linear' does not fit"):
        F.interpolate(image, 2, mode="linear")
    with pytest.raises(rb.RabbetError, match="size or scale_factor"):
        F.interpolate(image)


def test_borders() -> None:
    x = rb.asarray([1.0, 2.0, 3.0])
    close(F.pad(x, (2, 1), mode="reflect"), [3, 2, 1, 2, 3, 2])
    close(F.pad(x, (2, 1), mode="replicate"), [1, 1, 1, 2, 3, 3])
    close(F.pad(x, (2, 1), mode="circular"), [2, 3, 1, 2, 3, 1])
    with pytest.raises(rb.ShapeError, match="more than mode='reflect'"):
        F.pad(x, (3, 0), mode="reflect")


def test_columns_and_back() -> None:
    x = rb.arange(9, dtype="float32").reshape(1, 1, 3, 3)
    columns = F.unfold(x, 2)
    close(columns[0, :, 0], [0, 1, 3, 4])
    times = rb.asarray([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])  # windows that hold each element
    close(F.fold(columns, 3, 2), x * times)


def test_a_grid_of_its_own_positions_gives_the_image(rng: Rng) -> None:
    x = rb.asarray(rng.standard_normal((2, 3, 4, 5)))
    theta = rb.asarray(np.tile(np.eye(2, 3), (2, 1, 1)))
    for mode, corners in product(("bilinear", "nearest", "bicubic"), (False, True)):
        grid = F.affine_grid(theta, x.shape, corners)
        close(F.grid_sample(x, grid, mode, "border", corners), x)
    outside = F.grid_sample(x, rb.full((2, 1, 1, 2), 5.0, dtype="float64"))
    close(outside, np.zeros((2, 3, 1, 1)))


# ---- losses --------------------------------------------------------------------------------------


def alignments(probabilities: np.ndarray, target: list[int], blank: int) -> float:
    """The probability of a target, by all labels of all steps."""
    total = 0.0
    for labels in product(range(probabilities.shape[1]), repeat=probabilities.shape[0]):
        short = [a for i, a in enumerate(labels) if i == 0 or a != labels[i - 1]]
        if [a for a in short if a != blank] == target:
            total += math.prod(probabilities[t, a] for t, a in enumerate(labels))
    return total


def test_ctc_is_the_sum_over_alignments(rng: Rng) -> None:
    scores = rng.standard_normal((5, 3, 3))
    scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
    targets, frames, counts = [[1, 2], [1, 1], [2, 0]], [5, 4, 3], [2, 2, 1]
    found = F.ctc_loss(rb.asarray(scores), targets, frames, counts, reduction="none")
    wanted = [
        -math.log(alignments(np.exp(scores[:t, n]), targets[n][:c], 0))
        for n, (t, c) in enumerate(zip(frames, counts, strict=True))
    ]
    close(found, wanted)
    joined = F.ctc_loss(rb.asarray(scores), [1, 2, 1, 1, 2], frames, counts, reduction="sum")
    close(joined, sum(wanted))


def test_ctc_of_a_target_that_does_not_fit() -> None:
    scores = rb.zeros((2, 1, 3), requires_grad=True)
    assert F.ctc_loss(scores, [[1, 1]], [2], [2]).item() == math.inf
    loss = F.ctc_loss(scores, [[1, 1]], [2], [2], zero_infinity=True)
    loss.backward()
    assert loss.item() == 0 and not scores.grad.numpy().any()


@pytest.mark.parametrize("label", [3, 9, -1])
def test_labels_do_not_count_from_the_end(label: int) -> None:
    wanted = f"index {label} .element 1. is out of range: it must be from 0 to 2"
    with pytest.raises(rb.IndexRangeError, match=wanted):
        F.ctc_loss(rb.zeros((2, 1, 3)), [[1, label]], [2], [2]).item()
    with pytest.raises(rb.IndexRangeError, match=wanted):
        F.cross_entropy(rb.zeros((2, 3)), rb.asarray([1, label])).item()
    with pytest.raises(rb.IndexRangeError, match=wanted):
        F.multi_margin_loss(rb.zeros((2, 3)), rb.asarray([1, label]), weight=rb.ones(3)).item()
    with pytest.raises(rb.IndexRangeError, match="index 3 .element 0. .* must be from 0 to 2"):
        F.ctc_loss(rb.zeros((2, 1, 3)), [[1, 2]], rb.asarray([3]), [2]).item()


def test_own_classes_do_not_count_from_the_end() -> None:
    with pytest.raises(rb.IndexRangeError, match="index 3 .element 1. .* must be from 0 to 2"):
        F.multilabel_margin_loss(rb.zeros((2, 3)), rb.asarray([[1, 3, -1], [-1, 0, 0]])).item()


def test_ctc_of_nothing() -> None:
    scores, none = rb.zeros((4, 2, 3)) - 1.0, rb.zeros((0,), dtype="int64")
    for targets in (none, rb.zeros((2, 0), dtype="int64")):
        close(F.ctc_loss(scores, targets, [4, 3], [0, 0], reduction="none"), [4.0, 3.0])
    assert F.ctc_loss(scores[:, 0], none, [4], [0]).item() == 4.0
    for targets in (none, rb.zeros((0, 2), dtype="int64")):
        assert F.ctc_loss(rb.zeros((4, 0, 3)), targets, [], [], reduction="none").shape == (0,)


@pytest.mark.parametrize(
    ("targets", "frames", "counts", "error", "message"),
    [
        ([[1, -1]], [2], [2], rb.IndexRangeError, "index -1 .element 1. .* from 0 to 2"),
        ([[1, 3]], [2], [2], rb.IndexRangeError, "index 3 .element 1. .* from 0 to 2"),
        ([[1, 2]], [2], [3], rb.IndexRangeError, "target_lengths.0.=3 must be from 0 to 2"),
        ([[1, 2]], [-1], [2], rb.IndexRangeError, "input_lengths.0.=-1 must be from 0 to 2"),
        ([[1, 2]], rb.asarray([3]), [2], rb.IndexRangeError, "index 3 .* from 0 to 2"),
        ([1, 2], [2], rb.asarray([-1]), rb.IndexRangeError, "target_lengths .-1. must be 0"),
        ([[1, 2]], [1.5], [2], rb.DTypeError, "input_lengths is float64"),
        ([[1, 2]], [2], rb.asarray([1.5]), rb.DTypeError, "target_lengths is float32"),
        ([[1.5, 2]], [2], [2], rb.DTypeError, "targets is float32"),
    ],
)
def test_ctc_says_what_is_wrong(
    targets: Any, frames: Any, counts: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        F.ctc_loss(rb.zeros((2, 1, 3)), targets, frames, counts).item()


def test_losses_of_margins() -> None:
    x, y = rb.asarray([[1.0, 0.0], [0.0, 2.0]]), rb.asarray([[0.0, 1.0], [0.0, 1.0]])
    cosine = nn.CosineEmbeddingLoss(margin=0.5, reduction="none")(x, y, rb.asarray([1, -1]))
    close(cosine, [1.0, 0.5])
    close(nn.MarginRankingLoss(0.5)(x[0], y[0], rb.asarray([1, 1])), 0.75)
    close(nn.HingeEmbeddingLoss(reduction="none")(x[1], rb.asarray([-1, 1])), [1.0, 2.0])
    close(nn.MultiMarginLoss()(x, rb.asarray([0, 0])), (0 + 3 / 2) / 2)
    close(nn.MultiLabelMarginLoss()(x[1], rb.asarray([0, -1])), 1.5)
    near = nn.TripletMarginLoss(p=1)(x, x, y)
    close(near, 0.0, 1e-4)  # distances 0 and 2, 0 and 1, of a margin of 1
    close(nn.PoissonNLLLoss()(rb.zeros(2), rb.ones(2)), 1.0)
    close(nn.GaussianNLLLoss()(rb.zeros(2), rb.ones(2), rb.ones(2)), 0.5)


def test_bags_of_rows() -> None:
    table = rb.arange(8, dtype="float32").reshape(4, 2)
    close(F.embedding_bag(rb.asarray([[0, 1], [3, 3]]), table, mode="sum"), [[2, 4], [12, 14]])
    bags = F.embedding_bag(rb.asarray([1, 2, 3]), table, rb.asarray([0, 2, 2]), mode="max")
    close(bags, [[4, 5], [0, 0], [6, 7]])


# ---- modules -------------------------------------------------------------------------------------


def test_transformer_layers_attend_to_what_masks_allow(rng: Rng) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
    x = rng.standard_normal((1, 5, 8)).astype(np.float32)
    first = layer(rb.asarray(x), is_causal=True).numpy()
    x[0, 3:] += 1.0
    later = layer(rb.asarray(x), is_causal=True).numpy()
    np.testing.assert_allclose(first[0, :3], later[0, :3], atol=1e-6)
    assert np.abs(first[0, 3:] - later[0, 3:]).max() > 1e-3
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    close(layer(rb.asarray(x), mask), later)
    net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    assert net(rb.asarray(x), rb.asarray(x[:, :2])).shape == (1, 2, 8)
    assert {"encoder.layers.0.self_attn.in_proj_weight", "decoder.norm.bias"} <= set(
        net.state_dict()
    )


def test_convolution_borders_and_output_sizes(rng: Rng) -> None:
    x = rb.asarray(rng.standard_normal((1, 2, 5)).astype(np.float32))
    layer = nn.Conv1d(2, 3, 3, padding="same", padding_mode="circular")
    wide = F.pad(x, (1, 1), mode="circular")
    close(layer(x), F.conv1d(wide, layer.weight, layer.bias).numpy())
    up = nn.ConvTranspose3d(2, 1, 2, stride=2)
    assert up(rb.ones((1, 2, 2, 2, 2))).shape == (1, 1, 4, 4, 4)
    assert up(rb.ones((1, 2, 2, 2, 2)), output_size=(5, 4, 5)).shape == (1, 1, 5, 4, 5)
    with pytest.raises(rb.ShapeError, match="output_size"):
        up(rb.ones((1, 2, 2, 2, 2)), output_size=(6, 4, 4))
