"""From a group of calls to a kernel: one function per kind.

The index of a group's domain axis a is var(a) until the loops are chosen; then variables are
renumbered in loop order and neighbouring loops that every access walks as one are merged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from typing import cast as cast_type

from rabbet.base.dtypes import int64
from rabbet.base.errors import IndexRangeError
from rabbet.base.sizes import Dim
from rabbet.expr import expr
from rabbet.expr.expr import Expr
from rabbet.graph.value import Call, Value
from rabbet.kernel import access
from rabbet.kernel.access import ZERO, Arguments, Index
from rabbet.kernel.collapse import merge_loops, with_products
from rabbet.kernel.fuse import Fusion, block_variable
from rabbet.kernel.group import Group
from rabbet.kernel.loops import (
    ContractKernel,
    Kernel,
    Reduction,
    RowKernel,
    ScatterKernel,
    SortKernel,
    Store,
    Sweep,
)
from rabbet.kernel.lower_attention import attention_kernel
from rabbet.kernel.lower_recurrent import recurrent_kernel
from rabbet.kernel.rewrite import expressions, map_expressions, renumber_sizes
from rabbet.kernel.windows import with_literal_windows
from rabbet.ops.index_maps import slice_length
from rabbet.ops.order import is_across, trailing

NARROW_LINE = 2**32  # positions of a shorter line take 32 bits while it is sorted


@dataclass(eq=False)
class Lowered:
    """A kernel with what it is called on: `buffers` by operand number, `dims` by size number."""

    kernel: Kernel
    buffers: list[Value]
    dims: list[Dim]
    arguments: Arguments
    calls: list[Call]
    copies: list[tuple[Value, Value]]  # (from, to): to be copied before (a scatter's base)

    def compact(self) -> Lowered:
        """The same with sizes numbered as the kernel uses them and no others: what merged loops
        no longer ask for must not tell equal kernels apart.
        """
        numbers: dict[int, int] = {}
        for e in expr.topological(list(expressions(self.kernel))):
            if e.op == "size":
                numbers.setdefault(cast_type(int, e.value), len(numbers))
        if list(numbers) == [*range(len(self.dims))]:
            return self
        dims = [self.dims[n] for n in numbers]
        arguments = replace(self.arguments, dims=dims, known={})
        kernel = renumber_sizes(self.kernel, numbers)
        return replace(self, kernel=kernel, dims=dims, arguments=arguments)


def lower(group: Group, fusion: Fusion) -> Lowered:
    """The kernel of one group."""
    match group.kind:
        case "rows":
            return _Rows(group, fusion).lower()
        case "contract":
            return _lower_contract(group, fusion)
        case "attention":
            return _lower_attention(group, fusion)
        case "recurrent":
            return _lower_recurrent(group, fusion)
        case "sort":
            return _lower_sort(group, fusion)
        case _ if callable(group.calls[0].op.lower):
            return _lower_slice(group, fusion)
        case _:
            return _lower_scatter(group, fusion)


class _Body:
    """Expressions of a group's values at their canonical index."""

    def __init__(self, group: Group, fusion: Fusion) -> None:
        self.group = group
        self.fusion = fusion
        is_map = group.kind == "rows" and group.reduced is None
        self.arguments = Arguments(literal=access.digit(group.domain) if is_map else 1)
        self.made: dict[int, Expr] = {}

    def load(self, v: Value, index: Index, valid: Expr | None) -> Expr:
        """A value of this group at hand, or one from memory."""
        if v.call in self.group and id(v.call) in self.made and access.storage(v) is v:
            return self.made[id(v.call)]
        return access.load_stored(v, index, self.arguments, valid)

    def read(self, v: Value, index: Index) -> Expr:
        """An operand of a kernel that computes none: a load, from a copy where there is one."""
        if (id(v.call), v.index) in self.fusion.copied:
            return access.load_stored(v, index, self.arguments, None)
        return access.read(v, index, self.arguments, self.load)

    def operand(self, call: Call, number: int, index: Index) -> Expr:
        """Operand `number` of an elementwise call at the call's index."""
        x = call.inputs[number]
        at = access.stretched(index, x.shape, call.specs[0].shape)
        return access.read(x, at, self.arguments, self.load)

    def elementwise(self, call: Call) -> Expr:
        """What an elementwise call computes at its canonical index."""
        index = self.group.index[id(call)]
        exprs = [self.operand(call, n, index) for n in range(len(call.inputs))]
        return call.op.lower(*exprs, **call.attrs)

    def gather(self, call: Call) -> Expr:
        """take: an element at a computed place; the place is checked and kept in range."""
        x, indices = call.inputs
        axis = call.attrs["axis"] % x.ndim
        index = self.group.index[id(call)]
        here = index[axis : axis + indices.ndim]
        _refuse_empty(call, x.shape[axis], indices)
        place = access.read(indices, here, self.arguments, self.load)
        at = checked(place, x.shape[axis], self.arguments)
        full = (*index[:axis], at, *index[axis + indices.ndim :])
        if (id(x.call), x.index) in self.fusion.copied:
            return access.load_stored(x, full, self.arguments, None)
        return access.read(x, full, self.arguments, self.load)

    def copy(self, call: Call) -> Expr:
        """A movement or source call that is stored for its own sake."""
        v = call.outputs[0]
        return access.read(v, self.group.index[id(call)], self.arguments, self.load)

    def compute(self, call: Call) -> Expr:
        """The expression of any call that is not a reduction or contraction."""
        match call.op.kind:
            case "elementwise":
                return self.elementwise(call)
            case "gather":
                return self.gather(call)
            case _:
                return self.copy(call)

    def store(self, v: Value, value: Expr) -> Store:
        """Write a value of the group at its canonical index."""
        index = access.flat(self.arguments, self.group.index[id(v.call)], v.shape)
        return Store(self.arguments.operand(v, "out"), index, value)


