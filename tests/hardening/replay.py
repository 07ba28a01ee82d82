"""Programs that Python ran, written down so that C alone can run them again (see replay.c)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rabbet.base.target import Target
from rabbet.codegen.bundle import object_files
from rabbet.codegen.store import KernelStore
from rabbet.engine import programs
from rabbet.engine.segment import graph_of
from rabbet.export.graph import build
from rabbet.export.read import read_program
from rabbet.kernel.loops import Kernel
from rabbet.kernel.show import kernel_name
from rabbet.runtime import saved
from rabbet.runtime.assembly import Compiled
from rabbet.runtime.buffers import Buffer, from_numpy
from rabbet.runtime.compile import compile_plan
from rabbet.runtime.program import CompiledProgram

NAME_BYTES = 128


@dataclass
class Case:
    """One program with the inputs it was given and the outputs it gave."""

    words: bytes
    symbols: tuple[int, ...]
    kernels: list[Kernel]
    inputs: list[bytes]
    outputs: list[bytes]


def record(function: Callable[[], object], target: Target) -> list[Case]:
    """Run `function`; one Case, compiled for `target`, for every segment it ran."""
    found: list[Case] = []
    store = KernelStore(target)

    def observe(segment: object, entry: programs.Entry, symbols: tuple[int, ...]) -> None:
        buffers = [programs.leaf_buffer(leaf.node, leaf.index) for leaf in segment.leaves]
        pattern = entry.pattern
        graph = graph_of(segment, pattern.dims, entry.keep)
        compiled = compile_plan(graph, target, scope=pattern.scope, fuse=entry.fused)
        found.append(case_of(compiled, store, symbols, buffers))

    find = programs.find

    def find_and_observe(segment: Any, live: Any) -> Any:
        """Before the program runs: what it is given up may be written over."""
        family, it = find(segment, live)
        observe(segment, it.entry, it.symbols)
        return family, it

    programs.families.clear()  # so that every segment is looked up
    programs.observers.append(_nothing)
    programs.find = find_and_observe
    try:
        function()
    finally:
        programs.find = find
        programs.observers.remove(_nothing)
    return found


def case_of(
    compiled: Compiled, store: KernelStore, symbols: tuple[int, ...], given: Sequence[Any]
) -> Case:
    """A program with what it makes of the buffers `given`."""
    launchable = saved.launchable(compiled, store)
    program = CompiledProgram(launchable, *store.load(compiled.kernels))
    outputs = [bytes(memoryview(b)) for b in program.run(symbols, given)]
    # As many bytes as the program reads: a buffer may be larger.
    sizes = program.bind(symbols).input_bytes
    inputs = [_first(b, n) for b, n in zip(given, sizes, strict=True)]
    return Case(launchable.words, symbols, compiled.kernels, inputs, outputs)


def cases_of(path: Path, given: Sequence[Sequence[np.ndarray]], target: Target) -> list[Case]:
    """A program file without sizes that vary, run with each of the inputs."""
    file = read_program(path)
    built = build(file.program, file.program.entries[0], [])
    compiled = compile_plan(built.graph, target)
    weights = [file.buffer(file.program.weights[i]) for i in built.weights]
    store = KernelStore(target)
    return [
        case_of(compiled, store, (), [*(from_numpy(a, copy=True) for a in arrays), *weights])
        for arrays in given
    ]


def _nothing(segment: object, entry: object, symbols: object) -> None:
    """Sees a segment."""


def _first(buffer: Buffer, n: int) -> bytes:
    return bytes(memoryview(buffer)[:n])


def write_case(case: Case, path: Path) -> None:
    """The file that replay.c reads: words, symbols, kernels' names, inputs, outputs."""
    parts = [_words(len(case.words) // 8), case.words]
    parts += [_words(len(case.symbols), *case.symbols), _words(len(case.kernels))]
    parts += [kernel_name(k).encode().ljust(NAME_BYTES, b"\0") for k in case.kernels]
    for blocks in (case.inputs, case.outputs):
        parts.append(_words(len(blocks)))
        for block in blocks:
            parts += [_words(len(block)), block]
    path.write_bytes(b"".join(parts))


def write_objects(cases: Sequence[Case], target: Target, folder: Path) -> list[Path]:
    """Object files of every kernel, and table.c that names them."""
    kernels = {kernel_name(k): k for case in cases for k in case.kernels}
    objects = KernelStore(target).objects(list(kernels.values()))
    files = []
    for name, code in object_files(objects).items():
        files.append(folder / name)
        files[-1].write_bytes(code)
    table = folder / "table.c"
    table.write_text(_table(list(objects)))
    return [table, *files]


def _table(names: list[str]) -> str:
    signature = "(uint8_t *const *, const int64_t *, int64_t, int64_t, uint8_t *, int64_t *)"
    lines = ['#include "rabbet.h"', *(f"extern void {n}{signature};" for n in names)]
    lines += ["typedef struct named_kernel { const char *name; rb_kernel function; } named_kernel;"]
    lines += ["const named_kernel replay_kernels[] = {"]
    lines += [f'    {{"{n}", {n}}},' for n in names]
    lines += ["};", f"const size_t replay_count = {len(names)};", ""]
    return "\n".join(lines)


def _words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)
