"""Damaged and hostile files: a FormatError that says why, or a program that runs; never a crash."""

import copy
import hashlib
import importlib.util
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rabbet.base.errors import FormatError, IndexRangeError, ShapeError
from rabbet.export import layout, load_program
from rabbet.export.encoding import decode
from rabbet.export.graph import build
from rabbet.export.portable import Portable
from rabbet.transform.decompose import decompose

_spec = importlib.util.spec_from_file_location("mutate", Path(__file__).parent / "mutate.py")
assert _spec is not None and _spec.loader is not None
mutate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mutate)

MOST_ELEMENTS = 10**6  # larger graphs are valid; running them here would only take time


def refused(data: bytes, file: Path) -> str:
    file.write_bytes(data)
    with pytest.raises(FormatError) as error:
        load_program(file)
    assert str(error.value).startswith(f"{file}: ")
    return str(error.value)


# ---- damage -------------------------------------------------------------------------------------


def test_every_truncation(program_bytes: bytes, file: Path) -> None:
    lengths = [*range(300), *range(300, len(program_bytes), 97), len(program_bytes) - 1]
    for length in lengths:
        refused(program_bytes[:length], file)
    assert "bytes, its header says" in refused(program_bytes + b"\0", file)


def test_flipped_bits(program_bytes: bytes, file: Path) -> None:
    header = layout.read_header(program_bytes[: layout.HEADER_BYTES], len(program_bytes))
    chance = random.Random(0)
    places = [*range(layout.HEADER_BYTES * 8)]
    places += [chance.randrange(header.weights_offset * 8) for _ in range(300)]
    for place in places:
        data = bytearray(program_bytes)
        data[place // 8] ^= 1 << place % 8
        refused(bytes(data), file)


def test_flipped_bits_in_weights(program_bytes: bytes, file: Path) -> None:
    data = bytearray(program_bytes)
    data[-1] ^= 1
    file.write_bytes(data)
    load_program(file)
    with pytest.raises(FormatError, match="weights are damaged"):
        load_program(file, verify=True)


def test_text_that_is_no_graph(program_bytes: bytes, file: Path) -> None:
    _, weights = mutate.parts(program_bytes)
    for text in (b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":1,"a":2}', b"NaN"):
        refused(mutate.assemble(text, weights), file)
    assert "names a key twice" in refused(mutate.assemble(b'{"a":1,"a":2}', weights), file)
    assert "not JSON" in refused(mutate.assemble(b"9" * 5000, weights), file)


def test_header_fields_with_right_hashes(program_bytes: bytes, file: Path) -> None:
    for at, size in ((8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8), (48, 8), (56, 8)):
        for value in (0, 1, 127, 1 << 31, (1 << 8 * size) - 1):
            data = bytearray(program_bytes)
            if data[at : at + size] == value.to_bytes(size, "little"):
                continue
            data[at : at + size] = value.to_bytes(size, "little")
            fields = bytes(data[:96])
            data[96:128] = hashlib.sha256(fields).digest()
            refused(bytes(data), file)


# ---- hostile graphs -----------------------------------------------------------------------------


def changed(program_bytes: bytes, path: tuple[Any, ...], value: Any) -> bytes:
    graph, weights = mutate.parts(program_bytes)
    mutate.at(graph, path[:-1])[path[-1]] = value
    return bytes(mutate.assemble(graph, weights))


def call_number(program_bytes: bytes, op: str) -> int:
    graph, _ = mutate.parts(program_bytes)
    return [c["op"] for c in graph["entries"][0]["calls"]].index(op)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "other", "'other' is not 'rabbet program'"),
        (("entries",), [], "entries: there is none"),
        (("weights", 0, "offset"), 64, "it starts at 64, not at 0"),
        (("weights", 0, "shape"), [1 << 40, 1 << 40], "at most 281474976710656 are allowed"),
        (("weights", 0, "shape"), [10, 9], "but its shape needs 360"),
        (("weights", 0, "dtype"), "float128", "'float128' is no dtype"),
        (("weights", 1, "name"), "embedding.weight", "the name is used twice"),
        (("entries", 0, "symbols", 0, "name"), "m", "sizes must be numbers or symbols"),
        (("entries", 0, "symbols", 0, "example"), -1, "-1 is not in 0 to"),
        (("entries", 0, "symbols", 0, "example"), 1 << 47, "elements; at most"),
        (("entries", 0, "guards"), [["<", ["//", "n", 0]]], "divides by zero"),
        (("entries", 0, "guards"), [["~", "n"]], "with one of == != < >="),
        (("entries", 0, "outputs", 0, "shape"), ["n", 7], "the file says float32[2, 7]"),
        (("entries", 0, "outputs", 0, "value"), ["call", 99999, 0], "there is no call 99999"),
        (("entries", 0, "structure"), ["tuple", [0, 0, 1]], "does not name each output once"),
        (("entries", 0, "calls", 0, "op"), "os.system", "this Rabbet has no such op"),
        (("entries", 0, "calls", 0, "op"), "_input", "this Rabbet has no such op"),
        (("entries", 0, "calls", 0, "since"), 99, "uses version 99 of this op"),
        (("entries", 0, "calls", 0, "operands"), [], "0 operands; the op takes 2"),
        (("entries", 0, "calls", 0, "operands", 0), ["call", 0, 0], "no call 0 before it"),
        (("entries", 0, "calls", 0, "attributes"), {}, "lacks the attribute 'padding_idx'"),
        (("entries", 0, "calls", 0, "attributes", "x"), 1, "has no attribute 'x'"),
        (("entries", 0, "calls", 0, "attributes", "padding_idx"), "a", "'a' is no int | None"),
        (("entries", 0, "calls", 0, "results", 0, 0), "float64", "the op gives float32"),
        (("entries", 0, "inputs", 1, "shape"), ["n"] * 17, "at most 16 are allowed"),
        (("entries", 0, "name"), "a" * 513, "513 characters"),
        (("entries", 0, "name"), "a\nb", "cannot be printed"),
    ],
)
def test_what_is_wrong_is_named(
    path: tuple[Any, ...], value: Any, message: str, program_bytes: bytes, file: Path
) -> None:
    assert message in refused(changed(program_bytes, path, value), file)


