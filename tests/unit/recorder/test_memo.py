"""What `prepare` answered is remembered, exactly."""

from enum import IntEnum
from typing import Any

import numpy as np
import pytest

from rabbet import recorder
from rabbet.base import dtypes
from rabbet.base.spec import Spec
from rabbet.recorder import Handle, Operator, current, record


def test_equal_calls_are_prepared_once(world: Any) -> None:
    for _ in range(3):
        world.emit(world.add, world.leaf(2), world.leaf(2), axis=(1, "a", None, 2.5))
    assert len(world.prepared) == 1 and recorder.memo_size() == 1


DIFFERENT = [
    *(0, 1, 2, -1, 2**40, 2**63, 2**64, -(2**63) - 1, True, False, None),
    *(0.0, -0.0, 1.0, 5e-324, float("inf"), "", "1", "a", "ab", (), (1,), (1.0,), (True,)),
    *((1, 2), ((1,), 2), (1, (2,)), ("a", "b"), ("ab",), [], [1], (0.0,), (-0.0,)),
    *(dtypes.float32, dtypes.float64, np.float64(1.0), IntEnum("Side", "LEFT").LEFT),
]


def test_attributes_are_told_apart_by_type_and_bits(world: Any) -> None:
    x = world.leaf(2)
    seen = []
    for value in DIFFERENT * 2:
        record(world.add, (x,), {"value": value}, ())
        seen.append(current().nodes[-1].prepared)
    assert len(world.prepared) == len(DIFFERENT)
    assert len({id(p) for p in seen}) == len(DIFFERENT)
    assert [id(p) for p in seen[: len(DIFFERENT)]] == [id(p) for p in seen[len(DIFFERENT) :]]


def test_a_nan_is_itself(world: Any) -> None:
    x = world.leaf(2)
    for value in (float("nan"), float("nan")):
        record(world.add, (x,), {"value": value}, ())
    assert len(world.prepared) == 1


def test_op_operands_names_and_form_are_told_apart(world: Any) -> None:
    x, y = world.leaf(2), world.leaf(3)
    calls: list[tuple[Any, tuple, dict, tuple]] = [
        (world.add, (x, x), {}, ()),
        (world.negate, (x, x), {}, ()),
        (world.add, (x,), {}, ()),
        (world.add, (x, y), {}, ()),
        (world.add, (y, x), {}, ()),
        (world.add, (x, 1), {}, ()),
        (world.add, (x, 1.0), {}, ()),
        (world.add, (x, True), {}, ()),
        (world.add, (x, x), {}, (4,)),
        (world.add, (x, x), {}, (1, 1)),
        (world.add, (x, x), {"a": 1}, ()),
        (world.add, (x, x), {"b": 1}, ()),
        (world.add, (x, x), {"a": 1, "b": 1}, ()),
        (world.add, (world.leaf(2, dtype=dtypes.int32),), {}, ()),
    ]
    for _ in range(2):
        for call in calls:
            record(*call)
    assert len(world.prepared) == len(calls)


def test_a_list_changed_in_place_is_another_attribute(world: Any) -> None:
    values = [1, 2]
    for _ in range(2):
        record(world.add, (world.leaf(2),), {"values": values}, ())
        values.append(3)
    assert len(world.prepared) == 2


def test_equal_specs_need_not_be_the_same_object(world: Any) -> None:
    specs = [Spec((2, 3), dtypes.float32) for _ in range(3)]
    assert specs[0] is not specs[1]
    for spec in specs * 2:
        world.emit(world.negate, world.Box(recorder.leaf_node(spec, "data")))
    assert len(world.prepared) == 1


def test_what_prepare_raises_leaves_the_tape_unchanged(world: Any) -> None:
    x = world.leaf(2)
    world.emit(world.negate, x)
    before = (current().key, current().sizes, current().count)
    world.error = ValueError("shapes do not fit")
    for _ in range(2):  # an error is not remembered
        with pytest.raises(ValueError, match="do not fit"):
            world.emit(world.add, x, world.leaf(3))
    assert (current().key, current().sizes, current().count) == before
    world.error = None
    assert world.emit(world.add, x, world.leaf(3))._node.specs[0].shape == (2,)


