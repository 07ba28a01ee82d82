"""Many programs for another machine in one executable: compiled here, run in an emulator."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rabbet import runtime
from rabbet.base.target import Target
from rabbet.codegen.bundle import object_files
from rabbet.codegen.store import KernelStore
from rabbet.graph.value import Graph
from rabbet.kernel.loops import Kernel
from rabbet.kernel.show import kernel_name
from rabbet.runtime.assembly import Compiled
from rabbet.runtime.compile import compile_plan

NATIVE = Path(str(runtime.__file__)).parent / "native"
RUNNER = Path(__file__).with_name("runner.c")
SECONDS = 600
PARAMETERS = "uint8_t *const *, const int64_t *, int64_t, int64_t, uint8_t *, int64_t *"


@dataclass
class Bundle:
    """Programs with their inputs; `run` gives the outputs of all."""

    store: KernelStore
    kernels: dict[str, Kernel] = field(default_factory=dict)
    programs: list[tuple[Compiled, list[np.ndarray]]] = field(default_factory=list)

    @property
    def target(self) -> Target:
        """The machine compiled for."""
        return self.store.target

    def add(self, graph: Graph, inputs: Sequence[np.ndarray]) -> None:
        """Compile a program of fixed sizes."""
        compiled = compile_plan(graph, self.target)
        self.kernels.update((kernel_name(k), k) for k in compiled.kernels)
        self.programs.append((compiled, list(inputs)))

    def run(
        self, folder: Path, compiler: Sequence[str], emulator: Sequence[str]
    ) -> list[list[np.ndarray]]:
        """Link everything with `compiler`, run it with `emulator`."""
        self._write(folder / "bundle")
        command = [*emulator, self._link(folder, compiler), folder / "bundle", folder / "results"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        rest = (folder / "results").read_bytes()
        found = []
        for compiled, _ in self.programs:
            outputs = []
            for spec in compiled.outputs:
                outputs.append(np.frombuffer(rest[: spec.nbytes], spec.dtype.numpy))
                outputs[-1] = outputs[-1].reshape(spec.shape)
                rest = rest[spec.nbytes :]
            found.append(outputs)
        assert not rest
        return found

    def _write(self, path: Path) -> None:
        numbers = {name: i for i, name in enumerate(self.kernels)}
        with path.open("wb") as file:
            file.write(struct.pack("<q", len(self.programs)))
            for compiled, inputs in self.programs:
                indices = [numbers[kernel_name(k)] for k in compiled.kernels]
                sizes = [int(s.nbytes) for s in compiled.outputs]
                counts = [len(compiled.words) // 8, len(indices), len(inputs), len(sizes)]
                file.write(struct.pack("<4q", *counts) + compiled.words)
                file.write(struct.pack(f"<{len(indices)}q", *indices))
                for array in inputs:
                    file.write(struct.pack("<q", array.nbytes) + np.ascontiguousarray(array).data)
                file.write(struct.pack(f"<{len(sizes)}q", *sizes))

    def _link(self, folder: Path, compiler: Sequence[str]) -> Path:
        objects = self.store.objects(list(self.kernels.values()))
        code = object_files(objects)
        for name, content in code.items():
            (folder / name).write_bytes(content)
        table = folder / "table.c"
        lines = ['#include "rabbet.h"']
        lines += [f"void {name}({PARAMETERS});" for name in objects]
        lines += [f"const rb_kernel rb_kernels[] = {{{', '.join(objects)}}};", ""]
        table.write_text("\n".join(lines))
        response = folder / "arguments"
        files = [*(folder / name for name in code), RUNNER, table, *NATIVE.glob("*.c")]
        response.write_text("\n".join(f'"{f}"' for f in files))
        made = folder / "runner"
        flags = ["-std=gnu11", "-O2", "-static", "-pthread", f"-I{NATIVE}", "-o", str(made)]
        command = [*compiler, *flags, f"@{response}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr[-3000:]
        return made
