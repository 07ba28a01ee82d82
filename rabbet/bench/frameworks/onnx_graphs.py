"""The inference workloads as ONNX models, for the frameworks that run those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from rabbet.bench.frameworks.networks import chain10
from rabbet.bench.workloads.images import Conv, norm_of

OPSET = 20
INFINITY = float("-inf")


class Graph:
    """A model in the making: nodes and weights; results are names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self._constants = 0

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; the name of its result, or a list of several."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """A weight without a name of its own."""
        name = f"c{self._constants}"
        self._constants += 1
        self.weights[name] = np.asarray(values, dtype)
        return name

    def model(self, inputs: dict[str, np.ndarray], output: str | list[str]) -> bytes:
        """The model; `inputs` are examples."""
        given = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in inputs.items()
        ]
        outputs = [output] if isinstance(output, str) else output
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        for info in results:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
        weights = [numpy_helper.from_array(v, name) for name, v in self.weights.items()]
        graph = helper.make_graph(self.nodes, "workload", given, results, weights)
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
        )
        return bytes(made.SerializeToString())


class Term:
    """A name with operators, for functions written over tensors."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def _with(self, kind: str, other: Any) -> Term:
        name = other.name if isinstance(other, Term) else self.graph.constant(other)
        return Term(self.graph, self.graph.op(kind, self.name, name))

    def __add__(self, other: Any) -> Term:
        return self._with("Add", other)

    def __sub__(self, other: Any) -> Term:
        return self._with("Sub", other)

    def __mul__(self, other: Any) -> Term:
        return self._with("Mul", other)

    def __abs__(self) -> Term:
        return Term(self.graph, self.graph.op("Abs", self.name))

    def maximum(self, other: Term) -> Term:
        """The larger of two."""
        return self._with("Max", other)

    def relu(self) -> Term:
        """max(x, 0)."""
        return Term(self.graph, self.graph.op("Relu", self.name))


def _linear(g: Graph, name: str, x: str) -> str:
    turned = g.constant(g.weights.pop(f"{name}.weight").T)
    y = g.op("MatMul", x, turned)
    return g.op("Add", y, f"{name}.bias") if f"{name}.bias" in g.weights else y


def _norm(g: Graph, name: str, x: str) -> str:
    return g.op("LayerNormalization", x, f"{name}.weight", f"{name}.bias", axis=-1, epsilon=1e-5)


def _attention(g: Graph, qkv: str, shape: tuple[int, ...], heads: int, is_causal: bool) -> str:
    batch, length, width = shape
    size = width // heads

    def turned(x: str, order: list[int]) -> str:
        parted = g.op("Reshape", x, g.constant([batch, length, heads, size], np.int64))
        return g.op("Transpose", parted, perm=order)

    q, k, v = g.op("Split", qkv, outputs=3, axis=-1, num_outputs=3)
    scores = g.op("MatMul", turned(q, [0, 2, 1, 3]), turned(k, [0, 2, 3, 1]))
    scores = g.op("Mul", scores, g.constant(size**-0.5))
    if is_causal:
        mask = np.triu(np.full((length, length), INFINITY, np.float32), 1)
        scores = g.op("Add", scores, g.constant(mask))
    y = g.op("MatMul", g.op("Softmax", scores, axis=-1), turned(v, [0, 2, 1, 3]))
    y = g.op("Transpose", y, perm=[0, 2, 1, 3])
    return g.op("Reshape", y, g.constant([batch, length, width], np.int64))


def _layer(g: Graph, name: str, x: str, shape: tuple[int, ...], heads: int, is_gpt: bool) -> str:
    def mlp(x: str) -> str:
        hidden = _linear(g, f"{name}.up", x)
        hidden = g.op("Gelu", hidden, approximate="tanh" if is_gpt else "none")
        return _linear(g, f"{name}.down", hidden)

    def attend(x: str) -> str:
        seen = _attention(g, _linear(g, f"{name}.qkv", x), shape, heads, is_gpt)
        return _linear(g, f"{name}.proj", seen)

    if is_gpt:
        x = g.op("Add", x, attend(_norm(g, f"{name}.norm1", x)))
        return g.op("Add", x, mlp(_norm(g, f"{name}.norm2", x)))
    x = _norm(g, f"{name}.norm1", g.op("Add", x, attend(x)))
    return _norm(g, f"{name}.norm2", g.op("Add", x, mlp(x)))


def _gpt(g: Graph, problem: Any) -> str:
    x = g.op("Gather", "tokens.weight", "x")
    x = g.op("Add", x, "positions.weight")
    shape = (problem.batch, problem.length, problem.width)
    for i in range(problem.layers):
        x = _layer(g, f"blocks.{i}", x, shape, problem.heads, True)
    return _linear(g, "head", _norm(g, "norm", x))


def _encoder(g: Graph, problem: Any) -> str:
    shape, x = (problem.batch, problem.length, problem.width), "x"
    for i in range(problem.layers):
        x = _layer(g, f"blocks.{i}", x, shape, problem.heads, False)
    return x


