"""Activations as modules: each calls the function of the same meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rabbet.base.errors import RabbetError
from rabbet.nn import functional
from rabbet.nn.module import Module
from rabbet.nn.parameter import Parameter
from rabbet.tensor import Tensor, full


class _Activation(Module):
    """A function with fixed options, kept as attributes of the same names."""

    function: ClassVar[Callable[..., Any]]
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace  # tensors are values: accepted, and makes no difference

    def forward(self, input: Tensor) -> Tensor:
        given = {name: getattr(self, name) for name in self.options}
        return type(self).function(input, **given)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)


class ReLU(_Activation):
    """max(x, 0)."""

    function = functional.relu


class ReLU6(_Activation):
    """x kept between 0 and 6."""

    function = functional.relu6


class SiLU(_Activation):
    """x * sigmoid(x)."""

    function = functional.silu


class Mish(_Activation):
    """x * tanh(softplus(x))."""

    function = functional.mish


class SELU(_Activation):
    """ELU with the scale and alpha that keep activations normalised."""

    function = functional.selu


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    function = functional.sigmoid


class LogSigmoid(_Activation):
    """log(sigmoid(x))."""

    function = functional.logsigmoid


class Tanh(_Activation):
    """The hyperbolic tangent."""

    function = functional.tanh


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = functional.softsign


class Hardsigmoid(_Activation):
    """x / 6 + 1 / 2 kept between 0 and 1."""

    function = functional.hardsigmoid


class Hardswish(_Activation):
    """x * hardsigmoid(x)."""

    function = functional.hardswish


class GELU(_Activation):
    """x times the normal distribution function at x; approximate="tanh" is BERT's formula."""

    function = functional.gelu
    options = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate


class LeakyReLU(_Activation):
    """x where positive, negative_slope * x elsewhere."""

    function = functional.leaky_relu
    options = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope


class ELU(_Activation):
    """x where positive, alpha * (exp(x) - 1) elsewhere."""

    function = functional.elu
    options = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha


class Softplus(_Activation):
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""

    function = functional.softplus
    options = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold


class Hardtanh(_Activation):
    """x kept between min_val and max_val."""

    function = functional.hardtanh
    options = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.min_val, self.max_val = min_val, max_val


class _AxisActivation(_Activation):
    """A function along one axis, which PyTorch calls `dim`."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        if dim is None:
            raise RabbetError(f"{type(self).__name__}: say along which axis, e.g. dim=-1")
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, axis=self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AxisActivation):
    """exp(x) divided by its sum along axis `dim`."""

    function = functional.softmax


class LogSoftmax(_AxisActivation):
    """log(softmax(x)) along axis `dim`."""

    function = functional.log_softmax


class GLU(_AxisActivation):
    """The first half of axis `dim` times the sigmoid of the second half."""

    function = functional.glu

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim)


class PReLU(Module):
    """x where positive, weight * x elsewhere; weight is learned, one number or one per channel."""

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.weight = Parameter(full((num_parameters,), init, dtype=dtype, device=device))

    def forward(self, input: Tensor) -> Tensor:
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class CELU(_Activation):
    """x where positive, alpha (exp(x / alpha) - 1) elsewhere."""

    function = functional.celu
    options = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha


class Hardshrink(_Activation):
    """x where its size is more than lambd, 0 elsewhere."""

    function = functional.hardshrink
    options = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd


class Softshrink(_Activation):
    """x moved towards 0 by lambd, and no further."""

    function = functional.softshrink
    options = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    function = functional.tanhshrink


class Threshold(_Activation):
    """x where it is more than threshold, value elsewhere."""

    function = functional.threshold
    options = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.threshold, self.value = threshold, value


class RReLU(_Activation):
    """x where positive, else times a number from [lower, upper), random while training."""

    function = functional.rrelu
    options = ("lower", "upper", "training")

    def __init__(
        self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False
    ) -> None:
        super().__init__(inplace)
        self.lower, self.upper = lower, upper


class Softmin(_AxisActivation):
    """softmax(-x) along axis `dim`."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softmin(input, self.dim)


class Softmax2d(Module):
    """softmax over the channels of (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softmax(input, axis=-3)
