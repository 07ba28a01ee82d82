"""Handles: subclasses, weak references, liveness, cycles, and chains freed without recursion."""

import gc
import inspect
import math
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.recorder import Handle, Node, current, leaf_node, record


def test_outputs_are_of_the_configured_type_and_init_is_not_called(world: Any) -> None:
    assert type(world.emit(world.negate, world.leaf(2))) is world.Box
    first, second = world.emit(world.split, world.leaf(2))
    assert (first._index, second._index) == (0, 1)
    assert first._node is second._node and len(first._node.specs) == 3


def test_a_handle_counts_from_birth_to_death(world: Any) -> None:
    first, second = world.emit(world.split, world.leaf(2))
    node = first._node
    assert node.handles == (1, 1, 0)
    again = world.Box(node, 1)
    assert node.handles == (1, 2, 0)
    del second, first
    assert node.handles == (0, 1, 0)
    del again
    assert node.handles == (0, 0, 0)


def test_init_again_moves_the_count(world: Any) -> None:
    box, other = world.leaf(1), world.leaf(2)
    old = box._node
    box.__init__(other._node)
    assert (old.handles, other._node.handles) == ((0,), (2,))


def test_assign_and_settle_move_the_count(world: Any) -> None:
    a, b = world.leaf(2), world.emit(world.negate, world.leaf(2))
    old = a._node
    a.assign(b)
    assert a._node is b._node and old.handles == (0,) and b._node.handles == (2,)
    [(reference, node, index)] = current().assignments
    assert reference() is a and node is old and index == 0
    a.settle(old)
    assert a._node is old and b._node.handles == (1,)


def test_nothing_is_logged_before_the_first_node(world: Any) -> None:
    a = world.leaf(2)
    a.assign(world.leaf(2))
    assert current().assignments == []


def test_bad_handles_are_refused(world: Any) -> None:
    with pytest.raises(IndexError, match="no output 1; the node has 1"):
        world.Box(leaf_node(world.leaf(1)._node.specs[0], None), 1)
    with pytest.raises(TypeError):
        world.Box("node")
    empty = world.Box.__new__(world.Box)
    with pytest.raises(AttributeError, match="stands for nothing"):
        _ = empty._node
    with pytest.raises(TypeError, match="never initialised"):
        world.emit(world.negate, empty)
    with pytest.raises(TypeError, match="never initialised"):
        world.leaf(1).assign(empty)


def test_subclasses_with_and_without_a_dictionary(world: Any) -> None:
    class Named(world.Box):
        def __init__(self, node: Node, name: str) -> None:
            super().__init__(node)
            self.name = name

    named = Named(world.leaf(2)._node, "weight")
    assert named.name == "weight" and named._node.handles == (1,)
    assert not hasattr(world.leaf(2), "__dict__")
    assert type(world.emit(world.negate, named)) is world.Box
    assert issubclass(rb.Tensor, Handle) and rb.Tensor.__slots__ == ()


def test_weak_references_end_with_the_handle(world: Any) -> None:
    box = world.emit(world.negate, world.leaf(2))
    seen: list[str] = []
    reference = weakref.ref(box, lambda _: seen.append("gone"))
    node = weakref.ref(box._node)
    assert reference() is box and node() is box._node
    del box
    assert reference() is None and seen == ["gone"]
    current().take()
    assert node() is None


def test_a_cycle_through_the_gradient_is_collected(world: Any) -> None:
    a = world.leaf(2)
    a._grad, a._hooks = a, [a]
    node, reference = a._node, weakref.ref(a)
    del a
    assert reference() is not None and node.handles == (1,)
    gc.collect()
    assert reference() is None and node.handles == (0,)


def test_a_cycle_through_a_node_is_collected(world: Any) -> None:
    box = world.emit(world.negate, world.leaf(2))
    reference = weakref.ref(box)
    error = ValueError("kept alive by its own traceback")
    error.handle = box  # type: ignore[attr-defined]
    box._node.error = error
    current().take()
    del box, error
    gc.collect()
    assert reference() is None


def test_the_garbage_collector_knows_no_graph() -> None:
    before = sum(isinstance(o, Node) for o in gc.get_objects())
    x = rb.ones((3,), requires_grad=True)
    for _ in range(100):
        x = x * 2.0 + 1.0
    x.numpy()
    for _ in range(100):
        x = x * 2.0 + 1.0
    after = sum(isinstance(o, Node) for o in gc.get_objects())
    assert before == after


