"""Inference workloads in LiteRT (TensorFlow Lite): Keras's networks, converted, run by XNNPACK."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rabbet.bench.frameworks.running import Builders, Running, repeat
from rabbet.bench.frameworks.with_tensorflow import NETWORKS, network

_threads = 1


def start(threads: int) -> str:
    """Settings of the process; the version."""
    global _threads
    _threads = threads
    return str(tf.__version__)


def converted(model: Any) -> Any:
    """An interpreter of a Keras network."""
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=_threads)
    interpreter.allocate_tensors()
    return interpreter


def _infer(problem: Any) -> Running:
    model, given = network(problem)
    interpreter = converted(model)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given["x"].numpy())
    place = interpreter.get_output_details()[0]["index"]

    def call() -> Any:
        interpreter.invoke()
        return interpreter

    return repeat(call, lambda done: done.get_tensor(place))


BUILDERS: Builders = {kind: {"xnnpack": _infer} for kind in NETWORKS if not kind.endswith("train")}
