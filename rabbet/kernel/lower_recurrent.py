"""Recurrent calls -> kernels: the op's cell written down over scalars (see ops/recurrent.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rabbet.base.dtypes import int64
from rabbet.expr import expr
from rabbet.expr.expr import Expr
from rabbet.graph.value import Call, Value
from rabbet.kernel import access
from rabbet.kernel.access import Arguments, Index
from rabbet.kernel.loops import RecurrentKernel, Store

Load = Callable[[Value, Index], Expr]
Stored = Mapping[tuple[int, int], Value]
BATCH, STEP, UNIT, TARGET, SOURCE, INNER = (expr.var(n) for n in range(6))


def recurrent_kernel(
    call: Call, stored: Stored, arguments: Arguments, load: Load
) -> RecurrentKernel:
    """The kernel of a scan or of its gradient; `op.lower` is its Recurrence."""
    rule = call.op.lower
    operands = call.op.arguments(call.inputs, call.attrs, call.form)
    weight: Value | None = operands.get("weight")
    long: Value = operands["gy" if rule.backward else "x"]
    steps, batch, width = long.shape
    units = arguments.size(width if weight is None else weight.shape[1])
    dtype = long.dtype
    time = arguments.size(steps) - 1 - STEP if rule.is_reversed(call.attrs) else STEP

    def read(name: str, part: int) -> Expr | None:
        v = operands[name]
        if v is None:
            return None
        unit = units * part + UNIT if part else UNIT
        return load(v, (time, BATCH, unit)[3 - v.ndim :])

    def store(number: int, part: int, value: Expr) -> tuple[Store, ...]:
        v = stored.get((id(call), number))
        if v is None:
            return ()
        unit = units * part + UNIT if part else UNIT
        index = (time, BATCH, unit) if v.ndim == 3 else (BATCH, unit)
        place = access.flat(arguments, index, v.shape)
        return (Store(arguments.operand(v, "out"), place, value),)

    products = [expr.acc(n, dtype) for n in range(rule.targets)]
    before = [expr.acc(rule.targets + n, dtype) for n in range(len(rule.starts))]
    number = rule.targets + len(rule.starts)
    near = [
        expr.select(expr.const(d, int64) <= UNIT, expr.acc(number + n, dtype), expr.const(o, dtype))
        for n, (_, d, o) in enumerate(rule.shifts)
    ]
    zero = expr.const(0.0, dtype)
    start = tuple(zero if s is None else load(operands[s], (BATCH, UNIT)) for s in rule.starts)
    matrix = None
    if weight is None:
        pass
    elif rule.backward:
        matrix = load(weight, (SOURCE * units + INNER, UNIT))
    else:
        matrix = load(weight, (TARGET * units + UNIT, INNER))
    carried, outputs = rule.step(rule.math, products, [*before, *near], read, call.attrs)
    stores: list[Store] = []
    for number, parts in outputs.items():
        for part, value in enumerate(parts):
            stores.extend(store(number, part, value))
    finish = [s for number, n in rule.ends for s in store(number, 0, before[n])]
    return RecurrentKernel(
        operands=tuple(arguments.operands),
        batch=arguments.size(batch),
        steps=arguments.size(steps),
        units=units,
        targets=rule.targets,
        sources=rule.sources,
        weight=matrix,
        start=start,
        carried=tuple(carried),
        stores=tuple(stores),
        finish=tuple(finish),
        shifts=tuple((n, d) for n, d, _ in rule.shifts),
    )
