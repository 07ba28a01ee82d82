"""Every workload in Rabbet."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

from rabbet import nn, optim
from rabbet.base import dtypes
from rabbet.bench.frameworks.decode import attend_masked, decoder
from rabbet.bench.frameworks.networks import NETWORKS, chain10
from rabbet.bench.frameworks.running import Builder, Builders, Running, repeat
from rabbet.bench.workload import Arrays
from rabbet.export import export, load_program
from rabbet.higher.jit import jit
from rabbet.tensor import Tensor, arange, asarray, flush, functions, no_grad, tensor

relu, maximum, add = functions["relu"], functions["maximum"], functions["add"]


def _numbers(result: Tensor) -> np.ndarray:
    return np.asarray(result.detach().astype(dtypes.float32))


def _computed(call: Callable[[], Any]) -> Running:
    """A call whose result is computed before it returns."""

    def computed() -> Any:
        result = call()
        flush()
        return result

    return repeat(computed, _numbers)


def network(problem: Any) -> Any:
    """The workload's network with its first weights."""
    model = NETWORKS[problem.kind](nn, problem)
    state = {name: asarray(values) for name, values in problem.start().items()}
    counters = {n: v for n, v in model.state_dict().items() if n not in state}
    model.load_state_dict({**state, **counters})  # num_batches_tracked stays
    return model


def optimizer(problem: Any, parameters: Any) -> Any:
    """The workload's optimizer."""
    if problem.kind.startswith("gpt"):
        return optim.AdamW(parameters, lr=problem.rate)
    if problem.kind in ("cnn_train", "resnet_train"):
        return optim.SGD(parameters, lr=problem.rate, momentum=problem.momentum)
    return optim.Adam(parameters, lr=problem.rate)


