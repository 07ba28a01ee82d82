"""Segments: where they end, what they leave, what is recorded again, who may overwrite a buffer."""

import weakref
from typing import Any

import pytest

import rabbet as rb
from rabbet import recorder
from rabbet.base.errors import GradientError
from rabbet.recorder import current, nodes_alive, record


def repeat(world: Any, start: Any, times: int) -> tuple[Any, list[int]]:
    """A loop with two ops, and how long each segment was."""
    box = start
    for _ in range(times):
        box = record(world.add, (box, start), {}, ())
        box = record(world.negate, (box,), {}, ())
    return box, [len(s.nodes) for s in world.flushed]


def test_a_long_segment_ends_where_it_began(world: Any) -> None:
    current().limit = 7
    _, lengths = repeat(world, world.leaf(2), 30)
    assert lengths and set(lengths) == {8}, "a loop of two ops is cut at the same op each time"
    keys = {s.key for s in world.flushed[1:]}
    assert len(keys) == 1


def test_where_it_never_comes_back_it_ends_at_four_times_the_limit(world: Any) -> None:
    current().limit = 5
    box = record(world.negate, (world.leaf(2),), {}, ())
    for _ in range(50):
        box = record(world.negate, (box,), {}, ())
    assert [len(s.nodes) for s in world.flushed] == [20, 5, 5, 5, 5, 5, 5]


def test_a_heavy_segment_ends_by_the_same_rule(world: Any) -> None:
    tape = current()
    tape.byte_limit = 6 * 400
    _, lengths = repeat(world, world.leaf(100), 20)
    assert set(lengths) == {6} and tape.pending_bytes < 6 * 400
    tape.take()
    assert tape.pending_bytes == 0


def test_nothing_ends_while_a_segment_is_computed(world: Any) -> None:
    tape = current()
    tape.limit, tape.flushing = 2, True
    repeat(world, world.leaf(2), 20)
    tape.flushing = False
    assert world.flushed == [] and tape.count == 40


def test_live_outputs(world: Any) -> None:
    a = world.emit(world.negate, world.leaf(2))
    b, c = world.emit(world.split, world.emit(world.negate, a))
    del b
    segment = current().take()
    assert segment.live() == ((0, 0), (2, 1))
    del a, c
    assert segment.live() == ()
    assert [n.position for n in segment.nodes] == [0, 1, 2]
    assert segment.nodes is segment.nodes and segment.key is segment.key


def test_settling(world: Any) -> None:
    plain = world.emit(world.negate, world.leaf(2))
    through = world.emit(world.negate, world.leaf(2, grad=True))
    cut = world.emit(world.negate, world.leaf(2, grad=True))
    cut._node.cut = True
    segment = current().take()
    assert all(n.pending and n.tape is current() for n in segment.nodes)
    segment.settle()
    assert not any(n.pending for n in segment.nodes)
    assert [len(b._node.inputs) for b in (plain, through, cut)] == [0, 1, 0]


def test_after_a_failure_handles_have_what_they_had(world: Any) -> None:
    a = world.leaf(2)
    old = a._node
    b = world.emit(world.negate, a)
    a.assign(b)
    a.assign(world.emit(world.negate, a))
    segment = current().take()
    error = ValueError("an index out of range")
    segment.fail(error)
    assert a._node is old and old.handles == (1,) and b._node.handles == (1,)
    assert b._node.error is error and not b._node.pending and b._node.inputs == ()
    assert world.emit(world.negate, a)._node.inputs == ((old, 0),)
    with pytest.raises(ValueError, match="out of range") as caught:
        world.emit(world.negate, b)
    assert caught.value is error and current().count == 1


def test_what_was_dropped_is_recorded_again_from_what_is_left(world: Any) -> None:
    x = world.leaf(2, grad=True)
    a = world.emit(world.negate, x)
    b = world.emit(world.add, a, 3.0)
    c = world.emit(world.add, b, a)
    nodes = [h._node for h in (a, b)]
    del a, b
    world.flush(current())
    again = world.Box(nodes[1])  # as gradient rules do
    d = world.emit(world.add, again, c)
    ops = [n.op for n in current().nodes]
    assert ops == [world.negate, world.add, world.add]
    first, second, third = current().nodes
    assert first.inputs == ((x._node, 0),) and second.inputs[0] == (first, 0)
    assert second.inputs[1][0].number == 3.0
    assert third.inputs == ((second, 0), (c._node, 0)) and third is d._node


