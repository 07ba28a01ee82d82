"""What the generated matrix does not cover of the network ops: errors, edge cases, identities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import signal

from rabbet import ops  # noqa: F401  (registers every op)
from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import DTypeError, IndexRangeError, RabbetError, ShapeError
from rabbet.base.sizes import SizeScope
from rabbet.base.spec import Spec
from rabbet.graph.interpret import run
from rabbet.graph.value import Builder, Graph, Value, lookup
from rabbet.transform.decompose import decompose
from rabbet.transform.gradient import gradient

RANDOM = np.random.default_rng(0)


def values(*arrays: np.ndarray) -> list[Value]:
    """One graph input for each array."""
    builder = Builder()
    return [builder.input(Spec(a.shape, dtype_of(a.dtype))) for a in arrays]


def compute(name: str, *arrays: np.ndarray | None, **attrs: Any) -> np.ndarray:
    """An op's first output by its decomposition; None leaves an operand out."""
    given = [a for a in arrays if a is not None]
    rest = iter(inputs := values(*given))
    out = lookup(name)(*(None if a is None else next(rest) for a in arrays), **attrs)
    graph, _ = decompose(Graph(inputs, [out[0] if isinstance(out, tuple) else out]))
    return run(graph, given)[0]


def gradients(name: str, *arrays: np.ndarray, wrt: int = 0, **attrs: Any) -> np.ndarray:
    """The gradient of the sum of an op's output, by decomposition."""
    inputs = values(*arrays)
    out = lookup(name)(*inputs, **attrs)
    one = lookup("ones_like")(out)
    found = gradient([out], [one], [inputs[wrt]])
    graph, _ = decompose(Graph(inputs, found))
    return run(graph, list(arrays))[0]


def refuse(error: type[Exception], text: str, name: str, *shapes: Any, **attrs: Any) -> None:
    """The op must raise `error` with `text` for operands of these shapes (float32, or Specs)."""
    builder = Builder()
    specs = [s if isinstance(s, Spec) else Spec(s, dtype_of("float32")) for s in shapes]
    with pytest.raises(error) as caught:
        lookup(name)(*(builder.input(s) for s in specs), **attrs)
    assert text in str(caught.value), caught.value


def of(shape: tuple[int, ...], dtype: str) -> Spec:
    """A Spec in one short word."""
    return Spec(shape, dtype_of(dtype))


# ---- convolution ---------------------------------------------------------------------------------


def test_conv2d_is_a_correlation() -> None:
    x, w = RANDOM.normal(size=(1, 1, 7, 6)), RANDOM.normal(size=(1, 1, 3, 2))
    wanted = signal.correlate2d(x[0, 0], w[0, 0], "valid")
    np.testing.assert_allclose(compute("conv2d", x, w)[0, 0], wanted, rtol=1e-12)


def test_transposed_convolution_is_the_adjoint() -> None:
    x, w = RANDOM.normal(size=(2, 3, 8, 7)), RANDOM.normal(size=(4, 3, 3, 2))
    options = {"stride": (2, 3), "padding": 1, "dilation": (2, 1)}
    y = compute("conv2d", x, w, **options)
    g = RANDOM.normal(size=y.shape)
    back = compute("conv_transpose2d", g, w, output_padding=(1, 1), **options)
    assert back.shape == x.shape
    np.testing.assert_allclose((y * g).sum(), (x * back).sum(), rtol=1e-12)


def test_same_padding_pads_the_odd_one_behind() -> None:
    x, w = np.arange(4.0).reshape(1, 1, 4), np.array([[[1.0, 10.0]]])
    found = compute("conv1d", x, w, padding="same")
    np.testing.assert_array_equal(found[0, 0], [10, 21, 32, 3])


