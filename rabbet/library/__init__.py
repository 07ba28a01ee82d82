"""Functions of tensors that are made of ops; those that are methods become methods here."""

from __future__ import annotations

from rabbet.library import (
    combine,
    data_dependent,
    habits,
    kindred,
    placing,
    products,
    several,
    summary,
)
from rabbet.tensor import Tensor

for _name, _method in {
    **several.METHODS,
    **data_dependent.METHODS,
    **placing.METHODS,
    **combine.METHODS,
    **summary.METHODS,
    **products.METHODS,
    **habits.METHODS,
    **kindred.METHODS,
}.items():
    setattr(Tensor, _name, _method)
