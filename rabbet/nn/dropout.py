"""Dropout: random zeros while training, nothing after."""

from __future__ import annotations

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.nn import functional
from rabbet.nn.module import Module
from rabbet.tensor import Tensor, functions, ones
from rabbet.tensor.random import dropout_operands


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


class Dropout2d(Dropout):
    """Sets whole channels of (N, C, H, W) to 0."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 4:
            raise ShapeError(f"Dropout2d: the input {show(input.shape)} must be (N, C, H, W)")
        if not self.training or self.p == 0:
            return input
        if self.p == 1:
            return input * 0.0
        channels = ones((*input.shape[:2], 1, 1), dtype=input.dtype)
        mask = functions["dropout"](channels, float(self.p), *dropout_operands(channels))
        return input * mask
