"""Every workload in PyTorch: eager and compiled, channels first and last, plain and fused
optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn, optim

from rabbet.bench.frameworks.decode import Attend, attend_masked, decoder
from rabbet.bench.frameworks.networks import NETWORKS, chain10
from rabbet.bench.frameworks.running import Builder, Builders, Running, repeat

functional = nn.functional
Wrap = Callable[[Any], Any]


def start(threads: int) -> str:
    """Settings of the process; the version."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # untrained weights drift into denormals, which cost ten times
    return str(torch.__version__)


def as_is(function: Any) -> Any:
    """Eager."""
    return function


def compiled(function: Any) -> Any:
    """By TorchInductor, with fixed sizes."""
    return torch.compile(function, dynamic=False)


def _numbers(result: torch.Tensor) -> np.ndarray:
    return np.asarray(result.detach().float().contiguous().numpy())


def _inputs(problem: Any) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(v)) for name, v in problem.inputs().items()}


def network(problem: Any) -> Any:
    """The workload's network with its first weights."""
    model = NETWORKS[problem.kind](nn, problem)
    state = {name: torch.from_numpy(values) for name, values in problem.start().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("num_batches" in name for name in missing)
    return model


def optimizer(problem: Any, parameters: Any, fused: bool) -> Any:
    """The workload's optimizer."""
    options = {"fused": True} if fused else {}
    if problem.kind.startswith("gpt"):
        return optim.AdamW(parameters, lr=problem.rate, **options)
    if problem.kind in ("cnn_train", "resnet_train"):
        momentum = problem.momentum
        return optim.SGD(parameters, lr=problem.rate, momentum=momentum, **options)
    return optim.Adam(parameters, lr=problem.rate, **options)


def _train(wrap: Wrap = as_is, fused: bool = False, last: bool = False) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        model, given = network(problem).train(), _inputs(problem)
        x, y = given["x"], given["y"]
        if last:
            model = model.to(memory_format=torch.channels_last)
            x = x.to(memory_format=torch.channels_last)
        update = optimizer(problem, model.parameters(), fused)
        forward = wrap(model)

        def step() -> torch.Tensor:
            update.zero_grad()
            logits = forward(x)
            loss = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
            loss.backward()
            update.step()
            return loss

        return repeat(step, _numbers)

    return build


def _infer(wrap: Wrap = as_is, last: bool = False) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        model, x = network(problem).eval(), _inputs(problem)["x"]
        if last:
            model = model.to(memory_format=torch.channels_last)
            x = x.to(memory_format=torch.channels_last)
        forward = wrap(model)

        def call() -> torch.Tensor:
            with torch.inference_mode():
                return forward(x)

        return repeat(call, _numbers)

    return build


def _gemm(problem: Any) -> Running:
    given = _inputs(problem)
    dtype = getattr(torch, problem.dtype)
    a, b = given["a"].to(dtype), given["b"].to(dtype)
    return repeat(lambda: a @ b, _numbers)


def _conv(last: bool) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        given = _inputs(problem)
        x, weight = given["x"], given["weight"]
        if last:
            x = x.to(memory_format=torch.channels_last)
            weight = weight.to(memory_format=torch.channels_last)
        settings = {
            "stride": problem.stride,
            "padding": problem.kernel // 2,
            "groups": problem.groups,
        }
        return repeat(lambda: functional.conv2d(x, weight, **settings), _numbers)

    return build


def _chain(x: torch.Tensor) -> torch.Tensor:
    return chain10(x, torch.relu, torch.maximum)


def _stream(wrap: Wrap) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        given, width = _inputs(problem), problem.shape[-1]
        x, weight, bias = given["x"], given["weight"], given["bias"]
        function = {
            "chain": _chain,
            "softmax": lambda x: functional.softmax(x, -1),
            "layer_norm": lambda x: functional.layer_norm(x, (width,), weight, bias),
            "sum0": lambda x: x.sum(0),
            "sum1": lambda x: x.sum(1),
        }[problem.what]
        function = wrap(function)
        return repeat(lambda: function(x), _numbers)

    return build


def _tiny(wrap: Wrap) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        x = _inputs(problem)["x"].requires_grad_(problem.gradients)
        ten = wrap(_chain)

        def add(n: int) -> torch.Tensor:
            y = x
            for _ in range(n):
                y = x + x
            return y

        def chain(n: int) -> torch.Tensor:
            y = x
            for _ in range(n):
                y = ten(x)
            return y

        def backward(n: int) -> torch.Tensor:
            for _ in range(n):
                x.grad = None
                ten(x).sum().backward()
            assert x.grad is not None
            return x.grad

        loops = {"add": add, "chain": backward if problem.backward else chain}
        return Running(loops[problem.what], _numbers)

    return build


def _tiny_adds(problem: Any) -> Running:
    rows = _inputs(problem)["x"]
    xs = [row.clone().requires_grad_(problem.gradients) for row in rows]

    def run(n: int) -> torch.Tensor:
        ys = xs
        for _ in range(n):
            ys = [x + x for x in xs]
        return ys[0]

    return Running(run, _numbers)


def _attend_slices(q: Any, keys: Any, values: Any, position: Any) -> Any:
    end = position + 1
    return functional.scaled_dot_product_attention(q[:, None], keys[:, :end], values[:, :end])


def _decode(wrap: Wrap, is_static: bool) -> Callable[[Any], Running]:
    """With a mask over the whole cache (one program), or with the filled part of it."""

    def build(problem: Any) -> Running:
        weights = {n: torch.from_numpy(v) for n, v in problem.start().items()}
        given = _inputs(problem)
        caches = [layer.clone() for name in ("keys", "values") for layer in given[name]]
        attend: Attend = _attend_slices
        positions: list[Any] = list(range(problem.first, problem.cache))
        if is_static:
            attend = attend_masked(functional, torch.arange(problem.cache))
            positions = [torch.tensor(p) for p in positions]
        step = wrap(decoder(functional, weights, problem, attend))

        def call() -> torch.Tensor:
            token, logits = given["token"], None
            with torch.no_grad():
                for position in positions:
                    token, logits = step(token, position, *caches)
            assert logits is not None
            return logits

        return repeat(call, _numbers)

    return build


def _own(wrap: Wrap) -> Callable[[Any], Running]:
    def build(problem: Any) -> Running:
        model = wrap(problem.call("torch_model").eval())
        given = [torch.from_numpy(np.array(x)) for x in problem.inputs()]

        def call() -> torch.Tensor:
            with torch.inference_mode():
                return model(*given)

        return repeat(call, _numbers)

    return build


DENSE: dict[str, Builder] = {
    "eager": _train(),
    "fused": _train(fused=True),
    "compile": _train(compiled, True),
}
IMAGES: dict[str, Builder] = {
    "eager": _train(fused=True),
    "channels_last": _train(fused=True, last=True),
    "compile": _train(compiled, True),
    "compile_channels_last": _train(compiled, True, True),
}
INFER: dict[str, Builder] = {"eager": _infer(), "compile": _infer(compiled)}
BUILDERS: Builders = {
    "gemm": {"eager": _gemm},
    "gemm_bfloat16": {"eager": _gemm},
    "gemm_constant": {"eager": _gemm},
    "conv": {"eager": _conv(False), "channels_last": _conv(True)},
    "mlp_train": DENSE,
    "gpt_train": DENSE,
    "lstm_train": {"eager": _train(), "fused": _train(fused=True)},
    "cnn_train": IMAGES,
    "resnet_train": IMAGES,
    "gpt_forward": INFER,
    "encoder_infer": INFER,
    "resnet_infer": {
        **INFER,
        "channels_last": _infer(last=True),
        "compile_channels_last": _infer(compiled, True),
    },
    "own_model": {"eager": _own(as_is), "compile": _own(compiled)},
    "gpt_decode": {"eager": _decode(as_is, False), "compile": _decode(compiled, True)},
    "tiny": {"eager": _tiny(as_is)},
    "tiny_jit": {"compile": _tiny(compiled), "eager": _tiny(as_is)},
    "tiny_adds": {"eager": _tiny_adds},
    "stream": {"eager": _stream(as_is), "compile": _stream(compiled)},
}