def _refuse_empty(call: Call, extent: Dim, indices: Value) -> None:
    """No index is in range of an axis without elements; there would be nothing to keep it in."""
    if extent == 0 and indices.spec.elements != 0:
        error = IndexRangeError(f"{call.op.name}: the axis indexed has no elements")
        error.position = call.site
        raise error


def checked(place: Expr, extent: Dim, arguments: Arguments) -> Expr:
    """An index from data: negative ones count from the end; others out of range are recorded."""
    raw = expr.cast(place, int64)
    size = arguments.size(extent)
    at = expr.select(raw < 0, raw + size, raw)
    arguments.checks[at, size] = None
    return expr.call("max", expr.call("min", at, size - 1), ZERO)


class _Rows(_Body):
    """Maps and reductions."""

    def lower(self) -> Lowered:
        group = self.group
        reductions: list[tuple[int, Reduction]] = []  # (sweep, reduction), acc numbers in order
        level_of_acc: list[int] = []
        for call in group.calls:
            if call.op.kind == "reduce":
                value = access.read(call.inputs[0], group.axes(), self.arguments, self.load)
                sweep = _level(value, level_of_acc)
                key = self._key(call) if call.op.lower in ("argmax", "argmin") else None
                number = len(level_of_acc)
                combine = call.attrs.get("combine", call.op.lower)
                reductions.append((sweep, Reduction(combine, value, key)))
                level_of_acc.append(sweep + 1)
                self.made[id(call)] = expr.acc(number, call.specs[0].dtype)
            else:
                self.made[id(call)] = self.compute(call)
        return self._assemble(reductions, level_of_acc)

    def _key(self, call: Call) -> Expr:
        """The position that argmax reports: the flat index over the reduced axes."""
        axes, domain = call.attrs["axis"], self.group.domain
        position = ZERO
        for a in axes:
            position = position * self.arguments.size(domain[a]) + self.group.axes()[a]
        return position

    def _assemble(
        self, reductions: list[tuple[int, Reduction]], level_of_acc: list[int]
    ) -> Lowered:
        group, arguments = self.group, self.arguments
        stores: dict[int, list[Store]] = {}
        finish: list[Store] = []
        for v in group.stored.values():
            value = self.made[id(v.call)]
            store = self.store(v, value)
            if group.reduced is not None and group.index[id(v.call)] != group.axes():
                finish.append(store)
            elif group.reduced is not None and v.op.kind == "reduce":
                finish.append(store)
            else:
                stores.setdefault(_level(value, level_of_acc), []).append(store)
        count = max([s for s, _ in reductions] + list(stores), default=0) + 1
        sweeps, renumber = _sweeps(reductions, stores, count)
        outer, inner = self._loops()
        blocks, size = self._blocks()
        kernel = RowKernel(
            operands=tuple(arguments.operands),
            outer=(*blocks, *(arguments.size(group.domain[a]) for a in outer)),
            inner=tuple(arguments.size(group.domain[a]) for a in inner),
            sweeps=sweeps,
            finish=tuple(finish),
            across=group.reduced is not None and is_across(group.domain, group.reduced),
            checks=tuple(arguments.checks),
            block=size,
        )
        order = [block_variable(group)] * len(blocks) + [*outer, *inner]
        kernel = map_expressions(kernel, _renumbering(order, renumber))
        along = group.reduced is not None and not kernel.across
        forced = self._forced(along)
        kernel = merge_loops(kernel, arguments, forced=forced, keep_inner=along)
        return _finished(kernel, arguments, group)

    def _loops(self) -> tuple[list[int], list[int]]:
        """Domain axes of the outer and of the inner loops."""
        group = self.group
        outer = [a for a in range(len(group.domain)) if a not in (group.reduced or ())]
        return (outer[:-1], outer[-1:]) if group.reduced is None else (outer, list(group.reduced))

    def _blocks(self) -> tuple[tuple[Expr, ...], Expr | None]:
        """The loop over blocks, if there is one, and the size of a block."""
        if self.group.blocks is None:
            return (), None
        count = next(c for c in self.group.calls if c.op.kind == "reduce").specs[0].shape[0]
        return (self.arguments.size(count),), self.arguments.constant(self.group.blocks["block"])

    def _forced(self, along: bool) -> tuple[int, ...]:
        """Runs of inner loops that become one: the lanes' and the blocks'."""
        group = self.group
        reduced = group.reduced or ()
        last = trailing(len(group.domain), reduced) if along else 0
        if group.blocks is None or last == len(reduced):
            return (last,)
        blocked = group.blocks["blocked"]
        return (last, blocked) if along else (blocked,)


