"""Rebuilding kernels: every expression of a kernel, found and replaced in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

from rabbet.expr import expr
from rabbet.expr.expr import Expr
from rabbet.kernel.loops import Operand


def expressions(part: Any) -> Iterator[Expr]:
    """Every root expression of a kernel, in order."""
    if isinstance(part, Expr):
        yield part
    elif isinstance(part, tuple):
        for p in part:
            yield from expressions(p)
    elif is_dataclass(part) and not isinstance(part, Operand):
        for f in fields(part):
            yield from expressions(getattr(part, f.name))


def map_expressions(part: Any, change: Callable[[Expr], Expr | None]) -> Any:
    """The kernel with every expression rebuilt, bottom up, where `change` gives another one."""
    if isinstance(part, Expr):
        return expr.substitute((part,), change)[0]
    if isinstance(part, tuple):
        return tuple(map_expressions(p, change) for p in part)
    if is_dataclass(part) and not isinstance(part, Operand):
        changed = {f.name: map_expressions(getattr(part, f.name), change) for f in fields(part)}
        return replace(part, **changed)  # type: ignore[type-var]
    return part


def renumber_sizes(part: Any, places: Mapping[int, int]) -> Any:
    """The kernel with size `places[n]` where it had size n."""
    return map_expressions(
        part, lambda e: expr.size(places[cast("int", e.value)]) if e.op == "size" else None
    )


def renumber_operands(root: Expr, places: Mapping[int, int]) -> Expr:
    """The expression with its loads, nested ones too, reading other operands."""
    done: dict[Expr, Expr] = {}
    for e in expr.topological([root]):
        args = tuple(done[a] for a in e.args)
        if e.op == "load":
            operand, fill = cast("tuple[int, Any]", e.value)
            done[e] = expr.make("load", args, e.dtype, (places[operand], fill))
        else:
            done[e] = e if args == e.args else expr.rebuild(e, args)
    return done[root]
