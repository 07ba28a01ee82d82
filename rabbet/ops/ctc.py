"""Connectionist temporal classification: the loss of a target under all its alignments.

A. Graves et al., "Connectionist Temporal Classification", 2006: forward and backward sums over the
positions of the target with blanks in between, in logarithms. Time is a loop of its own, so the ops
run on the host, in float64, for all examples at once. The gradient is minus the expected counts of
classes; its derivative along a direction follows from the same sums, carried as value and slope.
Derivatives of the third order are NaN.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rabbet.base.errors import IndexRangeError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import Draw, Sample, draws
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import multiply
from rabbet.ops.checks import agree, need_float
from rabbet.ops.index import check_indices
from rabbet.ops.moves import expand, permute, reshape

NONE = -np.inf


class _Dual(NamedTuple):
    """Logarithms, and their slopes along a direction."""

    value: np.ndarray
    slope: np.ndarray


def _joined(*terms: _Dual) -> _Dual:
    """log(sum of exp) of several."""
    top = np.maximum.reduce([t.value for t in terms])
    base = np.where(np.isfinite(top), top, 0.0)
    shares = [np.exp(t.value - base) for t in terms]
    total = np.add.reduce(shares)
    some = np.where(total > 0, total, 1.0)
    slope = np.add.reduce([s * t.slope for s, t in zip(shares, terms, strict=True)]) / some
    return _Dual(np.where(total > 0, np.log(some) + base, NONE), slope)


def _shifted(x: _Dual, by: int, allowed: Any = True) -> _Dual:
    """Positions later by `by`; nothing comes in, and only where allowed."""
    value, slope = np.full_like(x.value, NONE), np.zeros_like(x.slope)
    if by > 0:
        value[:, by:], slope[:, by:] = x.value[:, :-by], x.slope[:, :-by]
    else:
        value[:, :by], slope[:, :by] = x.value[:, -by:], x.slope[:, -by:]
    return _Dual(np.where(allowed, value, NONE), np.where(allowed, slope, 0.0))


class _Alignments:
    """The sums over alignments of one batch."""

    def __init__(
        self,
        log_probs: np.ndarray,
        along: np.ndarray | None,
        targets: np.ndarray,
        frames: np.ndarray,
        counts: np.ndarray,
        blank: int,
    ) -> None:
        self.steps, self.batch, self.classes = log_probs.shape
        _check_values(targets, frames, counts, self.steps, self.classes)
        self.frames, self.counts = frames, counts
        width = targets.shape[1]
        self.labels = np.full((self.batch, 2 * width + 1), blank, np.int64)
        inside = np.arange(width) < counts[:, None]
        self.labels[:, 1::2] = np.where(inside, targets, blank)
        # A blank between two different labels may be left out.
        self.skips = np.zeros(self.labels.shape, bool)
        self.skips[:, 2:] = (self.labels[:, 2:] != blank) & (
            self.labels[:, 2:] != self.labels[:, :-2]
        )
        places = np.broadcast_to(self.labels, (self.steps, *self.labels.shape))
        slopes = np.zeros(log_probs.shape) if along is None else along.astype(np.float64)
        self.scores = _Dual(
            np.take_along_axis(log_probs.astype(np.float64), places, 2),
            np.take_along_axis(slopes, places, 2),
        )
        position = np.arange(self.labels.shape[1])
        self.ends = (position == 2 * counts[:, None]) | (position == 2 * counts[:, None] - 1)

    def score(self, t: int) -> _Dual:
        return _Dual(self.scores.value[t], self.scores.slope[t])

    def forward(self) -> list[_Dual]:
        """Per step: all ways to a position, with its own score."""
        start = np.arange(self.labels.shape[1]) < np.where(self.counts > 0, 2, 1)[:, None]
        first = self.score(0)
        found = [_Dual(np.where(start, first.value, NONE), np.where(start, first.slope, 0.0))]
        for t in range(1, self.steps):
            here, last = self.score(t), found[-1]
            total = _joined(last, _shifted(last, 1), _shifted(last, 2, self.skips))
            found.append(_Dual(total.value + here.value, total.slope + here.slope))
        return found

    def total(self, ways: list[_Dual]) -> _Dual:
        """The logarithm of a target's probability: per example, behind its last step."""
        if not self.steps:
            sure = np.where(self.counts == 0, 0.0, NONE)
            return _Dual(sure, np.zeros(self.batch))
        last = np.clip(self.frames - 1, 0, self.steps - 1)
        each = np.arange(self.batch)
        value = np.stack([w.value for w in ways])[last, each]
        slope = np.stack([w.slope for w in ways])[last, each]
        ended = [
            _Dual(np.where(self.ends[:, i], value[:, i], NONE)[:, None], slope[:, i][:, None])
            for i in range(self.labels.shape[1])
        ]
        found = _joined(*ended)
        empty = np.where(self.counts == 0, 0.0, NONE)  # no steps at all
        return _Dual(
            np.where(self.frames == 0, empty, found.value[:, 0]),
            np.where(self.frames == 0, 0.0, found.slope[:, 0]),
        )

    def backward(self) -> list[_Dual]:
        """Per step: all ways from a position to the end, without its own score."""
        shape = self.labels.shape
        ended = _Dual(np.where(self.ends, 0.0, NONE), np.zeros(shape))
        later = np.zeros(shape, bool)  # positions two in front may be skipped to
        later[:, :-2] = self.skips[:, 2:]
        found: list[_Dual] = [ended] * self.steps
        rest = _Dual(np.full(shape, NONE), np.zeros(shape))
        for t in reversed(range(self.steps)):
            is_last = (self.frames - 1 == t)[:, None]
            if t + 1 < self.steps:
                here = self.score(t + 1)
                ahead = _Dual(rest.value + here.value, rest.slope + here.slope)
                total = _joined(ahead, _shifted(ahead, -1), _shifted(ahead, -2, later))
            else:
                total = _Dual(np.full(shape, NONE), np.zeros(shape))
            rest = _Dual(
                np.where(is_last, ended.value, total.value),
                np.where(is_last, 0.0, total.slope),
            )
            found[t] = rest
        return found

    def expected(self) -> _Dual:
        """How often each class is expected at each step: (T, N, C); 0 behind the last step."""
        counts = np.zeros((self.steps, self.batch, self.classes))
        slopes = np.zeros(counts.shape)
        ways = self.forward() if self.steps else []
        total, onward = self.total(ways), self.backward()
        fits = np.isfinite(total.value)
        norm = np.where(fits, total.value, 0.0)[:, None]
        rows = np.arange(self.batch)[:, None]
        for t in range(self.steps):
            share = np.exp(np.where(fits[:, None], ways[t].value + onward[t].value, NONE) - norm)
            share = np.where((t < self.frames)[:, None], share, 0.0)
            slope = share * (ways[t].slope + onward[t].slope - total.slope[:, None])
            np.add.at(counts[t], (rows, self.labels), share)
            np.add.at(slopes[t], (rows, self.labels), slope)
        return _Dual(counts, slopes)


