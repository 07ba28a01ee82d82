"""Every op with hostile attributes: refused, or computed without harm.

The files state whatever results the op's rule gives, so nothing but the rule and the reader's own
checks stand between the attributes and the machine.
"""

import json
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rabbet.base.dtypes import float32
from rabbet.base.errors import FormatError, IndexRangeError, LinAlgError, ShapeError
from rabbet.base.spec import Spec
from rabbet.export import graph as graph_module
from rabbet.export import layout
from rabbet.export.encoding import decode
from rabbet.export.graph import build, check
from rabbet.export.loaded import LoadedProgram
from rabbet.export.portable import Portable
from rabbet.export.read import ProgramFile
from rabbet.graph.op import Op
from rabbet.graph.sample import Draw, Sample, draws, form
from rabbet.graph.value import Builder, Graph, registry
from rabbet.runtime import buffers
from rabbet.runtime.errors import IndexFailure
from rabbet.transform.decompose import decompose

MOST_ELEMENTS = 10**6
MOST_BYTES = 4 << 30  # of address space beside what the process has
SIZES: list[Any] = [
    *("n", ["+", "n", -1], ["+", "n", 1], ["*", "n", -1], ["*", "n", 1000], ["//", "n", 2]),
    *(["%", "n", 2], ["+", ["*", "n", -1], 5], ["max", "n", 4], ["min", "n", 4], ["//", 7, "n"]),
]
HUGE = 1 << 40
NUMBERS = [-3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 9, 16, 100, 1 << 20, 1 << 40, -(1 << 40)]
OTHERS: list[Any] = [None, True, 1.5, "none", "mean", "valid", "ij,jk->ik", {"dtype": "int32"}]
OPS = [o for o in registry.values() if o.kind != "input" and o.samples is not None]


