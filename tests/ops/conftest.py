"""Engines of the op matrix: each runs a graph another way, and all must agree with the references.

An engine is `(graph, inputs) -> outputs`. `takes(op)` says which ops it can run by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from rabbet.base.dtypes import int64
from rabbet.expr import interpret as scalars
from rabbet.expr.expr import Expr, const, load
from rabbet.expr.expr import var as variable
from rabbet.graph import interpret
from rabbet.graph.op import Op
from rabbet.graph.value import Call, Graph
from rabbet.runtime import buffers
from rabbet.runtime.program import compile_graph
from rabbet.transform.decompose import decompose

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Engine:
    """One way to run a graph."""

    name: str
    run: Callable[[Graph, Arrays], list[np.ndarray]]
    takes: Callable[[Op], bool]


def run_decomposed(graph: Graph, inputs: Arrays) -> list[np.ndarray]:
    """Composites through their bodies, primitives by their references."""
    return interpret.run(decompose(graph)[0], inputs)


def run_lowered(graph: Graph, inputs: Arrays) -> list[np.ndarray]:
    """One primitive call by the scalar expression or index map it lowers to, at every point."""
    call = graph.outputs[0].call
    shape = call.specs[0].shape
    points = np.indices(shape, np.int64).reshape(len(shape), int(np.prod(shape)))
    index = tuple(variable(i) for i in range(len(shape)))

    def leaf(e: Expr) -> np.ndarray:
        if e.op == "var":
            return points[e.value]
        assert e.op == "load", e
        x = (
            np.broadcast_to(inputs[e.value[0]], shape)
            if call.op.kind == "elementwise"
            else (inputs[e.value[0]])
        )
        return np.broadcast_to(x.reshape(-1), points.shape[1:])

    if call.op.kind == "movement":
        return [_moved(call, inputs[0], index, points).reshape(shape)]
    operands = [load(i, v.dtype, const(0, int64)) for i, v in enumerate(call.inputs)]
    if call.op.kind == "elementwise":
        expr = call.op.lower(*operands, **call.attrs)
    else:
        expr = call.op.lower(index, _literal, *operands, **call.attrs)
    assert expr.dtype is call.specs[0].dtype, (expr.dtype, call.specs[0].dtype)
    with np.errstate(all="ignore"):
        (found,) = scalars.evaluate((expr,), leaf)
    return [np.broadcast_to(found, points.shape[1:]).reshape(shape)]


def _literal(dim: int) -> Expr:
    return const(dim, int64)


def _moved(call: Call, x: np.ndarray, index: tuple[Expr, ...], points: np.ndarray) -> np.ndarray:
    below, valid = call.op.lower(index, _literal, call.inputs[0].spec, **call.attrs)
    roots = (*below, *(() if valid is None else (valid,)))
    found = scalars.evaluate(roots, lambda e: points[e.value])
    count = points.shape[1]
    found = [np.broadcast_to(f, (count,)) for f in found]
    inside = np.ones(count, bool) if valid is None else found[-1]
    places = tuple(f[inside] for f in found[: len(below)])
    result = np.full(count, call.attrs.get("fill", 0), x.dtype)
    result[inside] = x[places]
    return result


ENGINES = [
    Engine("decomposed", run_decomposed, lambda op: op.kind == "composite"),
    Engine(
        "lowered",
        run_lowered,
        lambda op: op.kind in ("elementwise", "movement", "source") and op.lower is not None,
    ),
]


def run_compiled(graph: Graph, inputs: Arrays) -> list[np.ndarray]:
    """Machine code for this computer, the whole graph compiled together."""
    program = compile_graph(graph, scope=None, fuse=True)
    given = [buffers.from_numpy(np.ascontiguousarray(a), copy=True) for a in inputs]
    found = program.run((), given)
    return [
        buffers.to_numpy(f, v.shape, v.dtype) for f, v in zip(found, graph.outputs, strict=True)
    ]


COMPILED = pytest.param(
    Engine("compiled", run_compiled, lambda op: True),
    id="compiled",
    marks=pytest.mark.slow,  # a few thousand kernels: minutes where none is in the cache
)


@pytest.fixture(params=[*ENGINES, COMPILED], ids=lambda e: e.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine in turn."""
    return request.param
