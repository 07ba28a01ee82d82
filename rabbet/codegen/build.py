"""Kernel -> LLVM text, and what a caller must know to launch it."""

from __future__ import annotations

from dataclasses import dataclass

from rabbet.base.target import Target
from rabbet.codegen.attention import emit_attention, launch_attention
from rabbet.codegen.contract import emit_contract, launch_contract
from rabbet.codegen.launch import Launch
from rabbet.codegen.rows import emit_rows, launch_rows
from rabbet.codegen.scatter import emit_scatter, launch_scatter
from rabbet.kernel.loops import AttentionKernel, ContractKernel, Kernel, RowKernel
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
    if isinstance(kernel, AttentionKernel):
        return KernelCode(kernel_name(kernel), emit_attention(kernel, target, kernel_name(kernel)))
    if isinstance(kernel, ContractKernel):
        return KernelCode(kernel_name(kernel), emit_contract(kernel, target, kernel_name(kernel)))
    return KernelCode(kernel_name(kernel), emit_scatter(kernel, target))


def launch(kernel: Kernel, target: Target) -> Launch:
    """Tasks, scratch bytes per thread and cost of a call, as expressions over its sizes."""
    if isinstance(kernel, RowKernel):
        return launch_rows(kernel)
    if isinstance(kernel, AttentionKernel):
        return launch_attention(kernel, target)
    if isinstance(kernel, ContractKernel):
        return launch_contract(kernel, target)
    return launch_scatter(kernel)
