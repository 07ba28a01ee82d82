"""The networks, once for Rabbet and PyTorch: `nn` is either's, with the same names and arguments.

Parameters have the names of the workloads' weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.bench.workloads.images import Block, Cnn, Conv, ResNet, norm_of
from rabbet.bench.workloads.mlp import Mlp
from rabbet.bench.workloads.sequences import Encoder, Gpt, Lstm


def mlp(nn: Any, problem: Mlp) -> Any:
    """Linear layers with ReLU between them."""
    layers: list[Any] = []
    for inputs, outputs in zip(problem.widths, problem.widths[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn(nn: Any, problem: Cnn) -> Any:
    """Three convolutions, two poolings, a linear layer."""
    first, second, third = problem.convolutions()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.norm1 = _conv(nn, first, bias=True), nn.BatchNorm2d(first.filters)
            self.conv2, self.norm2 = _conv(nn, second, bias=True), nn.BatchNorm2d(second.filters)
            self.conv3, self.norm3 = _conv(nn, third, bias=True), nn.BatchNorm2d(third.filters)
            self.head = nn.Linear(*problem.head())

        def forward(self, x: Any) -> Any:
            f = nn.functional
            x = f.relu(self.norm1(self.conv1(x)))
            x = f.max_pool2d(f.relu(self.norm2(self.conv2(x))), 2)
            x = f.max_pool2d(f.relu(self.norm3(self.conv3(x))), 2)
            return self.head(x.reshape((x.shape[0], -1)))

    return Net()


def resnet(nn: Any, problem: ResNet) -> Any:
    """ResNet with basic blocks or bottlenecks."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = _conv(nn, problem.stem())
            self.stem_norm = nn.BatchNorm2d(problem.stem().filters)
            self.blocks = nn.ModuleList([_block(nn, b) for b in problem.blocks()])
            self.head = nn.Linear(*problem.head())

        def forward(self, x: Any) -> Any:
            x = nn.functional.relu(self.stem_norm(self.stem(x)))
            if problem.has_large_stem:
                x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean((2, 3)))

    return Net()


def _conv(nn: Any, conv: Conv, bias: bool = False) -> Any:
    return nn.Conv2d(
        conv.channels, conv.filters, conv.kernel, conv.stride, conv.kernel // 2, bias=bias
    )


def _block(nn: Any, block: Block) -> Any:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pairs = []
            for conv in block.convs:
                self.pairs.append((_last(conv.name), _last(norm_of(conv))))
                setattr(self, self.pairs[-1][0], _conv(nn, conv))
                setattr(self, self.pairs[-1][1], nn.BatchNorm2d(conv.filters))
            if block.down:
                self.down = _conv(nn, block.down)
                self.down_norm = nn.BatchNorm2d(block.down.filters)

        def forward(self, x: Any) -> Any:
            y = x
            for conv, norm in self.pairs[:-1]:
                y = nn.functional.relu(getattr(self, norm)(getattr(self, conv)(y)))
            conv, norm = self.pairs[-1]
            y = getattr(self, norm)(getattr(self, conv)(y))
            return nn.functional.relu(y + (self.down_norm(self.down(x)) if block.down else x))

    return Residual()


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _layer(nn: Any, width: int, attend: Callable[[Any], Any], gelu: str, is_pre: bool) -> Any:
    """A transformer layer; `attend` computes attention from the packed projection."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def mlp(self, x: Any) -> Any:
            return self.down(nn.functional.gelu(self.up(x), approximate=gelu))

        def forward(self, x: Any) -> Any:
            if is_pre:
                x = x + self.proj(attend(self.qkv(self.norm1(x))))
                return x + self.mlp(self.norm2(x))
            x = self.norm1(x + self.proj(attend(self.qkv(x))))
            return self.norm2(x + self.mlp(x))

    return Layer()


def _attention(nn: Any, heads: int, is_causal: bool) -> Callable[[Any], Any]:
    def attend(qkv: Any) -> Any:
        batch, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        parts = qkv.reshape((batch, length, 3, heads, width // heads)).permute((2, 0, 3, 1, 4))
        y = nn.functional.scaled_dot_product_attention(
            parts[0], parts[1], parts[2], is_causal=is_causal
        )
        return y.permute((0, 2, 1, 3)).reshape((batch, length, width))

    return attend


def gpt(nn: Any, problem: Gpt) -> Any:
    """The GPT: tokens (batch, length) -> logits (batch, length, vocabulary)."""
    attend = _attention(nn, problem.heads, is_causal=True)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(problem.vocabulary, problem.width)
            self.positions = nn.Embedding(problem.length, problem.width)
            self.blocks = nn.ModuleList(
                [_layer(nn, problem.width, attend, "tanh", True) for _ in range(problem.layers)]
            )
            self.norm = nn.LayerNorm(problem.width)
            self.head = nn.Linear(problem.width, problem.vocabulary, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return Net()


def encoder(nn: Any, problem: Encoder) -> Any:
    """The encoder: (batch, length, width) to the same."""
    attend = _attention(nn, problem.heads, is_causal=False)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(
                [_layer(nn, problem.width, attend, "none", False) for _ in range(problem.layers)]
            )

        def forward(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x)
            return x

    return Net()


def lstm(nn: Any, problem: Lstm) -> Any:
    """An LSTM and a linear layer on its last step."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(problem.features, problem.width, batch_first=True)
            self.head = nn.Linear(problem.width, problem.classes)

        def forward(self, x: Any) -> Any:
            outputs, _ = self.lstm(x)
            return self.head(outputs[:, -1])

    return Net()


def chain10(x: Any, relu: Callable[[Any], Any], maximum: Callable[[Any, Any], Any]) -> Any:
    """Ten elementwise ops."""
    y = x * 1.1
    y = y + x
    y = relu(y)
    y = y - 0.5
    y = y * x
    y = y + 1
    y = abs(y)
    y = y * 0.5
    y = maximum(y, x)
    return y + x


NETWORKS: dict[str, Callable[[Any, Any], Any]] = {
    "mlp_train": mlp,
    "cnn_train": cnn,
    "resnet_train": resnet,
    "resnet_infer": resnet,
    "gpt_train": gpt,
    "gpt_forward": gpt,
    "encoder_infer": encoder,
    "lstm_train": lstm,
}
