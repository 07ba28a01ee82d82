"""Checks of indices that need no second look: an earlier launch has looked at all of them.

The gradient of an embedding checks the very indices that the embedding has checked. Where that is
known, only the first of two launches can fail.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from rabbet.base import sizes
from rabbet.base.dtypes import int64
from rabbet.base.sizes import Dim
from rabbet.expr import expr
from rabbet.expr.expr import Expr
from rabbet.graph.value import Value
from rabbet.kernel.access import Arguments
from rabbet.kernel.loops import Kernel, RowKernel, ScatterKernel, Sweep
from rabbet.kernel.lower import Lowered

SIZE_OPS = ("const", "size", "add", "sub", "mul", "floordiv", "mod", "max", "min")


class Check(NamedTuple):
    """What a launch demands of every element it reads of `source`: 0 <= index < extent."""

    source: Value
    place: Expr  # as a function of the element, wherever that stands
    extent: Dim
    whole: bool  # every element of `source` is looked at

    def proves(self, other: Check) -> bool:
        """True where `other` cannot fail once this check has passed."""
        return (
            self.whole
            and self.source is other.source
            and self.place is other.place
            and sizes.same(self.extent, other.extent)
        )


def check_kernel(check: Check, lowered: Lowered) -> Lowered:
    """A map that makes a check of every element of its source and computes nothing.

    What can fail then no longer depends on what else `lowered` reads: it may run before.
    """
    source, arguments = check.source, Arguments()
    one = expr.load(arguments.operand(source), source.dtype, expr.var(0), None)
    elements, extent = arguments.size(source.spec.elements), arguments.size(check.extent)

    def particular(e: Expr) -> Expr | None:
        return {"load": one, "size": extent}.get(e.op)

    index = expr.substitute((check.place,), particular)[0]
    kernel = RowKernel(
        tuple(arguments.operands), (), (elements,), (Sweep(),), checks=((index, extent),)
    )
    return Lowered(kernel, arguments.buffers, arguments.dims, arguments, lowered.calls, [])


def checks_of(lowered: Lowered) -> list[Check | None]:
    """The checks of a launch; None for one that is more than a function of one element."""
    return [_check(lowered, i, e) for i, e in getattr(lowered.kernel, "checks", ())]


def _check(lowered: Lowered, index: Expr, extent: Expr) -> Check | None:
    arguments = lowered.arguments
    limit = arguments.dim_of(extent)
    found = [e for e in expr.topological([index]) if e.op == "load"]
    if len(found) != 1 or len(found[0].args) > 1:
        return None
    load = found[0]

    def plain(e: Expr) -> Expr | None:
        if e is load:
            return expr.load(0, e.dtype, expr.const(0, int64), None)
        if e.op != "size":
            return None
        dim = arguments.dim_of(e)
        return expr.size(0) if sizes.same(dim, limit) else expr.size(1)

    general = expr.substitute((index,), plain)[0]
    leaves = {(e.op, e.value) for e in expr.topological([general])}
    if any(op in ("var", "acc") or (op, value) == ("size", 1) for op, value in leaves):
        return None
    source = lowered.buffers[cast(tuple[int, float], load.value)[0]]
    return Check(source, general, limit, _is_whole(lowered, load.args[0], source))


def _is_whole(lowered: Lowered, index: Expr, source: Value) -> bool:
    """True where the index runs through all of `source`: a row-major one over some of the loops."""
    loops, size = _loops(lowered.kernel), lowered.arguments.dim_of
    steps: list[tuple[Dim, Dim]] = []  # (how far one step of a loop goes, its extent)
    for term in _terms(index):
        if term == expr.const(0, int64):
            continue
        at, stride = term.args if term.op == "mul" else (term, expr.const(1, int64))
        if at.op != "var" or any(e.op not in SIZE_OPS for e in expr.topological([stride])):
            return False
        steps.append((size(stride), size(loops[cast(int, at.value)])))
    covered: Dim = 1
    while steps:
        found = next((s for s in steps if sizes.same(s[0], covered)), None)
        if found is None:
            return False
        steps.remove(found)
        covered = covered * found[1]
    return sizes.same(covered, source.spec.elements)


def _terms(e: Expr) -> list[Expr]:
    return [t for a in e.args for t in _terms(a)] if e.op == "add" else [e]


def _loops(kernel: Kernel) -> tuple[Expr, ...]:
    if isinstance(kernel, RowKernel):
        return (*kernel.outer, *kernel.inner)
    if isinstance(kernel, ScatterKernel):
        return (*kernel.outer, *kernel.updates, *kernel.inner)
    return ()
