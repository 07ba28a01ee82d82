"""Operands of contractions in panels: copied by a task for itself, or by a kernel of its own.

A panel holds `width` rows (of A) or lanes (of B) of a whole operand, side by side for each k, one k
after the other. A PackKernel writes all panels of an operand, so that every task of one contraction
or of many reads them without another copy.
"""

from __future__ import annotations

from dataclasses import dataclass

from rabbet.base.dtypes import DType, bfloat16, int64
from rabbet.base.target import Target
from rabbet.codegen.contract_axes import Loop, Loops, View, view
from rabbet.codegen.contract_loops import Naturals, call, minimum, quotient, split
from rabbet.codegen.contract_pack import Packer
from rabbet.codegen.contract_pairs import PairPacker
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Function, Module, Value, i64
from rabbet.codegen.launch import Launch
from rabbet.expr.expr import Expr, const
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import CONTRACT_BLOCK, PackKernel
from rabbet.kernel.sums import in_pairs

RUN = 32  # k of one panel, before the next panel's: few pages of the operand are open at a time
TASK = 192  # rows or lanes of one task: long runs of the operand's memory


@dataclass(frozen=True)
class Panels:
    """Where panels are written: the first one, bytes from one to the next, rows or lanes in one."""

    target: Value
    step: Value
    width: int


def row_bytes(dtype: DType, width: int) -> int:
    """Of a row of a panel: one k, or a pair of them in bfloat16."""
    return width * (2 if dtype is bfloat16 else 1) * dtype.itemsize


def row_at(fn: Function, panel: Value, k: Value, dtype: DType, width: int) -> Value:
    """Where a panel has `k` (an even one in bfloat16)."""
    row = fn.do("i64", f"lshr i64 {k.text}, 1") if dtype is bfloat16 else k
    return fn.address(panel, fn.mul(row, row_bytes(dtype, width)), "i8")


def copy_panels(
    fn: Function,
    packer: Packer | PairPacker,
    batch: list[Value],
    k: tuple[Value, Value],
    across: tuple[Value, Value],
    to: Panels,
    table: tuple[Value, Value],
) -> None:
    """Copy `across` (first, how many) x `k` of an operand that `packer` sees as rows of k.

    `table`: the packer's, for this range, and its capacity.
    """
    row, lanes = row_bytes(packer.dtype, to.width), packer.lanes
    count = quotient(fn, fn.add(across[1], to.width - 1), i64(to.width))
    with fn.loop(i64(0), k[1], RUN) as begin:
        some = minimum(fn, i64(RUN), fn.sub(k[1], begin))
        rows = row_at(fn, to.target, begin, packer.dtype, to.width)
        with fn.loop(i64(0), count) as panel:
            first = fn.mul(panel, to.width)
            columns = minimum(fn, i64(to.width), fn.sub(across[1], first))
            whole = fn.mul(quotient(fn, fn.add(columns, lanes - 1), i64(lanes)), lanes)
            place = fn.address(rows, fn.mul(panel, to.step), "i8")
            entry = begin if packer.view.kind == "runs" else first
            described = (fn.address(table[0], entry, "i64"), table[1])
            matrix = (fn.add(k[0], begin), some, fn.add(across[0], first), columns)
            call(fn, packer.part, *batch, *matrix, place, i64(row), whole, *described)


@dataclass(frozen=True)
class _Roles:
    """A PackKernel's loops."""

    batch: Loops
    across: Loops
    k: Loops
    value: Expr
    dtype: DType

    @property
    def view(self) -> View:
        """The operand as rows of k."""
        return view(self.k, self.across, self.value)


def _roles(kernel: PackKernel) -> _Roles:
    groups: list[Loops] = []
    number = 0
    for extents in (kernel.batch, kernel.across, kernel.k):
        groups.append(tuple(Loop(number + i, e) for i, e in enumerate(extents)))
        number += len(extents)
    batch, across, k = groups
    return _Roles(batch, across, k, expand_all(kernel.value), kernel.value.dtype)


def _product(loops: Loops) -> Expr:
    total = const(1, int64)
    for loop in loops:
        total = total * loop.extent
    return total


