"""Every op goes through a file: out, in, and the same bits; files follow the documented layout."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.export import export, load_program
from rabbet.graph.op import Op
from rabbet.graph.sample import arrays
from rabbet.graph.value import registry
from rabbet.recorder import record

OPS = sorted((o for o in registry.values() if o.samples is not None), key=lambda o: o.name)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_op(op: Op, file: Path) -> None:
    assert op.samples is not None
    sample = next(iter(op.samples()))
    flat = [rb.asarray(a) for a in arrays(sample, sample.dtypes[0])]

    def function(home: Any, *tensors: Any) -> Any:
        rest = iter(tensors)
        given = [
            o if o is None else [next(rest) for _ in o] if isinstance(o, tuple) else next(rest)
            for o in sample.operands
        ]
        names = [p.name for p in op.operands]
        operands, attrs, form = op.bind((), dict(zip(names, given, strict=True)) | sample.attrs)
        return record(op, operands, attrs, form), home

    home = rb.zeros(1)  # a file has an input, even where the op has no operand
    program = load_program(export(function, (home, *flat), file), verify=True)
    found, wanted = program(home, *flat)[0], function(home, *flat)[0]
    for a, b in zip(*((t if isinstance(t, tuple) else (t,)) for t in (found, wanted)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_the_layout_as_documented(program_bytes: bytes, file: Path) -> None:
    """A reader of its own, written from docs/format.md alone."""
    data = program_bytes
    assert data[:8] == bytes.fromhex("89 52 42 54 0D 0A 1A 0A")
    version, header, at, length, zero, weights_at, weights_length, total = struct.unpack_from(
        "<IIQQQQQQ", data, 8
    )
    assert (version, header, at, zero, total) == (1, 128, 128, 0, len(data))
    graph_text = data[at : at + length]
    assert data[64:96] == hashlib.sha256(graph_text).digest()
    assert data[96:128] == hashlib.sha256(data[:96]).digest()
    assert weights_at == -(-(at + length) // 64) * 64 and not any(data[at + length : weights_at])
    assert weights_at + weights_length == total
    graph = json.loads(graph_text)
    assert graph["format"] == "rabbet program"
    assert graph["weights_sha256"] == hashlib.sha256(data[weights_at:]).hexdigest()
    file.write_bytes(data)
    program, end = load_program(file), 0
    for record_, weight in zip(graph["weights"], program.file.program.weights, strict=True):
        assert record_["offset"] == -(-end // 64) * 64
        end = record_["offset"] + record_["bytes"]
        start = weights_at + record_["offset"]
        array = np.frombuffer(data[start : start + record_["bytes"]], record_["dtype"])
        assert array.tobytes() == program.file.array(weight).tobytes()
    assert end == weights_length


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    rb.manual_seed(0)
    weight = rb.rand(3, 3)
    files = [
        export(lambda x: x @ weight, rb.zeros((2, 3)), tmp_path / f"{i}.rbt", {"x": {0: "n"}})
        for i in range(2)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
