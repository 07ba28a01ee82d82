"""rb.autograd.gradcheck, gradgradcheck and rb.autograd.functional."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rabbet as rb
import rabbet.autograd.functional as F

check, check_twice = rb.autograd.gradcheck, rb.autograd.gradgradcheck


def leaf(x: Any) -> Any:
    return rb.tensor(np.asarray(x), requires_grad=True)


def test_right_gradients_pass(rng: np.random.Generator) -> None:
    a, b = leaf(rng.standard_normal((2, 3))), leaf(rng.standard_normal((3, 2)))
    assert check(lambda x, y: x @ y, (a, b))
    assert check(lambda x, y, k: (x.exp() * k, y.sum(), x > 0), (a, b, 3.0))
    assert check(rb.linalg.inv, leaf(rng.standard_normal((3, 3)) + 3 * np.eye(3)))
    assert check_twice(lambda x, y: (x @ y).tanh(), (a, b))
    assert check(lambda x: x * 2, leaf(np.zeros((0, 2))))
    assert check(lambda x, y: x, (a, b))  # b is not used
    given = rb.ones((2, 2), dtype=rb.float64)
    assert check_twice(lambda x, y: x @ y, (a, b), given)


def test_complex_numbers_count_twice(rng: np.random.Generator) -> None:
    z = leaf(rng.standard_normal(3) + 1j * rng.standard_normal(3))
    assert check(lambda x: x * x.conj() + x.sin(), z)
    assert check(rb.abs, z)
    assert check(lambda x: rb.complex(x, x * 2).exp(), leaf(rng.standard_normal(2)))
    assert check_twice(lambda x: x * x, z)


def _wrong(scale: float) -> Any:
    class Wrong(rb.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * scale

    return Wrong.apply


def test_wrong_gradients_are_named() -> None:
    x = leaf([1.0, 1.5])
    text = r"element 1 of output 0 by element 1 of input 0 has the gradient 2; by differences .* 3"
    with pytest.raises(rb.GradientError, match=text):
        check(_wrong(2.0), x)
    assert not check(_wrong(2.0), x, raise_exception=False)
    assert not check(_wrong(float("nan")), x, raise_exception=False)
    with pytest.raises(rb.GradientError, match="real and imaginary parts are counted"):
        check(_wrong(2.0), leaf([1 + 1j]))
    with pytest.raises(rb.GradientError, match="no input requires gradients"):
        check(rb.exp, rb.ones(2))
    with pytest.raises(rb.GradientError, match="gradgradcheck: no input requires gradients"):
        check_twice(rb.exp, rb.ones(2))


def test_functional(rng: np.random.Generator) -> None:
    x, y = rb.asarray(rng.standard_normal(3)), rb.asarray(rng.standard_normal(2))

    def total(a: Any, b: Any) -> Any:
        return (a**3).sum() * (b * b).sum()

    for strategy in ("reverse-mode", "forward-mode"):
        rows = F.jacobian(lambda a, b: (rb.outer(a, b), a), (x, y), strategy=strategy)
        assert [[j.shape for j in row] for row in rows] == [
            [(3, 2, 3), (3, 2, 2)],
            [(3, 3), (3, 2)],
        ]
        np.testing.assert_allclose(rows[0][1].numpy()[1], x[1].item() * np.eye(2))
    assert F.jacobian(rb.sin, (x,))[0].shape == (3, 3)
    whole = F.hessian(total, (x, y))
    np.testing.assert_allclose(whole[0][0].numpy(), np.diag(6 * x.numpy() * (y.numpy() ** 2).sum()))
    mixed = 6 * np.outer(x.numpy() ** 2, y.numpy())
    np.testing.assert_allclose(whole[0][1].numpy(), mixed)
    v = (rb.asarray(rng.standard_normal(3)), rb.asarray(rng.standard_normal(2)))
    wanted = [sum((h @ u).numpy() for h, u in zip(row, v, strict=True)) for row in whole]
    for product in (F.hvp, F.vhp):
        value, found = product(total, (x, y), v)
        assert value.item() == pytest.approx(total(x, y).item())
        for f, w in zip(found, wanted, strict=True):
            np.testing.assert_allclose(f.numpy(), w, rtol=1e-9)
    out, moved = F.jvp(rb.outer, (x, y), v)
    np.testing.assert_allclose(moved.numpy(), (rb.outer(v[0], y) + rb.outer(x, v[1])).numpy())
    _, (first, _) = F.vjp(rb.outer, (x, y), out)
    np.testing.assert_allclose(first.numpy(), (out @ y).numpy())
    assert F.vjp(lambda a: a.sum(), x)[1].tolist() == [1, 1, 1]
    assert F.hvp(lambda a: (a**2).sum(), (rb.tensor(2.0),))[1][0].item() == 2


def test_functional_keeps_gradients_only_where_asked() -> None:
    x = leaf([1.0, 2.0])
    assert not F.jacobian(lambda t: t**3, x).requires_grad
    kept = F.jacobian(lambda t: t**3, x, create_graph=True)
    kept.sum().backward()
    assert x.grad.tolist() == [6, 12]
    with rb.no_grad():
        assert F.hessian(lambda t: (t**3).sum(), x).tolist() == [[6, 0], [0, 12]]
    with pytest.raises(rb.GradientError, match="v may be left out for a single number only"):
        F.vjp(lambda t: t * 2, x)
    with pytest.raises(rb.GradientError, match="strategy='sideways' must be"):
        F.jacobian(rb.sin, x, strategy="sideways")
