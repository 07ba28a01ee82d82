"""Expr: an interned scalar expression.

Leaves: `const`, `var` (a loop variable), `size` (a run-time argument of the kernel), `load` (one
element of an operand), `acc` (the result of a reduction of the same kernel). Everything else is a
row of the table in `scalars.py`. Equal expressions are the same object, so sharing needs no pass.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any
from typing import cast as cast_type
from weakref import WeakValueDictionary

import numpy as np

from rabbet.base.dtypes import DType, bool_, int64
from rabbet.base.errors import InternalError


class Expr:
    """One scalar value. `value` is a number, a number of a leaf, or a load's (operand, fill)."""

    __slots__ = ("__weakref__", "args", "dtype", "op", "value")
    op: str
    args: tuple[Expr, ...]
    dtype: DType
    value: Any  # the op says which

    @property
    def operand(self) -> int:
        """The number of the operand that a load reads."""
        assert isinstance(self.value, tuple)
        return int(self.value[0])

    def __add__(self, other: Expr | float) -> Expr:
        return binary("add", self, other)

    def __radd__(self, other: float) -> Expr:
        return binary("add", const(other, self.dtype), self)

    def __sub__(self, other: Expr | float) -> Expr:
        return binary("sub", self, other)

    def __rsub__(self, other: float) -> Expr:
        return binary("sub", const(other, self.dtype), self)

    def __mul__(self, other: Expr | float) -> Expr:
        return binary("mul", self, other)

    def __rmul__(self, other: float) -> Expr:
        return binary("mul", const(other, self.dtype), self)

    def __truediv__(self, other: Expr | float) -> Expr:
        return binary("div", self, other)

    def __rtruediv__(self, other: float) -> Expr:
        return binary("div", const(other, self.dtype), self)

    def __floordiv__(self, other: Expr | int) -> Expr:
        return binary("floordiv", self, other)

    def __mod__(self, other: Expr | int) -> Expr:
        return binary("mod", self, other)

    def __neg__(self) -> Expr:
        return unary("neg", self)

    def __and__(self, other: Expr | int) -> Expr:
        return binary("and", self, other)

    def __or__(self, other: Expr | int) -> Expr:
        return binary("or", self, other)

    def __xor__(self, other: Expr | int) -> Expr:
        return binary("xor", self, other)

    def __invert__(self) -> Expr:
        return unary("not", self)

    def __lshift__(self, other: Expr | int) -> Expr:
        return binary("shl", self, other)

    def __rshift__(self, other: Expr | int) -> Expr:
        return binary("shr", self, other)

    def __lt__(self, other: Expr | float) -> Expr:
        return compare("lt", self, other)

    def __le__(self, other: Expr | float) -> Expr:
        return compare("le", self, other)

    def __gt__(self, other: Expr | float) -> Expr:
        return compare("lt", coerce(other, self.dtype), self)

    def __ge__(self, other: Expr | float) -> Expr:
        return compare("le", coerce(other, self.dtype), self)

    def equals(self, other: Expr | float) -> Expr:
        """Scalar equality (`==` is identity)."""
        return compare("eq", self, other)

    def differs(self, other: Expr | float) -> Expr:
        """Scalar inequality."""
        return compare("ne", self, other)

    def __repr__(self) -> str:
        match self.op:
            case "const":
                return f"{self.value}"
            case "var" | "size" | "acc":
                return f"{self.op[0]}{self.value}"
            case "load":
                number, fill = cast_type(tuple[int, float], self.value)
                guard = f" if {self.args[1]} else {fill}" if len(self.args) > 1 else ""
                return f"in{number}[{self.args[0]}{guard}]"
        return f"{self.op}({', '.join(map(repr, self.args))})"


_table: WeakValueDictionary[tuple[object, ...], Expr] = WeakValueDictionary()


def make(op: str, args: tuple[Expr, ...], dtype: DType, value: object = None) -> Expr:
    """The one Expr with these parts. Floats are told apart by their bits."""
    key = (op, args, dtype.code, number_key(value))
    found = _table.get(key)
    if found is None:
        found = Expr.__new__(Expr)
        found.op, found.args, found.dtype, found.value = op, args, dtype, value
        _table[key] = found
    return found


def number_key(value: object) -> object:
    """A hashable that is equal only for the same type and bits (1, 1.0, True and -0.0 differ)."""
    if isinstance(value, float):
        return ("f", struct.pack("<d", value))
    if isinstance(value, tuple):
        return tuple(number_key(v) for v in value)
    return (type(value).__name__, value)


def const(value: float, dtype: DType) -> Expr:
    """A literal of the dtype's kind; integers wrap into its range, floats are rounded to it."""
    if dtype.kind == "b":
        return make("const", (), dtype, bool(value))
    if dtype.is_integer:
        wrapped = int(value) & ((1 << dtype.bits) - 1)
        if dtype.kind == "i" and wrapped >> (dtype.bits - 1):
            wrapped -= 1 << dtype.bits
        return make("const", (), dtype, wrapped)
    with np.errstate(over="ignore"):
        return make("const", (), dtype, float(dtype.numpy.type(value)))


