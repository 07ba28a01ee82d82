"""One tape per thread; what waits on another thread's tape is computed there first."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import rabbet as rb
from rabbet.recorder import current


def in_thread(function: Callable[[], Any]) -> Any:
    """What `function` returns, run in a thread of its own."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join(60)
    assert results, "the thread raised"
    return results[0]


def test_each_thread_has_a_tape(world: Any) -> None:
    mine = current()
    assert current() is mine
    other = in_thread(lambda: (current(), current()))
    assert other[0] is other[1] and other[0] is not mine
    assert current() is mine


def test_a_tape_dies_with_its_thread(world: Any) -> None:
    assert in_thread(lambda: weakref.ref(current()))() is None


def test_what_waits_elsewhere_is_computed_there(world: Any) -> None:
    box = in_thread(lambda: world.emit(world.negate, world.leaf(2)))
    tape = box._node.tape
    assert tape is not None and tape is not current()
    result = world.emit(world.negate, box)
    assert [s.nodes[0] for s in world.flushed] == [box._node] and tape.count == 0
    assert box._node.buffers == ["0.0"] and result._node.tape is current()


def test_one_operand_of_two_tapes_is_numbered_on_both(world: Any) -> None:
    shared, stop = world.leaf(2), threading.Barrier(2)

    def work() -> tuple[bytes, int]:
        for _ in range(50):
            world.emit(world.add, shared, shared)
            stop.wait(10)
        segment = current().take()
        return segment.key, len(segment.leaves)

    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2 and results[0] == results[1] and results[0][1] == 1


def test_operands_in_flight_are_waited_for() -> None:
    x = rb.ones((300, 300))

    def total(y: Any, sums: list[float]) -> None:
        sums.append((y + 1.0).sum().item())

    for _ in range(5):
        y = x
        for _ in range(20):
            y = y @ x / 300.0
        sums: list[float] = []
        threads = [threading.Thread(target=total, args=(y, sums)) for _ in range(2)]
        for thread in threads:
            thread.start()
        z = y * 2.0  # while they compute this thread's tape
        for thread in threads:
            thread.join(60)
        assert sums == [180000.0, 180000.0] and z.sum().item() == 180000.0


def test_threads_record_at_the_same_time() -> None:
    def work(seed: int) -> float:
        total = rb.zeros((3,))
        for i in range(300):
            total = total + rb.ones((3,)) * float(seed) - i * 0.0
        return total.sum().item()

    results: dict[int, float] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.__setitem__(n, work(n))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {n: 900.0 * n for n in range(4)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_with_its_copy(world: Any) -> None:
    box = world.emit(world.negate, world.leaf(2))
    before = current().count
    child = os.fork()
    if child == 0:
        code = 1
        try:
            more = world.emit(world.add, box, 1.0)
            world.flush(current())
            code = 0 if more._node.buffers == ["1.0"] and before == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert current().count == 1 and box._node.pending
