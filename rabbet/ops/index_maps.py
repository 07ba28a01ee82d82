"""Ops that move elements and compute nothing.

The primitives are index maps (see `lower` of each: output index -> input index and validity).
Their attributes are canonical: no negative axes, slices inside the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import bool_, int64
from rabbet.base.errors import ShapeError
from rabbet.base.shapes import Shape, show
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.expr.expr import Expr, const
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import ALL, Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.create import shape_of, zeros_like

Index: TypeAlias = tuple[Expr, ...]
Dims: TypeAlias = Callable[[Dim], Expr]
Lowered: TypeAlias = tuple[Index, Expr | None]


def _one(x: Any) -> Spec:
    """The Spec of one of the examples along axis 0."""
    return Spec(x.shape[1:], x.dtype, x.device)


def aligned(x: Any, flag: bool, ndim: int) -> Any:
    """Examples with axes of size 1, each of rank `ndim`: axis 0 stays first in broadcasting."""
    missing = ndim - (x.ndim - 1)
    if not flag or missing == 0:
        return x
    return lookup("reshape")(x, (x.shape[0], *(1,) * missing, *x.shape[1:]))


# ---- permute -----------------------------------------------------------------------------------


def _order(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a % len(axes) for a in axes)


def _permute_spec(x: Spec, axes: tuple[int, ...]) -> Spec:
    if len(axes) != x.ndim or any(not -x.ndim <= a < x.ndim for a in axes):
        raise ShapeError(f"permute: {show(x.shape)} needs {x.ndim} axes, not {show(axes)}")
    if sorted(_order(axes)) != list(range(x.ndim)):
        raise ShapeError(f"permute: axes {show(axes)} name an axis twice")
    return x.with_shape(tuple(x.shape[a] for a in axes))


def _permute_lower(index: Index, dims: Dims, spec: Spec, axes: tuple[int, ...]) -> Lowered:
    order = _order(axes)
    return tuple(index[order.index(a)] for a in range(len(order))), None


@op(
    "movement",
    infer=_permute_spec,
    lower=_permute_lower,
    reference=np.transpose,
    samples=lambda: [
        Sample((Draw((2, 3, 4)),), {"axes": (2, 0, 1)}, ALL),
        Sample((Draw((2, 3)),), {"axes": (-1, 0)}),
        Sample((Draw(()),), {"axes": ()}),
        Sample((Draw((0, 3)),), {"axes": (1, 0)}),
    ],
    onnx="Transpose",
)
def permute(x: Value, axes: tuple[int, ...]) -> Value:
    """The axes in another order: axis i becomes what axes[i] was. Example: `x.permute(0, 2, 1)`.

    >>> rb.zeros((2, 3, 4)).permute(2, 0, 1).shape
    (4, 2, 3)
    """


@permute.gradient
def _permute_gradient(g: Any, y: Any, x: Any, axes: tuple[int, ...]) -> tuple[Any]:
    order = _order(axes)
    return (permute(g, tuple(order.index(a) for a in range(len(order)))),)


@permute.batching
def _permute_batch(size: int, flags: Flags, x: Any, axes: tuple[int, ...]) -> Any:
    return permute(x, (0, *(a % (x.ndim - 1) + 1 for a in axes)))


# ---- reshape -----------------------------------------------------------------------------------


def _reshape_spec(x: Spec, shape: Any) -> Spec:
    wanted = tuple(shape) if isinstance(shape, list | tuple) else (shape,)
    unknown = [i for i, d in enumerate(wanted) if isinstance(d, int) and d < 0]
    if len(unknown) > 1 or any(wanted[i] != -1 for i in unknown):
        raise ShapeError(f"reshape: {show(wanted)} may hold one -1 and no other negative size")
    if unknown:
        known = sizes.product([d for i, d in enumerate(wanted) if i != unknown[0]])
        if known == 0 or x.elements % known != 0:
            raise ShapeError(
                f"reshape: {show(x.shape)} to {show(wanted)}: {x.elements} elements cannot be "
                f"divided by {known}"
            )
        wanted = tuple(x.elements // known if i == unknown[0] else d for i, d in enumerate(wanted))
    total = sizes.product(wanted)
    if not sizes.same(total, x.elements) and total != x.elements:
        raise ShapeError(
            f"reshape: {show(x.shape)} to {show(wanted)}: {x.elements} elements are not {total}"
        )
    return x.with_shape(wanted)


@op(
    "movement",
    sizes=("shape",),
    infer=_reshape_spec,
    reference=np.reshape,
    samples=lambda: [
        Sample((Draw((2, 6)),), {"shape": (3, 4)}, ALL),
        Sample((Draw((2, 6)),), {"shape": (-1, 2)}),
        Sample((Draw((4,)),), {"shape": (2, 1, 2)}),
        Sample((Draw(()),), {"shape": (1, 1)}),
        Sample((Draw((1,)),), {"shape": ()}),
        Sample((Draw((0, 3)),), {"shape": (3, 0, 2)}),
    ],
    onnx="Reshape",
)
def reshape(x: Value, shape: tuple[int, ...]) -> Value:
    """The same elements in row-major order under another shape; one size may be -1 (what is left).

    Raises ShapeError where the numbers of elements differ. Example: `x.reshape((32, -1))`.

    >>> rb.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """


@reshape.gradient
def _reshape_gradient(g: Any, y: Any, x: Any, shape: Shape) -> tuple[Any]:
    return (reshape(g, x.shape),)


@reshape.batching
def _reshape_batch(size: int, flags: Flags, x: Any, shape: Shape) -> Any:
    return reshape(x, (size, *_reshape_spec(_one(x), shape).shape))


# ---- expand ------------------------------------------------------------------------------------


def _expanded(x: Any, shape: Any) -> Shape:
    """The shape attribute with every -1 (keep the size) filled in."""
    wanted = tuple(shape) if isinstance(shape, list | tuple) else (shape,)
    extra = len(wanted) - x.ndim
    return tuple(
        x.shape[i - extra] if isinstance(d, int) and d == -1 and i >= extra else d
        for i, d in enumerate(wanted)
    )


def _expand_spec(x: Spec, shape: Shape) -> Spec:
    wanted = shape_of("expand", _expanded(x, shape))
    extra = len(wanted) - x.ndim
    for old, new in zip(x.shape, wanted[extra:], strict=False) if extra >= 0 else ():
        if not sizes.same(old, new) and old != 1 and old != new:
            extra = -1
    if extra < 0:
        raise ShapeError(f"expand: {show(x.shape)} does not broadcast to {show(wanted)}")
    return x.with_shape(wanted)


def _expand_lower(index: Index, dims: Dims, spec: Spec, shape: Shape) -> Lowered:
    extra = len(index) - spec.ndim
    pairs = zip(index[extra:], spec.shape, _expanded(spec, shape)[extra:], strict=True)
    return tuple(
        i if sizes.same(old, new) or old != 1 else const(0, int64) for i, old, new in pairs
    ), None


def _expand_array(x: np.ndarray, shape: Any) -> np.ndarray:
    wanted: Any = _expanded(x, shape)
    return np.broadcast_to(x, wanted).copy()


@op(
    "movement",
    sizes=("shape",),
    infer=_expand_spec,
    lower=_expand_lower,
    reference=_expand_array,
    samples=lambda: [
        Sample((Draw((3, 1)),), {"shape": (3, 4)}, ALL),
        Sample((Draw((4,)),), {"shape": (2, 3, 4)}),
        Sample((Draw((3, 1)),), {"shape": (2, -1, 4)}),
        Sample((Draw(()),), {"shape": (2,)}),
        Sample((Draw((1,)),), {"shape": (0,)}),
        Sample((Draw((2, 1)),), {"shape": (2, 1)}),
    ],
    onnx="Expand",
)
def expand(x: Value, shape: tuple[int, ...]) -> Value:
    """Broadcast to `shape`: axes of size 1 repeat, leading axes are added, -1 keeps a size.

    >>> rb.expand(rb.asarray([1, 2]), (2, 2))
    tensor([[1, 2],
            [1, 2]])
    """


@expand.gradient
def _expand_gradient(g: Any, y: Any, x: Any, shape: Shape) -> tuple[Any]:
    return (lookup("sum_to")(g, x.shape),)


@expand.batching
def _expand_batch(size: int, flags: Flags, x: Any, shape: Shape) -> Any:
    wanted = _expanded(_one(x), shape)
    ones = (1,) * (len(wanted) - (x.ndim - 1))
    return expand(reshape(x, (size, *ones, *x.shape[1:])), (size, *wanted))


# ---- slice -------------------------------------------------------------------------------------


def slice_length(start: Dim, stop: Dim, step: Dim) -> Dim:
    """How many elements a canonical slice has (start and stop lie in order of the step)."""
    if step == 1:
        return stop - start
    if step > 0:
        return (stop - start + (step - 1)) // step
    return (start - stop - step - 1) // -step


def _slice_spec(x: Spec, start: Shape, stop: Shape, step: Shape) -> Spec:
    if not len(start) == len(stop) == len(step) == x.ndim:
        raise ShapeError(f"slice: {show(x.shape)} needs start, stop and step for every axis")
    for n, a, b, s in zip(x.shape, start, stop, step, strict=True):
        if all(isinstance(v, int) for v in (n, a, b, s)) and not _inside(n, a, b, s):
            raise ShapeError(f"slice: {a}:{b}:{s} does not lie in an axis of size {n}")
    return x.with_shape(tuple(map(slice_length, start, stop, step)))


def _inside(n: Any, start: Any, stop: Any, step: Any) -> bool:
    if step == 0:
        return False
    return 0 <= start <= stop <= n if step > 0 else -1 <= stop <= start < max(n, 1)


def _slice_lower(
    index: Index, dims: Dims, spec: Spec, start: Shape, stop: Shape, step: Shape
) -> Lowered:
    found = []
    for i, a, s in zip(index, start, step, strict=True):
        first = const(0, int64) if isinstance(a, int) and a == 0 else dims(a)
        if s == 1:
            found.append(first + i)
        elif s == -1:
            found.append(first - i)
        else:
            found.append(first + i * dims(s))
    return tuple(found), None


def _slice_array(
    x: np.ndarray, start: Sequence[int], stop: Sequence[int], step: Sequence[int]
) -> np.ndarray:
    ranges = [np.arange(a, b, s) for a, b, s in zip(start, stop, step, strict=True)]
    return x[np.ix_(*ranges)] if ranges else x


@op(
    "movement",
    public=False,
    sizes=("start", "stop", "step"),
    positions=("start", "stop"),
    infer=_slice_spec,
    lower=_slice_lower,
    reference=_slice_array,
    samples=lambda: [
        Sample((Draw((5, 7)),), {"start": (1, 0), "stop": (4, 7), "step": (1, 3)}, ALL),
        Sample((Draw((5, 7)),), {"start": (4, 6), "stop": (-1, 0), "step": (-1, -2)}),
        Sample((Draw((5,)),), {"start": (2,), "stop": (2,), "step": (1,)}),
        Sample((Draw((5,)),), {"start": (2,), "stop": (2,), "step": (2,)}),
        Sample((Draw(()),), {"start": (), "stop": (), "step": ()}),
        Sample((Draw((1, 3)),), {"start": (0, 2), "stop": (1, -1), "step": (1, -1)}),
    ],
    onnx="Slice",
)
def slice_(x: Value, start: Shape, stop: Shape, step: Shape) -> Value:
    """Elements start, start + step, ... before stop of every axis.

    Canonical: 0 <= start <= stop <= size for a positive step, -1 <= stop <= start for a negative.
    """


@slice_.gradient
def _slice_gradient(g: Any, y: Any, x: Any, start: Shape, stop: Shape, step: Shape) -> tuple[Any]:
    low: list[Dim] = []
    high: list[Dim] = []
    gaps: list[Dim] = []
    backward: list[int] = []
    for axis, (n, a, b, s) in enumerate(zip(x.shape, start, stop, step, strict=True)):
        count = y.shape[axis]
        if s == 1:
            low.append(a)
            high.append(n - b)
            gaps.append(0)
            continue
        if count == 0:
            return (zeros_like(x),)
        reach = (count - 1) * s
        first, last = (a, a + reach) if s > 0 else (a + reach, a)
        low.append(first)
        high.append(n - 1 - last)
        gaps.append((s if s > 0 else -s) - 1)
        if s < 0:
            backward.append(axis)
    g = turn(g, tuple(backward)) if backward else g
    return (pad(g, tuple(low), tuple(high), tuple(gaps)),)


@slice_.batching
def _slice_batch(size: int, flags: Flags, x: Any, start: Shape, stop: Shape, step: Shape) -> Any:
    return slice_(x, (0, *start), (size, *stop), (1, *step))


def turn(x: Any, axes: tuple[int, ...]) -> Any:
    """The order of elements reversed along `axes`."""
    start = tuple(n - 1 if a in axes else 0 for a, n in enumerate(x.shape))
    stop = tuple(-1 if a in axes else n for a, n in enumerate(x.shape))
    return slice_(x, start, stop, tuple(-1 if a in axes else 1 for a in range(x.ndim)))


def later(x: Any, axis: int, by: int, outside: float) -> Any:
    """Elements moved up by `by` along one axis (down if negative), `outside` where none comes."""
    at, none = axis % x.ndim, (0,) * x.ndim
    amounts = tuple(abs(by) if a == at else 0 for a in range(x.ndim))
    wide = pad(x, amounts, none, none, outside) if by > 0 else pad(x, none, amounts, none, outside)
    first = max(-by, 0)
    return cut(wide, at, first, first + x.shape[at])


def cut(x: Any, axis: int, start: Dim, stop: Dim) -> Any:
    """Elements start to stop (in order and in range) of one axis."""
    first = (*(0,) * axis, start, *(0,) * (x.ndim - axis - 1))
    last = (*x.shape[:axis], stop, *x.shape[axis + 1 :])
    return slice_(x, first, last, (1,) * x.ndim)


# ---- pad ---------------------------------------------------------------------------------------


def _padded(n: Dim, low: Dim, high: Dim, interior: Dim) -> Dim:
    if isinstance(interior, int) and interior == 0:
        return n + low + high
    return n + low + high + sizes.maximum(0, n - 1) * interior


def _pad_spec(x: Spec, low: Shape, high: Shape, interior: Shape, fill: float) -> Spec:
    if not len(low) == len(high) == len(interior) == x.ndim:
        raise ShapeError(f"pad: {show(x.shape)} needs low, high and interior for every axis")
    for amounts in (low, high, interior):
        if any(isinstance(d, int) and d < 0 for d in amounts):
            raise ShapeError(f"pad: {show(amounts)} has a negative amount; slice instead")
    return x.with_shape(tuple(map(_padded, x.shape, low, high, interior)))


def _literal(dims: Dims, n: Dim) -> Expr:
    """Where a border ends is written into the code: vectors inside of it need no questions."""
    return const(n, int64) if isinstance(n, int) else dims(n)


def _pad_lower(
    index: Index,
    dims: Dims,
    spec: Spec,
    low: Shape,
    high: Shape,
    interior: Shape,
    fill: float,
) -> Lowered:
    found = []
    valid = const(True, bool_)
    for i, n, before, after, gap in zip(index, spec.shape, low, high, interior, strict=True):
        if not (isinstance(before, int) and before == 0):
            i = i - _literal(dims, before)
            valid = valid & (i >= 0)
        if not (isinstance(gap, int) and gap == 0):
            spread = _literal(dims, gap) + 1
            valid = valid & (i % spread).equals(0)
            i = i // spread
        if not (isinstance(after, int) and after == 0):
            valid = valid & (i < _literal(dims, n))
        found.append(i)
    return tuple(found), None if valid.op == "const" else valid


def _pad_array(
    x: np.ndarray,
    low: Sequence[int],
    high: Sequence[int],
    interior: Sequence[int],
    fill: float,
) -> np.ndarray:
    shape = [_padded(*a) for a in zip(x.shape, low, high, interior, strict=True)]
    found = np.full(shape, fill, x.dtype)
    places = [np.arange(n) * (i + 1) + a for n, a, i in zip(x.shape, low, interior, strict=True)]
    found[np.ix_(*places)] = x
    return found


def _pad_samples() -> list[Sample]:
    cases = [
        ((2, 3), (1, 0), (0, 2), (0, 0), 0.0, ALL),
        ((2, 3), (0, 1), (1, 0), (2, 1), -1.5, ("float32", "float64")),
        ((3,), (0,), (0,), (0,), 0.0, ("float64",)),
        ((3,), (0,), (2,), (1,), 0.0, ("float64",)),
        ((0, 2), (1, 0), (1, 0), (0, 0), 3.0, ("float64",)),
        ((0,), (1,), (2,), (1,), 1.0, ("float64",)),
        ((1,), (2,), (1,), (3,), 0.0, ("float64",)),
        ((), (), (), (), 0.0, ("float64",)),
    ]
    return [
        Sample((Draw(s),), {"low": a, "high": b, "interior": i, "fill": f}, d)
        for s, a, b, i, f, d in cases
    ]


@op(
    "movement",
    public=False,
    sizes=("low", "high", "interior"),
    positions=("low", "high"),
    infer=_pad_spec,
    lower=_pad_lower,
    reference=_pad_array,
    samples=_pad_samples,
    onnx="Pad",
)
def pad(x: Value, low: Shape, high: Shape, interior: Shape, fill: float = 0.0) -> Value:
    """`fill` around every axis (low, high) and between its elements (interior)."""


@pad.gradient
def _pad_gradient(
    g: Any, y: Any, x: Any, low: Shape, high: Shape, interior: Shape, fill: float
) -> tuple[Any]:
    start, stop, step = [], [], []
    for n, total, a, b, gap in zip(x.shape, y.shape, low, high, interior, strict=True):
        empty = not (isinstance(gap, int) and gap == 0) and n == 0
        start.append(a)
        stop.append(a if empty else total - b)
        step.append(gap + 1)
    return (slice_(g, tuple(start), tuple(stop), tuple(step)),)


@pad.batching
def _pad_batch(
    size: int, flags: Flags, x: Any, low: Shape, high: Shape, interior: Shape, fill: float
) -> Any:
    return pad(x, (0, *low), (0, *high), (0, *interior), fill)


# ---- window ------------------------------------------------------------------------------------


def _window_spec(x: Spec, axes: Any, window: Shape, stride: Any, dilation: Any) -> Spec:
    if not len(axes) == len(window) == len(stride) == len(dilation) or len(set(axes)) < len(axes):
        raise ShapeError("window: needs distinct axes and a window, stride and dilation for each")
    shape = list(x.shape)
    for a, w, s, d in zip(axes, window, stride, dilation, strict=True):
        if not 0 <= a < x.ndim:
            raise ShapeError(f"window: axis {a} does not exist in {show(x.shape)}")
        reach = (w - 1) * d + 1
        if s < 1 or d < 1 or w < 1 or x.shape[a] < reach:
            raise ShapeError(
                f"window: {show(x.shape)} axis {a}: a window of {w} with stride {s} and "
                f"dilation {d} needs at least {reach} elements"
            )
        shape[a] = (x.shape[a] - reach) // s + 1
    return x.with_shape((*shape, *window))


def _window_lower(
    index: Index, dims: Dims, spec: Spec, axes: Any, window: Shape, stride: Any, dilation: Any
) -> Lowered:
    found = list(index[: spec.ndim])
    for j, (a, s, d) in enumerate(zip(axes, stride, dilation, strict=True)):
        found[a] = index[a] * const(s, int64) + index[spec.ndim + j] * const(d, int64)
    return tuple(found), None


def _window_array(x: np.ndarray, axes: Any, window: Any, stride: Any, dilation: Any) -> np.ndarray:
    for a, w, s, d in zip(axes, window, stride, dilation, strict=True):
        count = (x.shape[a] - (w - 1) * d - 1) // s + 1
        parts = [np.take(x, k * d + np.arange(count) * s, a) for k in range(w)]
        x = np.stack(parts, -1)
    return x


def _window_samples() -> list[Sample]:
    def sample(shape: Any, axes: Any, window: Any, stride: Any, dilation: Any) -> Sample:
        attrs = {"axes": axes, "window": window, "stride": stride, "dilation": dilation}
        return Sample((Draw(shape),), attrs)

    return [
        sample((2, 6, 7), (1, 2), (2, 3), (1, 2), (1, 1)),
        sample((9,), (0,), (3,), (2,), (3,)),
        sample((5,), (0,), (5,), (1,), (1,)),
        sample((4, 3), (1, 0), (2, 2), (1, 3), (2, 1)),
        sample((0, 3), (1,), (2,), (1,), (1,)),
    ]


@op(
    "movement",
    public=False,
    sizes=("window",),
    infer=_window_spec,
    lower=_window_lower,
    reference=_window_array,
    samples=_window_samples,
)
def window(
    x: Value,
    axes: tuple[int, ...],
    window: tuple[Dim, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Value:
    """Sliding windows: each of `axes` counts windows; the positions inside are appended as axes.

    y[..., o, ..., w] = x[..., o * stride + w * dilation, ...]
    """


@window.gradient
def _window_gradient(
    g: Any, y: Any, x: Any, axes: Any, window: Any, stride: Any, dilation: Any
) -> tuple[Any]:
    """Overlapping windows add up, one axis at a time."""
    for axis, size, s, d in reversed(list(zip(axes, window, stride, dilation, strict=True))):
        g = fold_window(g, axis, x.shape[axis], size, s, d)
    return (g,)


@window.batching
def _window_batch(
    size: int, flags: Flags, x: Any, axes: Any, window: Any, stride: Any, dilation: Any
) -> Any:
    return lookup("window")(x, tuple(a + 1 for a in axes), window, stride, dilation)


def fold_window(g: Any, axis: int, n: Dim, size: Dim, stride: int, dilation: int) -> Any:
    """(..., windows, ..., size) -> (..., n, ...): adds g[o, w] at o * stride + w * dilation.

    Window elements become rows of n + dilation numbers, where o stands at o * stride; read again as
    rows of n numbers, row w has moved by w * dilation, and the rows can be added.
    """
    count = g.shape[axis]
    rank = g.ndim - 1
    order = [*(a for a in range(rank) if a != axis), rank, axis]
    g = permute(g, tuple(order))  # (..., size, windows)
    lead = g.shape[:-2]
    zero = (0,) * rank
    high = n + dilation - ((count - 1) * stride + 1)
    g = pad(g, (*zero, 0), (*zero, high), (*zero, stride - 1))
    g = reshape(g, (*lead, size * (n + dilation)))
    g = slice_(g, zero, (*lead, size * n), (1,) * rank)
    g = _sum_last_but_one(reshape(g, (*lead, size, n)))
    back = list(range(rank - 1))
    back.insert(axis, rank - 1)
    return permute(g, tuple(back))


def _sum_last_but_one(x: Any) -> Any:
    return lookup("reduce_sum")(x, axis=(x.ndim - 2,), keepdims=False)
