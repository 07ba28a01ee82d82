"""Contractions (matrix products, einsum, convolutions as implicit matrix products) to LLVM text.

One task is a block of the result of one batch element. For each block of k it copies its rows of A and,
panel by panel, its lanes of B into scratch memory, multiplies them in register tiles, and adds the
tile's sums to those of earlier blocks; after the last block a panel goes through the epilogue. The
additions of an element depend on k alone, never on blocks, panels or tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rabbet.base.errors import CompileError
from rabbet.base.target import Target
from rabbet.codegen import contract_tile
from rabbet.codegen.contract_axes import Roles, View, roles, view
from rabbet.codegen.contract_blocks import Blocks, blocks
from rabbet.codegen.contract_loops import Part, call, minimum, split
from rabbet.codegen.contract_pack import pack
from rabbet.codegen.contract_store import epilogue
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Function, Module, Value, i64
from rabbet.codegen.launch import Launch
from rabbet.expr.expr import topological
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import CONTRACT_BLOCK, ContractKernel, Store

DTYPES = ("float32", "float64", "int32", "int64", "uint32", "uint64")


def emit_contract(kernel: ContractKernel, target: Target, name: str = "kernel") -> str:
    """The LLVM text of a contraction with the kernel ABI as function `name`.

    Raises CompileError for a dtype that contractions do not compute with.
    """
    return _Contraction(kernel, target, name).text()


def launch_contract(kernel: ContractKernel, target: Target) -> Launch:
    """Tasks, scratch memory per thread, and cost of a contraction."""
    cut = blocks(_checked_roles(kernel), target)
    epilogues = sum(len(topological([s.index, s.value])) for s in kernel.stores)
    per_element = cut.k * 2 + epilogues
    cost = cut.batch * cut.m * cut.n * per_element
    return Launch(cut.tasks, cut.a_bytes + cut.b_bytes + cut.c_bytes, cost)


def _checked_roles(kernel: ContractKernel) -> Roles:
    chosen = roles(kernel)
    if chosen.dtype.name not in DTYPES or chosen.b.dtype is not chosen.dtype:
        raise CompileError(
            f"contraction of {kernel.a.dtype.name} with {kernel.b.dtype.name}: both sides must "
            f"have one dtype of {', '.join(DTYPES)}; cast them first"
        )
    return chosen


@dataclass
class _Task:
    """Values of one task: where its block lies and its batch variables."""

    batch: list[Value]
    row: Value
    rows: Value
    lane: Value
    lanes: Value


class _Contraction:
    """One kernel being written."""

    def __init__(self, kernel: ContractKernel, target: Target, name: str) -> None:
        self.roles = _expanded(_checked_roles(kernel))
        self.cut: Blocks = blocks(self.roles, target)
        self.module = Module(target)
        self.frame = Frame(self.module, name, kernel.operands)
        r, module, operands = self.roles, self.module, kernel.operands
        self.a: View = view(r.m, r.k, r.a)
        self.b: View = view(r.k, r.n, r.b)
        self.pack_a = pack(module, "pack_a", operands, r.dtype, r.batch, self.a)
        self.pack_b = pack(module, "pack_b", operands, r.dtype, r.batch, self.b)
        _, vectors = contract_tile.tile_shape(target)
        self.sweeps: list[Part] = [
            contract_tile.sweep(module, r.dtype, v) for v in range(1, vectors + 1)
        ]
        self.epilogue = epilogue(module, operands, r)

    @property
    def fn(self) -> Function:
        return self.frame.fn

    def text(self) -> str:
        """The module."""
        fn, cut, frame = self.fn, self.cut, self.frame
        em = Emitter(frame)
        a_bytes, c_bytes = em.scalar(cut.a_bytes), em.scalar(cut.b_bytes + cut.a_bytes)
        self.a_copy = fn.parameters["scratch"]
        self.b_copy = fn.address(self.a_copy, a_bytes, "i8")
        self.sums = fn.address(self.a_copy, c_bytes, "i8")
        for e in (cut.m, cut.n, cut.k, cut.row_panels, cut.lane_panels, cut.row_blocks):
            em.scalar(e)
        for e in (cut.lane_blocks, cut.k_blocks, cut.column_bytes):
            em.scalar(e)
        for loop in self.roles.batch:
            em.scalar(loop.extent)
        with fn.loop(frame.begin, frame.end) as task:
            self._task(em, self._place(em, task))
        return self.module.text()

    def _place(self, em: Emitter, task: Value) -> _Task:
        """The block of a task: rows fastest, then lanes, then batch."""
        fn, cut = self.fn, self.cut
        row_blocks, lane_blocks = em.scalar(cut.row_blocks), em.scalar(cut.lane_blocks)
        rest = fn.do("i64", f"udiv i64 {task.text}, {row_blocks.text}")
        row_block = fn.sub(task, fn.mul(rest, row_blocks))
        batch = fn.do("i64", f"udiv i64 {rest.text}, {lane_blocks.text}")
        lane_block = fn.sub(rest, fn.mul(batch, lane_blocks))
        height = fn.mul(em.scalar(cut.row_panels), cut.tile_rows)
        width = fn.mul(em.scalar(cut.lane_panels), cut.panel)
        row, lane = fn.mul(row_block, height), fn.mul(lane_block, width)
        variables = split(em, self.roles.batch, batch)
        return _Task(
            [variables[loop.variable] for loop in self.roles.batch],
            row,
            minimum(fn, height, fn.sub(em.scalar(cut.m), row)),
            lane,
            minimum(fn, width, fn.sub(em.scalar(cut.n), lane)),
        )

    def _task(self, em: Emitter, task: _Task) -> None:
        fn, cut = self.fn, self.cut
        blocks_of_k = em.scalar(cut.k_blocks)
        # sums of different panels need different places only if they wait for another block of k
        several = fn.icmp("sgt", blocks_of_k, 1)
        column_step = fn.select(several, em.scalar(cut.column_bytes), i64(0))
        with fn.loop(i64(0), blocks_of_k) as block:
            k = fn.mul(block, CONTRACT_BLOCK)
            count = minimum(fn, i64(CONTRACT_BLOCK), fn.sub(em.scalar(cut.k), k))
            rows_of_a = (task.row, task.rows, k, count, self.a_copy, i64(cut.a_step), count)
            call(fn, self.pack_a, *task.batch, *rows_of_a)
            panels = fn.do("i64", f"udiv i64 {fn.add(task.lanes, cut.panel - 1).text}, {cut.panel}")
            with fn.loop(i64(0), panels) as panel:
                offset = fn.mul(panel, cut.panel)
                part = replace(
                    task,
                    lane=fn.add(task.lane, offset),
                    lanes=minimum(fn, i64(cut.panel), fn.sub(task.lanes, offset)),
                )
                sums = fn.address(self.sums, fn.mul(panel, column_step), "i8")
                self._panel(part, k, count, fn.icmp("eq", block, 0), sums)
                last = fn.icmp("eq", fn.add(block, 1), blocks_of_k)
                with fn.when(last):
                    block_of_c = (task.row, task.rows, part.lane, part.lanes, sums)
                    call(fn, self.epilogue, *task.batch, *block_of_c, i64(cut.panel_step))

    def _panel(self, task: _Task, k: Value, count: Value, first: Value, sums: Value) -> None:
        """Copy one panel of B and multiply all rows of the task with it."""
        fn, cut = self.fn, self.cut
        vectors = fn.do("i64", f"udiv i64 {fn.add(task.lanes, cut.lanes - 1).text}, {cut.lanes}")
        padded = fn.mul(vectors, cut.lanes)
        step = i64(cut.panel_step)
        call(
            fn, self.pack_b, *task.batch, k, count, task.lane, task.lanes, self.b_copy, step, padded
        )
        for number, part in enumerate(self.sweeps, 1):
            with fn.when(fn.icmp("eq", vectors, number)):
                operands = (self.a_copy, i64(cut.a_step), self.b_copy, step)
                call(fn, part, *operands, sums, step, task.rows, count, first)


def _expanded(given: Roles) -> Roles:
    """The roles with only primitive scalar rows."""
    stores = tuple(Store(s.operand, s.index, expand_all(s.value)) for s in given.stores)
    return replace(given, a=expand_all(given.a), b=expand_all(given.b), stores=stores)