@dataclass(frozen=True)
class _Cut:
    """Sizes of a pack kernel: expressions over size(n)."""

    batch: Expr
    across: Expr
    k: Expr
    k_rows: Expr  # of a panel
    panels: Expr
    groups: Expr  # tasks across
    k_blocks: Expr
    group: int  # panels of a task


def _cut(chosen: _Roles, width: int) -> _Cut:
    batch, across, k = (_product(loops) for loops in (chosen.batch, chosen.across, chosen.k))
    group = max(1, TASK // width)
    panels = (across + (width - 1)) // width
    k_blocks = (k + (CONTRACT_BLOCK - 1)) // CONTRACT_BLOCK
    k_rows = (k + 1) // 2 if chosen.dtype is bfloat16 else k
    return _Cut(batch, across, k, k_rows, panels, (panels + (group - 1)) // group, k_blocks, group)


def _entries(chosen: _Roles, cut: _Cut, width: int) -> int:
    """Of the packer's table."""
    return CONTRACT_BLOCK if chosen.view.kind == "runs" else cut.group * width


def launch_pack(kernel: PackKernel) -> Launch:
    """Tasks (some panels x a block of k), scratch memory for the packer's table, and cost."""
    chosen = _roles(kernel)
    cut = _cut(chosen, kernel.width)
    table = _entries(chosen, cut, kernel.width) * 8 * chosen.view.table_columns
    cost = cut.batch * cut.across * cut.k * 2
    return Launch(cut.batch * cut.groups * cut.k_blocks, const(table, int64), cost)


def emit_pack(kernel: PackKernel, target: Target, name: str = "kernel") -> str:
    """The LLVM text of a PackKernel with the kernel ABI as function `name`."""
    module = Module(target)
    frame = Frame(module, name, kernel.operands)
    chosen, width = _roles(kernel), kernel.width
    given = module, "pack", kernel.operands
    packer: Packer | PairPacker
    if in_pairs(kernel):
        packer = PairPacker(*given, chosen.batch, chosen.view, width)
    else:
        packer = Packer(*given, chosen.dtype, chosen.batch, chosen.view)
    em, cut = Emitter(frame), _cut(chosen, width)
    sizes = Naturals(em)
    for e in (cut.across, cut.k, cut.k_rows, cut.panels, cut.groups, cut.k_blocks):
        sizes[e]  # here, before the loop
    for loop in chosen.batch:
        em.scalar(loop.extent)
    frame.pointer(len(kernel.operands) - 1)
    with frame.fn.loop(frame.begin, frame.end) as number:
        _task(em.inner(), packer, chosen, cut, sizes, number, width)
    return module.text()


def _task(
    em: Emitter,
    packer: Packer | PairPacker,
    chosen: _Roles,
    cut: _Cut,
    sizes: Naturals,
    task: Value,
    width: int,
) -> None:
    fn, frame = em.fn, em.frame
    rest = quotient(fn, task, sizes[cut.k_blocks])
    k = fn.mul(fn.sub(task, fn.mul(rest, sizes[cut.k_blocks])), CONTRACT_BLOCK)
    element = quotient(fn, rest, sizes[cut.groups])
    number = fn.mul(fn.sub(rest, fn.mul(element, sizes[cut.groups])), cut.group)
    variables = split(em, chosen.batch, element)
    batch = [variables[loop.variable] for loop in chosen.batch]
    count = minimum(fn, i64(CONTRACT_BLOCK), fn.sub(sizes[cut.k], k))
    first = fn.mul(number, width)
    some = minimum(fn, i64(cut.group * width), fn.sub(sizes[cut.across], first))
    table, capacity = fn.parameters["scratch"], i64(_entries(chosen, cut, width))
    if packer.table is not None:
        described = (k, count) if packer.view.kind == "runs" else (first, some)
        call(fn, packer.table, *batch, *described, table, capacity)
    step = fn.mul(sizes[cut.k_rows], row_bytes(chosen.dtype, width))
    out = frame.pointer(len(frame.operands) - 1)
    place = fn.add(fn.mul(element, sizes[cut.panels]), number)
    panel = fn.address(out, fn.mul(place, step), "i8")
    target = row_at(fn, panel, k, chosen.dtype, width)
    to = Panels(target, step, width)
    copy_panels(fn, packer, batch, (k, count), (first, some), to, (table, capacity))
