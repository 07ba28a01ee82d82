"""Ops that hold graphs: which graph is run, or how often, depends on a value.

They occur in exported programs (and nowhere else: eager code and `rb.jit` take the branch itself).
A graph inside is closed: it reads its inputs, which are operands of the op, and literals. `lower`
says what the op does, whoever runs the graphs: `run(graph, values)` gives a graph's outputs and
`holds(value)` the truth of a 0-d bool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from rabbet.base.dtypes import bool_
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.graph import interpret
from rabbet.graph.op import op
from rabbet.graph.value import Graph, Value

Run: TypeAlias = Callable[[Graph, list[Any]], list[Any]]
Holds: TypeAlias = Callable[[Any], bool]


def _check_condition(name: str, spec: Spec) -> None:
    if spec.dtype is not bool_ or spec.shape != ():
        raise DTypeError(f"{name}: the condition must be a 0-d bool, not {spec}")


def _check_taken(name: str, what: str, graph: Graph, given: Sequence[Spec]) -> None:
    taken = [v.spec for v in graph.inputs]
    if len(taken) != len(given):
        raise ShapeError(f"{name}: {what} takes {len(taken)} values, it is given {len(given)}")
    _check_same(name, f"what {what} takes", taken, given)


def _check_same(name: str, what: str, found: Sequence[Spec], wanted: Sequence[Spec]) -> None:
    if len(found) != len(wanted):
        raise ShapeError(f"{name}: {what} are {len(found)} values, not {len(wanted)}")
    for f, w in zip(found, wanted, strict=True):
        if f.dtype is not w.dtype or f.shape != w.shape:
            raise ShapeError(
                f"{name}: {what} is {f.dtype.name}{show(f.shape)}, not {w.dtype.name}"
                f"{show(w.shape)}"
            )


def _cond_spec(pred: Spec, operands: list[Spec], then: Graph, orelse: Graph) -> tuple[Spec, ...]:
    _check_condition("cond", pred)
    _check_taken("cond", "the graph for true", then, operands)
    _check_taken("cond", "the graph for false", orelse, operands)
    made = tuple(v.spec for v in then.outputs)
    if not made:
        raise ShapeError("cond: a branch must give at least one value")
    _check_same("cond", "the results for false", [v.spec for v in orelse.outputs], made)
    return made


def _run_cond(
    run: Run, holds: Holds, pred: Any, operands: list[Any], then: Graph, orelse: Graph
) -> list[Any]:
    return run(then if holds(pred) else orelse, operands)


def _reference_cond(*arguments: Any) -> list[Any]:
    return _run_cond(interpret.run, bool, *arguments)


@op(
    "control",
    infer=_cond_spec,
    lower=_run_cond,
    reference=_reference_cond,
    public=False,
    method=None,
    holds_halves=True,
    onnx="If",
)
def cond(pred: Value, operands: Sequence[Value], then: Graph, orelse: Graph) -> tuple[Value, ...]:
    """The outputs of `then` on the operands where `pred` (a 0-d bool) is true, else of `orelse`."""
    raise NotImplementedError


def _loop_spec(state: list[Spec], given: list[Spec], test: Graph, body: Graph) -> tuple[Spec, ...]:
    if not state:
        raise ShapeError("while_loop: there must be at least one value that changes")
    for what, graph in (("the test", test), ("the body", body)):
        _check_taken("while_loop", what, graph, [*state, *given])
    if len(test.outputs) != 1:
        raise ShapeError(f"while_loop: the test gives {len(test.outputs)} values, not 1")
    _check_condition("while_loop", test.outputs[0].spec)
    _check_same("while_loop", "what the body gives", [v.spec for v in body.outputs], state)
    return tuple(state)


def _run_loop(
    run: Run, holds: Holds, state: list[Any], given: list[Any], test: Graph, body: Graph
) -> list[Any]:
    while holds(run(test, [*state, *given])[0]):
        state = run(body, [*state, *given])
    return state


def _reference_loop(*arguments: Any) -> list[Any]:
    return _run_loop(interpret.run, bool, *arguments)


@op(
    "control",
    infer=_loop_spec,
    lower=_run_loop,
    reference=_reference_loop,
    public=False,
    method=None,
    holds_halves=True,
    onnx="Loop",
)
def while_loop(
    state: Sequence[Value], given: Sequence[Value], test: Graph, body: Graph
) -> tuple[Value, ...]:
    """`state` after as many runs of `body` (state and given -> state) as `test` (the same -> a 0-d
    bool) allows.
    """
    raise NotImplementedError