def test_convolution_with_an_unknown_batch() -> None:
    scope, builder = SizeScope(), Builder()
    batch = scope.symbol("batch", 4)
    x = builder.input(Spec((batch, 2, 8, 8), dtype_of("float32")))
    w = builder.input(of((3, 2, 3, 3), "float32"))
    y = lookup("max_pool2d")(lookup("conv2d")(x, w, padding=1), 2)
    assert y.shape[0] is batch or y.shape[0] == batch
    assert y.shape[1:] == (3, 4, 4)
    found = gradient([y], [lookup("ones_like")(y)], [x, w])
    assert [v.shape[1:] for v in found] == [(2, 8, 8), (2, 3, 3)]
    graph, _ = decompose(Graph([x, w], found))
    inputs = [RANDOM.normal(size=s).astype(np.float32) for s in ((5, 2, 8, 8), (3, 2, 3, 3))]
    assert [a.shape for a in run(graph, inputs)] == [(5, 2, 8, 8), (3, 2, 3, 3)]
    # broadcasting asks whether the batch is 1; nothing else may be asked of it
    assert {(g.relation, str(g.expr)) for g in scope.guards.values()} <= {("!=", "batch + -1")}


def test_convolution_errors() -> None:
    refuse(ShapeError, "has 3 channels", "conv2d", (1, 3, 8, 8), (4, 2, 3, 3))
    refuse(ShapeError, "does not fit", "conv2d", (1, 3, 2, 8), (4, 3, 3, 3))
    refuse(ShapeError, "needs 4 axes", "conv2d", (1, 3, 8, 8), (4, 3, 3))
    refuse(ShapeError, "must be (N, C, L)", "conv1d", (3,), (4, 3, 3))
    refuse(ShapeError, "bias has shape (3,)", "conv1d", (1, 2, 8), (4, 2, 3), (3,))
    refuse(ShapeError, "groups 3", "conv1d", (1, 2, 8), (4, 2, 3), groups=3)
    refuse(ShapeError, "stride 1", "conv1d", (1, 2, 8), (4, 2, 3), padding="same", stride=2)
    refuse(ShapeError, "'full'", "conv1d", (1, 2, 8), (4, 2, 3), padding="full")
    refuse(ShapeError, "at least 1", "conv1d", (1, 2, 8), (4, 2, 3), stride=0)
    double = of((4, 2, 3), "float64")
    refuse(DTypeError, "input.astype(rb.float64)", "conv1d", (1, 2, 8), double)
    refuse(
        ShapeError,
        "smaller than the stride",
        "conv_transpose1d",
        (1, 4, 8),
        (4, 2, 3),
        output_padding=1,
    )


# ---- pooling -------------------------------------------------------------------------------------


def test_max_pool_gradient_goes_to_the_first_of_equals() -> None:
    x = np.array([[[1.0, 1.0, 1.0, 0.0]]])
    np.testing.assert_array_equal(gradients("max_pool1d", x, kernel_size=2)[0, 0], [1, 0, 1, 0])
    found = gradients("max_pool1d", x, kernel_size=2, stride=1)
    np.testing.assert_array_equal(found[0, 0], [1, 1, 1, 0])


def test_max_pool_lets_nan_win_and_leaves_a_remainder_out() -> None:
    x = np.array([[1.0, np.nan, 3.0, 2.0, 9.0]])
    np.testing.assert_array_equal(compute("max_pool1d", x, kernel_size=2), [[np.nan, 3.0]])
    np.testing.assert_array_equal(
        gradients("max_pool1d", x, kernel_size=2), [[0.0, 1.0, 1.0, 0.0, 0.0]]
    )


def test_max_pool_pads_with_less_than_anything() -> None:
    x = np.full((1, 1, 2, 2), -5.0)
    found = compute("max_pool2d", x, kernel_size=2, padding=1)
    np.testing.assert_array_equal(found, np.full((1, 1, 2, 2), -5.0))
    whole = np.full((1, 4), -7, np.int32)
    np.testing.assert_array_equal(
        compute("max_pool1d", whole, kernel_size=3, padding=1, stride=1), whole
    )


def test_pooling_errors() -> None:
    refuse(ShapeError, "more than half", "max_pool2d", (1, 1, 4, 4), kernel_size=2, padding=2)
    refuse(ShapeError, "does not fit", "max_pool2d", (1, 1, 4, 1), kernel_size=2)
    refuse(ShapeError, "needs 4 axes", "avg_pool2d", (4, 4), kernel_size=2)
    refuse(DTypeError, "floating", "avg_pool1d", of((1, 4), "int32"), kernel_size=2)
    refuse(ShapeError, "at least 1", "adaptive_avg_pool1d", (1, 4), output_size=0)


