"""Merged loops: what the machine must not compute for every element."""

from __future__ import annotations

from rabbet.base.dtypes import float32
from rabbet.base.spec import Spec
from rabbet.codegen.contract_axes import merge, roles
from rabbet.expr.expr import topological
from rabbet.graph.value import Builder, Graph
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.loops import ContractKernel
from rabbet.kernel.lower import lower
from rabbet.kernel.rewrite import expressions
from rabbet.ops.contract import contract
from rabbet.ops.index_maps import permute, window
from rabbet.ops.reductions import reduce_sum


def _divisions(axes: tuple[int, ...]) -> int:
    """floordiv and mod in the kernel of a sum over the last two axes of a permuted input."""
    builder = Builder()
    x = builder.input(Spec((3, 5, 20, 30), float32))
    moved = builder.apply(permute, (x,), {"axes": axes}, ())
    y = builder.apply(reduce_sum, (moved,), {"axis": (2, 3), "keepdims": False}, ())
    graph = Graph([x], [y])
    fusion = Fusion(graph, set())
    (group,) = fusion.groups
    kernel = lower(group, fusion).kernel
    return sum(e.op in ("floordiv", "mod") for e in topological(expressions(kernel)))


def test_adjacent_reduced_axes_need_no_division() -> None:
    assert _divisions((0, 1, 2, 3)) == 0


def test_reduced_axes_apart_in_memory_are_divided_back() -> None:
    assert _divisions((0, 1, 3, 2)) > 0


def test_a_product_is_stored_along_all_axes_that_follow_each_other() -> None:
    """Also where an operand, here windows of an image, keeps their loops apart."""
    builder = Builder()
    g = builder.input(Spec((2, 11, 4, 6), float32))
    x = builder.input(Spec((2, 5, 6, 10), float32))
    attrs = {"axes": (2, 3), "window": (3, 5), "stride": (1, 1), "dilation": (1, 1)}
    windows = builder.apply(window, (x,), attrs, ())
    labels = {"a_axes": (0, 1, 2, 3), "b_axes": (0, 4, 2, 3, 5, 6), "out_axes": (1, 4, 5, 6)}
    graph = Graph([g, x], [builder.apply(contract, (g, windows), labels, ())])
    fusion = Fusion(graph, set())
    kernel = lower(fusion.groups[-1], fusion).kernel
    assert isinstance(kernel, ContractKernel) and len(kernel.n) == 3
    found = roles(kernel)
    several = found.m if found.swapped else found.n
    assert len(merge(several, (kernel.stores[0].index,))[0]) == 1
