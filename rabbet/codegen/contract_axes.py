"""What a contraction's loops and indices look like: roles, flattened loops, separable indices.

Takes a ContractKernel, gives `Roles` (which loops are rows, lanes, sum) and, for one operand, a
`View`: the loops it really has once neighbours that step through memory as one are merged, and how
its index splits into a part of each axis. Pure functions over expressions; no LLVM here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from rabbet.base.dtypes import DType, int64
from rabbet.expr.expr import Expr, binary, const, substitute, topological, var
from rabbet.expr.expr import load as make_load
from rabbet.kernel.loops import ContractKernel, Store
from rabbet.kernel.sums import in_pairs, sum_dtype

Monomial = tuple[Expr, ...]
Polynomial = dict[Monomial, int]


@dataclass(frozen=True)
class Loop:
    """One loop: its variable and its extent."""

    variable: int
    extent: Expr


Loops = tuple[Loop, ...]


@dataclass(frozen=True)
class Roles:
    """A contraction with rows (m), lanes (n) and sum (k) chosen; a depends on rows, b on lanes."""

    dtype: DType  # of the sums; that of the operands too, unless they lie in pairs of bfloat16
    pairs: bool
    batch: Loops
    m: Loops
    n: Loops
    k: Loops
    a: Expr
    b: Expr
    stores: tuple[Store, ...]
    swapped: bool  # are the kernel's operands the other way round


@dataclass(frozen=True)
class View:
    """One operand as a matrix [rows][columns], to be written with columns side by side.

    `value` is what the matrix holds. `parts`: the element's index as row part + column part, if the
    value is one load (perhaps cast) whose index splits so; else None.
    """

    rows: Loops
    columns: Loops
    value: Expr
    load: Expr | None
    parts: tuple[Expr, Expr] | None

    @property
    def valid(self) -> Expr | None:
        """Where the load reads memory, if not everywhere."""
        return self.load.args[1] if self.load is not None and len(self.load.args) > 1 else None

    @property
    def kind(self) -> str:
        """How memory lies under the matrix, and so how it is copied.

        "runs": along the columns, "turned": along the rows, "gathered": neither, but rows and
        columns are independent and there is no padding, "any": everything else.
        """
        if self.parts is None:
            return "any"
        rows, columns = self.parts
        if self.columns and step(columns, self.columns[-1].variable) in (1, 2):
            return "runs"
        if self.rows and step(rows, self.rows[-1].variable) == 1:
            return "turned"
        return "gathered" if self.valid is None else "any"

    @property
    def stride(self) -> int:
        """Elements from column to column of a run."""
        assert self.parts is not None
        found = step(self.parts[1], self.columns[-1].variable)
        assert found is not None
        return found

    @property
    def plain(self) -> bool:
        """Is the matrix (or its transpose) in memory as it is, without padding or cast?

        One loop for each axis; for `runs` the columns may be several loops if `dense` holds.
        """
        if self.kind not in ("runs", "turned") or len(self.across()[0]) > 1:
            return False
        if self.kind == "turned" and len(self.rows) > 1:
            return False
        assert self.parts is not None
        affine = all(
            coefficients(part, [loop.variable for loop in loops]) is not None
            for part, loops in zip(self.parts, (self.rows, self.columns), strict=True)
        )
        as_is = self.valid is None and self.value is self.load
        near = self.kind == "turned" or self.kind == "runs" and self.stride == 1
        return affine and as_is and near

    @property
    def direct(self) -> bool:
        """Can the matrix always be read where it is?"""
        return self.plain and self.kind == "runs" and not self.dense()

    def dense(self) -> list[tuple[Expr, Expr]]:
        """What must be equal at run time for the columns of a plain matrix to follow each other."""
        assert self.parts is not None
        found = coefficients(self.parts[1], [loop.variable for loop in self.columns]) or {}
        return [
            (
                expression(found[outer.variable]),
                expression(multiply(found[inner.variable], polynomial(inner.extent))),
            )
            for outer, inner in pairwise(self.columns)
        ]

    @property
    def plain_across(self) -> bool:
        """Does the index move by the same step from run to run?"""
        loops, part = self.across()
        wanted = [loop.variable for loop in loops]
        return len(loops) <= 1 and coefficients(part, wanted) is not None

    def across_step(self) -> Expr:
        """How far a plain matrix's index moves from run to run."""
        loops, part = self.across()
        total = const(0, int64)
        for loop in loops:
            total = expression((coefficients(part, [loop.variable]) or {})[loop.variable])
        return total

    def across(self) -> tuple[Loops, Expr]:
        """The axis that memory does not run along, and its part of the index."""
        assert self.parts is not None
        rows, columns = self.parts
        return (self.rows, rows) if self.kind == "runs" else (self.columns, columns)

    def tabled(self) -> Loops:
        """The loops of that axis that padding depends on."""
        if self.kind == "any" or self.valid is None:
            return ()
        used = variables([self.valid])
        return tuple(loop for loop in self.across()[0] if loop.variable in used)

    @property
    def table_columns(self) -> int:
        """Columns of the table that describes that axis; 0 if it needs none."""
        if self.kind == "gathered":
            return 1
        if self.kind == "any" or len(self.across()[0]) <= 1:
            return 0
        return 1 + len(self.tabled())


