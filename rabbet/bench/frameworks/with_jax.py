"""Every workload in JAX, compiled: pure functions of arrays, optimizers written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from rabbet.bench.frameworks.networks import chain10
from rabbet.bench.frameworks.running import Builders, Running, repeat
from rabbet.bench.workloads.images import Conv, norm_of

Weights = dict[str, Any]
# (weights, x) -> the result, and buffers that changed.
Forward = Callable[[Weights, Any], tuple[Any, Weights]]


def start(threads: int) -> str:
    """The version; XLA takes the threads of the processors that the process may use."""
    return str(jax.__version__)


def _numbers(result: Any) -> np.ndarray:
    return np.asarray(jnp.asarray(result, jnp.float32))


def _arrays(values: dict[str, np.ndarray]) -> Weights:
    return {name: jnp.asarray(v) for name, v in values.items()}


def _weights(values: dict[str, np.ndarray]) -> Weights:
    """Linear weights (in, out) and filters (H, W, I, O), as JAX's own layers keep them."""

    def own(name: str, v: np.ndarray) -> np.ndarray:
        if v.ndim == 4:
            return v.transpose(2, 3, 1, 0)
        return v if v.ndim == 1 or name.startswith(("tokens", "positions")) else v.T

    return {name: jnp.asarray(np.ascontiguousarray(own(name, v))) for name, v in values.items()}


def _waiting(call: Callable[[], Any]) -> Running:
    return repeat(lambda: call().block_until_ready(), _numbers)


# ---- layers --------------------------------------------------------------------------------------


def _linear(w: Weights, name: str, x: Any) -> Any:
    y = x @ w[f"{name}.weight"]
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def _layer_norm(w: Weights, name: str, x: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    y = (x - mean) * lax.rsqrt(variance + 1e-5)
    return y * w[f"{name}.weight"] + w[f"{name}.bias"]


def _conv(w: Weights, name: str, x: Any, stride: int) -> Any:
    """x (N, H, W, C), the weight (H, W, I, O)."""
    weight = w[f"{name}.weight"]
    pad = weight.shape[0] // 2
    kinds = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(
        x, weight, (stride, stride), [(pad, pad)] * 2, dimension_numbers=kinds
    )
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def _batch_norm(w: Weights, name: str, x: Any, is_training: bool, moved: Weights) -> Any:
    mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    if is_training:
        count = x.size // x.shape[-1]
        batch = x.mean((0, 1, 2))
        spread = ((x - batch) ** 2).mean((0, 1, 2))
        moved[f"{name}.running_mean"] = 0.9 * mean + 0.1 * batch
        moved[f"{name}.running_var"] = 0.9 * variance + 0.1 * spread * (count / (count - 1))
        mean, variance = batch, spread
    scale = w[f"{name}.weight"] * lax.rsqrt(variance + 1e-5)
    return (x - mean) * scale + w[f"{name}.bias"]


def _max_pool(x: Any, size: int, stride: int, pad: int) -> Any:
    border = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, border)


def _attention(qkv: Any, heads: int, is_causal: bool) -> Any:
    batch, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    parts = qkv.reshape(batch, length, 3, heads, width // heads)
    q, k, v = parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]
    y = nn.dot_product_attention(q, k, v, is_causal=is_causal)
    return y.reshape(batch, length, width)


def _layer(w: Weights, name: str, x: Any, heads: int, is_gpt: bool) -> Any:
    def mlp(x: Any) -> Any:
        return _linear(w, f"{name}.down", nn.gelu(_linear(w, f"{name}.up", x), approximate=is_gpt))

    def attend(x: Any) -> Any:
        return _linear(w, f"{name}.proj", _attention(_linear(w, f"{name}.qkv", x), heads, is_gpt))

    if is_gpt:
        x = x + attend(_layer_norm(w, f"{name}.norm1", x))
        return x + mlp(_layer_norm(w, f"{name}.norm2", x))
    x = _layer_norm(w, f"{name}.norm1", x + attend(x))
    return _layer_norm(w, f"{name}.norm2", x + mlp(x))


# ---- networks ------------------------------------------------------------------------------------


def _mlp(problem: Any) -> Forward:
    def forward(w: Weights, x: Any) -> tuple[Any, Weights]:
        last = len(problem.widths) - 2
        for i in range(last + 1):
            x = _linear(w, str(2 * i), x)
            x = nn.relu(x) if i < last else x
        return x, {}

    return forward


