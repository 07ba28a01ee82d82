"""Kernel -> LLVM text, and what a caller must know to launch it."""

from __future__ import annotations

from dataclasses import dataclass

from rabbet.base.target import Target
from rabbet.codegen.attention import emit_attention, launch_attention
from rabbet.codegen.attention_gradient import (
    emit_attention_gradient,
    launch_attention_gradient,
)
from rabbet.codegen.contract import emit_contract, launch_contract
from rabbet.codegen.contract_panels import emit_pack, launch_pack
from rabbet.codegen.launch import Launch
from rabbet.codegen.recurrent import emit_recurrent, launch_recurrent
from rabbet.codegen.rows import emit_rows, launch_rows
from rabbet.codegen.scatter import emit_scatter, launch_scatter
from rabbet.codegen.sort import emit_sort, launch_sort
from rabbet.kernel.loops import (
    AttentionGradientKernel,
    AttentionKernel,
    ContractKernel,
    Kernel,
    PackKernel,
    RecurrentKernel,
    RowKernel,
    SortKernel,
)
from rabbet.kernel.show import kernel_name


@dataclass(frozen=True)
class KernelCode:
    """The LLVM text of one kernel, and the name of its function."""

    name: str
    text: str


def build(kernel: Kernel, target: Target) -> KernelCode:
    """Generate the kernel's code for a target."""
    name = kernel_name(kernel)
    match kernel:
        case RowKernel():
            text = emit_rows(kernel, target)
        case ContractKernel():
            text = emit_contract(kernel, target, name)
        case PackKernel():
            text = emit_pack(kernel, target, name)
        case AttentionKernel():
            text = emit_attention(kernel, target, name)
        case AttentionGradientKernel():
            text = emit_attention_gradient(kernel, target, name)
        case RecurrentKernel():
            text = emit_recurrent(kernel, target, name)
        case SortKernel():
            text = emit_sort(kernel, target)
        case _:
            text = emit_scatter(kernel, target)
    return KernelCode(name, text)


def launch(kernel: Kernel, target: Target) -> Launch:
    """Tasks, scratch bytes per thread and cost of a call, as expressions over its sizes."""
    match kernel:
        case RowKernel():
            return launch_rows(kernel)
        case ContractKernel():
            return launch_contract(kernel, target)
        case PackKernel():
            return launch_pack(kernel)
        case AttentionKernel():
            return launch_attention(kernel, target)
        case AttentionGradientKernel():
            return launch_attention_gradient(kernel, target)
        case RecurrentKernel():
            return launch_recurrent(kernel, target)
        case SortKernel():
            return launch_sort(kernel)
    return launch_scatter(kernel)
