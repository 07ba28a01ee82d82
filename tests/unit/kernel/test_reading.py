"""Which operands a contraction reads where they are."""

from __future__ import annotations

from rabbet.base.dtypes import float32
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, Graph
from rabbet.kernel.fuse import Fusion
from rabbet.ops.contract import contract
from rabbet.ops.index_maps import permute


def _kernels(order: tuple[int, ...]) -> int:
    """Kernels of sum over (k, j) of a[m, k, j] b[k, j, n], where a is a permuted input."""
    builder = Builder()
    a = builder.input(Spec((12, 13, 14), float32))
    moved = builder.apply(permute, (a,), {"axes": order}, ())
    b = builder.input(Spec((*moved.shape[1:], 15), float32))
    attrs = {"a_axes": (0, 1, 2), "b_axes": (1, 2, 3), "out_axes": (0, 3)}
    y = builder.apply(contract, (moved, b), attrs, ())
    return len(Fusion(Graph([a, b], [y]), set()).groups)


def test_operands_with_runs_are_read_where_they_are() -> None:
    assert _kernels((0, 1, 2)) == 1  # along the last summed axis
    assert _kernels((2, 0, 1)) == 1  # along the rows


def test_an_operand_without_runs_is_written_out_first() -> None:
    assert _kernels((0, 2, 1)) == 2


def test_all_readers_wait_for_a_copy_that_a_later_one_wants() -> None:
    builder = Builder()
    shapes = (12, 13, 14), (14, 15), (14, 13, 15)
    a, b, c = inputs = [builder.input(Spec(shape, float32)) for shape in shapes]
    moved = builder.apply(permute, (a,), {"axes": (0, 2, 1)}, ())
    runs = {"a_axes": (0, 1, 2), "b_axes": (1, 3), "out_axes": (0, 2, 3)}
    none = {"a_axes": (0, 1, 2), "b_axes": (1, 2, 3), "out_axes": (0, 3)}
    outputs = [
        builder.apply(contract, (moved, b), runs, ()),
        builder.apply(contract, (moved, c), none, ()),
    ]
    groups = Fusion(Graph(inputs, outputs), set()).order()
    calls = [group.calls[0] for group in groups]
    assert [call.op.name for call in calls] == ["permute", "contract", "contract"]
