"""Places of triangles of matrices, for indexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.tensor.tensor import Tensor, check_device, from_numpy


def tril_indices(
    rows: int, columns: int | None = None, offset: int = 0, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Rows and columns of the elements on and below the diagonal `offset`: (2, count), int64.

    >>> rb.tril_indices(2, 2)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return _places("tril_indices", np.tril_indices, rows, columns, offset, dtype, device)


def triu_indices(
    rows: int, columns: int | None = None, offset: int = 0, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Rows and columns of the elements on and above the diagonal `offset`: (2, count), int64.

    >>> rb.triu_indices(2, 2)
    tensor([[0, 0, 1],
            [0, 1, 1]])
    """
    return _places("triu_indices", np.triu_indices, rows, columns, offset, dtype, device)


def _places(
    name: str,
    places: Callable[..., Any],
    rows: int,
    columns: int | None,
    offset: int,
    dtype: Any,
    device: Any,
) -> Tensor:
    check_device(device)
    of = dtype_of(int if dtype is None else dtype)
    if not of.is_integer:
        raise DTypeError(f"{name}: places are integers, not {of.name}")
    width = rows if columns is None else columns
    if rows < 0 or width < 0:
        raise ShapeError(f"{name}: a matrix of {rows} rows and {width} columns")
    return from_numpy(np.stack(places(rows, offset, width)).astype(of.numpy), copy=False)
