"""rb.detect_anomaly(): which op, on which line, first made a NaN or an infinity.

Inside it segments run op by op (the bits are those of the fused programs), and the results of each
op are looked at. Ops that backward records are known by the forward op whose gradient they are.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np

from rabbet.base import lines
from rabbet.base.errors import AnomalyError
from rabbet.engine import programs, site
from rabbet.engine.observer import Observer
from rabbet.engine.residuals import residuals_of
from rabbet.engine.singly import OneByOne, Step
from rabbet.graph.op import Op
from rabbet.recorder import Node, Segment
from rabbet.runtime import buffers

Output = tuple[int, int]
OPERANDS_SHOWN = 3


class detect_anomaly(Observer):
    """Within it the first NaN or infinity, forward or backward, is an AnomalyError with its line.

    An op is to blame if it makes a NaN of operands without NaN, or an infinity of finite operands;
    what an operand or an argument brought in (`rb.full(3, rb.inf)`, a mask of -inf) is nobody's
    fault. `check_nan` and `check_inf` choose what is looked for. Everything runs op by op, and
    functions under `rb.jit` run their Python, so it is slow: for debugging only.

    >>> with rb.detect_anomaly():
    ...     rb.log(rb.zeros(2)).tolist()
    Traceback (most recent call last):
    rabbet.AnomalyError: first non-finite value: -inf, log of 0.0, at index (0,)
      at ...
    """

    def __init__(self, check_nan: bool = True, check_inf: bool = True) -> None:
        super().__init__()
        self.check_nan, self.check_inf = check_nan, check_inf

    def __enter__(self) -> Self:
        self.observe(_Watch(self.check_nan, self.check_inf))
        return self


class set_detect_anomaly(detect_anomaly):
    """Switch anomaly mode of this thread on or off from now on, or within a `with` (PyTorch's).

    >>> _ = rb.autograd.set_detect_anomaly(False)
    """

    def __init__(self, mode: bool, check_nan: bool = True, check_inf: bool = True) -> None:
        super().__init__(check_nan, check_inf)
        self.observe(_Watch(check_nan, check_inf) if mode else None)

    def __enter__(self) -> Self:
        return self


class _Blamed(NamedTuple):
    """An op as errors name it; its operands are kept until what waits is computed."""

    op: Op
    site: Any
    inputs: tuple[tuple[Node, int], ...]


class _Span(NamedTuple):
    """Between these sequence numbers the gradient of an op was recorded."""

    start: int
    end: int
    blamed: _Blamed


@dataclass(eq=False)
class _Watch:
    """The runner of a tape in anomaly mode; backward tells it whose gradients it records."""

    check_nan: bool
    check_inf: bool
    last: int = 0  # sequence number up to which `spans` tells
    spans: list[_Span] = field(default_factory=list)  # of the ops that wait, in order

    def __call__(self, segment: Segment, live: tuple[Output, ...]) -> None:
        keep = tuple(sorted({*live, *residuals_of(segment, live)}))
        places: dict[tuple[int, int], int] = {}
        program = OneByOne(segment, keep, programs.find_single, places)
        inputs = [programs.leaf_buffer(leaf.node, leaf.index) for leaf in segment.leaves]

        def look(step: Step, memory: list[Any]) -> None:
            _Look(self, segment, places, memory).at(step)
            node = segment.nodes[step.position]
            for index in range(len(node.specs)):  # all is kept: what backward blames has operands
                place = places.get((id(node), index))
                if place is not None:
                    node.buffers[index] = memory[place]

        program.run_watched(inputs, look)
        segment.computed()
        self.spans.clear()

    def ruled(self, node: Node | None) -> None:
        """Backward has recorded the gradient ops of `node` since the last call (None: begins)."""
        now = Node().sequence
        if node is not None:
            blamed = _Blamed(node.op, node.site, tuple(node.inputs))
            self.spans.append(_Span(self.last, now, blamed))
        self.last = now

    def blamed(self, node: Node) -> tuple[_Blamed, bool]:
        """What is named for an op of a segment; True where it belongs to the gradient of that."""
        i = bisect.bisect_right(self.spans, node.sequence, key=lambda span: span.start) - 1
        if i >= 0 and node.sequence < self.spans[i].end:
            return self.spans[i].blamed, True
        return _Blamed(node.op, node.site, tuple(node.inputs)), False


@dataclass(eq=False)
class _Look:
    """What can be seen right after one op."""

    watch: _Watch
    segment: Segment
    places: dict[tuple[int, int], int]
    memory: list[Any]

    def at(self, step: Step) -> None:
        """AnomalyError if this op is to blame."""
        node = self.segment.nodes[step.position]
        operands = [self._value(n, i) for n, i in node.inputs]
        if not operands or any(_is_wild(v) for v in node.attrs.values()):
            return
        for index in range(len(node.specs)):
            made = self._value(node, index)
            if made is None or made.dtype.kind in "biu":
                continue
            bad = self._bad(made, operands)
            if bad is not None:
                raise self._error(node, step.position, made, bad)

    def _bad(self, made: np.ndarray, operands: list[np.ndarray | None]) -> np.ndarray | None:
        """Where the op is to blame, or None."""
        if np.isfinite(made).all():
            return None
        given = [x for x in operands if x is not None and x.dtype.kind not in "biu"]
        nan, had_nan = np.isnan(made), any(np.isnan(x).any() for x in given)
        if self.watch.check_nan and nan.any() and not had_nan:
            return nan
        if self.watch.check_inf and all(np.isfinite(x).all() for x in given):
            return np.isinf(made) if np.isinf(made).any() else None
        return None

    def _value(self, node: Node, index: int) -> np.ndarray | None:
        place = self.places.get((id(node), index))
        buffer = self.memory[place] if place is not None else None
        if buffer is None and place is None and node.buffers is not None:
            buffer = node.buffers[index]
        return None if buffer is None else _array(buffer, node.specs[index])

    def _error(self, node: Node, position: int, made: np.ndarray, bad: np.ndarray) -> AnomalyError:
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), made.shape))
        blamed, is_backward = self.watch.blamed(node)
        name = f"gradient of {blamed.op.name}" if is_backward else blamed.op.name
        message = f"first non-finite value: {made[at]}, {name}{self._operands(blamed, at)}"
        message += f", at index {at}" if at else ""
        message = lines.with_line(message, site.describe(blamed.site))
        if is_backward:
            message += f"\n  in backward at {site.describe(node.site)}"
        error = AnomalyError(message)
        error.position = position
        return error

    def _operands(self, node: _Blamed, at: tuple[int, ...]) -> str:
        """` of 0.0` where the elements of an elementwise op's operands can be named."""
        if node.op.kind != "elementwise" or not 0 < len(node.inputs) <= OPERANDS_SHOWN:
            return ""
        shown = []
        for source, index in node.inputs:
            value = self._value(source, index)
            if value is None or value.ndim > len(at):
                return ""
            own = at[len(at) - value.ndim :]
            if any(i >= n and n != 1 for i, n in zip(own, value.shape, strict=True)):
                return ""
            place = tuple(0 if n == 1 else i for i, n in zip(own, value.shape, strict=True))
            shown.append(str(value[place]))
        return " of " + " and ".join(shown)


def _array(buffer: Any, spec: Any) -> np.ndarray:
    array = buffers.to_numpy(buffer, spec.shape, spec.dtype)
    return array.astype(np.float32) if spec.dtype.is_half else array


def _is_wild(value: object) -> bool:
    return isinstance(value, float) and not np.isfinite(value)
