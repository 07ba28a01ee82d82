"""RowKernel -> LLVM text: maps, reductions along the innermost loop, reductions across it.

The order of additions is that of `rabbet.kernel.loops` and never depends on the vector width: an
"along" reduction always has LANES partial sums (in registers or, of lines side by side, in memory),
an "across" reduction adds one after the other per output. Tails run under masks where the machine
has them, else one element at a time.
"""

from __future__ import annotations

from rabbet.base.dtypes import int64
from rabbet.base.target import Target
from rabbet.codegen.emit import Frame
from rabbet.codegen.ir import Module
from rabbet.codegen.launch import Launch
from rabbet.codegen.rows_across import Across, columns_of
from rabbet.codegen.rows_along import Along
from rabbet.codegen.rows_beside import LINES, Beside, is_beside
from rabbet.codegen.rows_digits import COLUMNS as DIGIT_COLUMNS
from rabbet.codegen.rows_digits import Digits, digits
from rabbet.codegen.rows_kept import keep_rows
from rabbet.codegen.rows_shared import (
    expanded,
    kept_offsets,
    splits_inner,
    sweep_roots,
    task_points,
)
from rabbet.codegen.rows_turned import ROWS, Turned, turned_axis
from rabbet.codegen.stepping import product, weight
from rabbet.expr.expr import Expr, const
from rabbet.kernel.loops import RowKernel
from rabbet.kernel.show import kernel_name


def emit_rows(kernel: RowKernel, target: Target) -> str:
    """The LLVM text of a RowKernel; the function is called `kernel_name(kernel)`."""
    module = Module(target)
    name, axis, few = kernel_name(kernel), turned_axis(kernel), digits(kernel)
    kernel = keep_rows(kernel)
    frame = Frame(module, name, kernel.operands)
    primitive = expanded(kernel)
    if kernel.across and kernel.outer:
        Across(primitive, frame).write()
    elif is_beside(kernel):
        Beside(primitive, frame).write()
    elif few is not None:
        Digits(primitive, frame, few).write()
    elif axis is not None:
        Turned(primitive, frame, axis).write()
    else:
        Along(primitive, frame).write()
    return module.text()


def launch_rows(kernel: RowKernel) -> Launch:
    """Tasks and cost of a RowKernel, from its sizes."""
    kernel = keep_rows(kernel)
    inside = sum(weight(sweep_roots(s)) for s in kernel.sweeps)
    after = weight(e for s in kernel.finish for e in (s.value, s.index))
    rows = product(kernel.outer if kernel.block is None else kernel.outer[1:])
    cost = rows * (product(kernel.inner) * inside) + product(kernel.outer) * after
    *_, (_, scratch) = kept_offsets(kernel)
    return Launch(_tasks(kernel), scratch, cost)


def _tasks(kernel: RowKernel) -> Expr:
    outer = kernel.outer
    if kernel.across and outer:
        columns = columns_of(kernel)
        return product(outer[:-1]) * ((outer[-1] + (columns - 1)) // columns)
    if is_beside(kernel):
        return product(outer[:-1]) * ((outer[-1] + (LINES - 1)) // LINES)
    if digits(kernel) is not None:
        return product(outer[:-1]) * ((outer[-1] + (DIGIT_COLUMNS - 1)) // DIGIT_COLUMNS)
    axis = turned_axis(kernel)
    if axis is not None:
        blocks = (outer[axis] + (ROWS - 1)) // ROWS
        return product((*outer[:axis], blocks, *outer[axis + 1 :]))
    if outer:
        return product(outer)
    if not splits_inner(kernel):
        return const(1, int64)
    points = task_points(kernel)
    return (kernel.inner[0] + (points - 1)) // points
