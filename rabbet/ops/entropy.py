"""Terms of entropies: products with logarithms that spare zeros."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.graph.op import op
from rabbet.graph.sample import Draw
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import multiply, negative, subtract
from rabbet.ops.checks import need_float
from rabbet.ops.compare import equal, isinf, isnan, less, less_equal, logical_and, logical_or, where
from rabbet.ops.create import zeros_like
from rabbet.ops.float_functions import log, log1p
from rabbet.ops.rules import binary_samples, unary_samples, wide


@op(
    "composite",
    promote="float",
    reference=wide(
        lambda x, y: np.where((x == 0) & ~np.isnan(y), 0, x * np.log1p(np.where(x == 0, 1, y)))
    ),
    samples=binary_samples(Draw(()), Draw((), kind="positive")),
)
def xlog1py(x1: Value, x2: Value) -> Value:
    """x1 * log1p(x2), and 0 where x1 is 0 (NaN where x2 is).

    >>> rb.xlog1py(rb.asarray([0.0, 2.0]), rb.asarray([-1.0, 1.0]))
    tensor([0.       , 1.3862944])
    """
    need_float("xlog1py", "x1", x1.dtype)
    wild = logical_or(less_equal(x2, -1.0), isinf(x2))
    return multiply(x1, log1p(where(logical_and(equal(x1, 0.0), wild), 1.0, x2)))


@op(
    "composite",
    promote="float",
    reference=wide(
        lambda x: np.where(
            (x > 0) | np.isnan(x), -x * np.log(np.where(x > 0, x, 1)), np.where(x < 0, -np.inf, 0.0)
        )
    ),
    samples=unary_samples(0.1, 3),
)
def entr(x: Value) -> Value:
    """-x * log(x), the term of an entropy: 0 at 0 and -inf below.

    >>> rb.entr(rb.asarray([0.0, 0.5]))
    tensor([0.       , 0.3465736])
    """
    need_float("entr", "input", x.dtype)
    inside = logical_or(less(0.0, x), isnan(x))
    kept = where(inside, x, 1.0)
    outside = where(less(x, 0.0), -math.inf, zeros_like(x))
    return where(inside, negative(multiply(kept, log(kept))), outside)


@entr.gradient
def _entr_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    return (multiply(g, subtract(-1.0, log(x))),)
