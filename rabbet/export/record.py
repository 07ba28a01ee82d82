"""Recording one call of a model without running it.

The call's ops are taken from the tape as a Segment; what the model did to Python and to its own
state (buffers, random streams) is undone, for a recording is not a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from rabbet.base import tree
from rabbet.base.errors import ExportError
from rabbet.base.tree import Structure
from rabbet.engine import site
from rabbet.export.regions import Recorded, Regions, Split
from rabbet.export.rewrite import reason, rewriting, rewritten
from rabbet.nn.module import Module
from rabbet.recorder import Handle, Segment, Tape, current
from rabbet.tensor import Tensor, flush, no_grad

NEVER = 1 << 60  # nodes or bytes: a recording is one segment, however long
VALUES = (
    "the values of a tensor were needed (numpy(), tolist(), a mask as an index, ...) and would be "
    "frozen; use ops on tensors, for instance rb.where"
)
INSTEAD = {
    "bool": "a branch on a tensor's value would be frozen as it came out here; write it as "
    "rb.cond(condition, a, b) or rb.while_loop(condition, body, start), or decide before export",
    "item": "a number taken out of a tensor would be frozen; keep it a tensor",
    "numpy": VALUES,
    "print": "there is no value to print while exporting; print outside forward",
    "value": VALUES,
}


@dataclass(eq=False)
class Recording:
    """One recorded call; `results` are (Recorded or Node from outside, output), or plain values."""

    ops: list[Recorded]
    results: list[Any]
    structure: Structure
    assigned: list[str]  # where tensors from outside were updated in place


@dataclass(eq=False)
class Notes:
    """What the recorder and Tensor report to during a recording (see higher/jit.py for the other
    one).
    """

    regions: Regions = field(default_factory=Regions)
    draws: dict[int, tuple[Any, int]] = field(default_factory=dict)
    grads: dict[int, tuple[Handle, Any]] = field(default_factory=dict)

    def touched(self, handle: Handle) -> None:
        """An op uses a handle: nothing to note, the segment's leaves tell."""

    def assigned(self, handle: Handle) -> None:
        """A handle is to stand for another value: the segment's assignments tell."""
        self.regions.assigned(handle)

    def grad_read(self, handle: Handle) -> None:
        """A gradient slot is read."""

    def grad_assigned(self, handle: Handle) -> None:
        """A gradient slot changes: remember what it held."""
        self.grads.setdefault(id(handle), (handle, handle._grad))

    def drawn(self, generator: Any, offset: int) -> None:
        """A random range was reserved."""
        self.draws.setdefault(id(generator), (generator, offset))

    def guard(self, owner: Any, name: str, value: Any) -> None:
        """A flag was looked at: an exported program has the value it had."""

    def opaque_read(self, what: str, handle: Handle) -> NoReturn:
        """A value leaves for Python."""
        _refuse(what)

    def decide(self, handle: Handle) -> NoReturn:
        """A branch on a tensor."""
        _refuse("bool")

    def stage(self, segment: Segment, entry: Any, symbols: tuple[int, ...]) -> NoReturn:
        """The segment was run: somebody needed a value."""
        _refuse("value")


class Unvalued:
    """Stands where the buffer of an input would be: whoever looks at the value is refused."""

    @property
    def nbytes(self) -> NoReturn:
        """Asked by whoever wants to read."""
        _refuse("value")


def _refuse(what: str, where: Any = None) -> NoReturn:
    at = where or site.user_site()
    line = site.describe(at)
    why = reason(at[0]) if at is not None and what == "bool" else ""
    raise ExportError(
        f"export: {what} of a tensor while recording: {INSTEAD[what]}"
        + (f" (the function was not rewritten: {why})" if why else "")
        + (f"\n  at {line}" if line else "")
    )


def _site_of(error: BaseException) -> Any:
    """The innermost frame outside the package that an error came through."""
    found, trace = None, error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if not name.startswith("rabbet."):
            found = (trace.tb_frame.f_code, trace.tb_lasti)
        trace = trace.tb_next
    return found


def record_call(
    function: Callable[..., Any], module: Module | None, args: Sequence[Any], kwargs: dict[str, Any]
) -> Recording:
    """Record function(*args, **kwargs).

    Raises ExportError where the call needs a tensor's value, and whatever the call raises.
    """
    flush()
    tape, notes = current(), Notes()
    if tape.capture is not None:
        raise ExportError("export: not possible inside a function that rb.jit or rb.export records")
    limits = tape.limit, tape.byte_limit
    marks: list[tuple[int, str]] = [(0, "")]
    tape.capture, tape.limit, tape.byte_limit = notes, NEVER, NEVER
    epoch = tape.epoch
    try:
        with no_grad(), rewriting(module), _marked(module, tape, marks):
            result = rewritten(function)(*args, **kwargs)
    except BaseException as error:
        flushed = tape.epoch != epoch
        tape.take().fail(error)
        if flushed and not isinstance(error, ExportError):  # inputs have no values to run with
            _refuse("value", _site_of(error))
        raise
    finally:
        tape.capture = None
        tape.limit, tape.byte_limit = limits
        for handle, grad in notes.grads.values():
            handle._grad = grad
        for generator, offset in notes.draws.values():
            generator.offset = offset
    leaves, structure = tree.flatten(result, registered=False)
    segment = tape.take()
    split = Split(segment.nodes, notes.regions, _layers(marks, len(segment.nodes)))
    ops = split.gather(0, len(segment.nodes))
    results = [split.key(t._node, t._index) if isinstance(t, Tensor) else t for t in leaves]
    assigned = _assigned(segment, {id(h) for h in notes.regions.private})
    # Handles get back what they stood for; whoever kept a recorded tensor gets an error.
    segment.fail(ExportError("this tensor was only recorded for export; it has no value"))
    return Recording(ops, results, structure, assigned)


@contextmanager
def _marked(module: Module | None, tape: Tape, marks: list[tuple[int, str]]) -> Iterator[None]:
    """Note in `marks` from which node on which part of the module computes."""
    stack: list[str] = [""]
    handles = []

    def enter(path: str) -> Callable[..., None]:
        def before(part: Module, args: Any) -> None:
            stack.append(path)
            marks.append((tape.count, path))

        return before

    def leave(part: Module, args: Any, result: Any) -> None:
        stack.pop()
        marks.append((tape.count, stack[-1]))

    for path, part in module.named_modules() if module is not None else ():
        handles.append(part.register_forward_pre_hook(enter(path), prepend=True))
        handles.append(part.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(marks: list[tuple[int, str]], count: int) -> list[str]:
    layers, mark = [], 0
    for position in range(count):
        while mark + 1 < len(marks) and marks[mark + 1][0] <= position:
            mark += 1
        layers.append(marks[mark][1])
    return layers


def _assigned(segment: Segment, private: set[int]) -> list[str]:
    """Where tensors from outside were updated in place."""
    own = {id(n) for n in segment.nodes}
    outside = [r() for r, node, _ in segment.assignments if id(node) not in own]
    return [site.describe(h._node.site) for h in outside if h is not None and id(h) not in private]
