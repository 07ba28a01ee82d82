"""Every workload in TensorFlow, networks with Keras layers: graphs, with and without XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from rabbet.bench.frameworks.networks import chain10
from rabbet.bench.frameworks.running import Builders, Running, repeat
from rabbet.bench.workloads.images import Conv, norm_of


def start(threads: int) -> str:
    """Settings of the process; the version."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return f"{tf.__version__}, Keras {keras.__version__}"


def _numbers(result: Any) -> np.ndarray:
    return np.asarray(tf.cast(result, tf.float32).numpy())


def _tensors(values: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: tf.constant(v) for name, v in values.items()}


def graph(xla: bool) -> Callable[[Any], Any]:
    """tf.function, compiled by XLA or run op by op."""

    def wrap(function: Any) -> Any:
        return tf.function(function, jit_compile=xla)

    return wrap


Wrap = Callable[[Any], Any]

# ---- networks: layers take their first weights from the workload's, by name ----------------------


class _Weights:
    """The workload's first weights, in Keras's layouts."""

    def __init__(self, problem: Any) -> None:
        self.values = problem.start()
        self.loads: list[tuple[Any, list[np.ndarray]]] = []

    def give(self, layer: Any, *names: str) -> Any:
        """Remember a layer and its weights, in the layer's order."""
        found = [self.values[name] for name in names if name in self.values]
        self.loads.append((layer, [self._own(v) for v in found]))
        return layer

    def _own(self, value: np.ndarray) -> np.ndarray:
        if value.ndim == 4:
            return value.transpose(2, 3, 1, 0)
        return value.T if value.ndim == 2 else value

    def load(self) -> None:
        """Give all layers their weights (they are built when first called)."""
        for layer, values in self.loads:
            layer.set_weights(values)

    def dense(self, name: str, width: int, **options: Any) -> Any:
        """A linear layer."""
        bias = f"{name}.bias" in self.values
        layer = layers.Dense(width, use_bias=bias, **options)
        return self.give(layer, f"{name}.weight", f"{name}.bias")

    def norm(self, name: str) -> Any:
        """A layer norm."""
        layer = layers.LayerNormalization(epsilon=1e-5)
        return self.give(layer, f"{name}.weight", f"{name}.bias")

    def unit(self, conv: Conv, x: Any, bias: bool = False) -> Any:
        """A convolution and its batch norm; borders as in the others (TensorFlow's "same" differs
        with a stride)."""
        if conv.kernel > 1:
            x = layers.ZeroPadding2D(conv.kernel // 2)(x)
        layer = layers.Conv2D(conv.filters, conv.kernel, conv.stride, use_bias=bias)
        x = self.give(layer, f"{conv.name}.weight", f"{conv.name}.bias")(x)
        parts = ("weight", "bias", "running_mean", "running_var")
        norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        return self.give(norm, *(f"{norm_of(conv)}.{part}" for part in parts))(x)


def _mlp(problem: Any, w: _Weights) -> Any:
    x = given = keras.Input((problem.widths[0],), problem.batch)
    for i, width in enumerate(problem.widths[1:]):
        activation = "relu" if i < len(problem.widths) - 2 else None
        x = w.dense(str(2 * i), width, activation=activation)(x)
    return keras.Model(given, x)


def _pictures(problem: Any) -> tuple[Any, Any]:
    given = keras.Input((problem.side, problem.side, 3), problem.batch)
    return given, given


def _cnn(problem: Any, w: _Weights) -> Any:
    given, x = _pictures(problem)
    for i, conv in enumerate(problem.convolutions()):
        x = layers.ReLU()(w.unit(conv, x, bias=True))
        x = layers.MaxPooling2D(2)(x) if i else x
    x = layers.Flatten()(layers.Permute((3, 1, 2))(x))  # the head's weight has channels first
    return keras.Model(given, w.dense("head", problem.classes)(x))


def _resnet(problem: Any, w: _Weights) -> Any:
    given, x = _pictures(problem)
    x = layers.ReLU()(w.unit(problem.stem(), x))
    if problem.has_large_stem:
        x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for block in problem.blocks():
        y = x
        for conv in block.convs[:-1]:
            y = layers.ReLU()(w.unit(conv, y))
        y = w.unit(block.convs[-1], y)
        x = layers.ReLU()(y + (w.unit(block.down, x) if block.down else x))
    return keras.Model(given, w.dense("head", problem.classes)(layers.GlobalAveragePooling2D()(x)))


def _attention(qkv: Any, shape: tuple[int, ...], heads: int, is_causal: bool) -> Any:
    batch, length, width = shape
    size = width // heads
    parts = keras.ops.reshape(qkv, (batch, length, 3, heads, size))
    q, k, v = (keras.ops.transpose(parts[:, :, i], (0, 2, 1, 3)) for i in range(3))
    scores = keras.ops.matmul(q, keras.ops.transpose(k, (0, 1, 3, 2))) * size**-0.5
    if is_causal:
        scores = scores + np.triu(np.full((length, length), -np.inf, np.float32), 1)
    y = keras.ops.matmul(keras.ops.softmax(scores, -1), v)
    return keras.ops.reshape(keras.ops.transpose(y, (0, 2, 1, 3)), shape)


def _layer(problem: Any, w: _Weights, name: str, x: Any, is_gpt: bool) -> Any:
    shape = (problem.batch, problem.length, problem.width)
    first, second = w.norm(f"{name}.norm1"), w.norm(f"{name}.norm2")
    qkv = w.dense(f"{name}.qkv", 3 * problem.width)
    proj = w.dense(f"{name}.proj", problem.width)
    up, down = w.dense(f"{name}.up", 4 * problem.width), w.dense(f"{name}.down", problem.width)

    def mlp(x: Any) -> Any:
        return down(keras.ops.gelu(up(x), approximate=is_gpt))

    def attend(x: Any) -> Any:
        return proj(_attention(qkv(x), shape, problem.heads, is_gpt))

    if is_gpt:
        x = x + attend(first(x))
        return x + mlp(second(x))
    x = first(x + attend(x))
    return second(x + mlp(x))


def _gpt(problem: Any, w: _Weights) -> Any:
    given = keras.Input((problem.length,), problem.batch, dtype="int64")
    tokens = layers.Embedding(problem.vocabulary, problem.width)
    positions = layers.Embedding(problem.length, problem.width)
    w.loads += [
        (tokens, [w.values["tokens.weight"]]),
        (positions, [w.values["positions.weight"]]),
    ]
    places = keras.ops.zeros_like(given) + np.arange(problem.length)
    x = tokens(given) + positions(places)
    for i in range(problem.layers):
        x = _layer(problem, w, f"blocks.{i}", x, True)
    return keras.Model(given, w.dense("head", problem.vocabulary)(w.norm("norm")(x)))


def _encoder(problem: Any, w: _Weights) -> Any:
    x = given = keras.Input((problem.length, problem.width), problem.batch)
    for i in range(problem.layers):
        x = _layer(problem, w, f"blocks.{i}", x, False)
    return keras.Model(given, x)


def _lstm(problem: Any, w: _Weights) -> Any:
    given = keras.Input((problem.length, problem.features), problem.batch)
    layer = layers.LSTM(problem.width)
    parts = [w.values[f"lstm.weight_{kind}_l0"].T for kind in ("ih", "hh")]
    w.loads.append((layer, [*parts, np.zeros(4 * problem.width, np.float32)]))
    return keras.Model(given, w.dense("head", problem.classes)(layer(given)))


NETWORKS: dict[str, Callable[[Any, _Weights], Any]] = {
    "mlp_train": _mlp,
    "cnn_train": _cnn,
    "resnet_train": _resnet,
    "resnet_infer": _resnet,
    "gpt_train": _gpt,
    "gpt_forward": _gpt,
    "encoder_infer": _encoder,
    "lstm_train": _lstm,
}


def network(problem: Any) -> tuple[Any, dict[str, Any]]:
    """The workload's network with its first weights, and its inputs (pictures channels last)."""
    weights = _Weights(problem)
    model = NETWORKS[problem.kind](problem, weights)
    weights.load()
    given = problem.inputs()
    if given["x"].ndim == 4:
        given["x"] = np.ascontiguousarray(given["x"].transpose(0, 2, 3, 1))
    return model, _tensors(given)


def _optimizer(problem: Any) -> Any:
    if hasattr(problem, "momentum"):
        return keras.optimizers.SGD(problem.rate, momentum=problem.momentum)
    if problem.kind == "gpt_train":
        return keras.optimizers.AdamW(problem.rate, weight_decay=0.01, epsilon=1e-8)
    return keras.optimizers.Adam(problem.rate, epsilon=1e-8)


def _train(wrap: Wrap) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        model, given = network(problem)
        optimizer = _optimizer(problem)
        optimizer.build(model.trainable_variables)

        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = model(x, training=True)
                flat = tf.reshape(logits, (-1, logits.shape[-1]))
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.reshape(y, (-1,)), flat)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            return loss

        ready = wrap(step)
        return repeat(lambda: ready(given["x"], given["y"]), _numbers)

    return build