# ---- losses --------------------------------------------------------------------------------------


def test_cross_entropy_of_known_values() -> None:
    x = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    found = compute("cross_entropy", x, np.array([0, 2]))
    np.testing.assert_allclose(found, -(np.log(0.5) + np.log(0.1)) / 2, rtol=1e-12)


def test_cross_entropy_survives_impossible_classes() -> None:
    x = np.array([[0.0, -np.inf, 1.0]])
    assert np.isfinite(compute("cross_entropy", x, np.array([0])))
    assert np.isposinf(compute("cross_entropy", x, np.array([1])))
    assert np.isfinite(gradients("cross_entropy", x, np.array([0]))).all()


def test_cross_entropy_ignores_what_it_is_told_to() -> None:
    x, target = RANDOM.normal(size=(3, 4)), np.array([1, -100, 2])
    found = compute("cross_entropy", x, target)
    wanted = compute("cross_entropy", x[[0, 2]], target[[0, 2]])
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    slope = gradients("cross_entropy", x, target)
    assert (slope[1] == 0).all() and (slope[0] != 0).all()
    assert np.isnan(compute("cross_entropy", x, np.full(3, -100)))


@pytest.mark.parametrize("wrong", [4, -1, 2**40])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_a_target_that_is_no_class_is_an_error(name: str, wrong: int) -> None:
    with pytest.raises(IndexRangeError):
        compute(name, np.zeros((2, 4)), np.array([1, wrong]))


def test_loss_errors() -> None:
    whole = of((3, 1), "int64")
    refuse(ShapeError, "target.squeeze(1)", "cross_entropy", (3, 4), whole)
    refuse(ShapeError, "probabilities", "cross_entropy", (3, 4), of((3, 4), "int64"))
    refuse(DTypeError, "target.astype(rb.int64)", "cross_entropy", (3, 4), (3,))
    refuse(DTypeError, "astype", "cross_entropy", (3, 4), of((3, 4), "float64"))
    refuse(ShapeError, "weight", "cross_entropy", (3, 4), of((3,), "int64"), (3,))
    three = of((3,), "int64")
    refuse(RabbetError, "'avg'", "cross_entropy", (3, 4), three, reduction="avg")
    refuse(ShapeError, "[0, 1]", "cross_entropy", (3, 4), three, label_smoothing=2.0)
    refuse(ShapeError, "input.squeeze(-1)", "mse_loss", (3, 1), (3,))
    refuse(DTypeError, "input.astype(rb.float64)", "mse_loss", (3,), of((3,), "float64"))
    refuse(DTypeError, "floating", "l1_loss", of((3,), "int32"), of((3,), "int32"))
    refuse(ShapeError, "batchmean", "kl_div", (), (), reduction="batchmean")
    refuse(ShapeError, "must be positive", "huber_loss", (3,), (3,), delta=0.0)


def test_logits_far_out_stay_finite() -> None:
    x, t = np.array([1000.0, -1000.0, 1000.0]), np.array([1.0, 0.0, 0.0])
    name = "binary_cross_entropy_with_logits"
    np.testing.assert_array_equal(compute(name, x, t, reduction="none"), [0, 0, 1000])
    np.testing.assert_array_equal(gradients(name, x, t, reduction="none"), [0, 0, 1])


def test_sure_mistakes_cost_a_hundred() -> None:
    p, t = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    np.testing.assert_array_equal(
        compute("binary_cross_entropy", p, t, reduction="none"), [100, 100, 0]
    )
    assert np.isfinite(gradients("binary_cross_entropy", p, t)).all()


# ---- normalisation, attention, embedding ---------------------------------------------------------


def test_normalisation_errors() -> None:
    refuse(ShapeError, "does not end with", "layer_norm", (3, 4), normalized_shape=(5,))
    refuse(ShapeError, "does not divide", "group_norm", (3, 4, 5), num_groups=3)
    refuse(ShapeError, "bias has shape (3,)", "instance_norm", (3, 4, 5), (4,), (3,))
    refuse(ShapeError, "one value per channel", "batch_norm_train", (1, 4))
    refuse(ShapeError, "running_mean", "batch_norm_infer", (2, 4), (3,), (4,))
    refuse(DTypeError, "float64", "batch_norm_infer", (2, 4), of((4,), "float64"), (4,))
    refuse(DTypeError, "floating", "rms_norm", of((2, 4), "int32"), normalized_shape=4)


