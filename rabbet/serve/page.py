"""The status page: one table, without scripts."""

from __future__ import annotations

from html import escape

from rabbet.serve.datatypes import NAMES
from rabbet.serve.model import TensorSpec
from rabbet.serve.repository import Entry, Repository

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.3rem 1rem .3rem 0;text-align:left;"
    "border-bottom:1px solid #ddd;vertical-align:top}"
)
_COLUMNS = ("model", "version", "state", "inputs", "outputs", "requests", "mean batch", "mean ms")


def write_page(repository: Repository, version: str) -> str:
    """HTML with a line for every version of every model."""
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join(_write_row(entry) for entry in repository.entries())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Rabbet</title>'
        f"<style>{_STYLE}</style><h1>Rabbet {escape(version)}</h1>"
        f"<table><tr>{head}</tr>{rows}</table></html>"
    )


def _write_row(entry: Entry) -> str:
    cells = [entry.name, str(entry.version)]
    if entry.batcher is None:
        cells += [f"not loaded: {entry.reason}"]
    else:
        model, counted = entry.batcher.model, entry.batcher.statistics.describe()
        cells += ["ready", _show(model.inputs), _show(model.outputs), str(counted["requests"])]
        cells += [f"{counted['mean_batch']:.1f}", f"{counted['mean_compute_ms']:.2f}"]
    cells += [""] * (len(_COLUMNS) - len(cells))
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _show(specs: list[TensorSpec]) -> str:
    return ", ".join(f"{spec.name}: {NAMES[spec.dtype]}{spec.show()}" for spec in specs)
