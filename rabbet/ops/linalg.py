"""Linear algebra by LAPACK, as host ops over stacks of matrices, and what follows from it.

Gradients are those of M. Giles, "An extended collection of matrix derivative results" (2008), and
of J. Townsend, "Differentiating the singular value decomposition" (2016).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base import shapes, sizes
from rabbet.base.errors import LinAlgError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.spec import Spec
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value, lookup
from rabbet.ops.arithmetic import add, cast, divide, multiply, negative, subtract
from rabbet.ops.axis_moves import matrix_transpose, squeeze, unsqueeze
from rabbet.ops.compare import equal, where
from rabbet.ops.complex import conjugate, part_of
from rabbet.ops.contract import matmul
from rabbet.ops.index_maps import aligned
from rabbet.ops.ranges import tril
from rabbet.ops.rules import check_kind


def check_square(name: str, x: Spec) -> None:
    """ShapeError unless the last two axes are square matrices; DTypeError unless of floats."""
    check_kind(name, x.dtype, "fc")
    if x.ndim < 2 or not sizes.equal(x.shape[-1], x.shape[-2]):
        raise ShapeError(f"{name}: {show(x.shape)} is no stack of square matrices")


def adjoint(x: Any) -> Any:
    """The transposed matrices, conjugated where they are complex."""
    return matrix_transpose(conjugate(x))


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy whose LinAlgError is ours, with the op's name."""

    def run(*operands: Any) -> Any:
        try:
            return function(*operands)
        except np.linalg.LinAlgError as error:
            raise LinAlgError(f"{name}: {error}") from None

    return run


# ---- Cholesky ------------------------------------------------------------------------------------


def _square_spec(name: str) -> Callable[..., Spec]:
    def infer(x: Spec, **attrs: Any) -> Spec:
        check_square(name, x)
        return x

    return infer


def _symmetric(x: np.ndarray) -> np.ndarray:
    return (x + np.conj(np.swapaxes(x, -1, -2))) / 2


def _cholesky(x: np.ndarray, upper: bool) -> np.ndarray:
    lower = np.linalg.cholesky(_symmetric(x))
    return np.conj(np.swapaxes(lower, -1, -2)) if upper else lower


def _cholesky_reference(x: np.ndarray, upper: bool) -> np.ndarray:
    """Column after column, as the definition L L^H = x says."""
    a = _symmetric(x)
    lower = np.zeros_like(a)
    for j in range(a.shape[-1]):
        row = lower[..., j, :j]
        lower[..., j, j] = np.sqrt(a[..., j, j] - (np.abs(row) ** 2).sum(-1))
        rest = a[..., j + 1 :, j] - (lower[..., j + 1 :, :j] @ np.conj(row)[..., None])[..., 0]
        lower[..., j + 1 :, j] = rest / lower[..., j, j, None]
    return np.conj(np.swapaxes(lower, -1, -2)) if upper else lower


def _cholesky_samples() -> list[Sample]:
    return [
        Sample((Draw(shape, kind="definite"),), {"upper": upper})
        for shape in ((3, 3), (2, 4, 4), (1, 1), (0, 3, 3))
        for upper in (False, True)
    ]


@op(
    "host",
    public=False,
    wirtinger=True,
    infer=_square_spec("cholesky"),
    lower=named("cholesky", _cholesky),
    reference=_cholesky_reference,
    samples=_cholesky_samples,
)
def cholesky(x: Value, upper: bool = False) -> Value:
    """The lower triangular L with L @ L^H = x, of symmetric (Hermitian) positive definite x.

    Only the symmetric part of `x` counts. `upper` gives L^H. Raises LinAlgError, when computed,
    where `x` is not positive definite.

    >>> rb.linalg.cholesky(rb.asarray([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """


@cholesky.gradient
def _cholesky_gradient(g: Any, y: Any, x: Any, upper: bool) -> tuple[Any]:
    lower, g = (adjoint(y), adjoint(g)) if upper else (y, g)
    # S = L^-H phi(L^H g) L^-1 with phi the lower triangle, its diagonal halved; symmetrised
    phi = tril(matmul(adjoint(lower), g))
    phi = multiply(phi + tril(phi, -1), 0.5)
    solved = lookup("solve_triangular")
    left = solved(adjoint(lower), phi, True)
    s = adjoint(solved(adjoint(lower), adjoint(left), True))
    return (multiply(s + adjoint(s), 0.5),)


