"""Fewer loops: neighbours that every access walks as one become one loop.

Row-major (n, m) walked in order is one loop of n * m; most maps end with a single loop. Loops of
extent 1 vanish. The innermost reduced loops are merged even where accesses do not allow it (their
index is divided back), because the lanes of a reduction follow the logical shape, never the layout
(loops.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rabbet.base import sizes
from rabbet.base.dtypes import int64
from rabbet.base.sizes import Dim
from rabbet.expr import affine, expr
from rabbet.expr.expr import Expr
from rabbet.kernel.access import ZERO, Arguments
from rabbet.kernel.loops import ContractKernel, RowKernel, ScatterKernel, SortKernel, Store
from rabbet.kernel.rewrite import expressions, map_expressions

LISTS = {
    RowKernel: ("outer", "inner"),
    ContractKernel: ("batch", "m", "n", "k"),
    ScatterKernel: ("outer", "updates", "inner"),
    SortKernel: ("outer", "line"),
}
LINEAR = ("add", "sub", "mul", "neg")


def merge_loops(
    kernel: Any, arguments: Arguments, *, forced: Sequence[int] = (), keep_inner: bool = False
) -> Any:
    """The kernel with unit loops dropped and neighbours merged.

    forced: runs of loops, the last run first, that become one each whatever the accesses;
    keep_inner: the last inner loop is then never merged with the one before it. Maps (RowKernels
    without reductions) may also merge across the border of outer and inner.
    """
    names = LISTS[type(kernel)]
    is_map = isinstance(kernel, RowKernel) and not any(s.reductions for s in kernel.sweeps)
    for behind, run in enumerate(forced):
        for _ in range(run - 1):
            at = _count(kernel, names) - behind - 2
            divide = not _mergeable(kernel, arguments, names, at)
            kernel = _merge(kernel, arguments, names, at, divide=divide)
    kernel = _drop_units(kernel, names)
    if is_map:
        kernel = replace(kernel, outer=(*kernel.outer, *kernel.inner), inner=())
    first = _count(kernel, names) - 2
    for a in range(first, 0 if _blocks(kernel) else -1, -1):
        if not _same_list(kernel, names, a):
            continue
        last_inner = a + 2 == _count(kernel, names) and names[-1] == "inner"
        if keep_inner and last_inner and not is_map:
            continue
        if _mergeable(kernel, arguments, names, a):
            kernel = _merge(kernel, arguments, names, a, divide=False)
    if is_map:
        kernel = replace(kernel, outer=kernel.outer[:-1], inner=kernel.outer[-1:])
    if _goes_across_one(kernel, "outer"):
        kernel = _stored_along(kernel)
    return kernel


def with_products(kernel: ContractKernel, arguments: Arguments) -> ContractKernel:
    """The kernel with sizes that are the product of neighbouring loops' extents written as that
    product.

    Its code is made for any sizes: only so can it see that memory runs on from one of these loops
    to the next, where not every access lets them be one.
    """
    products: list[tuple[Dim, Expr]] = []
    for loops in (kernel.batch, kernel.m, kernel.n, kernel.k):
        for first in range(len(loops)):
            total = loops[first]
            for extent in loops[first + 1 :]:
                total = total * extent
                products.append((arguments.dim_of(total), total))

    def change(e: Expr) -> Expr | None:
        if e.op != "size":
            return None
        dim = arguments.dim_of(e)
        return next((p for d, p in products if sizes.same(d, dim)), None)

    parts = map_expressions((kernel.a, kernel.b, kernel.stores), change)
    return replace(kernel, a=parts[0], b=parts[1], stores=parts[2])


def _goes_across_one(kernel: Any, name: str) -> bool:
    """True where a reduction across has a single place left to go across: the loop stays, because
    it is what makes additions sequential, for one place as for many.
    """
    across = name == "outer" and getattr(kernel, "across", False)
    alone = across and len(kernel.outer) == 1 + _blocks(kernel)
    return bool(alone and kernel.outer[-1] is expr.const(1, int64))


def _blocks(kernel: Any) -> int:
    """1 where the first outer loop counts blocks: it stays by itself."""
    return int(getattr(kernel, "block", None) is not None)


def _stored_along(kernel: Any) -> Any:
    """Stores move with the loop over that one place, as they do with any."""

    def along(stores: tuple[Store, ...]) -> tuple[Store, ...]:
        return tuple(replace(s, index=s.index + expr.var(_blocks(kernel))) for s in stores)

    sweeps = tuple(replace(s, stores=along(s.stores)) for s in kernel.sweeps)
    return replace(kernel, sweeps=sweeps, finish=along(kernel.finish))


def _count(kernel: Any, names: tuple[str, ...]) -> int:
    return sum(len(getattr(kernel, n)) for n in names)


def _extent(kernel: Any, names: tuple[str, ...], loop: int) -> Expr:
    return [e for n in names for e in getattr(kernel, n)][loop]


def _place(kernel: Any, names: tuple[str, ...], loop: int) -> tuple[str, int]:
    for name in names:
        if loop < len(getattr(kernel, name)):
            return name, loop
        loop -= len(getattr(kernel, name))
    raise IndexError(loop)


def _same_list(kernel: Any, names: tuple[str, ...], a: int) -> bool:
    return _place(kernel, names, a)[0] == _place(kernel, names, a + 1)[0]


def _mergeable(kernel: Any, arguments: Arguments, names: tuple[str, ...], a: int) -> bool:
    """True if in every index expression loop a moves as far as loop a + 1 does over its whole
    extent.
    """
    extent = arguments.dim_of(_extent(kernel, names, a + 1))
    for index in _indices(kernel):
        outer, inner = affine.coefficient(index, a), affine.coefficient(index, a + 1)
        if outer is None or inner is None:
            return False
        try:
            far, near = arguments.dim_of(outer), arguments.dim_of(inner)
        except ValueError:
            return False
        if not sizes.same(far, near * extent):
            return False
    return True


def _indices(kernel: Any) -> list[Expr]:
    """The maximal integer expressions over loop variables: addresses, predicates' sides, iota
    values.
    """
    found: dict[Expr, None] = {}
    for root in expressions(kernel):
        if root.dtype is int64:
            found[root] = None
        for e in expr.topological([root]):
            inside = e.dtype is int64 and e.op in LINEAR
            for x in e.args:
                if x.dtype is int64 and not inside:
                    found[x] = None
    return [e for e in found if any(p.op == "var" for p in expr.topological([e]))]


def _merge(
    kernel: Any, arguments: Arguments, names: tuple[str, ...], a: int, *, divide: bool
) -> Any:
    """Loops a and a + 1 as one loop a."""
    inner_extent = _extent(kernel, names, a + 1)
    both: Dim = arguments.dim_of(_extent(kernel, names, a)) * arguments.dim_of(inner_extent)
    merged = expr.var(a)

    def change(e: Expr) -> Expr | None:
        if e.op != "var":
            return None
        if e.value == a:
            return merged // inner_extent if divide else ZERO
        if e.value == a + 1:
            return merged % inner_extent if divide else merged
        return expr.var(e.value - 1) if e.value > a else e

    kernel = map_expressions(kernel, change)
    name, place = _place(kernel, names, a)
    loops = list(getattr(kernel, name))
    next_name, next_place = _place(kernel, names, a + 1)
    assert name == next_name and next_place == place + 1
    loops[place : place + 2] = [arguments.size(both)]
    return replace(kernel, **{name: tuple(loops)})


def _drop_units(kernel: Any, names: tuple[str, ...]) -> Any:
    loop = _blocks(kernel)
    while loop < _count(kernel, names):
        extent = _extent(kernel, names, loop)
        if extent.op != "const" or extent.value != 1:
            loop += 1
            continue
        name, place = _place(kernel, names, loop)
        if _goes_across_one(kernel, name):
            loop += 1
            continue
        gone = loop

        def change(e: Expr) -> Expr | None:
            if e.op != "var":
                return None
            if e.value == gone:  # noqa: B023  (used at once)
                return ZERO
            return expr.var(e.value - 1) if e.value > gone else e  # noqa: B023

        kernel = map_expressions(kernel, change)
        loops = list(getattr(kernel, name))
        del loops[place]
        kernel = replace(kernel, **{name: tuple(loops)})
    return kernel
