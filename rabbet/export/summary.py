"""What there is to say about a program file: layers, parameters, operations, memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from rabbet.base import sizes
from rabbet.export.graph import Built, build, used_weights
from rabbet.export.loaded import LoadedProgram
from rabbet.export.portable import Entry, OpCall, Portable, Ref
from rabbet.graph.value import Call
from rabbet.transform.decompose import decompose


@dataclass
class LayerSummary:
    """The calls one module makes in a row: their ops, last result, weights and operations."""

    layer: str
    ops: list[str] = field(default_factory=list)
    result: str = ""
    parameters: int = 0
    flops: int = 0


@dataclass
class Summary:
    """An entry at its example sizes."""

    layers: list[LayerSummary]
    parameters: int
    buffers: int
    flops: int
    arena_bytes: int | None  # None where nothing is compiled (the reference engine)


def summarize(program: LoadedProgram) -> Summary:
    """The summary of a loaded program; it is compiled for the example sizes, not run."""
    file, entry = program.file.program, program.entry
    example = tuple(value for _, value in entry.symbols)
    built = build(file, entry, example)
    flops = _flops_of_calls(built, len(entry.calls))
    layers = _layers(file, entry, built, flops)
    weights = [file.weights[i] for i in used_weights(entry)]
    counts = {
        r: sum(math.prod(w.shape) for w in weights if w.role == r) for r in ("parameter", "buffer")
    }
    compiled: Any = program.version(example).program
    arena = compiled.bind(example).arena_bytes if hasattr(compiled, "bind") else None
    return Summary(layers, counts["parameter"], counts["buffer"], sum(flops), arena)


def _layers(file: Portable, entry: Entry, built: Built, flops: list[int]) -> list[LayerSummary]:
    found: list[LayerSummary] = []
    counted: set[int] = set()
    for number, call in enumerate(entry.calls):
        if not found or found[-1].layer != call.layer or not call.layer:
            found.append(LayerSummary(call.layer))
        layer = found[-1]
        layer.ops.append(call.op)
        layer.result = str(built.values[number][0].spec)
        layer.flops += flops[number]
        fresh = _weights_of(call) - counted
        counted |= fresh
        layer.parameters += sum(
            math.prod(file.weights[i].shape) for i in fresh if file.weights[i].role == "parameter"
        )
    return found


def _weights_of(call: OpCall) -> set[int]:
    return {o.number for o in call.operands if isinstance(o, Ref) and o.kind == "weight"}


def _flops_of_calls(built: Built, count: int) -> list[int]:
    """Floating-point operations of each call: those of the primitives it decomposes into."""
    found = [0] * count
    primitive, _ = decompose(built.graph)
    for call in primitive.calls():
        if isinstance(call.site, int) and 0 <= call.site < count:
            found[call.site] += flops_of(call)
    return found


def _flops_of_attention(call: Call) -> int:
    """Two products forward, five backward (scores are made again)."""
    total = call.specs[1] if call.op.lower == "forward" else call.inputs[1].spec
    _, key, value, _ = call.op.arrange(call.inputs, call.form)[-4:]
    pairs = sizes.hint(total.elements) * sizes.hint(key.shape[-2])
    features, values = sizes.hint(key.shape[-1]), sizes.hint(value.shape[-1])
    if call.op.lower == "forward":
        return 2 * pairs * (features + values)
    return 2 * pairs * (3 * features + 2 * values)


def flops_of(call: Call) -> int:
    """Operations of a primitive: 2 for a product summed, 1 for an element computed or reduced."""
    elements = sizes.hint(call.specs[0].elements)
    match call.op.kind:
        case "contract":
            summed = set(call.attrs["a_axes"]) - set(call.attrs["out_axes"])
            shape = dict(zip(call.attrs["a_axes"], call.inputs[0].shape, strict=True))
            return 2 * elements * math.prod(sizes.hint(shape[label]) for label in summed)
        case "elementwise":
            return elements if call.op.name != "cast" else 0
        case "reduce":
            return sizes.hint(call.inputs[0].spec.elements)
        case "scatter":
            return sizes.hint(call.inputs[-1].spec.elements) if call.op.name != "slice_set" else 0
        case "attention":
            return _flops_of_attention(call)
        case "sort":
            return elements * max(1, sizes.hint(call.specs[0].shape[-1]).bit_length())
    return 0