def test_calls_are_told_apart_by_what_they_are_given() -> None:
    x = rb.asarray([[1.0, 2.0], [3.0, 4.0]])
    for _ in range(2):  # bound by Python, then natively
        assert rb.sum(x, axis=True).tolist() == rb.sum(x, axis=1).tolist() == [3.0, 7.0]
        assert rb.sum(x, axis=(0,)).tolist() == rb.sum(x, dim=[0]).tolist() == [4.0, 6.0]
        assert rb.maximum(x, 2).dtype is rb.float32 and rb.maximum(2.5, x).max().item() == 4.0
        assert rb.concat([x, x]).shape == (4, 2) and rb.concat((x, x, x), axis=1).shape == (2, 6)
        assert x.astype(rb.int32).tolist() == [[1, 2], [3, 4]]
        assert rb.nn.functional.linear(x, x).tolist() == [[5.0, 11.0], [11.0, 25.0]]
        assert rb.nn.functional.linear(x, x, x[0]).tolist() == [[6.0, 13.0], [12.0, 27.0]]
        with pytest.raises(TypeError):
            rb.sum(x, axes=1)


def test_values_are_read_as_numpy_reads_them() -> None:
    for dtype in ("bool", "int32", "int64", "uint8", "float16", "float32", "float64", "complex64"):
        for shape in ((), (1,), (2, 3), (0, 2), (2, 0), (1, 1, 1)):
            a = (np.arange(math.prod(shape)).reshape(shape) - 1.5).astype(dtype)
            t = rb.asarray(a)
            assert t.tolist() == a.tolist() and repr(t.tolist()) == repr(a.tolist())
            if a.size == 1:
                assert type(t.item()) is type(a.item()) and t.item() == a.item()
                assert bool(t) == bool(a)
            else:
                with pytest.raises(rb.RabbetError):
                    t.item()


def test_what_a_thread_leaves_pending_is_collected() -> None:
    seen: list[Any] = []
    kept: list[Any] = []

    def work() -> None:
        x = rb.ones((2,)) + 1.0
        seen.extend([weakref.ref(x._node), weakref.ref(current())])
        kept.append(rb.ones((2,)) + 2.0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert kept[0].tolist() == [3.0, 3.0] and seen[1]() is None
    del kept[:], seen[:]

    def leave() -> None:
        seen.extend([weakref.ref((rb.ones((2,)) + 1.0)._node), weakref.ref(current())])

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    gc.collect()
    assert [reference() for reference in seen] == [None, None]


def test_a_chain_of_a_million_nodes_is_freed_without_recursion(world: Any) -> None:
    tape = current()
    tape.limit = 10**9
    box = world.leaf(1, grad=True)
    first = weakref.ref(box._node)
    for _ in range(1_000_000):
        box = world.emit(world.negate, box)
    segment = tape.take()
    segment.settle()
    del segment
    assert first() is not None, "a differentiable chain keeps what it came from"
    del box
    assert first() is None


def test_a_settled_node_without_gradients_lets_go(world: Any) -> None:
    box = world.leaf(1)
    source = weakref.ref(box._node)
    result = world.emit(world.negate, box)
    del box
    assert source() is not None
    world.flush(current())
    world.flushed.clear()
    assert source() is None and result._node.inputs == ()


def test_the_site_is_the_line_that_recorded(world: Any) -> None:
    frame = inspect.currentframe()
    box = record(world.negate, (world.leaf(1),), {}, ())
    code, offset = box._node.site
    assert frame is not None and code is frame.f_code
    lines = {line for start, end, line in code.co_lines() if start <= offset < end}
    assert lines == {code.co_firstlineno + 2}


def test_sites_skip_the_package(world: Any) -> None:
    names = {"__name__": "rabbet.somewhere", "record": record}
    exec("def deep(*args):\n    return record(*args)", names)
    box = names["deep"](world.negate, (world.leaf(1),), {}, ())
    assert box._node.site[0] is test_sites_skip_the_package.__code__
    other = {"__name__": "rabbetry", "record": record}
    exec("def deep(*args):\n    return record(*args)", other)
    box = other["deep"](world.negate, (world.leaf(1),), {}, ())
    assert box._node.site[0] is other["deep"].__code__
