"""Results of contractions that are stored in the order in which they are an output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.dtypes import float32
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, Graph, Value
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.layout import laid_out
from rabbet.ops.arithmetic import add
from rabbet.ops.contract import contract
from rabbet.ops.moves import permute

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
conv2d = rb.nn.functional.conv2d


class _Net:
    """A product of shape (2, 3, 4, 5) and a sum with something of shape (3, 1, 1)."""

    def __init__(self) -> None:
        self.builder = Builder()
        shapes = ((3, 6), (2, 6, 4, 5), (3, 1, 1))
        self.inputs = [self.builder.input(Spec(s, float32)) for s in shapes]
        a, b, c = self.inputs
        attrs = {"a_axes": (1, 4), "b_axes": (0, 4, 2, 3), "out_axes": (0, 1, 2, 3)}
        self.product = self.builder.apply(contract, (a, b), attrs, ())
        self.sum = self.builder.apply(add, (self.product, c), {}, ())

    def last(self, x: Value, order: tuple[int, ...] = LAST) -> Value:
        made: Value = self.builder.apply(permute, (x,), {"axes": order}, ())
        return made

    def groups(self, *outputs: Value) -> list[list[str]]:
        graph = laid_out(Graph(self.inputs, list(outputs)))
        assert [v.shape for v in graph.outputs] == [v.shape for v in outputs]
        return [[c.op.name for c in g.calls] for g in Fusion(graph, set()).order()]


def test_a_permuted_result_needs_no_kernel_of_its_own() -> None:
    net = _Net()
    assert net.groups(net.last(net.sum)) == [["contract", "add"]]
    net = _Net()
    both = net.groups(net.last(net.sum), net.last(net.product))
    assert both == [["contract", "add"]]


def test_a_result_that_is_an_output_in_two_orders_lies_as_it_did() -> None:
    net = _Net()
    assert net.groups(net.last(net.sum), net.sum) == [["contract", "add"], ["permute"]]
    net = _Net()
    orders = net.groups(net.last(net.sum), net.last(net.sum, (1, 0, 2, 3)))
    assert orders == [["contract", "add"], ["permute"], ["permute"]]


def test_a_graph_without_such_outputs_stays_as_it_is() -> None:
    net = _Net()
    graph = Graph(net.inputs, [net.sum])
    assert laid_out(graph) is graph


CASES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    # image, weight, settings
    ((2, 17, 13, 11), (33, 17, 3, 3), {"padding": 1}),
    ((3, 3, 21, 18), (40, 3, 7, 7), {"padding": 3, "stride": 2}),
    ((2, 34, 9, 10), (32, 17, 3, 3), {"padding": 1, "groups": 2}),
    ((2, 6, 9, 10), (6, 1, 3, 3), {"padding": 1, "groups": 6}),
    ((1, 20, 9, 14), (24, 20, 3, 2), {"padding": 2, "dilation": 2}),
    ((2, 70, 6, 5), (65, 70, 1, 1), {}),
    ((2, 70, 6, 5), (65, 70, 1, 1), {"stride": 2}),
    ((5, 1, 4, 4), (20, 1, 3, 3), {}),
    ((0, 8, 4, 4), (16, 8, 3, 3), {"padding": 1}),
    ((2, 0, 4, 4), (16, 0, 3, 3), {"padding": 1}),
)


def _bits(function: Callable[..., Any], *given: np.ndarray) -> np.ndarray:
    """What the compiled function gives."""
    compiled, tensors = rb.jit(function), [rb.asarray(x) for x in given]
    for _ in range(2):
        found = compiled(*tensors).numpy()
    return np.asarray(found)


@pytest.mark.parametrize("image, weight, settings", CASES, ids=str)
def test_convolutions_with_channels_last_have_the_same_bits(
    image: tuple[int, ...],
    weight: tuple[int, ...],
    settings: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    x = rng.standard_normal(image).astype(np.float32)
    w = rng.standard_normal(weight).astype(np.float32)
    bias = rng.standard_normal(weight[0]).astype(np.float32)
    wanted = _bits(lambda x, w, b: rb.relu(conv2d(x, w, b, **settings)), x, w, bias)
    last = np.ascontiguousarray(x.transpose(LAST))

    def convolve(x: Any, w: Any, b: Any) -> Any:
        return rb.relu(conv2d(x.permute(FIRST), w, b, **settings)).permute(LAST)

    np.testing.assert_array_equal(_bits(convolve, last, w, bias), wanted.transpose(LAST))
    plain = _bits(lambda x, w: conv2d(x, w, **settings), x, w)

    def from_last(x: Any, w: Any) -> Any:
        return conv2d(x.permute(FIRST), w.permute(3, 2, 0, 1), **settings).permute(LAST)

    turned = np.ascontiguousarray(w.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(_bits(from_last, last, turned), plain.transpose(LAST))