def spots(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield path
    for i, inner in enumerate(value) if isinstance(value, list) else ():
        yield from spots(inner, (*path, i))


def junk(chance: random.Random, old: Any) -> Any:
    kind = chance.randrange(10)
    if kind < 4:
        return chance.choice(NUMBERS)
    if kind < 7:
        return {"size": chance.choice(SIZES)}
    if kind == 7:
        return chance.choice(OTHERS)
    if kind == 8:
        return [chance.choice([0, 1, 2, -1, {"size": "n"}]) for _ in range(chance.randrange(5))]
    return [old, old] if not isinstance(old, list) else [old]


def hostile_call(op: Op, chance: random.Random) -> dict[str, Any] | None:
    """A graph text with one call of `op`, some sizes symbols, some attributes wrong."""
    assert op.samples is not None
    sample = chance.choice(list(op.samples()))
    swept, inputs = chance.choice(sample.dtypes), []
    for number, draw in enumerate(draws(sample)):
        own = {"int": "int64", "bool": "bool"}.get(draw.kind, swept)
        shape = [d if chance.random() < 0.6 else "n" for d in draw.shape]
        inputs.append({"name": f"x{number}", "dtype": draw.dtype or own, "shape": shape})
    inputs.append({"name": "size", "dtype": "bool", "shape": ["n"]})
    given = dict(sample.attrs)
    attributes = {}
    for p in op.parameters:
        if p.role == "attribute":
            value = given.get(p.name, p.default)
            value = {"dtype": value.name} if hasattr(value, "itemsize") else value
            if not isinstance(value, bool | int | float | str | list | tuple | dict | None):
                return None
            attributes[p.name] = json.loads(json.dumps(value))
    for _ in range(chance.choice([0, 1, 1, 2, 3])):
        every = [s for k, v in attributes.items() for s in spots(v, (k,))]
        *home, key = chance.choice(every) if every else ("",)
        container: Any = attributes
        for step in home:
            container = container[step]
        if every:
            container[key] = junk(chance, container[key])
    count = op.outputs + op.residuals
    call = {
        **{"op": op.name, "since": 1, "form": list(form(sample)), "layer": ""},
        "operands": [["input", i] for i in range(len(inputs) - 1)],
        **{"attributes": attributes, "results": [["float32", []]] * count},
    }
    outputs = [
        {"name": f"y{i}", "dtype": "float32", "shape": [], "value": ["call", 0, i]}
        for i in range(count)
    ]
    entry = {
        **{"name": "f", "symbols": [{"name": "n", "example": chance.choice([2, 3, 4, 5, 7])}]},
        **{"guards": [], "inputs": inputs, "calls": [call], "outputs": outputs},
        "structure": ["list", list(range(count))],
    }
    return {
        **{"format": "rabbet program", "producer": "", "weights_sha256": "", "weights": []},
        "entries": [entry],
    }


def too_large(program: Portable, n: int) -> bool:
    primitive, _ = decompose(build(program, program.entries[0], [n], static=True).graph)
    shapes = [s.shape for call in primitive.calls() for s in call.specs]
    return max((float(np.prod(np.array(s, float))) for s in shapes), default=0) > MOST_ELEMENTS


def run_hostile(text: dict[str, Any], seed: int) -> bool:
    """True if the graph was accepted; it is then run at several sizes."""
    try:
        program = decode(json.dumps(text).encode(), min(layout.VERSIONS))
        check(program, 0)
    except FormatError:
        return False
    header = layout.Header(min(layout.VERSIONS), 0, 0, 0, 0, seed.to_bytes(32, "little"))
    file = ProgramFile(Path("hostile"), program, header, memoryview(b""))
    loaded = LoadedProgram(file, program.entries[0])
    for n in (text["entries"][0]["symbols"][0]["example"], 0, 1, 3, 6, 12):
        try:
            if too_large(program, n):
                continue
            arrays = [
                np.ones([s if isinstance(s, int) else n for s in p.shape], p.dtype.numpy)
                for p in loaded.inputs
            ]
            given = [buffers.from_numpy(a) for a in arrays]
            loaded.version((n,)).program.run((n,), given)
        except (FormatError, ShapeError, IndexRangeError, IndexFailure, LinAlgError):
            pass
    return True


@contextmanager
def limited_memory() -> Iterator[None]:
    """A MemoryError, not a dead process, where sizes that a file only names are allocated."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def run_many(monkeypatch: pytest.MonkeyPatch, seeds: range) -> int:
    # As if the file stated what the op's rule gives.
    monkeypatch.setattr(graph_module._Build, "compare", lambda *_: None)
    accepted = 0
    with limited_memory():
        for seed in seeds:
            chance = random.Random(seed)
            text = hostile_call(OPS[seed % len(OPS)], chance)
            accepted += text is not None and run_hostile(text, seed)
    return accepted


def test_hostile_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_many(monkeypatch, range(200)) > 50


@pytest.mark.parametrize(
    ("name", "shapes", "attributes"),
    [
        ("adaptive_max_pool1d_with_indices", [(1, 2, 3)], {"output_size": HUGE}),
        ("adaptive_avg_pool1d", [(1, 2, 3)], {"output_size": HUGE}),
        ("diff", [(HUGE,), None, None], {"n": HUGE}),
        (
            "convolution_input",
            [(1, 1, 1), (1, 1, HUGE)],
            {"spatial": (HUGE,), "stride": (HUGE,), "low": (0,), "high": (0,), "dilation": (1,)}
            | {"groups": 1},
        ),
    ],
)
def test_no_number_unrolls_without_end(
    name: str, shapes: list[tuple[int, ...] | None], attributes: dict[str, Any]
) -> None:
    builder = Builder()
    operands = [builder.input(Spec(s, float32)) for s in shapes if s is not None]
    given = form(Sample(tuple(None if s is None else Draw(s) for s in shapes)))
    with limited_memory():
        try:
            found = builder.apply(registry[name], operands, attributes, given)
            outputs = list(found) if isinstance(found, tuple) else [found]
            decompose(Graph(operands, outputs))
        except ShapeError:
            pass


@pytest.mark.slow
def test_many_hostile_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_many(monkeypatch, range(200, 6200)) > 1500
