"""Convolutional networks: training steps of a small one and ResNet-18, inference of ResNet-50."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from rabbet.bench.workload import (
    Arrays,
    Weight,
    Workload,
    batch_norm,
    draw,
    elements,
    linear,
)


@dataclass(frozen=True)
class Conv:
    """One convolution of a network: `side` is that of its result."""

    name: str
    channels: int
    filters: int
    kernel: int
    stride: int
    side: int

    def flops(self, batch: int) -> int:
        """2 for each product summed."""
        return 2 * batch * self.filters * self.side**2 * self.channels * self.kernel**2

    def weights(self, bias: bool = False) -> list[Weight]:
        """(filters, channels, kernel, kernel), and the bias."""
        shape = (self.filters, self.channels, self.kernel, self.kernel)
        found = [Weight(f"{self.name}.weight", shape)]
        return found + ([Weight(f"{self.name}.bias", (self.filters,), "zero")] if bias else [])


class Pictures(ABC):
    """What the networks here share. SGD: rate 0.01, momentum 0.9, one more array as large as the
    parameters."""

    batch: int
    side: int
    classes: int
    is_training: bool
    rate = 0.01
    momentum = 0.9

    @abstractmethod
    def convolutions(self) -> list[Conv]:
        """All of them, first layer first."""

    @abstractmethod
    def head(self) -> tuple[int, int]:
        """Inputs and outputs of the last linear layer."""

    @abstractmethod
    def weights(self) -> list[Weight]:
        """Every parameter and buffer."""

    @property
    def flops(self) -> int:
        products = [c.flops(self.batch) for c in self.convolutions()]
        inputs, outputs = self.head()
        products.append(2 * self.batch * inputs * outputs)
        return 3 * sum(products) - products[0] if self.is_training else sum(products)

    @property
    def read_bytes(self) -> int:
        copies = 2 if self.is_training else 1
        return 4 * (copies * elements(self.weights()) + 3 * self.batch * self.side**2)

    @property
    def written_bytes(self) -> int:
        if self.is_training:
            return 4 * 2 * elements(self.weights())
        return 4 * self.batch * self.classes

    def start(self) -> Arrays:
        """What the parameters and buffers start with."""
        return draw(self.weights())

    def inputs(self) -> Arrays:
        """x (batch, 3, side, side) and int64 y (batch,)."""
        rng = np.random.default_rng(1)
        return {
            "x": rng.standard_normal((self.batch, 3, self.side, self.side), np.float32),
            "y": rng.integers(0, self.classes, self.batch),
        }


@dataclass(frozen=True)
class Cnn(Pictures):
    """Three 3 x 3 convolutions with bias, batch norm and ReLU, two poolings, a linear layer."""

    batch: int = 64
    side: int = 32
    filters: tuple[int, int, int] = (32, 64, 128)
    classes: int = 10
    is_training = True
    kind = "cnn_train"

    def convolutions(self) -> list[Conv]:
        a, b, c = self.filters
        return [
            Conv("conv1", 3, a, 3, 1, self.side),
            Conv("conv2", a, b, 3, 1, self.side),
            Conv("conv3", b, c, 3, 1, self.side // 2),
        ]

    def head(self) -> tuple[int, int]:
        return self.filters[2] * (self.side // 4) ** 2, self.classes

    def weights(self) -> list[Weight]:
        found: list[Weight] = []
        for i, conv in enumerate(self.convolutions(), 1):
            found += conv.weights(bias=True) + batch_norm(f"norm{i}", conv.filters)
        return found + linear("head", *self.head())


@dataclass(frozen=True)
class Block:
    """A residual block; `convs` in order, `down` the projection of the shortcut."""

    convs: tuple[Conv, ...]
    down: Conv | None


@dataclass(frozen=True)
class ResNet(Pictures):
    """ResNet v1.5: basic blocks (two 3 x 3) or bottlenecks (1 x 1, 3 x 3, 1 x 1, four times as
    wide at the end). The stem is 3 x 3, or 7 x 7 with stride 2 and a pooling."""

    batch: int
    side: int
    depths: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    is_bottleneck: bool = False
    has_large_stem: bool = False
    classes: int = 10
    is_training: bool = True

    @property
    def kind(self) -> str:
        return "resnet_train" if self.is_training else "resnet_infer"

    def stem(self) -> Conv:
        """The first convolution."""
        if self.has_large_stem:
            return Conv("stem", 3, self.widths[0], 7, 2, (self.side + 1) // 2)
        return Conv("stem", 3, self.widths[0], 3, 1, self.side)

    def blocks(self) -> list[Block]:
        """The residual blocks in order."""
        side, channels = self.stem().side, self.widths[0]
        if self.has_large_stem:
            side = (side + 1) // 2
        found: list[Block] = []
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            for i in range(depth):
                stride = 2 if stage and not i else 1
                block = self._block(f"blocks.{len(found)}", channels, width, stride, side)
                found.append(block)
                channels, side = block.convs[-1].filters, block.convs[-1].side
        return found

    def _block(self, name: str, channels: int, width: int, stride: int, side: int) -> Block:
        after = (side - 1) // stride + 1
        convs: tuple[Conv, ...]
        if self.is_bottleneck:
            out = 4 * width
            convs = (
                Conv(f"{name}.conv1", channels, width, 1, 1, side),
                Conv(f"{name}.conv2", width, width, 3, stride, after),
                Conv(f"{name}.conv3", width, out, 1, 1, after),
            )
        else:
            out = width
            convs = (
                Conv(f"{name}.conv1", channels, width, 3, stride, after),
                Conv(f"{name}.conv2", width, width, 3, 1, after),
            )
        changes = stride != 1 or channels != out
        return Block(
            convs, Conv(f"{name}.down", channels, out, 1, stride, after) if changes else None
        )

    def convolutions(self) -> list[Conv]:
        found = [self.stem()]
        for block in self.blocks():
            found += [*block.convs, *([block.down] if block.down else [])]
        return found

    def head(self) -> tuple[int, int]:
        return self.blocks()[-1].convs[-1].filters, self.classes

    def weights(self) -> list[Weight]:
        found: list[Weight] = []
        for conv in self.convolutions():
            found += conv.weights() + batch_norm(norm_of(conv), conv.filters)
        return found + linear("head", *self.head())


def norm_of(conv: Conv) -> str:
    """The batch norm after a convolution: stem -> stem_norm, conv1 -> norm1, down -> down_norm."""
    folder, dot, last = conv.name.rpartition(".")
    name = last.replace("conv", "norm") if last.startswith("conv") else f"{last}_norm"
    return folder + dot + name


def _resnet50(batch: int) -> Workload:
    problem = ResNet(
        batch,
        224,
        (3, 4, 6, 3),
        is_bottleneck=True,
        has_large_stem=True,
        classes=1000,
        is_training=False,
    )
    about = f"ResNet-50 v1.5, 224 x 224, batch {batch}"
    return Workload(f"resnet50_infer_b{batch}", "ms", problem, "flops", about, 1.0)


WORKLOADS = [
    Workload("cnn_train", "ms", Cnn(), "flops", "three convolutions, batch 64 of 32 x 32", 1.25),
    Workload(
        "resnet18_train", "ms", ResNet(32, 32), "flops", "ResNet-18, batch 32 of 32 x 32", 1.1
    ),
    _resnet50(1),
    _resnet50(16),
]
