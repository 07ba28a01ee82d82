"""What the op matrix does not cover of the primitives: operators, kinks, messages, randomness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rabbet import ops  # noqa: F401  (registers every op)
from rabbet.base import dtypes
from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import DTypeError, GradientError, RabbetError, ShapeError
from rabbet.base.spec import Spec
from rabbet.graph.interpret import run
from rabbet.graph.value import Builder, Graph, Value, lookup
from rabbet.ops.create import ones_like
from rabbet.ops.operators import OPERATORS
from rabbet.ops.ranges import arange
from rabbet.transform.decompose import decompose
from rabbet.transform.gradient import gradient


def values(*arrays: Any) -> list[Value]:
    """One graph input for each array."""
    builder = Builder()
    return [builder.input(Spec(np.shape(a), dtype_of(np.asarray(a).dtype))) for a in arrays]


def compute(inputs: list[Value], arrays: tuple[Any, ...], *outputs: Value) -> list[np.ndarray]:
    """Computed in primitives."""
    graph, _ = decompose(Graph(inputs, list(outputs)))
    return run(graph, [np.asarray(a) for a in arrays])


def slopes(name: str, *arrays: Any, **attrs: Any) -> list[np.ndarray]:
    """Gradients of the sum of an op's output for every operand."""
    inputs = values(*arrays)
    y = lookup(name)(*inputs, **attrs)
    return compute(inputs, arrays, *gradient([y], [ones_like(y)], inputs))


# ---- operators -----------------------------------------------------------------------------------

BINARY = [n for n, (op, swapped) in OPERATORS.items() if len(op.operands) == 2 and not swapped]


@pytest.mark.parametrize("name", BINARY)
def test_operators_are_numpys(name: str) -> None:
    kind = np.int64 if name.strip("_") in ("and", "or", "xor", "lshift", "rshift") else np.float64
    a, b = np.array([[3, 1], [2, 5]], kind), np.array([[2, 7], [1, 3]], kind)
    x, y = values(a, b)
    found = compute([x, y], (a, b), getattr(x, name)(y))[0]
    np.testing.assert_allclose(found, getattr(a, name)(b), 1e-12)


def test_numbers_on_either_side_take_the_tensors_dtype() -> None:
    a = np.array([1, 2, 4], np.float32)
    (x,) = values(a)
    found = compute([x], (a,), 2 - x, 2**x, x // 3, -x, abs(-x), 1 / x, +x)
    wanted = [2 - a, 2**a, a // 3, -a, a, 1 / a, a]
    for f, w in zip(found, wanted, strict=True):
        assert f.dtype == np.float32
        np.testing.assert_allclose(f, w, 1e-6)


def test_values_have_no_truth_and_compare_by_element() -> None:
    x, y = values(np.zeros(2), np.zeros(2))
    with pytest.raises(DTypeError, match="no truth value"):
        bool(x == y)
    assert len({x, y, x}) == 2
    assert (x == None) is False  # noqa: E711  (the operator is what is tested)
    with pytest.raises(TypeError):
        x + "a"


# ---- kinks: as in PyTorch ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "operands", "wanted"),
    [
        ("abs", [0.0], [0.0]),
        ("relu", [0.0], [0.0]),
        ("maximum", [1.0, 1.0], [0.5, 0.5]),
        ("minimum", [1.0, 1.0], [0.5, 0.5]),
        ("sign", [3.0], [0.0]),
        ("floor", [3.0], [0.0]),
        ("hypot", [0.0, 0.0], [0.0, 0.0]),
        ("pow", [0.0, 0.0], [0.0, 0.0]),
        ("pow", [0.0, 2.0], [0.0, 0.0]),
        ("pow", [0.0, 1.0], [1.0, 0.0]),
        ("copysign", [0.0, 1.0], [0.0, 0.0]),
    ],
)
def test_gradients_at_kinks(name: str, operands: list[float], wanted: list[float]) -> None:
    assert [float(g) for g in slopes(name, *operands)] == wanted


def test_equal_maxima_share_the_gradient() -> None:
    (g,) = slopes("max", np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]), axis=1)
    np.testing.assert_array_equal(g, [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])


