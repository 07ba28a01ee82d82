"""What several sweeps over a row need and is dear to compute is kept in scratch memory.

The exponentials of a softmax are added in one sweep and divided in the next: between the two they
lie in a row that stays in cache. The values are the same, so results are, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rabbet.base.dtypes import bool_, int64
from rabbet.codegen.rows_shared import KEPT, sweep_roots
from rabbet.codegen.stepping import weight
from rabbet.expr.expr import Expr, const, load, topological, var
from rabbet.kernel.loops import Operand, RowKernel, Store, Sweep
from rabbet.kernel.rewrite import map_expressions

_DEAR = 10  # scalar operations: what a store and a load may cost


def keep_rows(kernel: RowKernel) -> RowKernel:
    """The kernel with operands of mode KEPT behind its own, one for each value that is kept."""
    if kernel.across or len(kernel.sweeps) < 2:
        return kernel
    sweeps = list(kernel.sweeps)
    operands = list(kernel.operands)
    for first, e in list(_dear(kernel)):
        number = len(operands)
        operands.append(Operand(e.dtype, KEPT))
        place = _place(kernel)
        again = load(number, e.dtype, place)
        for later in range(first + 1, len(sweeps)):
            sweeps[later] = map_expressions(sweeps[later], {e: again}.get)
        kept = Store(number, place, e)
        sweeps[first] = Sweep(sweeps[first].reductions, (*sweeps[first].stores, kept))
    return replace(kernel, operands=tuple(operands), sweeps=tuple(sweeps))


def _place(kernel: RowKernel) -> Expr:
    """The position in a row."""
    place: Expr = const(0, int64)
    for number, extent in enumerate(kernel.inner, len(kernel.outer)):
        place = place * extent + var(number)
    return place


def _dear(kernel: RowKernel) -> Iterator[tuple[int, Expr]]:
    """(first sweep, value): the largest values of later sweeps that an earlier one has, too."""
    inner = range(len(kernel.outer), len(kernel.outer) + len(kernel.inner))
    seen: dict[Expr, int] = {}
    taken: set[Expr] = set()
    for number, sweep in enumerate(kernel.sweeps):
        roots = list(sweep_roots(sweep))
        stack = list(roots)
        visited: set[Expr] = set()
        while stack:
            e = stack.pop()
            if e in visited:
                continue
            visited.add(e)
            if e in taken:
                continue
            if e in seen and _is_worth(e, inner):
                taken.add(e)
                yield seen[e], e
            else:
                stack.extend(e.args if e.op != "load" else ())
        for e in topological(roots):
            seen.setdefault(e, number)


def _is_worth(e: Expr, inner: range) -> bool:
    """Dear, different from point to point, and of a dtype that lies in memory as it is."""
    if e.op in ("load", "const", "var", "size", "acc") or e.dtype is bool_:
        return False
    varies = any(x.op == "var" and x.value in inner for x in topological([e]))
    return varies and weight([e]) >= _DEAR