def test_far_off_rows_keep_their_variance() -> None:
    x = np.array([[1e4, 1e4 + 1, 1e4 + 2]], np.float32)
    found = compute("layer_norm", x, normalized_shape=3, eps=0.0)
    np.testing.assert_allclose(found, [[-(1.5**0.5), 0, 1.5**0.5]], rtol=1e-5, atol=1e-6)


def test_attending_to_nothing_gives_zeros() -> None:
    q, k = RANDOM.normal(size=(2, 3, 4)), RANDOM.normal(size=(2, 5, 4))
    mask = np.ones((3, 5), bool)
    mask[1] = False
    arrays = (q, k, k.copy(), mask)
    found = compute("scaled_dot_product_attention", *arrays)
    assert (found[:, 1] == 0).all() and (found[:, 0] != 0).all()
    for wrt in range(3):
        assert np.isfinite(gradients("scaled_dot_product_attention", *arrays, wrt=wrt)).all()


def test_attention_errors() -> None:
    name = "scaled_dot_product_attention"
    refuse(ShapeError, "features", name, (2, 3, 4), (2, 3, 5), (2, 3, 5))
    refuse(ShapeError, "positions", name, (2, 3, 4), (2, 5, 4), (2, 6, 4))
    refuse(ShapeError, "exclude", name, (3, 4), (5, 4), (5, 4), (3, 5), is_causal=True)
    refuse(DTypeError, "attn_mask is int64", name, (3, 4), (5, 4), (5, 4), of((3, 5), "int64"))
    refuse(ShapeError, "do not divide", name, *[(s, 3, 4) for s in (4, 3, 3)], enable_gqa=True)


def test_the_padding_row_gets_no_gradient() -> None:
    table, at = RANDOM.normal(size=(4, 3)), np.array([[0, 2], [2, 3]])
    np.testing.assert_array_equal(compute("embedding", at, table), table[at])
    found = gradients("embedding", at, table, wrt=1, padding_idx=3)
    np.testing.assert_array_equal(found[:, 0], [1, 0, 2, 0])
    refuse(DTypeError, "integers", "embedding", (3,), (4, 3))
    refuse(ShapeError, "padding_idx", "embedding", of((3,), "int64"), (4, 3), padding_idx=4)


@pytest.mark.parametrize("name", ["silu", "gelu", "elu", "selu", "softplus", "mish", "logsigmoid"])
def test_activations_and_gradients_stay_finite_far_out(name: str) -> None:
    x = np.array([-1000.0, -90.0, 90.0, 1000.0], np.float32)
    assert np.isfinite(compute(name, x)).all()
    assert np.isfinite(gradients(name, x)).all()


@pytest.mark.parametrize(
    ("name", "value", "slopes"),
    [
        *[(name, -0.0, (0.0, 1.0)) for name in ("silu", "gelu", "mish", "hardswish")],
        ("softsign", -1.0, (0.0, 0.0)),
        ("logsigmoid", -np.inf, (1.0, 0.0)),
    ],
)
def test_activations_and_slopes_have_their_limits_at_the_infinities(
    name: str, value: float, slopes: tuple[float, float]
) -> None:
    x = np.array([-np.inf, np.inf])
    found = compute(name, x)[0]
    assert found == value and np.signbit(found)
    assert gradients(name, x).tolist() == list(slopes)


@pytest.mark.parametrize(
    ("name", "at", "wanted"),
    [
        ("leaky_relu", 0.0, 0.01),
        ("elu", 0.0, 1.0),
        ("hardtanh", 1.0, 0.0),
        ("relu6", 0.0, 0.0),
        ("hardsigmoid", 3.0, 0.0),
    ],
)
def test_slopes_at_kinks(name: str, at: float, wanted: float) -> None:
    assert gradients(name, np.array([at]))[0] == wanted
