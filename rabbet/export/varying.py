"""Numbers and ranges that Python made from a dynamic size, as ops on that size.

`x.sum(0) / x.shape[0]` records a number, `rb.arange(x.shape[1])` a constant; with several sightings
it shows which size they came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rabbet.base.dtypes import DType
from rabbet.base.sizes import Dim
from rabbet.export.portable import Number, OpCall, Size, SizedDType, form_of
from rabbet.graph.value import lookup

EXACT = 1 << 53  # below it a float64 holds every integer
Fit = Callable[[list[int]], Dim | None]


def as_call(arrays: Sequence[np.ndarray], dtype: DType, fit: Fit) -> tuple[OpCall, Dim] | None:
    """The call that gives arrays[i] at sighting i, and the size in it; None if there is none."""
    if not dtype.computed or dtype.kind == "b":
        return None
    if all(a.ndim == 0 for a in arrays):
        return _extent(arrays, dtype, fit)
    if all(a.ndim == 1 for a in arrays):
        return _ramp(arrays, dtype, fit)
    return None


def _extent(arrays: Sequence[np.ndarray], dtype: DType, fit: Fit) -> tuple[OpCall, Dim] | None:
    values = [a.item() for a in arrays]
    if any(v != v or abs(v) > EXACT or int(v) != v for v in values):
        return None
    dim = fit([int(v) for v in values])
    if dim is None:
        return None
    return _call("extent", (), {"size": _size(dim), "dtype": dtype}, SizedDType(dtype, ())), dim


def _ramp(arrays: Sequence[np.ndarray], dtype: DType, fit: Fit) -> tuple[OpCall, Dim] | None:
    longest = max(arrays, key=len)
    if len(longest) < 2:
        return None
    start = longest[0]
    with np.errstate(all="ignore"):
        step = longest[1] - start
        for a in arrays:
            made = np.arange(len(a)).astype(dtype.numpy) * step + start
            if made.astype(dtype.numpy).tobytes() != a.tobytes():
                return None
    dim = fit([len(a) for a in arrays])
    if dim is None:
        return None
    operands = (Number(start.item(), dtype), Number(step.item(), dtype))
    result = SizedDType(dtype, (form_of(dim),))
    return _call("ramp", operands, {"length": _size(dim)}, result), dim


def _size(dim: Dim) -> Any:
    return dim if isinstance(dim, int) else Size(form_of(dim))


def _call(
    name: str, operands: tuple[Number, ...], attributes: dict[str, Any], result: SizedDType
) -> OpCall:
    return OpCall(name, lookup(name).since, operands, (), attributes, (result,))