def var(number: int) -> Expr:
    """Loop variable `number` of the kernel."""
    return make("var", (), int64, number)


def size(number: int) -> Expr:
    """Run-time size argument `number` of the kernel."""
    return make("size", (), int64, number)


def acc(number: int, dtype: DType) -> Expr:
    """The result of reduction `number` of the kernel."""
    return make("acc", (), dtype, number)


def load(
    operand: int, dtype: DType, index: Expr, valid: Expr | None = None, fill: float = 0
) -> Expr:
    """Element `index` of an operand; where `valid` is false: `fill`, and no memory is touched."""
    literal = const(fill, dtype).value
    args = (index,) if valid is None else (index, valid)
    return make("load", args, dtype, (operand, literal))


def coerce(other: Expr | float, dtype: DType) -> Expr:
    """Expressions as they are, numbers as literals of `dtype`."""
    return other if isinstance(other, Expr) else const(other, dtype)


def unary(op: str, x: Expr) -> Expr:
    """A one-argument row of the scalar table that keeps the dtype."""
    if op == "not" and x.op == "const" and x.dtype is bool_:
        return const(not x.value, bool_)
    return make(op, (x,), x.dtype)


def binary(op: str, x: Expr, other: Expr | float) -> Expr:
    """A two-argument row that keeps the dtype; integer index arithmetic is folded."""
    y = coerce(other, x.dtype)
    if x.dtype is not y.dtype:
        raise InternalError(f"scalar {op}: {x.dtype.name} and {y.dtype.name} differ")
    if x.dtype is int64 or x.dtype is bool_:
        folded = _fold_integers(op, x, y)
        if folded is not None:
            return folded
    return make(op, (x, y), x.dtype)


def compare(op: str, x: Expr, other: Expr | float) -> Expr:
    """A two-argument row with a bool result: eq, ne, lt, le."""
    y = coerce(other, x.dtype)
    if x.dtype is not y.dtype:
        raise InternalError(f"scalar {op}: {x.dtype.name} and {y.dtype.name} differ")
    return make(op, (x, y), bool_)


def select(condition: Expr, x: Expr, y: Expr) -> Expr:
    """x where the condition holds, else y."""
    if condition.op == "const":
        return x if condition.value else y
    if x is y:
        return x
    if x.dtype is not y.dtype:
        raise InternalError(f"scalar select: {x.dtype.name} and {y.dtype.name} differ")
    return make("select", (condition, x, y), x.dtype)


def cast(x: Expr, dtype: DType) -> Expr:
    """Convert: float to integer truncates and saturates, NaN gives 0; to bool is `!= 0`."""
    return x if x.dtype is dtype else make("cast", (x,), dtype)


def bitcast(x: Expr, dtype: DType) -> Expr:
    """The same bits read as another dtype of the same width."""
    return x if x.dtype is dtype else make("bitcast", (x,), dtype)


def call(op: str, *args: Expr) -> Expr:
    """Any row that keeps the dtype of its first argument: exp, sqrt, fma, max, ..."""
    return make(op, args, args[0].dtype)


def _fold_integers(op: str, x: Expr, y: Expr) -> Expr | None:
    """Exact simplifications of index arithmetic (int64) and of predicates (bool)."""
    if x.op == "const" and y.op == "const" and op in _INTEGER:
        a, b = x.value, y.value
        if op in ("floordiv", "mod") and b == 0:
            return None
        return const(_INTEGER[op](a, b), x.dtype)
    for literal, other, right in ((x, y, False), (y, x, True)):
        if literal.op != "const":
            continue
        value = literal.value
        if op == "add" and value == 0 or op == "mul" and value == 1:
            return other
        if right and (op == "sub" and value == 0 or op == "floordiv" and value == 1):
            return other
        if op == "mul" and value == 0:
            return literal
        if x.dtype is bool_ and op in ("and", "or"):
            return other if bool(value) == (op == "and") else literal
    return x if op in ("and", "or") and x is y else None


_INTEGER: dict[str, Callable[[Any, Any], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
}


def topological(roots: Iterable[Expr]) -> list[Expr]:
    """Every expression below `roots`, arguments first, each once (no recursion)."""
    order: dict[Expr, None] = {}
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(list(roots))]
    while stack:
        e, done = stack.pop()
        if e in order:
            continue
        if done:
            order[e] = None
        else:
            stack.append((e, True))
            stack.extend((a, False) for a in reversed(e.args) if a not in order)
    return list(order)


def substitute(roots: tuple[Expr, ...], replace: Callable[[Expr], Expr | None]) -> tuple[Expr, ...]:
    """The roots rebuilt with every expression for which `replace` gives another one."""
    done: dict[Expr, Expr] = {}
    for e in topological(roots):
        new = replace(e)
        if new is None:
            args = tuple(done[a] for a in e.args)
            new = e if args == e.args else rebuild(e, args)
        done[e] = new
    return tuple(done[r] for r in roots)


def rebuild(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """`e` with other arguments, folded as when it was first made."""
    if e.op in _INTEGER and len(args) == 2:
        return binary(e.op, args[0], args[1])
    if e.op == "select":
        return select(*args)
    return make(e.op, args, e.dtype, e.value)
