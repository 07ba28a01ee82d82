"""Reading and writing at index tensors under PyTorch's names: (x, axis, index, source)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base.errors import DTypeError, RabbetError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.tensor.create import arange, asarray
from rabbet.tensor.lift import functions, in_place, spoken
from rabbet.tensor.tensor import Tensor, as_operand

_REDUCE: dict[str | None, str] = {
    None: "set",
    **{"add": "add", "sum": "add", "multiply": "mul", "prod": "mul"},
    **{"amax": "max", "amin": "min", "mean": "mean"},
}


@spoken
def gather(x: Any, axis: int, index: Any) -> Tensor:
    """One element per index along `axis`: y[i, j] = x[i, index[i, j]] for the last of two axes.

    The index may be smaller than `x` in the other axes. `take_along_axis` is the same for equal
    sizes.

    >>> rb.gather(rb.asarray([[1, 2], [3, 4]]), 1, rb.asarray([[1], [0]]))
    tensor([[2],
            [3]])
    """
    t, places = as_operand(x), as_operand(index)
    at = axis_of("gather", axis, t.ndim)
    if places.ndim != t.ndim:
        raise ShapeError(f"gather: {show(t.shape)} and index {show(places.shape)} differ in axes")
    cut = tuple(
        slice(None) if a == at or n >= t.shape[a] else slice(0, n)
        for a, n in enumerate(places.shape)
    )
    return functions["take_along_axis"](t[cut], places, at)


def _rule(name: str, reduce: str | None) -> str:
    if reduce not in _REDUCE:
        raise RabbetError(
            f"{name}: reduce={reduce!r} must be one of 'sum', 'prod', 'mean', 'amax', 'amin'"
        )
    return _REDUCE[reduce]


@spoken
def scatter(x: Any, axis: int, index: Any, src: Any, reduce: str | None = None) -> Tensor:
    """`x` with one element of `src` (or a number) per index along `axis`; the last one wins.

    y[i, index[i, j]] = src[i, j] for the last of two axes; `reduce` is None, "add" or "multiply".

    >>> rb.scatter(rb.zeros((2, 2)), 1, rb.asarray([[1], [0]]), 5.0)
    tensor([[0., 5.],
            [5., 0.]])
    """
    return _put("scatter", x, axis, index, src, _rule("scatter", reduce), True)


@spoken
def scatter_add(x: Any, axis: int, index: Any, src: Any) -> Tensor:
    """`x` with one element of `src` (or a number) added per index along `axis`.

    y[i, index[i, j]] += src[i, j] for the last of two axes, in the order of the elements; whole
    slices are added by `index_add`.

    >>> rb.scatter_add(rb.zeros(3), 0, rb.asarray([0, 2, 0]), rb.ones(3))
    tensor([2., 0., 1.])
    """
    return _put("scatter_add", x, axis, index, src, "add", True)


@spoken
def scatter_reduce(
    x: Any, axis: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`x` with elements of `src` joined in at `index` along `axis`.

    `reduce` is "sum", "prod", "mean", "amax" or "amin"; without `include_self` what stood there
    before does not count.

    >>> rb.scatter_reduce(rb.ones(2), 0, rb.asarray([0, 0]), rb.asarray([2.0, 3.0]), "sum")
    tensor([6., 1.])
    """
    if reduce is None:
        raise RabbetError("scatter_reduce: say how, e.g. reduce='sum'")
    return _put(
        "scatter_reduce", x, axis, index, src, _rule("scatter_reduce", reduce), include_self
    )


def _put(
    name: str, x: Any, axis: int, index: Any, src: Any, reduce: str, include_self: bool
) -> Tensor:
    t, places = as_operand(x), as_operand(index)
    if isinstance(src, bool | int | float | complex):
        values = functions["full_like"](places, src, dtype=t.dtype)
    else:
        values = as_operand(src)
        if values.ndim == places.ndim and values.shape != places.shape:
            values = values[tuple(slice(0, n) for n in places.shape)]
    return functions["put_along_axis"](t, places, values, axis, reduce, include_self)


