"""Functions of tensors that are made of ops; those that are methods become methods here."""

from __future__ import annotations

from rabbet.library import (
    conversion,
    data_dependent,
    draws,
    elementwise,
    inspection,
    joining,
    manipulation,
    placing,
    products,
    random,
    slopes,
    spectra,
    summary,
)
from rabbet.tensor import Tensor

for _module in (
    *(conversion, data_dependent, draws, elementwise, inspection, joining),
    *(manipulation, placing, products, random, slopes, spectra, summary),
):
    for _name, _method in _module.METHODS.items():
        setattr(Tensor, _name, _method)
