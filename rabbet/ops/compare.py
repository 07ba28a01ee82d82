"""Elementwise comparisons, logic, tests of floats, and `where`."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base import shapes
from rabbet.base.dtypes import bool_
from rabbet.base.spec import Spec
from rabbet.expr.expr import Expr, call, cast, const, make, select
from rabbet.graph.op import op
from rabbet.graph.sample import ALL, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.rules import (
    FLOATING,
    NUMBERS,
    binary_samples,
    broadcast,
    ordered,
    predicate,
    unary_samples,
)

_SOME_EQUAL = binary_samples(Draw((), -1, 1, "int", dtype="int64"), dtypes=("int64",))


def _compared() -> list[Sample]:
    return [*binary_samples(dtypes=ALL)(), *_SOME_EQUAL()]


def _swapped(name: str) -> Any:
    return lambda x, y: make(name, (ordered(y), ordered(x)), bool_)


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("equal", result=bool_),
    lower=predicate("eq"),
    reference=np.equal,
    samples=_compared,
    onnx="Equal",
)
def equal(x1: Value, x2: Value) -> Value:
    """Where both are equal; NaN equals nothing.

    >>> rb.asarray([1, 2]) == rb.asarray([1, 3])
    tensor([ True, False])
    """


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("not_equal", result=bool_),
    lower=predicate("ne"),
    reference=np.not_equal,
    samples=_compared,
)
def not_equal(x1: Value, x2: Value) -> Value:
    """Where both differ.

    >>> rb.asarray([1, 2]) != 2
    tensor([ True, False])
    """


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("less", result=bool_),
    lower=predicate("lt"),
    reference=np.less,
    samples=_compared,
    onnx="Less",
)
def less(x1: Value, x2: Value) -> Value:
    """Where `x1 < x2`.

    >>> rb.asarray([1, 2]) < 2
    tensor([ True, False])
    """


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("less_equal", result=bool_),
    lower=predicate("le"),
    reference=np.less_equal,
    samples=_compared,
    onnx="LessOrEqual",
)
def less_equal(x1: Value, x2: Value) -> Value:
    """Where `x1 <= x2`.

    >>> rb.less_equal(rb.asarray([1, 2]), 1)
    tensor([ True, False])
    """


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("greater", result=bool_),
    lower=_swapped("lt"),
    reference=np.greater,
    samples=_compared,
    onnx="Greater",
)
def greater(x1: Value, x2: Value) -> Value:
    """Where `x1 > x2`.

    >>> rb.greater(rb.asarray([1, 2]), 1)
    tensor([False,  True])
    """


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("greater_equal", result=bool_),
    lower=_swapped("le"),
    reference=np.greater_equal,
    samples=_compared,
    onnx="GreaterOrEqual",
)
def greater_equal(x1: Value, x2: Value) -> Value:
    """Where `x1 >= x2`.

    >>> rb.greater_equal(rb.asarray([1, 2]), 2)
    tensor([False,  True])
    """


# ---- logic: numbers count as `!= 0` -----------------------------------------------------------


def _logic(name: str) -> Any:
    return lambda x, y: call(name, cast(x, bool_), cast(y, bool_))


@op(
    "elementwise",
    differentiable=False,
    infer=broadcast("logical_and", result=bool_),
    lower=_logic("and"),
    reference=np.logical_and,
    samples=binary_samples(Draw((), -1, 1), dtypes=ALL),
    onnx="And",
)
def logical_and(x1: Value, x2: Value) -> Value:
    """Where both are true (not zero).

    >>> rb.logical_and(rb.asarray([True, False]), True)
    tensor([ True, False])
    """


@op(
    "elementwise",
    differentiable=False,
    infer=broadcast("logical_or", result=bool_),
    lower=_logic("or"),
    reference=np.logical_or,
    samples=binary_samples(Draw((), -1, 1), dtypes=ALL),
    onnx="Or",
)
def logical_or(x1: Value, x2: Value) -> Value:
    """Where either is true (not zero).

    >>> rb.logical_or(rb.asarray([True, False]), False)
    tensor([ True, False])
    """


@op(
    "elementwise",
    differentiable=False,
    infer=broadcast("logical_xor", result=bool_),
    lower=_logic("xor"),
    reference=np.logical_xor,
    samples=binary_samples(Draw((), -1, 1), dtypes=ALL),
    onnx="Xor",
)
def logical_xor(x1: Value, x2: Value) -> Value:
    """Where exactly one is true (not zero).

    >>> rb.logical_xor(rb.asarray([True, False]), True)
    tensor([False,  True])
    """


@op(
    "elementwise",
    differentiable=False,
    infer=broadcast("logical_not", result=bool_),
    lower=lambda x: call("not", cast(x, bool_)),
    reference=np.logical_not,
    samples=unary_samples(-1, 1, dtypes=ALL),
    onnx="Not",
)
def logical_not(x: Value) -> Value:
    """Where `x` is false (zero).

    >>> rb.logical_not(rb.asarray([True, False]))
    tensor([False,  True])
    """


# ---- tests of floats --------------------------------------------------------------------------


def _magnitude_against_infinity(name: str) -> Any:
    def lower(x: Expr) -> Expr:
        if not x.dtype.is_float:
            return const(name == "lt", bool_)
        return make(name, (call("abs", x), const(float("inf"), x.dtype)), bool_)

    return lower


def _float_tests() -> list[Sample]:
    return unary_samples(dtypes=("int32", "uint8", "float32", "float64"))()


@op(
    "elementwise",
    differentiable=False,
    infer=broadcast("isnan", NUMBERS, bool_),
    lower=lambda x: x.differs(x),
    reference=np.isnan,
    samples=_float_tests,
    onnx="IsNaN",
)
def isnan(x: Value) -> Value:
    """Where `x` is not a number.

    >>> rb.isnan(rb.asarray([1.0, float("nan")]))
    tensor([False,  True])
    """


@op(
    "elementwise",
    differentiable=False,
    infer=broadcast("isinf", NUMBERS, bool_),
    lower=_magnitude_against_infinity("eq"),
    reference=np.isinf,
    samples=_float_tests,
    onnx="IsInf",
)
def isinf(x: Value) -> Value:
    """Where `x` is an infinity of either sign.

    >>> rb.isinf(rb.asarray([1.0, -rb.inf]))
    tensor([False,  True])
    """


@op(
    "elementwise",
    differentiable=False,
    infer=broadcast("isfinite", NUMBERS, bool_),
    lower=_magnitude_against_infinity("lt"),
    reference=np.isfinite,
    samples=_float_tests,
)
def isfinite(x: Value) -> Value:
    """Where `x` is neither infinite nor NaN.

    >>> rb.isfinite(rb.asarray([1.0, rb.inf, rb.nan]))
    tensor([ True, False, False])
    """


@op(
    "elementwise",
    differentiable=False,
    infer=broadcast("signbit", FLOATING, bool_),
    lower=lambda x: make("signbit", (x,), bool_),
    reference=np.signbit,
    samples=unary_samples(),
)
def signbit(x: Value) -> Value:
    """Where the sign bit is set, zeros and NaN included.

    >>> rb.signbit(rb.asarray([-0.0, 1.0]))
    tensor([ True, False])
    """


# ---- where ------------------------------------------------------------------------------------


def _where_spec(condition: Spec, x1: Spec, x2: Spec) -> Spec:
    shape = shapes.broadcast("where", condition.shape, x1.shape, x2.shape)
    return x1.with_shape(shape)


def _where_samples() -> list[Sample]:
    cases = (
        *(((3, 4), (3, 4), (3, 4)), ((4,), (3, 1), ()), ((), (2,), (2,))),
        *(((0,), (1,), (0,)), ((2, 3), (), ()), ((1,), (1,), (1,))),
    )
    return [
        *(Sample((Draw(c, kind="bool"), Draw(s), Draw(t)), dtypes=ALL) for c, s, t in cases),
        Sample((Draw((3, 4), -1, 2, "int"), Draw((3, 4)), Draw((4,)))),
    ]


@op(
    "elementwise",
    holds_halves=True,
    promote="common",
    promote_from=1,
    infer=_where_spec,
    lower=lambda condition, x, y: select(cast(condition, bool_), x, y),
    reference=np.where,
    samples=_where_samples,
    onnx="Where",
)
def where(condition: Value, x1: Value, x2: Value) -> Value:
    """`x1` where the condition holds (is not zero), else `x2`. Example: `rb.where(x > 0, x, 0)`.

    >>> rb.where(rb.asarray([True, False]), 1.0, rb.asarray([5.0, 6.0]))
    tensor([1., 6.])
    """


@where.gradient
def _where_gradient(g: Any, y: Any, condition: Any, x1: Any, x2: Any) -> tuple[Any, Any, Any]:
    return None, where(condition, g, 0.0), where(condition, 0.0, g)
