"""Complex numbers: every op that takes them against NumPy, special values, gradients, programs."""

from __future__ import annotations

import cmath
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

import rabbet as rb
from rabbet.base.spec import Spec
from rabbet.graph.op import make_op
from rabbet.graph.value import Builder, Graph, Value
from rabbet.runtime import buffers
from rabbet.runtime.program import compile_graph

INF, NAN = math.inf, math.nan
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, INF, -INF, NAN, 3.7, -0.5, 30.0, 1e-300, -1e300]
GRID = [complex(a, b) for a, b in itertools.product(EDGES, repeat=2)]
FUNCTIONS = (
    *("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
    *("asin", "acos", "atan", "asinh", "acosh", "atanh"),
)
HOLOMORPHIC: dict[str, Callable[..., rb.Tensor]] = {
    **{n: getattr(rb, n) for n in FUNCTIONS},
    **{n: getattr(rb, n) for n in ("expm1", "log1p", "log2", "log10", "square", "reciprocal")},
    "multiply": lambda x: x * (x + 1j),
    "divide": lambda x: (x + 2.0) / (x * 3j),
    "power": lambda x: x ** (x * 0.5),
    "matmul": lambda x: x.T @ x,
    "sum": lambda x: (x * x).sum(axis=0),
    "prod": lambda x: x.prod(axis=1),
    "mean": lambda x: x.mean(axis=0),
    "cumulative_sum": lambda x: rb.cumulative_sum(x, axis=1),
    "moves": lambda x: rb.concat([x.T, x.T[::-1] * 2j], axis=1)[1:, ::2],
}
OTHERS: dict[str, Callable[..., rb.Tensor]] = {
    "abs": rb.abs,
    "angle": rb.angle,
    "conj": lambda x: rb.conj(x) * x,
    "sign": rb.sign,
    "real": lambda x: rb.real(x * x),
    "imag": lambda x: rb.imag(x * x),
    "where": lambda x: rb.where(rb.real(x) > 0, x, rb.conj(x)),
    "complex": lambda x: rb.complex(rb.imag(x), rb.real(x) * 2.0),
}


def draw(rng: np.random.Generator, shape: tuple[int, ...] = (3, 4)) -> np.ndarray:
    return rng.uniform(-1.5, 1.5, shape) + 1j * rng.uniform(-1.5, 1.5, shape)


def same(found: complex, wanted: complex) -> bool:
    """Parts equal to rounding; infinities exactly; NaN for NaN."""
    if math.isnan(wanted.real) != math.isnan(wanted.imag):  # the sign of what is beside NaN is open
        found, wanted = (complex(abs(v.real), abs(v.imag)) for v in (found, wanted))
    size = max((abs(p) for p in (wanted.real, wanted.imag) if math.isfinite(p)), default=0.0)
    for f, w in ((found.real, wanted.real), (found.imag, wanted.imag)):
        if math.isnan(w) or math.isinf(w):
            if not (math.isnan(f) if math.isnan(w) else f == w):
                return False
        elif not abs(f - w) <= 4e-16 * size + 4e-16 * abs(w) + 1e-320:
            return False
    return True


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_those_of_annex_g(name: str) -> None:
    """Against the C library by way of cmath; where C leaves a sign open either is right."""
    found = getattr(rb, name)(rb.asarray(np.array(GRID))).numpy()
    wrong = []
    for z, f in zip(GRID, found.tolist(), strict=True):
        try:
            wanted = getattr(cmath, name)(z)
        except (ValueError, OverflowError):  # what C reports as an exception has no value here
            continue
        if _is_open(name, z):
            continue
        if not same(f, wanted) and not same(f, wanted.conjugate()) or not _signs(f, wanted, z):
            wrong.append((z, f, wanted))
    assert not wrong, wrong[:8]


def _is_open(name: str, z: complex) -> bool:
    """Where cmath gives what the array API does not: NaN beside 0 in tanh, tan and acosh."""
    if name == "acosh":
        return z.real == 0 and math.isnan(z.imag)
    re, im = (z.real, z.imag) if name == "tanh" else (z.imag, z.real)
    return name in ("tan", "tanh") and re == 0 and not math.isfinite(im)


def _signs(found: complex, wanted: complex, z: complex) -> bool:
    """Signs agree wherever no part of the argument is NaN or infinite."""
    if not (math.isfinite(z.real) and math.isfinite(z.imag)):
        return True
    pairs = ((found.real, wanted.real), (found.imag, wanted.imag))
    return all(math.copysign(1, f) == math.copysign(1, w) for f, w in pairs if not math.isnan(w))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_accurate(name: str, dtype: str, rng: np.random.Generator) -> None:
    z = (draw(rng, (2000,)) * 2.0 ** rng.integers(-12, 4, 2000)).astype(dtype)
    found = getattr(rb, name)(rb.asarray(z)).numpy()
    exact = {"a": "arc"}.get(name[0], "") + name[1:] if name[0] == "a" else name
    wanted = getattr(np, exact)(z.astype(np.clongdouble))
    step = np.finfo(dtype).eps
    error = np.abs(found - wanted) / np.abs(wanted) / step
    assert found.dtype == dtype and error.max() < 8, error.max()


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_arithmetic_agrees_with_numpy(dtype: str, rng: np.random.Generator) -> None:
    a, b = draw(rng).astype(dtype), draw(rng).astype(dtype)
    x, y = rb.asarray(a), rb.asarray(b)
    step = float(np.finfo(dtype).eps) * 8
    pairs = [
        *((x + y, a + b), (x - y, a - b), (x * y, a * b), (x / y, a / b), (-x, -a), (x**y, a**b)),
        *((x @ y.T, a @ b.T), (x.sum(axis=0), a.sum(0)), (x.prod(axis=1), a.prod(1))),
        *((x.prod(axis=0), a.prod(0)), (x.prod(), a.prod()), (x[:, :0].prod(axis=1), np.ones(3))),
        *((rb.abs(x), abs(a)), (x == y, a == b), (x != x, a != a), (rb.real(x), a.real)),
        *((x.reshape(4, 3)[1:, ::-1], a.reshape(4, 3)[1:, ::-1]), (x + 2j, a + 2j), (3 * x, 3 * a)),
        *(
            (1j / x, 1j / a),
            (x.T, a.T),
            (rb.einsum("ij,kj->ik", x, y), np.einsum("ij,kj->ik", a, b)),
        ),
        *(
            (rb.cumulative_sum(x, axis=1), a.cumsum(1)),
            (rb.mean(x), a.mean()),
            (x.astype("bool"), a != 0),
        ),
        *(
            (rb.where(x == y, x, 1j), np.where(a == b, a, 1j)),
            (rb.full((2,), 1 - 2j), np.full(2, 1 - 2j)),
        ),
        *((rb.pad(x, 1) if hasattr(rb, "pad") else x, np.pad(a, 1) if hasattr(rb, "pad") else a),),
        *((rb.concat([x, y]), np.concatenate([a, b])), (rb.take(x, rb.asarray([2, 0])), a[[2, 0]])),
    ]
    for found, wanted in pairs:
        assert found.shape == np.shape(wanted)
        np.testing.assert_allclose(found.numpy(), wanted, step, step)


def test_dtypes_and_numbers() -> None:
    one = rb.ones(2)
    assert (one * 1j).dtype is rb.complex64 and (1j + one.double()).dtype is rb.complex128
    assert (rb.ones(2, dtype="int64") * 2j).dtype is rb.complex64
    assert rb.asarray(1 + 2j).dtype is rb.complex64 and rb.asarray(1j).item() == 1j
    assert rb.asarray([1.5, 2j]).tolist() == [1.5, 2j]
    assert rb.abs(rb.asarray([3 + 4j])).dtype is rb.float32
    assert repr(rb.asarray([1 + 2j])) == "tensor([1.+2.j], dtype=rabbet.complex64)"
    assert complex(rb.asarray(1 - 1j)) == 1 - 1j
    assert rb.zeros(2, dtype=rb.complex128).tolist() == [0, 0]


@pytest.mark.parametrize(
    "refused",
    [
        *(lambda x: x < x, lambda x: x.astype("float32"), lambda x: x // x, lambda x: rb.floor(x)),
        *(lambda x: rb.maximum(x, x), lambda x: x.max(), lambda x: rb.argsort(x)),
    ],
)
def test_what_has_no_order_is_refused(refused: Callable[..., object]) -> None:
    with pytest.raises(rb.DTypeError, match="complex64"):
        refused(rb.asarray([1j]))


def test_a_complex_result_needs_a_direction() -> None:
    z = rb.tensor([1j], requires_grad=True)
    with pytest.raises(rb.GradientError, match="direction"):
        (z * z).sum().backward()


@pytest.mark.parametrize("name", [*HOLOMORPHIC, *OTHERS])
def test_gradients_are_conjugate_wirtinger(name: str, rng: np.random.Generator) -> None:
    """dL = Re(conj(g) dz), first and second order, against finite differences."""
    function = {**HOLOMORPHIC, **OTHERS}[name]
    z0 = draw(rng) + (0.3 if name == "where" else 0.0)
    weights = draw(rng, function(rb.asarray(z0)).shape)
    turn = draw(rng)

    def loss(z: rb.Tensor) -> rb.Tensor:
        return rb.real(function(z) * rb.asarray(weights)).sum()

    def slope(z: rb.Tensor) -> rb.Tensor:
        return rb.real(rb.grad(loss)(z) * rb.asarray(turn)).sum()

    for function_of in (loss, slope):
        z = rb.asarray(z0)
        g = rb.grad(function_of)(z).numpy()
        direction, step = draw(rng), 1e-6
        up, down = (function_of(rb.asarray(z0 + s * step * direction)).item() for s in (1, -1))
        rise = (up - down) / (2 * step)
        exact = float(np.sum((np.conj(g) * direction).real))
        assert abs(rise - exact) <= 1e-6 * (1 + abs(exact) + float(np.abs(g).sum())), name


def test_op_by_op_fused_and_jit_have_the_same_bits(rng: np.random.Generator) -> None:
    def f(x: rb.Tensor, y: rb.Tensor) -> rb.Tensor:
        return rb.exp(x @ y.T * 0.1j).sum(axis=0) / (y[0, 0] + 2.0)

    x, y = (rb.asarray(draw(rng, (5, 7)).astype(np.complex64)) for _ in range(2))
    jitted = rb.jit(f)
    runs = [f(x, y), f(x, y), f(x, y), jitted(x, y), jitted(x, y)]
    assert len({r.numpy().tobytes() for r in runs}) == 1
    for n in (3, 4, 6, 5):  # sizes become symbols
        a = draw(rng, (n, 2))
        np.testing.assert_allclose(
            (rb.asarray(a) * 1j).prod(axis=0).numpy(), (a * 1j).prod(0), 1e-12
        )


def test_division_neither_overflows_nor_loses_infinities() -> None:
    cases = {
        (1e300 + 1e300j, 1e300 + 1e300j): 1,
        (1e-300 + 1e-300j, 1e-300 - 1e-300j): 1j,
        (1 + 1j, complex(INF, 1)): 0,
        (4 + 2j, 2j): 1 - 2j,
    }
    for (a, b), wanted in cases.items():
        found = (rb.asarray(np.array([a])) / rb.asarray(np.array([b]))).numpy()[0]
        assert abs(found - wanted) < 1e-15, (a, b, found)


def _halved(x: Value) -> Value:
    """x / 2."""
    return x * 0.5


def test_numbers_in_bodies_of_composites() -> None:
    """A body's own number beside a complex operand was never put together from its parts."""
    x = np.array([1 + 2j, -3j], np.complex64)
    halved = make_op(_halved, kind="composite", public=False, infer=None, reference=None)
    operand = Builder().input(Spec(x.shape, rb.complex64))
    program = compile_graph(Graph([operand], [halved(operand)]), scope=None, fuse=True)
    (found,) = program.run((), [buffers.from_numpy(x)])
    np.testing.assert_array_equal(buffers.to_numpy(found, (2,), rb.complex64), x / 2)