def _check_values(
    targets: np.ndarray, frames: np.ndarray, counts: np.ndarray, steps: int, classes: int
) -> None:
    for name, x, most in (
        ("input_lengths", frames, steps),
        ("target_lengths", counts, targets.shape[1]),
    ):
        if x.size and (x.min() < 0 or x.max() > most):
            raise IndexRangeError(f"ctc_loss: {name} {x.tolist()} must be from 0 to {most}")
    used = targets[np.arange(targets.shape[1]) < counts[:, None]]
    if used.size and (used.min() < 0 or used.max() >= classes):
        raise IndexRangeError(
            f"ctc_loss: targets from {used.min()} to {used.max()} are not among {classes} classes"
        )


# ---- ops -----------------------------------------------------------------------------------------


def _check(log_probs: Spec, targets: Spec, frames: Spec, counts: Spec, blank: int) -> None:
    need_float("ctc_loss", "log_probs", log_probs.dtype)
    for x in (targets, frames, counts):
        check_indices("ctc_loss", x)
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


def _loss_spec(
    log_probs: Spec, targets: Spec, input_lengths: Spec, target_lengths: Spec, blank: int
) -> Spec:
    _check(log_probs, targets, input_lengths, target_lengths, blank)
    return log_probs.with_shape(log_probs.shape[1:2])


def _loss(log_probs: np.ndarray, *rest: Any) -> np.ndarray:
    sums = _Alignments(log_probs, None, *rest)
    total = sums.total(sums.forward() if sums.steps else [])
    return np.asarray(-total.value).astype(log_probs.dtype)


def _shape(sample: Sample) -> tuple[int, ...]:
    return draws(sample)[0].shape


_LENGTHS = (Draw((2,), 4, 6, "int"), Draw((2,), 1, 3, "int"))
_TARGETS = Draw((2, 2), 1, 4, "int")
_SCORES = Draw((5, 2, 4), -3, -0.5)


def _samples(*extra: Draw) -> list[Sample]:
    return [
        Sample((_SCORES, *extra, _TARGETS, *_LENGTHS), {"blank": 0}),
        Sample(
            (
                Draw((6, 1, 3), -3, -0.5),
                *(Draw((6, 1, 3)) for _ in extra),
                *(Draw((1, 2), 0, 2, "int"), Draw((1,), 5, 7, "int"), Draw((1,), 1, 2, "int")),
            ),
            {"blank": 2},
        ),
    ]


@op(
    "host",
    public=False,
    method=None,
    infer=_loss_spec,
    lower=_loss,
    reference=_loss,
    samples=_samples,
)
def ctc(
    log_probs: Value, targets: Value, input_lengths: Value, target_lengths: Value, blank: int = 0
) -> Value:
    """The loss of each example: (T, N, C), (N, S), (N,), (N,) -> (N,); infinite where none fits."""


