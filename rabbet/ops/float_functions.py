"""Elementwise functions of floats: powers, exponentials, logarithms, relu and sigmoid.

Integers become floats first. Trigonometry and special functions have files of their own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.expr.expr import call, const
from rabbet.graph.op import op
from rabbet.graph.sample import FLOATS, INTEGERS, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import abs_, add, divide, multiply, negative, sign, square, subtract
from rabbet.ops.compare import equal, greater, greater_equal, logical_and, not_equal, signbit, where
from rabbet.ops.complex import is_complex, real
from rabbet.ops.create import zeros_like
from rabbet.ops.rules import (
    FLOATING,
    NUMBERS,
    binary_samples,
    broadcast,
    row,
    unary_samples,
    wide,
)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))


def _power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return np.power(x.astype(np.float64), y.astype(np.float64))
    if x.dtype.kind == "c":
        return np.power(x.astype(np.complex128), y.astype(np.complex128))
    found = np.power(x, np.where(y < 0, 0, y).astype(x.dtype))
    reciprocal_ = np.where(x == 1, 1, np.where(x + (x.dtype.kind == "i") == 0, 1 - 2 * (y % 2), 0))
    return np.where(y < 0, reciprocal_, found).astype(x.dtype)


@op(
    "elementwise",
    promote="common",
    infer=broadcast("pow", NUMBERS),
    lower=row("pow"),
    reference=_power,
    samples=lambda: [
        *binary_samples(Draw((), 0.5, 3), Draw((), -2, 3), dtypes=(*INTEGERS, *FLOATS))(),
        Sample((Draw((3, 4), avoid=(0,)), Draw((4,), 0, 4, "int")), dtypes=("int64",)),
    ],
    onnx="Pow",
)
def pow_(x1: Value, x2: Value) -> Value:
    """`x1` to the power `x2`; a negative power of an integer is 0 unless the base is 1 or -1.

    >>> rb.asarray([2.0, 3.0]) ** 2
    tensor([4., 9.])
    """


@pow_.gradient
def _pow_gradient(g: Any, y: Any, x1: Any, x2: Any) -> tuple[Any, Any]:
    # d/dx1 at x2 = 0 is 0 even where x1 is 0; d/dx2 at x1 = 0 is 0 for x2 >= 0, as in PyTorch.
    exponent = where(equal(x2, 0), 1.0, x2)
    slope = where(equal(x2, 0), 0.0, multiply(x2, pow_(x1, subtract(exponent, 1.0))))
    is_zero = logical_and(equal(x1, 0), greater_equal(real(x2) if is_complex(x2) else x2, 0))
    logarithm = log(where(is_zero, 1.0, x1))
    return multiply(g, slope), where(is_zero, 0.0, multiply(multiply(g, y), logarithm))


@op(
    "elementwise",
    promote="float",
    infer=broadcast("sqrt", FLOATING),
    lower=row("sqrt"),
    reference=np.sqrt,
    samples=unary_samples(0.3, 4),
    onnx="Sqrt",
)
def sqrt(x: Value) -> Value:
    """Square root; NaN below 0.

    >>> rb.sqrt(rb.asarray([4.0, 9.0]))
    tensor([2., 3.])
    """


@sqrt.gradient
def _sqrt_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (divide(g, multiply(y, 2.0)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("rsqrt", FLOATING),
    lower=lambda x: const(1, x.dtype) / call("sqrt", x),
    reference=wide(lambda x: 1 / np.sqrt(x)),
    samples=unary_samples(0.3, 4),
)
def rsqrt(x: Value) -> Value:
    """1 / square root.

    >>> rb.rsqrt(rb.asarray([4.0]))
    tensor([0.5])
    """


@rsqrt.gradient
def _rsqrt_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(multiply(g, -0.5), multiply(y, square(y))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("exp", FLOATING),
    lower=row("exp"),
    reference=wide(np.exp),
    samples=unary_samples(),
    onnx="Exp",
)
def exp(x: Value) -> Value:
    """e to the power x.

    >>> rb.exp(rb.asarray([0.0]))
    tensor([1.])
    """


@exp.gradient
def _exp_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, y),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("exp2", FLOATING),
    lower=row("exp2"),
    reference=wide(np.exp2),
    samples=unary_samples(),
)
def exp2(x: Value) -> Value:
    """2 to the power x.

    >>> rb.exp2(rb.asarray([3.0]))
    tensor([8.])
    """


@exp2.gradient
def _exp2_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, multiply(y, math.log(2))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("expm1", FLOATING),
    lower=row("expm1"),
    reference=wide(np.expm1),
    samples=unary_samples(),
)
def expm1(x: Value) -> Value:
    """exp(x) - 1, exact near 0.

    >>> rb.expm1(rb.asarray([0.0]))
    tensor([0.])
    """


@expm1.gradient
def _expm1_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, add(y, 1.0)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("log", FLOATING),
    lower=row("log"),
    reference=wide(np.log),
    samples=unary_samples(0.3, 4),
    onnx="Log",
)
def log(x: Value) -> Value:
    """Natural logarithm.

    >>> rb.log(rb.asarray([1.0, 0.0]))
    tensor([  0., -inf])
    """


@log.gradient
def _log_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (divide(g, x),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("log1p", FLOATING),
    lower=row("log1p"),
    reference=wide(np.log1p),
    samples=unary_samples(-0.7, 3),
)
def log1p(x: Value) -> Value:
    """log(1 + x), exact near 0.

    >>> rb.log1p(rb.asarray([0.0]))
    tensor([0.])
    """


@log1p.gradient
def _log1p_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (divide(g, add(x, 1.0)),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("log2", FLOATING),
    lower=row("log2"),
    reference=wide(np.log2),
    samples=unary_samples(0.3, 4),
)
def log2(x: Value) -> Value:
    """Logarithm to base 2.

    >>> rb.log2(rb.asarray([8.0]))
    tensor([3.])
    """


@log2.gradient
def _log2_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (divide(g, multiply(x, math.log(2))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("log10", FLOATING),
    lower=row("log10"),
    reference=wide(np.log10),
    samples=unary_samples(0.3, 4),
)
def log10(x: Value) -> Value:
    """Logarithm to base 10.

    >>> rb.log10(rb.asarray([100.0]))
    tensor([2.])
    """


@log10.gradient
def _log10_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (divide(g, multiply(x, math.log(10))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("sigmoid", FLOATING),
    lower=row("sigmoid"),
    reference=wide(_sigmoid),
    samples=unary_samples(-4, 4),
    onnx="Sigmoid",
)
def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x)).

    >>> rb.sigmoid(rb.asarray([0.0]))
    tensor([0.5])
    """


