"""Laziness must never be observable: one test for each line of the design's list."""

from __future__ import annotations

import os
import threading
import tracemalloc
import warnings
from collections.abc import Callable

import numpy as np
import pytest

import rabbet as rb
from rabbet.engine import programs
from rabbet.tensor import flush


def test_reused_batch_buffer_does_not_change_a_recorded_op() -> None:
    """Memory that others can write is copied when it enters."""
    batch = np.ones((3, 4), np.float32)
    doubled = rb.asarray(batch) * 2
    batch[:] = 7
    assert (doubled.numpy() == 2).all()


def test_read_only_memory_may_be_shared() -> None:
    """A read-only array of its own enters without a copy."""
    array = np.arange(1000.0)
    array.flags.writeable = False
    t = rb.asarray(array)
    assert np.shares_memory(t.numpy(), array)


def test_read_only_view_of_writable_memory_is_copied() -> None:
    """A read-only view does not mean that nobody can write."""
    array = np.ones(4)
    view = array[:]
    view.flags.writeable = False
    t = rb.asarray(view) * 2
    array[:] = 5
    assert t.tolist() == [2, 2, 2, 2]


def test_copy_false_shares_memory() -> None:
    """The caller may say so."""
    array = np.ones(4)
    assert np.shares_memory(rb.asarray(array, copy=False).numpy(), array)


def test_numpy_views_are_read_only() -> None:
    """Memory handed out cannot be written on the other side."""
    for t in (rb.tensor([1.0, 2.0]), rb.tensor([1.0, 2.0]) + 1):
        view = t.numpy()
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 5
        with pytest.raises(ValueError):
            view.flags.writeable = True


def test_dlpack_consumers_cannot_change_a_tensor() -> None:
    """What goes out by DLPack is a copy or read-only."""
    t = rb.tensor([1.0, 2.0])
    other = np.from_dlpack(t)
    if other.flags.writeable:
        other[0] = 9
    assert t.tolist() == [1, 2]


def test_foreign_dlpack_memory_is_copied() -> None:
    """A foreign tensor that is written later changes nothing."""
    array = np.ones(3, np.float32)
    t = rb.from_dlpack(array) + 1
    array[:] = 9
    assert t.tolist() == [2, 2, 2]


def test_numpy_view_survives_an_update_of_its_tensor() -> None:
    """An update in place does not show in a view handed out before."""
    t = rb.zeros(4) + 1
    view = t.numpy()
    t += 1
    flush()
    assert view.tolist() == [1, 1, 1, 1] and t.tolist() == [2, 2, 2, 2]


def test_random_draws_happen_in_recording_order() -> None:
    """Reading the second draw first changes neither."""
    rb.manual_seed(3)
    a, b = rb.rand(5), rb.rand(5)
    first, second = a.tolist(), b.tolist()
    rb.manual_seed(3)
    a, b = rb.rand(5), rb.rand(5)
    assert b.tolist() == second and a.tolist() == first
    assert first != second


def test_dropped_draws_advance() -> None:
    """A draw that nobody looks at still moves the stream."""
    rb.manual_seed(3)
    rb.rand(5)
    wanted = rb.rand(5).tolist()
    rb.manual_seed(3)
    rb.rand(5).tolist()
    assert rb.rand(5).tolist() == wanted


def step(x: rb.Tensor, w: rb.Tensor, look: bool) -> list[np.ndarray]:
    """A little training step; values are read in its middle if `look`."""
    h = rb.softmax(rb.matmul(x, w) * 1.7 + 0.3, axis=-1)
    if look:
        h.numpy()
    loss = (h * rb.rand(*h.shape)).sum()
    if look:
        str(loss)
    loss.backward()
    if look:
        w.grad.numpy()
    updated = w.detach() - w.grad * 0.1
    return [loss.numpy(), w.grad.numpy(), updated.numpy()]


def test_a_print_in_the_middle_changes_no_bits(rng: np.random.Generator) -> None:
    """Looking at values ends segments, and nothing else."""
    data, weights = rng.normal(size=(9, 37)), rng.normal(size=(37, 21))
    found = []
    for look in (False, True, False, True, False):
        rb.manual_seed(1)
        w = rb.tensor(weights, dtype=rb.float32, requires_grad=True)
        found.append(step(rb.tensor(data, dtype=rb.float32), w, look))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a.tobytes() == b.tobytes()


def test_an_error_in_a_flushed_op_carries_the_line_that_recorded_it() -> None:
    """Also when the program comes from the cache and the line is another one."""
    x = rb.tensor([1.0, 2.0, 3.0])

    def here(place: int) -> rb.Tensor:
        return rb.take(x, rb.tensor([place]), axis=0) * 2  # the first line

    def there(place: int) -> rb.Tensor:
        return rb.take(x, rb.tensor([place]), axis=0) * 2  # the second line

    for _ in range(3):
        here(1).numpy()
    with pytest.raises(rb.IndexRangeError, match="the second line") as caught:
        there(5).numpy()
    assert "the first line" not in str(caught.value)
    assert "5" in str(caught.value) and "test_laziness.py" in str(caught.value)


def test_a_mistake_in_shapes_is_reported_at_once() -> None:
    """Not when the value is needed."""
    with pytest.raises(rb.ShapeError):
        rb.ones((2, 3)) + rb.ones((4, 3))


