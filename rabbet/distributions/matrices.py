"""Distributions of matrices, and of angles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rabbet import linalg
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.distributions import constraints
from rabbet.distributions.constraints import Constraint
from rabbet.distributions.continuous import Beta, Gamma
from rabbet.distributions.distribution import Distribution, floats
from rabbet.library.joining import broadcast_shapes
from rabbet.library.random import rand, randn
from rabbet.ops.arithmetic import clip, remainder, square
from rabbet.ops.bessel import i0e, i1e
from rabbet.ops.compare import logical_and, logical_or, where
from rabbet.ops.float_functions import hypot, log, sqrt
from rabbet.ops.gamma_functions import multigammaln
from rabbet.ops.gather_scatter import take_along_axis
from rabbet.ops.index_maps import expand
from rabbet.ops.special import digamma, lgamma
from rabbet.ops.trigonometry import atan, sin, tan
from rabbet.tensor import Tensor, asarray
from rabbet.tensor.create import arange
from rabbet.tensor.lift import functions

TRIES = 48  # each succeeds with a chance of 0.65 or more: none fails in 10^21 draws


class VonMises(Distribution):
    """Angles in [-pi, pi) around `loc`: density exp(concentration cos(x - loc)) / (2 pi I0).

    Drawn by rejection (D. Best and N. Fisher, "Efficient simulation of the von Mises
    distribution", 1979). The variance is the circular one.

    >>> rb.distributions.VonMises(0.0, 1.0).log_prob(0.0)
    tensor(-1.0737914)
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}

    def __init__(self, loc: Any, concentration: Any) -> None:
        self.loc, self.concentration = floats(loc, concentration)
        self.batch_shape = self.loc.shape

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """The first proposal of several that is taken."""
        size = self.drawn_shape(shape)
        k = expand(self.concentration.detach().astype("float64"), size)[..., None]
        # Their r is tau / (2 k), with r - 1 = tau / (k whole) and r + 1 = whole / (2 k); by half
        # angles no difference of near numbers is left, however narrow the distribution is.
        tau = 1.0 + hypot(2.0 * k, 1.0)
        whole = tau + 2.0 * k
        u = rand((3, *size, TRIES), dtype="float64", generator=generator)
        half = atan(sqrt(2.0 * tau) / whole * tan(0.5 * math.pi * u[0]))
        c = tau / whole + 2.0 * k * square(sin(half))
        least = clip(u[1], 2.0**-60, None)
        taken = logical_or(c * (2.0 - c) > least, log(c / least) + 1.0 - c >= 0.0)
        angle = where(u[2] < 0.5, -2.0, 2.0) * half
        first = taken.argmax(-1, keepdims=True)
        drawn = take_along_axis(angle, first, -1)[..., 0] + self.loc.detach()
        turned = remainder(drawn + math.pi, 2.0 * math.pi) - math.pi
        inside = logical_and(drawn >= -math.pi, drawn < math.pi)  # keep their last digits
        return where(inside, drawn, turned).astype(self.loc.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """concentration cos(value - loc) - log(2 pi I0(concentration))."""
        k = self.concentration
        away = -2.0 * square(sin(0.5 * (asarray(value) - self.loc)))  # cos(...) - 1
        return k * away - _log_turn(k)

    def entropy(self) -> Tensor:
        """log(2 pi I0) - k I1 / I0."""
        k = self.concentration
        return _log_turn(k) + k * _bessel_rest(k)

    @property
    def mean(self) -> Tensor:
        """loc."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """1 - I1(concentration) / I0(concentration)."""
        return _bessel_rest(self.concentration)


def _log_turn(k: Tensor) -> Tensor:
    """log(2 pi I0(k)) - k; in float64, since a small 1 - I1 / I0 is its slope."""
    return log(2.0 * math.pi * i0e(k.astype("float64"))).astype(k.dtype)


def _bessel_rest(k: Tensor) -> Tensor:
    """1 - I1(k) / I0(k), which is about 1 / (2 k): all digits of it."""
    wide = k.astype("float64")
    is_large = wide > LARGE
    small, inverse = where(is_large, 1.0, wide), 1.0 / where(is_large, wide, LARGE)
    series: Any = 0.0
    for factor in reversed(_REST):
        series = (series + factor) * inverse
    return where(is_large, series, (i0e(small) - i1e(small)) / i0e(small)).astype(k.dtype)


def _rest_factors(count: int) -> list[float]:
    """1 - I1(k) / I0(k) as a series in 1 / k, by V' = 1 / k - V / k - 2 V + V^2."""
    found: list[float] = []
    for n in range(1, count + 1):
        squared = sum(a * b for a, b in zip(found, reversed(found), strict=True))
        found.append(0.5 * ((n - 2) * found[-1] + squared if found else 1.0))
    return found


LARGE = 32.0  # from here on the terms of the series fall below the precision of float64
_REST = _rest_factors(16)


class LKJCholesky(Distribution):
    """Cholesky factors of correlation matrices: density det(matrix)^(concentration - 1).

    D. Lewandowski, D. Kurowicka and H. Joe, "Generating random correlation matrices based on vines
    and extended onion method" (2009).

    >>> rb.distributions.LKJCholesky(3, 1.0).sample().shape
    (3, 3)
    """

    support = constraints.corr_cholesky
    arg_constraints = {"concentration": constraints.positive}

    def __init__(self, dim: int, concentration: Any = 1.0) -> None:
        if not hasattr(dim, "__index__") or dim < 2:
            raise ShapeError(f"LKJCholesky: dim={dim!r} must be an int, 2 or more")
        self.dim = dim = dim.__index__()
        (self.concentration,) = floats(concentration)
        self.batch_shape, self.event_shape = self.concentration.shape, (dim, dim)

    def sample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """Row after row: a direction, and how much of the row's length lies in front."""
        k, n = self.concentration.detach(), self.dim
        lead = self.drawn_shape(shape)[:-2]
        ahead = clip(arange(n).astype(k.dtype) - 1.0, 0.0, None)
        whole = expand(k[..., None], (*lead, n)) + 0.5 * (n - 2.0)
        parts = Beta(expand(0.5 * ahead + 0.5, whole.shape), whole - 0.5 * ahead)
        share = parts.sample(generator=generator)[..., None]
        drawn = randn((*lead, n, n), dtype=k.dtype, generator=generator).tril(-1)
        length = sqrt(square(drawn).sum(axis=-1, keepdims=True))
        row = sqrt(share) * drawn / where(length == 0.0, 1.0, length)
        rest = sqrt(clip(1.0 - square(row).sum(axis=-1), 1e-30, None))
        return row + functions["diag_embed"](rest)

    def log_prob(self, value: Any) -> Tensor:
        """The sum over rows i > 1 of (2 (concentration - 1) + n - i) log(diagonal), normalised."""
        k, n = self.concentration, self.dim
        order = 2.0 * (k[..., None] - 1.0) + (float(n) - arange(2, n + 1).astype(k.dtype))
        plain = (order * log(linalg.diagonal(asarray(value))[..., 1:])).sum(axis=-1)
        alpha, less = k + 0.5 * (n - 1), n - 1
        parts = multigammaln(alpha - 0.5, less) - lgamma(alpha) * float(less)
        # the multivariate gamma function brings pi^(less (less - 1) / 4) along
        return plain - (0.5 * less * math.log(math.pi) + parts)

    @property
    def mode(self) -> Tensor:
        """The unit matrix, for a concentration above 1."""
        unit = functions["diag_embed"](
            arange(self.dim).astype(self.concentration.dtype) * 0.0 + 1.0
        )
        return expand(unit, (*self.batch_shape, self.dim, self.dim))


def _freedom(given: Mapping[str, Any]) -> Constraint:
    """More than n - 1 degrees of freedom, for matrices of n rows."""
    whole, factor = given["covariance_matrix"], given["scale_tril"]
    shape = np.shape(factor if whole is None else whole)
    return constraints.greater_than(shape[-1] - 1) if shape else constraints.positive


class Wishart(Distribution):
    """Sums of squares X @ X.mT of `df` normal vectors of covariance S: (*b,), (*b, n, n).

    S is given as `covariance_matrix`, or by its factor `scale_tril`. Drawn by M. Bartlett's
    decomposition (1933). `df` must be more than n - 1.

    >>> rb.distributions.Wishart(3.0, rb.eye(2)).mean.tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """

    support = constraints.positive_definite
    arg_constraints = {
        "df": _freedom,
        "covariance_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }

    def __init__(self, df: Any, covariance_matrix: Any = None, *, scale_tril: Any = None) -> None:
        if (covariance_matrix is None) == (scale_tril is None):
            raise ShapeError("Wishart: give one of covariance_matrix, scale_tril")
        factor = asarray(covariance_matrix if scale_tril is None else scale_tril)
        factor = factor if factor.dtype.is_float else factor.astype("float32")
        if factor.ndim < 2 or factor.shape[-1] != factor.shape[-2]:
            raise ShapeError(f"Wishart: {show(factor.shape)} is no stack of square matrices")
        if scale_tril is None:
            factor = linalg.cholesky(factor)
        count = asarray(df).astype(factor.dtype)
        n = factor.shape[-1]
        batch = broadcast_shapes(count.shape, factor.shape[:-2])
        self.batch_shape, self.event_shape = batch, (n, n)
        self.df = expand(count, batch)
        self.scale_tril = expand(factor, (*batch, n, n))

    @property
    def covariance_matrix(self) -> Tensor:
        """scale_tril @ scale_tril.mT."""
        return self.scale_tril @ self.scale_tril.mT

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """L A (L A)^T, A lower triangular: chi-squared roots above normal numbers."""
        size, n = self.drawn_shape(shape), self.event_shape[0]
        less = arange(n).astype(self.df.dtype)
        squares = Gamma(0.5 * (self.df[..., None] - less), 0.5).rsample(shape, generator=generator)
        below = randn(size, dtype=self.df.dtype, generator=generator).tril(-1)
        factor = self.scale_tril @ (below + functions["diag_embed"](sqrt(squares)))
        return factor @ factor.mT

    def _half_log_det(self) -> Tensor:
        return log(linalg.diagonal(self.scale_tril)).sum(axis=-1)

    def log_prob(self, value: Any) -> Tensor:
        """((df - n - 1) log det X - tr(S^-1 X) - df (n log 2 + log det S)) / 2 - log Gamma_n."""
        x, n = asarray(value), self.event_shape[0]
        factor = linalg.cholesky(x)
        shape = broadcast_shapes(factor.shape, self.scale_tril.shape)
        own, given = expand(self.scale_tril, shape), expand(factor, shape)
        apart = linalg.solve_triangular(own, given, upper=False)
        trace = square(apart).sum(axis=(-2, -1))
        size = log(linalg.diagonal(factor)).sum(axis=-1)
        first = (self.df - (n + 1.0)) * size - 0.5 * trace
        scale = self.df * (0.5 * n * math.log(2.0) + self._half_log_det())
        return first - scale - multigammaln(0.5 * self.df, n)

    def entropy(self) -> Tensor:
        """(n + 1) log det(L) + log Gamma_n - (df - n - 1) psi_n / 2 + n df / 2 and log 2 terms."""
        n, half = self.event_shape[0], 0.5 * self.df
        steps = 0.5 * arange(n).astype(self.df.dtype)
        psi = digamma(half[..., None] - steps).sum(axis=-1)
        size = (n + 1.0) * self._half_log_det() + 0.5 * n * (n + 1.0) * math.log(2.0)
        return size + multigammaln(half, n) - 0.5 * (self.df - (n + 1.0)) * psi + half * float(n)

    @property
    def mean(self) -> Tensor:
        """df S."""
        return self.df[..., None, None] * self.covariance_matrix

    @property
    def variance(self) -> Tensor:
        """df (S_ij^2 + S_ii S_jj)."""
        whole = self.covariance_matrix
        each = linalg.diagonal(whole)
        return self.df[..., None, None] * (square(whole) + each[..., None] * each[..., None, :])

    @property
    def mode(self) -> Tensor:
        """(df - n - 1) S, 0 where that is negative."""
        above = clip(self.df - (self.event_shape[0] + 1.0), 0.0, None)
        return above[..., None, None] * self.covariance_matrix
