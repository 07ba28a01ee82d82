"""Programs that another process compiles while this one goes on op by op."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.cache import DiskCache
from rabbet.base.config import config
from rabbet.base.dtypes import float32
from rabbet.base.sizes import SizeScope
from rabbet.base.spec import Spec
from rabbet.codegen.store import KernelStore
from rabbet.engine import programs
from rabbet.engine.flush import flush
from rabbet.graph import interpret, parcel
from rabbet.graph.value import attrs_key, lookup
from rabbet.runtime import background, program

pytestmark = pytest.mark.skipif(config.engine != "compiled", reason="nothing is compiled there")
ROOT = Path(__file__).resolve().parents[3]


# ---- graphs as bytes -----------------------------------------------------------------------------


class _Node(NamedTuple):
    """A recorded op, or with no op a leaf."""

    op: Any
    inputs: tuple[tuple[Any, int], ...]
    attrs: dict[str, Any]
    specs: tuple[Spec, ...]
    form: tuple[int, ...] = ()


def _leaf(*shape: int) -> _Node:
    return _Node(None, (), {}, (Spec(shape, float32),))


def test_a_deep_graph_with_symbols_comes_back_as_it_was() -> None:
    scope = SizeScope()
    n = scope.symbol("n", 6)
    assert n > 4  # a guard
    x, row, add = _leaf(6, 4), _leaf(4), lookup("add")
    deep = [_Node(add, ((x, 0), (row, 0)), {}, x.specs)]
    for _ in range(3000):  # far deeper than Python's stack
        deep.append(_Node(add, ((deep[-1], 0), (x, 0)), {}, x.specs))
    attrs = {"shape": (4, 6)}
    turned = _Node(lookup("reshape"), ((deep[-1], 0),), attrs, (Spec((4, 6), float32),))
    written = parcel.write([*deep, turned])
    assert written.inputs == [*x.specs, *row.specs]
    dims, outputs = [n, 4, 4, 4, n], [(3001, 0), (5, 0)]
    data = parcel.pack(written, dims, outputs, scope)
    assert data is not None
    again, sizes = parcel.unpack(data)
    assert sizes is not None and sizes is not scope
    assert again.inputs[0].shape[0].scope is sizes  # type: ignore[union-attr]
    graph = written.graph(dims, outputs)
    assert (sizes.names, sizes.hints) == (scope.names, scope.hints)
    assert list(sizes.guards) == list(scope.guards) != []
    for made, given in zip(again.calls(), graph.calls(), strict=True):
        assert (made.op, made.form, made.site) == (given.op, given.form, given.site)
        assert attrs_key(made.attrs) == attrs_key(given.attrs)
    arrays = [np.ones((8, 4), np.float32), np.ones(4, np.float32)]
    for ours, theirs in zip(*(interpret.run(g, arrays, (8,)) for g in (again, graph)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert ours.shape == (8, 4) and (ours == 7).all()


def test_an_op_that_only_this_process_knows_is_not_sent() -> None:
    add, x = lookup("add"), _leaf(2)
    mine = replace(add, **{f.name: getattr(add, f.name) for f in fields(add) if f.init})
    for op, is_sent in ((add, True), (mine, False)):
        written = parcel.write([_Node(op, ((x, 0), (x, 0)), {}, x.specs)])
        assert (parcel.pack(written, [2], [(0, 0)], None) is not None) == is_sent


# ---- the worker ----------------------------------------------------------------------------------


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[background.Background]:
    """A worker of the test's own, and an empty cache."""
    flush()
    programs.families.clear()
    made = background.Background()
    target = program.host_target()
    store = KernelStore(target, DiskCache(tmp_path / "cache"))
    monkeypatch.setitem(program._stores, target, store)
    monkeypatch.setattr(program, "background", made)
    monkeypatch.setattr(background, "background", made)
    monkeypatch.setattr(config, "compile", "background")
    yield made
    made.stop()
    programs.families.clear()


