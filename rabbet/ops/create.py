"""Sources: ops that make tensors from numbers and sizes alone.

Ops without tensor operands are called as `op.like(home, ...)`; `home` is where the result lives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base import dtypes, sizes
from rabbet.base.dtypes import DType, int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.expr.expr import Expr, const, select
from rabbet.expr.expr import cast as cast_expr
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value, lookup

Index = tuple[Expr, ...]
Dims = Callable[[Dim], Expr]


def number(home: Any, value: Any, dtype: DType) -> Any:
    """A Python number or a size as a 0-d tensor where `home` lives."""
    if isinstance(value, sizes.SizeExpr):
        return extent.like(home, value, dtype)
    return constant.like(home, value, dtype)


def shape_of(name: str, shape: Any) -> tuple[Dim, ...]:
    """A shape attribute as a tuple (one size may stand alone); ShapeError for a negative size."""
    found = tuple(shape) if isinstance(shape, list | tuple) else (shape,)
    if any(isinstance(d, int) and d < 0 for d in found):
        raise ShapeError(f"{name}: shape {show(found)} has a negative size")
    return found


# ---- sources -----------------------------------------------------------------------------------


@op(
    "source",
    public=False,
    infer=lambda value, dtype: Spec((), dtype),
    lower=lambda index, dims, value, dtype: const(value, dtype),
    reference=lambda value, dtype: np.array(value).astype(dtype.numpy),
    samples=lambda: [
        Sample((), {"value": 1.5, "dtype": dtypes.float32}),
        Sample((), {"value": -1, "dtype": dtypes.uint8}),
        Sample((), {"value": True, "dtype": dtypes.bool_}),
    ],
    onnx="Constant",
)
def constant(value: float, dtype: DType) -> Value:
    """A 0-d literal: () -> ()."""


@op(
    "source",
    public=False,
    sizes=("size",),
    infer=lambda size, dtype: Spec((), dtype),
    lower=lambda index, dims, size, dtype: cast_expr(dims(size), dtype),
    reference=lambda size, dtype: np.asarray(size, dtype.numpy),
    samples=lambda: [Sample((), {"size": 7, "dtype": dtypes.float32})],
)
def extent(size: Dim, dtype: DType) -> Value:
    """A size as a 0-d number, so that bodies may compute with sizes that vary between runs."""


@op(
    "source",
    public=False,
    sizes=("shape",),
    infer=lambda shape, axis, dtype: Spec(shape_of("iota", shape), dtype),
    lower=lambda index, dims, shape, axis, dtype: cast_expr(index[axis], dtype),
    reference=lambda shape, axis, dtype: np.indices(shape)[axis].astype(dtype.numpy),
    samples=lambda: [
        Sample((), {"shape": (2, 3), "axis": 1, "dtype": int64}),
        Sample((), {"shape": (4, 1), "axis": 0, "dtype": dtypes.float32}),
        Sample((), {"shape": (0,), "axis": 0, "dtype": int64}),
    ],
    onnx="Range",
)
def iota(shape: tuple[Dim, ...], axis: int, dtype: DType) -> Value:
    """Every element is its own position along `axis` (not negative)."""


def _filled_samples() -> list[Sample]:
    return [Sample((), {"shape": s, "dtype": dtypes.float64}) for s in ((2, 3), (), (0,))]


@op(
    "source",
    sizes=("shape",),
    infer=lambda shape, dtype: Spec(shape_of("zeros", shape), dtype or dtypes.default_float),
    lower=lambda index, dims, shape, dtype: const(0, dtype or dtypes.default_float),
    reference=lambda shape, dtype: np.zeros(shape, (dtype or dtypes.default_float).numpy),
    samples=_filled_samples,
)
def zeros(shape: tuple[Dim, ...], dtype: DType | None = None) -> Value:
    """A tensor of zeros; dtype float32 if left out.

    >>> rb.zeros((2,))
    tensor([0., 0.])
    """


@op(
    "source",
    sizes=("shape",),
    infer=lambda shape, dtype: Spec(shape_of("ones", shape), dtype or dtypes.default_float),
    lower=lambda index, dims, shape, dtype: const(1, dtype or dtypes.default_float),
    reference=lambda shape, dtype: np.ones(shape, (dtype or dtypes.default_float).numpy),
    samples=_filled_samples,
)
def ones(shape: tuple[Dim, ...], dtype: DType | None = None) -> Value:
    """A tensor of ones; dtype float32 if left out.

    >>> rb.ones((2,))
    tensor([1., 1.])
    """


def _full_spec(fill_value: Spec, shape: Any) -> Spec:
    if fill_value.ndim:
        raise ShapeError(f"full: the fill value has shape {show(fill_value.shape)}, it must be ()")
    return fill_value.with_shape(shape_of("full", shape))


@op(
    "source",
    sizes=("shape",),
    method=None,
    infer=_full_spec,
    lower=lambda index, dims, fill_value, shape: fill_value,
    reference=lambda fill_value, shape: np.full(shape, fill_value, fill_value.dtype),
    samples=lambda: [
        Sample((Draw(()),), {"shape": (2, 3)}),
        Sample((Draw(()),), {"shape": ()}),
        Sample((Draw(()),), {"shape": (0, 2)}),
    ],
    onnx="ConstantOfShape",
)
def full(fill_value: Value, shape: tuple[Dim, ...]) -> Value:
    """A tensor whose every element is the 0-d `fill_value`: () -> shape; the dtype of the value."""


@full.gradient
def _full_gradient(g: Any, y: Any, fill_value: Any, shape: Any) -> tuple[Any]:
    return (lookup("sum_to")(g, ()),)


@full.batching
def _full_batch(size: int, flags: Flags, fill_value: Any, shape: Any) -> Any:
    wanted = (size, *shape_of("full", shape))
    return lookup("expand")(
        lookup("reshape")(fill_value, (size, *(1,) * (len(wanted) - 1))), wanted
    )


def _eye_spec(n_rows: Dim, n_cols: Dim | None, k: int, dtype: DType | None) -> Spec:
    shape = (n_rows, n_rows if n_cols is None else n_cols)
    return Spec(shape_of("eye", shape), dtype or dtypes.default_float)


def _eye_lower(
    index: Index, dims: Dims, n_rows: Dim, n_cols: Dim | None, k: int, dtype: DType | None
) -> Expr:
    of = dtype or dtypes.default_float
    return select((index[0] + k).equals(index[1]), const(1, of), const(0, of))


@op(
    "source",
    sizes=("n_rows", "n_cols"),
    infer=_eye_spec,
    lower=_eye_lower,
    reference=lambda n_rows, n_cols, k, dtype: np.eye(
        n_rows, n_cols, k, (dtype or dtypes.default_float).numpy
    ),
    samples=lambda: [
        Sample((), {"n_rows": 3, "n_cols": None, "k": 0, "dtype": None}),
        Sample((), {"n_rows": 3, "n_cols": 5, "k": 1, "dtype": dtypes.float64}),
        Sample((), {"n_rows": 4, "n_cols": 2, "k": -1, "dtype": int64}),
        Sample((), {"n_rows": 0, "n_cols": 2, "k": 0, "dtype": None}),
    ],
    onnx="EyeLike",
)
def eye(n_rows: Dim, n_cols: Dim | None = None, k: int = 0, dtype: DType | None = None) -> Value:
    """Ones on the k-th diagonal, zeros elsewhere: -> (n_rows, n_cols). Example: `rb.eye(3)`.

    >>> rb.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """


def _like_samples() -> list[Sample]:
    return [
        Sample((Draw((2, 3)),), {"dtype": None}),
        Sample((Draw((0,)),), {"dtype": dtypes.int32}),
        Sample((Draw(()),), {"dtype": None}),
    ]


@op(
    "composite",
    differentiable=False,
    method=None,
    reference=lambda x, dtype: np.zeros(x.shape, dtype.numpy if dtype else x.dtype),
    samples=_like_samples,
)
def zeros_like(x: Value, dtype: DType | None = None) -> Value:
    """Zeros with the shape of `x`, and its dtype unless another is given."""
    return zeros.like(x, x.shape, dtype or x.dtype)


@op(
    "composite",
    differentiable=False,
    method=None,
    reference=lambda x, dtype: np.ones(x.shape, dtype.numpy if dtype else x.dtype),
    samples=_like_samples,
)
def ones_like(x: Value, dtype: DType | None = None) -> Value:
    """Ones with the shape of `x`, and its dtype unless another is given.

    >>> rb.ones_like(rb.asarray([5, 6]))
    tensor([1, 1])
    """
    return ones.like(x, x.shape, dtype or x.dtype)
