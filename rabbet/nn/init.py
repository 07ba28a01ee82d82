"""Values that parameters start with: PyTorch's rules, drawn from the default generator.

Every function changes its tensor in place and returns it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.library.random import Generator, rand, randn
from rabbet.tensor import Tensor, from_numpy, functions, no_grad

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much weights before this nonlinearity are larger; ValueError for an unknown one."""
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"calculate_gain: no gain is known for {nonlinearity!r}")
    return _GAINS[nonlinearity]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(inputs, outputs) of a unit of a weight (out, in, *kernel); ShapeError below 2 axes."""
    if len(shape) < 2:
        raise ShapeError(
            f"init: fan-in and fan-out need 2 axes or more, the shape is {show(shape)}"
        )
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform numbers in [a, b)."""
    return _set(tensor, rand(tensor.shape, dtype=tensor.dtype, generator=generator) * (b - a) + a)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal numbers."""
    return _set(tensor, randn(tensor.shape, dtype=tensor.dtype, generator=generator) * std + mean)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers, only those between a and b."""
    low, high = (math.erf((v - mean) / std / math.sqrt(2)) for v in (a, b))
    drawn = rand(tensor.shape, dtype=tensor.dtype, generator=generator) * (high - low) + low
    # The ends are cut again: erfinv may round past them, and is infinite at -1 and 1.
    found = functions["erfinv"](drawn) * (std * math.sqrt(2)) + mean
    return _set(tensor, found.clip(a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` everywhere."""
    return _set(tensor, functions["full_like"](tensor, val))


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: needs a matrix, the shape is {show(tensor.shape)}")
    return _set(tensor, from_numpy(np.eye(*tensor.shape, dtype=tensor.dtype.numpy)))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform, with variance gain^2 * 2 / (fan-in + fan-out)."""
    bound = gain * math.sqrt(6.0 / sum(fans(tensor.shape)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal, with variance gain^2 * 2 / (fan-in + fan-out)."""
    std = gain * math.sqrt(2.0 / sum(fans(tensor.shape)))
    return normal_(tensor, 0.0, std, generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Uniform, with variance gain^2 / fan; `a` is the slope of a leaky ReLU."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Normal, with variance gain^2 / fan."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: mode={mode!r} must be 'fan_in' or 'fan_out'")
    fan = fans(tensor.shape)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """A matrix (first axis, all others) with orthonormal rows or columns, times gain."""
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: needs 2 axes or more, the shape is {show(tensor.shape)}")
    rows = tensor.shape[0]
    drawn = randn(tensor.shape, dtype=tensor.dtype, generator=generator).numpy().reshape(rows, -1)
    wide = rows < drawn.shape[1]
    q, r = np.linalg.qr(drawn.T if wide else drawn)
    q = q * np.sign(np.diag(r))  # makes the distribution uniform
    found = np.ascontiguousarray(q.T if wide else q).reshape(tensor.shape)
    return _set(tensor, from_numpy(gain * found))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight that hands its input's channels through: ones in the middles.

    (out, in, *kernel) of 3 to 5 axes; with `groups` each group's first channels. Channels without a
    match have zeros. Raises ShapeError for other shapes.

    >>> nn.init.dirac_(rb.empty((2, 2, 3)))[1].tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if not 3 <= tensor.ndim <= 5 or groups < 1 or tensor.shape[0] % groups:
        raise ShapeError(
            f"dirac_: needs 3 to 5 axes and {groups} groups of outputs, "
            f"the shape is {show(tensor.shape)}"
        )
    found = np.zeros(tensor.shape, np.float32)
    middle = found
    for n in reversed(tensor.shape[2:]):
        middle = middle[..., n // 2]
    each = tensor.shape[0] // groups
    same = np.arange(min(each, tensor.shape[1]))
    for first in range(0, tensor.shape[0], each):
        middle[first + same, same] = 1.0
    return _set(tensor, from_numpy(found).astype(tensor.dtype))


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Normal numbers, of which the part `sparsity` of each column is 0 (J. Martens, 2010).

    Raises ShapeError unless `tensor` is a matrix, ValueError for a sparsity outside 0 to 1.

    >>> int((nn.init.sparse_(rb.empty((10, 3)), 0.25) == 0).sum())
    9
    """
    if tensor.ndim != 2 or not 0 <= sparsity <= 1:
        raise (ShapeError if tensor.ndim != 2 else ValueError)(
            f"sparse_: a matrix and a sparsity from 0 to 1 are needed, not {show(tensor.shape)} "
            f"and {sparsity}"
        )
    drawn = randn(tensor.shape, dtype=tensor.dtype, generator=generator) * std
    ranks = rand(tensor.shape, generator=generator).argsort(axis=0).argsort(axis=0)
    kept = ranks >= math.ceil(sparsity * tensor.shape[0])
    return _set(tensor, functions["where"](kept, drawn, 0.0))


def _set(tensor: Tensor, value: Tensor) -> Tensor:
    with no_grad():
        return tensor.copy_(value)
