"""Special functions where their formulas change: below 0, at poles, at the ends."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from scipy import special

import rabbet as rb
from rabbet.base.dtypes import float64
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, registry

POLES = np.array([0.0, -1.0, -7.0, -np.inf])
BELOW = np.array([-0.5, -0.001, -1.5, -7.3, -50.7, -1234.5625])
NEAR = np.array([-3.7107422690141334e-10, -7.000000001])  # poles
FAR = -4980737.5  # halfway between two


@pytest.mark.parametrize("s", [2.0, 3.0, 4.0, 5.0])
def test_zeta_below_0(s: float) -> None:
    found = rb.zeta(rb.asarray(np.full_like(BELOW, s)), rb.asarray(BELOW)).numpy()
    np.testing.assert_allclose(found, special.zeta(s, BELOW), rtol=1e-12)


def test_zeta_at_its_limits() -> None:
    q = np.concatenate([POLES, [np.inf, np.nan, -0.5]])
    found = rb.zeta(rb.asarray(np.full_like(q, 3.0)), rb.asarray(q)).numpy()
    np.testing.assert_array_equal(found[:6], [np.inf] * 4 + [0.0, np.nan])
    assert np.isnan(rb.zeta(rb.asarray([2.5]), rb.asarray([-0.5])).numpy())  # the power of -0.5


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_polygamma_below_0(n: int) -> None:
    x = np.concatenate([BELOW, NEAR, [FAR]])
    found = rb.polygamma(n, rb.asarray(x)).numpy()
    with mp.workdps(60):
        wanted = [float(mp.polygamma(n, mp.mpf(v))) for v in x[:-1].tolist()]
        # Where mpmath takes half a minute: by reflection; the cotangent's derivatives are known.
        turned = {1: mp.pi**2, 2: 0, 3: 2 * mp.pi**4, 4: 0}[n]
        wanted.append(float(turned + (-1) ** n * mp.polygamma(n, 1 - mp.mpf(FAR))))
    np.testing.assert_allclose(found, wanted, rtol=1e-11)
    at_poles = rb.polygamma(n, rb.asarray(POLES)).numpy()
    np.testing.assert_array_equal(at_poles, np.full(4, np.inf if n % 2 else -np.inf))


def test_tanhshrink_cancels_nowhere() -> None:
    x = np.array([1e-12, 1e-6, 0.001, 0.3, 1.0, 1.99, 2.0, 5.0])
    with mp.workdps(60):
        wanted = [float(mp.mpf(v) - mp.tanh(mp.mpf(v))) for v in x.tolist()]
    found = rb.nn.functional.tanhshrink(rb.asarray(np.concatenate([x, -x]))).numpy()
    np.testing.assert_allclose(found, wanted + [-w for w in wanted], rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "at", "wanted"),
    [("entr", 0.0, np.inf), ("entr", np.inf, -np.inf), ("sinc", 0.0, 0.0), ("erfinv", 1.0, np.inf)],
)
def test_slopes_at_the_ends(name: str, at: float, wanted: float) -> None:
    slope = rb.grad(lambda x: getattr(rb, name)(x).sum())(rb.asarray([at])).numpy()
    assert slope == wanted


def test_entr_keeps_its_dtype() -> None:
    assert rb.entr(rb.asarray([0.5, 0.0], dtype=rb.float16)).dtype is rb.float16


def test_zeta_is_small_to_compile() -> None:
    """A power for each of its three sums; one for each term took LLVM ten seconds."""
    op = registry["zeta"]
    builder = Builder()
    inputs = [builder.input(Spec(s, float64)) for s in ((3, 4), (4,))]
    waiting, seen = [v.call for v in op.expand(builder, inputs, {}, ())], set()
    while waiting:
        call = waiting.pop()
        if call not in seen:
            seen.add(call)
            waiting += [v.call for v in call.inputs]
    assert sum(call.op.name == "pow" for call in seen) == 3
