"""Operands of contractions that are worth a copy of their own: packed by one launch, read by many.

A task of a contraction copies what it reads into the layout of the register tile. Where many
tasks, or several contractions of one program, would copy the same operand, the plan gets a
PackKernel and a buffer for its result instead, which lives until the last contraction has read it.
Sizes are judged by their hints: the choice changes how fast a program is, never its bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from rabbet.base.dtypes import DType, float32, int64
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.base.target import Target
from rabbet.codegen.contract_axes import Loops, Roles, roles, view
from rabbet.codegen.contract_blocks import blocks, operands, tiled
from rabbet.codegen.contract_thin import MOST_ROWS
from rabbet.codegen.contract_tile import half, panel_rows, tile_shape
from rabbet.expr import expr
from rabbet.expr.expr import Expr
from rabbet.expr.interpret import evaluate
from rabbet.graph.value import Value
from rabbet.kernel.access import Arguments
from rabbet.kernel.bands import bands
from rabbet.kernel.loops import ContractKernel, Operand, PackKernel
from rabbet.kernel.lower import Lowered
from rabbet.kernel.rewrite import expressions, renumber_operands
from rabbet.kernel.sums import as_computed, in_pairs
from rabbet.kernel.windows import is_direct

WORTH = 1 << 17  # fewer elements that are not copied again are not worth a launch
WORTH_KEPT = 1 << 12  # where it is made once for all runs
LONG = 16  # k that is worth turning the roles of rows and few lanes
DEEP = 128  # k that is worth turning the result
MANY_LANES = 1 << 12  # that windows make: rows which could be read where they are go in panels
FEWEST_LANES = 16  # of filters whose windows are read from bands
# Tiles with as many sums as the target's (8 x 3) for lanes that are multiples of them, so that none
# is narrower: six rows of one vector, for one, would not hide what a multiply-add takes.
WIDE, TALL = (6, 4), (12, 2)
FITTED_ROWS, FITTED_LONG = 24, 64  # fewer rows leave tiles empty; with fewer k they end often
TALL_TURNED = 256  # rows that a turned operand is turned for, at most, where tall tiles were faster
FITTED_PACKED = 256  # the same for lanes in panels already
FIRST_INDEX = -(1 << 20)  # of packed values: no other value of a call has such a number

TURNING = 44  # of a sum whose lanes do not lie as the result does: it takes as long as so many k

Key = tuple[Any, ...]
Places = frozenset[tuple[int, int]]  # values by their call's id and index


class Panels(Value):
    """An operand in panels: a value of the plan that no call of the graph made."""

    __slots__ = ("_spec",)

    def __init__(self, source: Value, number: int, elements: Dim, dtype: DType) -> None:
        super().__init__(source.call, FIRST_INDEX - number)
        self._spec = Spec((elements,), dtype, source.device)

    @property
    def spec(self) -> Spec:
        return self._spec


@dataclass(frozen=True)
class _Side:
    """One operand that could be packed: its kernel, and what the copies cost that this saves."""

    number: int  # 0: a, 1: b
    kernel: PackKernel
    arguments: Arguments
    key: Key
    elements: Dim  # of the packed buffer
    size: int  # elements to copy
    copies: int  # how often the contraction's tasks would copy them
    in_runs: bool  # does memory run along the panels' rows?
    is_read: bool = False  # few rows read it where it is, in an order that memory likes less


def prepared(one: Lowered, target: Target, constants: Places = frozenset()) -> Lowered:
    """The same, a contraction with operands as the target multiplies them and its rows chosen."""
    if not isinstance(one.kernel, ContractKernel):
        return one
    one = banded(replace(one, kernel=as_computed(one.kernel, target)), target)
    return fitted(oriented(one, target, constants), target, constants)


def banded(one: Lowered, target: Target) -> Lowered:
    """The same, but many windows of an image are read from bands of it where that is worth it.

    Speed only: the sums are the same either way, but for the sign of a zero (`contract_edges`).
    """
    kernel = one.kernel
    if not isinstance(kernel, ContractKernel) or kernel.lanes >= 0 or is_direct(kernel):
        return one
    if bands(kernel) is None:
        return one
    changed = replace(kernel, lanes=0, banded=True)
    chosen = roles(changed)
    cut = blocks(chosen, operands(changed, chosen), target)
    hints = [d if isinstance(d, int) else d.hint for d in one.dims]
    rows, lanes, k, copied = _values((cut.m, cut.n, cut.k, cut.scratch.b), hints)
    if lanes < FEWEST_LANES or rows < MOST_ROWS * cut.unit or copied > target.l2_bytes // 2:
        return one
    return replace(one, kernel=changed)


def oriented(one: Lowered, target: Target, constants: Places = frozenset()) -> Lowered:
    """The same, but with rows and lanes the other way round where that is faster.

    Speed only: the sums are the same either way.
    """
    kernel = one.kernel
    if not isinstance(kernel, ContractKernel) or kernel.lanes >= 0:
        return one
    chosen = roles(kernel)
    hints = [d if isinstance(d, int) else d.hint for d in one.dims]
    sizes = _values([_flat(g)[1] for g in (chosen.m, chosen.n, chosen.k)], hints)
    if not _reads_in_order(chosen, sizes) and not _leaves_lanes_empty(
        one, chosen, sizes, target, constants
    ):
        return one
    return replace(one, kernel=replace(kernel, lanes=1 if chosen.swapped else 0))


def _reads_in_order(chosen: Roles, sizes: list[int]) -> bool:
    """Would the lanes, as rows, be read in the order of memory?

    Few rows read the other operand once; few lanes would leave most of each vector empty. Two
    turned operands need no copies the other way round, but then the result is turned.
    """
    rows, lanes, along = sizes
    sides = (chosen.m, chosen.a), (chosen.n, chosen.b)
    a, b = (view(chosen.k, across, value) for across, value in sides)
    if not (a.plain and b.plain and rows > MOST_ROWS):
        return False
    both_turned = a.kind == "runs" and b.kind == "turned"
    return (both_turned and along > min(rows, DEEP)) or (lanes <= MOST_ROWS and along >= LONG)


def _leaves_lanes_empty(
    one: Lowered, chosen: Roles, sizes: list[int], target: Target, constants: Places
) -> bool:
    """Do lanes fill vectors badly that constant rows, which are packed once, would fill?

    So it is with the filters of small images: 7 x 7 pixels are 49 lanes of 64.
    """
    rows, lanes, along = sizes
    if not constants:
        return False
    if not _is_constant(one, _loads(chosen.a)[0], constants):
        return False
    sides = (chosen.m, chosen.a), (chosen.n, chosen.b)
    views = [view(chosen.k, across, value) for across, value in sides]
    if views[0].kind != "turned" or views[1].kind != "runs" or any(v.valid for v in views):
        return False
    vector, part = target.lanes(chosen.dtype.bits), half(target)
    now = _up(lanes, vector) * _up(rows, part)
    return now * along > _up(rows, vector) * _up(lanes, part) * (along + TURNING)


def fitted(one: Lowered, target: Target, constants: Places = frozenset()) -> Lowered:
    """The same, but in the register tile that its lanes fill.

    Speed only: the sums are the same either way. Constant operands keep the target's tile where it
    is as good: their panels, as wide as a tile, serve products of any number of rows.
    """
    kernel = one.kernel
    if not isinstance(kernel, ContractKernel) or kernel.banded or is_direct(kernel):
        return one
    if any(kernel.tile) or target.tile_rows or target.registers < 32:
        return one
    chosen = roles(kernel)
    hints = [d if isinstance(d, int) else d.hint for d in one.dims]
    rows, lanes, along = _values([_flat(g)[1] for g in (chosen.m, chosen.n, chosen.k)], hints)
    if rows < FITTED_ROWS or along < FITTED_LONG:
        return one
    vector = target.lanes(chosen.dtype.bits)
    is_tall = lanes % (TALL[1] * vector) == 0
    is_wide = lanes % (WIDE[1] * vector) == 0 and lanes >= 2 * WIDE[1] * vector
    kept = [
        bool(constants) and any(_is_constant(one, load, constants) for load in _loads(x))
        for x in (chosen.a, chosen.b)
    ]
    if kept[0]:
        return one
    if kept[1]:
        if is_wide and lanes % (tile_shape(target)[1] * vector):  # 0 to 8 % faster
            return replace(one, kernel=replace(kernel, tile=WIDE))
        is_tall = is_tall and along >= FITTED_PACKED and _fills_better(rows, lanes, target, vector)
        return replace(one, kernel=replace(kernel, tile=TALL)) if is_tall else one
    views = view(chosen.m, chosen.k, chosen.a), view(chosen.k, chosen.n, chosen.b)
    if chosen.dtype is not float32 or not all(v.plain for v in views):
        return one
    turned, tile = views[1].kind == "turned", (0, 0)
    in_runs = all(v.kind == "runs" for v in views)
    if in_runs and is_wide:
        tile = WIDE
    elif is_tall and (lanes <= 2 * TALL[1] * vector or (turned and rows <= TALL_TURNED)):
        tile = TALL
    return replace(one, kernel=replace(kernel, tile=tile))


def _fills_better(rows: int, lanes: int, target: Target, vector: int) -> bool:
    """Do tall tiles leave clearly fewer lanes empty, or with few rows fewer places in all?"""
    panel = tile_shape(target)[1] * vector
    if 16 * (_up(lanes, panel) - lanes) > lanes:
        return True
    tall = _up(rows, TALL[0] // 2) * lanes
    return rows <= TALL_TURNED and tall < _up(rows, half(target)) * _up(lanes, panel)


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _is_constant(one: Lowered, load: Expr, constants: Places) -> bool:
    source = one.buffers[cast("tuple[int, Any]", load.value)[0]]
    return (id(source.call), source.index) in constants


def _loads(value: Expr) -> list[Expr]:
    return [e for e in expr.topological([value]) if e.op == "load"]


class Packing:
    """The packed operands of one plan.

    Those made of `constants` alone (values by their call's id and index) are not packed by the plan
    but given to it: `kept` holds their packs.
    """

    def __init__(
        self,
        lowered: Sequence[Lowered],
        target: Target,
        constants: Places = frozenset(),
    ) -> None:
        self._target = target
        self._constants = constants
        self.kept: list[Lowered] = []
        self._sides = {id(one): self._candidates(one) for one in lowered}
        self._copies: Counter[Key] = Counter()
        for sides in self._sides.values():
            for side in sides:
                self._copies[side.key] += 0 if side.is_read else side.copies
        self._made: dict[Key, Panels] = {}

    def apply(self, one: Lowered) -> list[Lowered]:
        """What to launch instead of `one`: new packs, then the kernel that reads them."""
        chosen = [s for s in self._sides[id(one)] if self._is_worth(s)]
        if not chosen:
            return [one]
        packs: list[Lowered] = []
        for side in chosen:
            if side.key not in self._made:
                made = self._pack(side)
                (self.kept if self._is_constant(side) else packs).append(made)
            one = self._reading(one, side)
        return [*packs, one]

    def _is_constant(self, side: _Side) -> bool:
        return all((id(v.call), v.index) in self._constants for v in side.arguments.buffers)

    def _is_worth(self, side: _Side) -> bool:
        if self._is_constant(side):
            return side.size >= WORTH_KEPT
        nbytes = side.size * side.kernel.value.dtype.itemsize
        # what lies in runs is copied as fast as panels that no core keeps are read again
        saved = self._copies[side.key] - 1 - (side.in_runs and nbytes > self._target.l2_bytes)
        return not side.is_read and saved * side.size >= WORTH

    def _pack(self, side: _Side) -> Lowered:
        arguments = side.arguments
        source = arguments.buffers[0]
        dtype = side.kernel.value.dtype
        made = Panels(source, len(self._made), side.elements, dtype)
        self._made[side.key] = made
        return Lowered(side.kernel, [*arguments.buffers, made], arguments.dims, arguments, [], [])

    def _reading(self, one: Lowered, side: _Side) -> Lowered:
        """The contraction with one operand read from its panels."""
        kernel = cast("ContractKernel", one.kernel)
        chosen = roles(kernel)
        is_lanes = side.number == (0 if chosen.swapped else 1)
        across = chosen.n if is_lanes else chosen.m
        index = _panel_index(chosen.batch, across, chosen.k, side.kernel)
        name = "ab"[side.number]
        number = len(kernel.operands)
        value = expr.load(number, side.kernel.value.dtype, index)
        packed = list(kernel.packed)
        packed[side.number] = True
        kernel = replace(
            kernel,
            **{name: value},  # type: ignore[arg-type]
            operands=(*kernel.operands, Operand(value.dtype, "in")),
            packed=(packed[0], packed[1]),
            lanes=0 if chosen.swapped else 1,
        )
        buffers = [*one.buffers, self._made[side.key]]
        return _without_unused(replace(one, kernel=kernel, buffers=buffers))

    # ---- what could be packed ------------------------------------------------------------------

    def _candidates(self, one: Lowered) -> list[_Side]:
        kernel = one.kernel
        if not isinstance(kernel, ContractKernel) or is_direct(kernel):
            return []
        chosen = roles(kernel)
        read = operands(kernel, chosen)
        target = tiled(kernel, self._target)
        cut = blocks(chosen, read, target)
        hints = [d if isinstance(d, int) else d.hint for d in one.dims]
        sizes = (cut.m, cut.n, cut.row_blocks, cut.lane_blocks)
        rows, lanes, row_blocks, lane_blocks = _values(sizes, hints)
        found: list[_Side] = []
        numbers = (1, 0) if chosen.swapped else (0, 1)
        copied = read.a_copied and not (read.pairs and read.by_rows)  # rows are pairs as they are
        copied = copied and not kernel.banded
        if copied or (read.a.direct and not read.b.plain and lanes >= MANY_LANES):
            width = panel_rows(target, chosen.dtype)
            found += self._side(one, chosen, numbers[0], width, lane_blocks)
        for side in self._side(one, chosen, numbers[1], cut.panel, row_blocks):
            found.append(replace(side, is_read=read.b_in_place or rows <= MOST_ROWS))
        return found

    def _side(
        self, one: Lowered, chosen: Roles, number: int, width: int, copies: int
    ) -> list[_Side]:
        """One operand, if it is a matrix in memory as it is (or cast), each element once."""
        kernel = cast("ContractKernel", one.kernel)
        across = chosen.m if (number == 1) == chosen.swapped else chosen.n
        value = (kernel.a, kernel.b)[number]
        seen = view(chosen.k, across, value)
        if seen.kind not in ("runs", "turned") or seen.valid is not None:
            return []
        arguments = Arguments()
        loops = (chosen.batch, across, chosen.k)
        rewritten = _rewritten(one, loops, value, arguments)
        extents = [[one.arguments.dim_of(x.extent) for x in group] for group in loops]
        counts = [_product(group) for group in extents]
        hint = _hint(_product(counts))
        source = arguments.buffers[0]
        if hint > _hint(source.spec.elements) or hint == 0:
            return []
        batch, places, along = (tuple(arguments.size(d) for d in group) for group in extents)
        result = Operand(value.dtype, "out")
        pack = PackKernel((*arguments.operands, result), batch, places, along, rewritten, width)
        dims = tuple(d if isinstance(d, int) else d.key for d in arguments.dims)
        key = (pack, id(source.call), source.index, dims)
        rows = (counts[2] + 1) // 2 * 2 if in_pairs(pack) else counts[2]
        elements = counts[0] * ((counts[1] + (width - 1)) // width) * width * rows
        in_runs = seen.plain and seen.kind == "runs"
        return [_Side(number, pack, arguments, key, elements, hint, copies, in_runs)]


def _rewritten(one: Lowered, loops: tuple[Loops, ...], value: Expr, arguments: Arguments) -> Expr:
    """`value` with variables, sizes and operands numbered as in the new kernel."""
    places = {loop.variable: n for n, loop in enumerate(x for group in loops for x in group)}

    def change(e: Expr) -> Expr | None:
        match e.op:
            case "var":
                return expr.var(places[cast("int", e.value)])
            case "size":
                return arguments.size(one.dims[cast("int", e.value)])
        return None

    read = [cast("tuple[int, Any]", e.value)[0] for e in _loads(value)]
    numbers = {operand: arguments.operand(one.buffers[operand]) for operand in read}
    return renumber_operands(expr.substitute((value,), change)[0], numbers)


def _panel_index(batch: Loops, across: Loops, k: Loops, pack: PackKernel) -> Expr:
    """Where a PackKernel puts the element at these loops' variables."""
    width = pack.width
    (element, _), (place, count), (row, rows) = (_flat(group) for group in (batch, across, k))
    panels = (count + (width - 1)) // width
    panel = element * panels + place // width
    if in_pairs(pack):
        pair = (panel * ((rows + 1) // 2) + row // 2) * width + place % width
        return pair * 2 + row % 2
    return (panel * rows + row) * width + place % width


def _flat(loops: Loops) -> tuple[Expr, Expr]:
    """The flat number of a point of some loops, and of how many."""
    number, count = expr.const(0, int64), expr.const(1, int64)
    for loop in loops:
        number = number * loop.extent + expr.var(loop.variable)
        count = count * loop.extent
    return number, count


def _without_unused(one: Lowered) -> Lowered:
    """The same without operands that no expression reads any more."""
    kernel = cast("ContractKernel", one.kernel)
    used = {s.operand for s in kernel.stores}
    for e in expr.topological(list(expressions(kernel))):
        if e.op == "load":
            used.add(cast("tuple[int, Any]", e.value)[0])
    kept = [n for n in range(len(kernel.operands)) if n in used]
    places = {n: new for new, n in enumerate(kept)}

    def changed(e: Expr) -> Expr:
        return renumber_operands(e, places)

    kernel = replace(
        kernel,
        operands=tuple(kernel.operands[n] for n in kept),
        a=changed(kernel.a),
        b=changed(kernel.b),
        stores=tuple(
            replace(s, operand=places[s.operand], index=changed(s.index), value=changed(s.value))
            for s in kernel.stores
        ),
    )
    return replace(one, kernel=kernel, buffers=[one.buffers[n] for n in kept])


def _product(dims: Sequence[Dim]) -> Dim:
    total: Dim = 1
    for d in dims:
        total = total * d
    return total


def _hint(d: Dim) -> int:
    return d if isinstance(d, int) else d.hint


def _values(wanted: Sequence[Expr], sizes: Sequence[int]) -> list[int]:
    """Expressions over size(n) for given sizes."""
    found = evaluate(tuple(wanted), lambda leaf: np.asarray(sizes[cast("int", leaf.value)]))
    return [int(x) for x in found]