@pytest.mark.parametrize(
    ("x", "wanted"),
    [([2.0, 3.0, 4.0], [12, 8, 6]), ([0.0, 3.0, 4.0], [12, 0, 0]), ([0.0, 0.0, 4.0], [0, 0, 0])],
)
def test_products_with_zeros_have_exact_gradients(x: list[float], wanted: list[float]) -> None:
    (g,) = slopes("prod", np.array(x))
    np.testing.assert_allclose(g, wanted)


def test_limits_keep_the_gradient() -> None:
    g = slopes("clip", np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), -1.0, 1.0)
    np.testing.assert_array_equal(g[0], [0, 1, 1, 1, 0])
    assert float(g[1]) == 1 and float(g[2]) == 1


def test_logsumexp_of_nothing_but_minus_infinity() -> None:
    x = np.full(3, -np.inf)
    inputs = values(x)
    y = lookup("logsumexp")(*inputs)
    found, g = compute(inputs, (x,), y, *gradient([y], [ones_like(y)], inputs))
    assert found == -np.inf and not np.isnan(g).any()


# ---- the gradient transform ----------------------------------------------------------------------


def test_paths_add_up_and_missing_ones_are_none() -> None:
    a = np.array([1.0, 2.0])
    x, y = values(a, a)
    z = x * x + x
    gx, gy = gradient([z, z], [ones_like(z), None], [x, y])
    assert gy is None
    np.testing.assert_array_equal(compute([x, y], (a, a), gx)[0], 2 * a + 1)


def test_gradients_reach_values_inside_the_graph() -> None:
    a = np.array([1.0, 2.0])
    (x,) = values(a)
    h = x * 3.0
    gh, gx = gradient([h * h], [ones_like(h)], [h, x])
    found = compute([x], (a,), gh, gx)
    np.testing.assert_array_equal(found[0], 6 * a)
    np.testing.assert_array_equal(found[1], 18 * a)


def test_a_gradient_has_the_shape_of_its_output() -> None:
    (x,) = values(np.ones((2, 3)))
    row = lookup("reduce_sum")(x, axis=(0,), keepdims=True)
    with pytest.raises(GradientError, match=r"\(1, 3\) was given for an output float64\(2, 3\)"):
        gradient([x * x], [row], [x])


def test_detached_values_pass_nothing() -> None:
    x = values(np.array([1.0, 2.0]))[0]
    y = lookup("detach")(x) * x
    (g,) = gradient([y], [ones_like(y)], [x])
    np.testing.assert_array_equal(compute([x], (np.array([1.0, 2.0]),), g)[0], [1, 2])


# ---- messages ------------------------------------------------------------------------------------


def refused(error: type[RabbetError], text: str, name: str, *shapes: Any, **attrs: Any) -> None:
    """The op refuses operands of these shapes (float32) with this text."""
    inputs = values(*(np.zeros(s, np.float32) for s in shapes))
    with pytest.raises(error) as caught:
        lookup(name)(*inputs, **attrs)
    assert caught.value.said == text and "test_primitives.py" in str(caught.value)


def test_linear_says_what_to_do() -> None:
    refused(
        ShapeError,
        "linear: input (32, 28, 28) @ weight.T (784, 10): inner sizes 28 and 784 differ\n"
        "  hint: flatten the last two axes first, e.g. x.reshape((32, 784))",
        "linear",
        (32, 28, 28),
        (10, 784),
    )


def test_matmul_names_shapes_and_sizes() -> None:
    text = "matmul: (4, 5) @ (3, 4): inner sizes 5 and 3 differ"
    refused(ShapeError, text, "matmul", (4, 5), (3, 4))


def test_broadcasting_names_the_axis() -> None:
    text = "add: shapes (2, 3) and (4,) do not broadcast: sizes 3 and 4 meet in axis -1"
    refused(ShapeError, text, "add", (2, 3), (4,))


def test_reductions_of_nothing_are_refused() -> None:
    refused(ShapeError, "max: (0, 3) has no elements along axes (0,)", "max", (0, 3), axis=0)


def test_reshape_counts() -> None:
    text = "reshape: (2, 3) to (4, 2): 6 elements are not 8"
    refused(ShapeError, text, "reshape", (2, 3), shape=(4, 2))


def test_linear_refuses_mixed_dtypes() -> None:
    x, w = values(np.zeros((2, 3)), np.zeros((4, 3), np.float32))
    with pytest.raises(DTypeError, match=r"cast one of them, e.g. input.astype\(rb.float32\)"):
        lookup("linear")(x, w)


