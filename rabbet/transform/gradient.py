"""Reverse mode: from Values and their gradients to gradients of what they were made from.

Takes and returns Values of one builder; runs nothing. The loop itself is `rules.reverse_graph`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.base import sizes
from rabbet.base.errors import GradientError
from rabbet.base.shapes import show
from rabbet.graph.value import Value
from rabbet.transform.rules import reverse_graph


def gradient(
    outputs: Sequence[Value], output_gradients: Sequence[Value | None], wrt: Sequence[Value]
) -> list[Value | None]:
    """d sum(outputs * output_gradients) / d wrt: one for each of `wrt`, None without a path.

    An output whose gradient is None does not count. Raises GradientError where an output and its
    gradient differ in shape or dtype, or an op on the way has no gradient.
    """
    used = [(y, g) for y, g in zip(outputs, output_gradients, strict=True) if g is not None]
    for y, g in used:
        _check(y, g)
    return reverse_graph([y for y, _ in used], [g for _, g in used], wrt)


def _check(y: Value, g: Value) -> None:
    same = y.ndim == g.ndim and all(
        sizes.same(d, e) or d == e for d, e in zip(y.shape, g.shape, strict=True)
    )
    if not same or y.dtype is not g.dtype:
        raise GradientError(
            f"gradient: the output is {y.dtype.name}{show(y.shape)}, its gradient "
            f"{g.dtype.name}{show(g.shape)}"
        )