SLICE_SIZES = [
    {
        "start": [0, {"size": ["*", "t", 1000]}, 0],
        "stop": [2, {"size": ["+", ["*", "t", 1000], 4]}, 8],
    },
    {"start": [0, {"size": ["+", "t", -100]}, 0], "stop": [2, {"size": ["+", "t", -96]}, 8]},
    {"start": [0, {"size": ["+", "t", -4]}, 0], "stop": [2, {"size": ["+", "t", 0]}, 8]},
    {"start": [0, {"size": ["*", "t", -1]}, 0], "stop": [2, {"size": ["+", ["*", "t", -1], 4]}, 8]},
]


@pytest.mark.parametrize("attributes", SLICE_SIZES)
def test_symbolic_slices_outside_their_operand(
    attributes: dict[str, Any], program_bytes: bytes, file: Path
) -> None:
    """Rules of ops check numbers; sizes with symbols must be found out by the reader."""
    graph, weights = mutate.parts(program_bytes)
    entry = graph["entries"][0]
    number = call_number(program_bytes, "slice")
    shape = entry["calls"][number - 1]["results"][0][1]
    entry["calls"] = entry["calls"][: number + 1]
    call = entry["calls"][number]
    call["attributes"] = {**attributes, "step": [1, 1, 1]}
    call["attributes"]["stop"] = [{"size": "n"}, *attributes["stop"][1:]]
    call["results"] = [["float32", ["n", 4, 8]]]
    entry["outputs"] = [
        {"name": "o", "dtype": "float32", "shape": ["n", 4, 8], "value": ["call", number, 0]}
    ]
    entry["structure"] = 0
    assert shape == ["n", "t", 8]
    data = mutate.assemble(graph, weights)
    if attributes is not SLICE_SIZES[2]:  # t - 4 to t: inside at t = 6
        assert "reaches outside its operand" in refused(data, file)
        return
    file.write_bytes(data)
    program = load_program(file)
    assert program(*inputs(program, 2, 6)).shape == (2, 4, 8)
    with pytest.raises(ShapeError, match="reaches outside its operand"):
        program(*inputs(program, 2, 3))  # ... and outside at t = 3


# ---- random changes -----------------------------------------------------------------------------


def inputs(program: Any, n: int, t: int) -> list[np.ndarray]:
    sizes = {"n": n, "t": t}
    shapes = [[s if isinstance(s, int) else sizes[s] for s in p.shape] for p in program.inputs]
    return [np.ones(s, p.dtype.numpy) for s, p in zip(shapes, program.inputs, strict=True)]