@ctc.gradient
def _ctc_gradient(
    g: Any, y: Any, log_probs: Any, targets: Any, frames: Any, counts: Any, blank: int
) -> tuple[Any, None, None, None]:
    expected = ctc_counts(log_probs, targets, frames, counts, blank)
    return -(expected * reshape(g, (1, g.shape[0], 1))), None, None, None


def _counts(log_probs: np.ndarray, *rest: Any) -> np.ndarray:
    return _Alignments(log_probs, None, *rest).expected().value.astype(log_probs.dtype)


def _counts_spec(
    log_probs: Spec, targets: Spec, input_lengths: Spec, target_lengths: Spec, blank: int
) -> Spec:
    _check(log_probs, targets, input_lengths, target_lengths, blank)
    return log_probs


@op(
    "host",
    public=False,
    method=None,
    infer=_counts_spec,
    lower=_counts,
    reference=_counts,
    # differentiated as the second order of `ctc`: the third has no rule
    samples=lambda: [
        Sample((Draw(_shape(s), -3, -0.5, dtype="float64"), *s.operands[1:]), s.attrs)
        for s in _samples()
    ],
)
def ctc_counts(
    log_probs: Value, targets: Value, input_lengths: Value, target_lengths: Value, blank: int = 0
) -> Value:
    """How often each class is expected at each step: (T, N, C); 0 where no target fits."""


@ctc_counts.gradient
def _ctc_counts_gradient(
    g: Any, y: Any, log_probs: Any, targets: Any, frames: Any, counts: Any, blank: int
) -> tuple[Any, None, None, None]:
    # The counts are the slopes of log-probabilities, so their own slopes are symmetric.
    return ctc_slopes(log_probs, g, targets, frames, counts, blank), None, None, None


def _slopes(log_probs: np.ndarray, along: np.ndarray, *rest: Any) -> np.ndarray:
    return _Alignments(log_probs, along, *rest).expected().slope.astype(log_probs.dtype)


def _slopes_spec(
    log_probs: Spec,
    along: Spec,
    targets: Spec,
    input_lengths: Spec,
    target_lengths: Spec,
    blank: int,
) -> Spec:
    _check(log_probs, targets, input_lengths, target_lengths, blank)
    if along.dtype is not log_probs.dtype or along.shape != log_probs.shape:
        raise ShapeError(f"ctc_loss: a direction {along} for log_probs {log_probs}")
    return log_probs


@op(
    "host",
    public=False,
    method=None,
    infer=_slopes_spec,
    lower=_slopes,
    reference=_slopes,
    samples=lambda: [
        Sample((Draw(_shape(s), -3, -0.5, dtype="float64"), *s.operands[1:]), s.attrs, ("float64",))
        for s in _samples(Draw((5, 2, 4)))
    ],
)
def ctc_slopes(
    log_probs: Value,
    along: Value,
    targets: Value,
    input_lengths: Value,
    target_lengths: Value,
    blank: int = 0,
) -> Value:
    """The derivative of `ctc_counts` along a direction: (T, N, C), (T, N, C), ... -> (T, N, C)."""


@ctc_slopes.gradient
def _ctc_slopes_gradient(
    g: Any, y: Any, log_probs: Any, along: Any, targets: Any, frames: Any, counts: Any, blank: int
) -> tuple[Any, ...]:
    third = multiply(log_probs, np.nan)  # there is no rule, and nobody shall miss that
    return third, ctc_slopes(log_probs, g, targets, frames, counts, blank), None, None, None


# ---- many batches at once ------------------------------------------------------------------------


def _batch(name: str) -> Any:
    """Examples of vmap become more examples of one batch."""

    def rule(size: int, flags: Flags, *inputs: Any, blank: int) -> Any:
        rows = []
        steps = inputs[0].shape[1 if flags[0] else 0]
        for x, flag in zip(inputs, flags, strict=True):
            x = x if flag else expand(x, (size, *x.shape))
            if x.ndim == 4:  # (B, T, N, C) -> (T, B, N, C)
                x = permute(x, (1, 0, 2, 3))
                rows.append(reshape(x, (x.shape[0], size * x.shape[2], x.shape[3])))
            else:
                rows.append(reshape(x, (size * x.shape[1], *x.shape[2:])))
        found = _OPS[name](*rows, blank)
        if found.ndim == 1:
            return reshape(found, (size, found.shape[0] // size))
        wide = reshape(found, (steps, size, found.shape[1] // size, found.shape[2]))
        return permute(wide, (1, 0, 2, 3))

    return rule


_OPS = {o.name: o for o in (ctc, ctc_counts, ctc_slopes)}
for _op in _OPS.values():
    _op.batching(_batch(_op.name))
