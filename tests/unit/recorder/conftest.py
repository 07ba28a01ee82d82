"""A small world for the recorder: ops without meaning, and a flush that notes what it is given."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import rabbet.tensor  # noqa: F401  (configures the recorder; `world` puts that back)
from rabbet import recorder
from rabbet.base import dtypes
from rabbet.base.config import config
from rabbet.base.spec import intern
from rabbet.engine.flush import flush
from rabbet.engine.prepare import prepare
from rabbet.graph.value import lookup
from rabbet.recorder import Handle, Prepared, Segment, Tape
from rabbet.tensor.tensor import Tensor


@dataclass(eq=False)
class Name:
    """An op that is only a name; outputs beyond `visible` are residuals."""

    name: str
    outputs: int = 1
    visible: int = 1
    wanted: Any = None  # the dtype that operands are converted to
    model: Any = None


class Box(Handle):
    """The handle type of these tests."""

    __slots__ = ()


@dataclass
class World:
    """What the recorder asked of the layers above, and short ways to record."""

    Box = Box
    add, negate = Name("add"), Name("negate")
    split = Name("split", outputs=3, visible=2)
    double = Name("double", wanted=dtypes.float64)

    prepared: list[tuple[Any, ...]] = field(default_factory=list)
    flushed: list[Segment] = field(default_factory=list)
    cast: Name = field(default_factory=lambda: Name("cast"))
    error: Exception | None = None

    @staticmethod
    def leaf(*shape: int, dtype: Any = dtypes.float32, grad: bool = False) -> Box:
        """A handle with data from outside."""
        box = Box(recorder.leaf_node(intern(shape, dtype), "data"))
        if grad:
            box._node.is_leaf = box._node.requires_grad = True
        return box

    @staticmethod
    def emit(op: Name, *operands: Any, **attrs: Any) -> Any:
        """Record one op."""
        return recorder.record(op, operands, attrs, ())

    def prepare(self, op: Name, operands: Any, attrs: dict, form: tuple) -> Prepared:
        self.prepared.append((op, len(operands), dict(attrs), form))
        if self.error is not None:
            raise self.error
        specs = [o._node.specs[o._index] if isinstance(o, Handle) else None for o in operands]
        first = next((s for s in specs if s is not None), intern((), dtypes.float32))
        wanted = attrs.get("dtype", op.wanted or first.dtype)
        own = op is self.cast
        text = repr((op.name, form, [(k, v) for k, v in attrs.items() if k != "count"]))
        return Prepared(
            dtypes=tuple(wanted if s is not None else intern((), wanted) for s in specs),
            specs=(intern(first.shape, wanted),) * op.outputs,
            code=hashlib.sha256(text.encode()).digest()[:16],
            sizes=(attrs["count"],) if "count" in attrs else (),
            visible=op.visible,
            differentiable=(True,) * op.outputs,
            casts=tuple(s is not None and s.dtype is not wanted and not own for s in specs),
        )

    def flush(self, tape: Tape) -> None:
        """Compute like rabbet.engine.flush: what is alive gets a buffer."""
        with tape.lock:
            if not tape.count:
                return
            segment = tape.take()
            self.flushed.append(segment)
            for position, index in segment.live():
                segment.nodes[position].buffers[index] = f"{position}.{index}"
            segment.settle()


@pytest.fixture
def world() -> Iterator[World]:
    """The recorder with the ops of these tests, and an empty tape."""
    made = World()
    tape = recorder.current()
    tape.take()
    limits = tape.limit, tape.byte_limit
    recorder.configure(
        prepare=made.prepare, handle=Box, flush=made.flush, cast=made.cast, eager=False
    )
    yield made
    tape.take()
    tape.limit, tape.byte_limit = limits
    tape.grad_enabled, tape.capture = True, None
    recorder.configure(
        prepare=prepare,
        handle=Tensor,
        flush=flush,
        cast=lookup("cast"),
        eager=config.debug == "eager",
    )
