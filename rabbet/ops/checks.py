"""Checks and small rules that several files of ops share; every message names the op, the shapes
and the rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.dtypes import DType
from rabbet.base.errors import DTypeError, InternalError, RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim, hint, same
from rabbet.base.spec import Spec


def same_as_first(x: Spec, **_: Any) -> Spec:
    """Shape and dtype rule of ops that keep those of their first operand `x`."""
    return x


def need_float(op: str, name: str, dtype: DType) -> None:
    """DTypeError unless `dtype` is a floating dtype."""
    if not dtype.is_float:
        raise DTypeError(
            f"{op}: {name} is {dtype.name}, a floating dtype is needed; "
            f"cast it with {name}.astype(rb.float32)"
        )


def need_integer(op: str, name: str, dtype: DType) -> None:
    """DTypeError unless `dtype` is an integer dtype."""
    if not dtype.is_integer:
        raise DTypeError(f"{op}: {name} is {dtype.name}, integers are needed")


def need_same_dtype(op: str, **operands: Any) -> None:
    """DTypeError unless all operands (Values, Specs, Tensors; None is skipped) have one dtype."""
    given = {name: x.dtype for name, x in operands.items() if x is not None}
    (first, wanted), *rest = given.items()
    for name, dtype in rest:
        if dtype is not wanted:
            raise DTypeError(
                f"{op}: {first} is {wanted.name} and {name} is {dtype.name}; "
                f"cast one of them, e.g. {first}.astype(rb.{dtype.name})"
            )


def need_shape(op: str, name: str, x: Any, wanted: tuple[Dim, ...]) -> None:
    """ShapeError unless `x` (None is skipped) has the shape `wanted`."""
    if x is not None and (len(x.shape) != len(wanted) or x.shape != wanted):
        raise ShapeError(f"{op}: {name} has shape {show(x.shape)}, it must be {show(wanted)}")


def need_choice(op: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """RabbetError unless `value` is one of `choices`."""
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise RabbetError(f"{op}: {name} is {value!r}, it must be one of {listed}")


def per_axis(op: str, name: str, value: Any, rank: int, least: int) -> tuple[int, ...]:
    """One int per spatial axis; an int stands for all. ShapeError for a wrong count or value."""
    found = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(found) == 1:
        found = found * rank
    if len(found) != rank:
        raise ShapeError(f"{op}: {name} {show(found)} needs one number or {rank}, one per axis")
    if any(v < least for v in found):
        raise ShapeError(f"{op}: {name} {show(found)} must be at least {least} in every axis")
    return found


def agree(a: Dim, b: Dim) -> bool:
    """Are two sizes equal? Where their forms do not tell, the answer is a guard."""
    return same(a, b) or bool(a == b)


def fixed(dim: Dim) -> int:
    """A size as a plain number; a symbolic one is thereby fixed for the program at hand, by a
    guard.
    """
    number = hint(dim)
    if dim != number:
        raise InternalError(f"the size {dim} is not its own hint {number}")
    return number


def wide(x: np.ndarray) -> np.ndarray:
    """References compute in this dtype: float64 for floats, int64 for the rest."""
    return x.astype(np.int64 if x.dtype.kind in "biu" else np.float64)