def _value(rows: int = 3) -> np.ndarray:
    x = rb.arange(rows * 5, dtype=rb.float32).reshape(rows, 5) / 7
    return np.asarray((x @ x.mT).exp().sum(axis=0) + rb.tanh(x).mean())


def _how() -> str:
    return programs.last_run().found.how  # type: ignore[union-attr]


def test_the_first_tier_goes_on_until_the_program_is_there(worker: background.Background) -> None:
    values, hows = [], []
    for number in range(5):
        values.append(_value())
        hows.append(_how())
        if number == 2:
            assert worker.wait(120)
    assert hows[0] == "first sight" and hows[1] == "being compiled"
    assert hows[3:] == ["compiled", "found"]
    assert all(v.tobytes() == values[0].tobytes() for v in values)


def test_sizes_that_change_meanwhile_ask_for_nothing_new(worker: background.Background) -> None:
    for rows in (2, 3, 4, 5, 6, 7):
        _value(rows)
    assert len(worker.waiting) + (worker.at_work is not None) + len(worker.over) <= 2
    assert worker.wait(120)
    _value(8)
    assert _how() in ("compiled", "found")


def test_no_more_is_asked_for_than_can_wait(
    worker: background.Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "QUEUE", 2)

    def chain(length: int) -> float:
        x = rb.ones(3) / 3
        for _ in range(length):
            x = (x * 2).tanh()
        return float(x.sum())

    first = {length: chain(length) for length in range(1, 6)}
    with worker.changed:  # the worker takes nothing meanwhile
        for _ in range(3):
            for length, value in first.items():
                assert chain(length) == value and _how() == "being compiled"
        waiting = list(worker.waiting)
        assert len(waiting) == 2 and worker.is_full
    assert worker.wait(120)
    for length in (4, 5):
        chain(length)  # there is room again
        assert _how() == "being compiled" and list(worker.waiting) != waiting
    assert worker.wait(120)
    assert chain(4) == first[4] and _how() == "compiled"


def test_nothing_is_asked_for_what_comes_again_rarely(
    worker: background.Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "RECENT", 3)
    monkeypatch.setattr(programs, "OFTEN", 4)
    monkeypatch.setattr(worker, "_make", lambda message: None)

    def chain(length: int) -> str:
        x = rb.ones(3) / 3
        for _ in range(length):
            x = (x * 2).tanh()
        float(x.sum())
        return _how()

    for _ in range(3):
        assert {chain(length) for length in range(1, 6)} == {"first sight"}
    assert not worker.waiting and not worker.over
    assert {chain(length) for length in (1, 2)} == {"being compiled"}
    assert chain(6) == "first sight" and chain(6) == "being compiled"


