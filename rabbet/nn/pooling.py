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
    """The largest element of each window; with `return_indices` also where it was."""

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
        self.dilation, self.return_indices, self.ceil_mode = dilation, return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        return type(self).function(
            *(input, self.kernel_size, self.stride, self.padding, self.dilation),
            *(self.ceil_mode, self.return_indices),
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


class MaxPool3d(_MaxPool):
    """The largest element of each window of (N, C, D, H, W)."""

    function = functional.max_pool3d


class _MaxUnpool(_Pool):
    """Elements back where max pooling found them, zeros elsewhere."""

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        super().__init__(kernel_size, stride, padding)

    def forward(
        self, input: Tensor, indices: Tensor, output_size: tuple[int, ...] | None = None
    ) -> Tensor:
        return type(self).function(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool1d(_MaxUnpool):
    """The opposite of MaxPool1d with return_indices=True."""

    function = functional.max_unpool1d


class MaxUnpool2d(_MaxUnpool):
    """The opposite of MaxPool2d with return_indices=True."""

    function = functional.max_unpool2d


class MaxUnpool3d(_MaxUnpool):
    """The opposite of MaxPool3d with return_indices=True."""

    function = functional.max_unpool3d


class _AvgPool(_Pool):
    """The mean of each window."""

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(
            *(input, self.kernel_size, self.stride, self.padding),
            *(self.ceil_mode, self.count_include_pad, self.divisor_override),
        )


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L)."""

    function = functional.avg_pool1d


class AvgPool2d(_AvgPool):
    """The mean of each window of (N, C, H, W)."""

    function = functional.avg_pool2d


class AvgPool3d(_AvgPool):
    """The mean of each window of (N, C, D, H, W)."""

    function = functional.avg_pool3d


class _LPPool(Module):
    """The norm of each window: (sum of |x|^norm_type)^(1 / norm_type)."""

    function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        norm_type: float,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.norm_type, self.kernel_size = norm_type, kernel_size
        self.stride, self.ceil_mode = stride, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(
            input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """The norm of each window of (N, C, L)."""

    function = functional.lp_pool1d


class LPPool2d(_LPPool):
    """The norm of each window of (N, C, H, W)."""

    function = functional.lp_pool2d


class LPPool3d(_LPPool):
    """The norm of each window of (N, C, D, H, W)."""

    function = functional.lp_pool3d


class _AdaptivePool(Module):
    function: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Any:
        return type(self).function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """Means of `output_size` windows of (N, C, L)."""

    function = functional.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptivePool):
    """Means of `output_size` windows of (N, C, H, W); 1 is global pooling."""

    function = functional.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptivePool):
    """Means of `output_size` windows of (N, C, D, H, W)."""

    function = functional.adaptive_avg_pool3d


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self).function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of `output_size` windows of (N, C, L)."""

    function = functional.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of `output_size` windows of (N, C, H, W)."""

    function = functional.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of `output_size` windows of (N, C, D, H, W)."""

    function = functional.adaptive_max_pool3d


class _FractionalMaxPool(Module):
    """The largest elements of windows that begin at random distances."""

    function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Sizes,
        output_size: Sizes | None = None,
        output_ratio: float | tuple[float, ...] | None = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        if (output_size is None) == (output_ratio is None):
            raise RabbetError(
                f"{type(self).__name__}: give output_size or output_ratio, one of them"
            )
        self.kernel_size, self.return_indices = kernel_size, return_indices
        self.output_size, self.output_ratio = output_size, output_ratio
        self.register_buffer("_random_samples", _random_samples)

    def forward(self, input: Tensor) -> Any:
        return type(self).function(
            *(input, self.kernel_size, self.output_size, self.output_ratio),
            *(self.return_indices, self._random_samples),
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """The largest elements of randomly placed windows of (N, C, H, W) (B. Graham, 2014).

    Example:
        >>> nn.FractionalMaxPool2d(2, output_ratio=0.5)(rb.ones((1, 3, 8, 8))).shape
        (1, 3, 4, 4)
    """

    function = functional.fractional_max_pool2d


class FractionalMaxPool3d(_FractionalMaxPool):
    """The largest elements of randomly placed windows of (N, C, D, H, W) (B. Graham, 2014)."""

    function = functional.fractional_max_pool3d
