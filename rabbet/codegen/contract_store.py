"""The epilogue of a contraction: from one panel of finished sums to the kernel's stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rabbet.base.dtypes import DType, int64
from rabbet.codegen.contract_axes import (
    Loops,
    Roles,
    coefficients,
    expression,
    merge,
    prefers_first,
    step,
    variables,
)
from rabbet.codegen.contract_blocks import Blocks
from rabbet.codegen.contract_loops import (
    Part,
    chunks,
    first_lanes,
    is_linear,
    minimum,
    prefetch,
    quotient,
    runs,
    walk,
)
from rabbet.codegen.contract_pack import batch_emitter, batch_parameters
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Module, Value, i64, literal
from rabbet.codegen.operations import has_masks, memory_type, register_type
from rabbet.codegen.rows_streamed import all_aligned, stream_bytes
from rabbet.codegen.stepping import operations, product
from rabbet.expr.expr import Expr, const, topological
from rabbet.kernel.loops import Operand, Store

# row, lane: flat numbers of the first ones and how many; sums: rows of `step` bytes.
PARAMETERS = (
    ("i64", "row"),
    ("i64", "rows"),
    ("i64", "lane"),
    ("i64", "lanes"),
    ("ptr noalias", "sums"),
    ("i64", "step"),
)


TURNED = (("ptr noalias", "turned"),)
MOST_OPERATIONS = 24  # of stores that are written out for each vector of a panel
EARLY = 6  # rows that are fetched before they are read or written


def epilogue(module: Module, operands: Sequence[Operand], roles: Roles, cut: Blocks) -> Part:
    """The function that runs the stores for `rows` x `lanes` finished sums.

    Vectors run along the axis that the stores' memory runs along, lanes if there is none. With
    bands it gets memory for a vector of lanes turned, as its last argument, for rows that run along
    memory.
    """
    apart = cut.band is not None
    m, n, stores = _merged(roles)
    given = (*batch_parameters(roles.batch), *PARAMETERS, *(TURNED if apart else ()))
    part = Part(module, "epilogue", operands, given)
    if not prefers_first(stores, m, n):
        few = sum(operations([s.value]) for s in stores) <= MOST_OPERATIONS
        if few and len(n) == 1 and len(m) == 1 and has_masks(module.target):
            with _write_whole(part, roles, stores, m[0].variable, n[0].variable, cut.panel):
                _write(part, roles, stores, (n, "lane", None), (m, "row", part["step"]))
        else:
            _write(part, roles, stores, (n, "lane", None), (m, "row", part["step"]))
    elif apart:
        _write_turned(part, roles, stores, m, n)
    else:
        _write(part, roles, stores, (m, "row", part["step"]), (n, "lane", None))
    return part


Axis = tuple[Loops, str, Value | None]  # loops, name of the parameters, bytes between sums or None


def _write(part: Part, roles: Roles, stores: tuple[Store, ...], inner: Axis, outer: Axis) -> None:
    """The stores with vectors along `inner`, for each point of `outer`."""
    fn, em = part.fn, batch_emitter(part, roles.batch)
    vector, itemsize = part.target.lanes(roles.dtype.bits), roles.dtype.itemsize
    inner_step, outer_step = (axis[2] or i64(itemsize) for axis in (inner, outer))
    turned = inner[2] is not None and is_linear(inner[0]) and vector > 1
    spare = None
    if turned:
        _turn(part, roles.dtype)
        spare = fn.allocate(f"[{vector} x {register_type(roles.dtype, vector)}]")
    with runs(em, inner[0], part[inner[1]], part[f"{inner[1]}s"]) as run:
        around = em.inner({v: x for v, x in run.variables.items() if v != run.last})
        first = fn.address(part["sums"], fn.mul(run.position, inner_step), "i8")
        with walk(around, outer[0], part[outer[1]], part[f"{outer[1]}s"]) as (t, variables):
            place = fn.address(first, fn.mul(t, outer_step), "i8")
            whole = _turned_place(part, first, t, vector, itemsize) if turned else place
            point = around.inner(variables)
            for offset, width, mask in chunks(fn, run.length, vector, moves=run.last is not None):
                moving = {}
                if run.last is not None:
                    moving[run.last] = fn.add(run.variables[run.last], offset)
                is_turned = turned and width > 1
                here = fn.address(whole if is_turned else place, fn.mul(offset, inner_step), "i8")
                if is_turned and mask is not None and spare is not None:
                    here = _turned_rest(part, roles.dtype, t, offset, spare)
                step = None if is_turned else inner[2]
                sums = _sums(part, roles.dtype, here, step, width, mask)
                at = point.inner(moving, {0: sums}, lanes=width, vector=run.last, mask=mask)
                # All values first: a store may overwrite what another value is read from.
                values = [at.value(store.value) for store in stores]
                for store, value in zip(stores, values, strict=True):
                    at.store(store.operand, store.index, value, store.value.dtype)


@contextmanager
def _write_whole(
    part: Part, roles: Roles, stores: tuple[Store, ...], row: int, lane: int, panel: int
) -> Iterator[None]:
    """The stores of a panel that needs all its vectors, row by row of variable `row`, with what
    lanes alone tell computed once. Rows may lie pages apart, so later ones are fetched early, but
    for those that other loads name.

    What is emitted inside does other panels.
    """
    fn, em = part.fn, batch_emitter(part, roles.batch)
    lanes, dtype = part.target.lanes(roles.dtype.bits), roles.dtype
    vectors = panel // lanes
    roots = [e for s in stores for e in (s.index, s.value)]
    loads = [e for e in topological(roots) if e.op == "load" and row in variables([e])]
    loads = [e for e in loads if all(x.op != "load" for x in topological([e.args[0]]))]
    some, whole, done = (fn.fresh_label(name) for name in ("some", "whole", "written"))
    empty = fn.sub(part["lanes"], (vectors - 1) * lanes + 1)
    fn.branch(fn.icmp("ult", empty, lanes), whole, some)
    fn.label(some)
    yield
    fn.jump(done)
    fn.label(whole)
    points: list[Emitter] = []
    for v in range(vectors):
        mask = first_lanes(fn, fn.sub(part["lanes"], v * lanes), lanes)
        first = fn.add(part["lane"], v * lanes)
        points.append(em.inner({lane: first}, lanes=lanes, vector=lane, mask=mask))
        points[-1].hoist(roots, {row}, {0})
    with fn.loop(i64(0), part["rows"]) as t:
        here = fn.add(part["row"], t)
        for v in range(vectors):
            early = em.inner({row: fn.add(here, EARLY), lane: fn.add(part["lane"], v * lanes)})
            for e in loads:
                line = part.pointer(e.operand), early.scalar(e.args[0])
                prefetch(fn, fn.address(*line, memory_type(e.dtype)))
            for s in stores:
                kind = memory_type(part.operands[s.operand].dtype)
                prefetch(fn, fn.address(part.pointer(s.operand), early.scalar(s.index), kind))
        place = fn.address(part["sums"], fn.mul(t, part["step"]), "i8")
        for v, point in enumerate(points):
            kind = register_type(dtype, lanes)
            sums = fn.load(kind, fn.address(place, i64(v), kind))
            at = point.inner({row: here}, {0: sums})
            # All values first: a store may overwrite what another value is read from.
            values = [at.value(store.value) for store in stores]
            for store, value in zip(stores, values, strict=True):
                at.store(store.operand, store.index, value, store.value.dtype)
    fn.jump(done)
    fn.label(done)


def _turn(part: Part, dtype: DType) -> None:
    """Turn square blocks of sums where they are; rows behind the last whole block stay."""
    fn, lanes = part.fn, part.target.lanes(dtype.bits)
    kind, step = register_type(dtype, lanes), part["step"]
    whole = fn.binary("and", part["rows"], i64(-lanes))
    with fn.loop(i64(0), whole, lanes) as row, fn.loop(i64(0), part["lanes"], lanes) as lane:
        first = fn.address(part["sums"], fn.mul(row, step), "i8")
        first = fn.address(first, lane, register_type(dtype))
        places = [fn.address(first, fn.mul(step, i), "i8") for i in range(lanes)]
        block = transpose(fn, [fn.load(kind, place) for place in places], dtype.bits)
        for place, vector in zip(places, block, strict=True):
            fn.store(vector, place)


def _turned_rest(part: Part, dtype: DType, lane: Value, row: Value, spare: Value) -> Value:
    """Where the sums of a lane from `row` on are side by side, which fill no whole vector: those of
    a vector of lanes are turned to `spare` at the first of these.
    """
    fn, lanes = part.fn, part.target.lanes(dtype.bits)
    kind, step = register_type(dtype, lanes), part["step"]
    inside = fn.binary("and", lane, i64(lanes - 1))
    with fn.when(fn.icmp("eq", inside, 0)):
        first = fn.address(part["sums"], lane, register_type(dtype))
        last = fn.sub(part["rows"], 1)  # rows that do not exist repeat it
        numbers = [minimum(fn, fn.add(row, i), last) for i in range(lanes)]
        rows = [fn.load(kind, fn.address(first, fn.mul(step, r), "i8")) for r in numbers]
        for i, vector in enumerate(transpose(fn, rows, dtype.bits)):
            fn.store(vector, fn.address(spare, i64(i), kind))
    return fn.address(spare, inside, kind)


def _write_turned(part: Part, roles: Roles, stores: tuple[Store, ...], m: Loops, n: Loops) -> None:
    """The stores with vectors along the rows, a vector of lanes after the other, each turned."""
    fn, em, dtype = part.fn, batch_emitter(part, roles.batch), roles.dtype
    vector = part.target.lanes(dtype.bits)
    for loop in (*m, *n):
        em.scalar(loop.extent)
    passing = streams(em, roles, stores, m)
    with fn.loop(i64(0), part["lanes"], vector) as lane:
        step = _turn_apart(part, dtype, lane)
        lanes = minimum(fn, i64(vector), fn.sub(part["lanes"], lane))
        here = em.inner()
        with runs(here, m, part["row"], part["rows"]) as run:
            assert run.last is not None
            around = here.inner({v: x for v, x in run.variables.items() if v != run.last})
            first = fn.address(part["turned"], run.position, register_type(dtype))
            with walk(around, n, fn.add(part["lane"], lane), lanes) as (t, variables):
                line = fn.address(first, fn.mul(t, step), "i8")
                begin = run.variables[run.last]
                bounds = begin, fn.add(begin, run.length)
                _write_line(around.inner(variables), dtype, stores, line, run.last, bounds, passing)
    if passing is not None:
        with fn.when(passing):  # other threads see the results only after this
            fn.intrinsic("x86.sse.sfence", "void")


def _write_line(
    em: Emitter,
    dtype: DType,
    stores: tuple[Store, ...],
    line: Value,
    variable: int,
    bounds: tuple[Value, Value],
    streams: Value | None,
) -> None:
    """The stores of neighbouring rows, for one lane; `line`: their sums."""
    fn, lanes = em.fn, em.frame.target.lanes(dtype.bits)
    begin, end = bounds

    def write(i: Value, width: int, mask: Value | None, passing: bool) -> None:
        place = fn.address(line, fn.sub(i, begin), register_type(dtype))
        sums = fn.load(register_type(dtype, width), place)
        at = em.inner({variable: i}, {0: sums}, lanes=width, vector=variable, mask=mask)
        at.streams = passing
        # All values first: a store may overwrite what another value is read from.
        values = [at.value(store.value) for store in stores]
        for store, value in zip(stores, values, strict=True):
            at.store(store.operand, store.index, value, store.value.dtype)

    rest = fn.variable("i64", begin)
    if streams is not None:
        aligned = all_aligned(fn, em.inner({variable: begin}), stores)
        with fn.when(fn.binary("and", streams, aligned)):
            whole = fn.add(begin, fn.binary("and", fn.sub(end, begin), i64(-lanes)))
            with fn.loop(begin, whole, lanes) as i:
                write(i, lanes, None, True)
            rest.set(whole)
    first = rest.get()
    for offset, width, mask in chunks(fn, fn.sub(end, first), lanes):
        write(fn.add(first, offset), width, mask, False)


def streams(em: Emitter, roles: Roles, stores: tuple[Store, ...], m: Loops) -> Value | None:
    """i1: do the results go past the caches, as those of rows do (`rows_streamed`)?"""
    fn, target = em.fn, em.frame.target
    loops = (*roles.batch, *roles.m, *roles.n)
    each = stream_bytes(stores, m[-1].variable, em.frame.operands, target)
    if each is None:
        return None
    size = em.scalar(product(loop.extent for loop in loops) * each)
    return fn.icmp("sge", size, target.l3_bytes)


def _turn_apart(part: Part, dtype: DType, lane: Value) -> Value:
    """Write a vector of lanes of all sums turned to `turned`: bytes from lane to lane there.

    There are sums up to the end of the last block, and room for them.
    """
    fn, lanes = part.fn, part.target.lanes(dtype.bits)
    kind, element = register_type(dtype, lanes), register_type(dtype)
    whole = fn.binary("and", fn.add(part["rows"], lanes - 1), i64(-lanes))
    step = fn.mul(whole, dtype.itemsize)
    column = fn.address(part["sums"], lane, element)
    with fn.loop(i64(0), whole, lanes) as row:
        first = fn.address(column, fn.mul(row, part["step"]), "i8")
        places = [fn.address(first, fn.mul(part["step"], i), "i8") for i in range(lanes)]
        block = transpose(fn, [fn.load(kind, place) for place in places], dtype.bits)
        to = fn.address(part["turned"], row, element)
        for i, vector in enumerate(block):
            fn.store(vector, fn.address(to, fn.mul(step, i), "i8"))
    return step


def _turned_place(part: Part, sums: Value, lane: Value, lanes: int, itemsize: int) -> Value:
    """Where the first block of a lane's sums lies after `_turn`."""
    fn = part.fn
    block = quotient(fn, lane, i64(lanes))
    inside = fn.sub(lane, fn.mul(block, lanes))
    place = fn.address(sums, fn.mul(inside, part["step"]), "i8")
    return fn.address(place, fn.mul(block, lanes * itemsize), "i8")


