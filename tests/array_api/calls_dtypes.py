"""Random calls of the functions of dtypes, conversions to Python's numbers, attributes."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from tests.array_api.arguments import Draw
from tests.array_api.calls import Call, DType, Maker, applied
from tests.array_api.draws import ALL, FLOATS, INTEGERS


def _result_type(d: Draw) -> Call:
    kinds = d.dtypes(d.integer(1, 4), ALL)
    given: list[Any] = [DType(k) if d.boolean() else d.numbers(k, d.shape(0, 1)) for k in kinds]
    if d.chance(0.3):
        given.insert(d.integer(0, len(given)), d.scalar(kinds[0]))
    return Call(lambda xp, *a: str(xp.result_type(*a)).split(".")[-1], tuple(given))


def _can_cast(d: Draw) -> Call:
    given, to = d.dtypes(2, ALL)  # of other pairs the table says nothing
    if np.dtype(given).kind != np.dtype(to).kind:
        to = given
    return Call("can_cast", (d.pick(DType(given), d.numbers(given, d.shape())), DType(to)))


def _isdtype(d: Draw) -> Call:
    words = ("bool", "signed integer", "unsigned integer", "integral", "real floating")
    words += ("complex floating", "numeric")
    options = [d.pick(*words), DType(d.pick(*ALL))]
    kind = d.pick(*options, tuple(options), (), "number")
    return Call("isdtype", (DType(d.pick(*ALL)), kind))


def _limits(name: str) -> Maker:
    fields = ("bits", "max", "min") + (("eps", "smallest_normal") if name == "finfo" else ())

    def limits(xp: Any, x: Any) -> Any:
        found = getattr(xp, name)(x)
        return (*(getattr(found, f) for f in fields), str(found.dtype).split(".")[-1])

    limits.__name__ = name

    def made(d: Draw) -> Call:
        kind = d.pick(*(ALL if d.chance(d.wrong) else FLOATS if name == "finfo" else INTEGERS))
        return Call(limits, (d.pick(DType(kind), d.numbers(kind, d.shape(0, 1))),))

    return made


def _converted(d: Draw) -> Call:
    x = d.array(shape=() if d.chance(0.85) else (d.integer(2, 3), d.integer(1, 3)))
    return Call(applied(d.pick(bool, int, float, complex, operator.index)), (x,))


def _attribute(d: Draw) -> Call:
    name = d.pick("T", "mT", "ndim", "shape", "size")
    x = d.array(shape=(2, 3) if d.chance(0.3) else None)
    return Call(lambda xp, x: getattr(x, name), (x,))


DTYPES: dict[str, Maker] = {
    "result_type": _result_type,
    "can_cast": _can_cast,
    "isdtype": _isdtype,
    "finfo": _limits("finfo"),
    "iinfo": _limits("iinfo"),
    "conversions": _converted,
    "attributes": _attribute,
}
