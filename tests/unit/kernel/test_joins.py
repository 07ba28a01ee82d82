"""What a join of very many parts costs, and parts of one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rabbet.base.dtypes import float32
from rabbet.base.sizes import Dim, SizeExpr, SizeScope, total
from rabbet.base.spec import Spec
from rabbet.graph.interpret import run
from rabbet.graph.value import Builder, Graph, Value, topological
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.lower import lower
from rabbet.ops.create import ones_like
from rabbet.ops.index_maps import slice_
from rabbet.ops.joining import concat
from rabbet.transform.decompose import decompose
from rabbet.transform.gradient import gradient


def _terms(dims: tuple[Dim, ...]) -> int:
    return sum(len(d.terms) for d in dims if isinstance(d, SizeExpr))


def _parts(builder: Builder, count: int) -> list[Value]:
    """Tensors, each of a size of its own."""
    scope = SizeScope()
    sizes = [scope.symbol(f"n{i}", 2 + i) for i in range(count)]
    return [builder.input(Spec((n, 3), float32)) for n in sizes]


def _terms_behind(values: Sequence[Value | None]) -> int:
    """Of all sizes in what these are made of."""
    found = 0
    for call in topological(v.call for v in values if v is not None):
        found += sum(_terms(spec.shape) for spec in call.specs)
        found += sum(_terms(v) for v in call.attrs.values() if isinstance(v, tuple))
    return found


def _terms_of_a_join(count: int) -> int:
    builder = Builder()
    parts = _parts(builder, count)
    (joined,) = concat.expand(builder, parts, {"axis": 0}, (2 + count,))
    assert joined.shape == (total([p.shape[0] for p in parts]), 3)
    return _terms_behind([joined])


def _terms_of_its_gradient(count: int) -> int:
    builder = Builder()
    parts = _parts(builder, count)
    y = concat(parts, axis=0)
    found = gradient([y], [ones_like(y)], parts)
    assert [g.shape for g in found if g is not None] == [p.shape for p in parts]
    return _terms_behind(found)


def test_offsets_of_a_long_join_are_short_sums() -> None:
    assert _terms_of_a_join(1000) < 6 * _terms_of_a_join(250)
    assert _terms_of_its_gradient(1000) < 6 * _terms_of_its_gradient(250)


def test_the_gradient_of_a_long_join_by_value() -> None:
    builder = Builder()
    parts = _parts(builder, 300)
    y = concat(parts, axis=0)
    weight = builder.input(y.spec)
    graph = Graph([*parts, weight], gradient([y], [weight], parts))
    given = np.arange(3 * sum(2 + i for i in range(300)), dtype=np.float32).reshape(-1, 3)
    arrays = np.split(given, np.cumsum([2 + i for i in range(299)]))
    for found, wanted in zip(run(decompose(graph)[0], [*arrays, given]), arrays, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_parts_of_an_array_share_a_kernel() -> None:
    builder = Builder()
    x = builder.input(Spec((1000, 3), float32))
    attrs = [{"start": (n, 0), "stop": (n + 5, 3), "step": (1, 1)} for n in (100, 200, 995)]
    parts = [builder.apply(slice_, (x,), a, ()) for a in attrs]
    fusion = Fusion(Graph([x], parts), set())
    assert len({lower(group, fusion).compact().kernel for group in fusion.groups}) == 1
