"""Running a segment: which outputs must be kept, which program computes them, what happens on
failure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rabbet.base import lines
from rabbet.base.errors import IndexRangeError, RabbetError
from rabbet.engine import programs, site
from rabbet.recorder import Node, Segment, Tape, current, flush_known, value
from rabbet.runtime.errors import IndexFailure

_running = threading.RLock()


def flush(tape: Tape | None = None) -> None:
    """Compute everything recorded so far on this thread's tape (or on `tape`).

    >>> x = rb.ones(2) + 1; rb.flush()  # computed now
    """
    tape = tape or current()
    if flush_known(tape):
        return
    with tape.lock:  # whoever comes while another thread computes this tape wants the result
        if not tape.count or tape.flushing:
            return
        tape.flushing = True
        try:
            _run(tape.take(), tape.runner or programs.run)
        finally:
            tape.flushing = False


def value_of(handle: Any) -> Any:
    """The Buffer of a handle's value, computed now if need be."""
    known = value(handle)
    if known is not None:
        return known
    node, index = handle._node, handle._index
    if node.tape is not None:
        flush(node.tape)
    if node.error is not None:
        raise node.error
    while node.op is None and node.buffers[index] is None and _is_given(node):
        time.sleep(
            0.0002
        )  # another thread's replay writes it over, and will give the handle a value
        node, index = handle._node, handle._index
    if node.buffers[index] is None:
        if node.op is None:
            node.buffers[index] = programs.leaf_buffer(node, index)
        else:  # dropped after an earlier segment: compute it again
            copy = handle.emit(detach_op(), (handle,), {}, ())
            node.buffers[index] = value_of(copy)
    return node.buffers[index]


def _is_given(node: Node) -> bool:
    return node.number is None and node.offset is None


def detach_op() -> Any:
    """The identity op that gradients do not pass."""
    return programs.lookup("detach")


def _run(segment: Segment, compute: Callable[[Segment, tuple[Any, ...]], None]) -> None:
    live = segment.live()
    if not live:
        segment.settle()
        return
    with _running:
        try:
            compute(segment, live)
        except BaseException as failure:
            _fail(segment, failure)
    segment.settle()


def failed(segment: Segment, found: programs.Found, failure: BaseException) -> NoReturn:
    """A segment that ran without our help has failed: raise what the user is to see."""
    _fail(segment, programs.failure_of(found, failure))


def _fail(segment: Segment, failure: BaseException) -> NoReturn:
    error = explained(failure, [(n.op.name, n.site) for n in segment.nodes])
    culprit = failure.position if isinstance(failure, RabbetError) else None
    saved: tuple[Any, ...] = ()
    if culprit is not None and culprit >= 0 and not getattr(failure, "committed", False):
        saved = programs.rescue(segment, culprit)
    segment.fail(error, saved)
    if error is failure:
        raise error
    raise error from None


def explained(failure: BaseException, ops: Sequence[tuple[str, Any]]) -> BaseException:
    """The error as the user should see it: with the line that recorded the op. `ops` are name and
    site of the segment's ops.
    """
    if isinstance(failure, IndexFailure):
        return index_error(failure, ops)
    if isinstance(failure, RabbetError) and failure.position is not None:
        described = site.describe(ops[failure.position][1])
        return type(failure)(lines.with_line(str(failure), described))
    return failure


def index_error(failure: IndexFailure, ops: Sequence[tuple[str, Any]]) -> IndexRangeError:
    """The error of an index out of range; `ops` as for `explained`."""
    name, where = "index", ""
    if 0 <= failure.position < len(ops):
        name, where = ops[failure.position][0], site.describe(ops[failure.position][1])
    return IndexRangeError(lines.with_line(f"{name}: {failure.said}", where))