def test_a_long_dropped_chain_is_recorded_again_without_recursion(world: Any) -> None:
    current().limit = 10**6
    box = world.leaf(2, grad=True)
    for _ in range(50_000):
        box = world.emit(world.negate, box)
    node = box._node
    del box
    world.flush(current())
    world.emit(world.negate, world.Box(node))
    assert current().count == 50_001


def test_what_backward_freed_cannot_be_recorded_again(world: Any) -> None:
    a = world.emit(world.negate, world.leaf(2, grad=True))
    node = a._node
    node.cut = True
    a = world.emit(world.negate, a)
    world.flush(current())
    op = node.op
    assert op is world.negate
    with pytest.raises(GradientError, match="freed by backward"):
        world.emit(world.add, world.Box(node), 1.0)
    assert current().count == 0


def test_a_segment_that_was_never_computed_is_an_error(world: Any) -> None:
    a = world.emit(world.negate, world.leaf(2))
    current().take()
    with pytest.raises(RuntimeError, match="never computed"):
        world.emit(world.negate, a)


class Notes:
    """A jit capture that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def touched(self, handle: Any) -> None:
        self.told.append(("touched", handle))

    def assigned(self, handle: Any) -> None:
        self.told.append(("assigned", handle))


def test_a_capture_is_told(world: Any) -> None:
    notes = current().capture = Notes()
    a, b = world.leaf(2), world.leaf(2)
    world.emit(world.add, a, b)
    a.assign(b)
    assert [(what, handle is a) for what, handle in notes.told] == [
        *(("touched", True), ("touched", False), ("assigned", True)),
    ]


def test_exclusive_buffers(world: Any) -> None:
    x = world.leaf(2)
    node = x._node
    assert not node.exclusive(0), "a handle stands for it"
    y = world.emit(world.negate, x)
    del x
    assert node.exclusive(0), "only the segment itself reads it"
    other = world.Box(node)
    world.flush(current())
    assert y._node.inputs == () and not node.exclusive(0)
    del other
    assert node.exclusive(0)
    with pytest.raises(IndexError):
        node.exclusive(1)


def test_a_gradient_to_come_keeps_a_buffer(world: Any) -> None:
    x = world.leaf(2)
    node = x._node
    y = world.emit(world.add, x, world.leaf(2, grad=True))
    del x
    assert not node.exclusive(0)
    world.flush(current())
    assert not node.exclusive(0)
    y._node.cut = True
    assert node.exclusive(0)
    y._node.cut = False
    assert not node.exclusive(0)
    y._node.inputs = ()
    assert node.exclusive(0)


def test_two_segments_that_read_a_buffer(world: Any) -> None:
    x = world.leaf(2)
    node = x._node
    first = world.emit(world.negate, x)
    segment = current().take()
    second = world.emit(world.negate, x)
    del x
    assert not node.exclusive(0), "both segments may still read it"
    segment.settle()
    assert node.exclusive(0)
    assert first._node.inputs == () and second._node.inputs == ((node, 0),)
    current().take()
    assert second._node.tape is None and isinstance(second._node.error, RuntimeError)


def test_eager_mode_computes_every_op(world: Any) -> None:
    recorder.configure(
        prepare=world.prepare, handle=world.Box, flush=world.flush, cast=world.cast, eager=True
    )
    a = world.emit(world.negate, world.leaf(2))
    b = world.emit(world.negate, a)
    assert [len(s.nodes) for s in world.flushed] == [1, 1] and current().count == 0
    assert (a._node.buffers, b._node.buffers) == (["0.0"], ["0.0"])


def test_a_running_total_stays_small() -> None:
    tape = current()
    tape.limit, before = 100, tape.limit
    x = rb.ones((1,))
    total = rb.zeros((1,))
    longest = 0
    for _ in range(3000):
        total = total + x.detach()
        longest = max(longest, tape.count)
    tape.limit = before
    assert longest <= 400 and total.item() == 3000


def test_a_million_steps_stay_small(world: Any) -> None:
    x, total = world.leaf(2), world.leaf(2)
    first = weakref.ref(total._node)
    peak = 0
    for step in range(1_000_000):
        total = record(world.add, (total, record(world.negate, (x,), {}, ())), {}, ())
        if step % 100_003 == 500:
            world.flushed.clear()
            peak = max(peak, nodes_alive())
    assert first() is None and 100 < peak < 3 * current().limit