def _level(value: Expr, level_of_acc: list[int]) -> int:
    """The first sweep in which `value` can be computed."""
    accs = (cast_type(int, e.value) for e in expr.topological([value]) if e.op == "acc")
    return max((level_of_acc[n] for n in accs), default=0)


def _sweeps(
    reductions: list[tuple[int, Reduction]], stores: dict[int, list[Store]], count: int
) -> tuple[tuple[Sweep, ...], dict[int, int]]:
    """Sweeps with reductions in order, and the new number of each acc (numbers count through
    sweeps).
    """
    order = sorted(range(len(reductions)), key=lambda n: (reductions[n][0], n))
    renumber = {old: new for new, old in enumerate(order)}
    sweeps = tuple(
        Sweep(
            tuple(reductions[n][1] for n in order if reductions[n][0] == s),
            tuple(stores.get(s, ())),
        )
        for s in range(count)
    )
    return sweeps, renumber


def _lower_contract(group: Group, fusion: Fusion) -> Lowered:
    body = _Body(group, fusion)
    arguments = body.arguments
    call = group.calls[0]
    a_axes, b_axes, out = (call.attrs[n] for n in ("a_axes", "b_axes", "out_axes"))
    a, b = call.inputs
    extent = dict(zip((*a_axes, *b_axes), (*a.shape, *b.shape), strict=True))
    shared = [x for x in a_axes if x in b_axes and x not in out]
    batch = [x for x in out if x in a_axes and x in b_axes]
    m = [x for x in out if x in a_axes and x not in b_axes]
    n = [x for x in out if x in b_axes and x not in a_axes]
    first_shared = len(group.domain)
    variable = {label: number for number, label in enumerate(out)}
    variable |= {label: first_shared + number for number, label in enumerate(shared)}

    def load(v: Value, labels: tuple[int, ...]) -> Expr:
        index = tuple(
            ZERO if isinstance(d, int) and d == 1 else expr.var(variable[x])
            for x, d in zip(labels, v.shape, strict=True)
        )
        if (id(v.call), v.index) in fusion.copied:
            return access.load_stored(v, index, arguments, None)
        return access.read(v, index, arguments, body.load)

    left, right = load(a, a_axes), load(b, b_axes)
    body.made[id(call)] = expr.acc(0, call.specs[0].dtype)
    for member in group.calls[1:]:
        body.made[id(member)] = body.compute(member)
    stores = tuple(body.store(v, body.made[id(v.call)]) for v in group.stored.values())
    loops = [variable[x] for x in (*batch, *m, *n, *shared)]
    kernel = ContractKernel(
        operands=tuple(arguments.operands),
        batch=tuple(arguments.size(extent[x]) for x in batch),
        m=tuple(arguments.size(extent[x]) for x in m),
        n=tuple(arguments.size(extent[x]) for x in n),
        k=tuple(arguments.size(extent[x]) for x in shared),
        a=left,
        b=right,
        stores=stores,
    )
    kernel = map_expressions(kernel, _renumbering(loops, {}))
    kernel = with_products(merge_loops(kernel, arguments), arguments)
    kernel = with_literal_windows(kernel, arguments)
    return _finished(kernel, arguments, group)


