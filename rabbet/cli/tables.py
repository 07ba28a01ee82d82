"""Tables about program files."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rabbet.debug.explain import show_bytes
from rabbet.export import LoadedProgram
from rabbet.export.loaded import Port, show_guard
from rabbet.export.summary import summarize

UNITS = ("", "K", "M", "G", "T", "P")


def inspect_tables(program: LoadedProgram) -> list[RenderableType]:
    """What `rabbet inspect` shows of one entry."""
    summary = summarize(program)
    file = program.file
    example = ", ".join(f"{n}={v}" for n, v in program.entry.symbols)
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, ports in (("input", program.inputs), ("output", program.outputs)):
        for port in ports:
            facts.add_row(name, _port(port))
    for relation, form in program.entry.guards:
        facts.add_row("must hold", show_guard(relation, form))
    facts.add_row("parameters", f"{summary.parameters:,} (and {summary.buffers:,} in buffers)")
    at = f" at {example}" if example else ""
    facts.add_row("operations", f"{scaled(summary.flops)}FLOP{at}")
    if summary.arena_bytes is not None:
        facts.add_row("memory", f"{show_bytes(summary.arena_bytes)} for intermediate results{at}")
    facts.add_row(
        "file",
        f"{show_bytes(file.header.file_bytes)}: weights {show_bytes(file.header.weights_bytes)}, "
        f"graph {show_bytes(file.header.graph_bytes)}; written by {file.program.producer}",
    )
    layers = Table("layer", "ops", "result")
    layers.add_column("parameters", justify="right")
    layers.add_column("FLOP", justify="right")
    for layer in summary.layers:
        ops = " ".join(layer.ops)
        count = f"{layer.parameters:,}" if layer.parameters else ""
        layers.add_row(Text(layer.layer), Text(ops), Text(layer.result), count, scaled(layer.flops))
    return [Group(Text(f"{file.path}: {program.name}", style="bold"), facts), layers]


def _port(port: Port) -> Text:
    return Text(str(port))


def scaled(number: int) -> str:
    """12345 as `12.3 K`."""
    value, units = float(number), list(UNITS)
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"