def test_ops_of_a_repeated_segment_are_looked_up_once(
    worker: background.Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_make", lambda message: None)
    with worker.changed:  # nothing is made meanwhile
        values = [_value()]
        for _ in range(3):
            values.append(_value())
            last = programs.last_run()
            assert last is not None and last.found.how == "being compiled"
        entries = {id(e) for f in programs.families.values() for e in f.early}
        assert id(last.entry) in entries and len(entries) == 1
    assert worker.wait(120)
    values.append(_value())
    assert _how() == "compiled" and not any(f.early for f in programs.families.values())
    assert all(v.tobytes() == values[0].tobytes() for v in values)


def test_jit_replays_op_by_op_until_the_program_is_there(worker: background.Background) -> None:
    scale = rb.full((), 2.0)

    @rb.jit
    def f(x: rb.Tensor) -> rb.Tensor:
        scale.copy_(scale / 2)
        return (x @ x.mT * scale).exp().sum()

    x = rb.ones((4, 3)) / 3

    def calls(count: int) -> list[float]:
        scale.copy_(rb.full((), 2.0))
        return [f(x).item() for _ in range(count)]

    with worker.changed:  # the program does not come meanwhile
        early = calls(3)
        assert f.stats == {"recorded": 1, "replayed": 2} and not f.why
    assert worker.wait(120)
    assert calls(3) == early and len(set(early)) == 3
    assert f.stats == {"recorded": 2, "replayed": 4}
    assert [t.coming for traces in f.traces.values() for t in traces] == [[]]


def test_an_op_that_fails_in_an_early_replay_says_where(worker: background.Background) -> None:
    @rb.jit
    def f(x: rb.Tensor, i: rb.Tensor) -> rb.Tensor:
        return (x * 2)[i] + 1

    x = rb.arange(4.0)
    with worker.changed:
        f(x, rb.asarray([1, 2]))
        with pytest.raises(rb.IndexRangeError, match="test_background.py"):
            f(x, rb.asarray([1, 9]))
        assert f.stats == {"recorded": 1, "replayed": 0}


def test_a_worker_that_dies_costs_nothing_but_time(
    worker: background.Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    before = _value()
    _value()
    assert worker.wait(120)
    assert _value().tobytes() == before.tobytes() and _how() == "compiled"


def test_what_nothing_can_be_said_of_is_made_for_its_sizes(
    worker: background.Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that fails for a symbol that is 0 now, there and here: the sizes themselves do."""
    graph_of, pack, failed = programs.graph_of, parcel.pack, []

    def failing(segment: Any, dims: Any, keep: Any) -> Any:
        if len(segment.nodes) > 1 and not all(isinstance(d, int) for d in dims):
            failed.append(dims)
            raise rb.ShapeError("nothing can be said of 0")
        return graph_of(segment, dims, keep)

    def unreadable(written: Any, dims: Any, *rest: Any) -> Any:
        packed = pack(written, dims, *rest)
        return packed if all(isinstance(d, int) for d in dims) else b"nothing"

    monkeypatch.setattr(programs, "graph_of", failing)
    monkeypatch.setattr(parcel, "pack", unreadable)
    for n in (3, 5, 0, 0, 0, 0):
        x = rb.asarray(np.ones((n, 4), np.float32))
        assert ((x * 2 + 1).sum(axis=1) * 3).numpy().tolist() == [36.0] * n
        assert worker.wait(120)
    assert failed


def test_other_sources_are_not_compiled_for(
    worker: background.Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.saved, "made_for", lambda target: "another compiler")
    before = _value()
    _value()
    folder = program.store_of(program.host_target()).disk.directory
    kept = set(folder.glob("??/*"))
    assert worker.wait(120) and set(folder.glob("??/*")) == kept
    assert _value().tobytes() == before.tobytes() and _how() == "compiled"


def test_large_segments_wait(
    worker: background.Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "EARLY_BYTES", 10)
    _value()
    _value()
    assert _how() == "compiled"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_no_worker(worker: background.Background) -> None:
    _value()
    _value()
    assert worker.wait(120)
    parent = worker.process
    child = os.fork()
    if child == 0:
        worker.forget()  # registered for the process's own
        done = worker.process is None and not worker.closed and not worker.waiting
        os._exit(0 if done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert parent is not None and parent.poll() is None
    _value(4)
    _value(4)
    assert worker.wait(120)


SCRIPT = """
import rabbet as rb
for _ in range(2):
    value = (rb.ones((4, 4)) @ rb.ones((4, 4))).exp().sum().item()
print(value)
"""


def test_a_process_that_ends_leaves_nothing_behind(tmp_path: Path) -> None:
    environment: dict[str, Any] = {
        **os.environ,
        "RABBET_COMPILE": "background",
        "RABBET_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", SCRIPT],
        **{"env": environment, "capture_output": True, "text": True, "timeout": 120},
    )
    assert done.returncode == 0 and done.stderr == ""
    assert float(done.stdout) == pytest.approx(16 * np.exp(4.0))
