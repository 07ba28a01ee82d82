"""Graphs -> kernels -> packs, one for each target."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rabbet.base.pack import write_pack
from rabbet.base.target import Target
from rabbet.codegen import bundle, machine
from rabbet.codegen.build import build
from rabbet.codegen.store import object_key
from rabbet.kernel.loops import Kernel
from rabbet.pack.workloads import Wanted
from rabbet.runtime.compile import CompiledPart, Staging, compile_stages

PROCESSES = min(os.cpu_count() or 1, 8)


def make(
    chosen: Sequence[Target], folder: Path, graphs: Sequence[Wanted]
) -> Iterator[tuple[Path, int]]:
    """Write the pack of each target into `folder`; (its path, how many kernels are in it)."""
    for target in chosen:
        entries = _objects(kernels_of(graphs, target), target)
        path = folder / f"{target.name}.pack"
        write_pack(path, entries)
        yield path, len(entries)


def kernels_of(graphs: Iterable[Wanted], target: Target) -> list[Kernel]:
    """The distinct kernels that compute some graphs."""
    found: dict[str, Kernel] = {}
    for graph, scope, fuse in graphs:
        for kernel in _kernels(compile_stages(graph, target, scope=scope, fuse=fuse)):
            found[object_key(kernel, target)] = kernel
    return list(found.values())


def _kernels(staging: Staging) -> Iterator[Kernel]:
    if staging.whole is not None:
        yield from staging.whole.kernels
    for stage in staging.stages:
        if isinstance(stage, CompiledPart):
            yield from stage.compiled.kernels


def _objects(kernels: list[Kernel], target: Target) -> dict[str, bytes]:
    """Key -> object of each kernel, and of each part for other kernels: text is written here, and
    compiled on every core.
    """
    texts = {object_key(k, target): build(k, target).text for k in kernels}
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        jobs = {
            key: pool.apply_async(machine.object_code, (text, target))
            for key, text in texts.items()
        }
        found = {key: job.get() for key, job in jobs.items()}
    for key, text in texts.items():
        parts = zip(bundle.split_text(text)[1], bundle.split(found[key])[1], strict=True)
        found |= {machine.part_key(part): made.code for (_, part), made in parts}
    return found
