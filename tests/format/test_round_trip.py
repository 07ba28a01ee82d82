"""Every op goes through a file: out, in, and the same bits; files follow the documented layout."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.errors import FormatError
from rabbet.export import export, layout, load_program
from rabbet.graph.op import Op
from rabbet.graph.sample import arrays
from rabbet.graph.value import registry
from rabbet.recorder import record
from tests.format import mutate

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


def test_complex_literals(file: Path) -> None:
    """Exact parts, also in bodies and attributes; version 3 is written for them alone."""
    odd = complex(float("nan"), -0.0)

    def f(z: Any, x: Any) -> Any:
        z = rb.cond(x.sum() > 0, lambda z: z * (0.1 - 2j), lambda z: z + odd, z)
        return z, x * complex(-0.0, 1e30), rb.full((2,), 3 - 1j, dtype=rb.complex128)

    def version(path: Path) -> int:
        found: int = struct.unpack_from("<I", path.read_bytes(), 8)[0]
        return found

    z = rb.tensor([1 + 1j, complex(-0.0, 2.5)], dtype=rb.complex64)
    program = load_program(export(f, (z, rb.ones(2)), file))
    for x in (rb.tensor([1.0, 2.0]), rb.tensor([-1.0, 0.5])):
        for found, wanted in zip(program(z, x), f(z, x), strict=True):
            assert found.dtype is wanted.dtype
            np.testing.assert_array_equal(found.numpy(), wanted.numpy())  # a NaN is a NaN
    assert version(file) == 3
    assert version(export(lambda x: x * 2, (rb.ones(2),), file)) == 1
    assert version(export(lambda z: rb.conj(z) * 2, (z,), file)) == 3
    assert version(export(lambda z: rb.conj(z), (z,), file)) == 1


def test_complex_literals_are_checked(file: Path) -> None:
    z = rb.tensor([1 + 1j])
    data = export(lambda z: z * 2j, (z,), file).read_bytes()
    graph, weights = mutate.parts(data)
    (call,) = graph["entries"][0]["calls"]
    (place,) = [i for i, o in enumerate(call["operands"]) if o[0] == "number"]

    def refused(version: int, value: Any, message: str) -> None:
        call["operands"][place][2] = value
        text = json.dumps(graph).encode()
        file.write_bytes(layout.make_header(text, len(weights), version) + text)
        data = file.read_bytes()
        file.write_bytes(data + bytes(layout.aligned(len(data)) - len(data)) + weights)
        with pytest.raises(FormatError, match=message):
            load_program(file)

    good = {"complex": [0.0, 2.0]}
    refused(2, good, "needs version 3, not 2")
    refused(3, {"complex": [0.0, 2]}, "two floats")
    refused(3, {"complex": [0.0]}, "two floats")
    refused(3, {"complex": [0.0, {"complex": [0.0, 0.0]}]}, "two floats")
    refused(3, {"complex": 1.0}, "a list is needed")
    refused(3, {"complex": [0.0, 0.0], "float": "nan"}, "the key 'complex' is unknown")
    refused(3, 1.0, "is no complex")
    call["operands"][place][1] = "float32"
    refused(3, good, "is no float32")
