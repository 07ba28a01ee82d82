"""Convolutions and transposed convolutions, with PyTorch's arguments and weight layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.nn import functional
from rabbet.nn.axes import per_axis
from rabbet.nn.linear import start_weights
from rabbet.nn.module import Module
from rabbet.nn.parameter import Parameter
from rabbet.tensor import Tensor, zeros

Sizes = int | tuple[int, ...]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What all convolutions share: the arguments and the parameters."""

    rank: ClassVar[int]
    is_transposed: ClassVar[bool] = False
    function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_mode not in (("zeros",) if self.is_transposed else PADDING_MODES):
            raise RabbetError(
                f"{type(self).__name__}: padding_mode={padding_mode!r} is not one of "
                f"{', '.join(PADDING_MODES[:1] if self.is_transposed else PADDING_MODES)}"
            )
        self.padding_mode = padding_mode
        if in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"{type(self).__name__}: groups={groups} must divide the channels "
                f"{in_channels} and {out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_axis(kernel_size, self.rank)
        self.stride = per_axis(stride, self.rank)
        self.padding = per_axis(padding, self.rank)
        self.dilation = per_axis(dilation, self.rank)
        first, second = out_channels, in_channels
        if self.is_transposed:
            first, second = second, first
        shape = (first, second // groups, *self.kernel_size)
        self.weight = Parameter(zeros(shape, dtype=dtype, device=device))
        if bias:
            self.bias = Parameter(zeros((out_channels,), dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew: uniform in +-1 / sqrt(fan-in)."""
        start_weights(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            low, high = self._border()
            pairs = [n for pair in zip(low[::-1], high[::-1], strict=True) for n in pair]
            input, padding = functional.pad(input, pairs, self.padding_mode), (0,) * self.rank
        return type(self).function(
            input,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def _border(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Elements before and behind each axis."""
        if self.padding == "valid":
            return (0,) * self.rank, (0,) * self.rank
        if self.padding != "same":
            return self.padding, self.padding
        total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        if self.padding != (0,) * self.rank:
            text += f", padding={self.padding!r}"
        if self.dilation != (1,) * self.rank:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"


class Conv1d(_Conv):
    """Convolution of signals: (N, C, L) -> (N, O, L'); weight (O, C / groups, K).

    Example:
        >>> nn.Conv1d(2, 4, 3, padding=1)(rb.ones((1, 2, 8))).shape
        (1, 4, 8)
    """

    rank = 1
    function = functional.conv1d


class Conv2d(_Conv):
    """Convolution of images: (N, C, H, W) -> (N, O, H', W'); weight (O, C / groups, KH, KW).

    Example:
        >>> nn.Conv2d(3, 4, 3, padding=1)(rb.ones((1, 3, 8, 8))).shape
        (1, 4, 8, 8)
    """

    rank = 2
    function = functional.conv2d


class Conv3d(_Conv):
    """Convolution of volumes: (N, C, D, H, W) -> (N, O, D', H', W')."""

    rank = 3
    function = functional.conv3d


class _ConvTranspose(_Conv):
    """Transposed: `output_padding` comes after `padding`, the weight is (C, O / groups, ...)."""

    is_transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            *(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias),
            *(padding_mode, device, dtype),
        )
        self.output_padding = per_axis(output_padding, self.rank)

    def forward(self, input: Tensor, output_size: tuple[int, ...] | None = None) -> Tensor:
        return type(self).function(
            input,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=self._extra(input, output_size),
            groups=self.groups,
            dilation=self.dilation,
        )

    def _extra(self, input: Tensor, output_size: tuple[int, ...] | None) -> tuple[int, ...]:
        """The output padding that gives a wanted size."""
        if output_size is None:
            return tuple(self.output_padding)
        wanted = tuple(output_size)[-self.rank :]
        sizes = zip(
            *(input.shape[-self.rank :], self.stride, self.padding, self.dilation),
            *(self.kernel_size, wanted),
            strict=True,
        )
        extra = tuple(w - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for n, s, p, d, k, w in sizes)
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            raise ShapeError(
                f"{type(self).__name__}: output_size {wanted} of an input {show(input.shape)} is "
                f"not within a stride {self.stride} of the smallest size"
            )
        return extra


class ConvTranspose1d(_ConvTranspose):
    """The gradient of Conv1d's input as a layer of its own: (N, C, L) -> (N, O, L')."""

    rank = 1
    function = functional.conv_transpose1d


class ConvTranspose2d(_ConvTranspose):
    """The gradient of Conv2d's input as a layer of its own: (N, C, H, W) -> (N, O, H', W')."""

    rank = 2
    function = functional.conv_transpose2d


class ConvTranspose3d(_ConvTranspose):
    """The gradient of Conv3d's input as a layer of its own, for volumes (N, C, D, H, W)."""

    rank = 3
    function = functional.conv_transpose3d
