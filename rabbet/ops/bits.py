"""Elementwise operations on the bits of integers and bools."""

from __future__ import annotations

import numpy as np

from rabbet.graph.op import op
from rabbet.graph.sample import INTEGERS, Draw
from rabbet.graph.value import Value
from rabbet.ops.rules import BITS, INTEGER, binary_samples, broadcast, row, unary_samples

BIT_TYPES = ("bool", *INTEGERS)


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("bitwise_and", BITS),
    lower=row("and"),
    reference=np.bitwise_and,
    samples=binary_samples(Draw((), -9, 9), dtypes=BIT_TYPES),
    onnx="BitwiseAnd",
)
def bitwise_and(x1: Value, x2: Value) -> Value:
    """Bits that are set in both.

    >>> rb.asarray([5, 6]) & 3
    tensor([1, 2])
    """


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("bitwise_or", BITS),
    lower=row("or"),
    reference=np.bitwise_or,
    samples=binary_samples(Draw((), -9, 9), dtypes=BIT_TYPES),
    onnx="BitwiseOr",
)
def bitwise_or(x1: Value, x2: Value) -> Value:
    """Bits that are set in either.

    >>> rb.bitwise_or(rb.asarray([1, 4]), 2)
    tensor([3, 6])
    """


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("bitwise_xor", BITS),
    lower=row("xor"),
    reference=np.bitwise_xor,
    samples=binary_samples(Draw((), -9, 9), dtypes=BIT_TYPES),
    onnx="BitwiseXor",
)
def bitwise_xor(x1: Value, x2: Value) -> Value:
    """Bits that are set in exactly one.

    >>> rb.bitwise_xor(rb.asarray([1, 3]), 2)
    tensor([3, 1])
    """


@op(
    "elementwise",
    differentiable=False,
    infer=broadcast("bitwise_invert", BITS),
    lower=row("not"),
    reference=np.invert,
    samples=unary_samples(-9, 9, dtypes=BIT_TYPES),
    onnx="BitwiseNot",
)
def bitwise_invert(x: Value) -> Value:
    """Every bit flipped; bools negated.

    >>> rb.bitwise_invert(rb.asarray([0, 1]))
    tensor([-1, -2])
    """


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("bitwise_left_shift", INTEGER),
    lower=row("shl"),
    reference=np.left_shift,
    samples=binary_samples(Draw((), -9, 9), Draw((), 0, 70), dtypes=INTEGERS),
    onnx="BitShift",
)
def bitwise_left_shift(x1: Value, x2: Value) -> Value:
    """Bits moved `x2` places up; 0 once all are gone.

    >>> rb.asarray([1, 2]) << 3
    tensor([ 8, 16])
    """


@op(
    "elementwise",
    promote="common",
    differentiable=False,
    infer=broadcast("bitwise_right_shift", INTEGER),
    lower=row("shr"),
    reference=np.right_shift,
    samples=binary_samples(Draw((), -99, 99), Draw((), 0, 70), dtypes=INTEGERS),
    onnx="BitShift",
)
def bitwise_right_shift(x1: Value, x2: Value) -> Value:
    """Bits moved `x2` places down; the sign fills up.

    >>> rb.bitwise_right_shift(rb.asarray([8, 5]), 1)
    tensor([4, 2])
    """
