"""Packed sequences: back and forth, and recurrent layers over them as over each one alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn

rnn = nn.utils.rnn
LENGTHS = [2, 5, 1, 5]


def sequences(lengths: list[int] = LENGTHS, features: int = 3) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rb.asarray(rng.normal(size=(n, features)).astype(np.float32)) for n in lengths]


def test_the_order_of_elements() -> None:
    packed = rnn.pack_sequence([rb.asarray([1, 2, 3]), rb.asarray([4, 5])])
    assert packed.data.tolist() == [1, 4, 2, 5, 3] and packed.batch_sizes.tolist() == [2, 2, 1]
    assert packed.sorted_indices is None
    mixed = rnn.pack_sequence([rb.asarray([4, 5]), rb.asarray([1, 2, 3])], enforce_sorted=False)
    assert mixed.data.tolist() == [1, 4, 2, 5, 3]
    assert mixed.sorted_indices.tolist() == [1, 0] and mixed.unsorted_indices.tolist() == [1, 0]


@pytest.mark.parametrize("batch_first", [False, True])
def test_back_again(batch_first: bool) -> None:
    parts = sequences()
    padded = rnn.pad_sequence(parts, batch_first)
    packed = rnn.pack_padded_sequence(padded, LENGTHS, batch_first, enforce_sorted=False)
    again, lengths = rnn.pad_packed_sequence(packed, batch_first)
    assert again.tolist() == padded.tolist() and lengths.tolist() == LENGTHS
    longer, _ = rnn.pad_packed_sequence(packed, True, padding_value=-1.0, total_length=7)
    assert longer.shape == (4, 7, 3) and longer[2, 1:].tolist() == [[-1.0] * 3] * 6
    for a, b in zip(rnn.unpack_sequence(packed), parts, strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize(
    "kind, both_ways, given",
    [
        (nn.LSTM, True, True),
        pytest.param(nn.RNN, True, False, marks=pytest.mark.slow),
        pytest.param(nn.GRU, False, True, marks=pytest.mark.slow),
        pytest.param(nn.LSTM, False, False, marks=pytest.mark.slow),
    ],
)
def test_layers(kind: Any, both_ways: bool, given: bool) -> None:
    """Each sequence as if it were alone: outputs, last states and gradients."""
    rb.manual_seed(0)
    layer = kind(3, 4, num_layers=2, bidirectional=both_ways)
    parts = sequences()
    start = rb.randn(4 if both_ways else 2, 4, 4) if given else None
    state = (start, start * 2) if given and kind is nn.LSTM else start
    found, last = layer(rnn.pack_sequence(parts, enforce_sorted=False), state)
    outputs = rnn.unpack_sequence(found)
    loss = sum((o * o).sum() for o in outputs)
    loss.backward()
    slopes = [p.grad.numpy() for p in layer.parameters()]
    layer.zero_grad()
    alone: Any = 0.0
    for i, part in enumerate(parts):
        own = None
        if given:
            own = tuple(s[:, i : i + 1] for s in (state if kind is nn.LSTM else (state,)))
            own = own if kind is nn.LSTM else own[0]
        wanted, end = layer(part.unsqueeze(1), own)
        np.testing.assert_allclose(outputs[i].numpy(), wanted[:, 0].numpy(), 1e-5, 1e-6)
        pairs = zip(last, end, strict=True) if kind is nn.LSTM else [(last, end)]
        for a, b in pairs:
            np.testing.assert_allclose(a[:, i].numpy(), b[:, 0].numpy(), 1e-5, 1e-6)
        alone = alone + (wanted * wanted).sum()
    alone.backward()
    for slope, p in zip(slopes, layer.parameters(), strict=True):
        np.testing.assert_allclose(slope, p.grad.numpy(), 1e-4, 1e-5)


def test_refusals() -> None:
    x = rb.ones(3, 2, 4)
    with pytest.raises(rb.RabbetError, match="enforce_sorted=False"):
        rnn.pack_padded_sequence(x, [1, 3])
    for lengths in ([3], [3, 0], [4, 1]):
        with pytest.raises(rb.ShapeError, match="2 numbers from 1 to 3"):
            rnn.pack_padded_sequence(x, lengths)
    packed = rnn.pack_padded_sequence(x, [3, 2])
    with pytest.raises(rb.ShapeError, match="total_length=2"):
        rnn.pad_packed_sequence(packed, total_length=2)
    with pytest.raises(rb.ShapeError, match=r"packed data \(5, 4\)"):
        nn.GRU(3, 3)(packed)
