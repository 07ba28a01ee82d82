"""Pooling layers, with PyTorch's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rabbet.base.errors import RabbetError
from rabbet.nn import functional
from rabbet.nn.module import Module
from rabbet.tensor import Tensor

Sizes = int | tuple[int, ...]


class _Pool(Module):
    """Windows of one size; `stride` is that size unless given."""

    function: ClassVar[Callable[..., Any]]

    def __init__(self, kernel_size: Sizes, stride: Sizes | None, padding: Sizes) -> None:
        super().__init__()
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    """The largest element of each window."""

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        refuse(self, return_indices=return_indices, ceil_mode=ceil_mode)
        self.dilation = dilation

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(
            input, self.kernel_size, self.stride, self.padding, self.dilation
        )


class MaxPool1d(_MaxPool):
    """The largest element of each window of (N, C, L)."""

    function = functional.max_pool1d


class MaxPool2d(_MaxPool):
    """The largest element of each window of (N, C, H, W).

    Example:
        >>> nn.MaxPool2d(2)(rb.ones((1, 3, 8, 8))).shape
        (1, 3, 4, 4)
    """

    function = functional.max_pool2d


class _AvgPool(_Pool):
    """The mean of each window."""

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        refuse(self, ceil_mode=ceil_mode)
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            count_include_pad=self.count_include_pad,
        )


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L)."""

    function = functional.avg_pool1d


class AvgPool2d(_AvgPool):
    """The mean of each window of (N, C, H, W)."""

    function = functional.avg_pool2d


class _AdaptivePool(Module):
    function: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """Means of `output_size` windows of (N, C, L)."""

    function = functional.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptivePool):
    """Means of `output_size` windows of (N, C, H, W); 1 is global pooling."""

    function = functional.adaptive_avg_pool2d


def refuse(module: Module, **options: bool) -> None:
    """RabbetError for an option of PyTorch's that is asked for and not there."""
    for name, asked in options.items():
        if asked:
            raise RabbetError(f"{type(module).__name__}: {name}=True is not there yet")
