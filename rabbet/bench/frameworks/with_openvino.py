"""Inference workloads in OpenVINO, in float32 (its default on this kind of CPU is bfloat16)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino

from rabbet.bench.frameworks import onnx_graphs
from rabbet.bench.frameworks.running import Builders, Running, repeat

_core = openvino.Core()


def start(threads: int) -> str:
    """Settings of the process; the version."""
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    _core.set_property("CPU", settings)
    return str(openvino.__version__)


def compiled(model: bytes) -> Any:
    """A request of the compiled model."""
    return _core.compile_model(_core.read_model(model, b""), "CPU").create_infer_request()


def _run(make: Callable[[Any], tuple[bytes, dict[str, np.ndarray]]]) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        model, given = make(problem)
        request = compiled(model)
        for name, values in given.items():
            request.set_tensor(name, openvino.Tensor(values))

        def call() -> Any:
            request.infer()
            return request

        return repeat(call, lambda r: np.array(r.get_output_tensor(0).data))

    return build


def _decode(problem: Any) -> Running:
    model, given = onnx_graphs.decode_step(problem)
    request = compiled(model)
    caches = [name for name in given if name not in ("token", "position")]
    sets = [{name: openvino.Tensor(given[name].copy()) for name in caches} for _ in range(2)]

    def call() -> np.ndarray:
        token, logits = given["token"], np.zeros(1)
        for position in range(problem.first, problem.cache):
            read, write = sets[position % 2], sets[1 - position % 2]
            request.set_tensor("token", openvino.Tensor(token))
            request.set_tensor("position", openvino.Tensor(np.array([position])))
            for i, name in enumerate(caches):
                request.set_tensor(name, read[name])
                request.set_output_tensor(i + 1, write[name])
            request.infer()
            logits = np.array(request.get_output_tensor(0).data)
            token = logits.argmax(-1)
        return logits[0]

    return repeat(call)


BUILDERS: Builders = {
    "gemm": {"request": _run(onnx_graphs.product)},
    "gemm_constant": {"request": _run(onnx_graphs.product)},
    "conv": {"request": _run(onnx_graphs.convolution)},
    **{kind: {"request": _run(onnx_graphs.network)} for kind in onnx_graphs.NETWORKS},
    "gpt_decode": {"request": _decode},
    "stream": {"request": _run(onnx_graphs.stream)},
}