def test_prepare_must_answer_with_a_fitting_prepared(world: Any) -> None:
    good = world.prepare(world.add, (world.leaf(2),), {}, ())
    for answer, error in ((None, TypeError), (good, ValueError)):
        world.prepare = lambda *_, answer=answer: answer
        recorder.configure(
            prepare=world.prepare, handle=world.Box, flush=world.flush, cast=world.cast, eager=False
        )
        with pytest.raises(error):
            world.emit(world.add, world.leaf(2), world.leaf(2))
    assert current().count == 0


@pytest.mark.parametrize(
    "change",
    [{"code": b"short"}, {"casts": ()}, {"visible": 2}, {"visible": 0}, {"differentiable": ()}],
)
def test_prepared_is_checked(world: Any, change: dict[str, Any]) -> None:
    good = world.prepare(world.add, (world.leaf(2),), {}, ())
    names = ("dtypes", "specs", "code", "sizes", "visible", "differentiable", "casts")
    with pytest.raises(ValueError):
        recorder.Prepared(**{**{name: getattr(good, name) for name in names}, **change})


def test_clearing_forgets_and_nodes_live_on(world: Any) -> None:
    box = world.emit(world.negate, world.leaf(2))
    assert recorder.memo_size() > 0
    recorder.clear_memo()
    assert recorder.memo_size() == 0 and box._node.prepared.visible == 1
    world.emit(world.negate, world.leaf(2))
    assert len(world.prepared) == 2


def test_many_entries(world: Any) -> None:
    x = world.leaf(2)
    for _ in range(2):
        for i in range(5000):
            record(world.add, (x,), {"i": i}, ())
        current().take()
    assert len(world.prepared) == 5000


def test_bad_calls_are_refused(world: Any) -> None:
    x = world.leaf(2)
    for arguments in ((world.add, (x,), {}), (world.add, (x,), [], ()), (world.add, 3, {}, ())):
        with pytest.raises(TypeError):
            record(*arguments)
    with pytest.raises(TypeError, match="must be a subclass of Handle"):
        recorder.configure(
            prepare=world.prepare, handle=int, flush=world.flush, cast=world.cast, eager=False
        )


def test_operators_record_as_record_does(world: Any) -> None:
    class Number(world.Box):
        __slots__ = ()
        __add__ = Operator(world.add, 2)
        __radd__ = Operator(world.add, 2, True)
        __neg__ = Operator(world.negate, 1)
        __mul__ = Operator(world.add, 2, False, lambda v: x if v == "x" else NotImplemented)

    x = world.leaf(2)
    n = Number(world.leaf(2)._node)
    inputs = [
        [node for node, _ in made._node.inputs] for made in (n + x, -n, n * "x", n.__add__(x))
    ]
    assert inputs == [[n._node, x._node], [n._node], [n._node, x._node], [n._node, x._node]]
    number, own = ((2.0 + n)._node.inputs[0][0], (2.0 + n)._node.inputs[1][0])
    assert number.number == 2.0 and own is n._node
    assert [type(i[0].number) for i in (n + True)._node.inputs] == [type(None), bool]
    site = (n + x)._node.site
    assert site[0] is test_operators_record_as_record_does.__code__
    for wrong in (
        lambda: n + "x",
        lambda: n * "y",
        lambda: Number.__neg__(3),
        lambda: n.__neg__(n),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_operands_are_converted_where_the_op_wants_it(world: Any) -> None:
    x = world.leaf(2)
    box = world.emit(world.double, x)
    [(cast, _)] = box._node.inputs
    assert cast.op is world.cast and cast.attrs == {"dtype": dtypes.float64}
    assert cast.inputs == ((x._node, 0),) and cast.sequence < box._node.sequence
    assert isinstance(box, Handle) and cast.handles == (0,)
