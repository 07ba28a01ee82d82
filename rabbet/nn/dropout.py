"""Dropout: random zeros while training, nothing after."""

from __future__ import annotations

from typing import ClassVar

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.nn import functional
from rabbet.nn.functional_images import channel_dropout
from rabbet.nn.module import Module
from rabbet.tensor import Tensor


class Dropout(Module):
    """Sets each element to 0 with probability p and divides the rest by 1 - p, while training.

    Example:
        >>> nn.Dropout(0.5).eval()(rb.ones((2,))).tolist()
        [1.0, 1.0]
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p={p} is not a probability")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return functional.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class _ChannelDropout(Dropout):
    rank: ClassVar[int]

    def forward(self, input: Tensor) -> Tensor:
        name = f"Dropout{self.rank}d"
        if input.ndim != self.rank + 2:
            raise ShapeError(f"{name}: the input {show(input.shape)} needs {self.rank + 2} axes")
        return channel_dropout(name, self.rank, input, self.p, self.training)


class Dropout1d(_ChannelDropout):
    """Sets whole channels of (N, C, L) to 0."""

    rank = 1


class Dropout2d(_ChannelDropout):
    """Sets whole channels of (N, C, H, W) to 0."""

    rank = 2


class Dropout3d(_ChannelDropout):
    """Sets whole channels of (N, C, D, H, W) to 0."""

    rank = 3


class AlphaDropout(Dropout):
    """Dropout for selu nets: mean and variance stay."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(Dropout):
    """AlphaDropout of whole channels of (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.feature_alpha_dropout(input, self.p, self.training)
