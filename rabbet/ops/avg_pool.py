"""The mean of every window of images, and power means, with PyTorch's arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import abs_
from rabbet.ops.by_rank import op_by_rank
from rabbet.ops.checks import need_float, wide
from rabbet.ops.compare import where
from rabbet.ops.create import ones
from rabbet.ops.float_functions import pow_, sqrt
from rabbet.ops.index_maps import expand
from rabbet.ops.patches import Ints, output_sizes, patches, spread
from rabbet.ops.pool import Windows, pool_samples, tile_back, untile, windows
from rabbet.ops.reductions import reduce_max, sum_

# ---- average -------------------------------------------------------------------------------------


def _counts(
    x: Any, at: Windows, count_include_pad: bool, ceil_mode: bool, divisor: int | None
) -> Any:
    """By how much each window's sum is divided: a number, or one per output position."""
    if divisor is not None:
        if divisor == 0:
            raise RabbetError("avg_pool: divisor_override is 0")
        return float(divisor)
    padded = any(at.low) or any(at.high)
    if not padded or count_include_pad and not ceil_mode:
        return float(np.prod(at.kernel))
    rank = len(at.kernel)
    sizes, low, high = x.shape[x.ndim - rank :], at.low, at.high
    if count_include_pad:  # what `ceil_mode` adds behind the padding does not count
        sizes = tuple(n + 2 * p for n, p in zip(sizes, at.low, strict=True))
        high = tuple(h - p for h, p in zip(high, low, strict=True))
        low = (0,) * rank
    shape = (1,) * (x.ndim - rank) + sizes
    inside = patches(ones.like(x, shape, x.dtype), at.kernel, at.stride, low, high, at.dilation)
    return sum_(inside, tuple(range(x.ndim, inside.ndim)))