def _infer(wrap: Wrap) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        model, given = network(problem)
        ready = wrap(lambda x: model(x, training=False))
        return repeat(lambda: ready(given["x"]), _numbers)

    return build


# ---- the rest ------------------------------------------------------------------------------------


def _gemm(wrap: Wrap) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        given = {n: tf.cast(v, problem.dtype) for n, v in _tensors(problem.inputs()).items()}
        ready = wrap(tf.matmul)
        return repeat(lambda: ready(given["a"], given["b"]), _numbers)

    return build


def _conv(problem: Any) -> Running:
    """Channels last: TensorFlow's CPU kernels take no other layout."""
    given, pad = problem.inputs(), problem.kernel // 2
    x = tf.constant(given["x"].transpose(0, 2, 3, 1).copy())
    border = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
    stride = problem.stride
    if problem.groups > 1:
        weight = tf.constant(given["weight"].transpose(2, 3, 0, 1).copy())
        call = tf.function(
            lambda x: tf.nn.depthwise_conv2d(x, weight, [1, stride, stride, 1], border)
        )
    else:
        weight = tf.constant(given["weight"].transpose(2, 3, 1, 0).copy())
        call = tf.function(lambda x: tf.nn.conv2d(x, weight, stride, border))
    return repeat(lambda: call(x), lambda y: _numbers(tf.transpose(y, (0, 3, 1, 2))))


