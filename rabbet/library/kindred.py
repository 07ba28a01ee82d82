"""Small functions that PyTorch and NumPy have besides those of the standard, made of ops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rabbet.base.dtypes import DType, promote
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.library import placing
from rabbet.library.combine import tensor_split
from rabbet.tensor.create import arange, asarray
from rabbet.tensor.lift import functions, in_place, spoken
from rabbet.tensor.tensor import Tensor, as_operand

# ---- bounds, products, logarithms ----------------------------------------------------------------


def clamp_min(x: Any, least: Any) -> Tensor:
    """`x`, and `least` where it is smaller.

    >>> rb.clamp_min(rb.asarray([-1.0, 2.0]), 0.0)
    tensor([0., 2.])
    """
    return functions["maximum"](as_operand(x), least)


def clamp_max(x: Any, most: Any) -> Tensor:
    """`x`, and `most` where it is larger.

    >>> rb.clamp_max(rb.asarray([-1.0, 2.0]), 0.0)
    tensor([-1.,  0.])
    """
    return functions["minimum"](as_operand(x), most)


def inner(x1: Any, x2: Any) -> Tensor:
    """Sums of products over the last axes: (..., n), (..., n) -> (..., ...).

    >>> rb.inner(rb.asarray([1.0, 2.0]), rb.asarray([3.0, 4.0]))
    tensor(11.)
    """
    a, b = as_operand(x1), as_operand(x2)
    if not a.ndim or not b.ndim:
        return a * b
    return functions["tensordot"](a, b, axes=((a.ndim - 1,), (b.ndim - 1,)))


def vdot(x1: Any, x2: Any) -> Tensor:
    """The sum of products of two vectors, the first conjugated.

    >>> rb.vdot(rb.asarray([1.0, 2.0]), rb.asarray([3.0, 4.0]))
    tensor(11.)
    """
    a, b = as_operand(x1), as_operand(x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ShapeError(f"vdot: {show(a.shape)} and {show(b.shape)} must be vectors")
    return functions["vecdot"](a, b)


def addmv(input: Any, mat: Any, vec: Any, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta * input + alpha * (mat @ vec).

    >>> rb.addmv(rb.ones(2), rb.ones(2, 3), rb.ones(3))
    tensor([4., 4.])
    """
    return as_operand(input) * beta + functions["matmul"](as_operand(mat), vec) * alpha


