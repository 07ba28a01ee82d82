"""Which calls move to the group that reads them, and which groups of sums become one."""

from __future__ import annotations

from typing import Any

from rabbet.base.dtypes import float32
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, Graph, Value
from rabbet.kernel.fuse import Fusion
from rabbet.ops.arithmetic import multiply, subtract
from rabbet.ops.compare import greater, where
from rabbet.ops.contract import contract
from rabbet.ops.reductions import reduce_sum


class _Net:
    """A product x, a sum over each column of x, and a later gradient g of x's shape."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.inputs = [self.builder.input(Spec(s, float32)) for s in ((8, 9), (9, 10), (10, 9))]
        a, b, c = self.inputs
        self.x = self.product(a, b)
        self.total = self.sum(self.x)
        # behind the sum, so that its group cannot take in what reads this
        less = self.apply(subtract, self.x, self.total)
        self.g = self.product(self.product(less, c), b)

    def apply(self, op: Any, *inputs: Value) -> Value:
        return self.builder.apply(op, inputs, {}, ())

    def product(self, a: Value, b: Value) -> Value:
        attrs = {"a_axes": (0, 1), "b_axes": (1, 2), "out_axes": (0, 2)}
        return self.builder.apply(contract, (a, b), attrs, ())

    def sum(self, x: Value) -> Value:
        return self.builder.apply(reduce_sum, (x,), {"axis": (0,), "keepdims": True}, ())

    def groups(self, *outputs: Value) -> list[list[str]]:
        fusion = Fusion(Graph(self.inputs, list(outputs)), set())
        return [[c.op.name for c in g.calls] for g in fusion.order()]


def test_a_difference_that_one_later_sum_reads_is_taken_there() -> None:
    net = _Net()
    apart = net.apply(subtract, net.total, net.x)  # joins the first sum when it is placed
    slope = net.sum(net.apply(multiply, net.g, apart))
    result = net.apply(subtract, net.g, slope)
    assert ["subtract", "multiply", "reduce_sum", "subtract"] in net.groups(result)


def test_a_mask_is_stored_since_reading_it_is_cheaper() -> None:
    net = _Net()
    mask = net.apply(greater, net.x, net.total)
    slope = net.sum(net.apply(where, mask, net.g, net.total))
    assert not any("greater" in g and "where" in g for g in net.groups(slope))


def test_sums_over_the_same_points_where_one_needs_the_other_are_one_kernel() -> None:
    net = _Net()
    slope = net.sum(net.apply(multiply, net.g, net.x))
    rest = net.apply(subtract, net.g, slope)
    alone = net.sum(net.g)  # opens a group of its own: a product made what it reads
    result = net.apply(subtract, rest, alone)
    groups = net.groups(result)
    assert sum("reduce_sum" in g for g in groups) == 2  # the first total, and both later ones
