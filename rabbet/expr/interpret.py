"""Evaluate expressions with NumPy: the meaning of every Expr.

Slow and plain, for tests and for the kernel interpreter. No code generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from rabbet.base.errors import InternalError
from rabbet.expr import meaning
from rabbet.expr.expr import Expr, topological
from rabbet.expr.meaning import Array
from rabbet.expr.scalars import ROWS


def evaluate(
    roots: Iterable[Expr], leaf: Callable[[Expr], Array], *, fused: bool = True
) -> list[Array]:
    """The value of each root, elementwise over the arrays `leaf` gives for var, size, load, acc.

    The arrays must broadcast. `fused=False` evaluates fma as a product and a sum, each rounded, as
    targets without the instruction do. Raises InternalError for an unknown row or a wrong dtype.

    >>> from rabbet.expr.expr import var
    >>> evaluate([var(0) * 2], lambda e: np.arange(3))
    [array([0, 2, 4])]
    """
    roots = tuple(roots)
    values: dict[Expr, Array] = {}
    with np.errstate(all="ignore"):
        for e in topological(roots):
            result = np.asarray(_evaluate(e, values, leaf, fused))
            if result.dtype != e.dtype.numpy:
                raise InternalError(f"scalar {e.op}: {result.dtype} instead of {e.dtype.name}")
            values[e] = result
    return [values[r] for r in roots]


def _evaluate(
    e: Expr, values: dict[Expr, Array], leaf: Callable[[Expr], Array], fused: bool
) -> Array:
    if e.op == "const":
        return np.asarray(e.value, dtype=e.dtype.numpy)
    if e.op in ("var", "size", "load", "acc"):
        return np.asarray(leaf(e), dtype=e.dtype.numpy)
    args = [values[a] for a in e.args]
    if e.op == "cast":
        return meaning.cast(args[0], e.dtype)
    if e.op == "bitcast":
        return meaning.bitcast(args[0], e.dtype)
    if e.op == "fma" and not fused:
        return np.asarray(args[0] * args[1] + args[2])
    row = ROWS.get(e.op)
    if row is None:
        raise InternalError(f"scalar {e.op}: no such row")
    return row.meaning(*args)