def too_large(program: Portable, symbols: list[int]) -> bool:
    """More elements than a test should compute."""
    try:
        primitive, _ = decompose(build(program, program.entries[0], symbols, static=True).graph)
    except FormatError:
        return False
    shapes = [s.shape for call in primitive.calls() for s in call.specs]
    return max(float(np.prod(np.array(s, float))) for s in shapes) > MOST_ELEMENTS


def check_one(graph: Any, weights: bytes, file: Path, seed: int) -> bool:
    """True if a changed file is still a program."""
    file.write_bytes(mutate.assemble(mutate.mutate(graph, random.Random(seed)), weights))
    try:
        program = load_program(file)
    except FormatError:
        return False
    for n, t in ((2, 6), (1, 4), (3, 9)):
        symbols = [{"n": n, "t": t}.get(name, 3) for name in program.symbols]
        if too_large(program.file.program, symbols):
            continue
        try:
            program.run(inputs(program, n, t))
        except (
            ShapeError,
            IndexRangeError,
            KeyError,
        ):  # KeyError: a renamed symbol, our own lookup
            pass
    return True


def check_many(program_bytes: bytes, file: Path, seeds: Iterator[int]) -> int:
    graph, weights = mutate.parts(program_bytes)
    return sum(check_one(graph, weights, file, seed) for seed in seeds)


def test_random_changes(program_bytes: bytes, file: Path) -> None:
    assert check_many(program_bytes, file, iter(range(500))) > 3


@pytest.mark.slow
def test_many_random_changes(program_bytes: bytes, file: Path) -> None:
    assert check_many(program_bytes, file, iter(range(500, 10_500))) > 100


def test_the_changes_reach_every_part(program_bytes: bytes) -> None:
    """The mutations are no stronger than what they change: keys, types, numbers, order."""
    graph, _ = mutate.parts(program_bytes)
    before = copy.deepcopy(graph)
    texts = {json.dumps(mutate.mutate(graph, random.Random(s))) for s in range(200)}
    assert len(texts) > 150 and graph == before
    assert decode(json.dumps(graph).encode(), 1).entries[0].symbols == [("n", 2), ("t", 6)]


# ---- graphs inside graphs ------------------------------------------------------------------------

CALLS = ("entries", 0, "calls")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("bodies",), [], "0 bodies; the op has 2"),
        (("bodies", 0, "inputs"), [], "there is no input 0 before it"),
        (("bodies", 1, "results"), [], "what the body gives are 0 values"),
        (("bodies", 0, "results", 0), ["weight", 0], "there is no weight 0 before it"),
        (
            ("bodies", 0, "results", 0),
            ["number", "float32", 1.0],
            "the condition must be a 0-d bool",
        ),
        (("bodies", 0, "results", 0), ["call", 99999, 0], "there is no call 99999"),
        (("bodies", 0, "results", 0), ["number", 1], "2 parts are not right for 'number'"),
        (("bodies", 0, "x"), 1, "the key 'x' is unknown"),
        (("bodies", 0, "calls", 0, "op"), "os.system", "this Rabbet has no such op"),
        (("bodies", 0, "inputs", 0, 0), "float64", "is float64"),
        (("operands",), [], "its form counts"),
        (("results",), [], "0 results, the op gives"),
        (("form",), [2, 2], "its form counts 0"),
    ],
)
def test_what_is_wrong_in_a_body_is_named(
    path: tuple[Any, ...], value: Any, message: str, control_bytes: bytes, file: Path
) -> None:
    number = call_number(control_bytes, "while_loop")
    assert message in refused(changed(control_bytes, (*CALLS, number, *path), value), file)


def test_bodies_lie_only_so_deep(control_bytes: bytes, file: Path) -> None:
    graph, weights = mutate.parts(control_bytes)
    call = graph["entries"][0]["calls"][call_number(control_bytes, "while_loop")]
    outer = copy.deepcopy(call)
    for _ in range(layout.MAX_NESTING + 1):
        inner, outer = outer, copy.deepcopy(call)
        outer["bodies"][0]["calls"] = [inner]
    graph["entries"][0]["calls"] = [outer]
    assert "deep" in refused(mutate.assemble(graph, weights), file)


def test_random_changes_of_bodies(control_bytes: bytes, file: Path) -> None:
    """Changed files are refused or load; they are not run, for a loop may go on for ever."""
    graph, weights = mutate.parts(control_bytes)
    kept = 0
    for seed in range(300):
        file.write_bytes(mutate.assemble(mutate.mutate(graph, random.Random(seed)), weights))
        try:
            load_program(file)
            kept += 1
        except FormatError:
            pass
    assert 0 < kept < 150
