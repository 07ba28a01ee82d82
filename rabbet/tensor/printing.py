"""How tensors are shown: NumPy's layout, with options under NumPy's and PyTorch's names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rabbet.base import dtypes
from rabbet.base.dtypes import DType

HALF_DIGITS = 5
SHOWN_WITHOUT_DTYPE = (dtypes.float32, dtypes.int64, dtypes.bool_)
PROFILES: dict[str, dict[str, Any]] = {  # PyTorch's
    "default": {},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": 2**63 - 1, "edgeitems": 3, "linewidth": 80},
}


@dataclass(frozen=True)
class _Options:
    """None: as NumPy's own options say."""

    precision: int | None = None
    threshold: int | None = None
    edgeitems: int | None = None
    linewidth: int | None = None
    suppress: bool | None = None
    sci_mode: bool | None = None


_options = _Options()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    *,
    suppress: bool | None = None,
    sci_mode: bool | None = None,
    profile: str | None = None,
) -> None:
    """Set how tensors are printed; what is left out stays as it is.

    `precision` digits after the point, at most; more than `threshold` elements are shortened to
    `edgeitems` at each end; lines are `linewidth` characters long. `sci_mode` True writes floats as
    1.0e+00, False never; `suppress=True` writes small ones as 0, as in NumPy. `profile` "default",
    "short" or "full" sets all of it first; "default" follows NumPy's own options.

    >>> rb.set_printoptions(precision=2)
    >>> rb.tensor([1 / 3, 2.0])
    tensor([0.33, 2.  ])
    >>> rb.set_printoptions(profile="default")
    """
    global _options
    start = _options
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(f"set_printoptions: profile is {profile!r}, not one of {[*PROFILES]}")
        start = _Options(**PROFILES[profile])
    given: dict[str, Any] = {"precision": precision, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in given.items():
        if value is not None and (not isinstance(value, int) or value < 0):
            raise ValueError(f"set_printoptions: {name}={value!r} is not a whole number from 0")
    if threshold is not None:
        given["threshold"] = int(min(threshold, 2**63 - 1))
    given |= {"suppress": suppress, "sci_mode": sci_mode}
    _options = replace(start, **{k: v for k, v in given.items() if v is not None})


def get_printoptions() -> dict[str, Any]:
    """What `set_printoptions` has set; None follows NumPy's own options.

    >>> rb.get_printoptions()["edgeitems"] is None
    True
    """
    return asdict(_options)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Within it tensors are printed with these options (see `set_printoptions`).

    >>> with rb.printoptions(precision=1):
    ...     print(rb.tensor([0.125]))
    tensor([0.1])
    """
    global _options
    before = _options
    try:
        set_printoptions(**options)
        yield
    finally:
        _options = before


def show(array: np.ndarray, dtype: DType, requires_grad: bool) -> str:
    """`tensor([1., 2.], dtype=float64)`: what `repr` gives."""
    shape, size = array.shape, array.size
    body = _body(array, dtype)
    extra = []
    if not size and shape != (0,) or "..." in body:
        extra.append(f"shape={shape}")
    if dtype not in SHOWN_WITHOUT_DTYPE:
        extra.append(f"dtype={dtype!r}")
    if requires_grad:
        extra.append("requires_grad=True")
    return f"tensor({', '.join([body, *extra])})"


def _body(array: np.ndarray, dtype: DType) -> str:
    o = _options
    if dtype is dtypes.bfloat16:  # NumPy does not know how to print these
        array = array.astype(np.float32)
    precision = HALF_DIGITS if dtype.is_half and o.precision is None else o.precision
    return np.array2string(
        array,
        separator=", ",
        prefix="tensor(",
        precision=precision,
        threshold=o.threshold,
        edgeitems=o.edgeitems,
        max_line_width=o.linewidth,
        suppress_small=o.suppress,
        formatter=None if o.sci_mode is None else _formatter(array, precision, o.sci_mode),
    )


def _formatter(array: np.ndarray, precision: int | None, is_scientific: bool) -> Any:
    digits = np.get_printoptions()["precision"] if precision is None else precision
    written = np.format_float_scientific if is_scientific else np.format_float_positional
    parts = array.view(array.real.dtype) if array.dtype.kind == "c" and array.ndim else array.real
    ends = [f(parts) for f in (np.max, np.min)] if array.size and parts.dtype.kind == "f" else []
    width = max((len(written(x, precision=digits, unique=False)) for x in ends), default=0)

    def real(x: Any) -> str:
        return written(x, precision=digits, unique=False).rjust(width)

    def pair(x: Any) -> str:
        sign = "" if np.signbit(x.imag) else "+"
        return f"{real(x.real)}{sign}{real(x.imag).strip()}j"

    return {"float_kind": real, "complex_kind": pair}
