"""Graphs -> kernels -> packs, one for each target."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import rabbet.base
from rabbet.base.pack import Pack, write_pack
from rabbet.base.target import Target
from rabbet.codegen import bundle, machine
from rabbet.codegen.build import build
from rabbet.codegen.store import Wanted as Known
from rabbet.codegen.store import generator_version, object_key
from rabbet.kernel.loops import Kernel
from rabbet.kernel.show import kernel_name
from rabbet.pack.workloads import Wanted
from rabbet.runtime.compile import CompiledPart, Staging, compile_stages
from rabbet.runtime.saved import Launchable, Ready, encode_ready, ready_key

PROCESSES = min(os.cpu_count() or 1, 8)


def make(
    chosen: Sequence[Target], folder: Path, graphs: Sequence[Wanted]
) -> Iterator[tuple[Path, int]]:
    """Write the pack of each target into `folder`; (its path, how many kernels are in it)."""
    for target in chosen:
        kernels, ready = compiled(graphs, target)
        entries = _objects(kernels, target) | ready
        path = path_of(target, folder)
        write_pack(path, entries | {whole_key(target): b""})
        yield path, len(entries)


def path_of(target: Target, folder: Path) -> Path:
    """The file of a target's pack."""
    return folder / f"{target.name}.pack"


def is_complete(target: Target, folder: Path) -> bool:
    """Whether a target's pack is there and was made by the very sources that run now."""
    return Pack(path_of(target, folder)).get(whole_key(target)) is not None


def whole_key(target: Target) -> str:
    """The key of an entry that says which sources made a pack: which kernels are wanted may follow
    from any of them.
    """
    digest = hashlib.sha256(f"{target.name}\0{generator_version()}".encode())
    for source in sorted(Path(rabbet.base.__file__).parents[1].rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def compiled(graphs: Iterable[Wanted], target: Target) -> tuple[list[Kernel], dict[str, bytes]]:
    """The distinct kernels that compute some graphs, and by key the programs of single ops."""
    found: dict[str, Kernel] = {}
    ready: dict[bytes, list[Ready]] = {}
    for graph, scope, fuse, single in graphs:
        staging = compile_stages(graph, target, scope=scope, fuse=fuse)
        kernels = {object_key(kernel, target): kernel for kernel in _kernels(staging)}
        found |= kernels
        whole = staging.whole
        if single is not None and whole is not None:
            keys = [Known(kernel_name(k), object_key(k, target), None) for k in whole.kernels]
            program = Launchable(whole.words, keys, whole.ops, whole.sites)
            ready.setdefault(single.family, []).append(Ready.of(single.dims, single.keep, program))
    programs = {ready_key(family, target): encode_ready(some) for family, some in ready.items()}
    return list(found.values()), programs


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
