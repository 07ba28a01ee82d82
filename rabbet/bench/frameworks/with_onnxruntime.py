"""Inference workloads in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from rabbet.bench.frameworks import onnx_graphs
from rabbet.bench.frameworks.running import Builders, Running, repeat

_threads = 1


def start(threads: int) -> str:
    """Settings of the process; the version."""
    global _threads
    _threads = threads
    return str(onnxruntime.__version__)


def session(model: bytes) -> onnxruntime.InferenceSession:
    """A session with all optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(make: Callable[[Any], tuple[bytes, dict[str, np.ndarray]]]) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        model, given = make(problem)
        ready = session(model)
        return repeat(lambda: ready.run(None, given)[0])

    return build


def _decode(problem: Any) -> Running:
    model, given = onnx_graphs.decode_step(problem)
    ready = session(model)
    caches = [name for name in given if name not in ("token", "position")]
    outputs = [o.name for o in ready.get_outputs()]
    binding = ready.io_binding()
    # Two sets of caches: a step reads one and writes the other.
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    sets = [{name: value(given[name].copy()) for name in caches} for _ in range(2)]

    def call() -> np.ndarray:
        token, logits = given["token"], np.zeros(1)
        for position in range(problem.first, problem.cache):
            read, write = sets[position % 2], sets[1 - position % 2]
            binding.bind_cpu_input("token", token)
            binding.bind_cpu_input("position", np.array([position]))
            binding.bind_output(outputs[0])
            for name, output in zip(caches, outputs[1:], strict=True):
                binding.bind_ortvalue_input(name, read[name])
                binding.bind_ortvalue_output(output, write[name])
            ready.run_with_iobinding(binding)
            logits = binding.get_outputs()[0].numpy()
            token = logits.argmax(-1)
        return logits[0]

    return repeat(call)


BUILDERS: Builders = {
    "gemm": {"session": _run(onnx_graphs.product)},
    "gemm_constant": {"session": _run(onnx_graphs.product)},
    "conv": {"session": _run(onnx_graphs.convolution)},
    **{kind: {"session": _run(onnx_graphs.network)} for kind in onnx_graphs.NETWORKS},
    "gpt_decode": {"session": _decode},
    "stream": {"session": _run(onnx_graphs.stream)},
}