# ---- linear systems ------------------------------------------------------------------------------


def _solve_spec(x1: Spec, x2: Spec) -> Spec:
    check_square("solve", x1)
    check_kind("solve", x2.dtype, "fc")
    n = x1.shape[-1]
    if x2.ndim == 0 or not sizes.equal(x2.shape[-1 if x2.ndim == 1 else -2], n):
        raise ShapeError(f"solve: {show(x1.shape)} and {show(x2.shape)}: {n} rows are needed")
    if x2.ndim == 1:
        return x2.with_shape((*x1.shape[:-2], n))
    stack = shapes.broadcast("solve", x1.shape[:-2], x2.shape[:-2])
    return x2.with_shape((*stack, *x2.shape[-2:]))


def _solve(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return np.linalg.solve(x1, x2)


def _solve_reference(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """Gauss's elimination with the largest pivot, in double precision."""
    wide = np.result_type(x1.dtype, np.float64)
    b = x2[:, None] if x2.ndim == 1 else x2
    stack = np.broadcast_shapes(x1.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(x1, (*stack, *x1.shape[-2:])).astype(wide)
    b = np.broadcast_to(b, (*stack, *b.shape[-2:])).astype(wide)
    for place in np.ndindex(*stack):
        m, r = a[place], b[place]
        for k in range(len(m)):
            pivot = k + int(np.argmax(np.abs(m[k:, k])))
            m[[k, pivot]], r[[k, pivot]] = m[[pivot, k]], r[[pivot, k]]
            r[k], m[k] = r[k] / m[k, k], m[k] / m[k, k]
            for i in range(len(m)):
                if i != k:
                    r[i], m[i] = r[i] - m[i, k] * r[k], m[i] - m[i, k] * m[k]
    return (b[..., 0] if x2.ndim == 1 else b).astype(x2.dtype)


def _solve_samples() -> list[Sample]:
    pairs = (
        *(((3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (3, 1)), ((2, 3, 3), (3,))),
        *(((1, 1), (1, 1)), ((4, 4), (2, 4, 3)), ((0, 2, 2), (2, 2)), ((2, 1, 3, 3), (4, 3, 2))),
    )
    return [Sample((Draw(a, kind="regular"), Draw(b))) for a, b in pairs]


@op(
    "host",
    public=False,
    wirtinger=True,
    promote="float",
    infer=_solve_spec,
    lower=named("solve", _solve),
    reference=_solve_reference,
    samples=_solve_samples,
)
def solve(x1: Value, x2: Value) -> Value:
    """The x with x1 @ x = x2, for stacks of square matrices; a 1-D `x2` is one vector.

    Raises LinAlgError, when computed, where a matrix is singular.

    >>> rb.linalg.solve(rb.asarray([[2.0, 0.0], [0.0, 4.0]]), rb.asarray([2.0, 2.0])).tolist()
    [1.0, 0.5]
    """


@solve.batching
def _solve_batch(size: int, flags: Flags, x1: Any, x2: Any) -> Any:
    is_vector = x2.ndim - flags[1] == 1
    x2 = unsqueeze(x2, -1) if is_vector else x2
    ndim = max(x1.ndim - flags[0], x2.ndim - flags[1])
    found = solve(*(aligned(x, f, ndim) for x, f in zip((x1, x2), flags, strict=True)))
    return squeeze(found, -1) if is_vector else found


@solve.gradient
def _solve_gradient(g: Any, y: Any, x1: Any, x2: Any) -> tuple[Any, Any]:
    if x2.ndim == 1:
        g, y = unsqueeze(g, -1), unsqueeze(y, -1)
    found, to = solve(adjoint(x1), g), lookup("sum_to")
    first = to(negative(matmul(found, adjoint(y))), x1.shape)
    return first, to(squeeze(found, -1) if x2.ndim == 1 else found, x2.shape)


# ---- inverse, determinant ------------------------------------------------------------------------


def _square_samples() -> list[Sample]:
    return [Sample((Draw(s, kind="regular"),)) for s in ((3, 3), (2, 4, 4), (1, 1), (0, 3, 3))]


@op(
    "host",
    public=False,
    wirtinger=True,
    promote="float",
    infer=_square_spec("inv"),
    lower=named("inv", np.linalg.inv),
    reference=lambda x: _solve_reference(
        x, np.broadcast_to(np.eye(x.shape[-1], dtype=x.dtype), x.shape)
    ),
    samples=_square_samples,
)
def inv(x: Value) -> Value:
    """The inverse of each matrix. Raises LinAlgError, when computed, for a singular one.

    >>> rb.linalg.inv(rb.asarray([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """


@inv.gradient
def _inv_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    turned = adjoint(y)
    return (negative(matmul(matmul(turned, g), turned)),)


def _slogdet_spec(x: Spec) -> tuple[Spec, Spec]:
    check_square("slogdet", x)
    sign = x.with_shape(x.shape[:-2])
    return sign, sign.with_dtype(part_of(x.dtype))


def _slogdet(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sign, size = np.linalg.slogdet(x)
    return np.asarray(sign, x.dtype), np.asarray(size, x.real.dtype)


@op(
    "host",
    public=False,
    wirtinger=True,
    promote="float",
    outputs=2,
    infer=_slogdet_spec,
    lower=named("slogdet", _slogdet),
    reference=_slogdet,
    samples=_square_samples,
)
def slogdet(x: Value) -> tuple[Value, Value]:
    """Sign (of modulus 1) and logarithm of the size of each determinant; (0, -inf) where it is 0.

    >>> rb.linalg.slogdet(rb.asarray([[2.0, 0.0], [0.0, -1.0]])).sign.item()
    -1.0
    """


@slogdet.gradient
def _slogdet_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    # log |det| moves by Re tr(inv(x) dx); the sign of real matrices does not move at all.
    if g[1] is None:
        return (multiply(x, 0.0),)
    scale = cast(unsqueeze(unsqueeze(g[1], -1), -1), x.dtype)
    return (multiply(adjoint(inv(x)), scale),)


@op(
    "host",
    public=False,
    promote="float",
    infer=lambda x: x.with_shape(_square_spec("det")(x).shape[:-2]),
    lower=named("det", lambda x: np.asarray(np.linalg.det(x), x.dtype)),
    reference=lambda x: np.asarray(np.linalg.det(x.astype(np.result_type(x, np.float64)))),
    samples=_square_samples,
    onnx="Det",
)
def det(x: Value) -> Value:
    """The determinant of each matrix.

    >>> rb.linalg.det(rb.asarray([[1.0, 2.0], [3.0, 4.0]])).shape
    ()
    """


@det.gradient
def _det_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    scale = unsqueeze(unsqueeze(multiply(g, y), -1), -1)
    return (multiply(scale, matrix_transpose(inv(x))),)


# ---- symmetric eigenvalues -----------------------------------------------------------------------


def _eigh_spec(x: Spec) -> tuple[Spec, Spec]:
    check_square("eigh", x)
    return Spec(x.shape[:-1], part_of(x.dtype), x.device), x


def _eigh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.linalg.eigh(_symmetric(x))
    return found.eigenvalues, found.eigenvectors


@op(
    "host",
    public=False,
    wirtinger=True,
    promote="float",
    outputs=2,
    infer=_eigh_spec,
    lower=named("eigh", _eigh),
    reference=_eigh,
    samples=lambda: [
        Sample((Draw(s, kind="definite"),)) for s in ((3, 3), (2, 4, 4), (1, 1), (0, 3, 3))
    ],
)
def eigh(x: Value) -> tuple[Value, Value]:
    """Eigenvalues in ascending order, and eigenvectors as columns, of symmetric (Hermitian) x.

    Only the symmetric part of `x` counts. Gradients of eigenvectors need eigenvalues that differ.
    """


@eigh.gradient
def _eigh_gradient(g: Any, y: Any, x: Any) -> tuple[Any]:
    values, vectors = y[0], y[1]
    inner = None
    if g[0] is not None:
        n = x.shape[-1]
        unit = lookup("eye").like(x, n, None, 0, x.dtype)
        inner = multiply(unit, unsqueeze(cast(g[0], x.dtype), -2))
    if g[1] is not None:
        gap = subtract(unsqueeze(values, -2), unsqueeze(values, -1))  # (i, j): l_j - l_i
        safe = where(equal(gap, 0.0), 1.0, gap)
        factor = cast(where(equal(gap, 0.0), 0.0, divide(1.0, safe)), x.dtype)
        turned = multiply(factor, matmul(adjoint(vectors), g[1]))
        inner = turned if inner is None else add(inner, turned)
    found = matmul(matmul(vectors, inner), adjoint(vectors))
    return (multiply(add(found, adjoint(found)), 0.5),)
