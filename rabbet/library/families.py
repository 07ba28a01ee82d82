"""Gamma, beta, Dirichlet, Poisson and binomial numbers: made of uniform and normal ones.

Rejection has a bounded number of trials, all drawn at once along a last axis, of which the first
that is accepted counts. So every number takes the same words of the generator, and one program
draws them all. The chance that all trials fail is below what the last bit of a number can show; the
middle of the distribution is then taken.
"""

from __future__ import annotations

import math
from typing import Any

from rabbet.base import dtypes
from rabbet.base.dtypes import DType
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.library.draws import drawn_shape
from rabbet.library.random import Generator, rand, randn
from rabbet.tensor.create import arange
from rabbet.tensor.lift import functions
from rabbet.tensor.modes import no_grad
from rabbet.tensor.tensor import Tensor, as_operand, shape_argument

GAMMA_TRIALS = {32: 8, 64: 16}  # each fails with a chance of less than 0.05
POISSON_TRIALS = 16  # each fails with a chance of less than 0.2
SMALL_RATE = 10.0  # below it Poisson numbers are counted up
SMALL_COUNT = 48  # a number of a small rate is less: the chance of more is below 1e-16

# ---- arguments -----------------------------------------------------------------------------------


def _float(name: str, x: Any) -> Tensor:
    t = as_operand(x)
    if t.dtype.is_integer:
        t = t.astype(dtypes.default_float)
    if t.dtype not in (dtypes.float32, dtypes.float64):
        raise DTypeError(f"{name}: {t.dtype.name} is not supported; float32 or float64 is needed")
    return t


def _first(accepted: Tensor, values: Tensor, otherwise: Any) -> Tensor:
    """Along the last axis: the value of the first trial that is accepted."""
    where = functions["where"]
    trials = accepted.shape[-1]
    number = where(accepted, arange(trials), trials).min(axis=-1, keepdims=True)
    chosen = functions["take_along_axis"](values, number.clip(None, trials - 1), -1)
    return where(number == trials, functions["unsqueeze"](otherwise, -1), chosen).squeeze(-1)


# ---- gamma and what is made of it ----------------------------------------------------------------


