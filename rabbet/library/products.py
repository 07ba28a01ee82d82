"""Products under names of their own: those that check their ranks, that add to something, cross."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base.errors import NumberRangeError, ShapeError
from rabbet.base.shapes import show
from rabbet.tensor.lift import functions, in_place, spoken
from rabbet.tensor.tensor import Tensor, as_operand, from_numpy


def _product(name: str, ranks: tuple[int, int], words: str, example: str) -> Callable[..., Tensor]:
    def function(x1: Tensor, x2: Any) -> Tensor:
        other = as_operand(x2)
        if (x1.ndim, other.ndim) != ranks:
            raise ShapeError(
                f"{name}: {show(x1.shape)} and {show(other.shape)} must have {ranks[0]} and "
                f"{ranks[1]} axes; x @ y takes any"
            )
        return functions["matmul"](x1, other)

    function.__name__ = name
    function.__doc__ = f"{words}\n\n    >>> {example}\n    "
    return function


mm = _product(
    *("mm", (2, 2), "The product of two matrices; `x1 @ x2` takes all ranks."),
    "rb.mm(rb.ones(2, 3), rb.ones(3, 4)).shape\n    (2, 4)",
)
bmm = _product(
    *("bmm", (3, 3), "Products of two stacks of matrices; `x1 @ x2` takes all ranks."),
    "rb.bmm(rb.ones(5, 2, 3), rb.ones(5, 3, 4)).shape\n    (5, 2, 4)",
)
mv = _product(
    *("mv", (2, 1), "The product of a matrix and a vector; `x1 @ x2` takes all ranks."),
    "rb.mv(rb.ones(2, 3), rb.ones(3)).shape\n    (2,)",
)
dot = _product(
    *("dot", (1, 1), "The sum of the products of two vectors' elements."),
    "rb.dot(rb.asarray([1.0, 2.0]), rb.asarray([3.0, 4.0]))\n    tensor(11.)",
)


@spoken
def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The vectors at right angles to both: along `axis`, which has 3 elements in both.

    Raises ShapeError for another size.

    >>> rb.cross(rb.asarray([1, 0, 0]), rb.asarray([0, 1, 0]))
    tensor([0, 0, 1])
    """
    a, b = as_operand(x1), as_operand(x2)
    for t in (a, b):
        if not -t.ndim <= axis < t.ndim or t.shape[axis] != 3:
            raise ShapeError(f"cross: axis {axis} of {show(t.shape)} has not 3 elements")
    parts = [[functions["take"](t, as_operand(i), axis) for i in range(3)] for t in (a, b)]
    (a0, a1, a2), (b0, b1, b2) = parts
    found = [a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0]
    ndim = max(a.ndim, b.ndim)
    return functions["stack"](found, axis if axis < 0 else axis - ndim)


def baddbmm(input: Any, x1: Any, x2: Any, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta * input + alpha * (x1 @ x2), of matrices or stacks of them.

    >>> rb.baddbmm(rb.ones((1, 2, 2)), rb.ones((1, 2, 3)), rb.ones((1, 3, 2)), alpha=2)[0, 0]
    tensor([7., 7.])
    """
    return _added(input, functions["matmul"](as_operand(x1), as_operand(x2)), beta, alpha)


def _added(input: Any, product: Tensor, beta: float, alpha: float) -> Tensor:
    """beta * input + alpha * product; what is times 0 does not count, not even NaN."""
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product
    given = as_operand(input)
    return (given if beta == 1 else given * beta) + product


addmm = baddbmm


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
    return _added(input, functions["matmul"](as_operand(mat), vec), beta, alpha)


def addr(input: Any, vec1: Any, vec2: Any, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2).

    >>> rb.addr(rb.zeros(2, 2), rb.ones(2), rb.asarray([1.0, 2.0]))
    tensor([[1., 2.],
            [1., 2.]])
    """
    return _added(input, functions["outer"](as_operand(vec1), vec2), beta, alpha)


def dist(x1: Any, x2: Any, p: float = 2.0) -> Tensor:
    """The p-norm of x1 - x2, over all elements.

    >>> rb.dist(rb.asarray([0.0, 0.0]), rb.asarray([3.0, 4.0]))
    tensor(5.)
    """
    return _length((as_operand(x1) - as_operand(x2)).reshape((-1,)), p)


def _length(apart: Tensor, p: float) -> Tensor:
    """The p-norm along the last axis, whose gradient is 0 where it is 0."""
    if p == 0:
        return functions["count_nonzero"](apart, axis=-1).astype(apart.dtype)
    if p < 0:
        raise NumberRangeError(f"the norm p={p} must be 0 or more")
    rows = functions["abs"](apart)[..., None, :]
    found = functions["cdist"](rows, functions["zeros_like"](rows), float(p))
    return found[..., 0, 0]


def pdist(x: Any, p: float = 2.0) -> Tensor:
    """Distances of all pairs of rows i < j: (n, m) -> (n (n - 1) / 2,).

    >>> rb.pdist(rb.asarray([[0.0], [3.0], [7.0]]))
    tensor([3., 7., 4.])
    """
    t = as_operand(x)
    if t.ndim != 2:
        raise ShapeError(f"pdist: {show(t.shape)} must be (n, m)")
    first, second = (
        functions["take"](t, from_numpy(i.astype(np.int64), copy=False), 0)
        for i in np.triu_indices(t.shape[0], 1)
    )
    return _length(first - second, p)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products named by letters: `einsum("ij,jk->ik", a, b)`.

    Repeated letters are summed over unless they stand behind `->`; `...` stands for further axes.
    Operands may also be given as one list. Raises ShapeError where sizes of a letter differ.

    >>> rb.einsum("ij,j->i", rb.ones(2, 3), rb.ones(3)).tolist()
    [3.0, 3.0]
    """
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    return functions["einsum"](list(operands), equation)


METHODS: dict[str, Any] = {
    **{f.__name__: f for f in (mm, bmm, mv, dot, cross, inner, vdot, dist)},
    **{f.__name__: f for f in (addmv, addr, baddbmm)},
    "addmm": addmm,
    "addmv_": in_place(addmv),
    "addr_": in_place(addr),
}
