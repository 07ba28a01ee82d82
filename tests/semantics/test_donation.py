"""Parameters and state are updated in the memory they have, where nobody else looks at it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, optim
from rabbet.runtime import _runtime
from rabbet.tensor import Tensor, value_of

N = 1 << 16
ROOT = Path(__file__).parents[2]


class Net:
    """Two large matrices under Adam, and what they must be after some steps."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.params = [nn.Parameter(rb.tensor(rng.random((256, 256), np.float32))) for _ in "ab"]
        self.x = rb.tensor(rng.random((8, 256), np.float32))
        self.opt = optim.Adam(self.params, lr=0.01)

    def step(self) -> Tensor:
        self.opt.zero_grad()
        loss = ((self.x @ self.params[0]).tanh() @ self.params[1]).square().mean()
        loss.backward()
        self.opt.step()
        return loss

    def state(self) -> list[np.ndarray]:
        found = [*self.params]
        for p in self.params:
            found += [self.opt.state[p]["exp_avg"], self.opt.state[p]["exp_avg_sq"]]
        return [np.array(t.numpy()) for t in found]


def addresses(net: Net) -> list[int]:
    return [value_of(p).address for p in net.params]


@pytest.mark.parametrize("jitted", [False, True])
def test_updates_stay_where_they_are(jitted: bool) -> None:
    net = Net()
    step = rb.jit(net.step) if jitted else net.step
    for _ in range(3):
        step()
    before, live = addresses(net), _runtime.live_bytes()
    for _ in range(4):
        step()
    assert addresses(net) == before
    assert _runtime.live_bytes() == live
    other = Net()
    for _ in range(7):
        other.step()
        other.state()  # computes each step by itself, and looks at all values
    assert same(net.state(), other.state())


@pytest.mark.parametrize("jitted", [False, True])
def test_the_same_numbers_with_and_without(jitted: bool) -> None:
    """Views of the memory forbid writing it over: they keep the old values."""
    plain, watched = Net(), Net()
    steps = [rb.jit(n.step) if jitted else n.step for n in (plain, watched)]
    for _ in range(6):
        views = [(p.numpy(), p.detach(), np.array(p.numpy())) for p in watched.params]
        for step in steps:
            step()
        for view, detached, copy in views:
            np.testing.assert_array_equal(view, copy)
            np.testing.assert_array_equal(detached.numpy(), copy)
    for a, b in zip(plain.state(), watched.state(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_handle_keeps_the_old_value() -> None:
    x = rb.tensor(np.arange(N, dtype=np.float32))
    for _ in range(4):
        x.numpy()
        old = x.detach()
        rb.flush()
        alias = x[:]
        x += 1
        rb.flush()
        assert float(old[1]) == float(x[1]) - 1 == float(alias[1])


def test_in_place_and_not() -> None:
    x = rb.tensor(np.arange(N, dtype=np.float32))
    for _ in range(3):
        x += 1
        rb.flush()
    before = value_of(x).address
    x += 1
    rb.flush()
    assert value_of(x).address == before
    view = x.numpy()
    x += 1
    rb.flush()
    assert value_of(x).address != before
    assert view[0] == 4
    assert float(x[0]) == 5


def test_memory_of_others_is_never_written() -> None:
    array = np.arange(N, dtype=np.float32)
    array.flags.writeable = False
    x = rb.asarray(array)
    for _ in range(4):
        x = rb.asarray(array)
        x += 1
        rb.flush()
    assert array[0] == 0
    assert float(x[0]) == 1


def test_what_fails_changes_nothing() -> None:
    """The index is found out of range before the update of the same segment is made."""
    x = rb.tensor(np.zeros(N, np.float32))
    table = rb.tensor(np.arange(8.0))
    for index in (1, 2, 3, 9, 4):
        before = np.array(x.numpy())
        at = rb.tensor(np.array([index]))
        rb.flush()
        x += 1
        picked = table.take(at, axis=0)
        if index < 8:
            assert float(picked[0]) == index
            assert float(x[0]) == before[0] + 1
        else:
            with pytest.raises(IndexError):
                picked.numpy()
            np.testing.assert_array_equal(x.numpy(), before)


INTERRUPTED = """
import signal, sys, threading, time
import numpy as np
import rabbet as rb
from tests.semantics.test_donation import Net, same
jitted = sys.argv[1] == "True"
reference, net = Net(), Net()
states = [reference.state()]
for _ in range(60):
    reference.step()
    states.append(reference.state())
step = rb.jit(net.step) if jitted else net.step
for _ in range(3):
    step()
done = 3
for delay in np.linspace(0.0001, 0.004, 14):
    timer = threading.Timer(delay, signal.raise_signal, (signal.SIGINT,))
    try:
        timer.start()
        for _ in range(2):
            step()
        timer.join()  # on a busy machine the signal may come later than its delay says
        time.sleep(1)
    except KeyboardInterrupt:
        pass
    timer.join()
    now = net.state()
    matches = [n for n in range(done, done + 3) if same(now, states[n])]
    assert matches, f"a step was cut in two after {done}"
    done = matches[0]
print("whole", done)
"""


@pytest.mark.parametrize("jitted", [False, True])
def test_interrupts_leave_all_or_nothing(jitted: bool) -> None:
    """Ctrl-C at any moment: each step happened as a whole or not at all."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(jitted)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=100,
    )
    assert done.stdout.startswith("whole"), done.stderr[-2000:]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _write_row(place: Tensor, cache: Tensor, other: Tensor) -> Tensor:
    cache[:, place] = 1.0
    other[:, place] = 2.0
    return cache[:, 0].sum() + other[:, place].sum()


def test_a_cache_given_as_argument_is_written_in_place() -> None:
    write = rb.jit(_write_row)
    cache, other = rb.zeros((8, 4096)), rb.zeros((8, 4096))
    places = [rb.asarray(np.array(i)) for i in (0, 1, 2, -1)]
    for place in places[:2]:
        write(place, cache, other).numpy()
    before = value_of(cache).address, value_of(other).address
    for place in places:
        write(place, cache, other).numpy()
    assert (value_of(cache).address, value_of(other).address) == before
    with pytest.raises(rb.IndexRangeError, match="4096"):
        write(rb.asarray(np.array(4096)), cache, other).numpy()
    assert float(cache.sum()) == 8 * 4 and float(other.sum()) == 2 * 8 * 4


def test_a_cache_seen_elsewhere_is_not_written_in_place() -> None:
    write = rb.jit(_write_row)
    cache, other = rb.zeros((8, 4096)), rb.zeros((8, 4096))
    place = rb.asarray(np.array(5))
    for _ in range(3):
        write(place, cache, other).numpy()
    seen, same = cache.numpy(), other + 0
    same.numpy()
    write(rb.asarray(np.array(6)), cache, cache).numpy()  # one tensor as two arguments
    assert seen[:, 6].sum() == 0 and float(cache[:, 6].sum()) == 16
    handle = other.detach()
    write(rb.asarray(np.array(7)), cache, other).numpy()
    assert float(handle[:, 7].sum()) == 0 and float(other[:, 7].sum()) == 16
