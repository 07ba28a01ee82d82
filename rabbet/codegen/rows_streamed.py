"""Results as large as the last cache are written past the caches.

They would push out what is read beside them, and would themselves be gone before anybody reads
them. The kernel decides when it runs, from its sizes; bits are the same either way.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.base.dtypes import int64
from rabbet.base.target import Target
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Function, Value
from rabbet.codegen.operations import memory_type
from rabbet.codegen.rows_shared import KEPT
from rabbet.codegen.stepping import operations, product
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr, const
from rabbet.kernel.loops import Operand, RowKernel, Store

_LINE = 64
_MOST_OPERATIONS = 24  # of the sweep, which is written out twice: more hide the stores anyway


def streamed_bytes(kernel: RowKernel, target: Target) -> Expr | None:
    """Bytes of the results that could pass by the caches: those of the last sweep, where they lie
    one beside the other. None where the machine or the kernel has no such way.
    """
    if not kernel.sweeps or not kernel.inner:
        return None
    sweep, last = kernel.sweeps[-1], len(kernel.outer) + len(kernel.inner) - 1
    if sweep.reductions or kernel.block is not None:
        return None
    each = stream_bytes(sweep.stores, last, kernel.operands, target)
    return None if each is None else product(kernel.outer) * product(kernel.inner) * each


def stream_bytes(
    stores: Sequence[Store], variable: int, operands: Sequence[Operand], target: Target
) -> int | None:
    """Bytes that some stores write at a point, if they could pass by the caches: results that lie
    one beside the other along `variable`. None if they cannot.
    """
    if not target.triple.startswith("x86") or not stores:
        return None
    if operations(e for s in stores for e in (s.index, s.value)) > _MOST_OPERATIONS:
        return None
    for store in stores:
        is_run = coefficient(store.index, variable) is const(1, int64)
        if not is_run or operands[store.operand].mode == KEPT:
            return None
    return sum(operands[s.operand].dtype.itemsize for s in stores)


def all_aligned(fn: Function, em: Emitter, stores: Sequence[Store]) -> Value:
    """Does every store begin a line of the cache at this (scalar) place?"""
    together: Value | None = None
    for store in stores:
        kind = memory_type(em.frame.operands[store.operand].dtype)
        address = fn.address(em.frame.pointer(store.operand), em.scalar(store.index), kind)
        bits = fn.do("i64", f"ptrtoint ptr {address.text} to i64")
        together = bits if together is None else fn.binary("or", together, bits)
    assert together is not None
    return fn.icmp("eq", fn.binary("and", together, Value(str(_LINE - 1), "i64")), 0)