def _chain(x: Any) -> Any:
    return chain10(x, tf.nn.relu, tf.maximum)


def _stream(wrap: Wrap) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        given = _tensors(problem.inputs())

        def layer_norm(x: Any) -> Any:
            mean, variance = tf.nn.moments(x, [-1], keepdims=True)
            return tf.nn.batch_normalization(
                x, mean, variance, given["bias"], given["weight"], 1e-5
            )

        function = {
            "chain": _chain,
            "softmax": lambda x: tf.nn.softmax(x, -1),
            "layer_norm": layer_norm,
            "sum0": lambda x: tf.reduce_sum(x, 0),
            "sum1": lambda x: tf.reduce_sum(x, 1),
        }[problem.what]
        ready = wrap(function)
        return repeat(lambda: ready(given["x"]), _numbers)

    return build


def _tiny(problem: Any) -> Running:
    x = tf.constant(problem.inputs()["x"])
    function = {"add": lambda x: x + x, "chain": _chain}[problem.what]

    def call() -> Any:
        if not problem.gradients:
            return function(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            total = tf.reduce_sum(y) if problem.backward else y
        return tape.gradient(total, x) if problem.backward else y

    return repeat(call, _numbers)


def _ways(make: Callable[[Wrap], Any]) -> dict[str, Any]:
    return {"graph": make(graph(False)), "xla": make(graph(True))}


BUILDERS: Builders = {
    "gemm": _ways(_gemm),
    "gemm_bfloat16": _ways(_gemm),
    "gemm_constant": _ways(_gemm),
    "conv": {"graph": _conv},
    **{kind: _ways(_train) for kind in NETWORKS if kind.endswith("train")},
    **{kind: _ways(_infer) for kind in NETWORKS if not kind.endswith("train")},
    "tiny": {"eager": _tiny},
    "stream": _ways(_stream),
}
