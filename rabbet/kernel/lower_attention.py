"""Attention calls -> kernels: which loop each axis is, and where the elements lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from rabbet.base.dtypes import bool_
from rabbet.base.sizes import Dim
from rabbet.expr import expr
from rabbet.expr.expr import Expr
from rabbet.graph.value import Call, Value
from rabbet.kernel import access
from rabbet.kernel.access import ZERO, Arguments, Index
from rabbet.kernel.loops import (
    AttentionGradientKernel,
    AttentionKernel,
    Scores,
    Store,
)

Load = Callable[[Value, Index], Expr]
Stored = Mapping[tuple[int, int], Value]


def attention_kernel(
    call: Call, stored: Stored, arguments: Arguments, load: Load
) -> AttentionKernel | AttentionGradientKernel:
    """The kernel of `attend` or `attend_gradient` (their operands: ops/attention_primitives.py)."""
    return _Attention(call, stored, arguments, load).kernel()


class _Attention:
    """One call; variables are lead (batch, then heads that share keys), then l, s, e, v."""

    def __init__(self, call: Call, stored: Stored, arguments: Arguments, load: Load) -> None:
        self.call, self.stored, self.arguments, self.load = call, stored, arguments, load
        self.is_forward = call.op.lower == "forward"
        given = call.op.arrange(call.inputs, call.form)
        self.before = [] if self.is_forward else given[:3]  # gradient, total, drop
        self.query, self.key, self.value, self.mask = given[-4:]
        lead = self.query.shape[:-2]
        one = isinstance(self.key.shape[-3], int) and self.key.shape[-3] == 1 if lead else False
        is_grouped = one and not (isinstance(lead[-1], int) and lead[-1] == 1)
        self.heads: Dim = lead[-1] if is_grouped else 1
        self.batch = lead[:-1] if is_grouped else lead
        first = len(self.batch) + 1
        self.lead = list(range(len(lead)))
        self.l, self.s, self.e, self.v = range(first, first + 4)

    def at(self, v: Value, axes: list[int]) -> Index:
        """The index of a value whose axes are these loops; axes that it lacks stand still.

        Along l, s, e and v vectors run, so these move even where there is one of them; but a mask
        of size 1 holds for all.
        """
        moves = () if v is self.mask else (self.l, self.s, self.e, self.v)
        return tuple(
            ZERO if a not in moves and self.is_one(v, d) else expr.var(a)
            for d, a in zip(v.shape, axes, strict=True)
        )

    def is_one(self, v: Value, d: Dim) -> bool:
        """Does an axis hold one element for all? A mask's is asked of symbolic sizes too."""
        return d == 1 if v is self.mask else isinstance(d, int) and d == 1

    def read(self, v: Value, *axes: int) -> Expr:
        """An operand (*lead, ...)."""
        return self.load(v, self.at(v, [*self.lead, *axes]))

    def moved(self, positions: int, features: int) -> list[int]:
        """The axes of a result: positions before heads."""
        place = len(self.lead) - self.call.attrs["heads"]
        return [*self.lead[:place], positions, *self.lead[place:], features]

    def stores(self, number: int, axes: list[int], value: Expr) -> tuple[Store, ...]:
        """The store of an output, if anyone needs it."""
        v = self.stored.get((id(self.call), number))
        if v is None:
            return ()
        index = access.flat(self.arguments, self.at(v, axes), v.shape)
        return (Store(self.arguments.operand(v, "out"), index, value),)

    def scores(self) -> Scores:
        """What both kernels have."""
        dtype, size = self.query.dtype, self.arguments.size
        score = expr.acc(0, dtype)
        if self.mask is not None:
            mask = self.read(self.mask, self.l, self.s)
            hidden = expr.const(-math.inf, dtype)
            is_bool = self.mask.dtype is bool_
            score = expr.select(mask, score, hidden) if is_bool else score + mask
        query = self.read(self.query, self.l, self.e)
        return Scores(
            batch=tuple(size(d) for d in self.batch),
            heads=size(self.heads),
            queries=size(self.query.shape[-2]),
            keys=size(self.key.shape[-2]),
            features=size(self.query.shape[-1]),
            values=size(self.value.shape[-1]),
            query=query * expr.const(self.call.attrs["scale"], dtype),
            key=self.read(self.key, self.s, self.e),
            score=score,
            causal=self.call.attrs["is_causal"],
        )

    def kernel(self) -> AttentionKernel | AttentionGradientKernel:
        """The whole kernel."""
        scores, value = self.scores(), self.read(self.value, self.s, self.v)
        first, dtype = expr.acc(0, self.query.dtype), self.query.dtype
        if self.is_forward:
            result = self.stores(0, self.moved(self.l, self.v), first)
            row = self.stores(1, [*self.lead, self.l], expr.acc(1, dtype))
            return AttentionKernel(tuple(self.arguments.operands), scores, value, result, row)
        g, total, drop = self.before
        gradient = self.load(g, self.at(g, self.moved(self.l, self.v)))
        rows = (self.read(total, self.l), self.read(drop, self.l))
        scaled = first * expr.const(self.call.attrs["scale"], dtype)
        made = (
            self.stores(0, self.moved(self.l, self.e), scaled),
            self.stores(1, self.moved(self.s, self.e), first),
            self.stores(2, self.moved(self.s, self.v), first),
        )
        operands = tuple(self.arguments.operands)
        return AttentionGradientKernel(operands, scores, value, gradient, *rows, *made)
