"""Sums over the ways through a lattice of steps and places.

A way stays where it is from one step to the next, or moves up by one place or by two. `way_scan`
adds up numbers along all ways, each way weighted by the product of its moves; `log_way_scan` does
the same in logarithms, where sums of many small products keep their digits. These are the sums of
A. Graves et al., "Connectionist Temporal Classification" (2006). The gradient of either is a
`way_scan` from the last step to the first, so there are gradients of every order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import add, multiply
from rabbet.ops.checks import agree, need_float, need_same_dtype
from rabbet.ops.compare import greater, logical_and, where
from rabbet.ops.float_functions import exp
from rabbet.ops.index_maps import cut, later, reshape, turn
from rabbet.ops.joining import concat
from rabbet.ops.recurrent import Read, Recurrence, Step, batched_scan, reference_of, unrolled
from rabbet.ops.reductions import sum_

NONE = -np.inf
MOVES = (0, 1, 2)  # places that a way goes up in a step


def _check(name: str, x: Spec, *others: tuple[str, Spec, int]) -> None:
    """`others` have the shape of the last so many axes of x (steps, batch, places)."""
    need_float(name, "x", x.dtype)
    need_same_dtype(name, x=x, **{n: s for n, s, _ in others})
    fit = x.ndim == 3 and x.shape[0] != 0
    for _, s, ndim in others:
        fit = fit and s.ndim == ndim and all(map(agree, s.shape, x.shape[3 - ndim :]))
    if not fit:
        shown = ", ".join(f"{n} {show(s.shape)}" for n, s, _ in (("x", x, 3), *others))
        raise ShapeError(
            f"{name}: {shown} do not fit: (steps, batch, places), or (batch, places) for one step; "
            "at least one step"
        )


def _before(y: Any, start: Any | None, outside: float) -> list[Any]:
    """y of the step before, at first `start`: at each place, and one and two places below."""
    earlier = cut(y, 0, 0, y.shape[0] - 1)
    first = None if start is None else reshape(start, (1, *start.shape))
    y = later(y, 0, 1, outside) if first is None else concat([first, earlier], 0)
    return [y, *(later(y, 2, by, outside) for by in MOVES[1:])]


def _shared(x: Any, moves: list[Any]) -> Any:
    """The opposite of a `way_scan`: what comes back to each step and place."""
    onward = [turn(_source(m, by), (0, 2)) for m, by in zip(moves, MOVES, strict=True)]
    return turn(way_scan(turn(x, (0, 2)), *onward), (0, 2))


def _source(move: Any, by: int) -> Any:
    """The weight of a move where it starts: one step earlier, `by` places below."""
    move = later(move, 0, -1, 0.0)
    return later(move, 2, -by, 0.0) if by else move


# ---- plain ---------------------------------------------------------------------------------------


def _way_step(m: Any, p: list[Any], carried: list[Any], read: Read, attrs: Any) -> Step:
    total = read("x", 0)
    for by, y in zip(MOVES, carried, strict=True):
        total = total + read(f"by{by}", 0) * y
    return [total], {0: [total]}


WAYS = Recurrence(_way_step, 0, 0, (None,), shifts=((0, 1, 0.0), (0, 2, 0.0)))


def _way_spec(x: Spec, by0: Spec, by1: Spec, by2: Spec) -> Spec:
    _check("way_scan", x, ("by0", by0, 3), ("by1", by1, 3), ("by2", by2, 3))
    return x


def _way_samples() -> list[Sample]:
    shapes = ((3, 2, 4), (2, 1, 9), (4, 3, 1), (1, 1, 2))
    return [Sample((Draw(s, -1, 1), *(Draw(s, -1, 1),) * 3), {}) for s in shapes]


@op(
    "recurrent",
    lower=WAYS,
    public=False,
    infer=_way_spec,
    reference=reference_of(WAYS, ("x", "by0", "by1", "by2")),
    samples=_way_samples,
)
def way_scan(x: Value, by0: Value, by1: Value, by2: Value) -> Value:
    """y[t, b, j] = x[t, b, j] + the sum over k = 0, 1, 2 of byk[t, b, j] * y[t - 1, b, j - k]."""
    return unrolled(WAYS, {"x": x, "by0": by0, "by1": by1, "by2": by2})[0]


@way_scan.gradient
def _way_gradient(g: Any, y: Any, x: Any, *moves: Any) -> tuple[Any, ...]:
    back = _shared(g, list(moves))
    return back, *(multiply(back, b) for b in _before(y, None, 0.0))


# ---- logarithms ----------------------------------------------------------------------------------


def _log_step(m: Any, p: list[Any], carried: list[Any], read: Read, attrs: Any) -> Step:
    stay, one, two = carried
    two = two + read("skip", 0)
    top = m.maximum(m.maximum(stay, one), two)
    base = m.above(-top, NONE, m.above(top, NONE, top, 0.0), 0.0)  # 0 where not finite
    total = m.exp(stay - base) + m.exp(one - base) + m.exp(two - base)
    found = m.log(total) + base + read("x", 0)
    return [found], {0: [found]}


LOG_WAYS = Recurrence(_log_step, 0, 0, ("start",), shifts=((0, 1, NONE), (0, 2, NONE)))


def _log_spec(x: Spec, start: Spec, skip: Spec) -> Spec:
    _check("log_way_scan", x, ("start", start, 2), ("skip", skip, 2))
    return x


def _log_samples() -> list[Sample]:
    shapes = ((3, 2, 4), (2, 1, 9), (4, 3, 1), (1, 1, 2))
    return [
        Sample((Draw(s, -3, 1), Draw(s[1:], -1, 1), Draw(s[1:], -2, 0.5)), {}, tolerance=8)
        for s in shapes
    ]


@op(
    "recurrent",
    lower=LOG_WAYS,
    public=False,
    infer=_log_spec,
    reference=reference_of(LOG_WAYS, ("x", "start", "skip")),
    samples=_log_samples,
)
def log_way_scan(x: Value, start: Value, skip: Value) -> Value:
    """y[t, b, j] = x[t, b, j] + log(exp y[t - 1, b, j] + exp y[t - 1, b, j - 1] +
    exp(y[t - 1, b, j - 2] + skip[b, j])); y before the first step is `start` (b, j).
    """
    return unrolled(LOG_WAYS, {"x": x, "start": start, "skip": skip})[0]


@log_way_scan.gradient
def _log_gradient(g: Any, y: Any, x: Any, start: Any, skip: Any) -> tuple[Any, ...]:
    stay, one, two = _before(y, start, NONE)
    shares = [_share(came, x, y) for came in (stay, one, add(two, skip))]
    back = _shared(g, shares)
    # The first step's shares lead back to `start`, as those of other steps to the step before.
    origin = [cut(multiply(back, s), 0, 0, 1) for s in shares]
    total = origin[0]
    for by, part in zip(MOVES[1:], origin[1:], strict=True):
        total = add(total, later(part, 2, -by, 0.0))
    return back, reshape(total, start.shape), sum_(multiply(back, shares[2]), (0,))


def _share(came: Any, x: Any, y: Any) -> Any:
    """Which part of exp y came this way; 0 where nothing did."""
    some = logical_and(greater(y, NONE), greater(came, NONE))
    return where(some, exp(where(some, add(came, x) - y, 0.0)), 0.0)


for _op in (way_scan, log_way_scan):
    batched_scan(_op)