def test_a_long_segment_flushes_by_itself() -> None:
    """A chain without a read does not grow for ever."""
    t = rb.zeros(3)
    before = programs.statistics["segments_run"]
    for _ in range(9_000):
        t = t + 1
    assert programs.statistics["segments_run"] > before
    assert t.tolist() == [9_000] * 3


def test_a_long_loop_is_cut_at_its_start() -> None:
    """Segments of a loop repeat: few programs, however long it runs."""
    t, w = rb.ones(3), rb.full((3,), 0.999)
    before = programs.statistics["programs_compiled"]
    for _ in range(900):
        t = t * w
        t = t + 0.25
        t = rb.tanh(t)
        t = t - 0.125
        t = rb.abs(t)
        t = t + w
        t = t * 0.5
    t.numpy()
    ops = 8  # seven in the loop and the first; each may be new to this process
    assert programs.statistics["programs_compiled"] - before <= ops + 4


def test_a_heavy_segment_flushes_by_itself() -> None:
    """Many bytes pending end a segment long before its count of ops does."""
    kept = []
    big = rb.ones((1 << 20,))
    flush()
    before = programs.statistics["segments_run"]
    for i in range(1800):  # 7.2 GB if all were kept pending and alive
        kept = [*kept[-1:], big + i]
    assert programs.statistics["segments_run"] > before
    assert kept[-1].numpy()[0] == 1800


def accumulate(steps: int) -> float:
    """total = total + loss.detach(), many times; by how many bytes the process grew."""
    total = rb.tensor(0.0)
    loss = rb.tensor(0.5, requires_grad=True) * 1
    for _ in range(10_000):
        total = total + loss.detach()
    before = resident()
    for _ in range(steps):
        total = total + loss.detach()
    grown = resident() - before
    assert total.item() == (steps + 10_000) / 2
    return grown


def test_s11_many_detached_steps_run_in_bounded_memory() -> None:
    """A hundred thousand of them."""
    assert accumulate(100_000) < 50 << 20


@pytest.mark.slow
def test_s11_a_million_detached_steps_run_in_bounded_memory() -> None:
    """A million of them, counted by Python too."""
    tracemalloc.start()
    grown = accumulate(1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert grown < 100 << 20 and peak < 100 << 20


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_dropped_tensor_costs_nothing() -> None:
    """What nobody holds at the flush is not computed."""
    x = rb.ones((4,))
    flush()
    kept = x + 1
    dropped = rb.exp(x) * 5
    del dropped
    kept.numpy()
    last = programs.last_run()
    assert last is not None
    names = {n for call in last.entry.program.ops for n in call}
    assert "exp" not in names and "multiply" not in names


def test_a_segment_nobody_needs_is_not_run() -> None:
    """All results dropped: no program runs."""
    x = rb.ones((4,))
    flush()
    before = programs.statistics["segments_run"]
    t = rb.exp(x)
    del t
    flush()
    assert programs.statistics["segments_run"] == before


def test_s11_a_pending_tensor_of_another_thread() -> None:
    """Touching it flushes its owner's tape."""
    box: list[rb.Tensor] = []
    ready, done = threading.Event(), threading.Event()

    def owner() -> None:
        box.append(rb.ones((3,)) * 5)
        ready.set()
        done.wait(20)

    thread = threading.Thread(target=owner)
    thread.start()
    ready.wait(20)
    try:
        assert (box[0] + 1).tolist() == [6, 6, 6]
    finally:
        done.set()
        thread.join()


def test_s11_many_threads_at_once() -> None:
    """Each thread has its own tape; results do not mix."""
    wrong: list[object] = []
    shared = rb.tensor(np.arange(50.0))

    def work(number: int) -> None:
        try:
            for i in range(40):
                found = ((shared * number) + i).sum().item()
                if found != 1225.0 * number + 50 * i:
                    wrong.append((number, i, found))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_s11_a_dead_threads_pending_tensor() -> None:
    """A thread may end before its tensors are looked at."""
    box: list[rb.Tensor] = []
    thread = threading.Thread(target=lambda: box.append(rb.ones((2,)) + 1))
    thread.start()
    thread.join()
    assert box[0].tolist() == [2, 2]


def test_s11_fork(script: Callable[..., str]) -> None:
    """The child of a fork computes, with what was pending before it; so does the parent."""
    printed = script(
        """
import os
import rabbet as rb
x = rb.ones((1000,)) * 2
x.numpy()
y = x + 1                      # pending
child = os.fork()
if child == 0:
    ok = y.numpy()[0] == 3 and float((x * 3).sum()) == 6000
    os._exit(0 if ok else 1)
_, status = os.waitpid(child, 0)
print(status, y.numpy()[5], float((x @ x)))
"""
    )
    assert printed.split() == ["0", "3.0", "4000.0"]


def test_timing_needs_only_reading() -> None:
    """After a read nothing recorded before it is left to do."""
    kept = rb.ones((10,)) + 1
    rb.zeros((2,)).numpy()
    before = programs.statistics["segments_run"]
    kept.numpy()
    assert programs.statistics["segments_run"] == before


def test_warnings_as_errors_do_not_break_recording() -> None:
    """The one warning there is comes once, and the value is right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = rb.tensor([[1.0, 2.0], [3.0, 4.0]])
        row = x[0]
        row += 1
    assert x.tolist() == [[1, 2], [3, 4]] and row.tolist() == [2, 3]
