"""Compiler bugs on purpose, each a small change to one function: `PLANTED[name]()` plants it.

A bug stays planted for the rest of the process, so each belongs to a process of its own (hunt.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rabbet.base.sizes import SizeScope
from rabbet.codegen import contract
from rabbet.graph.value import lookup
from rabbet.kernel import access, collapse, fuse, lower
from rabbet.runtime import plan


def broadcast_stride() -> None:
    """A stretched axis is walked as if it were not."""

    def stretched(index: tuple[Any, ...], shape: Any, wide: tuple[Any, ...]) -> tuple[Any, ...]:
        return index[len(wide) - len(shape) :]

    access.stretched = stretched


def sweep_order() -> None:
    """Everything is computed in the first sweep, before the reductions it needs are done."""
    lower._level = lambda value, level_of_acc: 0


def fusion_dependency() -> None:
    """Groups do not wait for the groups they read."""
    fuse.Fusion._depend = lambda self, group, other: None  # type: ignore[method-assign]


def reduced_axes() -> None:
    """The axes that a reduction keeps come out in the wrong order."""
    right = fuse._result_index
    fuse._result_index = lambda index, call: tuple(reversed(right(index, call)))


def collapsed_stride() -> None:
    """Neighbouring loops merge whatever their strides are."""
    collapse._mergeable = lambda kernel, arguments, names, a: True


def pad_predicate() -> None:
    """Padding begins one element late on the last axis."""
    pad = lookup("pad")
    right = pad.lower

    def wrong(index: Any, size: Any, spec: Any, low: tuple[Any, ...], **rest: Any) -> Any:
        if low and isinstance(low[-1], int) and low[-1] > 0:
            low = (*low[:-1], low[-1] - 1)
        return right(index, size, spec, low=low, **rest)

    pad.lower = wrong


def buffer_lifetime() -> None:
    """Memory in the arena is given away after its first use."""
    right = plan.Plan.words

    def words(self: Any) -> bytes:
        for buffer in self.buffers:
            if buffer.kind == plan.ARENA and buffer.last > buffer.first + 1:
                buffer.last = buffer.first + 1
        return right(self)

    plan.Plan.words = words  # type: ignore[method-assign]


def forgotten_blocks() -> None:
    """A contraction forgets the blocks of k before the last one."""
    right: Any = contract._Block
    contract._Block = lambda k, count, first, last, *rest: right(k, count, last, last, *rest)


def accumulator_numbers() -> None:
    """Accumulators are numbered backwards where there are several."""
    right = lower._sweeps

    def wrong(reductions: Any, stores: Any, count: int) -> Any:
        sweeps, renumber = right(reductions, stores, count)
        return sweeps, {old: len(renumber) - 1 - new for old, new in renumber.items()}

    lower._sweeps = wrong


def dropped_guards() -> None:
    """Questions about sizes are answered and not written down."""

    def decide(self: Any, relation: str, expr: Any) -> bool:
        value = expr.hint
        return {"==": value == 0, "!=": value != 0, "<": value < 0, ">=": value >= 0}[relation]

    SizeScope.decide = decide  # type: ignore[method-assign]


def scatter_order() -> None:
    """scatter_set keeps the first of several values for a place."""
    right = lower._lower_scatter

    def wrong(group: Any, fusion: Any) -> Any:
        made = right(group, fusion)
        kernel = made.kernel
        combine = "max" if kernel.combine == "set" else kernel.combine
        return replace(made, kernel=replace(kernel, combine=combine))

    lower._lower_scatter = wrong


PLANTED: dict[str, Callable[[], None]] = {
    f.__name__: f
    for f in (
        *(broadcast_stride, sweep_order, fusion_dependency, reduced_axes, collapsed_stride),
        *(pad_predicate, buffer_lifetime, forgotten_blocks, accumulator_numbers, dropped_guards),
        scatter_order,
    )
}