def _lower_scatter(group: Group, fusion: Fusion) -> Lowered:
    body = _Body(group, fusion)
    arguments = body.arguments
    call = group.calls[0]
    base, indices, updates = call.inputs
    out = call.outputs[0]
    axis = call.attrs["axis"] % base.ndim
    rank = indices.ndim

    def load(v: Value, index: Index) -> Expr:
        if (id(v.call), v.index) in fusion.copied:
            return access.load_stored(v, index, arguments, None)
        return access.read(v, index, arguments, body.load)

    # loops: axes before `axis`, then the updates, then axes behind; all axes of `updates` in this
    # order
    loops = _points(updates.shape)
    value = load(updates, loops)
    _refuse_empty(call, base.shape[axis], indices)
    place = load(indices, loops[axis : axis + rank])
    at = checked(place, base.shape[axis], arguments)
    index = (*loops[:axis], at, *loops[axis + rank :])
    target = arguments.operand(out, "out")
    kernel = ScatterKernel(
        operands=tuple(arguments.operands),
        outer=tuple(arguments.size(d) for d in updates.shape[:axis]),
        updates=tuple(arguments.size(d) for d in updates.shape[axis : axis + rank]),
        inner=tuple(arguments.size(d) for d in updates.shape[axis + rank :]),
        out=target,
        index=access.flat(arguments, index, out.shape),
        value=value,
        combine=call.op.lower,
        checks=tuple(arguments.checks),
    )
    lowered = _finished(kernel, arguments, group)
    return replace_copies(lowered, [(base, out)])


def _lower_slice(group: Group, fusion: Fusion) -> Lowered:
    """A map over the value that is written into a slice; the base is copied there before."""
    body = _Body(group, fusion)
    arguments = body.arguments
    call = group.calls[0]
    base, value = call.inputs
    out = call.outputs[0]
    cut = call.attrs["start"], call.attrs["stop"], call.attrs["step"]
    place = tuple(map(slice_length, *cut))
    loops = _points(place)
    read = body.read(value, access.stretched(loops, value.shape, place))
    index, _ = call.op.lower(loops, arguments.size, base.spec, **call.attrs)
    target = arguments.operand(out, "out")
    store = Store(target, access.flat(arguments, index, out.shape), read)
    kernel = RowKernel(
        operands=tuple(arguments.operands),
        outer=tuple(arguments.size(d) for d in place[:-1]),
        inner=tuple(arguments.size(d) for d in place[-1:]),
        sweeps=(Sweep((), (store,)),),
    )
    kernel = merge_loops(kernel, arguments)
    return replace_copies(_finished(kernel, arguments, group), [(base, out)])