# ---------------------------------------------------------------------- polynomials over sizes


def polynomial(e: Expr) -> Polynomial:
    """An integer expression as {product of atoms: coefficient}; anything not +, -, * is an atom."""
    if e.op == "const":
        return {(): int(e.value)} if e.value else {}
    if e.op in ("add", "sub"):
        sign = 1 if e.op == "add" else -1
        return _sum(polynomial(e.args[0]), polynomial(e.args[1]), sign)
    if e.op == "neg":
        return _sum({}, polynomial(e.args[0]), -1)
    if e.op == "mul":
        return multiply(polynomial(e.args[0]), polynomial(e.args[1]))
    return {(e,): 1}


def _sum(a: Polynomial, b: Polynomial, sign: int) -> Polynomial:
    total = dict(a)
    for monomial, coefficient in b.items():
        total[monomial] = total.get(monomial, 0) + sign * coefficient
    return {m: c for m, c in total.items() if c}


def multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    """The product of two polynomials."""
    total: Polynomial = {}
    for x, p in a.items():
        for y, q in b.items():
            monomial = tuple(sorted(x + y, key=_order))
            total[monomial] = total.get(monomial, 0) + p * q
    return {m: c for m, c in total.items() if c}


def _order(e: Expr) -> tuple[object, ...]:
    """An order of atoms that is the same in every process."""
    return (e.op, repr(e.value), tuple(_order(a) for a in e.args))


def expression(p: Polynomial) -> Expr:
    """A polynomial as an int64 expression."""
    total = const(0, int64)
    for monomial, coefficient in p.items():
        term = const(coefficient, int64)
        for atom in monomial:
            term = binary("mul", atom, term)
        total = binary("add", total, term)
    return total


def variables(roots: Iterable[Expr]) -> frozenset[int]:
    """The loop variables below some expressions."""
    return frozenset(e.value for e in topological(roots) if e.op == "var")


def coefficients(e: Expr, wanted: Iterable[int]) -> dict[int, Polynomial] | None:
    """How an integer expression moves with each variable; None if it is not affine in them."""
    found: dict[int, Polynomial] = {v: {} for v in wanted}
    for monomial, coefficient in polynomial(e).items():
        inside = [atom for atom in monomial if variables([atom]) & found.keys()]
        if not inside:
            continue
        if len(inside) > 1 or inside[0].op != "var":
            return None
        rest = tuple(atom for atom in monomial if atom is not inside[0])
        found[inside[0].value][rest] = coefficient
    return found


def step(e: Expr, variable: int) -> int | None:
    """The constant by which an integer expression grows with a variable, None if there is none."""
    found = coefficients(e, (variable,))
    if found is None:
        return None
    p = found[variable]
    return p.get((), 0) if all(m == () for m in p) else None


# ---------------------------------------------------------------------- merging loops


