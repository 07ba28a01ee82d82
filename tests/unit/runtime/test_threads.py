"""Threads: how many, who waits for whom, signals, fork, floating-point state."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from rabbet.base import dtypes
from rabbet.runtime import _runtime, buffers
from rabbet.runtime._runtime import Buffer


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads, also on a machine with one core."""
    _runtime.set_num_threads(2)
    yield
    _runtime.set_num_threads(0)


def waiting(plan: Any, kernels: Any, tasks: int, task_ns: int, commit: int = 1) -> Any:
    """A program that is busy: out[task] += 1 for each task, after some time."""
    state = plan.buffer("input", plan.const(0))
    out = plan.buffer("output", plan.const(8 * tasks), alias=state)
    cost = plan.const(1 << 40)
    plan.call(kernels.work_ns, plan.const(tasks), [out], [plan.const(task_ns)], cost=cost)
    plan.commit_call = commit
    return plan.program().bind(())


def zeros(n: int) -> Buffer:
    return buffers.from_numpy(np.zeros(n, np.int64))


def ones(buffer: Buffer) -> int:
    return int(buffers.to_numpy(buffer, (buffer.nbytes // 8,), dtypes.int64).sum())


def test_every_task_once(plan: Any, kernels: Any) -> None:
    bound = waiting(plan, kernels, 1001, 0)
    for threads in (1, 2, 3, 7, 1):
        _runtime.set_num_threads(threads)
        assert _runtime.num_threads() == threads
        out = zeros(1001)
        bound.run([Buffer(0)], [out])
        assert set(buffers.to_numpy(out, (1001,), dtypes.int64).tolist()) == {1}
    _runtime.set_num_threads(0)


def test_wrong_numbers() -> None:
    for threads in (-1, 257):
        with pytest.raises(ValueError, match="from 1 to 256"):
            _runtime.set_num_threads(threads)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )


SHOW = "from rabbet.runtime import _runtime as r; print(r.num_threads())"


def test_number_from_the_environment() -> None:
    assert run_python(SHOW, RABBET_NUM_THREADS="5").stdout == "5\n"
    cores = int(run_python(SHOW, RABBET_NUM_THREADS="").stdout)
    assert 1 <= cores <= (os.cpu_count() or 1)


@pytest.mark.parametrize("text", ["0", "-2", "two", "3.5", "1000", "4 "])
def test_wrong_environment(text: str) -> None:
    done = run_python(SHOW, RABBET_NUM_THREADS=text)
    assert "ValueError: RABBET_NUM_THREADS is not a whole number from 1 to 256" in done.stderr


@pytest.mark.usefixtures("two_threads")
def test_the_gil_is_free_during_a_run(plan: Any, kernels: Any) -> None:
    bound = waiting(plan, kernels, 100, 2_000_000)
    runner = threading.Thread(target=bound.run, args=([Buffer(0)], [zeros(100)]))
    counted = 0
    runner.start()
    while runner.is_alive():
        counted += 1
        time.sleep(0.001)
    assert counted > 10


@pytest.mark.usefixtures("two_threads")
def test_several_callers(plan: Any, kernels: Any) -> None:
    bound = waiting(plan, kernels, 50, 10_000)
    results: list[int] = []

    def call() -> None:
        for _ in range(10):
            out = zeros(50)
            bound.run([Buffer(0)], [out])
            results.append(ones(out))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [50] * 40


class Stopped(Exception):
    """Raised by the signal handler."""


@pytest.fixture
def alarm() -> Iterator[Callable[[], None]]:
    """Called, it lets SIGALRM raise Stopped in 120 ms."""

    def stop(number: int, frame: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)

    def set_off() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.12)

    yield set_off
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("two_threads")
def test_a_signal_stops_a_run(plan: Any, kernels: Any, alarm: Callable[[], None]) -> None:
    bound = waiting(plan, kernels, 20_000, 1_000_000)
    out = zeros(20_000)
    start = time.monotonic()
    alarm()
    with pytest.raises(Stopped):
        bound.run([Buffer(0)], [out])
    assert time.monotonic() - start < 2
    done = ones(out)
    time.sleep(0.01)
    assert 0 < done == ones(out) < 20_000  # nobody is still at work


@pytest.mark.usefixtures("two_threads")
def test_a_signal_waits_after_the_commit(
    plan: Any, kernels: Any, alarm: Callable[[], None]
) -> None:
    bound = waiting(plan, kernels, 300, 1_000_000, commit=0)
    out = zeros(300)
    alarm()
    with pytest.raises(Stopped):
        bound.run([out], [out])
        time.sleep(0)  # the handler runs here at the latest
    assert ones(out) == 300


def test_ctrl_c(plan: Any, kernels: Any) -> None:
    bound = waiting(plan, kernels, 20_000, 1_000_000)
    timer = threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        bound.run([Buffer(0)], [zeros(20_000)])
    timer.join()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("two_threads")
def test_fork(plan: Any, kernels: Any) -> None:
    """The child has threads of its own, also if the parent's pool is busy."""
    code = f"""
import os, sys, threading
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
import numpy as np
from pathlib import Path
from conftest import Kernels, Plan
from rabbet.base import dtypes
from rabbet.runtime import _runtime, buffers
kernels, plan = Kernels(Path({str(kernels.path)!r})), Plan()
out = plan.buffer("output", plan.const(800))
plan.call(kernels.work_ns, plan.const(100), [out], [plan.const(100_000)], cost=plan.const(1 << 40))
bound = plan.program().bind(())
def run():
    result = buffers.from_numpy(np.zeros(100, np.int64))
    bound.run([], [result])
    return int(buffers.to_numpy(result, (100,), dtypes.int64).sum())
_runtime.set_num_threads(2)
assert run() == 100
busy = threading.Thread(target=lambda: [run() for _ in range(30)])
busy.start()
for _ in range(8):
    child = os.fork()
    if child == 0:
        os._exit(42 if run() == 100 and len(os.listdir("/proc/self/task")) in (1, 2) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
busy.join()
print("done")
"""
    done = run_python(code)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.usefixtures("two_threads")
def test_subnormals_are_kept(plan: Any, kernels: Any) -> None:
    """Another library may have switched them off on the calling thread; that stays as it was."""
    if not kernels.library.set_flushing(1):
        pytest.skip("this machine has no MXCSR")
    kernels.library.set_flushing(0)
    out = plan.buffer("output", plan.const(4000))
    cost = plan.const(1 << 30)
    plan.call(kernels.halve_least, plan.const(1000), [out], cost=cost)
    bound, result = plan.program().bind(()), Buffer(4000)
    for flushing in (1, 0):
        kernels.library.set_flushing(flushing)
        try:
            bound.run([], [result])
            after = kernels.library.is_flushing()
        finally:
            kernels.library.set_flushing(0)
        assert after == flushing
        halves = buffers.to_numpy(result, (1000,), dtypes.float32).view(np.uint32)
        assert set(halves.tolist()) == {1 << 22}
