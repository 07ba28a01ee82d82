"""Files and documents about the workloads."""

import json
from pathlib import Path

import pytest

from rabbet.base.errors import RabbetError
from rabbet.bench.command import bench
from rabbet.bench.environments import PEERS
from rabbet.bench.measure import Outcome, Result, Way
from rabbet.bench.report import Machine, as_json, as_markdown, cost_table, draw
from rabbet.bench.workloads import ALL, choose

ROOT = Path(__file__).resolve().parents[3]
MACHINE = Machine("a CPU", 2, {"rabbet": "1", "torch": "2"}, 400.0, 0.0, [])


def result() -> Result:
    ours = Outcome([Way("jit", 1.0, 1.0, 0.002, [1.0, 1.0], [0.002, 0.002])])
    torch = Outcome([Way("eager", 1.0, 1.0, 0.003, [1.0, 1.0], [0.003, 0.003])], {"compile": "no"})
    return Result(choose(["mlp_train_b64"])[0], {"rabbet": ours, "torch": torch}, [0.001, 0.001])


def test_json_and_markdown() -> None:
    found = json.loads(as_json([result()], MACHINE))
    (one,) = found["results"]
    assert one["ratio"] == pytest.approx(1.5) and one["share"] == pytest.approx(0.5)
    assert one["frameworks"]["torch"]["ways"][0]["rounds"] == [0.003, 0.003]
    page = as_markdown([result()], MACHINE, ["rabbet", "torch"])
    assert "| mlp_train_b64 | ms | 2 | **3** | 1.50 | 1 | 50% |" in page
    assert "- mlp_train_b64, torch compile: no" in page


def test_what_counts_as_failed() -> None:
    found = result()
    assert found.failures() == []  # torch has another way
    found.outcomes["torch"].ways.clear()
    found.outcomes["rabbet"].errors["eager"] = "no"
    assert found.failures() == ["mlp_train_b64, rabbet", "mlp_train_b64, torch"]


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib").use("agg")
    draw([result()], tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_the_cost_model_in_the_documents_is_that_of_the_records() -> None:
    assert cost_table(ALL) in (ROOT / "docs" / "performance.md").read_text()


def test_unknown_names_are_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RABBET_BENCH_PEERS", str(tmp_path))
    with pytest.raises(RabbetError, match="no workload is called 'gpx'"):
        bench([], ["gpx"])
    with pytest.raises(RabbetError, match="no peer is called 'tourch'"):
        bench(["tourch"], [])
    with pytest.raises(RabbetError, match="--install --against jax"):
        bench(["jax"], [])
    assert all("==" in peer.packages[0] for peer in PEERS.values())


MODEL = """
import numpy as np
def model():
    from rabbet import nn
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU())
def inputs():
    return (np.ones((2, 4), np.float32),)
"""


@pytest.mark.usefixtures("c_compiler")
def test_a_model_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MODEL)
    bench([], [], model=file, quick=True, threads=1, json_file=tmp_path / "a.json")
    ways = json.loads((tmp_path / "a.json").read_text())["results"][0]["frameworks"]["rabbet"]
    assert {w["name"] for w in ways["ways"]} == {"jit", "eager"} and not ways["errors"]
    file.write_text("def inputs(): return ()")
    with pytest.raises(RabbetError, match="failed: model:.*mine.py, rabbet"):
        bench([], [], model=file, quick=True, threads=1)
    assert "defines no model()" in " ".join(capsys.readouterr().out.split())
