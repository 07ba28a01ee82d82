"""What a caller must know to launch a kernel."""

from __future__ import annotations

from dataclasses import dataclass

from rabbet.expr.expr import Expr


@dataclass(frozen=True)
class Launch:
    """Expressions over size(n) only.

    tasks: size of the task space; scratch_bytes: memory per thread; cost: scalar operations of
    the whole call.
    """

    tasks: Expr
    scratch_bytes: Expr
    cost: Expr
