"""Merged loops: what the machine must not compute for every element."""

from __future__ import annotations

from rabbet.base.dtypes import float32
from rabbet.base.spec import Spec
from rabbet.expr.expr import topological
from rabbet.graph.value import Builder, Graph
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.lower import lower
from rabbet.kernel.rewrite import expressions
from rabbet.ops.moves import permute
from rabbet.ops.reduce import reduce_sum


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
