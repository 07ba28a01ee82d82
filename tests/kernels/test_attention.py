"""Attention kernels against the interpreter: tiles and their edges, masks, groups of heads."""

from __future__ import annotations

import numpy as np
import pytest

from rabbet.base.dtypes import DType, bool_, float32, float64
from rabbet.expr.expr import Expr, acc, const, load, select, size, var
from rabbet.kernel.loops import (
    ATTENTION_STEP,
    AttentionGradientKernel,
    AttentionKernel,
    Operand,
    Scores,
    Store,
)

# sizes: batch, heads, queries, keys, features, values, heads * queries * features, ...
BATCH, HEADS, QUERIES, KEYS, FEATURES, VALUES = (size(n) for n in range(6))
B, H, L, S, E, V = (var(n) for n in range(6))


def scores(dtype: DType, *, causal: bool = False, masked: DType | None = None) -> Scores:
    """Operands 0 and 1 are query and key, 3 is the mask (key after query)."""
    score: Expr = acc(0, dtype)
    if masked is not None:
        mask = load(3, masked, L * KEYS + S)
        score = select(mask, score, const(-np.inf, dtype)) if masked is bool_ else score + mask
    query = load(0, dtype, ((B * HEADS + H) * QUERIES + L) * FEATURES + E)
    return Scores(
        (BATCH,),
        *(HEADS, QUERIES, KEYS, FEATURES, VALUES),
        query * const(0.3, dtype),
        load(1, dtype, (B * KEYS + S) * FEATURES + E),
        score,
        causal,
    )


def forward(dtype: DType, *, causal: bool = False, masked: DType | None = None) -> AttentionKernel:
    """Operands: query, key, value, mask, result (queries before heads), logarithms."""
    operands = (*(Operand(dtype, "in"),) * 3, Operand(masked or dtype, "in"))
    out = ((B * QUERIES + L) * HEADS + H) * VALUES + V
    return AttentionKernel(
        (*operands, Operand(dtype, "out"), Operand(dtype, "out")),
        scores(dtype, causal=causal, masked=masked),
        load(2, dtype, (B * KEYS + S) * VALUES + V),
        (Store(4, out, acc(0, dtype)),),
        (Store(5, (B * HEADS + H) * QUERIES + L, acc(1, dtype)),),
    )


CASES = [
    (1, 1, 1, 1, 1, 1),
    (2, 1, 3, 5, 4, 2),
    (1, 2, 64, 64, 8, 8),
    (1, 1, 17, 70, 33, 20),
    (1, 1, 67, 131, 4, 33),
]


def operands(rng: np.random.Generator, dtype: DType, mask: DType, case: tuple[int, ...]) -> list:
    b, h, queries, keys, e, v = case

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(int(np.prod(shape))).astype(dtype.numpy)

    hidden = draw(queries, keys)
    if mask is bool_:
        hidden = hidden > 0
        hidden[:keys] = False  # nothing to attend to
    return [draw(b, h, queries, e) * 3, draw(b, keys, e), draw(b, keys, v), hidden]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("kind", ["plain", "causal", "added", "bool"])
def test_forward(runner, rng, dtype: DType, kind: str, case: tuple[int, ...]) -> None:
    masked = {"added": dtype, "bool": bool_}.get(kind)
    kernel = forward(dtype, causal=kind == "causal", masked=masked)
    given = operands(rng, dtype, masked or dtype, case)
    b, h, queries, keys, e, v = case
    results = [np.zeros(b * h * queries * v, dtype.numpy), np.zeros(b * h * queries, dtype.numpy)]
    runner.check(kernel, [*given, *results], case, at_end=dtype is float32, pieces=2)
    if kind == "plain":
        q, k, value = given[0].reshape(b, h, queries, e), *given[1:3]
        k, value = k.reshape(b, 1, keys, e), value.reshape(b, 1, keys, v)
        product = np.exp(0.3 * q.astype(np.float64) @ np.swapaxes(k, -1, -2))
        wanted = product / product.sum(-1, keepdims=True) @ value
        found = runner.run(kernel, [*given, *results], case)[0][4]
        found = np.swapaxes(found.reshape(b, queries, h, v), 1, 2)
        np.testing.assert_allclose(found, wanted, 1e-4 if dtype is float32 else 1e-12, 1e-6)


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
def test_causal_steps_leave_out_what_none_of_their_queries_sees(runner, rng, dtype: DType) -> None:
    case = (1, 1, 70, 70, 8, 8)
    kernel = forward(dtype, causal=True)
    given = operands(rng, dtype, dtype, case)
    given[2].reshape(70, 8)[ATTENTION_STEP:] = np.inf
    results = [np.zeros(70 * 8, dtype.numpy), np.zeros(70, dtype.numpy)]
    runner.check(kernel, [*given, *results], case)
    found = runner.run(kernel, [*given, *results], case)[0][4].reshape(70, 8)
    assert np.isfinite(found[:ATTENTION_STEP]).all()
    assert not np.isfinite(found[ATTENTION_STEP:]).any()


def backward(dtype: DType, *, causal: bool, masked: DType | None) -> AttentionGradientKernel:
    """Operands: query, key, value, mask, gradient, totals, drops, then the three gradients."""
    inputs = (*(Operand(dtype, "in"),) * 3, Operand(masked or dtype, "in"))
    operands = (*inputs, *(Operand(dtype, "in"),) * 3, *(Operand(dtype, "out"),) * 3)
    row = (B * HEADS + H) * QUERIES + L
    return AttentionGradientKernel(
        operands,
        scores(dtype, causal=causal, masked=masked),
        load(2, dtype, (B * KEYS + S) * VALUES + V),
        load(4, dtype, ((B * QUERIES + L) * HEADS + H) * VALUES + V),
        load(5, dtype, row),
        load(6, dtype, row),
        (Store(7, row * FEATURES + E, acc(0, dtype) * const(0.3, dtype)),),
        (Store(8, (B * KEYS + S) * FEATURES + E, acc(0, dtype)),),
        (Store(9, (B * KEYS + S) * VALUES + V, acc(0, dtype)),),
    )


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.name)
@pytest.mark.parametrize("kind", ["plain", "causal", "added", "bool"])
def test_backward(runner, rng, dtype: DType, kind: str, case: tuple[int, ...]) -> None:
    masked = {"added": dtype, "bool": bool_}.get(kind)
    given = operands(rng, dtype, masked or dtype, case)
    b, h, queries, keys, e, v = case
    zeros = [np.zeros(n, dtype.numpy) for n in (b * h * queries * v, b * h * queries)]
    made = forward(dtype, causal=kind == "causal", masked=masked)
    result, total = runner.run(made, [*given, *zeros], case)[0][4:]
    gradient = rng.standard_normal(result.size).astype(dtype.numpy)
    drop = (gradient * result).reshape(b, queries, h, v).sum(-1)
    drop = np.ascontiguousarray(np.swapaxes(drop, 1, 2)).reshape(-1)
    outs = [np.zeros(n, dtype.numpy) for n in (b * h * queries * e, b * keys * e, b * keys * v)]
    kernel = backward(dtype, causal=kind == "causal", masked=masked)
    given = [*given, gradient, total, drop, *outs]
    runner.check(kernel, given, case, at_end=dtype is float32)