def test_bits_of_floats_are_refused() -> None:
    (x,) = values(np.zeros(2))
    with pytest.raises(DTypeError, match="bitwise_and: float64 is not supported"):
        x & x


def test_einsum_explains_its_equation() -> None:
    x, y = values(np.zeros((2, 3)), np.zeros((4, 5)))
    einsum = lookup("einsum")
    with pytest.raises(ShapeError, match="sizes 3 and 4 of one axis differ"):
        einsum([x, y], "ij,jk->ik")
    with pytest.raises(ShapeError, match="has 1 operands, 2 were given"):
        einsum([x, y], "ij->i")
    with pytest.raises(ShapeError, match='"ijk" does not name 2 axes'):
        einsum([x], "ijk->i")


# ---- ranges and random numbers -------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [(5,), (2, 7), (0, 10, 3), (5, 0, -2), (3, 3), (5, 2), (0.0, 1.0, 0.25), (1, 2, 0.3)],
)
def test_arange_is_numpys(arguments: tuple[float, ...]) -> None:
    (home,) = values(np.zeros(()))
    found = compute([home], (np.zeros(()),), arange(home, *arguments))[0]
    np.testing.assert_allclose(found, np.arange(*arguments), 1e-6)
    assert found.dtype == (np.int64 if all(type(a) is int for a in arguments) else np.float32)


def drawn(name: str, *more: Any, offset: int = 3, **attrs: Any) -> np.ndarray:
    """One draw of a random op with key 7."""
    arrays = (np.uint64(7), np.uint64(offset), *more)
    inputs = values(*arrays)
    return compute(inputs, arrays, lookup(name)(*inputs, **attrs))[0]


def test_random_bits_are_philoxs() -> None:
    """The answer that Random123 publishes for a counter and a key of zeros."""
    arrays = (np.uint64(0), np.uint64(0))
    inputs = values(*arrays)
    words = compute(inputs, arrays, lookup("random_bits")(*inputs, shape=(4,)))[0]
    assert [hex(w) for w in words] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]


def test_offsets_move_along_one_stream() -> None:
    whole = drawn("random_bits", shape=(12,))
    np.testing.assert_array_equal(drawn("random_bits", offset=4, shape=(8,)), whole[4:])
    np.testing.assert_array_equal(drawn("random_bits", shape=(3, 4)).reshape(-1), whole)


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64])
def test_distributions(dtype: dtypes.DType) -> None:
    n = 20_000
    u = drawn("uniform", shape=(n,), dtype=dtype)
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    z = drawn("normal", shape=(n,), dtype=dtype)
    assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03
    assert abs((z**4).mean() - 3) < 0.3


def test_whole_numbers_fill_their_range() -> None:
    found = drawn("randint", np.int64(-2), np.int64(5), shape=(5000,))
    assert set(found.tolist()) == set(range(-2, 5))
    assert abs(found.mean() - 1) < 0.1


def test_dropout_keeps_the_mean_and_its_gradient_the_mask() -> None:
    x = np.full(20_000, 2.0)
    arrays = (x, np.float32(0.25), np.uint64(7), np.uint64(0))
    inputs = values(*arrays)
    y = lookup("dropout")(*inputs)
    (slope,) = gradient([y], [ones_like(y)], inputs[:1])
    found, g = compute(inputs, arrays, y, slope)
    assert set(np.unique(found)) == {0.0, 2 / 0.75}
    assert abs(found.mean() - 2) < 0.05
    np.testing.assert_array_equal(g, found / 2)


def test_special_functions_far_out() -> None:
    x = np.array([-0.5, -3.7, 1e-3, 25.0, 170.0])
    (v,) = values(x)
    found = compute([v], (x,), lookup("lgamma")(v), lookup("digamma")(v), lookup("trigamma")(v))
    np.testing.assert_allclose(found[0], [math.lgamma(a) for a in x], 1e-12)
    step = 1e-6 * np.maximum(np.abs(x), 1e-3)
    rise = [
        (math.lgamma(a + s) - math.lgamma(a - s)) / (2 * s) for a, s in zip(x, step, strict=True)
    ]
    np.testing.assert_allclose(found[1], rise, 1e-5)
    assert np.all(found[2] > 0)
