"""The table on the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from rabbet.bench.measure import OURS, Outcome, Result


def table(results: list[Result], frameworks: list[str]) -> Table:
    """One line for each workload: figures, ratio to the best peer, share of the limit."""
    shown = Table("workload", "unit", box=None, header_style="bold", padding=(0, 1))
    for framework in frameworks:
        shown.add_column(framework, justify="right")
    for title in ("ratio", "goal", "limit", "share"):
        shown.add_column(title, justify="right")
    for result in results:
        figures = [_figure(result, f) for f in frameworks]
        shown.add_row(result.workload.name, result.workload.unit, *figures, *_judged(result))
    return shown


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _figure(result: Result, framework: str) -> Text:
    outcome: Outcome = result.outcomes[framework]
    best = outcome.best
    if best is None:
        return Text("error" if outcome.errors else "", style="red")
    style = "bold" if framework == result.best_peer else ""
    mark = " !" if outcome.note else ""
    return Text(number(result.workload.figure(best.seconds)) + mark, style=style)


def _judged(result: Result) -> list[Text]:
    """Ratio to the best peer, the goal, the limit in the workload's unit, the share of it."""
    workload, peer = result.workload, result.best_peer
    ratio = result.ratio(OURS, peer) if peer and OURS in result.outcomes else None
    share = result.share(OURS) if OURS in result.outcomes else None
    limit = workload.figure(sorted(result.limit)[len(result.limit) // 2]) if result.limit else None
    return [
        _against(ratio, workload.goal, "{:.2f}"),
        Text(_goal(workload.goal, workload.share)),
        Text(number(limit) if limit else ""),
        _against(share, workload.share, "{:.0%}"),
    ]


def _goal(goal: float | None, share: float | None) -> str:
    parts = [f"{goal:.2f}"] if goal else []
    return " ".join(parts + ([f"{share:.0%}"] if share else []))


def _against(value: float | None, wanted: float | None, form: str) -> Text:
    if value is None:
        return Text("")
    style = "" if wanted is None else "green" if value >= wanted else "red"
    return Text(form.format(value), style=style)


def remarks(results: list[Result]) -> list[str]:
    """Errors and doubtful results, a line each."""
    found = []
    for result in results:
        for framework, outcome in result.outcomes.items():
            where = f"{result.workload.name}, {framework}"
            found += [f"{where} {way}: {text}" for way, text in outcome.errors.items()]
            found += [f"! {where} {outcome.note}"] if outcome.note else []
    return found