def addr(input: Any, vec1: Any, vec2: Any, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2).

    >>> rb.addr(rb.zeros(2, 2), rb.ones(2), rb.asarray([1.0, 2.0]))
    tensor([[1., 2.],
            [1., 2.]])
    """
    return as_operand(input) * beta + functions["outer"](as_operand(vec1), vec2) * alpha


def ldexp(x: Any, exponent: Any) -> Tensor:
    """x * 2 ** exponent.

    >>> rb.ldexp(rb.asarray([1.0, 3.0]), rb.asarray([3, -1]))
    tensor([8. , 1.5])
    """
    t = as_operand(x)
    power = as_operand(exponent)
    half = functions["floor_divide"](power, 2)  # 2 ** exponent itself may overflow
    scale = [functions["exp2"](p.astype(t.dtype)) for p in (half, power - half)]
    return t * scale[0] * scale[1]


def logaddexp2(x1: Any, x2: Any) -> Tensor:
    """log2(2 ** x1 + 2 ** x2).

    >>> rb.logaddexp2(rb.asarray([1.0]), rb.asarray([1.0]))
    tensor([2.])
    """
    a, b = as_operand(x1), as_operand(x2)
    return functions["logaddexp"](a * math.log(2), b * math.log(2)) * (1 / math.log(2))


def float_power(x: Any, exponent: Any) -> Tensor:
    """x ** exponent in double precision.

    >>> rb.float_power(rb.asarray([2]), 0.5).dtype
    rabbet.float64
    """
    t = as_operand(x)
    double = "complex128" if t.dtype.kind == "c" else "float64"
    power = exponent.astype(double) if isinstance(exponent, Tensor) else exponent
    return functions["pow"](t.astype(double), power)


def dist(x1: Any, x2: Any, p: float = 2.0) -> Tensor:
    """The p-norm of x1 - x2, over all elements.

    >>> rb.dist(rb.asarray([0.0, 0.0]), rb.asarray([3.0, 4.0]))
    tensor(5.)
    """
    apart = functions["abs"](as_operand(x1) - as_operand(x2))
    if math.isinf(p):
        return functions["max" if p > 0 else "min"](apart)
    if p == 2:
        return functions["sqrt"](functions["sum"](apart * apart))
    return functions["sum"](apart**p) ** (1 / p)


def pdist(x: Any, p: float = 2.0) -> Tensor:
    """Distances of all pairs of rows i < j: (n, m) -> (n (n - 1) / 2,).

    >>> rb.pdist(rb.asarray([[0.0], [3.0], [7.0]]))
    tensor([3., 7., 4.])
    """
    t = as_operand(x)
    if t.ndim != 2:
        raise ShapeError(f"pdist: {show(t.shape)} must be (n, m)")
    n = t.shape[0]
    first = [i for i in range(n) for _ in range(i + 1, n)]
    second = [j for i in range(n) for j in range(i + 1, n)]
    rows = [functions["take"](t, _places(i), 0) for i in (first, second)]
    apart = functions["abs"](rows[0] - rows[1])
    if math.isinf(p):
        return functions["max"](apart, axis=-1)
    if p == 2:
        return functions["sqrt"](functions["sum"](apart * apart, axis=-1))
    return functions["sum"](apart**p, axis=-1) ** (1 / p)


def _places(numbers: list[int]) -> Tensor:
    return asarray(numbers, dtype="int64")


# ---- questions -----------------------------------------------------------------------------------


def isposinf(x: Any) -> Tensor:
    """Where x is plus infinity.

    >>> rb.isposinf(rb.asarray([1.0, rb.inf, -rb.inf]))
    tensor([False,  True, False])
    """
    return as_operand(x) == math.inf


def isneginf(x: Any) -> Tensor:
    """Where x is minus infinity.

    >>> rb.isneginf(rb.asarray([1.0, rb.inf, -rb.inf]))
    tensor([False, False,  True])
    """
    return as_operand(x) == -math.inf


def isreal(x: Any) -> Tensor:
    """Where the imaginary part is 0.

    >>> rb.isreal(rb.asarray([1 + 0j, 1j]))
    tensor([ True, False])
    """
    t = as_operand(x)
    if t.dtype.kind != "c":
        return functions["ones_like"](t, dtype="bool")
    return functions["imag"](t) == 0


def is_complex(x: Tensor) -> bool:
    """True where the dtype is complex.

    >>> rb.is_complex(rb.ones(2))
    False
    """
    return x.dtype.kind == "c"


def is_nonzero(x: Tensor) -> bool:
    """The truth of a single element; ShapeError for several.

    >>> rb.is_nonzero(rb.asarray([2]))
    True
    """
    return bool(x)


def promote_types(dtype1: DType, dtype2: DType) -> DType:
    """The dtype of a sum of tensors of these dtypes.

    >>> rb.promote_types(rb.int32, rb.float32)
    rabbet.float32
    """
    return promote(dtype1, dtype2)


# ---- places --------------------------------------------------------------------------------------


@spoken
def select_scatter(x: Any, src: Any, axis: int, index: int) -> Tensor:
    """`x` with `src` as its slice number `index` along an axis.

    >>> rb.select_scatter(rb.zeros(2, 2), rb.ones(2), 0, 1)
    tensor([[0., 0.],
            [1., 1.]])
    """
    t = as_operand(x)
    at = axis_of("select_scatter", axis, t.ndim)
    place = _places([index % t.shape[at] if -t.shape[at] <= index < 0 else index])
    return placing.index_copy(t, at, place, functions["unsqueeze"](as_operand(src), at))


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
    return placing.index_copy(t, at, _places(places), src)


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
    numbers = arange(t.size).reshape(t.shape)[tuple(indices)]
    rows = functions["expand"](as_operand(values, t).astype(t.dtype), numbers.shape)
    flat = placing.index_add(t.reshape((-1,)), 0, numbers.reshape((-1,)), rows.reshape((-1,)))
    return flat.reshape(t.shape)


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


# ---- shapes --------------------------------------------------------------------------------------


def diagflat(x: Any, offset: int = 0) -> Tensor:
    """A matrix with all elements of x on a diagonal.

    >>> rb.diagflat(rb.asarray([[1, 2]]))
    tensor([[1, 0],
            [0, 2]])
    """
    return functions["diag"](as_operand(x).reshape((-1,)), offset)


def msort(x: Any) -> Tensor:
    """Sorted along the first axis.

    >>> rb.msort(rb.asarray([3, 1, 2]))
    tensor([1, 2, 3])
    """
    return functions["sort"](as_operand(x), axis=0)


def hsplit(x: Any, sections: int | Sequence[int]) -> list[Tensor]:
    """`tensor_split` along columns (of a vector: along itself).

    >>> [t.shape for t in rb.hsplit(rb.ones(2, 4), 2)]
    [(2, 2), (2, 2)]
    """
    t = as_operand(x)
    return tensor_split(t, sections, 0 if t.ndim == 1 else 1)


def vsplit(x: Any, sections: int | Sequence[int]) -> list[Tensor]:
    """`tensor_split` along rows.

    >>> [t.shape for t in rb.vsplit(rb.ones(4, 2), 2)]
    [(2, 2), (2, 2)]
    """
    return tensor_split(x, sections, 0)


def dsplit(x: Any, sections: int | Sequence[int]) -> list[Tensor]:
    """`tensor_split` along the third axis.

    >>> [t.shape for t in rb.dsplit(rb.ones(1, 1, 4), 2)]
    [(1, 1, 2), (1, 1, 2)]
    """
    return tensor_split(x, sections, 2)


def trapz(y: Any, x: Any = None, *, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral along an axis by the trapezoidal rule, between points `x` or `dx` apart.

    >>> rb.trapz(rb.asarray([1.0, 2.0, 3.0]))
    tensor(4.)
    """
    t = functions["moveaxis"](as_operand(y), axis, -1)
    both = t[..., 1:] + t[..., :-1]
    width: Any = dx
    if x is not None:
        points = as_operand(x)
        points = points if points.ndim == 1 else functions["moveaxis"](points, axis, -1)
        width = points[..., 1:] - points[..., :-1]
    return functions["sum"](both * width, axis=-1) * 0.5


