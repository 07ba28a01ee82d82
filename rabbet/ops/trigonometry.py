"""Elementwise trigonometric and hyperbolic functions. Integers become floats first."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.graph.op import op
from rabbet.graph.sample import Draw
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import add, divide, multiply, negative, square, subtract
from rabbet.ops.float_functions import rsqrt
from rabbet.ops.rules import FLOATING, binary_samples, broadcast, row, unary_samples, wide


@op(
    "elementwise",
    promote="float",
    infer=broadcast("sin", FLOATING),
    lower=row("sin"),
    reference=wide(np.sin),
    samples=unary_samples(-4, 4),
    onnx="Sin",
)
def sin(x: Value) -> Value:
    """Sine; x in radians.

    >>> rb.sin(rb.asarray([0.0]))
    tensor([0.])
    """


@sin.gradient
def _sin_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, cos(x)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("cos", FLOATING),
    lower=row("cos"),
    reference=wide(np.cos),
    samples=unary_samples(-4, 4),
    onnx="Cos",
)
def cos(x: Value) -> Value:
    """Cosine; x in radians.

    >>> rb.cos(rb.asarray([0.0]))
    tensor([1.])
    """


@cos.gradient
def _cos_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (negative(multiply(g, sin(x))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("tan", FLOATING),
    lower=row("tan"),
    reference=wide(np.tan),
    samples=unary_samples(-1.2, 1.2),
    onnx="Tan",
)
def tan(x: Value) -> Value:
    """Tangent; x in radians.

    >>> rb.tan(rb.asarray([0.0]))
    tensor([0.])
    """


@tan.gradient
def _tan_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, add(square(y), 1.0)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("asin", FLOATING),
    lower=row("asin"),
    reference=wide(np.arcsin),
    samples=unary_samples(-0.9, 0.9),
    onnx="Asin",
)
def asin(x: Value) -> Value:
    """Inverse sine.

    >>> rb.asin(rb.asarray([0.0]))
    tensor([0.])
    """


@asin.gradient
def _asin_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, rsqrt(subtract(1.0, square(x)))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("acos", FLOATING),
    lower=row("acos"),
    reference=wide(np.arccos),
    samples=unary_samples(-0.9, 0.9),
    onnx="Acos",
)
def acos(x: Value) -> Value:
    """Inverse cosine.

    >>> rb.acos(rb.asarray([1.0]))
    tensor([0.])
    """


@acos.gradient
def _acos_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (negative(multiply(g, rsqrt(subtract(1.0, square(x))))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("atan", FLOATING),
    lower=row("atan"),
    reference=wide(np.arctan),
    samples=unary_samples(),
    onnx="Atan",
)
def atan(x: Value) -> Value:
    """Inverse tangent.

    >>> rb.atan(rb.asarray([0.0, 1.0]))
    tensor([0.       , 0.7853982])
    """


@atan.gradient
def _atan_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (divide(g, add(square(x), 1.0)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("sinh", FLOATING),
    lower=row("sinh"),
    reference=wide(np.sinh),
    samples=unary_samples(),
    onnx="Sinh",
)
def sinh(x: Value) -> Value:
    """Hyperbolic sine.

    >>> rb.sinh(rb.asarray([0.0]))
    tensor([0.])
    """


@sinh.gradient
def _sinh_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, cosh(x)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("cosh", FLOATING),
    lower=row("cosh"),
    reference=wide(np.cosh),
    samples=unary_samples(),
    onnx="Cosh",
)
def cosh(x: Value) -> Value:
    """Hyperbolic cosine.

    >>> rb.cosh(rb.asarray([0.0]))
    tensor([1.])
    """


@cosh.gradient
def _cosh_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, sinh(x)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("tanh", FLOATING),
    lower=row("tanh"),
    reference=wide(np.tanh),
    samples=unary_samples(),
    onnx="Tanh",
)
def tanh(x: Value) -> Value:
    """Hyperbolic tangent.

    >>> rb.tanh(rb.asarray([0.0, 100.0]))
    tensor([0., 1.])
    """


@tanh.gradient
def _tanh_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, subtract(1.0, square(y))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("asinh", FLOATING),
    lower=row("asinh"),
    reference=wide(np.arcsinh),
    samples=unary_samples(),
    onnx="Asinh",
)
def asinh(x: Value) -> Value:
    """Inverse hyperbolic sine.

    >>> rb.asinh(rb.asarray([0.0]))
    tensor([0.])
    """


@asinh.gradient
def _asinh_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, rsqrt(add(square(x), 1.0))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("acosh", FLOATING),
    lower=row("acosh"),
    reference=wide(np.arccosh),
    samples=unary_samples(1.3, 4),
    onnx="Acosh",
)
def acosh(x: Value) -> Value:
    """Inverse hyperbolic cosine.

    >>> rb.acosh(rb.asarray([1.0]))
    tensor([0.])
    """


@acosh.gradient
def _acosh_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    # Two roots: the square of a complex number forgets on which side of the cut it lies.
    return (multiply(g, multiply(rsqrt(subtract(x, 1.0)), rsqrt(add(x, 1.0)))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("atanh", FLOATING),
    lower=row("atanh"),
    reference=wide(np.arctanh),
    samples=unary_samples(-0.8, 0.8),
    onnx="Atanh",
)
def atanh(x: Value) -> Value:
    """Inverse hyperbolic tangent.

    >>> rb.atanh(rb.asarray([0.0]))
    tensor([0.])
    """


@atanh.gradient
def _atanh_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (divide(g, subtract(1.0, square(x))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("atan2", FLOATING),
    lower=row("atan2"),
    reference=wide(np.arctan2),
    samples=binary_samples(Draw((), 0.3, 2)),
)
def atan2(x1: Value, x2: Value) -> Value:
    """Angle of the point (x2, x1): the inverse tangent of x1 / x2 in its quadrant.

    >>> rb.atan2(rb.asarray([0.0, 1.0]), rb.asarray([1.0, 0.0]))
    tensor([0.       , 1.5707964])
    """


@atan2.gradient
def _atan2_gradient(g: Any, y: Any, x1: Any, x2: Any) -> tuple[Any, Any]:
    scale = divide(g, add(square(x1), square(x2)))
    return multiply(scale, x2), negative(multiply(scale, x1))