def _sums(
    part: Part, dtype: DType, place: Value, step: Value | None, width: int, mask: Value | None
) -> Value:
    """Neighbouring sums of a row (there is room for whole vectors), or of a column."""
    fn, kind = part.fn, register_type(dtype, width)
    if step is None or width == 1:
        return fn.load(kind, place)
    offsets = fn.binary("mul", fn.iota(width), fn.splat(step, width))
    every = literal(True, f"<{width} x i1>")
    places = fn.address(place, offsets, "i8")
    if mask is not None and not has_masks(part.target):
        # rows that do not exist: read the first sum instead, so that nothing is read out of bounds
        places = fn.select(mask, places, fn.splat(place, width))
        mask = None
    return fn.gather(kind, places, mask or every, literal(0, kind))


@dataclass(frozen=True)
class Place:
    """Where sums go that a kernel stores as they are, lanes side by side: into an operand, at an
    index of the batch's variables and one variable of rows and one of lanes; or, if rows are
    windows, of all variables of rows.
    """

    operand: int
    index: Expr
    rows: int | None  # None: there is one row
    lanes: int
    row_step: Expr  # elements from row to row
    steps: tuple[Expr, ...] = ()  # of windows: elements from point to point of each loop of rows


def place(roles: Roles, windows: bool) -> Place | None:
    """Where the register tile may store its sums itself, if the kernel does nothing else."""
    m, n, stores = _merged(roles, not windows)
    if len(stores) > 1 or stores[0].value.op != "acc" or len(n) != 1:
        return None
    index, row_step = stores[0].index, const(0, int64)
    if step(index, n[0].variable) != 1:
        return None
    if windows:
        moved = coefficients(index, [loop.variable for loop in m])
        if moved is None:
            return None
        steps = tuple(expression(moved[loop.variable]) for loop in m)
        return Place(stores[0].operand, index, None, n[0].variable, row_step, steps)
    if len(m) > 1:
        return None
    for loop in m:
        found = coefficients(index, [loop.variable])
        if found is None:
            return None
        row_step = expression(found[loop.variable])
    rows = m[0].variable if m else None
    return Place(stores[0].operand, index, rows, n[0].variable, row_step)


def _merged(roles: Roles, rows: bool = True) -> tuple[Loops, Loops, tuple[Store, ...]]:
    """Rows, lanes and stores with the loops merged that all stores step through as one; `rows`:
    those of rows as well.
    """
    roots: tuple[Expr, ...] = tuple(e for s in roles.stores for e in (s.index, s.value))
    m, roots = merge(roles.m, roots) if rows else (roles.m, roots)
    n, roots = merge(roles.n, roots)
    stores = tuple(
        Store(s.operand, index, value)
        for s, index, value in zip(roles.stores, roots[::2], roots[1::2], strict=True)
    )
    return m, n, stores
