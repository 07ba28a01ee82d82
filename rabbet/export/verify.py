"""What must hold for a graph from a file before machine code is made of it.

Rules of ops check numbers; a size that is a symbol they leave to whoever made the graph. A file may
hold anything, so here every move of elements is checked once more, on primitives, with sizes that
may be symbols: where the answer depends on them it becomes a guard, and the compiled program runs
only where it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.base import sizes
from rabbet.base.errors import FormatError
from rabbet.base.sizes import Dim, SizeExpr
from rabbet.graph.value import Call, Graph
from rabbet.transform.decompose import decompose

MAX_PRIMITIVES = 1_000_000


def verify(graph: Graph) -> None:
    """FormatError where a primitive of `graph`, or of a graph inside it, would read outside its
    operand, or has no sound shape.
    """
    _verify(graph, MAX_PRIMITIVES)


def _verify(graph: Graph, left: int) -> int:
    """As `verify`, for at most `left` primitives; how many are left then."""
    primitive, _ = decompose(graph)
    calls = primitive.calls()
    left -= len(calls)
    if left < 0:
        raise FormatError(f"at most {MAX_PRIMITIVES} primitives are allowed")
    for call in calls:
        for spec in call.specs:
            for dim in spec.shape:
                if not is_size(dim) or dim < 0:
                    raise FormatError(f"{call.op.name}: the size {dim!r:.60} is no size")
        check = _CHECKS.get(call.op.name)
        if check is not None and not check(call):
            raise FormatError(f"{call.op.name}: {_shown(call)} reaches outside its operand")
    for inner in primitive.inner():
        left = _verify(inner, left)
    return left


def is_size(value: Any) -> bool:
    """True for an int or a symbolic size."""
    return isinstance(value, int | SizeExpr) and not isinstance(value, bool)


def _shown(call: Call) -> str:
    shown = ", ".join(f"{k}={v!r:.60}" for k, v in call.attrs.items())
    return f"{shown} of {call.inputs[0].spec}"


def _slice_fits(call: Call) -> bool:
    start, stop, step = (call.attrs[k] for k in ("start", "stop", "step"))
    return all(
        all(map(is_size, (a, b, s))) and _inside(n, a, b, s)
        for n, a, b, s in zip(call.inputs[0].shape, start, stop, step, strict=True)
    )


def _inside(n: Dim, start: Dim, stop: Dim, step: Dim) -> bool:
    if step == 0:
        return False
    if step > 0:
        return start >= 0 and stop >= start and n >= stop
    return stop >= -1 and start >= stop and sizes.maximum(n, 1) > start


def _pad_fits(call: Call) -> bool:
    amounts = (*call.attrs["low"], *call.attrs["high"], *call.attrs["interior"])
    return all(is_size(d) and d >= 0 for d in amounts)


def _window_fits(call: Call) -> bool:
    attrs, shape = call.attrs, call.inputs[0].shape
    parts = zip(attrs["axes"], attrs["window"], attrs["stride"], attrs["dilation"], strict=True)
    return all(
        all(map(is_size, (a, w, s, d)))
        and 0 <= a < len(shape)
        and w >= 1
        and s >= 1
        and d >= 1
        and shape[a] >= (w - 1) * d + 1
        for a, w, s, d in parts
    )


def _iota_fits(call: Call) -> bool:
    axis = call.attrs["axis"]
    return isinstance(axis, int) and 0 <= axis < len(call.specs[0].shape)


_CHECKS: dict[str, Callable[[Call], bool]] = {
    "slice": _slice_fits,
    "slice_set": _slice_fits,
    "pad": _pad_fits,
    "window": _window_fits,
    "iota": _iota_fits,
}
