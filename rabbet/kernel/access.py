"""Where the elements of a value lie: from an index of the value to an expression that loads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast as cast_type

from rabbet.base import shapes, sizes
from rabbet.base.dtypes import int64
from rabbet.base.sizes import Dim
from rabbet.expr import expr
from rabbet.expr.expr import Expr
from rabbet.graph.value import Value
from rabbet.kernel.loops import MOST_DIGITS, Operand

Index = tuple[Expr, ...]
ZERO = expr.const(0, int64)
MOST_LITERAL = 64


@dataclass(eq=False)
class Arguments:
    """The operands and size arguments of one kernel, numbered as they are first used."""

    buffers: list[Value] = field(default_factory=list)
    operands: list[Operand] = field(default_factory=list)
    dims: list[Dim] = field(default_factory=list)
    checks: dict[tuple[Expr, Expr], None] = field(default_factory=dict)
    known: dict[Expr, Dim] = field(default_factory=dict)  # sizes of expressions asked before
    literal: int = 1  # a size besides 1 that is written into the code (see `digit`)

    def size(self, dim: Dim) -> Expr:
        """A size as an expression; 1 and `literal` are written out, everything else is a run-time
        argument.

        0 is none: a literal stride of 0 would tell the code generator that lanes share an element.
        """
        if isinstance(dim, int) and dim in (1, self.literal):
            return expr.const(dim, int64)
        for number, known in enumerate(self.dims):
            if sizes.same(known, dim):
                return expr.size(number)
        self.dims.append(dim)
        return expr.size(len(self.dims) - 1)

    def constant(self, dim: Dim) -> Expr:
        """A size that shapes the code itself (a slice's step): literal where it is a number.

        A large one is a place: of many parts of an array each has its own, and all share a kernel.
        """
        if isinstance(dim, int) and abs(dim) <= MOST_LITERAL:
            return expr.const(dim, int64)
        return self.size(dim)

    def operand(self, value: Value, mode: str = "in") -> int:
        """The operand number of a stored value."""
        for number, known in enumerate(self.buffers):
            if known is value and self.operands[number].mode == mode:
                return number
        self.buffers.append(value)
        self.operands.append(Operand(value.dtype, mode))
        return len(self.buffers) - 1

    def dim_of(self, e: Expr) -> Dim:
        """The size that an expression over size(n) stands for."""
        if e not in self.known:
            self.known[e] = self._dim_of(e)
        return self.known[e]

    def _dim_of(self, e: Expr) -> Dim:
        match e.op:
            case "const":
                return cast_type(int, e.value)
            case "size":
                return self.dims[cast_type(int, e.value)]
        left, right = (self.dim_of(a) for a in e.args)
        match e.op:
            case "add":
                return left + right
            case "sub":
                return left - right
            case "mul":
                return left * right
            case "floordiv":
                return left // right
            case "mod":
                return left % right
            case "max":
                return sizes.maximum(left, right)
            case "min":
                return -sizes.maximum(-left, -right)
        raise ValueError(f"{e.op} is not size arithmetic")


def digit(shape: tuple[Dim, ...]) -> int:
    """What `Arguments.literal` is for a map over `shape`: a last axis of very few elements, which
    no vector can run along; code written for this number goes along the axis before. Else 1.
    """
    last = shape[-1] if len(shape) > 1 else 1
    return last if isinstance(last, int) and 2 <= last <= MOST_DIGITS else 1


def flat(arguments: Arguments, index: Index, shape: tuple[Dim, ...]) -> Expr:
    """The offset of an index in a row-major array of `shape`."""
    offset = ZERO
    for position, stride in zip(index, shapes.strides_of(shape), strict=True):
        offset = offset + position * arguments.size(stride)
    return offset


def stretched(index: Index, shape: tuple[Dim, ...], wide: tuple[Dim, ...]) -> Index:
    """The index into an operand of `shape` for an index of the broadcast result `wide`."""
    skip = len(wide) - len(shape)
    return tuple(
        i if sizes.same(d, w) and not _is_unit(d) else ZERO if d == 1 else i
        for i, d, w in zip(index[skip:], shape, wide[skip:], strict=True)
    )


def _is_unit(d: Dim) -> bool:
    return isinstance(d, int) and d == 1


def is_alias(v: Value) -> bool:
    """True for a reshape that is only another reading of the same memory.

    Not where only unit axes come or go, nor where axes of something moved are cut: those are
    followed by index arithmetic, so that what was moved need not be copied first.
    """
    if v.op.name != "reshape":
        return False
    x = v.call.inputs[0]
    if unit_axes(x.shape, v.shape) is not None:
        return False
    return x.op.kind != "movement" or is_alias(x) or cut_axes(x.shape, v.shape) is None


def cut_axes(old: tuple[Dim, ...], new: tuple[Dim, ...]) -> list[list[int]] | None:
    """For a reshape that only cuts axes: the new axes of each old one; None for others."""
    result: list[list[int]] = []
    j = 0
    for dim in old:
        found: list[int] = []
        size: Dim = 1
        while not sizes.same(size, dim) or not found:
            if j == len(new):
                return None
            found.append(j)
            size = size * new[j]
            j += 1
        result.append(found)
    if not all(_is_unit(d) for d in new[j:]):
        return None
    return result


def unit_axes(old: tuple[Dim, ...], new: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """For a reshape that only adds or drops axes of size 1: the new axis of each old one (-1:
    dropped).
    """
    result: list[int] = []
    j = 0
    for dim in old:
        if isinstance(dim, int) and dim == 1:
            result.append(-1)
            continue
        while j < len(new) and isinstance(new[j], int) and new[j] == 1:
            j += 1
        if j == len(new) or not sizes.same(new[j], dim):
            return None
        result.append(j)
        j += 1
    rest = new[j:]
    return tuple(result) if all(isinstance(d, int) and d == 1 for d in rest) else None


def storage(v: Value) -> Value:
    """The value whose memory `v` reads: itself, or the base of reshapes."""
    while v.op.name == "reshape":
        v = v.call.inputs[0]
    return v


def through(
    v: Value, index: Index, arguments: Arguments
) -> tuple[Value, Index, Expr | None, float] | None:
    """One step down through a movement op: (operand, its index, validity, fill); None for other
    ops.
    """
    if v.op.kind != "movement" or is_alias(v):
        return None
    x = v.call.inputs[0]
    if v.op.name == "reshape":
        axes = unit_axes(x.shape, v.shape)
        if axes is not None:
            return x, tuple(ZERO if a < 0 else index[a] for a in axes), None, 0
        cut = cut_axes(x.shape, v.shape)
        assert cut is not None
        parts = [
            flat(arguments, tuple(index[a] for a in c), tuple(v.shape[a] for a in c)) for c in cut
        ]
        return x, tuple(parts), None, 0
    below, valid = v.op.lower(index, arguments.constant, x.spec, **v.call.attrs)
    return x, tuple(below), valid, v.call.attrs.get("fill", 0)


Loader = Callable[[Value, Index, Expr | None], Expr]


def read(
    v: Value, index: Index, arguments: Arguments, load: Loader, valid: Expr | None = None
) -> Expr:
    """The element of `v` at `index`: movement is followed down, sources are computed, `load` does
    the rest.
    """
    step = through(v, index, arguments)
    if step is not None:
        x, below, here, fill = step
        if here is None:
            return read(x, below, arguments, load, valid)
        both = here if valid is None else valid & here
        inner = read(x, below, arguments, load, both)
        literal = expr.const(fill, v.dtype)
        if inner.op == "load" and len(inner.args) == 2 and inner.args[1] is both and valid is None:
            return expr.load(inner.value[0], v.dtype, inner.args[0], both, literal.value)
        return expr.select(here, inner, literal)
    if v.op.kind == "source":
        scalars = [read(x, (), arguments, load, None) for x in v.call.inputs]
        return v.op.lower(index, arguments.size, *scalars, **v.call.attrs)
    return load(v, index, valid)


def load_stored(v: Value, index: Index, arguments: Arguments, valid: Expr | None) -> Expr:
    """The element of a value that lies in memory."""
    base = storage(v)
    number = arguments.operand(base)
    return expr.load(number, v.dtype, flat(arguments, index, v.shape), valid)