def _uses(roots: Iterable[Expr]) -> list[Expr]:
    """The integer expressions that others consume: arguments of loads, comparisons, casts; the
    roots.
    """
    arithmetic = ("add", "sub", "mul", "neg")
    found: dict[Expr, None] = {}
    for e in topological(roots):
        if not (e.dtype is int64 and e.op in arithmetic):
            found.update((a, None) for a in e.args if a.dtype is int64)
    found.update((r, None) for r in roots if r.dtype is int64)
    return list(found)


def merge(loops: Loops, roots: tuple[Expr, ...]) -> tuple[Loops, tuple[Expr, ...]]:
    """Neighbouring loops that all roots step through as one become one; loops of extent 1 vanish.

    A merged loop keeps the inner variable; the outer one becomes 0 in the roots.
    """
    gone: dict[int, Expr] = {}
    kept: list[Loop] = []
    for loop in loops:
        if loop.extent.op == "const" and loop.extent.value == 1:
            gone[loop.variable] = const(0, int64)
        else:
            kept.append(loop)
    uses = _uses(roots)
    merged: list[Loop] = []
    for loop in reversed(kept):
        inner = merged[-1] if merged else None
        if inner is not None and all(_one_step(u, loop.variable, inner) for u in uses):
            gone[loop.variable] = const(0, int64)
            merged[-1] = Loop(inner.variable, binary("mul", loop.extent, inner.extent))
        else:
            merged.append(loop)
    return tuple(reversed(merged)), replace_variables(roots, gone)


def _one_step(e: Expr, outer: int, inner: Loop) -> bool:
    used = variables([e])
    if outer not in used and inner.variable not in used:
        return True
    found = coefficients(e, (outer, inner.variable))
    if found is None:
        return False
    return found[outer] == multiply(found[inner.variable], polynomial(inner.extent))


def replace_variables(roots: tuple[Expr, ...], values: Mapping[int, Expr]) -> tuple[Expr, ...]:
    """The roots with some loop variables replaced."""
    if not values:
        return roots

    def replacement(e: Expr) -> Expr | None:
        return values.get(e.value) if e.op == "var" else None

    return substitute(roots, replacement)


# ---------------------------------------------------------------------- roles


def roles(kernel: ContractKernel) -> Roles:
    """Rows and lanes of a kernel; a batch loop that only one operand has joins that operand's
    loops.
    """
    groups: list[Loops] = []
    number = 0
    for extents in (kernel.batch, kernel.m, kernel.n, kernel.k):
        groups.append(tuple(Loop(number + i, e) for i, e in enumerate(extents)))
        number += len(extents)
    batch, m, n, k = groups
    a, b = kernel.a, kernel.b
    in_a, in_b = variables([a]), variables([b])
    to_m = tuple(loop for loop in batch if loop.variable in in_a - in_b)
    to_n = tuple(loop for loop in batch if loop.variable in in_b - in_a)
    batch = tuple(loop for loop in batch if loop not in to_m + to_n)
    sides = (Side(m, to_m + m, a), Side(n, to_n + n, b))
    swapped = kernel.lanes == 0
    if kernel.lanes < 0:
        swapped = _should_swap(kernel.stores, sides, k)
    rows, lanes = reversed(sides) if swapped else sides
    values = (rows.value, lanes.value)
    kind = sum_dtype(a.dtype), in_pairs(kernel)
    return Roles(*kind, batch, rows.loops, lanes.loops, k, *values, kernel.stores, swapped)


@dataclass(frozen=True)
class Side:
    """One operand with the loops of its own, without and with those from the batch."""

    own: Loops
    loops: Loops
    value: Expr


def _should_swap(stores: tuple[Store, ...], sides: tuple[Side, Side], k: Loops) -> bool:
    """Should the first side be the lanes? Speed only: the sums are the same either way.

    An operand that reads a sliding window has lanes if the window's positions are its own loops,
    and rows if they are summed: then its copy is made of long runs. An operand that is padded and
    would have to be turned, or would have to be gathered, has rows, where it need not be. Otherwise
    lanes run along the result's memory.
    """
    for number, side in enumerate(sides):
        if side.loops and _is_window(side, k):
            return (number == 0) == _owns_positions(side, k)
    dear = [_is_dear_as_lanes(side, k) for side in sides]
    if sides[0].loops and sides[1].loops and dear[0] != dear[1]:
        return dear[1]
    return prefers_first(stores, sides[0].own, sides[1].own)


