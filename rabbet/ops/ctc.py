"""Connectionist temporal classification: the loss of a target under all its alignments.

A. Graves et al., "Connectionist Temporal Classification", 2006: sums in logarithms over the ways
through the positions of the target with blanks in between (`ops/lattice.py`), in float64. Gradients
of every order follow: the first is minus the expected counts of classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import float64, int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import cast, maximum
from rabbet.ops.checks import agree, need_float, need_integer
from rabbet.ops.compare import equal, greater, less, logical_and, not_equal, where
from rabbet.ops.create import iota, number
from rabbet.ops.float_functions import logaddexp
from rabbet.ops.gather_scatter import counted_places, take_along_axis
from rabbet.ops.index_maps import expand, later, reshape
from rabbet.ops.joining import concat, stack
from rabbet.ops.lattice import NONE, log_way_scan


def _check(log_probs: Spec, targets: Spec, frames: Spec, counts: Spec, blank: int) -> None:
    need_float("ctc_loss", "log_probs", log_probs.dtype)
    numbers = {"targets": targets, "input_lengths": frames, "target_lengths": counts}
    for name, x in numbers.items():
        need_integer("ctc_loss", name, x.dtype)
    if (log_probs.ndim, targets.ndim, frames.ndim, counts.ndim) != (3, 2, 1, 1) or not all(
        agree(x.shape[0], log_probs.shape[1]) for x in (targets, frames, counts)
    ):
        raise ShapeError(
            f"ctc_loss: log_probs {show(log_probs.shape)}, targets {show(targets.shape)} and "
            f"lengths {show(frames.shape)}, {show(counts.shape)} must be (T, N, C), (N, S), (N,) "
            "and (N,)"
        )
    if not (0 <= blank and blank < log_probs.shape[2]):
        raise ShapeError(f"ctc_loss: blank={blank} is not among {log_probs.shape[2]} classes")


def _spec(
    log_probs: Spec, targets: Spec, input_lengths: Spec, target_lengths: Spec, blank: int
) -> Spec:
    _check(log_probs, targets, input_lengths, target_lengths, blank)
    return log_probs.with_shape(log_probs.shape[1:2])


def _reference(
    log_probs: np.ndarray, targets: np.ndarray, frames: np.ndarray, counts: np.ndarray, blank: int
) -> np.ndarray:
    """Example by example, position by position."""
    found = np.zeros(log_probs.shape[1])
    for n, (steps, count) in enumerate(zip(frames, counts, strict=True)):
        labels = [blank]
        for label in targets[n, :count]:
            labels += [int(label), blank]
        ways = np.full(len(labels), NONE)
        ways[0] = 0.0
        for t in range(steps):
            last = ways.copy()
            for j, label in enumerate(labels):
                came = [last[j], *last[max(j - 1, 0) : j]]
                if j > 1 and label not in (blank, labels[j - 2]):
                    came.append(last[j - 2])
                ways[j] = np.logaddexp.reduce(came) + np.float64(log_probs[t, n, label])
        found[n] = -np.logaddexp.reduce(ways[-2:])
    return found


def _samples() -> list[Sample]:
    return [
        Sample(
            (
                *(Draw((5, 2, 4), -3, -0.5), Draw((2, 2), 1, 4, "int")),
                *(Draw((2,), 4, 6, "int"), Draw((2,), 1, 3, "int")),
            ),
            {"blank": 0},
        ),
        Sample(
            (
                *(Draw((6, 1, 3), -3, -0.5), Draw((1, 2), 0, 2, "int")),
                *(Draw((1,), 5, 7, "int"), Draw((1,), 1, 2, "int")),
            ),
            {"blank": 2},
        ),
    ]


@op(
    "composite",
    public=False,
    method=None,
    infer=_spec,
    reference=_reference,
    samples=_samples,
    autocast="wide",
)
def ctc(
    log_probs: Value, targets: Value, input_lengths: Value, target_lengths: Value, blank: int = 0
) -> Value:
    """The loss of each example: (T, N, C), (N, S), (N,), (N,) -> (N,); infinite where none fits.

    A length or a used target out of range is an IndexRangeError when run.
    """
    steps, batch, classes = log_probs.shape
    width = targets.shape[1]
    counts = counted_places(target_lengths, width + 1)
    frames = counted_places(input_lengths, steps + 1)
    sure = where(equal(counts, 0), number(log_probs, 0.0, log_probs.dtype), np.inf)  # no steps
    if steps == 0:
        return sure
    inside = less(iota.like(targets, (1, width), 1, int64), reshape(counts, (batch, 1)))
    used = where(inside, cast(targets, int64), number(targets, blank, int64))
    labels = _with_blanks(counted_places(used, classes), blank)
    scores = take_along_axis(log_probs, reshape(labels, (1, *labels.shape)), 2)
    ways = _ways(cast(scores, float64), labels, blank)
    last = _at_end(ways, frames, counts)
    return where(greater(frames, 0), cast(-last, log_probs.dtype), sure)


def _with_blanks(labels: Any, blank: int) -> Any:
    """Blanks before, between and behind: (N, S) -> (N, 2 S + 1)."""
    batch, width = labels.shape
    blanks = expand(number(labels, blank, int64), (batch, width))
    pairs = reshape(stack([blanks, labels], 2), (batch, 2 * width))
    return concat([pairs, expand(number(labels, blank, int64), (batch, 1))], 1)


def _ways(scores: Any, labels: Any, blank: int) -> Any:
    """Per step: the logarithm of all ways to a position, with its own score."""
    # A blank between two different labels may be left out.
    free = logical_and(not_equal(labels, blank), not_equal(labels, later(labels, 1, 2, blank)))
    closed = number(scores, NONE, float64)
    skip = where(free, number(scores, 0.0, float64), closed)
    first = equal(iota.like(labels, labels.shape, 1, int64), 0)
    return log_way_scan(scores, where(first, number(scores, 0.0, float64), closed), skip)


def _at_end(ways: Any, frames: Any, counts: Any) -> Any:
    """The logarithm of a target's probability: at its last position or that before, behind its last
    step.
    """
    batch = ways.shape[1]
    step = reshape(maximum(frames - 1, 0), (1, batch, 1))
    row = take_along_axis(ways, expand(step, (1, batch, ways.shape[2])), 0)
    rows = reshape(row, (batch, ways.shape[2]))
    position = reshape(2 * counts, (batch, 1))
    blank, label = (
        reshape(take_along_axis(rows, p, 1), (batch,)) for p in (position, maximum(position - 1, 0))
    )
    label = where(greater(counts, 0), label, NONE)
    some = not_equal(maximum(blank, label), NONE)  # else the slopes of the sum would be NaN
    total = logaddexp(where(some, blank, 0.0), where(some, label, 0.0))
    return where(some, total, NONE)
