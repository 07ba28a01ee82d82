"""Functions of each element, or of pairs of elements, made of ops."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from rabbet.base.dtypes import bool_
from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import show
from rabbet.library.data_dependent import nonzero
from rabbet.tensor.lift import functions, in_place, spoken
from rabbet.tensor.tensor import Tensor, as_operand


def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """Elements of `x1` where `condition` holds and of `x2` elsewhere; all three broadcast.

    A condition of numbers holds where they are not 0. With the condition alone, where it holds: a
    vector of positions for each axis, as `nonzero`, read at once.

    >>> rb.where(rb.asarray([True, False]), 1.0, 0.0)
    tensor([1., 0.])
    >>> rb.where(rb.asarray([0, 5, 0, 7]))
    (tensor([1, 3]),)
    """
    if x1 is None and x2 is None:
        return nonzero(condition)
    if x1 is None or x2 is None:
        raise TypeError("where: with values for one outcome those for the other are needed too")
    return functions["where"](condition, x1, x2)


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


class FrexpResult(NamedTuple):
    """What `frexp` gives."""

    mantissa: Tensor
    exponent: Tensor


def frexp(x: Any) -> FrexpResult:
    """x = mantissa * 2 ** exponent with the size of the mantissa from 0.5 to below 1.

    Exponents are int32; 0, infinity and NaN are their own mantissa, with exponent 0. Gradients
    reach x from the mantissa. DTypeError unless x is of a floating dtype.

    >>> rb.frexp(rb.asarray([8.0, -0.75]))
    FrexpResult(mantissa=tensor([ 0.5 , -0.75]), exponent=tensor([4, 0], dtype=rabbet.int32))
    """
    t = as_operand(x)
    exponent = functions["exponent_of"](t)
    return FrexpResult(ldexp(t, -exponent), exponent)


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
        return functions["ones_like"](t, bool_)
    return functions["imag"](t) == 0


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


@spoken
def softmax(x: Any, axis: int = -1, dtype: Any = None) -> Tensor:
    """exp(x) over its sum along an axis, where x was cast to `dtype` first, if one is given.

    >>> rb.softmax(rb.zeros(2, dtype=rb.float16), dtype=rb.float32)
    tensor([0.5, 0.5])
    """
    t = as_operand(x)
    return functions["softmax"](t if dtype is None else t.astype(dtype), axis)


@spoken
def log_softmax(x: Any, axis: int = -1, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along an axis, where x was cast to `dtype` first, if one is given.

    >>> rb.log_softmax(rb.zeros(2)).tolist()
    [-0.6931471824645996, -0.6931471824645996]
    """
    t = as_operand(x)
    return functions["log_softmax"](t if dtype is None else t.astype(dtype), axis)


_CHANGING = (clamp_max, clamp_min, ldexp)
METHODS: dict[str, Any] = {
    **{f.__name__: f for f in (*_CHANGING, float_power, logaddexp2)},
    **{f.__name__: f for f in (isneginf, isposinf, isreal, view_as_real)},
    **{f.__name__: f for f in (softmax, log_softmax, frexp)},
    **{f"{f.__name__}_": in_place(f) for f in _CHANGING},
    "polygamma": lambda self, n: functions["polygamma"](n, self),
}