def _flat(x: Any) -> Any:
    """Channels first in the flattened features, as in the others."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


def _cnn(problem: Any) -> Forward:
    def forward(w: Weights, x: Any) -> tuple[Any, Weights]:
        moved: Weights = {}
        x = x.transpose(0, 2, 3, 1)
        for i in (1, 2, 3):
            x = _conv(w, f"conv{i}", x, 1)
            x = nn.relu(_batch_norm(w, f"norm{i}", x, True, moved))
            x = _max_pool(x, 2, 2, 0) if i > 1 else x
        return _linear(w, "head", _flat(x)), moved

    return forward


def _resnet(problem: Any) -> Forward:
    blocks, is_training = problem.blocks(), problem.is_training

    def forward(w: Weights, x: Any) -> tuple[Any, Weights]:
        moved: Weights = {}

        def unit(conv: Conv, x: Any) -> Any:
            x = _conv(w, conv.name, x, conv.stride)
            return _batch_norm(w, norm_of(conv), x, is_training, moved)

        x = nn.relu(unit(problem.stem(), x.transpose(0, 2, 3, 1)))
        if problem.has_large_stem:
            x = _max_pool(x, 3, 2, 1)
        for block in blocks:
            y = x
            for conv in block.convs[:-1]:
                y = nn.relu(unit(conv, y))
            y = unit(block.convs[-1], y)
            x = nn.relu(y + (unit(block.down, x) if block.down else x))
        return _linear(w, "head", x.mean((1, 2))), moved

    return forward


def _gpt(problem: Any) -> Forward:
    def forward(w: Weights, tokens: Any) -> tuple[Any, Weights]:
        x = w["tokens.weight"][tokens] + w["positions.weight"][: tokens.shape[1]]
        for i in range(problem.layers):
            x = _layer(w, f"blocks.{i}", x, problem.heads, True)
        return _linear(w, "head", _layer_norm(w, "norm", x)), {}

    return forward


def _encoder(problem: Any) -> Forward:
    def forward(w: Weights, x: Any) -> tuple[Any, Weights]:
        for i in range(problem.layers):
            x = _layer(w, f"blocks.{i}", x, problem.heads, False)
        return x, {}

    return forward


def _lstm(problem: Any) -> Forward:
    def forward(w: Weights, x: Any) -> tuple[Any, Weights]:
        inward = x @ w["lstm.weight_ih_l0"] + w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
        inside = w["lstm.weight_hh_l0"]

        def step(state: tuple[Any, Any], gates: Any) -> tuple[tuple[Any, Any], None]:
            h, c = state
            i, f, g, o = jnp.split(gates + h @ inside, 4, -1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            return (nn.sigmoid(o) * jnp.tanh(c), c), None

        zero = jnp.zeros((x.shape[0], problem.width))
        (h, _), _ = lax.scan(step, (zero, zero), inward.transpose(1, 0, 2))
        return _linear(w, "head", h), {}

    return forward


NETWORKS: dict[str, Callable[[Any], Forward]] = {
    "mlp_train": _mlp,
    "cnn_train": _cnn,
    "resnet_train": _resnet,
    "resnet_infer": _resnet,
    "gpt_train": _gpt,
    "gpt_forward": _gpt,
    "encoder_infer": _encoder,
    "lstm_train": _lstm,
}

# ---- training ------------------------------------------------------------------------------------


def _adam(problem: Any, w: Weights, g: Weights, state: Any) -> tuple[Weights, Any]:
    m, v, t = state
    t = t + 1
    decay = 1 - problem.rate * 0.01 if problem.kind == "gpt_train" else 1.0  # AdamW
    m = {k: 0.9 * m[k] + 0.1 * g[k] for k in w}
    v = {k: 0.999 * v[k] + 0.001 * g[k] ** 2 for k in w}
    first, second = 1 - 0.9**t, 1 - 0.999**t
    new = {
        k: decay * w[k] - problem.rate * (m[k] / first) / (jnp.sqrt(v[k] / second) + 1e-8)
        for k in w
    }
    return new, (m, v, t)


def _sgd(problem: Any, w: Weights, g: Weights, state: Any) -> tuple[Weights, Any]:
    state = {k: problem.momentum * state[k] + g[k] for k in w}
    return {k: w[k] - problem.rate * state[k] for k in w}, state


def _train(problem: Any) -> Running:
    trained = {w.name for w in problem.weights() if w.trained}
    values = _weights(problem.start())
    weights = {n: v for n, v in values.items() if n in trained}
    buffers = {n: v for n, v in values.items() if n not in trained}
    given = _arrays(problem.inputs())
    forward = NETWORKS[problem.kind](problem)
    is_sgd = hasattr(problem, "momentum")
    update = _sgd if is_sgd else _adam
    zeros = {n: jnp.zeros_like(v) for n, v in weights.items()}
    state: Any = zeros if is_sgd else (zeros, {n: v + 0 for n, v in zeros.items()}, jnp.zeros(()))

    def loss(w: Weights, buffers: Weights, x: Any, y: Any) -> tuple[Any, Weights]:
        logits, moved = forward({**w, **buffers}, x)
        logs = nn.log_softmax(logits.reshape(-1, logits.shape[-1]))
        return -jnp.take_along_axis(logs, y.reshape(-1, 1), 1).mean(), moved

    def step(w: Weights, buffers: Weights, state: Any, x: Any, y: Any) -> Any:
        (value, moved), g = jax.value_and_grad(loss, has_aux=True)(w, buffers, x, y)
        w, state = update(problem, w, g, state)
        return w, {**buffers, **moved}, state, value

    compiled = jax.jit(step, donate_argnums=(0, 1, 2))
    held = [weights, buffers, state]

    def call() -> Any:
        *held[:], value = compiled(*held, given["x"], given["y"])
        return value

    return _waiting(call)


def _infer(problem: Any) -> Running:
    weights, x = _weights(problem.start()), _arrays(problem.inputs())["x"]
    forward = NETWORKS[problem.kind](problem)
    compiled = jax.jit(lambda w, x: forward(w, x)[0])
    return _waiting(lambda: compiled(weights, x))


# ---- the rest ------------------------------------------------------------------------------------


def _gemm(problem: Any) -> Running:
    given = {n: x.astype(problem.dtype) for n, x in _arrays(problem.inputs()).items()}
    a, b = given["a"], given["b"]
    product = jax.jit(lambda a, b: a @ b)
    return _waiting(lambda: product(a, b))


def _convolution(is_last: bool) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        given = _arrays(problem.inputs())
        x, weight, pad = given["x"], given["weight"], problem.kernel // 2
        kinds = ("NHWC", "HWIO", "NHWC") if is_last else ("NCHW", "OIHW", "NCHW")
        if is_last:
            x, weight = x.transpose(0, 2, 3, 1), weight.transpose(2, 3, 1, 0)

        @jax.jit
        def convolve(x: Any, weight: Any) -> Any:
            return lax.conv_general_dilated(
                x,
                weight,
                (problem.stride,) * 2,
                [(pad, pad)] * 2,
                dimension_numbers=kinds,
                feature_group_count=problem.groups,
            )

        def numbers(result: Any) -> np.ndarray:
            return _numbers(result.transpose(0, 3, 1, 2) if is_last else result)

        return repeat(lambda: convolve(x, weight).block_until_ready(), numbers)

    return build


def _chain(x: Any) -> Any:
    return chain10(x, nn.relu, jnp.maximum)


def _stream(problem: Any) -> Running:
    given = _arrays(problem.inputs())
    x, weights = given["x"], {"norm.weight": given["weight"], "norm.bias": given["bias"]}
    function = {
        "chain": _chain,
        "softmax": lambda x: nn.softmax(x, -1),
        "layer_norm": lambda x: _layer_norm(weights, "norm", x),
        "sum0": lambda x: x.sum(0),
        "sum1": lambda x: x.sum(1),
    }[problem.what]
    compiled = jax.jit(function)
    return _waiting(lambda: compiled(x))


def _tiny(is_jit: bool) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        x = _arrays(problem.inputs())["x"]
        function = {"add": lambda x: x + x, "chain": _chain}[problem.what]
        if problem.backward:
            function = jax.grad(lambda x: _chain(x).sum())
        call = jax.jit(function) if is_jit else function
        return _waiting(lambda: call(x))

    return build


def _decode(problem: Any) -> Running:
    weights, given = _weights(problem.start()), _arrays(problem.inputs())
    places, heads, width = jnp.arange(problem.cache), problem.heads, problem.width

    def step(w: Weights, token: Any, position: Any, keys: Any, values: Any) -> Any:
        x = (w["tokens.weight"][token] + w["positions.weight"][position])[None]
        for i in range(problem.layers):
            name = f"blocks.{i}"
            packed = _linear(w, f"{name}.qkv", _layer_norm(w, f"{name}.norm1", x))
            q, k, v = packed.reshape(3, heads, width // heads)
            keys[i] = keys[i].at[:, position].set(k)
            values[i] = values[i].at[:, position].set(v)
            scores = jnp.einsum("hd,htd->ht", q, keys[i]) * (width // heads) ** -0.5
            scores = jnp.where(places <= position, scores, -jnp.inf)
            seen = jnp.einsum("ht,htd->hd", nn.softmax(scores, -1), values[i])
            x = x + _linear(w, f"{name}.proj", seen.reshape(1, width))
            hidden = nn.gelu(_linear(w, f"{name}.up", _layer_norm(w, f"{name}.norm2", x)))
            x = x + _linear(w, f"{name}.down", hidden)
        logits = _linear(w, "head", _layer_norm(w, "norm", x))[0]
        return logits.argmax(-1), logits, keys, values

    compiled = jax.jit(step, donate_argnums=(3, 4))
    held = [list(given["keys"]), list(given["values"])]

    def call() -> Any:
        token, logits = given["token"], None
        for position in range(problem.first, problem.cache):
            token, logits, held[0], held[1] = compiled(weights, token, position, *held)
        return logits

    return _waiting(call)


BUILDERS: Builders = {
    "gemm": {"jit": _gemm},
    "gemm_bfloat16": {"jit": _gemm},
    "gemm_constant": {"jit": _gemm},
    "conv": {"jit": _convolution(False), "jit_channels_last": _convolution(True)},
    **{kind: {"jit": _train} for kind in NETWORKS if kind.endswith("train")},
    **{kind: {"jit": _infer} for kind in NETWORKS if not kind.endswith("train")},
    "gpt_decode": {"jit": _decode},
    "tiny": {"eager": _tiny(False), "jit": _tiny(True)},
    "tiny_jit": {"jit": _tiny(True)},
    "stream": {"jit": _stream},
}