# ---- complex numbers -----------------------------------------------------------------------------


def polar(size: Any, angle: Any) -> Tensor:
    """size * exp(1j * angle).

    >>> rb.polar(rb.asarray([2.0]), rb.asarray([0.0])).tolist()
    [(2+0j)]
    """
    length, phase = as_operand(size), as_operand(angle)
    return functions["complex"](length * functions["cos"](phase), length * functions["sin"](phase))


def view_as_real(x: Any) -> Tensor:
    """Real and imaginary parts along a new last axis.

    >>> rb.view_as_real(rb.asarray([1 + 2j])).tolist()
    [[1.0, 2.0]]
    """
    t = as_operand(x)
    if t.dtype.kind != "c":
        raise DTypeError(f"view_as_real: {t.dtype.name} is not complex")
    return functions["stack"]([functions["real"](t), functions["imag"](t)], axis=-1)


def view_as_complex(x: Any) -> Tensor:
    """The inverse of `view_as_real`: (..., 2) -> (...).

    >>> rb.view_as_complex(rb.asarray([[1.0, 2.0]])).tolist()
    [(1+2j)]
    """
    t = as_operand(x)
    if not t.ndim or t.shape[-1] != 2:
        raise ShapeError(f"view_as_complex: {show(t.shape)} must end with an axis of size 2")
    return functions["complex"](t[..., 0], t[..., 1])


_CHANGING = (addmv, addr, clamp_max, clamp_min, ldexp, masked_scatter)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        *(*_CHANGING, diagflat, dist, dsplit, float_power, hsplit, index_put, inner, is_complex),
        *(is_nonzero, isneginf, isposinf, isreal, logaddexp2, msort, pdist, polar, promote_types),
        *(select_scatter, slice_scatter, trapz, unravel_index, vdot, view_as_complex),
        *(view_as_real, vsplit),
    )
}
_NO_METHODS = ("pdist", "polar", "promote_types", "trapz", "unravel_index")


@spoken
def _scatter_add(x: Any, axis: int, index: Any, src: Any) -> Tensor:
    """`scatter_reduce` by sums, PyTorch's method; the function `rb.scatter_add` is NumPy's."""
    return placing.scatter_reduce(x, axis, index, src, "sum")


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


METHODS: dict[str, Any] = {
    "fill_diagonal_": in_place(_fill_diagonal),
    "scatter_add": _scatter_add,
    "scatter_add_": in_place(_scatter_add),
    **{n: f for n, f in FUNCTIONS.items() if n not in (*_NO_METHODS, "view_as_complex")},
    **{f"{f.__name__}_": in_place(f) for f in (*_CHANGING, index_put)},
    "nelement": lambda self: self.size,
    "is_contiguous": lambda self: True,
    "is_same_size": lambda self, other: self.shape == other.shape,
    "polygamma": lambda self, n: functions["polygamma"](n, self),
}