def training_step(problem: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """One step: zero gradients, forward, backward, update; the loss."""
    model = network(problem).train()
    update = optimizer(problem, model.parameters())
    cross_entropy = nn.functional.cross_entropy

    def step(x: Tensor, y: Tensor) -> Tensor:
        logits = model(x)
        loss = cross_entropy(logits.reshape((-1, logits.shape[-1])), y.reshape((-1,)))
        update.zero_grad()
        loss.backward()
        update.step()
        return loss

    return step


def _inputs(problem: Any) -> dict[str, Tensor]:
    return {name: asarray(values) for name, values in problem.inputs().items()}


def _train(is_jit: bool) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        step = training_step(problem)
        given = _inputs(problem)
        x, y = given["x"], given["y"]
        call = jit(step) if is_jit else step
        return _computed(lambda: call(x, y))

    return build


def _infer(problem: Any) -> Running:
    model, x = network(problem).eval(), _inputs(problem)["x"]

    @jit
    def forward(x: Tensor) -> Tensor:
        with no_grad():
            return model(x)

    return _computed(lambda: forward(x))


def _exported(problem: Any) -> Running:
    model, x = network(problem).eval(), _inputs(problem)["x"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.rbt"
        export(model, (x,), path)
        program = load_program(path)
    values = np.asarray(x)
    return repeat(lambda: program(values), lambda result: np.asarray(result, np.float32))


def _gemm(problem: Any) -> Running:
    given = {name: x.astype(problem.dtype) for name, x in _inputs(problem).items()}
    a, b = given["a"], given["b"]
    flush()
    return _computed(lambda: a @ b)


def _gemm_jit(problem: Any) -> Running:
    given = {name: x.astype(problem.dtype) for name, x in _inputs(problem).items()}
    a, b = given["a"], given["b"]
    flush()
    product = jit(lambda a, b: a @ b)
    return _computed(lambda: product(a, b))


class _Product(nn.Module):
    """x @ b with a constant b."""

    def __init__(self, b: Tensor) -> None:
        super().__init__()
        self.register_buffer("b", b)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.b


def _gemm_constant(problem: Any) -> Running:
    given = _inputs(problem)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "product.rbt"
        export(_Product(given["b"]).eval(), (given["a"],), path)
        program = load_program(path)
    values = np.asarray(given["a"])
    return repeat(lambda: program(values), lambda result: np.asarray(result, np.float32))


def _conv(is_jit: bool) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        given = _inputs(problem)
        x, weight = given["x"], given["weight"]

        def convolve(x: Tensor, weight: Tensor) -> Tensor:
            return nn.functional.conv2d(
                x,
                weight,
                stride=problem.stride,
                padding=problem.kernel // 2,
                groups=problem.groups,
            )

        call = jit(convolve) if is_jit else convolve
        return _computed(lambda: call(x, weight))

    return build


def _conv_last(problem: Any) -> Running:
    given = _inputs(problem)
    x, weight = given["x"].permute(0, 2, 3, 1) * 1, given["weight"].permute(2, 3, 1, 0) * 1
    flush()

    @jit
    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        result = nn.functional.conv2d(
            x.permute(0, 3, 1, 2),
            weight.permute(3, 2, 0, 1),
            stride=problem.stride,
            padding=problem.kernel // 2,
            groups=problem.groups,
        )
        return result.permute(0, 2, 3, 1)

    def computed() -> Tensor:
        result = convolve(x, weight)
        flush()
        return result

    return repeat(computed, lambda result: _numbers(result.permute(0, 3, 1, 2)))


def _stream_function(problem: Any, given: Arrays) -> Callable[[Tensor], Tensor]:
    weight, bias, width = tensor(given["weight"]), tensor(given["bias"]), problem.shape[-1]
    return {
        "chain": lambda x: chain10(x, relu, maximum),
        "softmax": lambda x: nn.functional.softmax(x, -1),
        "layer_norm": lambda x: nn.functional.layer_norm(x, (width,), weight, bias),
        "sum0": lambda x: x.sum(0),
        "sum1": lambda x: x.sum(1),
    }[problem.what]


def _stream(is_jit: bool) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        given = problem.inputs()
        x, function = tensor(given["x"]), _stream_function(problem, given)
        call = jit(function) if is_jit else function
        return _computed(lambda: call(x))

    return build


def _gradient(x: Tensor) -> Tensor:
    assert x.grad is not None
    return x.grad


def _tiny(problem: Any) -> Running:
    x = tensor(problem.inputs()["x"], requires_grad=problem.gradients)
    x.numpy()

    def add(n: int) -> Tensor:
        y = x
        for _ in range(n):
            y = x + x
            flush()
        return y

    def chain(n: int) -> Tensor:
        y = x
        for _ in range(n):
            y = chain10(x, relu, maximum)
            flush()
        return y

    def backward(n: int) -> Tensor:
        for _ in range(n):
            x.grad = None
            chain10(x, relu, maximum).sum().backward()
            flush()
        return _gradient(x)

    loops = {"add": add, "chain": backward if problem.backward else chain}
    return Running(loops[problem.what], _numbers)


def _tiny_jit(problem: Any) -> Running:
    x = tensor(problem.inputs()["x"], requires_grad=problem.gradients)
    x.numpy()

    def backward(x: Tensor) -> Tensor:
        x.grad = None
        chain10(x, relu, maximum).sum().backward()
        return _gradient(x)

    call = jit(backward if problem.backward else lambda x: chain10(x, relu, maximum))

    def run(n: int) -> Tensor:
        y = x
        for _ in range(n):
            y = call(x)
            flush()
        return y

    return Running(run, _numbers)


def _tiny_adds(problem: Any) -> Running:
    rows = problem.inputs()["x"]
    xs = [tensor(row, requires_grad=problem.gradients) for row in rows]
    for x in xs:
        x.numpy()

    def run(n: int) -> Tensor:
        ys = xs
        for _ in range(n):
            ys = [x + x for x in xs]
            flush()
        return ys[0]

    return Running(run, _numbers)


def _decode(problem: Any) -> Running:
    weights = {n: asarray(v) for n, v in problem.start().items()}
    given = problem.inputs()
    caches = [tensor(layer) for name in ("keys", "values") for layer in given[name]]
    positions = [asarray(np.array(p)) for p in range(problem.first, problem.cache)]
    attend = attend_masked(nn.functional, arange(problem.cache))
    step = jit(decoder(nn.functional, weights, problem, attend))
    first = asarray(given["token"])

    def call() -> Tensor:
        token, logits = first, None
        with no_grad():
            for position in positions:
                token, logits = step(token, position, *caches)
                flush()
        assert logits is not None
        return logits

    return repeat(call, _numbers)


def _own(is_jit: bool) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        model = problem.call("model").eval()
        given = [asarray(x) for x in problem.inputs()]

        def forward(*given: Tensor) -> Tensor:
            with no_grad():
                return model(*given)

        call = jit(forward) if is_jit else forward
        return _computed(lambda: call(*given))

    return build


TRAIN: dict[str, Builder] = {"jit": _train(True), "eager": _train(False)}
INFER: dict[str, Builder] = {"jit": _infer, "exported": _exported}
BUILDERS: Builders = {
    "gemm": {"eager": _gemm, "jit": _gemm_jit},
    "gemm_bfloat16": {"eager": _gemm, "jit": _gemm_jit},
    "gemm_constant": {"exported": _gemm_constant, "jit": _gemm_jit},
    "conv": {"eager": _conv(False), "jit": _conv(True), "jit_channels_last": _conv_last},
    "mlp_train": TRAIN,
    "cnn_train": TRAIN,
    "resnet_train": TRAIN,
    "gpt_train": TRAIN,
    "lstm_train": TRAIN,
    "gpt_forward": INFER,
    "resnet_infer": INFER,
    "encoder_infer": INFER,
    "own_model": {"jit": _own(True), "eager": _own(False)},
    "gpt_decode": {"jit": _decode},
    "tiny": {"eager": _tiny},
    "tiny_jit": {"jit": _tiny_jit},
    "tiny_adds": {"eager": _tiny_adds},
    "stream": {"eager": _stream(False), "jit": _stream(True)},
}


def start(threads: int) -> str:
    """Settings of the process (the runtime reads RABBET_NUM_THREADS); the version."""
    return str(resolve_name("rabbet").__version__)
