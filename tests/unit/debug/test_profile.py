"""rb.profile: every kernel with its time, operations, bytes and line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import targets
from rabbet.base import limits
from rabbet.base.limits import Peaks
from rabbet.debug import profile as module
from rabbet.debug.explain import kernel_name, show_name, show_time
from rabbet.engine import programs
from rabbet.runtime.program import store_of


@pytest.fixture(autouse=True)
def peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 100 GFLOP/s, and 10 GB/s from anywhere: nothing is measured."""
    monkeypatch.setattr(module, "peaks", lambda threads: Peaks(1e11, ((1 << 40, 1e10),)))


def work(a: Any) -> float:
    b = a @ a  # the product
    return float(rb.exp(b * 1e-3).sum())


def test_rows_tell_what_ran_and_where() -> None:
    a = rb.ones((96, 96))
    wanted = [work(a) for _ in range(3)][0]
    with rb.profile() as p:
        assert work(a) == work(a) == wanted
    product = next(r for r in p.rows() if "matmul" in r.name)
    assert product.calls == 2 and product.line.startswith("test_profile.py:")
    assert product.operations >= 2 * 2 * 96**3
    assert product.bytes >= 2 * 3 * 96 * 96 * 4 / 2
    assert p.segments == 2 and p.nanoseconds >= sum(r.nanoseconds for r in p.rows()) > 0
    floor = max(product.operations / 1e11, product.bytes / 1e10)
    assert product.part_of_peak == pytest.approx(floor / (product.nanoseconds * 1e-9))
    first, header, *rows = p.table(1).split("\n")
    assert "2 segments" in first and "GFLOP/s" in header and "of peak" in header
    assert rows[0].split()[0].startswith(p.rows()[0].name[:10]) and str(p) == p.table()


def test_facts_agree_with_the_runtime() -> None:
    """Operations and bytes are read from the plan's words; the runtime reads them too."""
    x, y = rb.ones((7, 33)), rb.ones((33, 5))
    for _ in range(3):
        (rb.softmax(x, axis=1) @ y).numpy()
    last = programs.last_run()
    assert last is not None
    bound = last.found.bound
    facts = last.entry.program.facts(last.found.symbols)
    assert sum(f.operations for f in facts) == bound.cost
    assert sum(f.bytes for f in facts) >= sum(bound.input_bytes) + sum(bound.output_bytes)


def test_trace_is_read_by_chrome(tmp_path: Path) -> None:
    with rb.profile() as p:
        work(rb.ones((16, 16)))
    p.trace(tmp_path / "x.json")
    events = json.loads((tmp_path / "x.json").read_text())["traceEvents"]
    assert len(events) == len(p.events) > 0
    assert all(e["ph"] == "X" and e["dur"] >= 0 and e["ts"] >= 0 for e in events)
    starts = [e["ts"] for e in events]
    assert starts == sorted(starts)


def test_training_is_as_without() -> None:
    def train() -> np.ndarray:
        rb.manual_seed(0)
        model = rb.nn.Linear(4, 3)
        optimizer = rb.optim.Adam(model.parameters(), lr=0.1)
        step = rb.jit(lambda x: loss_step(model, optimizer, x))
        for _ in range(4):
            step(rb.ones((5, 4)))
        return model.weight.numpy().copy()

    def loss_step(model: Any, optimizer: Any, x: Any) -> Any:
        loss = model(x).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    plain = train()
    with rb.profile() as p:
        profiled = train()
    assert np.array_equal(plain, profiled) and p.rows()


def test_host_ops_and_failures() -> None:
    with rb.profile() as p:
        for _ in range(3):
            rb.linalg.inv(rb.eye(3) * 2).numpy()
        with pytest.raises(rb.IndexRangeError, match="index 7"):
            rb.ones(3)[rb.tensor([7])].numpy()
    assert any("(host)" in r.name for r in p.rows())
    assert rb.ones(2).tolist() == [1, 1]


def test_limits_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Peaks(1e9, ((1000, 5e9), (10**9, 1e9)))
    calls: list[int] = []
    monkeypatch.setattr(limits, "default_directory", lambda: tmp_path)
    monkeypatch.setattr(limits, "_measured", lambda threads: calls.append(threads) or measured)
    for _ in range(2):
        limits.peaks.cache_clear()
        assert limits.peaks(2) == measured
    assert calls == [2]
    assert measured.bandwidth(10) == 5e9 and measured.bandwidth(10**12) == 1e9
    limits.peaks.cache_clear()


def test_names_and_times_are_short() -> None:
    ops = ("multiply", "reduce_sum", "divide")
    assert show_name("+".join(ops), 40) == "multiply+reduce_sum+divide"
    assert show_name("+".join(ops), 20) == "multiply+2 more"
    assert show_name(ops[1], 8) == "reduc..."
    assert [show_time(n) for n in (40, 1234, 5.67e6, 2e9)] == ["40 ns", "1.23 us", "5.67 ms", "2 s"]


def test_kernels_have_the_names_of_what_was_written() -> None:
    """Not of the primitive ops behind them; those are kept beside."""
    conv, norm = rb.nn.Conv2d(3, 8, 3, padding=1), rb.nn.BatchNorm2d(8).eval()
    for _ in range(3):
        rb.relu(norm(conv(rb.ones((1, 3, 8, 8))))).numpy()
    kernel = rb.explain().kernels[-1]
    assert kernel.name == "conv2d+batch_norm_infer+relu"
    assert kernel.recorded == ("conv2d", "batch_norm_infer", "relu")
    assert "contract" in kernel.ops and "conv2d" not in kernel.ops
    assert kernel_name(("add", "add", "exp"), ("add", "add", "exp")) == "add x2+exp"
    assert kernel_name((), ("copy",)) == "copy"
    assert kernel_name(("solve",), ("solve (host)",)) == "solve (host)"


def test_explain_takes_a_count_only() -> None:
    (rb.ones(3) + 1).numpy()
    for wrong in (rb.jit(work), 0):
        with pytest.raises(TypeError, match="repeats is how often"):
            rb.explain(wrong)  # type: ignore[arg-type]


def test_explain_says_where_compiled_code_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rb.ones(3).sum().item()
    assert "memory only" not in str(rb.explain())
    monkeypatch.setattr(store_of(targets.host()).disk, "problem", "kept in memory only: full")
    assert "note: kept in memory only: full" in str(rb.explain())
