"""save and load: round trips, hostile files, and files of others."""

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import rabbet as rb
from rabbet import nn, optim
from rabbet.base.errors import FormatError, RabbetError
from rabbet.data.files import STRUCTURE


def same(a: Any, b: Any) -> bool:
    """Equal trees, with tensors by dtype and bits."""
    if isinstance(a, rb.Tensor | np.ndarray):
        x, y = np.asarray(a), np.asarray(b)
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    tree = {
        "model": {"0.weight": rb.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))},
        "numbers": [1, -2.5, True, None, "text: \u00e9", math.inf, (2**60, 0.1)],
        7: np.zeros((0, 3), np.int8),
        "scalar": np.array(3, np.uint64),
        "a.b": np.array([True]),
        "a": {"b": np.array([False])},
        "empty": {},
        "half": np.array([1.5], ml_dtypes.bfloat16),
        "turned": np.arange(6).reshape(2, 3).T,
    }
    path = tmp_path / "tree.safetensors"
    rb.save(tree, path)
    found = rb.load(path)
    assert same(tree, found)
    assert isinstance(found[7], rb.Tensor)
    assert os.listdir(tmp_path) == ["tree.safetensors"]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats()
        | st.text()
        | st.sampled_from([np.float32([1, 2]), np.zeros((2, 0), np.int64), np.array(True)]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
            | st.tuples(inner, inner)
        ),
        max_leaves=8,
    )
)
def test_any_tree_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.mktemp("trees") / "t"
    rb.save(tree, path)
    assert same(tree, rb.load(path))


def test_a_state_dict_is_plain_safetensors_both_ways(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    rb.save(model.state_dict(), tmp_path / "own")
    plain = load_file(tmp_path / "own")
    assert sorted(plain) == ["bias", "weight"]
    assert np.array_equal(plain["weight"], model.weight.numpy())
    save_file({"weight": np.ones((3, 2), np.float32), "bias": plain["bias"]}, tmp_path / "theirs")
    found = rb.load(tmp_path / "theirs")
    model.load_state_dict(found)
    assert model.weight.tolist() == [[1.0, 1.0]] * 3


def test_model_and_optimizer_together(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.Adam(model.parameters())
    model(rb.ones((1, 2))).sum().backward()
    optimizer.step()
    rb.save([model.state_dict(), optimizer.state_dict()], tmp_path / "both")
    weights, state = rb.load(tmp_path / "both")
    assert same(weights, model.state_dict()) and same(state, optimizer.state_dict())


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (nn.Linear(1, 1), "a Linear is code and values"),
        ({"a": [nn.Linear(1, 1)]}, r"a Linear at 'a.0'.*state_dict\(\)"),
        ({"a": {1, 2}}, "cannot store set at 'a'"),
        ({"a": np.array(["text"])}, "'a' is <U4"),
        ({(1, 2): 3}, "a key of a dict is a tuple"),
        ({"z": np.zeros(2, np.complex128)}, "complex128, which files cannot hold"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, tree: Any, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"what was there")
    with pytest.raises(RabbetError, match=message):
        rb.save(tree, path)
    assert path.read_bytes() == b"what was there" and len(os.listdir(tmp_path)) == 1


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    rb.save({"a": 1}, path)

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        rb.save({"a": 2}, path)
    assert rb.load(path) == {"a": 1} and len(os.listdir(tmp_path)) == 1


def with_structure(text: str) -> bytes:
    """A file with one tensor and this text as its structure."""
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": {STRUCTURE: text}, "x": entry}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0\0\0"


def tree_of(tree: Any) -> str:
    return json.dumps({"version": 1, "tree": tree})


def header_of(entry: dict[str, Any], data: bytes = b"\0" * 4) -> bytes:
    header = json.dumps({"x": entry}).encode()
    return struct.pack("<Q", len(header)) + header + data


HOSTILE = {
    "empty": (b"", "no safetensors file"),
    "short": (b"\x10\0\0", "no safetensors file"),
    "huge header": (struct.pack("<Q", 2**62) + b"{}", "no safetensors file"),
    "no json": (struct.pack("<Q", 4) + b"oops", "no safetensors file"),
    "pickle": (b"\x80\x04\x95" + b"\0" * 64, "no safetensors file"),
    "cut off": (with_structure(tree_of(1))[:-2], "no safetensors file"),
    "outside": (
        header_of({"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}),
        "no safetensors file",
    ),
    "wrong size": (
        header_of({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}),
        "no safetensors file",
    ),
    "foreign dtype": (
        header_of({"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}),
        "x has the dtype F8_E4M3",
    ),
    "structure no json": (with_structure("{"), "not readable"),
    "structure a list": (with_structure("[]"), "a version and a tree"),
    "later version": (with_structure(json.dumps({"version": 9, "tree": 1})), "version 9"),
    "missing tensor": (with_structure(tree_of({"tensor": "y"})), "tensor 'y' that it does not"),
    "unknown kind": (with_structure(tree_of({"code": "import os"})), "unknown form"),
    "two kinds": (with_structure(tree_of({"list": [], "tuple": []})), "unknown form"),
    "tensor by number": (with_structure(tree_of({"tensor": 3})), "unknown form"),
    "float in words": (with_structure(tree_of({"float": "1e3"})), "unknown form"),
    "bad dict": (with_structure(tree_of({"dict": [["a"]]})), "bad item"),
    "key a list": (with_structure(tree_of({"dict": [[[1], 2]]})), "bad item"),
    "bare list": (with_structure(tree_of([1])), "unknown form"),
    "deep": (with_structure('{"list":[' * 5000 + "]}" * 5000), "not readable"),
    "deep tree": (
        with_structure('{"version":1,"tree":' + '{"list":[' * 900 + "]}" * 900 + "}"),
        "not readable",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE[name]
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as failure:
        rb.load(path)
    assert "hostile.safetensors" in str(failure.value)


@given(st.data())
def test_damaged_bytes_never_do_harm(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(with_structure(tree_of({"dict": [["x", {"tensor": "x"}]]})))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "f"
    path.write_bytes(content)
    try:
        rb.load(path)
    except FormatError:
        pass


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rb.load(tmp_path / "none")
