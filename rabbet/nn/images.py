"""Modules of images that hold no parameters: sizes, columns, channels, borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rabbet.nn import functional
from rabbet.nn.module import Module
from rabbet.tensor import Tensor

Sizes = int | tuple[int, ...]

# ---- columns and channels ------------------------------------------------------------------------


class Unfold(Module):
    """Every window of an image as a column: (N, C, H, W) -> (N, C KH KW, windows)."""

    def __init__(
        self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
    ) -> None:
        super().__init__()
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return functional.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Unfold):
    """Columns of windows added up to images: (N, C KH KW, windows) -> (N, C, *output_size)."""

    def __init__(
        self,
        output_size: Sizes,
        kernel_size: Sizes,
        dilation: Sizes = 1,
        padding: Sizes = 0,
        stride: Sizes = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return functional.fold(
            *(input, self.output_size, self.kernel_size),
            *(self.dilation, self.padding, self.stride),
        )

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"


class PixelShuffle(Module):
    """Channels as pixels: (..., C r^2, H, W) -> (..., C, H r, W r)."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return functional.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Pixels as channels: (..., C, H r, W r) -> (..., C r^2, H, W)."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return functional.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Channels of `groups` groups, interleaved."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return functional.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class LocalResponseNorm(Module):
    """x / (k + alpha * mean of squares over `size` channels around) ** beta."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        return functional.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


# ---- sizes ---------------------------------------------------------------------------------------


class Upsample(Module):
    """Signals, images or volumes of another size, as `functional.interpolate`.

    Example:
        >>> nn.Upsample(scale_factor=2, mode="bilinear")(rb.ones((1, 3, 4, 4))).shape
        (1, 3, 8, 8)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return functional.interpolate(
            *(input, self.size, self.scale_factor, self.mode),
            *(self.align_corners, self.recompute_scale_factor),
        )

    def extra_repr(self) -> str:
        given = "size" if self.scale_factor is None else "scale_factor"
        return f"{given}={getattr(self, given)}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Upsample with mode "nearest"."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor)


class UpsamplingBilinear2d(Upsample):
    """Upsample with mode "bilinear" and align_corners."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


# ---- borders -------------------------------------------------------------------------------------


class _Pad(Module):
    """Elements around the last axes: one number, or (before, after) per axis, the last first."""

    rank: ClassVar[int]
    mode: ClassVar[str]

    def __init__(self, padding: Sizes) -> None:
        super().__init__()
        self.padding = (padding,) * (2 * self.rank) if isinstance(padding, int) else tuple(padding)

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: Sizes, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ReflectionPad1d(_Pad):
    """Repeats the elements next to a border, turned around: the last axis."""

    rank, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Repeats the elements next to a border, turned around: the last 2 axes."""

    rank, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Repeats the elements next to a border, turned around: the last 3 axes."""

    rank, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """Repeats the outermost elements: the last axis."""

    rank, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Repeats the outermost elements: the last 2 axes."""

    rank, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """Repeats the outermost elements: the last 3 axes."""

    rank, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """Goes on at the other end: the last axis."""

    rank, mode = 1, "circular"


class CircularPad2d(_Pad):
    """Goes on at the other end: the last 2 axes."""

    rank, mode = 2, "circular"


class CircularPad3d(_Pad):
    """Goes on at the other end: the last 3 axes."""

    rank, mode = 3, "circular"


class ConstantPad1d(_ConstantPad):
    """A number around the last axis."""

    rank = 1


class ZeroPad1d(ConstantPad1d):
    """Zeros around the last axis."""

    def __init__(self, padding: Sizes) -> None:
        super().__init__(padding, 0.0)


class ConstantPad2d(_ConstantPad):
    """A number around the last 2 axes."""

    rank = 2


class ZeroPad2d(ConstantPad2d):
    """Zeros around the last 2 axes."""

    def __init__(self, padding: Sizes) -> None:
        super().__init__(padding, 0.0)


class ConstantPad3d(_ConstantPad):
    """A number around the last 3 axes."""

    rank = 3


class ZeroPad3d(ConstantPad3d):
    """Zeros around the last 3 axes."""

    def __init__(self, padding: Sizes) -> None:
        super().__init__(padding, 0.0)