def _is_dear_as_lanes(side: Side, k: Loops) -> bool:
    """Does memory run along k, but not so that blocks can be turned in registers?"""
    found = view(k, side.loops, side.value)
    if found.kind == "turned":
        return found.valid is not None
    return found.kind != "runs" and view(side.loops, k, side.value).kind == "runs"


def _is_window(side: Side, k: Loops) -> bool:
    """Do both the last loop of k and the side's own last loop step through memory closely?"""
    found = view(k, side.loops, side.value)
    if found.parts is None or not found.rows or not found.columns:
        return False
    rows, columns = found.parts
    near = (1, 2)
    lanes, inner = found.columns[-1].variable, found.rows[-1].variable
    return step(columns, lanes) in near and step(rows, inner) in near


def _owns_positions(side: Side, k: Loops) -> bool:
    """Are the window's positions the side's loops, and not k?

    Sizes do not tell, but a window's index is written as position + element, in this order.
    """
    found = view(k, side.loops, side.value)
    assert found.load is not None
    own, summed = found.columns[-1].variable, found.rows[-1].variable
    for e in topological([found.load.args[0]]):
        if e.op == "add":
            left, right = (variables([a]) for a in e.args)
            if own in left - right and summed in right - left:
                return True
            if summed in left - right and own in right - left:
                return False
    return True


def prefers_first(stores: tuple[Store, ...], first: Loops, second: Loops) -> bool:
    """Would vectors along `first` write consecutive elements where those along `second` do not?"""
    first, second = (
        tuple(loop for loop in loops if loop.extent.op != "const" or loop.extent.value != 1)
        for loops in (first, second)
    )
    if not first or not second:
        return bool(first)

    def consecutive(loops: Loops) -> int:
        return sum(step(s.index, loops[-1].variable) == 1 for s in stores)

    return consecutive(first) > consecutive(second)


# ---------------------------------------------------------------------- views of an operand


def view(rows: Loops, columns: Loops, value: Expr) -> View:
    """`value` over rows x columns with its own merged loops and split index."""
    rows, (value,) = merge(rows, (value,))
    columns, (value,) = merge(columns, (value,))
    load = value
    while load.op == "cast":
        load = load.args[0]
    if load.op != "load":
        return View(rows, columns, value, None, None)
    columns, joined = _joined(columns, load)
    if joined is not load:
        (value,) = substitute((value,), lambda e: joined if e is load else None)
        load = joined
    of_rows = {loop.variable for loop in rows}
    of_columns = {loop.variable for loop in columns}
    row_part: Polynomial = {}
    column_part: Polynomial = {}
    for monomial, coefficient in polynomial(load.args[0]).items():
        used = variables(monomial)
        if used & of_rows and used & of_columns:
            return View(rows, columns, value, load, None)
        (row_part if used & of_rows else column_part)[monomial] = coefficient
    return View(rows, columns, value, load, (expression(row_part), expression(column_part)))


def _joined(columns: Loops, load: Expr) -> tuple[Loops, Expr]:
    """Neighbouring loops that a padded load's index steps through as one, joined.

    Only the padding still has to know them apart: it divides the joined variable.
    """
    if len(load.args) == 1:
        return columns, load
    index, valid = load.args
    done: list[Loop] = []
    for loop in reversed(columns):
        inner = done[-1] if done else None
        if inner is None or not _one_step(index, loop.variable, inner):
            done.append(loop)
            continue
        both = var(inner.variable)
        (index,) = replace_variables((index,), {loop.variable: const(0, int64)})
        apart = {loop.variable: both // inner.extent, inner.variable: both % inner.extent}
        (valid,) = replace_variables((valid,), apart)
        done[-1] = Loop(inner.variable, binary("mul", loop.extent, inner.extent))
    if len(done) == len(columns):
        return columns, load
    operand, fill = cast("tuple[int, float]", load.value)
    return tuple(reversed(done)), make_load(operand, load.dtype, index, valid, fill)
