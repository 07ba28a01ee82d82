"""Turns, medians, ratios, errors: with workers that answer as told; and one real worker."""

import io
import sys
from typing import Any

import pytest
from rich.console import Console

from rabbet.bench import limits
from rabbet.bench.measure import Result, Way, measure
from rabbet.bench.processes import Process, WorkerError
from rabbet.bench.table import remarks, table
from rabbet.bench.worker import median_seconds
from rabbet.bench.workloads import choose

(MLP,) = choose(["mlp_train_b64"])


class Told:
    """A worker that takes the times it is given; `events` is shared, to see the turns."""

    def __init__(self, name: str, times: dict[str, list[float]], events: list[str]) -> None:
        self.name, self.times, self.events = name, times, events
        self.digest = [1.0, 1.0]

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        if do == "ways":
            return {"ways": list(self.times)}
        if do == "prepare":
            if not self.times[arguments["way"]]:
                raise WorkerError("it cannot")
            warm = self.times[arguments["way"]][0]
            return {
                "digest": self.digest,
                "first_seconds": 9.0,
                "ready_seconds": 9.0,
                "warm_seconds": warm,
            }
        if do == "measure":
            self.events.append(self.name)
            return {"seconds": self.times[arguments["way"]].pop(0)}
        return {}


def results(workers: dict[str, Told], rounds: int) -> Result:
    def limit(workload: Any, seconds: float) -> float:
        return 0.001

    (result,) = measure([MLP], workers, rounds, 0.1, limit, lambda text: None)  # type: ignore[arg-type]
    return result


def test_rounds_take_turns_and_ratios_are_medians() -> None:
    events: list[str] = []
    ours = Told("rabbet", {"jit": [0.002, 0.004, 0.002], "eager": [0.1]}, events)
    torch = Told("torch", {"eager": [0.004, 0.004, 0.006], "compile": []}, events)
    result = results({"rabbet": ours, "torch": torch}, 3)
    assert events == ["rabbet", "torch"] * 3
    assert result.best_peer == "torch"
    assert result.ratio("rabbet", "torch") == pytest.approx(2.0)  # of 2, 1, 3
    assert result.share("rabbet") == pytest.approx(0.5)
    assert result.outcomes["torch"].errors == {"compile": "it cannot"}
    assert [w.name for w in result.outcomes["rabbet"].ways if w.rounds] == ["jit"]


def test_another_result_is_noted() -> None:
    ours, torch = (Told(n, {"a": [0.1, 0.1]}, []) for n in ("rabbet", "torch"))
    torch.digest = [1.2, 1.0]
    result = results({"rabbet": ours, "torch": torch}, 1)
    assert "another result" in result.outcomes["torch"].note
    shown = Console(width=200, record=True, file=io.StringIO())
    shown.print(table([result], ["rabbet", "torch"]))
    text = shown.export_text()
    assert "mlp_train_b64" in text and "100 !" in text and "1.00" in text
    assert remarks([result]) == ["! mlp_train_b64, torch a: another result, 0.2 apart"]


def test_the_median_of_a_way() -> None:
    assert Way("a", 1.0, 1.0, 5.0, []).seconds == 5.0
    assert Way("a", 1.0, 1.0, 5.0, [], [3.0, 1.0, 2.0]).seconds == 2.0


def test_calls_are_timed_in_batches() -> None:
    asked: list[int] = []
    seconds = median_seconds(asked.append, 0.0)
    assert asked[0] == 1 and len(asked) == 4 and asked[1] > 1000 and 0 < seconds < 1e-3


def test_a_worker_process_answers_fails_and_starts_again(tmp_path: Any) -> None:
    with open(tmp_path / "log", "w") as log:
        process = Process("rabbet", None, 1, log)
        try:
            assert process.ask("hello")["python"] == sys.version.split()[0]
            name = "tiny_add"
            assert process.ask("ways", workload=name) == {"ways": ["eager"]}
            assert len(process.ask("prepare", workload=name, way="eager")["digest"]) == 5
            took = process.ask("measure", workload=name, way="eager", seconds=0.01)["seconds"]
            assert 0 < took < 0.01
            process.ask("drop", workload=name)
            with pytest.raises(WorkerError, match="KeyError"):
                process.ask("measure", workload=name, way="eager", seconds=0.01)
            process.end()
            with pytest.raises(WorkerError, match="KeyError"):
                process.ask("measure", workload=name, way="eager", seconds=0.01)
        finally:
            process.end()


@pytest.mark.usefixtures("c_compiler")
def test_limits_of_the_machine() -> None:
    rate = limits.fma_flops(1, seconds=0.001)
    assert 1e9 < rate < 1e12
    big, small = (limits.move_seconds(1, n, n, 0.0) for n in (1 << 22, 1 << 16))
    assert big > 4 * small > 0
    floor = limits.limit_seconds(1, MLP, 0.0)
    assert 1e9 < MLP.problem.flops / floor < 1e12
