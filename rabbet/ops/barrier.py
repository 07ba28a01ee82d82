"""An order that no operand asks for: work that must not be done early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.expr.expr import Expr
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import ALL, Draw, Sample
from rabbet.graph.value import Value, lookup

Index: TypeAlias = tuple[Expr, ...]


def _spec(x: Spec, until: Spec) -> Spec:
    return x


def _lower(index: Index, dims: Callable[[Dim], Expr], spec: Spec) -> tuple[Index, Expr | None]:
    return index, None


@op(
    "movement",
    infer=_spec,
    lower=_lower,
    reference=lambda x, until: x,
    awaits=1,
    public=False,
    samples=lambda: [
        Sample((Draw((2, 3)), Draw((4,))), {}, ALL),
        Sample((Draw(()), Draw((0, 2), dtype="int32")), {}),
    ],
)
def barrier(x: Value, until: Value) -> Value:
    """x itself, but what is computed from the result is computed again, and not before `until` is
    known.

    No memory is moved. A barrier keeps equal computations before and after it apart, so a value
    that is cheap to have again need not be kept.
    """


@barrier.gradient
def _gradient(g: Any, y: Any, x: Any, until: Any) -> tuple[Any, None]:
    return g, None


@barrier.batching
def _batch(size: int, flags: Flags, x: Any, until: Any) -> Any:
    return barrier(x if flags[0] else lookup("expand")(x, (size, *x.shape)), until)
