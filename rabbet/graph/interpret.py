"""The graph interpreter: runs a Graph with NumPy, one op at a time, by the ops' own references.

It is slow and obvious: the meaning of every graph, and the oracle of every compiled result.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import to_half
from rabbet.base.errors import InternalError
from rabbet.base.shapes import show
from rabbet.base.sizes import SizeExpr
from rabbet.base.spec import Spec
from rabbet.graph.value import Attrs, Call, Graph, Value


def run(
    graph: Graph, inputs: Sequence[np.ndarray], symbols: Sequence[int] | None = None
) -> list[np.ndarray]:
    """The outputs of `graph` for `inputs` (in the order of graph.inputs).

    `symbols` are the values of symbolic sizes; without them they are read off the inputs' shapes.
    Raises InternalError where a reference gives another shape or dtype than the op's rule says, and
    whatever the references raise (IndexRangeError for an index outside its axis).
    """
    if len(inputs) != len(graph.inputs):
        raise InternalError(f"the graph has {len(graph.inputs)} inputs, {len(inputs)} were given")
    values = symbol_values(graph.inputs, inputs) if symbols is None else list(symbols)
    known: dict[tuple[int, int], np.ndarray] = {}
    for value, given in zip(graph.inputs, inputs, strict=True):
        known[id(value.call), value.index] = _checked("input", given, value.spec, values)
    for call in graph.calls():
        if (id(call), 0) in known:
            continue
        operands = [known[id(v.call), v.index] for v in call.inputs]
        evaluated = _control if call.op.kind == "control" else evaluate
        for index, found in enumerate(evaluated(call, operands, values)):
            known[id(call), index] = found
    return [known[id(v.call), v.index] for v in graph.outputs]


def evaluate(call: Call, operands: list[np.ndarray], symbols: list[int]) -> list[np.ndarray]:
    """All outputs of one Call."""
    op = call.op
    if op.reference is None:
        raise InternalError(f"{op.name}: an input of the graph is missing from graph.inputs")
    wide = [
        a.astype(np.float32) if v.dtype.is_half and not op.holds_halves else a
        for a, v in zip(operands, call.inputs, strict=True)
    ]
    named = op.arguments(wide, concrete(call.attrs, symbols), call.form)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN, as it should
        found = op.reference(*(named[p.name] for p in op.parameters))
    results = found if isinstance(found, tuple | list) else (found,)
    if len(results) != len(call.specs):
        raise InternalError(
            f"{op.name}: the reference gives {len(results)} results, not {len(call.specs)}"
        )
    return [_checked(op.name, r, s, symbols) for r, s in zip(results, call.specs, strict=True)]


def _control(call: Call, operands: list[np.ndarray], symbols: list[int]) -> list[np.ndarray]:
    """All outputs of a Call that holds graphs."""
    named = call.op.arguments(operands, call.attrs, call.form)
    arguments = [named[p.name] for p in call.op.parameters]
    found: list[np.ndarray] = call.op.lower(
        lambda graph, given: run(graph, given, symbols), lambda x: bool(x), *arguments
    )
    return found


def symbol_values(inputs: Sequence[Value], arrays: Sequence[np.ndarray]) -> list[int]:
    """The symbols of the inputs' sizes by the arrays at hand (others keep their hints)."""
    values: list[int] = []
    for value, given in zip(inputs, arrays, strict=True):
        for dim, extent in zip(value.shape, given.shape, strict=True):
            if not isinstance(dim, SizeExpr):
                continue
            values = values or list(dim.scope.hints)
            if len(dim.key) == 1 and dim.key[0][1] == 1 and len(dim.key[0][0]) == 1:
                atom = dim.key[0][0][0]
                if atom[0] == "symbol":
                    values[atom[2]] = extent
    return values


def concrete(attrs: Attrs, symbols: list[int]) -> Attrs:
    """Attributes with every symbolic size replaced by its value."""
    return {name: _concrete(value, symbols) for name, value in attrs.items()}


def _concrete(value: Any, symbols: list[int]) -> Any:
    if isinstance(value, tuple):
        return tuple(_concrete(v, symbols) for v in value)
    return value.evaluate(symbols) if isinstance(value, SizeExpr) else value


def _checked(name: str, result: Any, spec: Spec, symbols: list[int]) -> np.ndarray:
    found = np.asarray(result)
    wanted = tuple(sizes.evaluate(d, symbols) for d in spec.shape)
    if found.shape != wanted:
        raise InternalError(f"{name}: the reference gives {show(found.shape)}, not {show(wanted)}")
    if found.dtype == spec.dtype.numpy:
        return found
    if spec.dtype.is_half and found.dtype.kind == "f":
        return to_half(found, spec.dtype)
    if not (found.dtype.kind == spec.dtype.kind and spec.dtype.is_inexact):
        raise InternalError(f"{name}: the reference gives {found.dtype}, not {spec.dtype.name}")
    with np.errstate(all="ignore"):
        return found.astype(spec.dtype.numpy)  # references of float ops may compute in float64