def _log_gamma(a: Tensor, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
    """log of Gamma(a, 1) numbers (G. Marsaglia and W. Tsang, 2000): exact for tiny `a` too.

    For a < 1 a number of a + 1 times u^(1 / a); its logarithm is finite where the number is not.
    The gradient reaches `a` as if the number's quantile stood still (ops/reparameterise.py).
    """
    log, where = functions["log"], functions["where"]
    of = a.dtype
    trials = (*shape, GAMMA_TRIALS[of.bits])
    z = randn(trials, dtype=of, generator=generator)
    u = rand(trials, dtype=of, generator=generator)
    small = _open(shape, of, generator)
    spread = functions["expand"](a, shape)
    a = spread.detach()
    less = a < 1.0
    d = where(less, a + 1.0, a) - 1.0 / 3.0
    wide = functions["unsqueeze"](d, -1)
    step = z / functions["sqrt"](9.0 * wide) + 1.0
    v = where(step > 0.0, step, 1.0) ** 3
    bound = 0.5 * z * z + wide * (1.0 - v + log(v))
    accepted = (step > 0.0) & (functions["log1p"](-u) < bound)
    found = log(d) + _first(accepted, log(v), log(d) * 0.0)
    found = where(less, found + log(small) / where(less, a, 1.0), found)
    return functions["gamma_path"](found, spread)


def _open(shape: tuple[int, ...], of: DType, generator: Generator | None) -> Tensor:
    """Uniform numbers in (0, 1]."""
    return 1.0 - rand(shape, dtype=of, generator=generator)


def gamma(
    concentration: Any, rate: Any = 1.0, size: Any = None, *, generator: Generator | None = None
) -> Tensor:
    """Gamma numbers with the given concentration (shape) and rate (1 / scale).

    Of the shape of both together, or `size`, which they must fit. The mean is concentration / rate.
    By Marsaglia and Tsang's method with a bounded number of trials. The gradient reaches both: the
    concentration's by implicit reparameterisation (Figurnov et al., 2018).

    >>> rb.gamma(rb.asarray([2.0, 3.0])).shape
    (2,)
    """
    a = _float("gamma", concentration)
    b = _float("gamma", rate).astype(a.dtype)
    shape = drawn_shape("gamma", size, a, b)
    return functions["exp"](_log_gamma(a, shape, generator)) / b


def beta(a: Any, b: Any, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Beta numbers, in [0, 1]: x / (x + y) of two gamma numbers. The mean is a / (a + b).

    The gradient reaches `a` and `b` through the gamma numbers (see `gamma`).

    >>> rb.beta(2.0, rb.ones(3)).shape
    (3,)
    """
    one = _float("beta", a)
    two = _float("beta", b).astype(one.dtype)
    shape = drawn_shape("beta", size, one, two)
    x, y = (_log_gamma(t, shape, generator) for t in (one, two))
    return functions["sigmoid"](x - y)


def dirichlet(
    concentration: Any, size: Any = None, *, generator: Generator | None = None
) -> Tensor:
    """Rows of positive numbers that add up to 1: (..., k) -> (*size, k).

    Gamma numbers divided by their sum. The mean is concentration / its sum. The gradient reaches
    the concentration through the gamma numbers (see `gamma`).

    >>> rb.dirichlet(rb.ones(3)).shape
    (3,)
    """
    a = _float("dirichlet", concentration)
    if not a.ndim:
        raise ShapeError("dirichlet: the concentration has no axis of classes")
    rows = None if size is None else (*shape_argument((size,)), a.shape[-1])
    shape = drawn_shape("dirichlet", rows, a)
    return functions["softmax"](_log_gamma(a, shape, generator), -1)


# ---- counts --------------------------------------------------------------------------------------


def poisson(rate: Any, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Poisson numbers with the given rate (mean), in its dtype: whole numbers.

    Of the shape of the rate, or `size`. Below a rate of 10 by inversion; above by transformed
    rejection (PTRS: W. Hoermann, 1993) with a bounded number of trials, in float64.

    >>> rb.poisson(rb.zeros(2))
    tensor([0., 0.])
    """
    t = _float("poisson", rate)
    shape = drawn_shape("poisson", size, t)
    with no_grad():
        wide = functions["expand"](t.detach().astype(dtypes.float64), shape)
        u = rand(shape, dtype=dtypes.float64, generator=generator)
        small = _counted(functions["clip"](wide, None, SMALL_RATE), u)
        large = _transformed(functions["clip"](wide, SMALL_RATE, None), generator)
        found = functions["where"](wide < SMALL_RATE, small, large)
        valid = wide >= 0.0
        return functions["where"](valid, found, math.nan).astype(t.dtype)


def _counted(rate: Tensor, u: Tensor) -> Tensor:
    """How many of the first probabilities, added up, are not above u."""
    k = arange(SMALL_COUNT, dtype=dtypes.float64)
    safe = functions["clip"](rate, 1e-300, None)
    log_rate = functions["unsqueeze"](functions["log"](safe), -1)
    spread = k * log_rate - functions["unsqueeze"](safe, -1) - functions["lgamma"](k + 1.0)
    below = functions["cumulative_sum"](functions["exp"](spread), -1)
    passed = below <= functions["unsqueeze"](u, -1)
    return functions["where"](rate > 0.0, passed.astype(dtypes.float64).sum(axis=-1), 0.0)


def _transformed(rate: Tensor, generator: Generator | None) -> Tensor:
    """Hoermann's PTRS, for rates of 10 and more."""
    log = functions["log"]
    trials = (*rate.shape, POISSON_TRIALS)
    u = rand(trials, dtype=dtypes.float64, generator=generator) - 0.5
    v = 1.0 - rand(trials, dtype=dtypes.float64, generator=generator)
    wide = functions["unsqueeze"](rate, -1)
    b = 0.931 + 2.53 * functions["sqrt"](wide)
    a = -0.059 + 0.02483 * b
    inverse = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2.0)
    us = 0.5 - abs(u)
    k = functions["floor"]((2.0 * a / us + b) * u + wide + 0.43)
    quick = (us >= 0.07) & (v <= v_r)
    hopeless = (k < 0.0) | ((us < 0.013) & (v > us))
    count = functions["clip"](k, 0.0, None)
    height = log(v * inverse / (a / (us * us) + b))
    exact = height <= count * log(wide) - wide - functions["lgamma"](count + 1.0)
    accepted = quick | (~hopeless & exact)
    return _first(accepted, count, functions["floor"](rate))


def binomial(count: Any, p: Any, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """How many of `count` trials succeed, each with probability p; in the dtype of p.

    Trials are drawn one by one, so `count` is one Python number.

    >>> rb.binomial(4, rb.asarray([0.0, 1.0]))
    tensor([0., 4.])
    """
    n = count.__index__()
    if n < 0:
        raise ValueError(f"binomial: count={n} must be 0 or more")
    t = _float("binomial", p)
    shape = drawn_shape("binomial", size, t)
    with no_grad():
        u = rand((*shape, n), dtype=t.dtype, generator=generator)
        chance = functions["unsqueeze"](functions["expand"](t.detach(), shape), -1)
        return (u < chance).astype(t.dtype).sum(axis=-1)
