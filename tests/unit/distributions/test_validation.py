"""Parameters of distributions: what is refused, and which values are read for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import distributions as D


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    D.Distribution.set_default_validate_args(None)


REFUSED: dict[str, Callable[[], Any]] = {
    "Normal: scale=-1.0 is outside of positive": lambda: D.Normal(0.0, -1.0),
    "Normal: loc=nan is outside of real": lambda: D.Normal(np.nan, 1.0),
    "Uniform: high=0.0 is outside of greater_than": lambda: D.Uniform(1.0, 0.0),
    "Normal: scale.1.=-2.0 is outside of positive": lambda: D.Normal(0.0, [1.0, -2.0]),
    "Uniform: high.1.=0.5 is outside of greater_than.1.": lambda: D.Uniform([0.0, 1.0], [1.0, 0.5]),
    "Dirichlet: concentration=.1.0, -1.0. is outside of positive": lambda: D.Dirichlet([1.0, -1.0]),
    "Geometric: probs=0.0 is outside of .0, 1.": lambda: D.Geometric(0.0),
    "Categorical: probs=.0.0, 0.0. is outside of nonnegative with a positive sum": (
        lambda: D.Categorical(probs=[0.0, 0.0])
    ),
    "Multinomial: probs.1.=": lambda: D.Multinomial(2, probs=[[1.0, 0.0], [0.0, 0.0]]),
    "Bernoulli: probs=2.0 is outside of unit_interval": lambda: D.Bernoulli(2.0),
    "Chi2: df=-1.0 is outside": lambda: D.Chi2(-1.0),
    "Gumbel: scale=0 is outside": lambda: D.Gumbel(0, 0),
    "HalfNormal: scale.0.=-1.0": lambda: D.HalfNormal(-rb.ones(2), validate_args=True),
    "MultivariateNormal: covariance_matrix=..-1.0, 0.0., ": lambda: D.MultivariateNormal(
        rb.zeros(2), -rb.eye(2), validate_args=True
    ),
    "Uniform: value.0, 1.=3.0 is outside of interval.1, 2.": lambda: D.Uniform(
        rb.asarray([0.0, 1.0]), 2.0, validate_args=True
    ).log_prob([[0.5, 3.0]]),
    "LKJCholesky: value.0. is outside of corr_cholesky": lambda: D.LKJCholesky(
        5, validate_args=True
    ).log_prob(rb.ones((3, 5, 5))),
    "Poisson: value=0.5 is outside": lambda: D.Poisson(1.0, validate_args=True).log_prob(0.5),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        REFUSED[message]()
    assert isinstance(found.value, rb.ParameterError)


def test_tensors_are_read_only_where_asked_for() -> None:
    wrong = rb.tensor([1.0, -1.0])
    assert D.Normal(0.0, wrong).batch_shape == (2,)
    with rb.no_grad(), pytest.raises(rb.ParameterError):
        D.Normal(0.0, wrong, validate_args=True)
    D.Distribution.set_default_validate_args(True)
    with pytest.raises(rb.ParameterError):
        D.Normal(0.0, wrong)
    assert D.Normal(0.0, wrong, validate_args=False).batch_shape == (2,)
    D.Distribution.set_default_validate_args(False)
    assert D.Normal(0.0, -1.0).batch_shape == ()


def test_all_families_take_the_argument() -> None:
    for name in D.__all__:
        family = getattr(D, name)
        if inspect.isclass(family) and issubclass(family, D.Distribution):
            if family is not D.Distribution:
                assert "validate_args" in inspect.signature(family).parameters, name


def test_a_family_of_ones_own() -> None:
    class Mine(D.Normal):
        def __init__(self, loc: Any) -> None:
            super().__init__(loc, 1.0)

    assert Mine(2.0).mean.item() == 2.0
    with pytest.raises(rb.ParameterError, match="Mine: loc"):
        Mine(float("nan"))
