"""What a join of very many parts costs, and parts of one array."""

from __future__ import annotations

from rabbet.base.dtypes import float32
from rabbet.base.sizes import Dim, SizeExpr, SizeScope, total
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, Graph, topological
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.lower import lower
from rabbet.ops.index_maps import slice_
from rabbet.ops.joining import concat


def _terms(dims: tuple[Dim, ...]) -> int:
    return sum(len(d.terms) for d in dims if isinstance(d, SizeExpr))


def _terms_of_a_join(count: int) -> int:
    """Of all sizes in the body of a join of `count` parts, each of a size of its own."""
    builder, scope = Builder(), SizeScope()
    sizes = [scope.symbol(f"n{i}", 2 + i) for i in range(count)]
    parts = [builder.input(Spec((n, 3), float32)) for n in sizes]
    (joined,) = concat.expand(builder, parts, {"axis": 0}, (2 + count,))
    assert joined.shape == (total(sizes), 3)
    found = 0
    for call in topological([joined.call]):
        found += sum(_terms(spec.shape) for spec in call.specs)
        found += sum(_terms(v) for v in call.attrs.values() if isinstance(v, tuple))
    return found


def test_offsets_of_a_long_join_are_short_sums() -> None:
    assert _terms_of_a_join(1000) < 6 * _terms_of_a_join(250)


def test_parts_of_an_array_share_a_kernel() -> None:
    builder = Builder()
    x = builder.input(Spec((1000, 3), float32))
    attrs = [{"start": (n, 0), "stop": (n + 5, 3), "step": (1, 1)} for n in (100, 200, 995)]
    parts = [builder.apply(slice_, (x,), a, ()) for a in attrs]
    fusion = Fusion(Graph([x], parts), set())
    assert len({lower(group, fusion).compact().kernel for group in fusion.groups}) == 1
