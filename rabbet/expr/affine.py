"""Affine analysis of index expressions: how far an index moves with one loop variable."""

from __future__ import annotations

from rabbet.base.dtypes import int64
from rabbet.expr.expr import Expr, const, select, topological


def coefficient(index: Expr, variable: int) -> Expr | None:
    """The factor of var(variable) in `index`, free of it; None if `index` is not affine in it.

    >>> from rabbet.expr.expr import size, var
    >>> coefficient(var(0) * size(0) + 3, 0)
    s0
    """
    return coefficients((index,), variable)[0]


def coefficients(roots: tuple[Expr, ...], variable: int) -> list[Expr | None]:
    """`coefficient` of several expressions that share parts, each part visited once."""
    found: dict[Expr, Expr | None] = {}
    for e in topological(roots):
        found[e] = _coefficient(e, variable, found)
    return [found[r] for r in roots]


_ZERO = const(0, int64)
_ONE = const(1, int64)


def _coefficient(e: Expr, variable: int, found: dict[Expr, Expr | None]) -> Expr | None:
    if e.op == "var":
        return _ONE if e.value == variable else _ZERO
    parts = [found[a] for a in e.args]
    if all(p is _ZERO for p in parts):
        return _ZERO
    if e.dtype is not int64:
        return None
    match e.op:
        case "add" if parts[0] is not None and parts[1] is not None:
            return parts[0] + parts[1]
        case "sub" if parts[0] is not None and parts[1] is not None:
            return parts[0] - parts[1]
        case "neg" if parts[0] is not None:
            return _ZERO - parts[0]
        case "mul" if parts[0] is not None and parts[1] is _ZERO:
            return parts[0] * e.args[1]
        case "mul" if parts[1] is not None and parts[0] is _ZERO:
            return e.args[0] * parts[1]
        case "select" if parts[0] is _ZERO and parts[1] is not None and parts[2] is not None:
            return select(e.args[0], parts[1], parts[2])
    return None
