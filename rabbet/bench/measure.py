"""Measuring: every framework in turns, round after round, and what the rounds say."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rabbet.bench.own import OwnModel
from rabbet.bench.processes import Process, WorkerError
from rabbet.bench.workload import Workload

OURS = "rabbet"
SLOWER = 1.3  # ways of a framework that are slower than its best by this are not measured further
TOLERANCE = 1e-2  # of results between frameworks: a sanity check, not a test of accuracy
BFLOAT16_TOLERANCE = 1e-1

Say = Callable[[str], None]
# A workload and seconds to spend -> the seconds the machine itself needs for one call.
Limit = Callable[[Workload, float], float]


@dataclass
class Way:
    """One way of one framework to compute a workload: seconds of a call in each round."""

    name: str
    first_seconds: float
    ready_seconds: float  # the first calls together, until everything is compiled
    warm_seconds: float
    digest: list[float]
    rounds: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median round; of a way that was too slow to go on, its one warm call."""
        return statistics.median(self.rounds) if self.rounds else self.warm_seconds


@dataclass
class Outcome:
    """What one framework did with a workload."""

    ways: list[Way] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def best(self) -> Way | None:
        """The fastest way that was measured in all rounds."""
        return min((w for w in self.ways if w.rounds), key=lambda w: w.seconds, default=None)


@dataclass
class Result:
    """What every framework did with a workload; `limit`: the machine's seconds, by round."""

    workload: Workload
    outcomes: dict[str, Outcome]
    limit: list[float] = field(default_factory=list)

    @property
    def best_peer(self) -> str | None:
        """The fastest framework beside Rabbet."""
        found = {f: o.best.seconds for f, o in self.outcomes.items() if f != OURS and o.best}
        return min(found, key=lambda f: found[f], default=None)

    def failures(self) -> list[str]:
        """'workload, framework' where Rabbet failed in any way, or a peer in all it has."""
        failed = [f for f, o in self.outcomes.items() if o.errors and (f == OURS or not o.best)]
        return [f"{self.workload.name}, {framework}" for framework in failed]

    def ratio(self, framework: str, other: str) -> float | None:
        """How many times faster `framework` is than `other`: the median over rounds."""
        mine, theirs = self.outcomes[framework].best, self.outcomes[other].best
        if mine is None or theirs is None:
            return None
        pairs = zip(mine.rounds, theirs.rounds, strict=True)
        return statistics.median(b / a for a, b in pairs)

    def share(self, framework: str) -> float | None:
        """Which part of the machine's limit a framework reaches: the median over rounds."""
        mine = self.outcomes[framework].best
        if mine is None or not self.limit:
            return None
        return statistics.median(b / a for a, b in zip(mine.rounds, self.limit, strict=True))


def measure(
    workloads: list[Workload],
    processes: dict[str, Process],
    rounds: int,
    seconds: float,
    limit: Limit,
    say: Say,
) -> Iterator[Result]:
    """A result for each workload in turn; `seconds` for each way and round."""
    for workload in workloads:
        say(f"{workload.name}: preparing")
        outcomes = {f: _prepare(p, workload) for f, p in processes.items()}
        result = Result(workload, outcomes)
        if workload.problem.kind != OwnModel.kind:  # twins start with weights of their own
            _compare(result)
        for number in range(rounds):
            say(f"{workload.name}: round {number + 1} of {rounds}")
            _round(result, processes, seconds)
            if workload.judged != "calls":
                result.limit.append(limit(workload, seconds / 2))
        for process in processes.values():
            process.ask("drop", workload=workload.name)
        yield result


def _prepare(process: Process, workload: Workload) -> Outcome:
    outcome = Outcome()
    for way in process.ask("ways", workload=workload.name)["ways"]:
        try:
            answer = process.ask("prepare", workload=workload.name, way=way)
        except WorkerError as error:
            outcome.errors[way] = error.said
        else:
            outcome.ways.append(Way(way, **answer))
    return outcome


def _compare(result: Result) -> None:
    """Note results that differ from the first framework's by more than rounding explains."""
    digests = [(f, w) for f, o in result.outcomes.items() for w in o.ways]
    is_narrow = getattr(result.workload.problem, "dtype", "float32") != "float32"
    tolerance = BFLOAT16_TOLERANCE if is_narrow else TOLERANCE
    for framework, way in digests[1:]:
        _, reference = digests[0]
        scale = max(abs(reference.digest[1]), 1e-30)
        apart = max(abs(a - b) for a, b in zip(way.digest, reference.digest, strict=True)) / scale
        if not apart <= tolerance:
            result.outcomes[framework].note = f"{way.name}: another result, {apart:.2g} apart"


def _round(result: Result, processes: dict[str, Process], seconds: float) -> None:
    name = result.workload.name
    for framework, outcome in result.outcomes.items():
        for way in _in_the_running(outcome):
            arguments: dict[str, Any] = {"workload": name, "way": way.name}
            try:
                answer = processes[framework].ask("measure", **arguments, seconds=seconds)
            except WorkerError as error:
                outcome.ways.remove(way)
                outcome.errors[way.name] = error.said
            else:
                way.rounds.append(answer["seconds"])


def _in_the_running(outcome: Outcome) -> list[Way]:
    """The ways of a framework to measure: those of the last round, at first those near its best."""
    begun = [w for w in outcome.ways if w.rounds]
    fastest = min((w.warm_seconds for w in outcome.ways), default=0.0)
    return begun or [w for w in outcome.ways if w.warm_seconds <= SLOWER * fastest]
