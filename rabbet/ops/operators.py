"""Python's operators: the one table from special methods to ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.base.errors import DTypeError
from rabbet.base.sizes import SizeExpr
from rabbet.graph.op import Op
from rabbet.ops import arithmetic, bits, compare, contract, float_functions
from rabbet.ops.create import number

_BINARY: dict[str, Op] = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.divide,
    "floordiv": arithmetic.floor_divide,
    "mod": arithmetic.remainder,
    "pow": float_functions.pow_,
    "matmul": contract.matmul,
    "and": bits.bitwise_and,
    "or": bits.bitwise_or,
    "xor": bits.bitwise_xor,
    "lshift": bits.bitwise_left_shift,
    "rshift": bits.bitwise_right_shift,
}

# special method -> (op, operands swapped)
OPERATORS: dict[str, tuple[Op, bool]] = {
    **{f"__{name}__": (op, False) for name, op in _BINARY.items()},
    **{f"__r{name}__": (op, True) for name, op in _BINARY.items()},
    "__eq__": (compare.equal, False),
    "__ne__": (compare.not_equal, False),
    "__lt__": (compare.less, False),
    "__le__": (compare.less_equal, False),
    "__gt__": (compare.greater, False),
    "__ge__": (compare.greater_equal, False),
    "__neg__": (arithmetic.negative, False),
    "__pos__": (arithmetic.positive, False),
    "__abs__": (arithmetic.abs_, False),
    "__invert__": (bits.bitwise_invert, False),
}


def attach(cls: Any) -> None:
    """Give `cls` every operator; it compares by elements and hashes by identity."""
    for name, (op, swapped) in OPERATORS.items():
        setattr(cls, name, _method(op, swapped))
    cls.__hash__ = object.__hash__
    cls.__bool__ = _no_truth


def _method(op: Op, swapped: bool) -> Callable[..., Any]:
    if len(op.operands) == 1:
        return lambda self: op(self)

    def method(self: Any, other: Any) -> Any:
        if isinstance(other, SizeExpr):
            other = number(self, other, self.dtype)
        elif not isinstance(other, bool | int | float) and not hasattr(other, "emit"):
            return NotImplemented
        return op(other, self) if swapped else op(self, other)

    return method


def _no_truth(self: Any) -> bool:
    raise DTypeError("a graph value has no truth value: its elements are not known yet; use where")