@sigmoid.gradient
def _sigmoid_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, multiply(y, subtract(1.0, y))),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("relu", FLOATING),
    lower=lambda x: call("max", x, const(0, x.dtype)),
    reference=lambda x: np.where(x <= 0, x.dtype.type(0), x),
    samples=unary_samples(avoid=(0,)),
    onnx="Relu",
)
def relu(x: Value) -> Value:
    """x where it is positive, else 0; the gradient at 0 is 0, NaN stays NaN.

    >>> rb.relu(rb.asarray([-1.0, 2.0]))
    tensor([0., 2.])
    """


@relu.gradient
def _relu_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (where(greater(y, 0.0), g, 0.0),)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("hypot", FLOATING),
    lower=row("hypot"),
    reference=wide(np.hypot),
    samples=binary_samples(Draw((), 0.3, 2)),
)
def hypot(x1: Value, x2: Value) -> Value:
    """sqrt(x1**2 + x2**2) without overflow; the gradient at (0, 0) is 0.

    >>> rb.hypot(rb.asarray([3.0]), 4.0)
    tensor([5.])
    """


@hypot.gradient
def _hypot_gradient(g: Any, y: Any, x1: Any, x2: Any) -> tuple[Any, Any]:
    scale = divide(g, where(equal(y, 0.0), 1.0, y))
    return multiply(scale, x1), multiply(scale, x2)


@op(
    "elementwise",
    promote="float",
    infer=broadcast("logaddexp", FLOATING),
    lower=row("logaddexp"),
    reference=wide(np.logaddexp),
    samples=binary_samples(),
)
def logaddexp(x1: Value, x2: Value) -> Value:
    """log(exp(x1) + exp(x2)) without overflow.

    >>> rb.logaddexp(rb.asarray([1000.0]), 1000.0)
    tensor([1000.6932])
    """


@logaddexp.gradient
def _logaddexp_gradient(g: Any, y: Any, x1: Any, x2: Any) -> tuple[Any, Any]:
    difference = subtract(x1, x2)
    return multiply(g, sigmoid(difference)), multiply(g, sigmoid(negative(difference)))


@op(
    "elementwise",
    promote="float",
    infer=broadcast("copysign", FLOATING),
    lower=row("copysign"),
    reference=np.copysign,
    samples=binary_samples(Draw((), avoid=(0,))),
)
def copysign(x1: Value, x2: Value) -> Value:
    """`x1` with the sign of `x2`.

    >>> rb.copysign(rb.asarray([1.0, 2.0]), rb.asarray([-0.0, 5.0]))
    tensor([-1.,  2.])
    """


@copysign.gradient
def _copysign_gradient(g: Any, y: Any, x1: Any, x2: Any) -> tuple[Any, Any]:
    flipped = not_equal(signbit(x1), signbit(x2))
    return multiply(where(flipped, negative(g), g), abs_(sign(x1))), zeros_like(g)


@op(
    "elementwise",
    promote="float",
    differentiable=False,
    infer=broadcast("nextafter", FLOATING),
    lower=row("nextafter"),
    holds_halves=True,
    reference=np.nextafter,
    samples=binary_samples(grad=False),
)
def nextafter(x1: Value, x2: Value) -> Value:
    """The number next to `x1` on the way to `x2`; `x2` itself where both are equal.

    >>> rb.nextafter(rb.asarray([0.0]), 1.0) > 0
    tensor([ True])
    """