def _lower_attention(group: Group, fusion: Fusion) -> Lowered:
    body = _Body(group, fusion)
    kernel = attention_kernel(group.calls[0], group.stored, body.arguments, body.read)
    return _finished(kernel, body.arguments, group)


def _lower_recurrent(group: Group, fusion: Fusion) -> Lowered:
    body = _Body(group, fusion)
    kernel = recurrent_kernel(group.calls[0], group.stored, body.arguments, body.read)
    return _finished(kernel, body.arguments, group)


def _lower_sort(group: Group, fusion: Fusion) -> Lowered:
    body = _Body(group, fusion)
    arguments = body.arguments
    call = group.calls[0]
    x, out = call.inputs[0], call.outputs[0]
    loops = group.axes()
    if (id(x.call), x.index) in fusion.copied:
        value = access.load_stored(x, loops, arguments, None)
    else:
        value = access.read(x, loops, arguments, body.load)
    key = call.op.lower(value, **call.attrs)
    target = arguments.operand(out, "out")
    length = x.shape[-1]
    kernel = SortKernel(
        operands=tuple(arguments.operands),
        outer=tuple(arguments.size(d) for d in x.shape[:-1]),
        line=(arguments.size(length),),
        key=key,
        out=target,
        index=access.flat(arguments, loops, out.shape),
        wide=key.dtype.bits > 32 or not length < NARROW_LINE,
    )
    kernel = merge_loops(kernel, arguments)
    return _finished(kernel, arguments, group)


def replace_copies(lowered: Lowered, copies: list[tuple[Value, Value]]) -> Lowered:
    """The same with copies to be made before."""
    return replace(lowered, copies=copies)


def copy_kernel(source: Value, target: Value, fusion: Fusion) -> Lowered:
    """A map that writes `source` into the memory of `target` (same shape and dtype)."""
    arguments = Arguments(literal=access.digit(source.shape))
    index = _points(source.shape)

    def load(v: Value, at: Index, valid: Expr | None) -> Expr:
        return access.load_stored(v, at, arguments, valid)

    if (id(source.call), source.index) in fusion.copied:
        value = access.load_stored(source, index, arguments, None)
    else:
        value = access.read(source, index, arguments, load)
    store = Store(
        arguments.operand(target, "out"), access.flat(arguments, index, target.shape), value
    )
    extents = tuple(arguments.size(d) for d in source.shape)
    kernel = RowKernel(
        tuple(arguments.operands), extents[:-1], extents[-1:], (Sweep((), (store,)),)
    )
    kernel = merge_loops(kernel, arguments)
    return Lowered(kernel, arguments.buffers, arguments.dims, arguments, [], [])


def _points(shape: tuple[Dim, ...]) -> Index:
    """One loop for each axis, but for axes of size 1."""
    return tuple(
        ZERO if isinstance(d, int) and d == 1 else expr.var(i) for i, d in enumerate(shape)
    )


def _renumbering(order: list[int], accs: dict[int, int]) -> Any:
    """A replacement of domain variables by loop variables, and of acc numbers."""
    place = {axis: loop for loop, axis in enumerate(order)}

    def replace_leaf(e: Expr) -> Expr | None:
        if e.op == "var":
            return expr.var(place[cast_type(int, e.value)])
        if e.op == "acc":
            number = cast_type(int, e.value)
            return expr.acc(accs.get(number, number), e.dtype)
        return None

    return replace_leaf


def _finished(kernel: Any, arguments: Arguments, group: Group) -> Lowered:
    return Lowered(kernel, arguments.buffers, arguments.dims, arguments, list(group.calls), [])
