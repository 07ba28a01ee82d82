"""How a contraction adds its products: decided by the operands' dtype and the target, here alone.

Halves are widened to float32 and added as float32 is, except on machines that multiply pairs of
bfloat16: there an accumulator takes in element 1 of a pair, then element 0, each product added with
one rounding to nearest, subnormal operands, accumulators and results taken for zeros (AVX512-BF16;
Intel 64 and IA-32 Architectures Software Developer's Manual, VDPBF16PS). A sum of an odd count ends
with a pair whose element 1 is zero.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from rabbet.base.dtypes import DType, bfloat16, float32
from rabbet.base.target import Target
from rabbet.expr import meaning
from rabbet.expr.expr import Expr, cast
from rabbet.kernel.loops import ContractKernel, PackKernel

Array: TypeAlias = np.ndarray[Any, Any]

_LEAST = 2.0**-126  # normal float32
_ROUNDS_TO_LEAST = _LEAST * (1 - 2.0**-25)


def has_pairs(target: Target) -> bool:
    """Does the machine multiply pairs of bfloat16?"""
    return "+avx512bf16" in target.features


def in_pairs(kernel: ContractKernel | PackKernel) -> bool:
    """Is this kernel (as it `is_computed` on a target) about pairs of bfloat16?"""
    value = kernel.a if isinstance(kernel, ContractKernel) else kernel.value
    return value.dtype is bfloat16


def sum_dtype(dtype: DType) -> DType:
    """What the products of a dtype are added in."""
    return float32 if dtype.is_half else dtype


def as_computed(kernel: ContractKernel, target: Target) -> ContractKernel:
    """The kernel with operands as this target multiplies them."""
    if not kernel.a.dtype.is_half or (has_pairs(target) and kernel.a.dtype is bfloat16):
        return kernel
    return widened(kernel)


def widened(kernel: ContractKernel) -> ContractKernel:
    """The kernel with halves as float32."""

    def wide(e: Expr) -> Expr:
        return cast(e, float32) if e.dtype.is_half else e

    return replace(kernel, a=wide(kernel.a), b=wide(kernel.b))


def add_pair(a: tuple[Array, Array], b: tuple[Array, Array], total: Array) -> Array:
    """What the machine makes of float32 accumulators and one pair of each operand."""
    with np.errstate(all="ignore"):
        for x, y in zip(reversed(a), reversed(b), strict=True):
            total = _added(*(_normal(v.astype(np.float32)) for v in (x, y, total)))
    return total


def _normal(x: Array) -> Array:
    """Zeros for subnormal numbers."""
    return np.where(np.abs(x) < np.float32(_LEAST), np.copysign(np.float32(0), x), x)


def _added(x: Array, y: Array, total: Array) -> Array:
    """x * y + total, with a zero for what is subnormal when rounded as if exponents had no end."""
    product = x.astype(np.float64) * y  # exact
    near = product + total
    part = near - product
    beyond = (product - (near - part)) + (total - part)
    at_edge = (np.abs(near) == _ROUNDS_TO_LEAST) & (beyond * near < 0)
    tiny = (np.abs(near) < _ROUNDS_TO_LEAST) | at_edge
    zero = np.copysign(np.float32(0), near.astype(np.float32))
    return np.where(tiny, zero, meaning.fma(x, y, total))
