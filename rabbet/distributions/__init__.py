"""Probability distributions with PyTorch's names: draws, densities, moments, divergences."""

from rabbet.distributions.continuous import (
    Beta,
    Dirichlet,
    Exponential,
    Gamma,
    Laplace,
    LogNormal,
    MultivariateNormal,
    Normal,
    Uniform,
)
from rabbet.distributions.discrete import Bernoulli, Binomial, Categorical, Geometric, Poisson
from rabbet.distributions.distribution import Distribution, Independent
from rabbet.distributions.divergence import kl_divergence

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Dirichlet",
    "Distribution",
    "Exponential",
    "Gamma",
    "Geometric",
    "Independent",
    "Laplace",
    "LogNormal",
    "MultivariateNormal",
    "Normal",
    "Poisson",
    "Uniform",
    "kl_divergence",
]