def _avg_gradient(
    rank: int,
    g: Any,
    y: Any,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> tuple[Any]:
    at = windows(f"avg_pool{rank}d", x, rank, kernel_size, stride, padding, 1, ceil_mode)
    g = g / _counts(x, at, count_include_pad, ceil_mode, divisor_override)
    lead = x.ndim - rank
    if at.tile:
        shape = list(g.shape[:lead])
        for size, k in zip(g.shape[lead:], at.kernel, strict=True):
            shape += [size, k]
        return (untile(expand(tile_back(g, at.kernel), tuple(shape)), x, at.kernel),)
    found = spread(g, x.shape[lead:], *at)
    return (sum_(found, tuple(range(x.ndim, found.ndim))),)


def _avg_reference(rank: int, x: np.ndarray, *attrs: Any) -> np.ndarray:
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor = attrs
    at = windows("avg_pool", x, rank, kernel_size, stride, padding, 1, ceil_mode)
    counts = output_sizes("avg_pool", x.shape[-rank:], *at)
    y = np.zeros((*x.shape[:-rank], *counts))
    for position in np.ndindex(*counts):
        inside: list[Any] = [...]
        elements = 1
        for o, s, p, k, size in zip(
            position, at.stride, at.low, at.kernel, x.shape[-rank:], strict=True
        ):
            begin, end = o * s - p, min(o * s - p + k, size + p)
            inside.append(slice(max(begin, 0), min(end, size)))
            counted = end - begin if count_include_pad else min(end, size) - max(begin, 0)
            elements *= counted
        total = wide(x)[tuple(inside)].sum(axis=tuple(range(-rank, 0)))
        y[(..., *position)] = total / (divisor or elements)
    return y.astype(x.dtype)


def _avg_samples(rank: int) -> list[Sample]:
    options = {
        **{"stride": None, "padding": 0, "ceil_mode": False},
        **{"count_include_pad": True, "divisor_override": None},
    }
    x = Draw((1, 2, *(7, 6, 5)[:rank]))
    more: tuple[dict[str, Any], ...] = (
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
        {"kernel_size": 2, "ceil_mode": True, "count_include_pad": False},
        {"kernel_size": 2, "stride": 1, "divisor_override": 3},
    )
    plain = pool_samples(rank, "float", **options)
    return plain[: 5 if rank < 3 else 2] + [Sample((x,), options | m) for m in more]


@op_by_rank(
    "avg_pool<n>d",
    reference=_avg_reference,
    samples=_avg_samples,
    gradient=_avg_gradient,
    onnx="AveragePool",
)
def avg_pool(
    rank: int,
    x: Value,
    kernel_size: int | Ints,
    stride: int | Ints | None = None,
    padding: int | Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """The mean of every window; padding counts as zeros unless `count_include_pad` is False.

    (N, C, <L>) -> (N, C, <L'>), floats; without N too. `stride` is the kernel size
    unless given; with `ceil_mode` a last window may reach over the end; `divisor_override` divides
    sums instead of the number of elements. Raises ShapeError where no window fits or the padding is
    more than half a kernel.

    >>> rb.avg_pool<n>d(rb.ones((1, 1, <6>)), 2).shape
    (1, 1, <3>)
    """
    name = f"avg_pool{rank}d"
    need_float(name, "input", x.dtype)
    at = windows(name, x, rank, kernel_size, stride, padding, 1, ceil_mode)
    found = patches(x, *at)
    total = sum_(found, tuple(range(x.ndim, found.ndim)))
    return total / _counts(x, at, count_include_pad, ceil_mode, divisor_override)


avg_pool1d, avg_pool2d, avg_pool3d = avg_pool

# ---- power means ---------------------------------------------------------------------------------


def _lp_reference(rank: int, x: np.ndarray, norm_type: float, *attrs: Any) -> np.ndarray:
    kernel_size, stride, ceil_mode = attrs
    power = np.abs(wide(x)) ** norm_type
    sums = _avg_reference(rank, power, kernel_size, stride, 0, ceil_mode, True, 1)
    return np.asarray(sums ** (1 / norm_type), x.dtype)


def _lp_samples(rank: int) -> list[Sample]:
    x = Draw((1, 2, *(7, 6, 5)[:rank]), 0.5, 2)
    cases = ((2.0, 2, None, False), (1.0, 3, 2, False), (3.0, 2, 2, True))
    names = ("norm_type", "kernel_size", "stride", "ceil_mode")
    return [Sample((x,), dict(zip(names, c, strict=True))) for c in cases]


@op_by_rank("lp_pool<n>d", reference=_lp_reference, samples=_lp_samples, onnx="LpPool")
def lp_pool(
    rank: int,
    x: Value,
    norm_type: float,
    kernel_size: int | Ints,
    stride: int | Ints | None = None,
    ceil_mode: bool = False,
) -> Value:
    """The norm of every window: (sum of |x|^norm_type)^(1 / norm_type); the largest for infinity.

    (N, C, <L>) -> (N, C, <L'>), floats; without N too. Arguments as in `avg_pool<n>d`.

    >>> rb.lp_pool<n>d(rb.ones((1, 1, <6>)), 2, 2).shape
    (1, 1, <3>)
    """
    name = f"lp_pool{rank}d"
    need_float(name, "input", x.dtype)
    if not norm_type > 0:
        raise RabbetError(f"{name}: norm_type {norm_type} must be positive")
    at = windows(name, x, rank, kernel_size, stride, 0, 1, ceil_mode)
    size = patches(abs_(x), *at)
    axes = tuple(range(x.ndim, size.ndim))
    if norm_type == np.inf:
        return reduce_max(size, axes, False)
    if norm_type == 1:
        return sum_(size, axes)
    # The slope of a window of zeros is 0, as that of a norm.
    total = sum_(size * size if norm_type == 2 else pow_(size, float(norm_type)), axes)
    none = total == 0.0
    safe = where(none, 1.0, total)
    root = sqrt(safe) if norm_type == 2 else pow_(safe, 1.0 / norm_type)
    return where(none, 0.0, root)


lp_pool1d, lp_pool2d, lp_pool3d = lp_pool
