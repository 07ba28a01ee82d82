"""ARM64 in an emulator: every op, every dtype, and every gradient, bit for bit as on this machine.

The order of additions is fixed by op, shape and dtype, and both machines have a fused
multiply-add, so even sums and products agree to the last bit.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, targets
from rabbet.base.target import Target
from rabbet.codegen.store import KernelStore
from rabbet.export.graph import build
from rabbet.export.read import read_program
from rabbet.graph.value import Graph
from rabbet.runtime import buffers
from rabbet.runtime.program import compile_graph
from rabbet.transform.decompose import decompose
from tests.foreign.bundle import Bundle
from tests.ops.test_matrix import DIFFERENTIABLE, OPS, Slope, cases, single
from tests.unit.export.control_programs import everything

COMPILER = shutil.which("aarch64-linux-gnu-gcc")
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
PARTS = 8
Program = tuple[str, Graph, list[np.ndarray]]


def programs(part: int) -> Iterator[Program]:
    """A share of all ops: their samples in each dtype, and the gradients of the samples."""
    for op in OPS[part::PARTS]:
        for case, dtype, arrays in cases(op):
            yield f"{op.name} {dtype} {case}", single(op, case, arrays), arrays
        if op not in DIFFERENTIABLE:
            continue
        for case, _, arrays in cases(op, "float32"):
            slope = Slope(op, case, arrays, 1) if case.grad else None
            wanted = [g for g in slope.slope if g is not None] if slope else []
            if slope is not None and wanted:
                given = [
                    np.asarray(a, v.dtype.numpy)
                    for a, v in zip(slope.arrays, slope.inputs, strict=True)
                ]
                yield f"gradient of {op.name} {case}", Graph(slope.inputs, wanted), given


def here(graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs as this machine computes them."""
    program = compile_graph(graph, scope=None, fuse=True)
    made = program.run((), [buffers.from_numpy(a, copy=True) for a in arrays])
    return [buffers.to_numpy(b, v.shape, v.dtype) for b, v in zip(made, graph.outputs, strict=True)]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bits; a NaN is a NaN (its sign and payload are the machine's own)."""
    if a.dtype.kind == "c":
        a, b = (np.stack([x.real, x.imag], -1) for x in (a, b))
    if a.dtype.kind != "f":
        return a.tobytes() == b.tobytes()
    known = ~np.isnan(a)
    return bool((known == ~np.isnan(b)).all()) and a[known].tobytes() == b[known].tobytes()


@pytest.fixture(scope="module")
def arm64() -> Target:
    if COMPILER is None or EMULATOR is None:
        pytest.skip("needs gcc-aarch64-linux-gnu and qemu-user")
    if not targets.host().has_fma:
        pytest.skip("this machine rounds each product by itself, ARM64 does not")
    return targets.find("arm64")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_op_on_arm64(part: int, arm64: Target, tmp_path: Path) -> None:
    bundle = Bundle(KernelStore(arm64))
    wanted = []
    for what, graph, arrays in programs(part):
        if any(call.op.kind == "host" for call in decompose(graph)[0].calls()):
            continue  # runs in NumPy wherever it runs
        bundle.add(graph, arrays)
        wanted.append((what, here(graph, arrays)))
    assert COMPILER and EMULATOR and len(wanted) > 20
    found = bundle.run(tmp_path, [COMPILER], [EMULATOR])
    different = [
        what
        for (what, one), other in zip(wanted, found, strict=True)
        if not all(same(a, b) for a, b in zip(one, other, strict=True))
    ]
    assert not different, different[:20]


@pytest.mark.slow
def test_control_flow_on_arm64(arm64: Target, tmp_path: Path) -> None:
    """A plan with plans inside it, on inputs that go different ways."""
    file = read_program(rb.export(everything, (rb.ones(3),), tmp_path / "everything.rbt"))
    built = build(file.program, file.program.entries[0], [])
    weights = [file.program.weights[i] for i in built.weights]
    given = [buffers.to_numpy(file.buffer(w), w.shape, w.dtype) for w in weights]
    bundle, wanted, rng = Bundle(KernelStore(arm64)), [], np.random.default_rng(0)
    for scale in (0.3, 1, 4, 12):
        arrays = [(rng.standard_normal(3) * scale).astype(np.float32), *given]
        bundle.add(built.graph, arrays)
        wanted.append(here(built.graph, arrays))
    assert COMPILER and EMULATOR
    for one, other in zip(wanted, bundle.run(tmp_path, [COMPILER], [EMULATOR]), strict=True):
        assert all(same(a, b) for a, b in zip(one, other, strict=True))


MAIN = """
#include <stdio.h>
#include "net.h"
int main(void) {
    static float image[2 * 64], logits[2 * 10];
    net_model *m = net_open();
    if (!m || fread(image, sizeof image, 1, stdin) != 1) return 1;
    if (net_predict(m, 2, image, logits) != NET_OK) return 2;
    net_close(m);
    return fwrite(logits, sizeof logits, 1, stdout) != 1;
}
"""


def test_a_model_is_built_for_arm64(arm64: Target, tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 10)
    )
    x = rb.rand(2, 1, 8, 8)
    rb.export(model, (x,), tmp_path / "net.rbt", dynamic={"x": {0: "batch"}})
    rb.build(tmp_path / "net.rbt", output=tmp_path, cpu=arm64.name)
    (tmp_path / "main.c").write_text(MAIN)
    assert COMPILER and EMULATOR
    flags = ["main.c", "-o", "main", "-L.", "-lnet", "-Wl,-rpath,$ORIGIN"]
    subprocess.run([COMPILER, *flags], cwd=tmp_path, check=True)
    command = [EMULATOR, "-L", "/usr/aarch64-linux-gnu", "./main"]
    given = np.ascontiguousarray(x.numpy()).tobytes()
    done = subprocess.run(command, cwd=tmp_path, input=given, capture_output=True, check=True)
    assert done.stdout == model.eval()(x).numpy().tobytes()