def _conv(g: Graph, x: str, weight: str, kernel: int, stride: int, groups: int = 1) -> str:
    return str(g.op("Conv", x, weight, strides=[stride] * 2, pads=[kernel // 2] * 4, group=groups))


def _unit(g: Graph, conv: Conv, x: str) -> str:
    y = _conv(g, x, f"{conv.name}.weight", conv.kernel, conv.stride)
    parts = ("weight", "bias", "running_mean", "running_var")
    weights = [f"{norm_of(conv)}.{part}" for part in parts]
    return str(g.op("BatchNormalization", y, *weights, epsilon=1e-5))


def _resnet(g: Graph, problem: Any) -> str:
    x = g.op("Relu", _unit(g, problem.stem(), "x"))
    if problem.has_large_stem:
        x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for block in problem.blocks():
        y = x
        for conv in block.convs[:-1]:
            y = g.op("Relu", _unit(g, conv, y))
        y = _unit(g, block.convs[-1], y)
        x = g.op("Relu", g.op("Add", y, _unit(g, block.down, x) if block.down else x))
    x = g.op("Flatten", g.op("GlobalAveragePool", x))
    return _linear(g, "head", x)


NETWORKS: dict[str, Callable[[Graph, Any], str]] = {
    "gpt_forward": _gpt,
    "encoder_infer": _encoder,
    "resnet_infer": _resnet,
}


def network(problem: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """The model of an inference workload and its inputs."""
    graph = Graph()
    graph.weights = dict(problem.start())
    given = {"x": problem.inputs()["x"]}
    return graph.model(given, NETWORKS[problem.kind](graph, problem)), given


def product(problem: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """a @ b; b inside the model where it is constant."""
    graph, given = Graph(), problem.inputs()
    if problem.constant:
        graph.weights["b"] = given.pop("b")
    return graph.model(given, graph.op("MatMul", "a", "b")), given


def convolution(problem: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """One convolution; its weight is inside the model, as in a network."""
    graph, given = Graph(), problem.inputs()
    graph.weights["weight"] = given.pop("weight")
    result = _conv(graph, "x", "weight", problem.kernel, problem.stride, problem.groups)
    return graph.model(given, result), given


def stream(problem: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """A pass over large memory."""
    graph, given = Graph(), problem.inputs()
    graph.weights.update(weight=given["weight"], bias=given["bias"])
    x = Term(graph, "x")

    def total(axis: int) -> str:
        return str(graph.op("ReduceSum", "x", graph.constant([axis], np.int64), keepdims=0))

    result = {
        "chain": lambda: chain10(x, Term.relu, Term.maximum).name,
        "softmax": lambda: graph.op("Softmax", "x", axis=-1),
        "layer_norm": lambda: graph.op("LayerNormalization", "x", "weight", "bias", axis=-1),
        "sum0": lambda: total(0),
        "sum1": lambda: total(1),
    }[problem.what]()
    return graph.model({"x": given["x"]}, result), {"x": given["x"]}


def decode_step(problem: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """One step: token, position, and a cache of keys and values for each layer (heads, cache,
    size) -> logits, and the caches with the position's entries in place."""
    g, given = Graph(), problem.inputs()
    g.weights = dict(problem.start())
    heads, width, size = problem.heads, problem.width, problem.width // problem.heads
    places = g.constant(np.arange(problem.cache), np.int64)
    later = g.op("Greater", places, "position")
    hidden = g.constant(INFINITY)
    mask = g.op("Where", later, hidden, g.constant(0.0))
    here = g.op("Reshape", g.op("Equal", places, "position"), g.constant([1, -1, 1], np.int64))
    inputs = {"token": given["token"].reshape(1), "position": np.array([problem.first])}
    row = g.constant([1, width], np.int64)
    x = g.op(
        "Add",
        g.op("Gather", "tokens.weight", "token"),
        g.op("Gather", "positions.weight", "position"),
    )
    kept: list[str] = []
    for i in range(problem.layers):
        name = f"blocks.{i}"
        packed = _linear(g, f"{name}.qkv", _norm(g, f"{name}.norm1", x))
        packed = g.op("Reshape", packed, g.constant([3, heads, 1, size], np.int64))
        parts = g.op("Split", packed, outputs=3, axis=0, num_outputs=3)
        q, k, v = (g.op("Squeeze", p, g.constant([0], np.int64)) for p in parts)
        caches = []
        for kind, fresh in (("keys", k), ("values", v)):
            inputs[f"{kind}{i}"] = given[kind][i]
            caches.append(g.op("Where", here, fresh, f"{kind}{i}"))
        kept += caches
        scores = g.op("MatMul", q, g.op("Transpose", caches[0], perm=[0, 2, 1]))
        scores = g.op("Add", g.op("Mul", scores, g.constant(size**-0.5)), mask)
        seen = g.op("MatMul", g.op("Softmax", scores, axis=-1), caches[1])
        x = g.op("Add", x, _linear(g, f"{name}.proj", g.op("Reshape", seen, row)))
        up = _linear(g, f"{name}.up", _norm(g, f"{name}.norm2", x))
        x = g.op("Add", x, _linear(g, f"{name}.down", g.op("Gelu", up, approximate="tanh")))
    logits = _linear(g, "head", _norm(g, "norm", x))
    return g.model(inputs, [logits, *kept]), inputs
