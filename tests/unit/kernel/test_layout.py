"""In which order results of contractions are stored: as they are an output, or channels last."""

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
from rabbet.ops.arithmetic import add, maximum
from rabbet.ops.contract import contract
from rabbet.ops.index_maps import pad, permute, slice_
from rabbet.ops.reductions import reduce_sum

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


class _Convolutions:
    """Two products over channels, of 40 filters each, with a maximum of both between and after."""

    def __init__(self, filters: int = 40) -> None:
        self.builder = Builder()
        shapes = ((2, 6, 4, 5), (filters, 6), (filters, filters))
        self.inputs = [self.builder.input(Spec(s, float32)) for s in shapes]
        image, first, second = self.inputs
        self.first = self.apply(maximum, self.product(first, image), self.product(first, image))
        self.second = self.product(second, self.first)

    def apply(self, op: Any, *inputs: Value, **attrs: Any) -> Value:
        made: Value = self.builder.apply(op, inputs, attrs, ())
        return made

    def product(self, weight: Value, image: Value) -> Value:
        labels = {"a_axes": (1, 4), "b_axes": (0, 4, 2, 3), "out_axes": (0, 1, 2, 3)}
        return self.apply(contract, weight, image, **labels)

    def gradient(self) -> Value:
        """A sum over images and positions."""
        labels = {"a_axes": (0, 1, 2, 3), "b_axes": (0, 4, 2, 3), "out_axes": (1, 4)}
        return self.apply(contract, self.second, self.first, **labels)

    def shapes(self, *outputs: Value) -> list[tuple[Any, ...]]:
        """Of products and maxima, as they are stored."""
        graph = laid_out(Graph(self.inputs, list(outputs)))
        return [c.specs[0].shape for c in graph.calls() if c.op.kind in ("contract", "elementwise")]


def test_what_lies_between_convolutions_has_its_channels_last() -> None:
    net = _Convolutions()
    inner, outer = (2, 4, 5, 40), (2, 40, 4, 5)
    assert net.shapes(net.second) == [inner, inner, outer]
    few = _Convolutions(8)
    assert few.shapes(few.second) == [(2, 8, 4, 5)] * 3


def test_what_is_computed_from_windows_lies_like_the_image() -> None:
    net = _Convolutions()
    border = {"low": (0, 0, 1, 1), "high": (0, 0, 1, 1), "interior": (0,) * 4, "fill": 0.0}
    spread = net.apply(pad, net.first, **border)
    parts = [
        net.apply(slice_, spread, start=(0, 0, i, i), stop=(2, 40, i + 4, i + 5), step=(1, 1, 2, 2))
        for i in range(2)
    ]
    pooled = net.apply(maximum, *parts)
    assert net.shapes(net.product(net.inputs[2], pooled)) == [
        (2, 4, 5, 40),
        (2, 4, 5, 40),
        (2, 2, 3, 40),
        (2, 40, 2, 3),
    ]
    rows = net.apply(reduce_sum, pooled, axis=(2, 3), keepdims=False)
    first = net.apply(reduce_sum, net.first, axis=(2, 3), keepdims=False)
    assert net.shapes(rows, first)[-1] == (2, 40, 2, 3)


def test_what_others_read_often_or_sums_over_images_read_lies_as_it_did() -> None:
    net = _Convolutions()
    rows = net.apply(reduce_sum, net.first, axis=(2, 3), keepdims=False)
    assert net.shapes(net.second, rows) == [(2, 40, 4, 5)] * 3
    net = _Convolutions()
    assert set(net.shapes(net.second, net.gradient())[:3]) == {(2, 40, 4, 5)}


def test_a_network_has_the_same_bits_op_by_op_and_with_channels_last(
    rng: np.random.Generator,
) -> None:
    shapes = ((3, 5, 14, 13), (36, 5, 3, 3), (33, 36, 3, 3), (36, 33, 1, 1), (40, 18, 3, 3))
    x, *weights = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    scale = rng.standard_normal((36, 1, 1)).astype(np.float32)

    def network(x: Any, s: Any, first: Any, second: Any, third: Any, last: Any) -> Any:
        x = rb.relu(conv2d(x, first, padding=1) * s + 0.5)
        y = rb.relu(conv2d(x, second, padding=1, stride=1))
        x = rb.relu(x + conv2d(y, third) * s)
        x = rb.nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        return conv2d(x, last, padding=1, stride=2, groups=2).mean((2, 3))

    given = [rb.asarray(a) for a in (x, scale, *weights)]
    first = network(*given).numpy()  # op by op
    np.testing.assert_array_equal(_bits(network, x, scale, *weights), first)


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
    ((9, 40, 14, 14), (70, 40, 3, 3), {"padding": 1}),  # several blocks of k, lanes and tasks
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
