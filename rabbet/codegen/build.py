"""Kernel -> LLVM text, and what a caller must know to launch it."""

from __future__ import annotations

from dataclasses import dataclass

from rabbet.base.target import Target
from rabbet.codegen.contract import emit_contract, launch_contract
from rabbet.codegen.launch import Launch
from rabbet.codegen.rows import emit_rows, launch_rows
from rabbet.codegen.scatter import emit_scatter, launch_scatter
from rabbet.codegen.sort import emit_sort, launch_sort
from rabbet.kernel.loops import ContractKernel, Kernel, RowKernel, SortKernel
from rabbet.kernel.show import kernel_name


@dataclass(frozen=True)
class KernelCode:
    """The LLVM text of one kernel, and the name of its function."""

    name: str
    text: str


def build(kernel: Kernel, target: Target) -> KernelCode:
    """Generate the kernel's code for a target."""
    if isinstance(kernel, RowKernel):
        return KernelCode(kernel_name(kernel), emit_rows(kernel, target))
    if isinstance(kernel, ContractKernel):
        return KernelCode(kernel_name(kernel), emit_contract(kernel, target, kernel_name(kernel)))
    if isinstance(kernel, SortKernel):
        return KernelCode(kernel_name(kernel), emit_sort(kernel, target))
    return KernelCode(kernel_name(kernel), emit_scatter(kernel, target))


def launch(kernel: Kernel, target: Target) -> Launch:
    """Tasks, scratch bytes per thread and cost of a call, as expressions over its sizes."""
    if isinstance(kernel, RowKernel):
        return launch_rows(kernel)
    if isinstance(kernel, ContractKernel):
        return launch_contract(kernel, target)
    if isinstance(kernel, SortKernel):
        return launch_sort(kernel)
    return launch_scatter(kernel)
