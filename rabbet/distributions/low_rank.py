"""Normal vectors whose covariance is a diagonal and a few directions."""

from __future__ import annotations

from typing import Any

from rabbet import linalg
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.distributions import constraints
from rabbet.distributions.continuous import HALF_LOG_2PI
from rabbet.distributions.distribution import Distribution
from rabbet.library.joining import broadcast_shapes
from rabbet.library.random import randn
from rabbet.ops.arithmetic import square
from rabbet.ops.float_functions import log, sqrt
from rabbet.ops.index_maps import expand
from rabbet.tensor import Tensor, asarray
from rabbet.tensor.lift import functions


class LowRankMultivariateNormal(Distribution):
    """Normal vectors: mean `loc` (*b, n), covariance W W^T + D with W = `cov_factor` (*b, n, r), D
    the diagonal `cov_diag` (*b, n).

    Densities take r x r matrices only (M. Woodbury, 1950): n may be large.

    >>> d = rb.distributions.LowRankMultivariateNormal(rb.zeros(2), rb.ones((2, 1)), rb.ones(2))
    >>> d.covariance_matrix.tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """

    support = constraints.real_vector
    arg_constraints = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.positive_vector,
    }

    def __init__(self, loc: Any, cov_factor: Any, cov_diag: Any) -> None:
        mean, factor, diagonal = asarray(loc), asarray(cov_factor), asarray(cov_diag)
        n = mean.shape[-1] if mean.ndim else 0
        fits = factor.ndim >= 2 and factor.shape[-2] == n and diagonal.shape[-1:] == (n,)
        if not n or not fits:
            raise ShapeError(
                f"LowRankMultivariateNormal: loc {show(mean.shape)} needs cov_factor (..., {n}, r) "
                f"and cov_diag (..., {n}), not {show(factor.shape)} and {show(diagonal.shape)}"
            )
        batch = broadcast_shapes(mean.shape[:-1], factor.shape[:-2], diagonal.shape[:-1])
        self.batch_shape, self.event_shape = batch, (n,)
        self.loc = expand(mean, (*batch, n))
        self.cov_factor = expand(factor, (*batch, *factor.shape[-2:]))
        self.cov_diag = expand(diagonal, (*batch, n))

    def _inner(self) -> Tensor:
        """The Cholesky factor of 1 + W^T D^-1 W."""
        scaled = self.cov_factor / self.cov_diag[..., None]
        whole = self.cov_factor.mT @ scaled
        unit = functions["diag_embed"](functions["ones_like"](whole[..., 0]))
        return linalg.cholesky(whole + unit)

    def rsample(self, shape: Any = (), *, generator: Any = None) -> Tensor:
        """loc + W y + sqrt(D) z."""
        size = self.drawn_shape(shape)
        few = (*size[:-1], self.cov_factor.shape[-1])
        y = randn(few, dtype=self.loc.dtype, generator=generator)
        z = randn(size, dtype=self.loc.dtype, generator=generator)
        return self.loc + (self.cov_factor @ y[..., None])[..., 0] + sqrt(self.cov_diag) * z

    def log_prob(self, value: Any) -> Tensor:
        """-(x^T covariance^-1 x + log det covariance + n log(2 pi)) / 2, x = value - loc."""
        away, inner = asarray(value) - self.loc, self._inner()
        scaled = away / self.cov_diag
        short = (self.cov_factor.mT @ scaled[..., None])[..., 0]
        shape = (*short.shape, short.shape[-1])
        part = linalg.solve_triangular(expand(inner, shape), short[..., None], upper=False)[..., 0]
        distance = (away * scaled).sum(axis=-1) - square(part).sum(axis=-1)
        return -0.5 * (distance + self._log_det(inner)) - self.event_shape[0] * HALF_LOG_2PI

    def _log_det(self, inner: Tensor) -> Tensor:
        return 2.0 * log(linalg.diagonal(inner)).sum(axis=-1) + log(self.cov_diag).sum(axis=-1)

    def entropy(self) -> Tensor:
        """(log det covariance + n log(2 pi e)) / 2."""
        return 0.5 * self._log_det(self._inner()) + self.event_shape[0] * (0.5 + HALF_LOG_2PI)

    @property
    def covariance_matrix(self) -> Tensor:
        """W W^T + D."""
        return self.cov_factor @ self.cov_factor.mT + functions["diag_embed"](self.cov_diag)

    @property
    def scale_tril(self) -> Tensor:
        """The covariance's Cholesky factor."""
        return linalg.cholesky(self.covariance_matrix)

    def half_log_det(self) -> Tensor:
        """Half the logarithm of the covariance's determinant."""
        return 0.5 * self._log_det(self._inner())

    @property
    def mean(self) -> Tensor:
        """loc."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance."""
        return square(self.cov_factor).sum(axis=-1) + self.cov_diag

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc
