"""Which groups become one after all calls were placed."""

from __future__ import annotations

from rabbet.base.dtypes import float32
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, Graph, Value
from rabbet.kernel.fuse import Fusion
from rabbet.ops.arithmetic import add, multiply
from rabbet.ops.contract import contract
from rabbet.ops.index_maps import permute
from rabbet.ops.reductions import reduce_sum


class _Graph:
    """A builder with short words for what these tests record."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.inputs: list[Value] = []

    def input(self, *shape: int) -> Value:
        self.inputs.append(self.builder.input(Spec(shape, float32)))
        return self.inputs[-1]

    def add(self, a: Value, b: Value) -> Value:
        return self.builder.apply(add, (a, b), {}, ())

    def multiply(self, a: Value, b: Value) -> Value:
        return self.builder.apply(multiply, (a, b), {}, ())

    def groups(self, *outputs: Value) -> list[list[str]]:
        fusion = Fusion(Graph(self.inputs, list(outputs)), set())
        return [[c.op.name for c in g.calls] for g in fusion.order()]

    def product(self, a: Value, b: Value) -> Value:
        attrs = {"a_axes": (0, 1), "b_axes": (1, 2), "out_axes": (0, 2)}
        return self.builder.apply(contract, (a, b), attrs, ())


def test_an_update_joins_the_product_of_its_gradient() -> None:
    g = _Graph()
    gradient = g.product(g.input(8, 9), g.input(9, 10))
    average, rate = g.input(8, 10), g.input(8, 10)
    decayed = g.multiply(average, rate)  # opens a group of its own
    assert g.groups(g.add(decayed, gradient)) == [["contract", "multiply", "add"]]


def test_an_update_joins_the_sum_of_its_gradient() -> None:
    g = _Graph()
    x, average, rate = g.input(8, 10), g.input(10), g.input(10)
    gradient = g.builder.apply(reduce_sum, (x,), {"axis": (0,), "keepdims": False}, ())
    decayed = g.multiply(average, rate)
    assert g.groups(g.add(decayed, gradient)) == [["multiply", "reduce_sum", "add"]]


def test_what_stands_between_two_groups_keeps_them_apart() -> None:
    g = _Graph()
    x, y = g.input(8, 8), g.input(8, 8)
    first = g.multiply(x, y)
    between = g.product(first, y)  # needs the first group; both products are needed by the sum
    last = g.add(first, g.product(between, y))
    assert len(g.groups(last)) == 3
    assert ["multiply"] in g.groups(last)


def test_what_is_read_at_other_points_is_not_merged() -> None:
    g = _Graph()
    x, y = g.input(8, 8), g.input(8, 8)
    first, other = g.multiply(x, y), g.multiply(y, y)
    turned = g.builder.apply(permute, (first,), {"axes": (1, 0)}, ())
    assert len(g.groups(g.add(other, turned))) == 2