@spoken
def index_select(x: Any, axis: int, index: Any) -> Tensor:
    """The slices of `x` at a vector of places along `axis`.

    >>> rb.index_select(rb.asarray([5, 6, 7]), 0, rb.asarray([2, 0]))
    tensor([7, 5])
    """
    return functions["take"](as_operand(x), index, axis)


@spoken
def index_add(x: Any, axis: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
    """`x` with the slices of `source`, times alpha, added at `index` along `axis`.

    >>> rb.index_add(rb.zeros(3), 0, rb.asarray([0, 2, 0]), rb.ones(3))
    tensor([2., 0., 1.])
    """
    rows = as_operand(source)
    return functions["index_reduce"](x, index, rows if alpha == 1 else rows * alpha, axis, "add")


@spoken
def index_copy(x: Any, axis: int, index: Any, source: Any) -> Tensor:
    """`x` with the slices of `source` written at `index` along `axis`; the last one wins.

    >>> rb.index_copy(rb.zeros(3), 0, rb.asarray([1]), rb.asarray([9.0]))
    tensor([0., 9., 0.])
    """
    return functions["index_reduce"](x, index, source, axis, "set")


@spoken
def index_fill(x: Any, axis: int, index: Any, value: float) -> Tensor:
    """`x` with a number written in all slices at `index` along `axis`.

    >>> rb.index_fill(rb.zeros(3), 0, rb.asarray([1]), 9.0)
    tensor([0., 9., 0.])
    """
    t, places = as_operand(x), as_operand(index)
    at = axis_of("index_fill", axis, t.ndim)
    shape = (*t.shape[:at], *places.shape, *t.shape[at + 1 :])
    rows = functions["full"](as_operand(value).astype(t.dtype), shape)
    return functions["index_reduce"](t, places, rows, at, "set")


def masked_fill(x: Any, mask: Any, value: Any) -> Tensor:
    """`value` where the mask is True, `x` elsewhere; they broadcast together.

    >>> rb.masked_fill(rb.asarray([1.0, 2.0]), rb.asarray([True, False]), 0.0)
    tensor([0., 2.])
    """
    return functions["where"](mask, value, as_operand(x))


def take(x: Tensor, indices: Any, /, axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """Elements at `indices` along `axis` (None: the first), whose place the axes of `indices` take.

    Negative indices count from the end. An index outside the axis is an IndexRangeError when run.

    >>> rb.take(rb.asarray([10, 20, 30]), rb.asarray([2, 0]))
    tensor([30, 10])
    """
    return functions["take"](x, indices, (axis if dim is None else dim) or 0)


def _index(numbers: list[int]) -> Tensor:
    return asarray(numbers, dtype="int64")


@spoken
def select_scatter(x: Any, src: Any, axis: int, index: int) -> Tensor:
    """`x` with `src` as its slice number `index` along an axis.

    >>> rb.select_scatter(rb.zeros(2, 2), rb.ones(2), 0, 1)
    tensor([[0., 0.],
            [1., 1.]])
    """
    t = as_operand(x)
    at = axis_of("select_scatter", axis, t.ndim)
    place = _index([index % t.shape[at] if -t.shape[at] <= index < 0 else index])
    return index_copy(t, at, place, functions["unsqueeze"](as_operand(src), at))


@spoken
def slice_scatter(
    x: Any, src: Any, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """`x` with `src` in the place of x[start:end:step] along an axis.

    >>> rb.slice_scatter(rb.zeros(4), rb.ones(2), 0, 0, 4, 2)
    tensor([1., 0., 1., 0.])
    """
    t = as_operand(x)
    at = axis_of("slice_scatter", axis, t.ndim)
    places = list(range(t.shape[at]))[start:end:step]
    return index_copy(t, at, _index(places), src)


def masked_scatter(x: Any, mask: Any, source: Any) -> Tensor:
    """`x` with the elements of `source`, one after another, where the mask is true.

    >>> rb.masked_scatter(rb.zeros(3), rb.asarray([True, False, True]), rb.asarray([5.0, 6.0]))
    tensor([5., 0., 6.])
    """
    t, condition = as_operand(x), as_operand(mask)
    if condition.dtype.name != "bool":
        raise DTypeError(f"masked_scatter: mask is {condition.dtype.name}, it must be bool")
    chosen = functions["expand"](condition, t.shape)
    counted = functions["cumulative_sum"](chosen.reshape((-1,)).astype("int64"), axis=0)
    flat = as_operand(source).reshape((-1,))
    number = functions["clip"](counted - 1, 0, max(flat.shape[0] - 1, 0))
    values = functions["take"](flat, number, 0).reshape(t.shape) if flat.shape[0] else t
    wanted = int(functions["count_nonzero"](chosen))
    if wanted > flat.shape[0]:
        raise ShapeError(f"masked_scatter: {wanted} places want more than {flat.shape[0]} elements")
    return functions["where"](chosen, values, t)


def index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Tensor:
    """`x` with values at x[indices]; added to what is there with `accumulate`, also repeatedly.

    >>> rb.index_put(rb.zeros(3), (rb.asarray([0, 0]),), rb.ones(2), accumulate=True)
    tensor([2., 0., 0.])
    """
    t = as_operand(x)
    if not accumulate:
        found = t.clone()
        found[tuple(indices)] = values
        return found
    numbers = arange(t.numel()).reshape(t.shape)[tuple(indices)]
    rows = functions["expand"](as_operand(values, t).astype(t.dtype), numbers.shape)
    flat = index_add(t.reshape((-1,)), 0, numbers.reshape((-1,)), rows.reshape((-1,)))
    return flat.reshape(t.shape)


def put(x: Any, index: Any, source: Any, accumulate: bool = False) -> Tensor:
    """`x` with elements of `source` at places counted in row-major order; added with `accumulate`.

    `index` and `source` have the same number of elements, or `source` one for all. The last one
    wins where places repeat; negative places count from the end.

    >>> rb.put(rb.zeros((2, 2)), rb.asarray([3, 0]), rb.asarray([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 1.]])
    """
    t, places = as_operand(x), as_operand(index)
    values = as_operand(source, t)
    values = values if isinstance(values, Tensor) else asarray(values, dtype=t.dtype)
    if values.dtype is not t.dtype:
        raise DTypeError(f"put: source is {values.dtype.name}, x is {t.dtype.name}; cast one")
    if values.numel() not in (1, places.numel()):
        raise ShapeError(
            f"put: {show(values.shape)} elements for the places {show(places.shape)}; as many, or "
            "one, are needed"
        )
    flat = functions["expand"](values.reshape((-1,)), (places.numel(),))
    found = index_put(t.reshape((-1,)), (places.reshape((-1,)),), flat, accumulate)
    return found.reshape(t.shape)


def unravel_index(indices: Any, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Numbers of elements in row-major order -> their places along each axis.

    >>> rb.unravel_index(rb.asarray([5]), (2, 3))
    (tensor([1]), tensor([2]))
    """
    rest, found = as_operand(indices), []
    for n in reversed(tuple(shape)):
        found.append(functions["remainder"](rest, n))
        rest = functions["floor_divide"](rest, n)
    return tuple(reversed(found))


@spoken
def _fill_diagonal(x: Any, value: Any) -> Tensor:
    """`value` where all indices of an element are the same."""
    if x.ndim < 2:
        raise ShapeError(f"fill_diagonal_: {show(x.shape)} has no diagonal; two axes are needed")
    number = arange(max(x.shape))
    places = [number[:n].reshape(n, *(1,) * (x.ndim - 1 - at)) for at, n in enumerate(x.shape)]
    same = places[0] == places[1]
    for place in places[2:]:
        same = same & (place == places[0])
    return functions["where"](same, asarray(value, dtype=x.dtype), x)


_PLACING = (
    *(index_add, index_copy, index_fill, index_put, masked_fill, masked_scatter, put),
    *(scatter, scatter_add, scatter_reduce),
)
METHODS: dict[str, Any] = {
    **{f.__name__: f for f in (gather, index_select, select_scatter, slice_scatter, *_PLACING)},
    **{f"{f.__name__}_": in_place(f) for f in _PLACING},
    "fill_diagonal_": in_place(_fill_diagonal),
}
