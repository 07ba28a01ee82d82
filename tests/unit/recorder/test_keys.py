"""Keys: one canonical encoding of a segment's structure, without sizes."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rabbet.base import dtypes
from rabbet.recorder import Handle, Segment, current, offset_node, record


def segment_of(build: Callable[[], Any]) -> Segment:
    """The segment that `build` records; what it returns stays alive until then."""
    current().take()
    alive = build()
    segment = current().take()
    assert alive is not None
    return segment


def test_the_encoding_byte_by_byte(world: Any) -> None:
    x, w = world.leaf(2, 3), world.leaf(3, grad=True)
    result = world.emit(world.negate, world.emit(world.add, x, w))
    key = current().key
    add, negate = (result._node.inputs[0][0].prepared.code, result._node.prepared.code)
    code = dtypes.float32.code
    expected = bytes([255, 0, code, 2, 0, 255, 0, code, 1, 1])
    expected += bytes([253]) + add + struct.pack("<B4i", 1, -1, 0, -2, 0)
    expected += bytes([253]) + negate + struct.pack("<B2i", 1, 0, 0)
    assert key == expected
    assert current().sizes == (2, 3, 3)
    assert current().take().key == expected and current().key == b""


def test_equal_structures_have_equal_keys_whatever_their_sizes(world: Any) -> None:
    def build(n: int) -> Segment:
        x = world.leaf(n, 4)
        return segment_of(lambda: world.emit(world.add, x, x, count=n))

    small, large = build(2), build(300)
    assert (small.sizes, large.sizes) == ((2, 4, 2), (300, 4, 300))
    assert len(small.leaves) == 1 and small.leaves[0].index == 0
    assert small.key == large.key


VARIANTS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "plain": lambda world, x, y: world.emit(world.add, x, y),
    "other op": lambda world, x, y: world.emit(world.negate, x),
    "same operand twice": lambda world, x, y: world.emit(world.add, x, x),
    "number": lambda world, x, y: world.emit(world.add, x, 2.0),
    "number first": lambda world, x, y: world.emit(world.add, 2.0, x),
    "attribute": lambda world, x, y: world.emit(world.add, x, y, axis="a"),
    "chain": lambda world, x, y: world.emit(world.negate, world.emit(world.add, x, y)),
    "chain of the other": lambda world, x, y: world.emit(world.add, world.emit(world.negate, x), y),
    "first output": lambda world, x, y: world.emit(world.negate, world.emit(world.split, x)[0]),
    "second output": lambda world, x, y: world.emit(world.negate, world.emit(world.split, x)[1]),
    "rank": lambda world, x, y: world.emit(world.add, world.leaf(2, 1), world.leaf(2, 1)),
    "dtype": lambda world, x, y: world.emit(
        world.add, world.leaf(2, dtype=dtypes.int8), world.leaf(2, dtype=dtypes.int8)
    ),
    "gradient": lambda world, x, y: world.emit(world.add, world.leaf(2, grad=True), y),
    "offset": lambda world, x, y: world.emit(
        world.add, x, Handle(offset_node(7, x._node.specs[0]))
    ),
}


def test_different_structures_have_different_keys(world: Any) -> None:
    keys = {}
    for name, build in VARIANTS.items():
        x, y = world.leaf(2), world.leaf(2)
        keys[name] = segment_of(lambda b=build, x=x, y=y: b(world, x, y)).key
    assert len(set(keys.values())) == len(VARIANTS)
    x, y = world.leaf(5), world.leaf(5)
    assert segment_of(lambda: VARIANTS["plain"](world, x, y)).key == keys["plain"]


def test_the_value_of_a_number_is_not_in_the_key(world: Any) -> None:
    x = world.leaf(2)
    two, three = (segment_of(lambda n=n: world.emit(world.add, x, n)) for n in (2.0, 3.0))
    assert two.key == three.key
    assert [leaf.node.number for leaf in two.leaves] == [None, 2.0]


def test_gradients_switched_off_are_in_the_key(world: Any) -> None:
    x = world.leaf(2, grad=True)
    on = segment_of(lambda: world.emit(world.negate, x))
    current().grad_enabled = False
    off = segment_of(lambda: world.emit(world.negate, x))
    assert on.nodes[0].requires_grad and not off.nodes[0].requires_grad and on.key != off.key


def test_a_node_that_became_a_leaf_is_in_the_key(world: Any) -> None:
    box = world.emit(world.negate, world.leaf(2))
    before = current().key
    current().reflag(box._node)
    assert current().key == before + struct.pack("<Bi", 254, 0)
    segment = current().take()
    current().reflag(box._node)  # no longer waits here
    assert current().key == b"" and segment.key.endswith(b"\xfe\0\0\0\0")


def test_many_operands(world: Any) -> None:
    boxes = [world.leaf(i) for i in range(20)]
    joined = record(world.add, boxes, {}, (22,))
    assert [n.specs[0].shape for n, _ in joined._node.inputs] == [(i,) for i in range(20)]
    assert current().sizes == tuple(range(20)) and len(current().leaves) == 20


def test_a_spec_that_no_key_holds_leaves_the_tape_unchanged(world: Any) -> None:
    good, bad = world.leaf(2), world.leaf(2)
    bad._node.specs = (type("Odd", (), {"dtype": dtypes.int8, "shape": (2**70,), "nbytes": 1})(),)
    world.emit(world.negate, good)
    before = (current().key, current().sizes, current().count, len(current().leaves))
    with pytest.raises(OverflowError):
        world.emit(world.add, world.leaf(3), bad)
    assert (current().key, current().sizes, current().count, len(current().leaves)) == before


PROGRAM = """
import numpy as np, rabbet as rb
from rabbet.recorder import current
x = rb.tensor([[1.0, 2.0]], requires_grad=True)
y = (x * 2.0 + x).sum()
y.backward()
print(current().key.hex(), current().sizes)
"""


def test_keys_are_the_same_in_every_process() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1 and len(outputs.pop()) > 100
