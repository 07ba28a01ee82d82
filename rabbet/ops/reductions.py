"""Reductions: primitives over canonical axes, and the array API's functions as composites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from rabbet.base import dtypes, sizes
from rabbet.base.dtypes import DType, bool_, int64, uint8
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import Shape, axes_of, axis_of, show
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.graph.op import op
from rabbet.graph.sample import ALL, FLOATS, NUMERIC, Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import cast, divide, multiply, subtract
from rabbet.ops.compare import equal, where
from rabbet.ops.create import extent, full, number
from rabbet.ops.index_maps import expand, reshape

Axes: TypeAlias = int | tuple[int, ...] | None

# ---- primitives ------------------------------------------------------------------------------


def _shape(x: Spec, axis: tuple[int, ...], keepdims: bool) -> Shape:
    return kept_shape(x.shape, axis) if keepdims else left_shape(x.shape, axis)


def kept_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """`shape` with size 1 at the reduced axes."""
    return tuple(1 if a in axes else d for a, d in enumerate(shape))


def left_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """`shape` without the reduced axes."""
    return tuple(d for a, d in enumerate(shape) if a not in axes)


def _rule(name: str, result: DType | None = None, empty: bool = False) -> Callable[..., Spec]:
    def infer(x: Spec, axis: tuple[int, ...], keepdims: bool) -> Spec:
        if axes_of(name, axis, x.ndim) != tuple(axis):
            raise ShapeError(f"{name}: axes {show(axis)} are not sorted and non-negative")
        if not empty:
            _check_not_empty(name, x.shape, axis)
        return Spec(_shape(x, axis, keepdims), result or x.dtype, x.device)

    return infer


def _check_not_empty(name: str, shape: Shape, axes: tuple[int, ...]) -> None:
    if any(shape[a] == 0 for a in axes):
        raise ShapeError(f"{name}: {show(shape)} has no elements along axes {show(axes)}")


def _samples(dtypes_: tuple[str, ...] = FLOATS, kind: str = "float", empty: bool = True) -> Any:
    cases = [
        *(((3, 4), (1,), False), ((3, 4), (0,), True), ((2, 3, 4), (0, 2), False)),
        *(((2, 70), (1,), False), ((2, 3, 9), (1, 2), True), ((), (), False)),
        *(((1, 1), (0, 1), False), ((0, 3), (1,), False), ((3,), (), True)),
    ]
    cases += [((0, 3), (0,), False), ((2, 0), (0, 1), True)] if empty else []
    return lambda: [
        Sample((Draw(s, kind=kind),), {"axis": a, "keepdims": k}, dtypes_) for s, a, k in cases
    ]


@op(
    "reduce",
    public=False,
    lower="sum",
    infer=_rule("sum", empty=True),
    reference=lambda x, axis, keepdims: _wide_sum(x, axis, keepdims),
    samples=_samples(NUMERIC),
    onnx="ReduceSum",
)
def reduce_sum(x: Value, axis: tuple[int, ...], keepdims: bool) -> Value:
    """The sum over `axis`, in the dtype of `x`; 0 where there is nothing."""


def _wide_sum(x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    return np.asarray(np.sum(x, axis, wide, keepdims=keepdims))


@reduce_sum.gradient
def _reduce_sum_gradient(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> tuple[Any]:
    return (spread(g, x.shape, axis, keepdims),)


def spread(g: Any, shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Any:
    """The result of a reduction, repeated over the shape it came from."""
    return expand(g if keepdims else reshape(g, kept_shape(shape, axes)), shape)


@op(
    "reduce",
    public=False,
    lower="prod",
    infer=_rule("prod", empty=True),
    reference=lambda x, axis, keepdims: np.prod(
        x, axis, np.float64 if x.dtype.kind == "f" else x.dtype, keepdims=keepdims
    ),
    samples=_samples(NUMERIC, "positive"),
    onnx="ReduceProd",
)
def reduce_prod(x: Value, axis: tuple[int, ...], keepdims: bool) -> Value:
    """The product over `axis`, in the dtype of `x`; 1 where there is nothing."""


@reduce_prod.gradient
def _reduce_prod_gradient(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> tuple[Any]:
    # With one zero only the zero itself has a slope; with more, nothing has. This is exact, but the
    # slope of the slope is that of each branch: it misses terms between zeros.
    zero = equal(x, 0.0)
    safe = where(zero, 1.0, x)
    zeros_beside = subtract(reduce_sum(cast(zero, int64), axis, True), cast(zero, int64))
    others = divide(reduce_prod(safe, axis, True), safe)
    slope = where(equal(zeros_beside, 0), others, 0.0)
    return (multiply(spread(g, x.shape, axis, keepdims), slope),)


@op(
    "reduce",
    public=False,
    lower="max",
    infer=_rule("max"),
    reference=lambda x, axis, keepdims: np.max(x, axis, keepdims=keepdims),
    samples=_samples(ALL, "distinct", empty=False),
    onnx="ReduceMax",
)
def reduce_max(x: Value, axis: tuple[int, ...], keepdims: bool) -> Value:
    """The largest over `axis`; NaN wins. The gradient is split evenly among equal ones."""


@op(
    "reduce",
    public=False,
    lower="min",
    infer=_rule("min"),
    reference=lambda x, axis, keepdims: np.min(x, axis, keepdims=keepdims),
    samples=_samples(ALL, "distinct", empty=False),
    onnx="ReduceMin",
)
def reduce_min(x: Value, axis: tuple[int, ...], keepdims: bool) -> Value:
    """The smallest over `axis`; NaN wins. The gradient is split evenly among equal ones."""


def _extreme_gradient(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> tuple[Any]:
    best = cast(equal(x, spread(y, x.shape, axis, keepdims)), g.dtype)
    share = divide(best, reduce_sum(best, axis, True))
    return (multiply(spread(g, x.shape, axis, keepdims), share),)


reduce_max.gradient(_extreme_gradient)
reduce_min.gradient(_extreme_gradient)


def _arg_reference(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
        return np.asarray(function(x, axis[0], keepdims=keepdims), np.int64)

    return reference


def _arg_rule(name: str) -> Callable[..., Spec]:
    inner = _rule(name, int64)

    def infer(x: Spec, axis: tuple[int, ...], keepdims: bool) -> Spec:
        if len(axis) != 1:
            raise ShapeError(f"{name}: takes one axis, not {show(axis)}")
        return inner(x, axis, keepdims)

    return infer


def _arg_samples() -> list[Sample]:
    cases = (((3, 4), 1, False), ((3, 4), 0, True), ((2, 70), 1, False), ((1,), 0, False))
    return [
        Sample((Draw(s, kind=kind),), {"axis": (a,), "keepdims": k}, NUMERIC)
        for s, a, k in cases
        for kind in ("distinct", "float")
    ]


@op(
    "reduce",
    public=False,
    differentiable=False,
    lower="argmax",
    infer=_arg_rule("argmax"),
    reference=_arg_reference(np.argmax),
    samples=_arg_samples,
    onnx="ArgMax",
)
def reduce_argmax(x: Value, axis: tuple[int, ...], keepdims: bool) -> Value:
    """Where along the one `axis` the largest is (first NaN, else first of equals); int64."""


@op(
    "reduce",
    public=False,
    differentiable=False,
    lower="argmin",
    infer=_arg_rule("argmin"),
    reference=_arg_reference(np.argmin),
    samples=_arg_samples,
    onnx="ArgMin",
)
def reduce_argmin(x: Value, axis: tuple[int, ...], keepdims: bool) -> Value:
    """Where along the one `axis` the smallest is (first NaN, else first of equals); int64."""


def _sum_to_axes(x: Any, shape: Shape) -> tuple[int, ...]:
    extra = x.ndim - len(shape)
    stretched = [
        extra + i
        for i, (d, e) in enumerate(zip(x.shape[extra:], shape, strict=True))
        if not sizes.same(d, e) and e == 1
    ]
    return (*range(extra), *stretched)


def _sum_to_array(x: np.ndarray, shape: Any) -> np.ndarray:
    return _wide_sum(x, _sum_to_axes(x, shape), False).reshape(shape)


@op(
    "composite",
    public=False,
    sizes=("shape",),
    reference=_sum_to_array,
    samples=lambda: [
        Sample((Draw(s),), {"shape": t})
        for s, t in (((2, 3, 4), (3, 1)), ((3, 4), (3, 4)), ((2, 3), ()), ((0, 3), (1, 3)))
    ],
)
def sum_to(x: Value, shape: tuple[Dim, ...]) -> Value:
    """The opposite of broadcasting: sums the axes along which `shape` was stretched."""
    axes = _sum_to_axes(x, shape)
    return reshape(reduce_sum(x, axes, False), shape) if axes else x


# ---- sums, means, extremes ---------------------------------------------------------------------


def reduction_samples(
    dtypes_: tuple[str, ...] = FLOATS, kind: str = "float", empty: bool = True, **extra: Any
) -> Callable[[], list[Sample]]:
    """Samples of a public reduction: every form of axis; empty ones where the op takes them."""
    cases: list[tuple[Any, Axes, bool]] = [
        *(((3, 4), None, False), ((3, 4), -1, True), ((2, 3, 4), (0, -1), False)),
        *(((2, 70), 1, False), ((), None, False), ((2, 3), (), False)),
    ]
    cases += [((0, 3), 0, False), ((0,), None, True)] if empty else []
    return lambda: [
        Sample((Draw(s, kind=kind),), {"axis": a, "keepdims": k} | extra, dtypes_)
        for s, a, k in cases
    ]


def sum_dtype(x: DType, dtype: DType | None) -> DType:
    """The dtype of a sum: as told; floats keep theirs, other kinds widen to 64 bits."""
    if dtype is not None:
        return dtype
    if x.kind in "bi":
        return int64
    return dtypes.uint64 if x.kind == "u" else x


def _sum_reference(x: np.ndarray, axis: Axes, dtype: DType | None, keepdims: bool) -> np.ndarray:
    wanted = sum_dtype(dtypes.dtype_of(x.dtype), dtype).numpy
    kind = np.float64 if wanted.kind == "f" else wanted
    return np.asarray(np.sum(x, axis, kind, keepdims=keepdims))


@op(
    "composite",
    reference=_sum_reference,
    samples=lambda: [
        *reduction_samples(ALL, dtype=None)(),
        *reduction_samples(("float32", "int8"), dtype=dtypes.float64)(),
    ],
    onnx="ReduceSum",
    autocast="wide",
)
def sum_(x: Value, axis: Axes = None, dtype: DType | None = None, keepdims: bool = False) -> Value:
    """The sum over `axis` (None: all); 0 where there is nothing.

    dtype: floats keep theirs, bools and signed integers give int64, unsigned ones uint64.

    >>> rb.asarray([[1, 2], [3, 4]]).sum(axis=1)
    tensor([3, 7])
    """
    wanted = sum_dtype(x.dtype, dtype)
    return reduce_sum(cast(x, wanted), axes_of("sum", axis, x.ndim), keepdims)


def _prod_reference(x: np.ndarray, axis: Axes, dtype: DType | None, keepdims: bool) -> np.ndarray:
    wanted = sum_dtype(dtypes.dtype_of(x.dtype), dtype).numpy
    return np.prod(x, axis, np.float64 if wanted.kind == "f" else wanted, keepdims=keepdims)


@op(
    "composite",
    reference=_prod_reference,
    samples=reduction_samples(NUMERIC, "positive", dtype=None),
    onnx="ReduceProd",
    autocast="wide",
)
def prod(x: Value, axis: Axes = None, dtype: DType | None = None, keepdims: bool = False) -> Value:
    """The product over `axis` (None: all); 1 where there is nothing. dtype as in `sum`.

    >>> rb.asarray([[1, 2], [3, 4]]).prod(axis=0)
    tensor([3, 8])
    """
    wanted = sum_dtype(x.dtype, dtype)
    return reduce_prod(cast(x, wanted), axes_of("prod", axis, x.ndim), keepdims)


def as_float(x: Any) -> Any:
    """Integers and bools as the default float."""
    return x if x.dtype.is_inexact else cast(x, dtypes.default_float)


def count_along(x: Any, axes: tuple[int, ...]) -> Dim:
    """How many elements one result of a reduction has."""
    return sizes.product([x.shape[a] for a in axes])


def as_double(x: np.ndarray) -> np.ndarray:
    """For references: in double precision."""
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def rounded(x: np.ndarray, found: Any) -> np.ndarray:
    """For references: as the float dtype that `x` becomes."""
    return np.asarray(found, x.dtype if x.dtype.kind in "fc" else np.float32)


def _mean_reference(x: np.ndarray, axis: Axes, keepdims: bool) -> np.ndarray:
    axes = axes_of("mean", axis, x.ndim)
    total = np.sum(as_double(x), axes, keepdims=keepdims)
    return rounded(x, total / np.prod([x.shape[a] for a in axes], dtype=np.float64))


@op(
    "composite",
    reference=_mean_reference,
    samples=lambda: [
        *reduction_samples(("int32", *FLOATS), empty=False)(),
        Sample((Draw((0, 3)),), {"axis": 0, "keepdims": False}, grad=False),
    ],
    onnx="ReduceMean",
    autocast="wide",
)
def mean(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """The average over `axis` (None: all); NaN where there is nothing. Integers become float32.

    >>> rb.asarray([[1.0, 2.0], [3.0, 5.0]]).mean(axis=1, keepdims=True)
    tensor([[1.5],
            [4. ]])
    """
    axes = axes_of("mean", axis, x.ndim)
    x = as_float(x)
    return divide(reduce_sum(x, axes, keepdims), extent.like(x, count_along(x, axes), x.dtype))


@op(
    "composite",
    reference=lambda x, axis, keepdims: np.max(x, axis, keepdims=keepdims),
    samples=reduction_samples(ALL, "distinct", empty=False),
    onnx="ReduceMax",
)
def max_(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """The largest over `axis` (None: all); NaN wins. ShapeError where there is nothing.

    Where several are equal each gets the same share of the gradient.

    >>> rb.asarray([[1, 2], [4, 3]]).max(axis=1)
    tensor([2, 4])
    """
    return reduce_max(x, axes_of("max", axis, x.ndim), keepdims)


@op(
    "composite",
    reference=lambda x, axis, keepdims: np.min(x, axis, keepdims=keepdims),
    samples=reduction_samples(ALL, "distinct", empty=False),
    onnx="ReduceMin",
)
def min_(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """The smallest over `axis` (None: all); NaN wins. ShapeError where there is nothing.

    Where several are equal each gets the same share of the gradient.

    >>> rb.asarray([[1, 2], [4, 3]]).min(axis=1)
    tensor([1, 3])
    """
    return reduce_min(x, axes_of("min", axis, x.ndim), keepdims)


def _position(name: str, primitive: Any, x: Any, axis: int | None, keepdims: bool) -> Any:
    if axis is not None and (x.ndim or axis not in (0, -1)):
        return primitive(x, (axis_of(name, axis, x.ndim),), keepdims)
    found = primitive(reshape(x, (sizes.product(x.shape),)), (0,), False)
    return reshape(found, (1,) * x.ndim) if keepdims else found


def _position_samples() -> list[Sample]:
    cases = (((3, 4), None, False), ((3, 4), None, True), ((2, 3, 4), -2, False), ((), None, False))
    return [
        Sample((Draw(s, kind="distinct"),), {"axis": a, "keepdims": k}, NUMERIC)
        for s, a, k in cases
    ]


@op(
    "composite",
    differentiable=False,
    reference=lambda x, axis, keepdims: np.asarray(np.argmax(x, axis, keepdims=keepdims), np.int64),
    samples=_position_samples,
    onnx="ArgMax",
)
def argmax(x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
    """Where the largest is along `axis` (None: of all), the first of equals; int64.

    >>> rb.asarray([[1, 2], [4, 3]]).argmax(axis=1)
    tensor([1, 0])
    """
    return _position("argmax", reduce_argmax, x, axis, keepdims)


@op(
    "composite",
    differentiable=False,
    reference=lambda x, axis, keepdims: np.asarray(np.argmin(x, axis, keepdims=keepdims), np.int64),
    samples=_position_samples,
    onnx="ArgMin",
)
def argmin(x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
    """Where the smallest is along `axis` (None: of all), the first of equals; int64.

    >>> rb.asarray([[1, 2], [4, 3]]).argmin(axis=1)
    tensor([0, 1])
    """
    return _position("argmin", reduce_argmin, x, axis, keepdims)


def _decide(name: str, primitive: Any, x: Any, axis: Axes, keepdims: bool, of_none: bool) -> Any:
    axes = axes_of(name, axis, x.ndim)
    if any(x.shape[a] == 0 for a in axes):
        shape = kept_shape(x.shape, axes) if keepdims else left_shape(x.shape, axes)
        return full(number(x, of_none, bool_), shape)
    return cast(primitive(cast(cast(x, bool_), uint8), axes, keepdims), bool_)


@op(
    "composite",
    differentiable=False,
    reference=lambda x, axis, keepdims: np.any(x, axis, keepdims=keepdims),
    samples=reduction_samples(ALL),
)
def any_(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """Whether any element over `axis` is true (not zero); False where there is nothing.

    >>> rb.asarray([[True, False], [False, False]]).any(axis=1)
    tensor([ True, False])
    """
    return _decide("any", reduce_max, x, axis, keepdims, False)


@op(
    "composite",
    differentiable=False,
    reference=lambda x, axis, keepdims: np.all(x, axis, keepdims=keepdims),
    samples=reduction_samples(ALL),
)
def all_(x: Value, axis: Axes = None, keepdims: bool = False) -> Value:
    """Whether all elements over `axis` are true (not zero); True where there is nothing.

    >>> rb.asarray([[True, True], [True, False]]).all(axis=1)
    tensor([ True, False])
    """
    return _decide("all", reduce_min, x, axis, keepdims, True)
