"""Captured weights that stay the same are packed once for all calls of a jitted function."""

from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn

SIZE = 384  # squared it is enough to be worth it


def _random(*shape: int) -> rb.Tensor:
    return rb.asarray(np.random.default_rng(sum(shape)).standard_normal(shape, np.float32))


def _is_packed(function: Any) -> bool:
    (traces,) = function.traces.values()
    kept = traces[0].root.kept
    return kept is not None and kept.stages is not kept.plain


@pytest.mark.parametrize("rows", [1, 5, 40])
def test_same_bits_and_new_values_are_seen(rows: int) -> None:
    weight, other = _random(SIZE + 9, SIZE), _random(SIZE + 9, SIZE)

    def forward(x: rb.Tensor) -> rb.Tensor:
        return nn.functional.linear(x, weight).tanh() @ other

    jitted = rb.jit(forward)
    seen = []
    for step in range(8):
        x = _random(rows, SIZE) + step
        np.testing.assert_array_equal(jitted(x).numpy(), forward(x).numpy())
        seen.append(_is_packed(jitted))
        if step == 4:
            weight[0] = 3.0  # another value
        if step == 5:
            other *= 0.5
    assert seen == [False, False, True, True, True, False, False, True]


def test_what_a_function_assigns_is_not_packed() -> None:
    weight = _random(SIZE, SIZE)

    def step(x: rb.Tensor) -> rb.Tensor:
        y = x @ weight.T
        weight[...] = weight * 0.5
        return y

    jitted, x = rb.jit(step), _random(4, SIZE)
    before = [jitted(x).numpy() for _ in range(4)]
    for first, second in zip(before, before[1:], strict=False):
        np.testing.assert_array_equal(first * np.float32(0.5), second)
    assert not _is_packed(jitted)
    (traces,) = jitted.traces.values()
    assert [stage.graph for stage in traces[0].root.stages] == [None]  # nor was a graph made for it


def test_memory_of_others_is_not_packed() -> None:
    array = np.ones((SIZE, SIZE), np.float32)
    weight, x = rb.asarray(array, copy=False), _random(2, SIZE)
    jitted = rb.jit(lambda x: x @ weight.T)
    for _ in range(3):
        jitted(x).numpy()
    assert not _is_packed(jitted)


def test_training_between_calls() -> None:
    layer = nn.Linear(SIZE, SIZE)
    optimizer = rb.optim.SGD(layer.parameters(), lr=0.1)
    x = _random(8, SIZE)
    predict = rb.jit(lambda x: layer(x))

    @rb.jit
    def train() -> rb.Tensor:
        optimizer.zero_grad()
        loss = layer(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    for step in range(6):
        if step % 3 == 0:
            train()
        with rb.no_grad():
            np.testing.assert_array_equal(predict(x).numpy(), layer(x).numpy())
